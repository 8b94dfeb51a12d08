//! What goes into the history: each record in the session in which it happens, under the transaction that is open there.

use super::Scheduler;
use crate::target::Target;
use tourbillon_models::history::{History, PlainOp};
use tourbillon_models::name::{Process, Xid};
use tourbillon_models::record::{Fault, Happening, Note, Record, Span};
use tourbillon_models::reply::Outcome;

/// The answers by which these had committed; in the order in which they are given, which is that of their commits.
pub(crate) fn ends_of(history: &History, lost: &[Xid]) -> Vec<Record> {
    let mut returns = history.records.iter().rev();
    let end_of = |xid: &Xid| {
        let is_end = |record: &&Record| record.xid == *xid && matches!(record.what, Happening::Return(_));
        *returns.find(is_end).expect("who has committed was answered")
    };
    let mut ends: Vec<_> = lost.iter().rev().map(end_of).collect();
    ends.reverse();
    ends
}

impl<T: Target> Scheduler<'_, T> {
    pub(super) fn note_fault(&mut self, index: usize, fault: Fault) {
        self.record(index, Happening::Fault(fault));
    }

    /// A note for each, in the session in which it had committed. They come in the order of their commits, and of their
    /// replies.
    pub(super) fn note_lost(&mut self, lost: &[Xid]) {
        self.summary.lost_commits += lost.len() as u64;
        let what = Happening::Note(Note::Resolved { outcome: Outcome::Aborted });
        let ends = ends_of(self.history, lost);
        ends.into_iter().for_each(|end| self.history.push(Record { at: self.now, what, ..end }));
    }

    pub(super) fn record_call(&mut self, index: usize, op: &PlainOp) {
        let kept = self.history.keep_op(op);
        self.record(index, Happening::Call(kept));
    }

    /// A record of the process's session, under its open transaction.
    pub(super) fn record(&mut self, index: usize, what: Happening<Span, Span, Span, Span>) {
        let open = self.processes[index].connection.filter(|(slot, _)| self.target.engine().is_in_transaction(*slot));
        let xid = open.map_or(Xid(0), |(slot, _)| self.target.xid(slot));
        self.record_with(index, xid, what);
    }

    pub(super) fn record_with(&mut self, index: usize, xid: Xid, what: Happening<Span, Span, Span, Span>) {
        let process = &self.processes[index];
        let session = process.connection.map_or(process.refused_session, |(_, session)| session);
        let (at, incarnation) = (self.now, process.incarnation);
        self.history.push(Record { at, process: Process(index as u8), incarnation, session, xid, what });
    }
}
