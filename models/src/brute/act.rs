//! Acts: each call that did something, with its answer and with what became of its transaction.
//!
//! Found for one session at a time, by reading all of its records. Nothing is followed while the history goes on: every
//! question is asked of the whole of it, so that no answer depends on where somebody has got to.

use crate::history::History;
use crate::name::{Micros, Process, Session, Xid};
use crate::op::Op;
use crate::property::ASYNCHRONOUS_COMMIT;
use crate::record::{ClockOffset, Fault, Happening, Note, Record, Span};
use crate::reply::{Outcome, Reply};
use alloc::vec::Vec;

/// Stands for "no record".
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Committed,
    /// Rolled back, refused, or over with its session; or still open when the history ends.
    Undone,
    /// Acknowledged, and taken back by a crash.
    Lost,
    /// Nobody told.
    Unknown,
}

#[derive(Clone, Copy)]
pub(crate) struct Act {
    pub(crate) op: Op<Span>,
    /// None if the answer never came.
    pub(crate) reply: Option<Reply<Span, Span, Span>>,
    pub(crate) call: u32,
    pub(crate) ret: u32,
    /// The call that began the transaction, the one that ended it, and the record by which that was known.
    pub(crate) begun: u32,
    pub(crate) commit_call: u32,
    pub(crate) commit: u32,
    pub(crate) fate: Fate,
    pub(crate) xid: Xid,
    pub(crate) session: Session,
    pub(crate) process: Process,
    pub(crate) is_alone: bool,
}

impl Act {
    pub(crate) const fn is_committed(&self) -> bool {
        matches!(self.fate, Fate::Committed)
    }

    /// The record that tells of it best.
    pub(crate) const fn record(&self) -> u32 {
        if self.ret == NONE { self.call } else { self.ret }
    }

    pub(crate) fn is_same_transaction(&self, other: &Act) -> bool {
        self.commit == other.commit && self.session == other.session
    }
}

/// One call and its answer, in its session.
struct Said {
    call: u32,
    op: Op<Span>,
    answer: Option<(u32, Reply<Span, Span, Span>)>,
    process: Process,
}

/// A history as its acts.
pub(crate) struct Account<'h> {
    pub(crate) history: &'h History,
    pub(crate) acts: Vec<Act>,
    /// Some call's effect is not told in full, so that what is missing may be in it.
    pub(crate) is_vague: bool,
    /// A commit was asked for, or a call was under way, and nobody told what came of it.
    pub(crate) has_doubts: bool,
    pub(crate) has_lost: bool,
}

impl<'h> Account<'h> {
    pub(crate) fn of(history: &'h History) -> Self {
        let mut account = Account { history, acts: Vec::new(), is_vague: false, has_doubts: false, has_lost: false };
        let mut sessions: Vec<Session> = history.records.iter().map(|record| record.session).collect();
        sessions.sort_unstable();
        sessions.dedup();
        sessions.into_iter().for_each(|session| account.tell(session));
        account.acts.sort_by_key(|act| (act.commit, act.call));
        account.acts.retain(|act| !act.reply.as_ref().is_some_and(is_nothing));
        account.has_doubts = account.acts.iter().any(|act| act.fate == Fate::Unknown);
        account.has_lost = account.acts.iter().any(|act| act.fate == Fate::Lost);
        account.is_vague = account.has_doubts
            || account.acts.iter().any(|act| act.is_committed() && act.reply.is_none() && tells(&act.op));
        account
    }

    pub(crate) fn record(&self, index: u32) -> Option<&'h Record> {
        self.history.records.get(index as usize)
    }

    pub(crate) fn at(&self, index: u32) -> Micros {
        self.record(index).map_or(Micros(0), |record| record.at)
    }

    pub(crate) fn committed(&self) -> impl Iterator<Item = &Act> {
        self.acts.iter().filter(|act| act.is_committed())
    }

    fn tell(&mut self, session: Session) {
        let death = self.death_of(session);
        let (mut open, mut failed): (Option<u32>, bool) = (None, false);
        let mut pending: Vec<Act> = Vec::new();
        let mut savepoints: Vec<(u8, usize)> = Vec::new();
        let mut xid = Xid(0);
        for said in self.said_in(session) {
            let Said { call, op, answer, process } = said;
            let answer = answer.filter(|(ret, reply)| *ret <= death && *reply != Reply::Unknown);
            if let Some((ret, _)) = answer {
                let told = self.record(ret).map_or(Xid(0), |record| record.xid);
                xid = if told.0 != 0 { told } else { xid };
            }
            let act = |begun: u32, is_alone: bool| Act {
                op,
                reply: answer.map(|(_, reply)| reply),
                call,
                ret: answer.map_or(NONE, |(ret, _)| ret),
                begun,
                commit_call: NONE,
                commit: NONE,
                fate: Fate::Undone,
                xid: Xid(0),
                session,
                process,
                is_alone,
            };
            let Some((ret, reply)) = answer else {
                // In flight when the session, or the history, ends.
                match (&op, open) {
                    (Op::Commit, Some(_)) if !failed => {
                        self.close(&mut pending, call, self.told_later(session, call), xid)
                    }
                    (_, None) if may_write(&op) => {
                        pending.push(act(call, true));
                        self.close(&mut pending, call, self.told_later(session, call), xid);
                    }
                    _ => self.close(&mut pending, call, (Fate::Undone, NONE), xid),
                }
                open = None;
                continue;
            };
            match (&op, &reply) {
                (Op::Commit, Reply::Committed) if open.is_some() => {
                    self.close(&mut pending, call, (Fate::Committed, ret), xid);
                    open = None;
                }
                (Op::Commit | Op::Rollback, _) => {
                    self.close(&mut pending, call, (Fate::Undone, ret), xid);
                    open = None;
                }
                (_, Reply::Refused(_)) => failed = open.is_some(),
                (Op::Begin { .. }, _) if open.is_none() => {
                    (open, failed, xid) = (Some(call), false, Xid(0));
                    savepoints.clear();
                }
                (Op::Savepoint { level }, _) => savepoints.push((*level, pending.len())),
                (Op::RollbackTo { level }, _) => {
                    if let Some(place) = savepoints.iter().rposition(|(other, _)| other == level) {
                        let undone = pending.split_off(savepoints[place].1.min(pending.len()));
                        self.acts.extend(undone);
                        savepoints.truncate(place + 1);
                        failed = false;
                    }
                }
                _ if open.is_some() => pending.push(act(open.unwrap_or(call), false)),
                _ => {
                    xid = self.record(ret).map_or(Xid(0), |record| record.xid);
                    pending.push(act(call, true));
                    self.close(&mut pending, call, (Fate::Committed, ret), xid);
                }
            }
        }
        self.close(&mut pending, NONE, (Fate::Undone, NONE), xid);
    }

    /// The transaction is over: all that it did has that fate.
    fn close(&mut self, pending: &mut Vec<Act>, commit_call: u32, (fate, commit): (Fate, u32), xid: Xid) {
        let fate = if fate == Fate::Committed && self.is_taken_back(commit, xid) { Fate::Lost } else { fate };
        let told = self.record(commit).map_or(Xid(0), |record| record.xid);
        let xid = if xid.0 != 0 { xid } else { told };
        self.acts.extend(pending.drain(..).map(|act| Act { commit_call, commit, fate, xid, ..act }));
    }

    /// What the last note in the session after that call says.
    fn told_later(&self, session: Session, call: u32) -> (Fate, u32) {
        let notes = self.history.records.iter().zip(0u32..).filter_map(|(record, index)| match record.what {
            Happening::Note(Note::Resolved { outcome }) if record.session == session && index > call => {
                Some((outcome, index))
            }
            _ => None,
        });
        match notes.last() {
            Some((Outcome::Committed, note)) => (Fate::Committed, note),
            Some((Outcome::Aborted, note)) => (Fate::Undone, note),
            Some((Outcome::InProgress, _)) | None => (Fate::Unknown, NONE),
        }
    }

    /// Whether a note after a crash says that an acknowledged transaction has aborted.
    fn is_taken_back(&self, commit: u32, xid: Xid) -> bool {
        let records = self.history.records.iter().zip(0u32..).filter(|(_, index)| *index > commit);
        let mut records = records.skip_while(|(record, _)| record.what != Happening::Fault(Fault::ServerCrash));
        self.history.header.option(ASYNCHRONOUS_COMMIT) == Some("true")
            && xid.0 != 0
            && records.any(|(record, _)| {
                record.xid == xid && record.what == Happening::Note(Note::Resolved { outcome: Outcome::Aborted })
            })
    }

    fn said_in(&self, session: Session) -> Vec<Said> {
        let mut said: Vec<Said> = Vec::new();
        for (record, index) in self.history.records.iter().zip(0u32..) {
            match record.what {
                _ if record.session != session => {}
                Happening::Call(op) => said.push(Said { call: index, op, answer: None, process: record.process }),
                Happening::Return(reply) => {
                    if let Some(last) = said.last_mut() {
                        last.answer.get_or_insert((index, reply));
                    }
                }
                _ => {}
            }
        }
        said
    }

    /// The record with which the session ended; a reply to it that lies before that counts.
    fn death_of(&self, session: Session) -> u32 {
        let records = self.history.records.iter().zip(0u32..);
        let first = records.clone().find(|(record, _)| record.session == session).map_or(NONE, |(_, index)| index);
        let mut deaths = records.filter(|(_, index)| *index >= first);
        let death = deaths.find(|(record, index)| match record.what {
            Happening::Return(Reply::Unknown) | Happening::Note(Note::Resolved { .. }) => record.session == session,
            Happening::Fault(Fault::SessionEnd) => record.session == session,
            Happening::Fault(Fault::ServerCrash) => true,
            Happening::Fault(Fault::Crash) => self.session_of(record, *index) == session,
            Happening::Fault(Fault::LostReply) => {
                self.session_of(record, *index) == session && !self.is_in_flight(session, *index)
            }
            _ => false,
        });
        death.map_or(NONE, |(_, index)| index)
    }

    /// In which session the process had called last.
    fn session_of(&self, record: &Record, index: u32) -> Session {
        let before = self.history.records[..index as usize].iter().rev();
        let mut calls = before.filter(|it| it.process == record.process && matches!(it.what, Happening::Call(_)));
        calls.next().map_or(record.session, |call| call.session)
    }

    fn is_in_flight(&self, session: Session, index: u32) -> bool {
        let before = self.history.records[..index as usize].iter().rev();
        let mut own = before.filter(|it| it.session == session);
        own.find(|it| matches!(it.what, Happening::Call(_) | Happening::Return(_)))
            .is_some_and(|it| matches!(it.what, Happening::Call(_)))
    }

    /// All that the server's clock may have shown between two records.
    pub(crate) fn server_times(&self, from: u32, to: u32) -> (Micros, Micros) {
        let mut offset = ClockOffset::NONE;
        let (mut least, mut most) = (Micros(u64::MAX), Micros(0));
        for (record, index) in self.history.records.iter().zip(0u32..) {
            let mut show = |offset: ClockOffset| {
                if index >= from && index <= to {
                    least = least.min(offset.at(record.at));
                    most = most.max(offset.at(record.at));
                }
            };
            let Happening::Fault(Fault::ClockStep(step)) = record.what else {
                show(offset);
                continue;
            };
            // What it showed just before it was set, unless that is before the first of the two records.
            if index > from {
                show(offset);
            }
            offset = step;
            show(offset);
        }
        (least, most)
    }

    /// Between the call and its answer, or else what is known to come after it.
    pub(crate) fn times_of(&self, act: &Act) -> (Micros, Micros) {
        let end = if act.ret != NONE { act.ret } else { act.commit };
        match end {
            NONE => (self.server_times(act.call, act.call).0, Micros(u64::MAX)),
            end => self.server_times(act.call, end),
        }
    }
}

/// Whether a call can change anything that other sessions see.
fn may_write(op: &Op<Span>) -> bool {
    !op.is_transaction_control()
        && !matches!(
            op,
            Op::Read { .. }
                | Op::ReadResults { .. }
                | Op::Observe { .. }
                | Op::Peek { .. }
                | Op::LockTable { .. }
                | Op::Resolve { .. }
        )
}

/// Whether nothing came of it, and it says nothing that is asked about.
const fn is_nothing(reply: &Reply<Span, Span, Span>) -> bool {
    matches!(reply, Reply::Idle | Reply::NotRotated { .. } | Reply::TooLate | Reply::TimersKept | Reply::AuditKept)
}

/// Whether the answer says more than that it was done.
fn tells(op: &Op<Span>) -> bool {
    may_write(op)
        && !matches!(
            op,
            Op::Heartbeat { .. }
                | Op::Hold { .. }
                | Op::Effect { .. }
                | Op::CreateQueue { .. }
                | Op::RotateAudit { .. }
        )
}
