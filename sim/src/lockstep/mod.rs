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
mod follow;
mod renaming;
pub(crate) mod wire;

use crate::postgres::Error;
use crate::postgres::control::{Expect, Rest};
use crate::postgres::server::Server;
use crate::postgres::session::{Outcome, Session};
use crate::target::{Chooser, Target};
use compare::{Ready, Side, for_server, same_answer, same_state};
use follow::{Follower, Still, Told, Wait, same_waits};
use renaming::{Mismatch, Pairing, Renaming, Shown};
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};
use tourbillon_engine::engine::{Engine, Environment, Progress};
use tourbillon_engine::guard::{Guard, Guards};
use tourbillon_engine::sql::ending::{Transaction, refusal};
use tourbillon_engine::sql::ids::Ids;
use tourbillon_engine::sql::install;
use tourbillon_engine::sql::mapping::Mapping;
use tourbillon_engine::sql::state::KINDS;
use tourbillon_engine::store::locks::Slot;
use tourbillon_models::history::{PlainOp, PlainReply, State};
use tourbillon_models::name::{Micros, Xid};
use tourbillon_models::op::Op;
use tourbillon_models::reply::{Refusal, Reply};

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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub statements: u64,
    pub blocked: u64,
    pub crashes: u64,
    pub choices: u64,
    /// Replays, of several, that could not be compared to their end.
    pub not_comparable: u64,
}

/// One session's connection, and the call that it has under way.
struct Connection {
    session: Session,
    transaction: Transaction,
    op: Option<PlainOp>,
    /// The last call, with the model's ids.
    asked: PlainOp,
    /// The outcome, taken before the model has gone on.
    ready: Option<Ready>,
    /// What its transaction showed first.
    shown: Vec<Shown>,
    /// Its backend is stopped.
    frozen: bool,
}

/// Who decides what PostgreSQL leaves open.
enum Order {
    /// We do, on a server of our own.
    Imposed(Box<Chooser>),
    /// The server does, and the model follows.
    Followed(Follower),
}

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
    counts: Counts,
}

impl<'a> Lockstep<'a> {
    /// Installs the engine, with its guards as told, in a schema of its own. The chooser is asked on our own server only.
    pub fn new(server: &'a mut Server, guards: Sides, steps: &[&str], chooser: Chooser) -> Result<Self, Error> {
        let schema = server.create_schema()?;
        let major = server.version_number() as u32 / 10_000;
        server.install(&install::install(&schema, guards.sql))?;
        server.install(&install::replay_clock(&schema, major))?;
        server.install(&install::workload(&schema))?;
        let wal_level = server.wal_level();
        let mut engine = Engine::new(guards.model);
        engine.set_wal_level(wal_level);
        let order = match server.can_crash() {
            true => Order::Imposed(Box::new(chooser)),
            false => Order::Followed(Follower::new(guards.model, wal_level)),
        };
        Ok(Lockstep {
            order,
            engine,
            server,
            mapping: Mapping::new(&schema, guards.sql, steps),
            schema,
            ids: Ids::new(),
            renaming: Renaming::new(),
            connections: BTreeMap::new(),
            clock: None,
            tells_begin: !guards.sql.on(Guard::WallClockHeartbeat),
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

    /// Keeps what the engine was told, and whom that released.
    fn told(&mut self, told: impl FnOnce() -> Told) {
        if let Order::Followed(follower) = &mut self.order {
            follower.tell(told(), &self.engine.released());
        }
    }

    fn planned(&self, released: &[Slot]) -> Option<usize> {
        match &self.order {
            Order::Followed(follower) => follower.next(released),
            Order::Imposed(_) => None,
        }
    }

    fn ran_at_once(&self) -> bool {
        matches!(&self.order, Order::Followed(follower) if follower.ran_at_once())
    }

    /// Waits until all calls under way have returned or are blocked, and takes in what has returned.
    fn rest(&mut self) -> Result<BTreeMap<Slot, Wait>, Error> {
        let under_way = |connection: &&mut Connection| connection.op.is_some();
        let mut waiting: Vec<&mut Session> =
            self.connections.values_mut().filter(under_way).map(|connection| &mut connection.session).collect();
        let waits = self.server.wait_until_all_settled(&mut waiting)?;
        let slots: Vec<Slot> = self.connections.keys().copied().collect();
        for slot in slots {
            let connection = self.connection(slot);
            let outcome = if connection.op.is_some() { connection.session.take_outcome() } else { None };
            if let Some(outcome) = outcome {
                self.take(slot, outcome);
            }
        }
        let slot_of = |pid: i32| self.connections.iter().find(|(_, it)| it.session.pid() == pid).map(|(slot, _)| *slot);
        let mut found = BTreeMap::new();
        for wait in waits {
            let by = self.server.blocked_by(wait.pid)?.into_iter().filter_map(slot_of).collect();
            let xid = self.server.xid_of(wait.pid)?.map(Xid);
            found.insert(slot_of(wait.pid).expect("only sessions of ours are asked for"), Wait { by, xid });
        }
        Ok(found)
    }

    /// Finds out in which order those ran that were released together.
    fn explain(&mut self) -> Result<(), Stop> {
        let waits = self.rest()?;
        let still = still(&self.connections, &self.renaming, waits, self.clock);
        let explained = match &mut self.order {
            Order::Followed(follower) => follower.explain(&still),
            Order::Imposed(_) => unreachable!("on a server of our own the order is imposed"),
        };
        match explained {
            true => Ok(()),
            false => Err(self.diverged(AT_ONCE, "no order explains what they came to".to_owned())),
        }
    }

    /// When all those that ran at once are where the model says, the server's must be, too.
    fn stand_still(&mut self) -> Result<(), Stop> {
        if self.engine.anyone_released() {
            return Ok(());
        }
        if self.ran_at_once() {
            let waits = self.rest()?;
            let still = still(&self.connections, &self.renaming, waits, self.clock);
            if !same_waits(&self.engine, &still, &mut self.renaming.clone()) {
                return Err(self.diverged(AT_ONCE, "afterwards others wait than in the model".to_owned()));
            }
        }
        if let Order::Followed(follower) = &mut self.order {
            follower.stands_still();
        }
        Ok(())
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

    fn connection(&mut self, slot: Slot) -> &mut Connection {
        self.connections.get_mut(&slot).expect("a session is connected before it calls")
    }

    /// A transaction that a crash took may have left its number to another: the server would tell of that one.
    fn cannot_be_asked(&self, op: &PlainOp) -> bool {
        matches!(op, Op::Resolve { xid } if !self.renaming.xids.is_known(*xid))
    }

    fn send(&mut self, slot: Slot, asked: &PlainOp) {
        let op = for_server(&without_timeout(asked), &self.renaming);
        let statement = self.mapping.encode(&op, &self.ids);
        let parameters = statement.params.into_iter().map(wire::parameter).collect();
        let connection = self.connections.get_mut(&slot).expect("a session is connected before it calls");
        self.server.start(&mut connection.session, &statement.text, parameters);
        connection.op = Some(op);
        connection.asked = asked.clone();
        self.counts.statements += 1;
    }

    /// Whether the statement under way is blocked; if not, its answer is ready.
    fn settle(&mut self, slot: Slot, expect: Expect) -> Result<bool, Error> {
        let connection = self.connections.get_mut(&slot).expect("a session is connected before it calls");
        if connection.ready.is_some() {
            return Ok(false);
        }
        match self.server.wait_until_blocked_or_done(&mut connection.session, expect)? {
            Rest::Blocked(_) => {
                if matches!(self.order, Order::Imposed(_)) {
                    self.server.freeze(&connection.session)?;
                    connection.frozen = true;
                }
                Ok(true)
            }
            Rest::Done(outcome) => {
                self.take(slot, outcome);
                Ok(false)
            }
        }
    }

    /// Takes an outcome in and translates it.
    fn take(&mut self, slot: Slot, outcome: Outcome) {
        let connection = self.connections.get_mut(&slot).expect("a session is connected before it calls");
        let op = connection.op.take().expect("an outcome belongs to a statement");
        let refused = !matches!(outcome, Outcome::Done(_));
        let commit = connection.transaction.commit_reply();
        connection.transaction = connection.transaction.after(&op, refused);
        let ready = match outcome {
            Outcome::Done(_) if op == Op::Commit => Ready::Reply(commit, None),
            Outcome::Done(reply) => {
                let rows: Vec<_> = reply.rows.iter().map(wire::values).collect();
                match self.mapping.decode(&op, &rows, &mut self.ids) {
                    Ok((reply, xid)) => Ready::Reply(reply, xid),
                    Err(error) => Ready::Strange(error.to_string()),
                }
            }
            Outcome::Refused(error) if error.code == "57014" => Ready::Cancelled,
            Outcome::Refused(error) => match refusal(&error.code, &error.message) {
                Some(refusal) => Ready::Refused(refusal),
                None => Ready::Strange(error.to_string()),
            },
            Outcome::Unknown(reason) => Ready::Strange(reason),
        };
        connection.ready = Some(ready);
    }

    /// The model has answered: the server must have, the same.
    fn check_return(&mut self, slot: Slot, op: &PlainOp, reply: &PlainReply) -> Result<(), Stop> {
        let name = format!("{op:?}");
        let is_cancelled = matches!(reply, Reply::Refused(Refusal::Deadlock | Refusal::LockNotAvailable));
        if self.settle(slot, Expect::Return)? && (is_cancelled || self.stays_blocked(slot)?) {
            if !is_cancelled {
                let difference = format!("the model answers {reply:?} and the server blocks");
                return Err(self.diverged(&name, difference));
            }
            self.cancel(slot)?;
        }
        let ready = self.connection(slot).ready.take().expect("a statement that is not blocked has its answer");
        match self.compare(slot, op, reply, &ready) {
            Ok(()) => {
                self.end_transaction(slot, op, reply);
                Ok(())
            }
            Err(Mismatch(difference)) if self.is_others_victim(&ready) => {
                let difference = format!("{difference}, as it broke a deadlock in its own way");
                let statement = self.counts.statements;
                Err(Stop::NotComparable(Divergence { statement, op: name, difference }))
            }
            Err(Mismatch(difference)) => Err(self.diverged(&name, difference)),
        }
    }

    /// A user's server takes its time, one that only its superuser can change, before it lets somebody pass a queue who
    /// would wait for ever otherwise. The model does so at once.
    fn stays_blocked(&mut self, slot: Slot) -> Result<bool, Error> {
        if matches!(self.order, Order::Imposed(_)) {
            return Ok(true);
        }
        let begin = Instant::now();
        while begin.elapsed() < self.server.deadlock_timeout() + Duration::from_millis(500) {
            if !self.settle(slot, Expect::Return)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Who dies in a cycle of waits is for the user's server to say.
    fn is_others_victim(&self, ready: &Ready) -> bool {
        matches!((&self.order, ready), (Order::Followed(_), Ready::Refused(Refusal::Deadlock)))
    }

    /// A stopped backend must meet its end before it goes on.
    fn end_session(&mut self, connection: Connection) -> Result<(), Error> {
        if connection.frozen {
            let pid = connection.session.pid();
            self.server.execute(self.server.control().session(), "select pg_terminate_backend($1)", &[&pid])?.done()?;
            self.server.thaw(&connection.session)?;
        }
        self.server.terminate(connection.session)
    }

    fn thaw(&mut self, slot: Slot) -> Result<(), Error> {
        let connection = self.connections.get_mut(&slot).expect("a session is connected before it calls");
        if std::mem::take(&mut connection.frozen) {
            self.server.thaw(&connection.session)?;
        }
        Ok(())
    }

    /// Ends the wait of the call under way.
    fn cancel(&mut self, slot: Slot) -> Result<(), Error> {
        let connection = self.connections.get_mut(&slot).expect("a session is connected before it calls");
        self.server.cancel(&connection.session)?;
        self.thaw(slot)?;
        let connection = self.connections.get_mut(&slot).expect("a session is connected before it calls");
        let outcome = self.server.wait_until_done(&mut connection.session)?;
        self.take(slot, outcome);
        Ok(())
    }

    fn compare(&mut self, slot: Slot, op: &PlainOp, reply: &PlainReply, ready: &Ready) -> Result<(), Mismatch> {
        let xid = self.engine.xid(slot);
        let connection = self.connections.get_mut(&slot).expect("a session is connected before it calls");
        let mut pairing = Pairing { renaming: &mut self.renaming, shown: &mut connection.shown };
        same_answer(&mut pairing, op, Side { reply, xid }, ready)
    }

    /// Ids that an aborted transaction showed are forgotten; those of a committed one stay.
    fn end_transaction(&mut self, slot: Slot, op: &PlainOp, reply: &PlainReply) {
        if self.engine.is_in_transaction(slot) {
            return;
        }
        let committed = match op {
            Op::Commit => *reply == Reply::Committed,
            Op::Rollback => false,
            _ => !matches!(reply, Reply::Refused(_)),
        };
        let shown = std::mem::take(&mut self.connection(slot).shown);
        if !committed {
            shown.into_iter().for_each(|id| self.renaming.forget(id));
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

const AT_ONCE: &str = "calls that were released together";

fn still<'b>(
    connections: &'b BTreeMap<Slot, Connection>,
    renaming: &'b Renaming,
    mut waits: BTreeMap<Slot, Wait>,
    clock: Option<Micros>,
) -> Still<'b> {
    let calls = connections.iter().filter_map(|(slot, connection)| {
        let rest = match (&connection.ready, waits.remove(slot)) {
            (Some(ready), _) => follow::Rest::Returned(ready),
            (None, Some(wait)) => follow::Rest::Blocked(wait),
            (None, None) => return None,
        };
        Some((*slot, (&connection.asked, rest)))
    });
    Still { calls: calls.collect(), renaming, now: clock.expect("whoever released them has set the clock") }
}

impl Target for Lockstep<'_> {
    type Stop = Stop;

    fn connect(&mut self) -> Result<Slot, Stop> {
        let slot = self.engine.connect().expect("a plan has fewer processes than the store has sessions");
        self.told(|| Told::Connect);
        let session = self.server.open()?;
        if matches!(self.order, Order::Imposed(_)) {
            self.server.execute(&session, "set deadlock_timeout = '1ms'", &[])?.done()?;
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

    fn crash(&mut self) -> Result<(), Stop> {
        self.counts.crashes += 1;
        self.engine.crash();
        for (_, connection) in std::mem::take(&mut self.connections) {
            connection.shown.into_iter().for_each(|id| self.renaming.forget(id));
        }
        self.server.crash()?;
        self.server.restart()?;
        if let Some(now) = self.clock.take() {
            self.set_clock(now)?;
        }
        self.check_state().map(|_| ())
    }

    fn state(&mut self) -> Result<State, Stop> {
        self.check_state()
    }

    fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// Longer than any replay.
const NEVER: Micros = Micros::from_secs(86_400);

/// The model says when a timeout elapses; the server must not.
fn without_timeout(op: &PlainOp) -> PlainOp {
    match op {
        Op::Rotate { queue, .. } => Op::Rotate { queue: *queue, lock_timeout: NEVER },
        Op::RotateTimers { queue, .. } => Op::RotateTimers { queue: *queue, lock_timeout: NEVER },
        other => other.clone(),
    }
}
