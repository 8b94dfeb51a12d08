//! A call from its beginning to its answer: the faults that fall at it, its waits, and who goes on when it ends.
//!
//! Whomever a call lets in has gone on before anything else happens. What it is not: the moment at which a process makes
//! its call, which the scheduler or a director chooses.

use super::faults::Blow;
use super::{Event, Scheduler};
use crate::plan::{LatencyDraw, Phase, PlannedEffect};
use crate::random::Stream;
use crate::target::Target;
use tourbillon_engine::engine::Environment;
use tourbillon_engine::store::executor::Progress;
use tourbillon_engine::store::locks::Slot;
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::{Session, Xid};
use tourbillon_models::op::Op;
use tourbillon_models::record::{Fault, Happening, Note};
use tourbillon_models::reply::{Outcome, Reply};

impl<T: Target> Scheduler<'_, T> {
    /// Faults that fall before a call are met here.
    pub(super) fn begin_call(&mut self, index: usize, op: &PlainOp) -> Result<(), T::Stop> {
        match self.processes[index].due_point(op, self.now) {
            None => self.make_call(index, op),
            Some((Phase::After, blow)) => {
                self.processes[index].after = Some(blow);
                self.make_call(index, op)
            }
            Some((Phase::Before, Blow { effect: PlannedEffect::LostReply, cause })) => {
                self.came_about(cause);
                self.lose_call(index, op)
            }
            Some((Phase::Before, blow @ Blow { effect: PlannedEffect::Crash { .. }, .. })) => self.strike(index, blow),
            // None is due before its call waits.
            Some((Phase::Before | Phase::Waiting, blow)) => {
                self.processes[index].held = Some(op.clone());
                self.wake(index, self.now);
                self.strike(index, blow)
            }
        }
    }

    pub(super) fn make_call(&mut self, index: usize, op: &PlainOp) -> Result<(), T::Stop> {
        if self.processes[index].lost || self.server_up_at > self.now {
            self.sessions += 1;
            self.processes[index].lost = false;
            self.processes[index].refused_session = Session(self.sessions);
            self.record_call(index, op);
            self.answer_unknown(index, Some(Outcome::Aborted));
            return Ok(());
        }
        let slot = self.connect(index)?;
        self.summary.calls += 1;
        let needs_token = matches!(op, Op::Claim { .. } | Op::TakeOver { .. });
        let stream = if self.directed.is_some() { index } else { 0 };
        let random = if needs_token { self.tokens[stream].bits() } else { 0 };
        let environment = Environment { now: self.server_clock.at(self.now), random };
        self.record_call(index, op);
        if let Op::Start { key, .. } = op {
            self.processes[index].starting = Some(*key);
        }
        match self.target.call(slot, op, environment, &mut self.processes[index].answered.reply)? {
            Progress::Returned => self.end_call(index)?,
            Progress::Blocked => {
                self.block(index);
                self.let_in()?;
                let blow = self.processes[index].due_wait(op, self.now);
                // To wait may itself have let it in.
                return match blow.filter(|_| self.processes[index].blocked) {
                    Some(blow) => self.strike(index, blow),
                    None => Ok(()),
                };
            }
        }
        self.let_in()
    }

    /// The server never sees it.
    pub(super) fn lose_call(&mut self, index: usize, op: &PlainOp) -> Result<(), T::Stop> {
        self.connect(index)?;
        self.record_call(index, op);
        self.note_fault(index, Fault::LostReply);
        self.answer_unknown(index, Some(Outcome::Aborted));
        self.hang_up(index)
    }

    fn block(&mut self, index: usize) {
        self.summary.blocked += 1;
        self.processes[index].blocked = true;
        self.record(index, Happening::Blocked);
        self.watch_deadline(index);
    }

    /// A wait begins. It is measured in the time that passes: who sets the server's clock moves no timeout.
    fn watch_deadline(&mut self, index: usize) {
        let Some((slot, _)) = self.processes[index].connection else { return };
        let deadline = self.target.engine().may_wait(slot).map(|limit| self.now + limit);
        self.processes[index].lock_deadline = deadline;
        if let Some(deadline) = deadline {
            let ticket = self.processes[index].ticket;
            self.agenda.push(deadline, Event::LockTimeout { process: index as u8, ticket });
        }
    }

    pub(super) fn lock_timeout(&mut self, index: usize, ticket: u32) -> Result<(), T::Stop> {
        let process = &self.processes[index];
        let Some((slot, _)) = process.connection else { return Ok(()) };
        let is_over = process.lock_deadline.is_some_and(|deadline| deadline <= self.now);
        let may_wait = self.target.engine().may_wait(slot).is_some();
        if process.blocked && process.ticket == ticket && is_over && may_wait {
            self.target.time_out(slot, self.server_clock.at(self.now))?;
            self.let_in()?;
        }
        Ok(())
    }

    /// Everyone whose wait is over goes on before anything else happens.
    pub(super) fn let_in(&mut self) -> Result<(), T::Stop> {
        while self.target.engine().anyone_released() {
            let released = self.target.engine().released();
            let mut chosen = 0;
            if released.len() > 1 {
                chosen = self.target.pick(&released)?;
                self.summary.choices.push(chosen as u8);
                if self.directed.is_some() {
                    self.picks.push((chosen as u8, released.len() as u8));
                }
            }
            let slot = released[chosen];
            let index = self.process_at(slot);
            if released.len() > 1 {
                self.record(index, Happening::Choice { among: released.len() as u8 });
            }
            match self.go_on(index, slot)? {
                Progress::Returned => {
                    self.processes[index].blocked = false;
                    self.end_call(index)?;
                }
                Progress::Blocked => self.watch_deadline(index),
            }
        }
        Ok(())
    }

    /// A call that only let others into a row's queue goes on at once: a real server cannot be stopped in between.
    fn go_on(&mut self, index: usize, slot: Slot) -> Result<Progress, T::Stop> {
        let reply = &mut self.processes[index].answered.reply;
        loop {
            let progress = self.target.resume(slot, self.server_clock.at(self.now), reply)?;
            if progress != Progress::Blocked || !self.target.engine().released().contains(&slot) {
                return Ok(progress);
            }
        }
    }

    /// The server has answered; the process hears of it after a while, unless a fault falls here.
    fn end_call(&mut self, index: usize) -> Result<(), T::Stop> {
        let xid = self.xid(index);
        self.spread_word(index);
        let kept = self.history.keep_reply(&self.processes[index].answered.reply);
        self.record_with(index, xid, Happening::Return(kept));
        match self.processes[index].after.take() {
            None => self.answer(index, xid),
            Some(Blow { effect: PlannedEffect::LostReply, cause }) => {
                self.came_about(cause);
                self.note_fault(index, Fault::LostReply);
                self.hang_up(index)?;
                self.answer_unknown(index, None);
            }
            Some(blow @ Blow { effect: PlannedEffect::Crash { .. }, .. }) => self.strike(index, blow)?,
            Some(blow) => {
                self.answer(index, xid);
                self.strike(index, blow)?;
            }
        }
        Ok(())
    }

    /// What somebody has started, even if nobody knows yet whether it stays, is known to all who listen.
    fn spread_word(&mut self, index: usize) {
        let Some(key) = self.processes[index].starting.take() else { return };
        let Reply::Started { workflow, .. } = self.processes[index].answered.reply else { return };
        for (process, plan) in self.processes.iter_mut().zip(&self.plan.processes) {
            if plan.hears_of == Some(key) {
                process.actor.hear_of(workflow);
            }
        }
    }

    fn answer(&mut self, index: usize, xid: Xid) {
        self.processes[index].answered.xid = xid;
        self.processes[index].is_answered = true;
        match &mut self.directed {
            None => self.wake_after_latency(index),
            Some(directed) => directed.heard |= 1 << index,
        }
    }

    fn wake_after_latency(&mut self, index: usize) {
        let (low, high) = self.plan.latency;
        if self.plan.latency_draw == LatencyDraw::ByTime {
            let address = self.now.0 << 8 | index as u64;
            self.processes[index].latency = Stream::new(self.plan.seed, "latency-at", address);
        }
        let at = self.now.max(self.server_up_at) + self.processes[index].latency.moment(low, high);
        self.wake(index, at);
    }

    /// The process learns that it will not learn more. `outcome` is told for a call that the history has no answer to.
    pub(super) fn answer_unknown(&mut self, index: usize, outcome: Option<Outcome>) {
        if let Some(outcome) = outcome {
            self.record(index, Happening::Return(Reply::Unknown));
            self.record(index, Happening::Note(Note::Resolved { outcome }));
        }
        self.processes[index].answered.reply = Reply::Unknown;
        self.answer(index, Xid(0));
    }
}
