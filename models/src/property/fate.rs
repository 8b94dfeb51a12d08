//! What became of a transaction: as its client was told, or a note says, or what others have seen shows. D1, D3.
//!
//! - **D1** An acknowledged commit is a fact: a later answer or note that calls it aborted or in progress breaks it, and
//!   so does a final state without its rows (judged in [`liveness`](super::liveness)). What a crash may lose where commits
//!   are asynchronous: [`suffix`](super::suffix). Broken by asynchronous commits that are called synchronous.
//! - **D3** What a lost reply's note says is what every later answer about that transaction says, and what was never
//!   asked to commit did not. Unknown if no note says it. Broken by retrying blindly, by a target that guesses.

use super::checker::{Done, Pass};
use super::clue::Clue;
use super::transactions::{NONE, may_write};
use super::{Property, Reach};
use crate::history::History;
use crate::name::{Session, Xid};
use crate::op::Op;
use crate::record::{Happening, Note, Record, Span};
use crate::reply::{Outcome, Reply};
use alloc::format;
use alloc::vec::Vec;

/// What is known of a transaction by its number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Committed at that record, and its client was told so.
    Acknowledged(u32),
    /// A note said so, at that record.
    Resolved(Outcome, u32),
    /// Rolled back, and its client was told so.
    RolledBack,
}

impl Pass<'_> {
    /// Everything that the transaction did is known; whether it committed, the note says.
    pub(super) fn commit_in_flight(&mut self, session: Session, call: u32) {
        match self.fate(session, call) {
            Some((Outcome::Committed, note)) => {
                self.commit(session, call, note);
            }
            Some((Outcome::Aborted, _)) => self.abort(session, false),
            Some((Outcome::InProgress, _)) | None => {
                let state = self.session(session);
                state.undecided = !state.writes.is_empty();
                state.call = call;
                if state.undecided {
                    self.memory.in_doubt.push(call);
                } else {
                    self.abort(session, false);
                }
            }
        }
    }

    /// A transaction of one call: what it did is known only from what it was asked to do.
    pub(super) fn call_in_flight(&mut self, index: u32, session: Session, call: u32, op: &Op<Span>) {
        let xid = xid_of(self.history, index, call);
        let fate = self.fate(session, call);
        match fate {
            Some((Outcome::Committed, note)) => {
                let xid = if xid.0 != 0 { xid } else { self.history.records[note as usize].xid };
                let done = Done { call, ret: NONE, begun: call, commit_call: call, commit: note, xid };
                self.apply_lost(op, done, false);
            }
            Some((Outcome::Aborted, _)) => {}
            Some((Outcome::InProgress, _)) | None => {
                self.memory.in_doubt.push(call);
                let done = Done { call, ret: NONE, begun: call, commit_call: call, commit: NONE, xid };
                self.apply_lost(op, done, true);
            }
        }
    }

    /// What the note in this session, after that record, says. The notes are gathered once, when one is first needed.
    pub(super) fn fate(&mut self, session: Session, call: u32) -> Option<(Outcome, u32)> {
        let history = self.history;
        let notes = self.memory.notes.get_or_insert_with(|| {
            let mut notes: Vec<(u16, u32, Outcome)> = Vec::new();
            for (record, index) in history.records.iter().zip(0..) {
                if let Happening::Note(Note::Resolved { outcome }) = record.what {
                    notes.push((record.session.0, index, outcome));
                }
            }
            notes.sort_unstable_by_key(|(session, index, _)| (*session, *index));
            notes
        });
        let first = notes.partition_point(|(other, index, _)| (*other, *index) <= (session.0, call));
        let of_session = notes[first..].iter().take_while(|(other, ..)| *other == session.0);
        let last = of_session.last()?;
        Some((last.2, last.1))
    }

    /// A note says what became of the transaction that the session's death left open.
    pub(super) fn resolved(&mut self, index: u32, record: &Record, outcome: Outcome) {
        self.found.exercised(Property::D3);
        self.given_free(record);
        self.session_died(index, record.session);
        let state = self.session(record.session);
        let before = state.resolution.replace(outcome);
        let (lost_reply, never_asked) = (state.lost_reply, state.never_asked);
        match outcome {
            Outcome::Committed if lost_reply => self.found.sees(Reach::LostReplyCommitted),
            Outcome::Aborted if lost_reply => self.found.sees(Reach::LostReplyAborted),
            _ => {}
        }
        let clue = Clue(self.history);
        let contradicts = before.is_some_and(|before| before != Outcome::InProgress && before != outcome);
        if contradicts || (never_asked && outcome == Outcome::Committed) {
            self.found.violated(Property::D3, &[index], || {
                let before =
                    if contradicts { "the opposite was said before" } else { "nobody had asked for its commit" };
                let (session, process) = (record.session, clue.process(index));
                format!("the transaction of {process} in session {session} is said to have {outcome:?}, but {before}")
            });
        }
        self.answered_about(index, record.xid, outcome, NONE);
        if record.xid.0 != 0 {
            self.note_outcome(record.xid, Known::Resolved(outcome, index));
        }
    }

    /// Somebody was told what became of a transaction: it must not contradict what is known. `call` is the question's
    /// record, or [`NONE`] for a note.
    pub(super) fn answered_about(&mut self, index: u32, xid: Xid, outcome: Outcome, call: u32) {
        let clue = Clue(self.history);
        match self.memory.outcomes.get(xid.0) {
            Some(Known::Acknowledged(commit)) if *commit < call && outcome != Outcome::Committed => {
                let commit = *commit;
                self.found.violated(Property::D1, &[commit, index], || {
                    let (process, at) = (clue.process(commit), clue.at(commit));
                    format!(
                        "{process} was told at {at} that {xid} had committed; at {} it is {outcome:?}",
                        clue.at(index)
                    )
                });
            }
            Some(Known::Resolved(known, note))
                if *known != outcome && *known != Outcome::InProgress && outcome != Outcome::InProgress =>
            {
                let (known, note) = (*known, *note);
                self.found.violated(Property::D3, &[note, index], || {
                    format!("{xid} was found {known:?} at {}, and {outcome:?} at {}", clue.at(note), clue.at(index))
                });
            }
            Some(Known::RolledBack) if outcome == Outcome::Committed => {
                self.found.violated(Property::D3, &[index], || {
                    format!("{xid} was rolled back, and at {} it is said to have committed", clue.at(index))
                });
            }
            _ => {}
        }
    }

    pub(super) fn note_outcome(&mut self, xid: Xid, known: Known) {
        if xid.0 != 0 {
            self.found.exercised(Property::D1);
            self.memory.outcomes.insert(xid.0, known);
        }
    }

    /// Looks whether a call in flight, or one whose fate nobody told, has done what somebody has just seen: if so it
    /// counts from here on. `seen` is asked about each call and the reply that it is going to have.
    pub(super) fn settle(&mut self, index: u32, seen: impl Fn(&Op<Span>, &Reply<Span, Span, Span>) -> bool) -> bool {
        let mut found = false;
        for place in 0..self.memory.used_sessions.len() {
            found |= self.settle_session(index, self.memory.used_sessions[place], &seen);
        }
        found
    }

    /// As [`Pass::settle`], of what only one call can have done: at the record that the pass has reached, and rather one that
    /// does not wait for a lock.
    pub(super) fn settle_one(&mut self, seen: impl Fn(&Op<Span>, &Reply<Span, Span, Span>) -> bool) -> bool {
        for is_blocked in [false, true] {
            for place in 0..self.memory.used_sessions.len() {
                let session = self.memory.used_sessions[place];
                let is_candidate = self.memory.sessions[session.0 as usize].blocked == is_blocked;
                if is_candidate && self.settle_session(self.now, session, &seen) {
                    return true;
                }
            }
        }
        false
    }

    fn settle_session(
        &mut self,
        index: u32,
        session: Session,
        seen: &impl Fn(&Op<Span>, &Reply<Span, Span, Span>) -> bool,
    ) -> bool {
        let state = &self.memory.sessions[session.0 as usize];
        if state.call == NONE || state.settled || (state.dead && !state.undecided) {
            return false;
        }
        let (call, in_transaction, undecided) = (state.call, state.in_transaction, state.undecided);
        let matches = match in_transaction {
            true => state.writes.iter().any(|write| self.would_show(write.call, write.ret, seen)),
            false => false,
        };
        let Some(op) = Clue(self.history).op(call) else { return false };
        if undecided && matches {
            self.session(session).undecided = false;
            self.memory.no_doubt(call);
            self.session(session).call = NONE;
            self.commit(session, call, index);
            return true;
        }
        !undecided
            && (matches && matches!(op, Op::Commit) || !in_transaction)
            && self.settle_ahead(index, session, call, &op, seen)
    }

    fn would_show(&self, call: u32, ret: u32, seen: &impl Fn(&Op<Span>, &Reply<Span, Span, Span>) -> bool) -> bool {
        let clue = Clue(self.history);
        matches!((clue.op(call), clue.reply(ret)), (Some(op), Some(reply)) if seen(&op, &reply))
    }

    fn settle_ahead(
        &mut self,
        index: u32,
        session: Session,
        call: u32,
        op: &Op<Span>,
        seen: &impl Fn(&Op<Span>, &Reply<Span, Span, Span>) -> bool,
    ) -> bool {
        let clue = Clue(self.history);
        let answer = clue.return_of(call).and_then(|ret| Some((ret, clue.reply(ret)?)));
        if self.session(session).in_transaction {
            let is_committed = match answer {
                Some((_, Reply::Committed)) => true,
                // Nobody will be told; but somebody has seen it.
                None | Some((_, Reply::Unknown)) => !matches!(self.fate(session, call), Some((Outcome::Aborted, _))),
                Some(_) => false,
            };
            if is_committed {
                self.session(session).settled = true;
                self.commit(session, call, index);
            }
            return is_committed;
        }
        let Some((ret, reply)) = answer.filter(|(_, reply)| may_write(op) && seen(op, reply)) else { return false };
        let xid = self.history.records[ret as usize].xid;
        if self.memory.suffix.is_lost(xid) {
            return false;
        }
        self.session(session).settled = true;
        self.observe(ret, session, call, op, &reply);
        self.note_outcome(xid, Known::Acknowledged(index));
        self.apply(op, &reply, Done { call, ret, begun: call, commit_call: call, commit: index, xid });
        true
    }

    /// As [`Pass::settle`], of calls alone whose replies never come, or will be lost: from here on they are.
    #[cold]
    pub(super) fn settle_lost(&mut self, index: u32, is_it: impl Fn(&Op<Span>) -> bool) {
        let clue = Clue(self.history);
        for place in 0..self.memory.used_sessions.len() {
            let session = self.memory.used_sessions[place];
            let state = &self.memory.sessions[session.0 as usize];
            let (call, is_over) = (state.call, state.settled || state.dead || state.in_transaction);
            let Some(op) = clue.op(call).filter(|op| !is_over && may_write(op) && is_it(op)) else { continue };
            let answer = clue.return_of(call);
            let is_lost = answer.and_then(|answer| clue.reply(answer)).is_none_or(|reply| reply == Reply::Unknown);
            if is_lost && !matches!(self.fate(session, call), Some((Outcome::Aborted, _))) {
                self.session(session).settled = true;
                self.call_in_flight(answer.unwrap_or(index), session, call, &op);
            }
        }
    }

    /// Whether a call is under way that might explain something, and whose reply never comes, or is lost.
    #[cold]
    pub(super) fn may_come(&self, explains: impl Fn(&Op<Span>) -> bool) -> bool {
        let clue = Clue(self.history);
        self.is_under_way(|call, op| {
            let answer = clue.return_of(call).and_then(|answer| clue.reply(answer));
            matches!(answer, None | Some(Reply::Unknown)) && explains(op)
        })
    }

    /// Whether a call that fits is under way: alone, or in a transaction whose commit is. It is asked about the call that is
    /// under way, and about what it would commit.
    #[cold]
    pub(super) fn is_under_way(&self, is_it: impl Fn(u32, &Op<Span>) -> bool) -> bool {
        let clue = Clue(self.history);
        self.memory.used_sessions.iter().any(|session| {
            let state = &self.memory.sessions[session.0 as usize];
            if state.call == NONE || state.settled || (state.dead && !state.undecided) {
                return false;
            }
            let Some(op) = clue.op(state.call) else { return false };
            match state.in_transaction || state.undecided {
                true => state.writes.iter().filter_map(|write| clue.op(write.call)).any(|op| is_it(state.call, &op)),
                false => is_it(state.call, &op),
            }
        })
    }

    /// The calls that the history leaves in doubt: without a note, or still running when it ends.
    pub(super) fn doubts(&self) -> Vec<u32> {
        let used = self.memory.used_sessions.iter().map(|session| &self.memory.sessions[session.0 as usize]);
        let in_flight = used.filter(|state| {
            let decides = match Clue(self.history).op(state.call) {
                Some(Op::Commit) => state.in_transaction && !state.writes.is_empty(),
                Some(op) => !state.in_transaction && may_write(&op),
                None => false,
            };
            decides && !state.dead && !state.settled && !state.blocked
        });
        let mut doubts: Vec<u32> =
            self.memory.in_doubt.iter().copied().chain(in_flight.map(|state| state.call)).collect();
        doubts.sort_unstable();
        doubts
    }
}

/// The number of a transaction of one call, as far as the call's own records tell it.
fn xid_of(history: &History, index: u32, call: u32) -> Xid {
    let asked = history.records[call as usize].xid;
    let ended = &history.records[index as usize];
    match ended.what {
        Happening::Return(Reply::Unknown) if asked.0 == 0 => ended.xid,
        _ => asked,
    }
}
