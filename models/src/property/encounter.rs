//! Goals about encounters: of workers that were taken for dead with those who did so, of rotations with snapshots. Nothing here
//! judges.

use super::Reach;
use super::checker::{Done, Pass};
use super::clue::{Clue, holder};
use super::lease::Phase;
use super::place::{Blow, Place};
use super::reach::struck;
use super::transactions::NONE;
use crate::name::{Micros, WorkerId};
use crate::op::Op;
use crate::record::{Happening, Span};

impl Pass<'_> {
    /// A window is taken over: where its holder stands.
    pub(super) fn see_takeover(&mut self, done: Done, victim: WorkerId) {
        let Some(known) = self.memory.workers.get(victim.0).filter(|known| known.phase == Phase::Open) else { return };
        let (claimed, isolated) = (known.claimed, known.isolated);
        if isolated {
            self.found.sees(Reach::IsolatedTakeover);
        }
        let Some(process) = self.history.records.get(claimed as usize).map(|record| record.process) else { return };
        match self.memory.worker_of_process[process.0 as usize] == victim.0 {
            true => self.befalls(done.record(), Blow::Takeover, process),
            // It has died, and works under another identity.
            false => struck(Blow::Takeover, Place::CutOff).into_iter().for_each(|goal| self.found.sees(goal)),
        }
    }

    /// A call under a token that is no longer good: taken over, or finished by a handoff whose commit nobody heard of.
    pub(super) fn see_stale(&mut self, op: &Op<Span>) {
        let Some((worker, token)) = holder(*op) else { return };
        let Some(known) = self.memory.workers.get(worker.0).filter(|known| known.token == token) else { return };
        let goal = match (known.phase, op) {
            (Phase::Stolen(_), Op::Hold { .. }) => Reach::ZombieHoldRefused,
            (Phase::Stolen(_), Op::Handoff { .. }) => Reach::ZombieHandoffRefused,
            (Phase::Stolen(_), Op::Heartbeat { .. }) => Reach::ZombieHeartbeatRefused,
            (Phase::Stolen(_), Op::Read { .. }) => Reach::ZombieReadRefused,
            (Phase::Stolen(_), Op::ReadResults { .. }) => Reach::ZombieResultsRefused,
            (Phase::Stolen(_), Op::HandOut { .. }) => Reach::ZombieHandOutRefused,
            (Phase::Finished, Op::Hold { .. } | Op::Handoff { .. }) => Reach::RepetitionRefused,
            _ => return,
        };
        self.found.sees(goal);
    }

    /// A worker hands off what it has held for longer than the dead interval: whether anyone asked for windows in that time.
    pub(super) fn see_late_handoff(&mut self, done: Done, heartbeat: Micros, heartbeat_record: u32) {
        self.found.sees(Reach::HandoffAfterDeadInterval);
        if heartbeat_record == NONE || heartbeat_record >= done.commit {
            return;
        }
        let (records, clock) = (&self.history.records, &self.memory.server_clock);
        let own = records[done.commit as usize].process;
        let asks = (heartbeat_record..done.commit).rev().any(|index| {
            let record = &records[index as usize];
            let is_claim = matches!(record.what, Happening::Call(Op::Claim { .. } | Op::TakeOver { .. }));
            is_claim
                && record.process != own
                && clock.at(self.history, index) - heartbeat >= self.history.header.dead_interval
        });
        if asks {
            self.found.sees(Reach::TakeoverTriedWhileHeld);
        }
    }

    /// A rotation was done: whether another transaction had a snapshot from before.
    pub(super) fn see_rotation(&mut self, done: Done) {
        let clue = Clue(self.history);
        let own = clue.record(done.call).map(|record| record.session);
        let has_looked = |begun: u32, session| {
            let between = self.history.records[begun as usize..done.call as usize].iter();
            between.filter(|record| record.session == session && matches!(record.what, Happening::Return(_))).count()
                > 1
        };
        let is_under = self.memory.used_sessions.iter().any(|session| {
            let begun = self.memory.sessions[session.0 as usize].snapshot_since();
            Some(*session) != own && begun.is_some_and(|begun| begun < done.call && has_looked(begun, *session))
        });
        if is_under {
            self.found.sees(Reach::RotationUnderSnapshot);
        }
    }
}
