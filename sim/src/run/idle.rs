//! A process that stands still, and the session that it leaves idle.
//!
//! A worker that holds its window has told the server how long its transaction may be idle (`hold` in `sql/worker.sql`).
//! On the server that is a minute; here it is the fault's to say. What it is not: an end of the process, which wakes up
//! and finds its connection gone.

use super::faults::Cause;
use super::{Event, Scheduler};
use crate::target::Target;
use tourbillon_models::name::{Micros, Session};
use tourbillon_models::record::Fault;

impl<T: Target> Scheduler<'_, T> {
    pub(super) fn pause(&mut self, index: usize, duration: Micros) {
        let until = self.now + duration;
        self.note_fault(index, Fault::Pause { until });
        self.processes[index].paused_until = until;
        if self.directed.is_some() && (self.processes[index].pending.is_some() || self.processes[index].held.is_some())
        {
            self.wake(index, until);
        }
    }

    pub(super) fn stand_idle(&mut self, index: usize, idle: Micros, duration: Micros, cause: Cause) {
        self.pause(index, duration);
        if let Some((_, session)) = self.processes[index].connection {
            self.agenda.push(self.now + idle, Event::IdleTimeout { process: index as u8, session, cause });
        }
    }

    /// Only a session that has stood idle since, in a transaction that holds its window; and only while there are faults.
    pub(super) fn idle_timeout(&mut self, index: usize, session: Session, cause: Cause) -> Result<(), T::Stop> {
        let process = &self.processes[index];
        let Some((slot, current)) = process.connection else { return Ok(()) };
        let is_idle = current == session && !process.blocked && process.paused_until > self.now;
        if !is_idle || self.now >= self.plan.faults_end || !self.target.engine().ends_when_idle(slot) {
            return Ok(());
        }
        self.note_fault(index, Fault::SessionEnd);
        self.came_about(cause);
        self.hang_up(index)?;
        self.processes[index].lost = true;
        Ok(())
    }
}
