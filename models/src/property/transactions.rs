//! Transactions: what a session has pending, until it commits or is given up. What became of one that nobody was told of:
//! [`fate`](super::fate). D2 and D5 in part.
//!
//! A call outside `begin … commit` is a transaction of its own, committed by a reply that is no refusal. Inside, what
//! was done waits for the commit; a refusal fails the transaction, `rollback to` takes back what followed its savepoint,
//! a refused commit ends it. The death of a session (a lost reply, a crash of its process or of the server) aborts what
//! no commit was asked for; of what one was asked for, the note in that session tells.

use super::checker::{Done, Pass};
use super::clue::{Clue, holder};
use super::fate::Known;
use super::place::{Blow, waiting};
use super::reach::struck;
use super::{Property, Reach};
use crate::name::{Micros, Session, Xid};
use crate::op::{Isolation, Op};
use crate::record::{Happening, Record, Span};
use crate::reply::{Outcome, Refusal, Reply};
use alloc::vec::Vec;

/// Stands for "no record".
pub(super) const NONE: u32 = u32::MAX;

/// One call of an open transaction that did something.
#[derive(Clone, Copy)]
pub(super) struct Write {
    pub(super) call: u32,
    pub(super) ret: u32,
}

pub(super) struct SessionState {
    is_used: bool,
    /// The call without a return, or [`NONE`].
    pub(super) call: u32,
    /// The return of `call` was looked up ahead, and counts already.
    pub(super) settled: bool,
    pub(super) blocked: bool,
    pub(super) in_transaction: bool,
    repeatable_read: bool,
    failed: bool,
    pub(super) dead: bool,
    /// Died with a commit in flight, and no note says what became of it. `call` is that commit's.
    pub(super) undecided: bool,
    begun: u32,
    xid: Xid,
    /// The worker that was named in it last, or [`NONE`].
    pub(super) worker: u32,
    pub(super) writes: Vec<Write>,
    savepoints: Vec<(u8, u32)>,
    /// The last transaction, of one call or more, that is over: the call that began it, and the record by which it was.
    last: (u32, u32),
    pub(super) resolution: Option<Outcome>,
    pub(super) lost_reply: bool,
    /// Died in an open transaction that nobody had asked to commit.
    pub(super) never_asked: bool,
}

impl SessionState {
    pub(super) const fn new() -> Self {
        SessionState {
            is_used: false,
            call: NONE,
            settled: false,
            blocked: false,
            in_transaction: false,
            repeatable_read: false,
            failed: false,
            dead: false,
            undecided: false,
            begun: NONE,
            xid: Xid(0),
            worker: NONE,
            writes: Vec::new(),
            savepoints: Vec::new(),
            last: (NONE, 0),
            resolution: None,
            lost_reply: false,
            never_asked: false,
        }
    }

    /// Since when its transaction may have had its snapshot, if it keeps one.
    pub(super) fn snapshot_since(&self) -> Option<u32> {
        (self.in_transaction && self.repeatable_read && !self.dead).then_some(self.begun)
    }

    /// Whether a statement of its transaction was refused.
    pub(super) const fn failed(&self) -> bool {
        self.failed
    }

    /// As new, and keeps its memory.
    pub(super) fn reset(&mut self) {
        let (mut writes, mut savepoints) = (core::mem::take(&mut self.writes), core::mem::take(&mut self.savepoints));
        writes.clear();
        savepoints.clear();
        *self = SessionState { writes, savepoints, ..SessionState::new() };
    }
}

impl Pass<'_> {
    #[inline]
    pub(super) fn session(&mut self, session: Session) -> &mut SessionState {
        let index = session.0 as usize;
        if self.memory.sessions.len() <= index {
            self.memory.sessions.resize_with(index + 1, SessionState::new);
        }
        let state = &mut self.memory.sessions[index];
        if !state.is_used {
            state.is_used = true;
            self.memory.used_sessions.push(session);
        }
        state
    }

    #[inline]
    pub(super) fn called(&mut self, index: u32, record: &Record, op: &Op<Span>) {
        let before = self.memory.session_of_process[record.process.0 as usize].replace(record.session);
        if self.memory.connections.is_watching() || before.is_some_and(|before| before != record.session) {
            self.called_over_network(record, op, before);
        }
        let caller = match op {
            Op::Claim { worker, .. } | Op::TakeOver { worker, .. } => Some(*worker),
            op => holder(*op).map(|(worker, _)| worker),
        };
        if let Some(worker) = caller {
            self.memory.worker_of_process[record.process.0 as usize] = worker.0;
            self.session(record.session).worker = worker.0;
        }
        let state = self.session(record.session);
        let was = core::mem::replace(&mut state.call, index);
        state.blocked = false;
        if was != NONE || state.dead {
            self.found.ill_formed(index, "a call in a session that has one in flight, or is dead");
        }
    }

    #[inline]
    pub(super) fn returned(&mut self, index: u32, record: &Record, reply: &Reply<Span, Span, Span>) {
        let history = self.history;
        let state = self.session(record.session);
        let call = core::mem::replace(&mut state.call, NONE);
        let has_waited = core::mem::take(&mut state.blocked);
        if !state.in_transaction {
            state.last = (call, index);
        }
        if state.dead || call == NONE {
            return self.returned_to_nobody(index, record.session, reply);
        }
        if has_waited && self.memory.connections.is_watching() {
            self.let_in(record);
        }
        let state = self.session(record.session);
        if record.xid.0 != 0 {
            state.xid = record.xid;
        }
        if state.settled {
            return self.settled_before(index, record.session, reply);
        }
        let Happening::Call(op) = &history.records[call as usize].what else { return };
        match (op, reply) {
            (Op::Tick { .. }, Reply::Idle) => self.found.sees(Reach::IdleTick),
            (Op::Claim { worker, .. }, Reply::Idle) => {
                self.found.sees(Reach::EmptyPoll);
                self.believe_end_of_isolation(index, *worker);
            }
            (_, Reply::Unknown) => self.lost(index, record.session, call),
            (_, Reply::Refused(refusal)) => self.refused(index, record.session, call, op, *refusal),
            (Op::Begin { isolation }, _) if !state.in_transaction => {
                state.in_transaction = true;
                state.repeatable_read = *isolation == Isolation::RepeatableRead;
                state.failed = false;
                state.begun = call;
                state.xid = Xid(0);
            }
            (Op::Commit, Reply::Committed) => self.commit(record.session, call, index),
            (Op::Commit | Op::Rollback, _) => self.abort(record.session, true),
            (Op::Savepoint { level }, _) => {
                let len = state.writes.len() as u32;
                state.savepoints.push((*level, len));
            }
            (Op::RollbackTo { level }, _) => self.rollback_to(record.session, *level),
            _ => self.done(index, record, call, op, reply),
        }
        if !self.memory.suspicions.is_empty() && !matches!(reply, Reply::Unknown) {
            self.confirm_suspicions(index, record.session, call, matches!(reply, Reply::Refused(_)));
        }
        if self.memory.joins.has_complete() {
            self.judge_complete_joins();
        }
    }

    /// The reply to what counts already: it may be the news that the session is dead.
    fn settled_before(&mut self, index: u32, session: Session, reply: &Reply<Span, Span, Span>) {
        let state = self.session(session);
        match reply {
            Reply::Unknown => {
                state.lost_reply = true;
                self.found.sees(Reach::LostReply);
                self.session_died(index, session);
            }
            _ => state.settled = false,
        }
    }

    /// A call that did what it was asked: kept until the commit, or committed by its reply.
    fn done(&mut self, index: u32, record: &Record, call: u32, op: &Op<Span>, reply: &Reply<Span, Span, Span>) {
        self.observe(index, record.session, call, op, reply);
        let state = self.session(record.session);
        if !state.in_transaction {
            let done = Done { call, ret: index, begun: call, commit_call: call, commit: index, xid: record.xid };
            if self.acknowledged_and_lost(call, index, record.xid) {
                return self.lost_write(index);
            }
            self.note_outcome(record.xid, Known::Acknowledged(index));
            self.apply(op, reply, done);
        } else if is_write(op, reply) {
            state.writes.push(Write { call, ret: index });
        }
    }

    fn refused(&mut self, index: u32, session: Session, call: u32, op: &Op<Span>, refusal: Refusal) {
        self.see_refusal(refusal);
        match (op, refusal) {
            (_, Refusal::Deadlock) => self.judge_deadlock(index, session, call),
            (_, Refusal::StaleToken) => self.see_stale(op),
            (Op::Emit { .. }, Refusal::SerializationFailure) => self.found.sees(Reach::EmitSerializationFailure),
            _ => {}
        }
        self.see_lost_claim(index, op, refusal);
        self.excuse(session);
        if let (Op::HandOut { worker, .. } | Op::Handoff { worker, .. }, Refusal::StaleToken) = (op, refusal) {
            self.believe_end_of_isolation(index, *worker);
        }
        match op {
            Op::Commit => self.abort(session, false),
            _ => self.fail(session),
        }
        if let (Op::Rotate { queue, lock_timeout }, Refusal::LockNotAvailable) = (op, refusal) {
            let now = self.history.records[index as usize].at;
            let is_explained = self.anyone_open_since(session, call, now - *lock_timeout);
            self.not_rotated(*queue, index, is_explained);
        }
    }

    /// A failed transaction holds only what it had locked before its last savepoint.
    fn fail(&mut self, session: Session) {
        let state = self.session(session);
        if !state.in_transaction || core::mem::replace(&mut state.failed, true) {
            return;
        }
        let kept = state.savepoints.last().map_or(0, |(_, len)| *len as usize).min(state.writes.len());
        let writes = core::mem::take(&mut state.writes);
        self.unlock(&writes[kept..]);
        self.session(session).writes = writes;
    }

    /// Whether another session's transaction, or a call of its own, may have held a lock from that time on until the call was
    /// under way: it is open, or was then.
    fn anyone_open_since(&self, own: Session, call: u32, since: Micros) -> bool {
        let clue = Clue(self.history);
        self.memory.used_sessions.iter().filter(|session| **session != own).any(|session| {
            let state = &self.memory.sessions[session.0 as usize];
            let (begun, ended) = state.last;
            let open = match state.in_transaction {
                _ if state.dead => NONE,
                true => state.begun,
                false => state.call,
            };
            let is_early = |start: u32| start != NONE && clue.at(start) <= since;
            is_early(open) || (ended > call && is_early(begun))
        })
    }

    fn see_refusal(&mut self, refusal: Refusal) {
        self.found.sees(match refusal {
            Refusal::StaleToken => Reach::StaleTokenRefused,
            Refusal::WindowMismatch => Reach::WindowMismatchRefused,
            Refusal::OneConsumer => Reach::OneConsumerRefused,
            Refusal::WindowOpen => Reach::WindowOpenRefused,
            Refusal::IsolationLevel => Reach::IsolationRefused,
            Refusal::WroteBefore => Reach::WroteBeforeRefused,
            Refusal::FailedTransaction => Reach::FailedTransactionRefused,
            Refusal::LimitExceeded => Reach::LimitRefused,
            Refusal::UniqueViolation => Reach::UniqueViolation,
            Refusal::SerializationFailure => Reach::SerializationFailure,
            Refusal::Deadlock => Reach::Deadlock,
            Refusal::LockNotAvailable => Reach::LockTimeout,
            Refusal::HeldWindow => Reach::HeldWindowRefused,
            Refusal::WrongQueueKind | Refusal::UndefinedObject | Refusal::CheckViolation | Refusal::NotIsolated => {
                return;
            }
        });
    }

    /// Commits what the session has pending, as one transaction.
    pub(super) fn commit(&mut self, session: Session, commit_call: u32, commit: u32) {
        let now = self.now;
        let state = self.session(session);
        if !state.in_transaction {
            return;
        }
        let writes = core::mem::take(&mut state.writes);
        let (begun, xid, repeatable_read) = (state.begun, state.xid, state.repeatable_read);
        state.in_transaction = false;
        state.last = (begun, now);
        state.savepoints.clear();
        if !writes.is_empty() && self.acknowledged_and_lost(commit_call, commit, xid) {
            writes.iter().for_each(|write| self.lost_write(write.ret));
            self.unlock(&writes);
            return self.give_back(session, writes);
        }
        if !writes.is_empty() {
            self.note_outcome(xid, Known::Acknowledged(commit));
        }
        if repeatable_read && !writes.is_empty() {
            self.found.sees(Reach::RepeatableReadCommit);
            self.see_emit_at_repeatable_read(&writes);
        }
        self.unlock(&writes);
        self.apply_transaction(&writes, Done { call: NONE, ret: NONE, begun, commit_call, commit, xid });
        self.give_back(session, writes);
    }

    fn see_emit_at_repeatable_read(&mut self, writes: &[Write]) {
        let clue = Clue(self.history);
        if writes.iter().any(|write| matches!(clue.op(write.call), Some(Op::Emit { .. }))) {
            self.found.sees(Reach::EmitRepeatableRead);
        }
    }

    /// Ends the session's transaction, if it has one, without a trace.
    pub(super) fn abort(&mut self, session: Session, was_told: bool) {
        let now = self.now;
        let state = self.session(session);
        if !state.in_transaction {
            return;
        }
        let writes = core::mem::take(&mut state.writes);
        let (begun, xid) = (state.begun, state.xid);
        state.in_transaction = false;
        state.last = (begun, now);
        state.savepoints.clear();
        if !writes.is_empty() {
            self.found.sees(Reach::WriteRolledBack);
            self.found.exercised(Property::D2);
            self.excuse(session);
            if was_told {
                self.note_outcome(xid, Known::RolledBack);
            }
        }
        self.unlock(&writes);
        self.give_back(session, writes);
    }

    fn give_back(&mut self, session: Session, mut writes: Vec<Write>) {
        writes.clear();
        self.session(session).writes = writes;
    }

    fn rollback_to(&mut self, session: Session, level: u8) {
        let state = self.session(session);
        let Some(place) = state.savepoints.iter().rposition(|(other, _)| *other == level) else { return };
        let len = state.savepoints[place].1 as usize;
        state.savepoints.truncate(place + 1);
        state.failed = false;
        if state.writes.len() > len {
            let undone = state.writes.split_off(len);
            self.unlock(&undone);
            self.found.sees(Reach::SavepointUndone);
        }
    }

    /// A reply that nobody waits for. To a dead session it is the news of its death; else the history is no history.
    fn returned_to_nobody(&mut self, index: u32, session: Session, reply: &Reply<Span, Span, Span>) {
        let state = self.session(session);
        match reply {
            Reply::Unknown => state.lost_reply = true,
            _ if state.dead => self.found.ill_formed(index, "a reply to a dead session"),
            _ => self.found.ill_formed(index, "a return without a call"),
        }
    }

    fn lost(&mut self, index: u32, session: Session, call: u32) {
        self.found.sees(Reach::LostReply);
        let state = self.session(session);
        state.lost_reply = true;
        state.call = call;
        self.session_died(index, session);
    }

    /// The session is gone, with the transaction that it had open; a commit that was in flight has a fate of its own.
    pub(super) fn session_died(&mut self, index: u32, session: Session) {
        self.memory.suspicions.retain(|suspicion| suspicion.holder != session);
        let state = self.session(session);
        if core::mem::replace(&mut state.dead, true) {
            return;
        }
        let call = core::mem::replace(&mut state.call, NONE);
        if core::mem::take(&mut state.settled) {
            return;
        }
        self.excuse(session);
        let state = self.session(session);
        let (in_transaction, failed) = (state.in_transaction, state.failed);
        let op = match call {
            NONE => None,
            call => Clue(self.history).op(call),
        };
        match op {
            Some(Op::Commit) if in_transaction && !failed => self.commit_in_flight(session, call),
            Some(op) if !in_transaction && may_write(&op) => self.call_in_flight(index, session, call, &op),
            _ => {
                self.session(session).never_asked = in_transaction && !matches!(op, Some(Op::Commit));
                self.abort(session, false);
            }
        }
    }

    pub(super) fn blocked(&mut self, session: Session) {
        self.found.sees(Reach::BlockedCall);
        self.found.exercised(Property::L6);
        let state = self.session(session);
        state.blocked = true;
        let call = state.call;
        let goal = Clue(self.history).op(call).and_then(|op| struck(Blow::Wait, waiting(&op)));
        goal.into_iter().for_each(|goal| self.found.sees(goal));
    }
}

/// Whether a call can change anything that other sessions see.
pub(super) fn may_write(op: &Op<Span>) -> bool {
    let only_reads = matches!(
        op,
        Op::Read { .. }
            | Op::ReadResults { .. }
            | Op::Observe { .. }
            | Op::Peek { .. }
            | Op::LockTable { .. }
            | Op::Resolve { .. }
    );
    !only_reads && !op.is_transaction_control()
}

fn is_write(op: &Op<Span>, reply: &Reply<Span, Span, Span>) -> bool {
    let nothing =
        matches!(reply, Reply::Idle | Reply::NotRotated { .. } | Reply::TooLate | Reply::TimersKept | Reply::AuditKept);
    may_write(op) && !nothing
}
