//! Deadlocks. L6.
//!
//! - **L6** No call is a deadlock's victim while every transaction that was in a call during it, its own included, takes its
//!   locks in the engine's order (one that is idle waits for nobody, and is in no cycle): it is one call of the engine, or the worker's `begin`, `hold`, effects, `handoff`,
//!   `commit`. (Savepoints take none.) A transaction of any other shape, a second call or a lock of an application's own, can
//!   close a cycle that is nobody's bug. And after the faults no process is the victim more than [`MOST`] times without a
//!   commit, or a call outside of transactions that was answered, in between: whoever repeats gets through. Broken by two batches that
//!   lock the same rows in opposite order.

use super::Property;
use super::checker::Pass;
use super::clue::Clue;
use crate::name::{Process, Session};
use crate::op::Op;
use crate::record::{Happening, Span};
use crate::reply::{Refusal, Reply};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

/// How often in a row a process may be the victim, after the faults.
pub const MOST: u32 = 8;

impl Pass<'_> {
    /// A call was refused as the victim of a deadlock.
    pub(super) fn judge_deadlock(&mut self, index: u32, session: Session, call: u32) {
        self.found.exercised(Property::L6);
        if !self.found.tells(Property::L6) {
            return;
        }
        self.judge_victim(index, self.history.records[index as usize].process);
        let sessions = self.sessions_between(call, index);
        let mut shapes: Vec<(Session, Vec<u32>)> = Vec::new();
        for other in sessions {
            for calls in self.transactions_between(other, call, index) {
                if !self.was_in_a_call(&calls, call) {
                    continue;
                }
                if !self.is_ordered(&calls) {
                    return;
                }
                shapes.push((other, calls));
            }
        }
        let clue = Clue(self.history);
        let others =
            shapes.iter().filter(|(other, _)| *other != session).filter_map(|(_, calls)| calls.last().copied());
        let others: Vec<u32> = others.collect();
        let records: Vec<u32> = others.iter().copied().chain([call, index]).collect();
        self.found.violated(Property::L6, &records, || {
            let (victim, at) = (clue.process(index), clue.at(index));
            let with: Vec<_> = others.iter().map(|call| clue.process(*call)).collect();
            let with = if with.is_empty() { "nobody".into() } else { with.join(", ") };
            format!(
                "a call of {victim} was a deadlock's victim at {at}, and every transaction that was in a call (of {with}) takes its \
                 locks in the engine's order"
            )
        });
    }

    /// Whoever repeats gets through.
    fn judge_victim(&mut self, index: u32, process: Process) {
        let history = self.history;
        if history.records[index as usize].at <= history.header.faults_end {
            return;
        }
        let own = history.records[..=index as usize].iter().filter(|record| record.process == process);
        let (mut count, mut is_inside) = (0, false);
        for record in own {
            match record.what {
                Happening::Call(Op::Begin { .. }) => is_inside = true,
                Happening::Return(Reply::RolledBack) => is_inside = false,
                Happening::Return(Reply::Refused(Refusal::Deadlock)) if record.at > history.header.faults_end => {
                    count += 1
                }
                Happening::Return(Reply::Committed) | Happening::Fault(_) => (count, is_inside) = (0, false),
                Happening::Return(Reply::Refused(_) | Reply::Done | Reply::Idle | Reply::Unknown) => {}
                Happening::Return(_) if !is_inside => count = 0,
                _ => {}
            }
        }
        if count > MOST {
            let clue = Clue(history);
            self.found.violated(Property::L6, &[index], || {
                let (victim, at) = (clue.process(index), clue.at(index));
                format!(
                    "{victim} was a deadlock's victim at {at}, more than {MOST} times in a row after the last fault"
                )
            });
        }
    }

    /// The sessions that were in a transaction, or in a call, at some time between two records.
    fn sessions_between(&self, from: u32, to: u32) -> BTreeSet<Session> {
        let used = self.memory.used_sessions.iter().copied();
        let open = used.filter(|session| {
            let state = &self.memory.sessions[session.0 as usize];
            !state.dead && (state.in_transaction || state.call != super::transactions::NONE)
        });
        let seen = self.history.records[from as usize..=to as usize].iter().map(|record| record.session);
        open.chain(seen).collect()
    }

    /// The calls of each of the session's transactions that was open at some time between two records.
    fn transactions_between(&self, session: Session, from: u32, to: u32) -> Vec<Vec<u32>> {
        let clue = Clue(self.history);
        let is_call = |index: &u32| {
            let record = &self.history.records[*index as usize];
            record.session == session && matches!(record.what, Happening::Call(_))
        };
        // Back to the beginning of the transaction that was open at first, if one was.
        let mut before: Vec<u32> = Vec::new();
        for index in (0..from).rev().filter(is_call) {
            match clue.op(index) {
                Some(Op::Begin { .. }) => {
                    before.push(index);
                    break;
                }
                Some(Op::Commit | Op::Rollback) if clue.return_of(index).is_none_or(|answer| answer < from) => break,
                _ => before.push(index),
            }
        }
        let is_inside = before.last().is_some_and(|first| matches!(clue.op(*first), Some(Op::Begin { .. })));
        if !is_inside {
            before.retain(|index| clue.return_of(*index).is_none_or(|answer| answer >= from));
        }
        before.reverse();
        let mut transactions: Vec<Vec<u32>> = Vec::new();
        let mut inside = is_inside;
        let mut open = before;
        for index in (from..=to).filter(is_call) {
            match clue.op(index) {
                Some(Op::Begin { .. }) => {
                    transactions.push(core::mem::take(&mut open));
                    inside = true;
                }
                _ if !inside => transactions.push(core::mem::take(&mut open)),
                _ => {}
            }
            open.push(index);
            inside &= !matches!(clue.op(index), Some(Op::Commit | Op::Rollback));
        }
        transactions.push(open);
        transactions.retain(|calls| !calls.is_empty());
        transactions
    }

    /// Whether one of these calls, none of which was made after the victim's refusal, was under way during the victim's.
    fn was_in_a_call(&self, calls: &[u32], from: u32) -> bool {
        let clue = Clue(self.history);
        calls.iter().any(|call| *call >= from || clue.return_of(*call).is_none_or(|answer| answer >= from))
    }

    fn is_ordered(&self, calls: &[u32]) -> bool {
        let clue = Clue(self.history);
        let takes_locks =
            |op: &Op<Span>| !op.is_transaction_control() && !matches!(op, Op::Effect { .. } | Op::Resolve { .. });
        let mut held = calls.iter().filter_map(|call| clue.op(*call)).filter(takes_locks);
        match (held.next(), held.next(), held.next()) {
            (None, ..) => true,
            (Some(Op::Peek { .. } | Op::LockTable { .. }), ..) => false,
            (Some(_), None, _) | (Some(Op::Hold { .. }), Some(Op::Handoff { .. }), None) => true,
            _ => false,
        }
    }
}
