//! A run that somebody directs: calls take no time, and between two turns he says what happens next.
//!
//! A process is polled as soon as it has heard its answer, so that everybody knows which call it will make; what it does on
//! the way there concerns nobody else. The rest (faults at their points, waits, wake-ups, appointments) is as in any run.
//! What it is not: a choice. See [`Director`].

use super::faults::{Blow, Cause};
use super::{Event, SHORTEST_DEATH, Scheduler};
use crate::agenda::Next;
use crate::order::{Order, Turn};
use crate::plan::{End, PlannedEffect};
use crate::target::Target;
use tourbillon_engine::actors::Action;
use tourbillon_engine::engine::Engine;
use tourbillon_models::name::Micros;
use tourbillon_models::record::Happening;

/// Who says what happens next.
pub trait Director {
    /// None ends the run where it stands. A turn that is not possible is passed over.
    fn next(&mut self, stage: &Stage<'_>) -> Option<Turn>;

    /// A turn was taken. `picks` are the open choices that came with it, and among how many.
    fn took(&mut self, turn: Turn, engine: &Engine, picks: &[(u8, u8)]) {
        let _ = (turn, engine, picks);
    }
}

/// What a director sees. Processes are bits.
pub struct Stage<'a> {
    pub now: Micros,
    /// Those that have a call to make, and nothing to wait for.
    pub ready: u64,
    /// Those that wait in a call.
    pub blocked: u64,
    /// Those with a transaction open.
    pub inside: u64,
    /// Those that have not come to their end.
    pub alive: u64,
    pub is_server_up: bool,
    pub are_faults_over: bool,
    /// To when time would pass.
    pub next_at: Option<Micros>,
    pub engine: &'a Engine,
}

fn has(processes: u64, process: u8) -> bool {
    processes.checked_shr(process.into()).unwrap_or(0) & 1 != 0
}

impl Stage<'_> {
    pub fn is_ready(&self, process: u8) -> bool {
        has(self.ready, process)
    }

    pub fn is_possible(&self, turn: Turn) -> bool {
        match turn {
            Turn::Step(process) => self.is_ready(process),
            Turn::LoseCall(process) | Turn::LoseReply(process) => self.is_ready(process) && !self.are_faults_over,
            Turn::Crash(process) => has(self.alive, process) && !self.are_faults_over,
            Turn::ServerCrash => self.is_server_up && !self.are_faults_over,
            Turn::Pass => true,
        }
    }

    /// What happens if nobody chooses.
    pub fn usual(&self) -> Turn {
        match self.ready {
            0 => Turn::Pass,
            ready => Turn::Step(ready.trailing_zeros() as u8),
        }
    }
}

/// Whoever has made so many calls while no time passed is told to wait a little: calls do take time.
const CALLS_AT_ONCE: u32 = 100;
const PATIENCE: Micros = Micros::from_millis(1);

/// What a directed run remembers beside the rest.
pub(super) struct Directed {
    /// Processes that have been answered and were not polled since, as bits.
    pub(super) heard: u64,
    /// Calls since time last passed, by process.
    calls: Vec<u32>,
    grid: Micros,
    pub(super) restart_after: Micros,
    down_for: Micros,
    /// A run without anything left to do is over before the faults are: there are no more but those that are chosen.
    ends_early: bool,
}

impl Directed {
    /// None where time decides.
    pub(super) fn of(order: &Order, process_count: usize, dead_interval: Micros) -> Option<Directed> {
        let directed = |grid, restart_after, down_for, ends_early| {
            let calls = vec![0; process_count];
            Some(Directed { heard: 0, calls, grid, restart_after, down_for, ends_early })
        };
        match order {
            Order::Timed => None,
            Order::Chosen(chosen) => directed(Micros(1), chosen.restart_after, chosen.down_for, true),
            Order::Priorities(priorities) => {
                directed(Micros(priorities.grid.0.max(1)), dead_interval, SHORTEST_DEATH, false)
            }
        }
    }
}

impl<T: Target> Scheduler<'_, T> {
    pub(super) fn run_directed(&mut self, director: &mut dyn Director) -> Result<(), T::Stop> {
        let last = self.last();
        let mut is_over = self.pass(last)?;
        let mut choices = 0;
        while !is_over && !self.is_at_end() {
            let Some(turn) = self.ask(director) else { break };
            let Some(turn) = turn else { continue };
            is_over = self.take_turn(turn, last)?;
            self.hear()?;
            director.took(turn, self.target.engine(), &self.picks[choices..]);
            choices = self.picks.len();
        }
        self.finish()
    }

    /// Inner none: what was said is not possible. Outer none: the run ends here.
    #[expect(clippy::option_option, reason = "two ways of not having a turn")]
    fn ask(&self, director: &mut dyn Director) -> Option<Option<Turn>> {
        let bits = |is: &dyn Fn(usize) -> bool| {
            (0..self.processes.len()).filter(|index| is(*index)).fold(0, |bits, index| bits | 1 << index)
        };
        let stage = Stage {
            now: self.now,
            ready: bits(&|index| self.is_ready(index)),
            blocked: bits(&|index| self.processes[index].blocked),
            inside: bits(&|index| self.is_open(index)),
            alive: bits(&|index| !self.processes[index].finished),
            is_server_up: self.server_up_at <= self.now,
            are_faults_over: self.now >= self.plan.faults_end,
            next_at: self.agenda.next_at(),
            engine: self.target.engine(),
        };
        let turn = director.next(&stage)?;
        Some(stage.is_possible(turn).then_some(turn))
    }

    fn is_ready(&self, index: usize) -> bool {
        let process = &self.processes[index];
        let has_call = process.held.is_some() || process.pending.is_some();
        has_call && !process.blocked && process.paused_until <= self.now
    }

    fn is_at_end(&self) -> bool {
        let is_still = |index| !self.is_ready(index) && !self.processes[index].blocked;
        self.directed().ends_early
            && self.plan.end == End::Drained
            && (0..self.processes.len()).all(is_still)
            && self.is_done()
    }

    fn directed(&self) -> &Directed {
        self.directed.as_ref().expect("somebody directs")
    }

    /// True if the run is over.
    fn take_turn(&mut self, turn: Turn, last: Micros) -> Result<bool, T::Stop> {
        let chosen = Cause { kind: None, phase: None };
        match turn {
            Turn::Pass => return self.pass(last),
            Turn::Step(process) => {
                let index = usize::from(process);
                self.directed.as_mut().expect("somebody directs").calls[index] += 1;
                match (self.processes[index].held.take(), self.processes[index].pending.take()) {
                    (Some(op), _) => self.make_call(index, &op)?,
                    (None, Some(op)) => self.begin_call(index, &op)?,
                    (None, None) => unreachable!("who is ready has a call to make"),
                }
            }
            Turn::Crash(process) => self.crash(usize::from(process), self.directed().restart_after)?,
            Turn::LoseCall(process) => {
                if let Some(op) = self.processes[usize::from(process)].pending.take() {
                    self.lose_call(usize::from(process), &op)?;
                }
            }
            Turn::LoseReply(process) => {
                if let Some(op) = self.processes[usize::from(process)].pending.take() {
                    let lost = Blow { effect: PlannedEffect::LostReply, cause: chosen };
                    self.processes[usize::from(process)].after = Some(lost);
                    self.make_call(usize::from(process), &op)?;
                }
            }
            Turn::ServerCrash => {
                let down_for = self.directed().down_for;
                self.strike(0, Blow { effect: PlannedEffect::ServerCrash { down_for }, cause: chosen })?;
            }
        }
        Ok(false)
    }

    /// Time passes to the next appointment, and whoever has one then keeps it. True if the run is over.
    fn pass(&mut self, last: Micros) -> Result<bool, T::Stop> {
        let Some(at) = self.agenda.next_at().filter(|at| *at <= last) else { return Ok(true) };
        self.now = at;
        self.directed.as_mut().expect("somebody directs").calls.fill(0);
        while self.agenda.next_at() == Some(at) {
            match self.agenda.pop() {
                Some((_, Next::Turn(process))) => self.rouse(process)?,
                Some((_, Next::Event(Event::Look))) | None => {}
                Some((_, Next::Event(event))) => {
                    if self.handle(event)? {
                        return Ok(true);
                    }
                }
            }
        }
        self.hear()?;
        let is_drained_in_time = !self.directed().ends_early && self.plan.end == End::Drained;
        Ok(is_drained_in_time && self.now > self.plan.faults_end && self.is_done())
    }

    /// Those who have been answered hear of it.
    fn hear(&mut self) -> Result<(), T::Stop> {
        while let heard @ 1.. = self.directed().heard {
            let index = heard.trailing_zeros() as usize;
            self.directed.as_mut().expect("somebody directs").heard &= !(1 << index);
            let is_hasty = self.directed().calls[index] >= CALLS_AT_ONCE;
            let patience = if is_hasty { self.now + PATIENCE } else { self.now };
            let at = patience.max(self.server_up_at).max(self.processes[index].paused_until);
            if at > self.now {
                self.wake(index, at);
            } else {
                self.rouse(index)?;
            }
        }
        Ok(())
    }

    /// It does what it does until it has a call to make, or sleeps.
    fn rouse(&mut self, index: usize) -> Result<(), T::Stop> {
        let process = &self.processes[index];
        if process.paused_until > self.now {
            let until = process.paused_until;
            self.wake(index, until);
            return Ok(());
        }
        if process.finished || process.blocked || process.held.is_some() || process.pending.is_some() {
            return Ok(());
        }
        let clock = process.clock;
        loop {
            let process = &mut self.processes[index];
            let answered = std::mem::take(&mut process.is_answered).then_some(&mut process.answered);
            match process.actor.poll(clock.at(self.now), answered) {
                Action::Note(note) => self.record(index, Happening::Note(note)),
                Action::Sleep(until) => {
                    let at = clock.when(until, self.now);
                    if at > self.now {
                        // A short sleep stays short: there may be many of them in a row.
                        let grid = self.directed().grid;
                        let is_long = at - self.now >= grid;
                        self.wake(index, if is_long { Micros(at.0.div_ceil(grid.0) * grid.0) } else { at });
                        return Ok(());
                    }
                }
                Action::Die => return self.crash(index, self.directed().restart_after),
                Action::Finished => {
                    self.processes[index].finished = true;
                    return self.hang_up(index);
                }
                Action::Call(op) => {
                    self.processes[index].pending = Some(op);
                    return Ok(());
                }
            }
        }
    }
}
