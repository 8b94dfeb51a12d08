//! What goes into the history: each record in the session in which it happens, under the transaction that is open there.

use super::world::World;
use tourbillon_models::name::{Process, Session, Xid};
use tourbillon_models::record::{Fault, Happening, Record, Span};

impl World {
    pub(super) fn note_fault(&mut self, index: usize, fault: Fault) {
        self.record(index, Happening::Fault(fault));
    }

    /// A record of a process, in the session in which it called last.
    pub(super) fn record(&mut self, index: usize, what: Happening<Span, Span, Span, Span>) {
        let session = self.shells[index].last_session;
        let is_last = |id: &usize| {
            let known = self.connections[*id].as_ref().and_then(|known| known.session);
            known.is_some_and(|(_, of)| of == session)
        };
        let open = self.shells[index].current.filter(is_last).filter(|id| self.is_in_transaction(*id));
        let xid = open.map_or(Xid(0), |id| self.xid(id));
        let incarnation = self.processes[index].incarnation;
        self.history.push(Record { at: self.now, process: Process(index as u8), incarnation, session, xid, what });
    }

    /// A record of a connection's session, under its open transaction.
    pub(super) fn record_of(&mut self, id: usize, what: Happening<Span, Span, Span, Span>) {
        let xid = if self.is_in_transaction(id) { self.xid(id) } else { Xid(0) };
        self.record_with(id, xid, what);
    }

    pub(super) fn record_with(&mut self, id: usize, xid: Xid, what: Happening<Span, Span, Span, Span>) {
        let now = self.now;
        let known = self.known(id);
        let session = known.session.map_or(Session(0), |(_, session)| session);
        let (process, incarnation) = (Process(known.process as u8), known.incarnation);
        self.history.push(Record { at: now, process, incarnation, session, xid, what });
    }
}
