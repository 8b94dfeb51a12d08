//! The faults that fall: at their time, at their point, and what each does to the processes and the server.
//!
//! What it is not: which fault falls before a call or after it; a call meets those on its way.

use super::process::Point;
use super::{Event, Scheduler};
use crate::faults::FaultKind;
use crate::plan::{Phase, PlannedEffect, PlannedFault, When};
use crate::target::Target;
use tourbillon_models::name::Micros;
use tourbillon_models::record::{ClockOffset, Fault, Happening, Note};
use tourbillon_models::reply::{Outcome, Reply};

/// A planned fault as it falls.
#[derive(Clone, Copy)]
pub(crate) struct Blow {
    pub(crate) effect: PlannedEffect,
    pub(crate) cause: Cause,
}

/// What a fault was drawn as, if it was, and on which side of a call it falls, if at one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Cause {
    pub(crate) kind: Option<FaultKind>,
    pub(crate) phase: Option<Phase>,
}

/// The fault as it falls at a point of its process, if it is placed at one.
pub(crate) fn point(fault: &PlannedFault) -> Option<Point> {
    let When::Point { call, nth, phase, from, .. } = fault.when else { return None };
    let cause = Cause { kind: fault.kind, phase: Some(phase) };
    Some(Point { call, left: nth, from, phase, blow: Blow { effect: fault.what, cause } })
}

impl<'a, T: Target> Scheduler<'a, T> {
    pub(super) fn place_faults(&mut self) {
        let plan = self.plan;
        for (index, fault) in plan.faults.iter().enumerate() {
            match fault.when {
                When::Time { at, .. } => self.agenda.push(at, Event::Fault { index: index as u16 }),
                When::Point { process, .. } => self.processes[process.0 as usize].points.extend(point(fault)),
            }
        }
    }

    /// A fault that was drawn has come about.
    pub(super) fn came_about(&mut self, Cause { kind, phase }: Cause) {
        self.summary.faults.extend(kind.map(|kind| (kind, phase)));
    }

    /// Whether it does anything: the process may have finished, the server may lie there already.
    fn has_effect(&self, index: usize, effect: PlannedEffect) -> bool {
        match effect {
            PlannedEffect::Crash { .. } | PlannedEffect::Pause { .. } => !self.processes[index].finished,
            PlannedEffect::LostReply => true,
            PlannedEffect::ServerCrash { .. } | PlannedEffect::Flush => self.server_up_at <= self.now,
            PlannedEffect::ServerClockStep(offset) => offset != ClockOffset::NONE && offset != self.server_clock,
            // That is seen when the session ends.
            PlannedEffect::IdleTimeout { .. } => false,
            PlannedEffect::Network(_) => false,
        }
    }

    pub(super) fn strike(&mut self, index: usize, Blow { effect, cause }: Blow) -> Result<(), T::Stop> {
        if self.has_effect(index, effect) {
            self.came_about(cause);
        }
        match effect {
            PlannedEffect::Crash { restart_after } => self.crash(index, restart_after),
            PlannedEffect::Pause { duration } => {
                self.pause(index, duration);
                Ok(())
            }
            PlannedEffect::IdleTimeout { idle, duration } => {
                self.stand_idle(index, idle, duration, cause);
                Ok(())
            }
            PlannedEffect::LostReply | PlannedEffect::Network(_) => Ok(()),
            PlannedEffect::Flush if self.server_up_at > self.now => Ok(()),
            PlannedEffect::Flush => {
                self.target.flush()?;
                self.note_fault(index, Fault::LogFlush);
                Ok(())
            }
            PlannedEffect::ServerCrash { down_for } => self.server_crash(index, down_for),
            PlannedEffect::ServerClockStep(offset) => {
                self.set_server_clock(index, offset);
                Ok(())
            }
        }
    }

    pub(super) fn set_server_clock(&mut self, index: usize, offset: ClockOffset) {
        if self.server_clock != offset {
            self.server_clock = offset;
            self.note_fault(index, Fault::ClockStep(offset));
        }
    }

    pub(super) fn crash(&mut self, index: usize, restart_after: Micros) -> Result<(), T::Stop> {
        if self.processes[index].finished {
            return Ok(());
        }
        self.note_fault(index, Fault::Crash);
        self.hang_up(index)?;
        let now = self.now;
        let process = &mut self.processes[index];
        // A program that kills its process may do so often; who has died 255 times is told apart no further.
        process.incarnation = process.incarnation.saturating_add(1);
        process.lost = false;
        process.is_answered = false;
        process.held = None;
        process.pending = None;
        process.paused_until = Micros(0);
        process.actor.restart(process.clock.at(now + restart_after));
        self.wake(index, now + restart_after);
        Ok(())
    }

    fn server_crash(&mut self, index: usize, down_for: Micros) -> Result<(), T::Stop> {
        if self.server_up_at > self.now {
            return Ok(());
        }
        self.note_fault(index, Fault::ServerCrash);
        self.summary.server_crashes += 1;
        self.server_up_at = self.now + down_for;
        let open: Vec<_> = (0..self.processes.len()).map(|index| (self.xid(index), self.is_open(index))).collect();
        let lost = self.target.crash()?;
        for (index, (xid, open)) in open.into_iter().enumerate() {
            if self.processes[index].blocked {
                self.processes[index].blocked = false;
                self.record_with(index, xid, Happening::Return(Reply::Unknown));
                self.answer_unknown(index, None);
            } else if self.processes[index].connection.is_some() {
                self.processes[index].lost = true;
            }
            if open {
                let aborted = Note::Resolved { outcome: Outcome::Aborted };
                self.record_with(index, xid, Happening::Note(aborted));
            }
            self.processes[index].after = None;
            self.processes[index].connection = None;
        }
        self.note_lost(&lost);
        self.agenda.push(self.server_up_at, Event::ServerUp);
        Ok(())
    }
}
