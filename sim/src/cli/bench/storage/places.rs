//! The two places: the simulator's store, and a server whose clock is virtual.

use super::week::Place;
use super::{Held, KINDS, Sample};
use crate::cli::bench::connected::{Connected, Site};
use crate::postgres::server::Server;
use anyhow::{Context, Result, bail};
use tourbillon_engine::engine::{Engine, Environment};
use tourbillon_engine::guard::Guards;
use tourbillon_engine::sql::install;
use tourbillon_engine::store::executor::Progress;
use tourbillon_engine::store::locks::Slot;
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::Micros;
use tourbillon_models::reply::Reply;

pub struct InStore {
    engine: Engine,
    session: Slot,
    now: Micros,
    calls: u64,
}

impl InStore {
    pub fn new() -> Result<InStore> {
        let mut engine = Engine::new(Guards::ALL);
        let session = engine.connect().context("a store has room for a session")?;
        Ok(InStore { engine, session, now: Micros(0), calls: 0 })
    }
}

impl Place for InStore {
    fn set_clock(&mut self, now: Micros) -> Result<()> {
        self.now = now;
        Ok(())
    }

    fn call(&mut self, op: &PlainOp) -> Result<PlainReply> {
        self.calls += 1;
        let mut reply = Reply::Done;
        match self.engine.call(self.session, op, Environment { now: self.now, random: self.calls }, &mut reply) {
            Progress::Returned => Ok(reply),
            Progress::Blocked => bail!("{op:?} waits"),
        }
    }

    fn vacuum(&mut self) -> Result<()> {
        Ok(())
    }

    fn sample(&mut self) -> Result<Sample> {
        let stored = self.engine.storage().into_iter();
        Ok(stored.map(|it| (it.table, Held { rows: it.row_count as u64, space: it.version_count as u64 })).collect())
    }
}

pub struct OnServer<'a> {
    session: Connected<'a>,
    schema: &'a str,
}

impl<'a> OnServer<'a> {
    /// The clock of the site becomes a virtual one.
    pub fn new(server: &Server, site: &'a Site) -> Result<OnServer<'a>> {
        let major = server.version_number() as u32 / 10_000;
        server.install(&install::replay(site.schema(), major))?;
        Ok(OnServer { session: Connected::open(site)?, schema: site.schema() })
    }
}

/// Rows, and bytes with indexes, of all tables of a kind.
const SIZES: &str = "select
      kind,
      sum((xpath('/row/count/text()', query_to_xml(format('select count(*) from %s', oid::regclass), false, true, '')))[1]
        ::text::int8)::int8,
      sum(pg_total_relation_size(oid))::int8
    from (
      select oid, case when relname ~ '_[0-9]$' then split_part(relname, '_', 1) else relname end as kind
      from pg_class
      where relnamespace = '{schema}'::regnamespace and relkind = 'r'
    ) t
    group by kind";

impl Place for OnServer<'_> {
    fn set_clock(&mut self, now: Micros) -> Result<()> {
        self.session.script(&format!("select setval('tourbillon.virtual_clock', {})", now.0))
    }

    fn call(&mut self, op: &PlainOp) -> Result<PlainReply> {
        self.session.call(op)
    }

    fn vacuum(&mut self) -> Result<()> {
        // Those of queues come and go whole.
        let is_small = |kind: &&str| !["event", "timer", "audit"].contains(kind);
        let small = KINDS.into_iter().filter(is_small);
        let tables = small.map(|table| format!("tourbillon.{table}")).collect::<Vec<_>>().join(", ");
        self.session.script(&format!("vacuum {tables}"))
    }

    fn sample(&mut self) -> Result<Sample> {
        let rows = self.session.rows(&SIZES.replace("{schema}", self.schema))?;
        let held = rows.iter().map(|row| {
            let kind: String = row.get(0);
            let kind = KINDS.into_iter().find(|known| *known == kind);
            let kind = kind.with_context(|| format!("{} is not a kind of table", row.get::<_, String>(0)))?;
            let figure = |index| row.get::<_, i64>(index) as u64;
            Ok((kind, Held { rows: figure(1), space: figure(2) }))
        });
        held.collect()
    }
}
