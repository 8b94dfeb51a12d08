//! Workflows that an application's own triggers start, in its own transactions, on a real server.

use crate::stage::server;
use tourbillon::postgres::server::Server;
use tourbillon::postgres::session::{Outcome, Session};
use tourbillon_engine::guard::Guards;
use tourbillon_engine::sql::install;

/// An engine, and an application's table: a paid order has a workflow of its own.
struct Shop {
    server: Server,
    schema: String,
    session: Session,
}

const SHOP: &str = "
    create table tourbillon.orders (order_id int primary key, is_paid boolean not null);

    create function tourbillon.ship_order()
    returns trigger
    language plpgsql
    as $$
    begin
      perform tourbillon.start('q', 'order-' || new.order_id, 'ship', new.order_id::text);
      return null;
    end;
    $$;

    create trigger ship_order
    after insert or update on tourbillon.orders
    for each row
    when (new.is_paid)
    execute function tourbillon.ship_order();";

/// Everything of the engine's that a start touches, and what an onlooker counts.
const TRACES: &str = "
    select
      (select count(*) from tourbillon.workflow),
      (select count(*) from tourbillon.start_key),
      (select count(*) from tourbillon.events()),
      (select ready from tourbillon.observe('q')),
      (select ready from tourbillon.counts)";

impl Shop {
    fn new() -> Option<Shop> {
        let mut server = server()?;
        let schema = server.create_schema().expect("the server stays");
        server.install(&install::install(&schema, Guards::ALL)).expect("the engine can be installed");
        server.install(&install::workload(&schema)).expect("so can what shows its tables");
        let session = server.open().expect("the server stays");
        let shop = Shop { server, schema, session };
        shop.server.install(&shop.in_schema(SHOP)).expect("an application has tables and triggers");
        shop.run("select tourbillon.create_queue('q', 'workflow')");
        shop.run("select tourbillon.subscribe('q', 'c')");
        Some(shop)
    }

    fn in_schema(&self, sql: &str) -> String {
        sql.replace("tourbillon.", &format!("{}.", self.schema))
    }

    fn execute(&self, sql: &str) -> Outcome {
        self.server.execute(&self.session, &self.in_schema(sql), &[]).expect("the server stays")
    }

    #[track_caller]
    fn run(&self, sql: &str) -> Vec<tokio_postgres::Row> {
        self.execute(sql).done().unwrap_or_else(|error| panic!("{sql}: {error:?}")).rows
    }

    /// How many workflows there are, wherever one looks.
    #[track_caller]
    fn workflows(&self) -> i64 {
        let row = &self.run(TRACES)[0];
        let counts: Vec<i64> = (0..row.len()).map(|column| row.get(column)).collect();
        assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
        counts[0]
    }

    /// The states of the next window's events; each is handed off as its workflow's end.
    fn work(&self) -> Vec<String> {
        self.run("select tourbillon.tick('q')");
        self.run("select tourbillon.claim(1, '1h')");
        let rows = self.run(
            "select e.state from tourbillon.worker w, lateral tourbillon.read(1, w.token, 0, 100) e
            where w.worker_id = 1 order by e.event_id",
        );
        self.run(
            "select tourbillon.handoff(
              1, w.token, array_agg(e.event_id), array_agg('complete'::text), array_agg(e.workflow_id),
              array_agg(e.sequence), array_agg(null::text), array_agg(1), array_agg(0), array_agg(0::bigint),
              array_agg(null::text))
            from tourbillon.worker w, lateral tourbillon.read(1, w.token, 0, 100) e
            where w.worker_id = 1
            group by w.token",
        );
        rows.iter().map(|row| row.get(0)).collect()
    }
}

#[test]
fn a_trigger_starts_a_workflow_for_each_row_and_each_row_once() {
    let Some(shop) = Shop::new() else { return };
    shop.run("insert into tourbillon.orders values (1, true), (2, false)");
    assert_eq!(shop.workflows(), 1);
    shop.run("insert into tourbillon.orders select i, false from generate_series(3, 22) i");
    assert_eq!(shop.workflows(), 1);
    shop.run("update tourbillon.orders set is_paid = true where order_id > 2");
    assert_eq!(shop.workflows(), 21, "a bulk update starts twenty");
    shop.run("update tourbillon.orders set is_paid = true");
    assert_eq!(shop.workflows(), 22, "who had one has no second");

    shop.run("select tourbillon.register('c')");
    let mut shipped: Vec<i32> = shop.work().iter().map(|state| state.parse().expect("an order")).collect();
    shipped.sort_unstable();
    assert_eq!(shipped, (1..=22).collect::<Vec<_>>());
    assert_eq!(shop.run("select from tourbillon.workflow").len(), 0);
    shop.run("update tourbillon.orders set is_paid = true");
    assert_eq!(shop.run("select from tourbillon.workflow").len(), 0, "nor when the first has ended");
}

#[test]
fn what_is_rolled_back_leaves_no_trace() {
    let Some(shop) = Shop::new() else { return };
    for isolation in ["read committed", "repeatable read"] {
        shop.run(&format!("begin isolation level {isolation}"));
        shop.run("insert into tourbillon.orders select i, true from generate_series(1, 20) i");
        shop.run("rollback");
        assert_eq!(shop.workflows(), 0);
    }
    // A part of a transaction, and a statement that fails after its triggers.
    shop.run("begin");
    shop.run("insert into tourbillon.orders values (1, true)");
    shop.run("savepoint s");
    shop.run("insert into tourbillon.orders values (2, true)");
    shop.run("rollback to s");
    shop.run("savepoint s");
    let refused = shop.execute("insert into tourbillon.orders values (3, true), (1, true)");
    assert!(refused.done().is_err(), "there is an order 1");
    shop.run("rollback to s");
    shop.run("commit");
    assert_eq!(shop.workflows(), 1);
    shop.run("select tourbillon.register('c')");
    assert_eq!(shop.work(), ["1"]);
}
