//! A session's connection to the server, and the call that it has under way there: sent, settled, compared, ended.

use super::compare::{Ready, Side, for_server, same_answer};
use super::order::Order;
use super::renaming::{Mismatch, Pairing, Shown};
use super::{Divergence, Lockstep, Stop, wire};
use crate::postgres::Error;
use crate::postgres::control::{Expect, Rest};
use crate::postgres::session::{Outcome, Session};
use std::time::{Duration, Instant};
use tourbillon_engine::sql::ending::{Transaction, refusal};
use tourbillon_engine::store::locks::Slot;
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{Micros, Xid};
use tourbillon_models::op::Op;
use tourbillon_models::reply::{Refusal, Reply};

/// One session's connection, and the call that it has under way.
pub(super) struct Connection {
    pub(super) session: Session,
    pub(super) transaction: Transaction,
    pub(super) op: Option<PlainOp>,
    /// The last call, with the model's ids.
    pub(super) asked: PlainOp,
    /// The outcome, taken before the model has gone on.
    pub(super) ready: Option<Ready>,
    /// What its transaction showed first.
    pub(super) shown: Vec<Shown>,
    /// Its backend is stopped.
    pub(super) frozen: bool,
}

impl Lockstep<'_> {
    pub(super) fn connection(&mut self, slot: Slot) -> &mut Connection {
        self.connections.get_mut(&slot).expect("a session is connected before it calls")
    }

    /// A transaction that a crash took may have left its number to another: the server would tell of that one.
    pub(super) fn cannot_be_asked(&self, op: &PlainOp) -> bool {
        matches!(op, Op::Resolve { xid } if !self.renaming.xids.is_known(*xid))
    }

    pub(super) fn send(&mut self, slot: Slot, asked: &PlainOp) {
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
    pub(super) fn settle(&mut self, slot: Slot, expect: Expect) -> Result<bool, Error> {
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
    pub(super) fn take(&mut self, slot: Slot, outcome: Outcome) {
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
    pub(super) fn check_return(&mut self, slot: Slot, op: &PlainOp, reply: &PlainReply) -> Result<(), Stop> {
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
    pub(super) fn end_session(&mut self, connection: Connection) -> Result<(), Error> {
        if connection.frozen {
            let pid = connection.session.pid();
            self.server.execute(self.server.control().session(), "select pg_terminate_backend($1)", &[&pid])?.done()?;
            self.server.thaw(&connection.session)?;
        }
        self.server.terminate(connection.session)
    }

    pub(super) fn thaw(&mut self, slot: Slot) -> Result<(), Error> {
        let connection = self.connections.get_mut(&slot).expect("a session is connected before it calls");
        if std::mem::take(&mut connection.frozen) {
            self.server.thaw(&connection.session)?;
        }
        Ok(())
    }

    /// Ends the wait of the call under way.
    pub(super) fn cancel(&mut self, slot: Slot) -> Result<(), Error> {
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
    pub(super) fn end_transaction(&mut self, slot: Slot, op: &PlainOp, reply: &PlainReply) {
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
            return;
        }
        let xid = self.engine.xid(slot);
        if let Some(unflushed) = self.unflushed.as_mut().filter(|_| xid != Xid(0)) {
            unflushed.committed(self.renaming.xids.to_server(xid), shown);
            // A transaction that truncates is flushed however it commits, and with it all before it.
            if !self.engine.may_lose(xid) {
                unflushed.flushed();
            }
        }
    }
}

/// Longer than any replay.
const NEVER: Micros = Micros::from_secs(86_400);

/// The model says when a timeout elapses; the server must not.
fn without_timeout(op: &PlainOp) -> PlainOp {
    match op {
        Op::Rotate { queue, .. } => Op::Rotate { queue: *queue, lock_timeout: NEVER },
        Op::RotateTimers { queue, .. } => Op::RotateTimers { queue: *queue, lock_timeout: NEVER },
        Op::RotateAudit { keep, .. } => Op::RotateAudit { keep: *keep, lock_timeout: NEVER },
        other => other.clone(),
    }
}
