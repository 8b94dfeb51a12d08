//! The lockstep target: every call goes to the model and, on the same session's own connection, to a real server.
//!
//! One statement at a time, in the schedule's order. What the model answers the server must answer, up to a renaming
//! of ids; what the model blocks the server must block, by its own word. Where PostgreSQL leaves a choice open the
//! model follows the server's. A difference is a [`Divergence`]: either the model or the SQL is wrong.
//!
//! Time: the server's clock functions are replaced by readers of a sequence that this target sets. A lock timeout or
//! a deadlock that the model finds is brought about on the server when the model says so: by cancelling the wait
//! (which PostgreSQL ends as it ends a timed-out one), or, for a cycle that the call itself closes, by the server's own
//! deadlock detection.

mod compare;
mod renaming;
mod wire;

use crate::postgres::Error;
use crate::postgres::control::{Expect, Rest};
use crate::postgres::server::Server;
use crate::postgres::session::{Outcome, Session};
use crate::target::{Chooser, Target};
use compare::{for_server, same_reply, same_state, same_xid};
use renaming::{Mismatch, Pairing, Renaming, Shown};
use std::collections::BTreeMap;
use std::fmt;
use tourbillon_engine::engine::{Answer, Engine, Environment};
use tourbillon_engine::guard::Guards;
use tourbillon_engine::sql::ending::{Transaction, refusal};
use tourbillon_engine::sql::ids::Ids;
use tourbillon_engine::sql::install;
use tourbillon_engine::sql::mapping::Mapping;
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
    Server(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Server(error)
    }
}

/// What a replay did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub statements: u64,
    pub blocked: u64,
    pub crashes: u64,
    pub choices: u64,
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
    Imposed(Chooser),
    Followed,
}

/// A server's answer in the vocabulary; the error's text where the engine knows no such error.
enum Ready {
    Reply(PlainReply, Option<Xid>),
    Refused(Refusal),
    Cancelled,
    Strange(String),
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
    counts: Counts,
}

impl<'a> Lockstep<'a> {
    /// Installs the engine, with its guards as told, in a schema of its own. The chooser is asked on our own server only.
    pub fn new(server: &'a mut Server, guards: Guards, steps: &[&str], chooser: Chooser) -> Result<Self, Error> {
        let schema = server.create_schema()?;
        let major = server.version_number() as u32 / 10_000;
        server.install(&install::install(&schema, guards))?;
        server.install(&install::replay_clock(&schema, major))?;
        server.install(&install::workload(&schema))?;
        let order = if server.can_crash() { Order::Imposed(chooser) } else { Order::Followed };
        Ok(Lockstep {
            order,
            engine: Engine::new(guards),
            server,
            mapping: Mapping::new(&schema, steps),
            schema,
            ids: Ids::new(),
            renaming: Renaming::new(),
            connections: BTreeMap::new(),
            clock: None,
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
        Stop::Divergence(Divergence { statement: self.counts.statements, op: op.to_owned(), difference })
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
        if self.settle(slot, Expect::Return)? {
            if !matches!(reply, Reply::Refused(Refusal::Deadlock | Refusal::LockNotAvailable)) {
                let difference = format!("the model answers {reply:?} and the server blocks");
                return Err(self.diverged(&name, difference));
            }
            self.cancel(slot)?;
        }
        let ready = self.connection(slot).ready.take().expect("a statement that is not blocked has its answer");
        match self.compare(slot, op, reply, ready) {
            Ok(()) => {
                self.end_transaction(slot, op, reply);
                Ok(())
            }
            Err(Mismatch(difference)) => Err(self.diverged(&name, difference)),
        }
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

    fn compare(&mut self, slot: Slot, op: &PlainOp, model: &PlainReply, ready: Ready) -> Result<(), Mismatch> {
        let xid = self.engine.xid(slot);
        let connection = self.connections.get_mut(&slot).expect("a session is connected before it calls");
        let mut pairing = Pairing { renaming: &mut self.renaming, shown: &mut connection.shown };
        match (model, ready) {
            (Reply::Refused(Refusal::Deadlock | Refusal::LockNotAvailable), Ready::Cancelled) => Ok(()),
            (Reply::Refused(ours), Ready::Refused(theirs)) if *ours == theirs => Ok(()),
            (model, Ready::Reply(server, server_xid)) => {
                if !op.is_transaction_control() && !matches!(op, Op::Read { .. }) {
                    same_xid(&mut pairing, xid, server_xid)?;
                }
                same_reply(&mut pairing, model, &server)
            }
            (model, Ready::Refused(refusal)) => {
                Err(Mismatch(format!("the model answers {model:?} and the server refuses: {refusal:?}")))
            }
            (model, Ready::Cancelled) => {
                Err(Mismatch(format!("the model answers {model:?}, the server was cancelled")))
            }
            (model, Ready::Strange(text)) => {
                Err(Mismatch(format!("the model answers {model:?} and the server: {text}")))
            }
        }
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
        let mut rows: [Vec<Vec<_>>; 8] = Default::default();
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

/// The order in which two calls that returned together ran: the numbers that they drew tell.
fn evidence(ready: &Ready) -> (u32, u32) {
    match ready {
        Ready::Reply(reply, xid) => (xid.map_or(0, |xid| xid.0), first_id(reply)),
        Ready::Refused(_) | Ready::Cancelled | Ready::Strange(_) => (u32::MAX, 0),
    }
}

fn first_id(reply: &PlainReply) -> u32 {
    match reply {
        Reply::Appended { event, .. } | Reply::Started { event, .. } => event.0,
        Reply::HandedOff { appended, .. } => appended.first().copied().unwrap_or(0),
        Reply::Ticked { tick, .. } => tick.0,
        Reply::Claimed { next, .. } => next.0,
        _ => 0,
    }
}

impl Target for Lockstep<'_> {
    type Stop = Stop;

    fn connect(&mut self) -> Result<Slot, Stop> {
        let slot = self.engine.connect().expect("a plan has fewer processes than the store has sessions");
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
        let mut connection = self.connections.remove(&slot).expect("a session is connected before it goes");
        connection.shown.drain(..).for_each(|id| self.renaming.forget(id));
        self.end_session(connection)?;
        Ok(())
    }

    fn call(&mut self, slot: Slot, op: &PlainOp, environment: Environment) -> Result<Answer, Stop> {
        self.set_clock(environment.now)?;
        let answer = self.engine.call(slot, op, environment);
        if self.cannot_be_asked(op) {
            return Ok(answer);
        }
        self.send(slot, op);
        match &answer {
            Answer::Returned(reply) => self.check_return(slot, op, reply)?,
            Answer::Blocked => {
                self.counts.blocked += 1;
                if !self.settle(slot, Expect::Block)? {
                    return Err(self.diverged(&format!("{op:?}"), "the model blocks and the server answers".to_owned()));
                }
            }
        }
        Ok(answer)
    }

    fn pick(&mut self, released: &[Slot]) -> Result<usize, Stop> {
        self.counts.choices += 1;
        if let Order::Imposed(chooser) = &mut self.order {
            return Ok(chooser.pick(released.len()));
        }
        let mut waiting: Vec<&mut Session> = self
            .connections
            .iter_mut()
            .filter(|(slot, connection)| released.contains(slot) && connection.ready.is_none())
            .map(|(_, connection)| &mut connection.session)
            .collect();
        self.server.wait_until_all_settled(&mut waiting)?;
        for slot in released {
            let outcome = self.connection(*slot).session.take_outcome();
            if let Some(outcome) = outcome {
                self.take(*slot, outcome);
            }
        }
        let rank = |slot: &Slot| match &self.connections[slot].ready {
            Some(ready) => (0, evidence(ready)),
            None => (1, (0, 0)),
        };
        let first = released.iter().enumerate().min_by_key(|(_, slot)| rank(slot));
        Ok(first.expect("somebody was released").0)
    }

    fn resume(&mut self, slot: Slot, now: Micros) -> Result<Answer, Stop> {
        self.set_clock(now)?;
        let op = self.connection(slot).asked.clone();
        self.thaw(slot)?;
        let answer = self.engine.resume(slot, now);
        match &answer {
            Answer::Returned(reply) => self.check_return(slot, &op, reply)?,
            // It let others into the row's queue, and goes on by itself.
            Answer::Blocked if self.engine.released().contains(&slot) => {}
            Answer::Blocked => {
                if !self.settle(slot, Expect::Block)? {
                    let op = format!("{op:?}");
                    return Err(self.diverged(&op, "the model still blocks and the server answers".to_owned()));
                }
            }
        }
        Ok(answer)
    }

    fn time_out(&mut self, slot: Slot, now: Micros) -> Result<(), Stop> {
        self.set_clock(now)?;
        self.engine.time_out(slot);
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

/// The model says when a timeout elapses; the server must not.
fn without_timeout(op: &PlainOp) -> PlainOp {
    match op {
        Op::Rotate { queue, .. } => Op::Rotate { queue: *queue, lock_timeout: Micros(0) },
        other => other.clone(),
    }
}
