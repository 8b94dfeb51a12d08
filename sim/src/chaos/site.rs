//! The server of a run, as those see it who conduct it: a schema for each round, and a look at it from outside.

use super::clock::{self, Epoch, Reading, monotonic_ns};
use super::fate::End;
use super::journal::{Journal, Standing};
use super::mark;
use super::merge::Names;
use super::orders::Address;
use super::proxy::Upstream;
use crate::lockstep::wire;
use crate::postgres::Error;
use crate::postgres::interrupt;
use crate::postgres::server::{PLAIN_SESSION, Server};
use crate::postgres::session::{Outcome, Reply};
use crate::simulate::Work;
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio_postgres::config::Host;
use tokio_postgres::types::ToSql;
use tourbillon_engine::guard::Guards;
use tourbillon_engine::sql::ids::Ids;
use tourbillon_engine::sql::install;
use tourbillon_engine::sql::mapping::Mapping;
use tourbillon_engine::sql::state::KINDS;
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::{Micros, WorkflowId, Xid};
use tourbillon_models::op::Op;
use tourbillon_models::record::{ClockOffset, Happening};
use tourbillon_models::state::State;

/// Ids of transactions that a crash took are given again: those of the round begin no more than so many before its first.
const MARGIN: u32 = 1_000;
/// For backends to go whose clients are gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// One schema, with the engine in it.
pub struct Site<'s> {
    pub server: &'s mut Server,
    pub schema: String,
    mapping: Mapping,
    pub names: Names,
    /// The first look at its calendar.
    began: Reading,
}

/// How far the round's work is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    pub started: u64,
    pub live: u64,
    pub open_windows: u64,
}

impl Progress {
    /// Children live and are not counted as started: for a moment there may be more of them.
    pub const fn finished(self) -> u64 {
        self.started.saturating_sub(self.live)
    }
}

impl<'s> Site<'s> {
    pub fn open(server: &'s mut Server, work: &Work, guards: Guards, steps_clock: bool) -> Result<Site<'s>, Error> {
        let schema = server.create_schema()?;
        server.install("set check_function_bodies = off")?;
        server.install(&install::install(&schema, guards))?;
        server.install(&install::workload(&schema))?;
        server.install(&mark::table(&schema))?;
        if steps_clock {
            server.install(&clock::steppable(&schema))?;
        }
        let mapping = Mapping::new(&schema, guards, &work.steps(), &work.names());
        let xmin = "select pg_snapshot_xmin(pg_current_snapshot())::text::int8";
        let xmin: i64 = server.execute(server.control().session(), xmin, &[])?.done()?.rows[0].get(0);
        let first_xid = u32::try_from(xmin).expect("an older server is refused").saturating_sub(MARGIN);
        let began = look_at_calendar(server)?;
        let names = Names { epoch: Epoch::at(began.server_us), first_xid, ids: Ids::new() };
        Ok(Site { server, schema, mapping, names, began })
    }

    /// By how much somebody has set the server's calendar since the round began.
    pub fn calendar_set(&self) -> Result<Micros, Error> {
        Ok(look_at_calendar(self.server)?.set_since(self.began))
    }

    /// A call of the conductor's own.
    pub fn call(&mut self, op: &PlainOp, journal: &mut Journal) -> Result<()> {
        journal.record(1, Xid(0), Happening::Call(op.clone()), None);
        let statement = self.mapping.encode(op, &self.names.ids);
        let params: Vec<_> = statement.params.into_iter().map(wire::parameter).collect();
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|it| &**it as _).collect();
        let session = self.server.control().session();
        let rows = self.server.execute(session, &statement.text, &params)?.done()?.rows;
        let rows: Vec<_> = rows.iter().map(wire::values).collect();
        let (reply, xid) = self.mapping.decode(op, &rows, &mut self.names.ids)?;
        journal.record(1, xid.unwrap_or(Xid(0)), Happening::Return(reply), None);
        Ok(())
    }

    /// An error if the connection breaks without anybody having broken it.
    fn ask(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Reply, Error> {
        match self.server.execute(self.server.control().session(), sql, params)? {
            Outcome::Unknown(reason) => Err(Error::Lost(reason)),
            outcome => outcome.done(),
        }
    }

    pub fn progress(&self) -> Result<Progress, Error> {
        let schema = &self.schema;
        let sql = format!(
            "select (select count(*) from {schema}.start_key), (select count(*) from {schema}.workflow), \
             (select count(*) from {schema}.worker where token is not null)"
        );
        let row = &self.ask(&sql, &[])?.rows[0];
        let count = |index| row.get::<_, i64>(index).unsigned_abs();
        Ok(Progress { started: count(0), live: count(1), open_windows: count(2) })
    }

    pub fn step_clock(&self, offset: ClockOffset) -> Result<(), Error> {
        self.ask(&clock::step(&self.schema, offset), &[]).map(|_| ())
    }

    /// Tells the backends of connections with this label to end; how many there were.
    pub fn end_sessions(&self, label: &str) -> Result<usize, Error> {
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity where starts_with(application_name, $1)";
        Ok(self.ask(sql, &[&format!("{label}-")])?.rows.len())
    }

    /// The same, until there are none.
    pub fn terminate(&self, label: &str) -> Result<()> {
        let begin = Instant::now();
        while self.end_sessions(label)? > 0 {
            if begin.elapsed() > PATIENCE {
                bail!("a backend of {label} does not end");
            }
            interrupt::check()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// What became of the last call of a process that is gone.
    pub fn end_of(
        &mut self,
        label: &str,
        standing: &Standing,
        op: Option<&PlainOp>,
        journal: &mut Journal,
    ) -> Result<End> {
        self.terminate(label)?;
        let found = match standing.mark() {
            Some(mark) => self.ask(&mark::find(&self.schema), &[&mark.cast_signed()])?.rows,
            None => Vec::new(),
        };
        let reply = found.first().map(|row| row.get::<_, &str>(0));
        // Between two calls nothing can have been lost but an open transaction.
        let op = op.unwrap_or(&Op::Rollback);
        let known = self.names.ids.workflow_count();
        let end = End::of(op, standing, reply, &self.mapping, &mut self.names.ids)?;
        for number in known + 1..=self.names.ids.workflow_count() {
            let uuid = self.names.ids.workflow_uuid(WorkflowId(number)).expect("it has just been named");
            journal.workflow(number, uuid);
        }
        Ok(end)
    }

    /// All rows, when nobody else is connected.
    pub fn state(&mut self) -> Result<State> {
        let mut rows: [Vec<Vec<_>>; KINDS] = Default::default();
        for (query, rows) in self.mapping.state_queries().iter().zip(&mut rows) {
            *rows = self.ask(query, &[])?.rows.iter().map(wire::values).collect();
        }
        let mut state = self.mapping.decode_state(&rows, &mut self.names.ids)?;
        self.names.rename_state(&mut state);
        Ok(state)
    }

    pub fn close(&mut self) -> Result<(), Error> {
        self.server.drop_schema(&self.schema)
    }
}

fn look_at_calendar(server: &Server) -> Result<Reading, Error> {
    let now = "select (extract(epoch from clock_timestamp()) * 1000000)::int8";
    let from_ns = monotonic_ns();
    let server_us: i64 = server.execute(server.control().session(), now, &[])?.done()?.rows[0].get(0);
    Ok(Reading { from_ns, to_ns: monotonic_ns(), server_us: server_us.unsigned_abs() })
}

/// How a round's processes come to the server.
pub struct Doors {
    pub upstream: Upstream,
    /// For proxies: where a server of our own has its socket. Nothing is put where another has his.
    pub sockets: Option<PathBuf>,
    /// That of proxies, but for the port.
    pub address: Address,
}

pub fn doors(server: &Server) -> Result<Doors> {
    let config = server.config();
    let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
    if hosts.len().max(addresses.len()) > 1 {
        bail!("the server's address names several: chaos needs that of one");
    }
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let upstream = match (addresses.first(), hosts.first()) {
        (Some(address), _) => Upstream::Tcp(address.to_string(), port),
        (None, Some(Host::Unix(path))) => Upstream::Unix(path.clone(), port),
        (None, Some(Host::Tcp(name))) => Upstream::Tcp(name.clone(), port),
        (None, None) => bail!("the server's address names no host"),
    };
    let sockets = match &upstream {
        Upstream::Unix(path, _) if server.can_crash() => Some(path.clone()),
        _ => None,
    };
    let address = Address {
        host: sockets.as_ref().map_or("127.0.0.1".to_owned(), |path| path.display().to_string()),
        port,
        user: config.get_user().map(str::to_owned),
        password: config.get_password().map(<[u8]>::to_vec),
        database: config.get_dbname().map(str::to_owned),
        // What is told as committed is there after a crash.
        options: format!("{} {PLAIN_SESSION} -c synchronous_commit=on", config.get_options().unwrap_or_default()),
    };
    Ok(Doors { upstream, sockets, address })
}
