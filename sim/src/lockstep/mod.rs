//! The lockstep target: every call goes to the model and, on the same session's own connection, to a real server.
//!
//! One statement at a time, in the schedule's order. What the model answers the server must answer, up to a renaming
//! of ids; what the model blocks the server must block, by its own word. Where PostgreSQL leaves a choice open, it is
//! imposed on a server of our own; elsewhere the model follows ([`follow`]). A difference is a [`Divergence`]: either the
//! model or the SQL is wrong.
//!
//! Time: the server's clock functions are replaced by readers of a sequence that this target sets, back as well as forward
//! when a fault sets the server's clock. A lock timeout or a deadlock that the model finds is brought about on the server
//! when the model says so: by cancelling the wait (which PostgreSQL ends as it ends a timed-out one), or, for a cycle that
//! the call itself closes, by the server's own deadlock detection.

mod compare;
mod connection;
mod follow;
mod order;
mod renaming;
mod unflushed;
pub(crate) mod wire;

use crate::postgres::Error;
use crate::postgres::control::Expect;
use crate::postgres::server::Server;
use crate::target::{Chooser, Target};
use compare::same_state;
use connection::Connection;
use follow::{Follower, Told};
use order::Order;
use renaming::{Mismatch, Renaming, Shown};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use tourbillon_engine::engine::{Engine, Environment};
use tourbillon_engine::guard::{Guard, Guards};
use tourbillon_engine::sql::ending::Transaction;
use tourbillon_engine::sql::ids::Ids;
use tourbillon_engine::sql::install;
use tourbillon_engine::sql::mapping::Mapping;
use tourbillon_engine::sql::state::KINDS;
use tourbillon_engine::store::executor::Progress;
use tourbillon_engine::store::locks::Slot;
use tourbillon_engine::store::unflushed::Durability;
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{Micros, Xid};
use tourbillon_models::op::Op;
use tourbillon_models::state::State;
use unflushed::Unflushed;

/// A place where the model and the server disagree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Divergence {
    /// How many statements had been replayed.
    pub statement: u64,
    /// The operation, as far as one is to blame.
    pub op: String,
    /// One sentence with both sides.
    pub difference: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "statement {}, {}: {}", self.statement, self.op, self.difference)
    }
}

/// What stops a replay.
#[derive(Debug)]
pub enum Stop {
    Divergence(Divergence),
    /// Calls ran into each other on a server that cannot be held back, so that nobody knows what they should have come to.
    NotComparable(Divergence),
    Server(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Server(error)
    }
}

/// The guards of each side: the same, unless a difference between the two is to be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sides {
    pub model: Guards,
    pub sql: Guards,
}

impl From<Guards> for Sides {
    fn from(guards: Guards) -> Self {
        Sides { model: guards, sql: guards }
    }
}

/// What a replay did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    pub statements: u64,
    pub blocked: u64,
    pub crashes: u64,
    /// Acknowledged commits that crashes lost, on both sides.
    pub lost_commits: u64,
    pub choices: u64,
    /// Replays, of several, that could not be compared to their end.
    pub not_comparable: u64,
}

impl Counts {
    pub fn add(&mut self, other: Counts) {
        self.statements += other.statements;
        self.blocked += other.blocked;
        self.crashes += other.crashes;
        self.lost_commits += other.lost_commits;
        self.choices += other.choices;
        self.not_comparable += other.not_comparable;
    }
}

/// What a session of a replay on our own server sets. Sessions are short, and a plan made five times before it is kept, as
/// by default, costs a tenth of all; a worker that lives for longer comes to the same plans.
const FOR_REPLAY: &str =
    "select set_config('deadlock_timeout', '1ms', false), set_config('plan_cache_mode', 'force_generic_plan', false)";

/// The model and the server, side by side.
pub struct Lockstep<'a> {
    engine: Engine,
    server: &'a mut Server,
    schema: String,
    mapping: Mapping,
    ids: Ids,
    renaming: Renaming,
    connections: BTreeMap<Slot, Connection>,
    order: Order,
    clock: Option<Micros>,
    /// Something goes by when a transaction began.
    tells_begin: bool,
    /// None where commits are synchronous.
    unflushed: Option<Unflushed>,
    counts: Counts,
}

impl<'a> Lockstep<'a> {
    /// Installs the engine, with its guards as told, in a schema of its own. The chooser is asked on our own server only.
    pub fn new(
        server: &'a mut Server,
        guards: Sides,
        steps: &[&str],
        names: &[&str],
        durability: Durability,
        chooser: Chooser,
    ) -> Result<Self, Error> {
        let schema = server.create_schema()?;
        let major = server.version_number() as u32 / 10_000;
        // The tests have looked at every function's body, and each call looks at its own.
        server.install("set check_function_bodies = off")?;
        server.install(&install::install(&schema, guards.sql))?;
        server.install(&install::replay(&schema, major))?;
        server.install(&install::workload(&schema))?;
        server.install("reset check_function_bodies")?;
        let wal_level = server.wal_level();
        let mut engine = Engine::new(guards.model);
        engine.set_wal_level(wal_level);
        engine.set_durability(durability);
        // Where nobody can crash the server, how it commits shows nowhere.
        let unflushed = (durability == Durability::Asynchronous && server.can_crash()).then(Unflushed::default);
        if unflushed.is_some() {
            server.hold_log()?;
        }
        let order = match server.can_crash() {
            true => Order::Imposed(Box::new(chooser)),
            false => Order::Followed(Follower::new(guards.model, wal_level)),
        };
        Ok(Lockstep {
            order,
            engine,
            server,
            mapping: Mapping::new(&schema, guards.sql, steps, names),
            schema,
            ids: Ids::new(),
            renaming: Renaming::new(),
            connections: BTreeMap::new(),
            clock: None,
            tells_begin: !guards.sql.on(Guard::WallClockHeartbeat),
            unflushed,
            counts: Counts::default(),
        })
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Hangs up and drops the schema.
    pub fn close(mut self) -> Result<Counts, Error> {
        for (_, connection) in std::mem::take(&mut self.connections) {
            self.end_session(connection)?;
        }
        if self.unflushed.is_some() {
            self.server.release_log()?;
        }
        self.server.drop_schema(&self.schema)?;
        Ok(self.counts)
    }

    fn diverged(&self, op: &str, difference: String) -> Stop {
        let divergence = Divergence { statement: self.counts.statements, op: op.to_owned(), difference };
        match &self.order {
            Order::Followed(follower) if follower.ran_at_once() => Stop::NotComparable(divergence),
            _ => Stop::Divergence(divergence),
        }
    }

    fn set_clock(&mut self, now: Micros) -> Result<(), Error> {
        if self.clock != Some(now) {
            let set = format!("select setval('{}.virtual_clock', $1)", self.schema);
            // A sequence starts at 1.
            let micros = now.0.max(1) as i64;
            self.server.execute(self.server.control().session(), &set, &[&micros])?.done()?;
            self.clock = Some(now);
        }
        Ok(())
    }

    /// A session that is in no transaction may begin one with its next statement.
    fn tell_begin(&mut self, slot: Slot) -> Result<(), Error> {
        let connection = self.connections.get(&slot).expect("a session is connected before it calls");
        if self.tells_begin && connection.transaction == Transaction::None {
            let tell = format!("select set_config('{}.transaction_clock', $1, false)", self.schema);
            let micros = self.clock.unwrap_or_default().0.max(1).to_string();
            self.server.execute(&connection.session, &tell, &[&micros])?.done()?;
        }
        Ok(())
    }

    /// Ids that only lost transactions have shown may come again. The tick that a queue begins with is shown by whoever
    /// first names it.
    fn forget_lost(&mut self) {
        let Some(unflushed) = &mut self.unflushed else { return };
        let ticks = self.engine.state().ticks;
        for id in unflushed.take_shown() {
            let is_there = matches!(id, Shown::Tick(tick) if ticks.iter().any(|row| row.tick == tick));
            if !is_there {
                self.renaming.forget(id);
            }
        }
    }

    fn check_state(&mut self) -> Result<State, Stop> {
        let model = self.engine.state();
        let queries = self.mapping.state_queries();
        let mut rows: [Vec<Vec<_>>; KINDS] = Default::default();
        for (query, rows) in queries.iter().zip(&mut rows) {
            let reply = self.server.execute(self.server.control().session(), query, &[])?.done()?;
            *rows = reply.rows.iter().map(wire::values).collect();
        }
        let server = self.mapping.decode_state(&rows, &mut self.ids);
        let server = server.map_err(|error| self.diverged("state", error.to_string()))?;
        match same_state(&self.renaming, &model, server) {
            Ok(()) => Ok(model),
            Err(Mismatch(difference)) => Err(self.diverged("state", difference)),
        }
    }
}

impl Target for Lockstep<'_> {
    type Stop = Stop;

    fn connect(&mut self) -> Result<Slot, Stop> {
        let slot = self.engine.connect().expect("a plan has fewer processes than the store has sessions");
        self.told(|| Told::Connect);
        let session = self.server.open()?;
        if matches!(self.order, Order::Imposed(_)) {
            self.server.execute(&session, FOR_REPLAY, &[])?.done()?;
        }
        if self.unflushed.is_some() {
            self.server.execute(&session, "set synchronous_commit = off", &[])?.done()?;
        }
        let transaction = Transaction::default();
        self.connections.insert(
            slot,
            Connection {
                session,
                transaction,
                op: None,
                asked: Op::Commit,
                ready: None,
                shown: Vec::new(),
                frozen: false,
            },
        );
        Ok(slot)
    }

    fn disconnect(&mut self, slot: Slot, now: Micros) -> Result<(), Stop> {
        self.set_clock(now)?;
        self.engine.disconnect(slot);
        self.told(|| Told::Disconnect(slot));
        let mut connection = self.connections.remove(&slot).expect("a session is connected before it goes");
        connection.shown.drain(..).for_each(|id| self.renaming.forget(id));
        self.end_session(connection)?;
        Ok(())
    }

    fn call(
        &mut self,
        slot: Slot,
        op: &PlainOp,
        environment: Environment,
        reply: &mut PlainReply,
    ) -> Result<Progress, Stop> {
        self.set_clock(environment.now)?;
        let progress = self.engine.call(slot, op, environment, reply);
        self.told(|| Told::Call(slot, op.clone(), environment));
        if self.cannot_be_asked(op) {
            return Ok(progress);
        }
        self.tell_begin(slot)?;
        self.send(slot, op);
        match progress {
            Progress::Returned => self.check_return(slot, op, reply)?,
            Progress::Blocked => {
                self.counts.blocked += 1;
                if !self.settle(slot, Expect::Block)? {
                    return Err(self.diverged(&format!("{op:?}"), "the model blocks and the server answers".to_owned()));
                }
            }
        }
        Ok(progress)
    }

    fn pick(&mut self, released: &[Slot]) -> Result<usize, Stop> {
        self.counts.choices += 1;
        if let Order::Imposed(chooser) = &mut self.order {
            return Ok(chooser.pick(released.len()));
        }
        if self.planned(released).is_none() {
            self.explain()?;
        }
        Ok(self.planned(released).expect("an order that was found begins with one of the released"))
    }

    fn resume(&mut self, slot: Slot, now: Micros, reply: &mut PlainReply) -> Result<Progress, Stop> {
        self.set_clock(now)?;
        let op = self.connection(slot).asked.clone();
        self.thaw(slot)?;
        let progress = self.engine.resume(slot, now, reply);
        self.told(|| Told::Resume(slot, now));
        match progress {
            Progress::Returned => self.check_return(slot, &op, reply)?,
            // It let others into the row's queue, and goes on by itself.
            Progress::Blocked if self.engine.released().contains(&slot) => {}
            // On the server it may have been released again already.
            Progress::Blocked if self.ran_at_once() => {}
            Progress::Blocked => {
                if !self.settle(slot, Expect::Block)? {
                    let op = format!("{op:?}");
                    return Err(self.diverged(&op, "the model still blocks and the server answers".to_owned()));
                }
            }
        }
        self.stand_still()?;
        Ok(progress)
    }

    fn time_out(&mut self, slot: Slot, now: Micros) -> Result<(), Stop> {
        self.set_clock(now)?;
        self.engine.time_out(slot);
        self.told(|| Told::TimeOut(slot));
        // At once, and not when its turn comes: others queue behind it.
        self.cancel(slot)?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stop> {
        self.engine.flush();
        if let Some(unflushed) = &mut self.unflushed {
            unflushed.flushed();
            self.server.flush_log()?;
        }
        Ok(())
    }

    fn crash(&mut self) -> Result<Vec<Xid>, Stop> {
        self.counts.crashes += 1;
        let lost = self.engine.crash();
        self.counts.lost_commits += lost.len() as u64;
        for (_, connection) in std::mem::take(&mut self.connections) {
            connection.shown.into_iter().for_each(|id| self.renaming.forget(id));
        }
        self.forget_lost();
        self.server.crash()?;
        self.server.restart()?;
        if let Some(unflushed) = &mut self.unflushed {
            if let Some(difference) = unflushed.check(self.server)? {
                return Err(self.diverged("crash", difference));
            }
            self.server.hold_log()?;
        }
        if let Some(now) = self.clock.take() {
            self.set_clock(now)?;
        }
        self.check_state()?;
        Ok(lost)
    }

    fn state(&mut self) -> Result<State, Stop> {
        self.check_state()
    }

    fn engine(&self) -> &Engine {
        &self.engine
    }
}
