//! The processes' sessions: which slot of the target is whose, and what ends with it.

use super::Scheduler;
use crate::target::Target;
use tourbillon_engine::store::locks::Slot;
use tourbillon_models::name::{Session, Xid};
use tourbillon_models::record::{Happening, Note};
use tourbillon_models::reply::Outcome;

impl<T: Target> Scheduler<'_, T> {
    pub(super) fn connect(&mut self, index: usize) -> Result<Slot, T::Stop> {
        if let Some((slot, _)) = self.processes[index].connection {
            return Ok(slot);
        }
        let slot = self.target.connect()?;
        self.sessions += 1;
        self.processes[index].connection = Some((slot, Session(self.sessions)));
        Ok(slot)
    }

    /// The process's session ends, and with it what it had not committed.
    pub(super) fn hang_up(&mut self, index: usize) -> Result<(), T::Stop> {
        let Some((slot, _)) = self.processes[index].connection else { return Ok(()) };
        let xid = self.xid(index);
        let open = self.target.engine().is_in_transaction(slot);
        self.target.disconnect(slot, self.server_clock.at(self.now))?;
        self.processes[index].blocked = false;
        self.processes[index].after = None;
        if open {
            let aborted = Note::Resolved { outcome: Outcome::Aborted };
            self.record_with(index, xid, Happening::Note(aborted));
        }
        self.processes[index].connection = None;
        self.let_in()
    }

    pub(super) fn xid(&self, index: usize) -> Xid {
        self.processes[index].connection.map_or(Xid(0), |(slot, _)| self.target.xid(slot))
    }

    pub(super) fn is_open(&self, index: usize) -> bool {
        self.processes[index].connection.is_some_and(|(slot, _)| self.target.engine().is_in_transaction(slot))
    }

    pub(super) fn process_at(&self, slot: Slot) -> usize {
        let held = self.processes.iter().position(|process| process.connection.is_some_and(|(held, _)| held == slot));
        held.expect("a session belongs to a process")
    }
}
