//! What `hold` makes of a session on a real server: one that falls silent loses its window.

use crate::stage::server;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;
use tourbillon::postgres::server::Server;
use tourbillon::postgres::session::{Outcome, Reply, Session};
use tourbillon_engine::guard::Guards;
use tourbillon_engine::sql::install;

/// An engine with a window that is claimed.
struct Site {
    server: Server,
    schema: String,
    control: Session,
}

impl Site {
    fn new() -> Option<Site> {
        let mut server = server()?;
        let schema = server.create_schema().expect("the server stays");
        server.install(&install::install(&schema, Guards::ALL)).expect("the engine can be installed");
        let control = server.open().expect("the server stays");
        let site = Site { server, schema, control };
        let create = "select tourbillon.create_queue('q', 'plain')";
        let subscribe = "select tourbillon.subscribe('q', 'c')";
        for sql in [create, subscribe, "select tourbillon.append('q', 'x')", "select tourbillon.tick('q')"] {
            site.done(&site.control, sql);
        }
        for _worker in ["the first", "the second"] {
            site.done(&site.control, "select tourbillon.register('c')");
        }
        site.done(&site.control, "select tourbillon.claim(1, '1h')");
        Some(site)
    }

    fn execute(&self, session: &Session, sql: &str) -> Outcome {
        let sql = sql.replace("tourbillon.", &format!("{}.", self.schema));
        self.server.execute(session, &sql, &[]).expect("the server stays")
    }

    fn done(&self, session: &Session, sql: &str) -> Reply {
        self.execute(session, sql).done().expect("nothing stands in its way")
    }

    /// In a transaction that stays open.
    fn hold(&self) -> Session {
        let session = self.server.open().expect("the server stays");
        self.done(&session, "begin");
        self.done(&session, "select tourbillon.hold(1, token) from tourbillon.worker where worker_id = 1");
        session
    }

    fn idle_timeout(&self, session: &Session) -> String {
        self.done(session, "select current_setting('idle_in_transaction_session_timeout')").rows[0].get(0)
    }

    /// Whom the second worker takes the window over from.
    fn victim(&self) -> Option<i64> {
        self.done(&self.control, "select (tourbillon.take_over(2, '0')).victim").rows[0].get(0)
    }
}

#[test]
fn a_held_window_limits_silence_to_a_minute_for_as_long_as_the_transaction_lasts() {
    let Some(site) = Site::new() else { return };
    let before = site.idle_timeout(&site.control);
    let holder = site.hold();
    assert_eq!(site.idle_timeout(&holder), "1min");
    site.done(&holder, "rollback");
    assert_eq!(site.idle_timeout(&holder), before);
    assert_ne!(before, "1min");

    let holder = site.hold();
    assert_eq!(site.victim(), None, "whoever holds a window is alive");
    site.done(&holder, "rollback");
    assert_eq!(site.victim(), Some(1));
}

#[test]
fn a_session_that_falls_silent_loses_the_window_that_it_holds() {
    let Some(site) = Site::new() else { return };
    let connect = async {
        let (client, connection) = site.server.config().connect(NoTls).await.expect("the server stays");
        (client, tokio::spawn(connection))
    };
    let (client, connection) = site.server.block_on(connect);
    let silent = format!(
        "begin;
         select {0}.hold(1, token) from {0}.worker where worker_id = 1;
         set local idle_in_transaction_session_timeout = '50ms'",
        site.schema
    );
    site.server.block_on(client.batch_execute(&silent)).expect("nothing stands in its way");
    let end = site.server.block_on(connection).expect("nobody stops it").expect_err("the server ends it");
    assert_eq!(end.code(), Some(&SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT), "{end}");

    // It says so before it lets go: this waits for as long as the row is locked.
    site.done(&site.control, "select from tourbillon.worker where worker_id = 1 for update");
    assert_eq!(site.victim(), Some(1));
}
