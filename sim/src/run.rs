//! The scheduler: a plan and a target become a history.
//!
//! Virtual time, event-driven: idle time costs nothing. Everything that happens is recorded here and nowhere else.
//! Between two entries of the agenda exactly one call is made, and everyone whom it let in has gone on.

mod directed;
mod directors;
pub(crate) mod faults;
mod idle;
pub(crate) mod process;

pub use directed::{Director, Stage};

use crate::agenda::{Agenda, Next};
use crate::faults::FaultKind;
use crate::net::network::NetworkFault;
use crate::order::Order;
use crate::plan::{End, LatencyDraw, Phase, Plan, PlannedEffect, Role};
use crate::random::Stream;
use crate::target::Target;
use directed::Directed;
use directors::{Listed, Ranked};
use faults::{Blow, Cause};
use process::{AnyActor, Running};
use std::rc::Rc;
use tourbillon_engine::actors::Action;
use tourbillon_engine::actors::script::Script;
use tourbillon_engine::actors::worker::Worker;
use tourbillon_engine::engine::Environment;
use tourbillon_engine::store::executor::Progress;
use tourbillon_engine::store::locks::Slot;
use tourbillon_models::history::{History, PlainOp};
use tourbillon_models::name::{Micros, Process, Session, Xid};
use tourbillon_models::op::Op;
use tourbillon_models::record::{ClockOffset, Fault, Happening, Note, Record, Span};
use tourbillon_models::reply::{Outcome, Reply};
use tourbillon_models::workload::Program;

/// What a run says of itself beside its history.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    pub calls: u64,
    pub blocked: u64,
    /// The choices that were made, by index.
    pub choices: Vec<u8>,
    /// The drawn faults that came about, in their order; with a side of the call if they fell at one.
    pub faults: Vec<(FaultKind, Option<Phase>)>,
    pub server_crashes: u64,
    /// Acknowledged commits that crashes lost.
    pub lost_commits: u64,
    /// The network faults that came about, in their order.
    pub network_faults: Vec<NetworkFault>,
    pub ended_at: Micros,
}

/// Runs a plan. The history must be fresh; `program` is the workload's, none for a plain queue.
pub fn run<T: Target>(
    plan: &Plan,
    program: Option<Rc<dyn Program>>,
    target: &mut T,
    history: &mut History,
) -> Result<Summary, T::Stop> {
    let mut scheduler = Scheduler::new(plan, program, target, history);
    match &plan.order {
        Order::Timed => scheduler.run()?,
        Order::Chosen(chosen) => scheduler.run_directed(&mut Listed { turns: chosen.turns.0.iter() })?,
        Order::Priorities(priorities) => {
            scheduler.run_directed(&mut Ranked::new(*priorities, plan.seed, plan.processes.len()))?;
        }
    }
    Ok(scheduler.summary)
}

/// The same where somebody else directs: the plan's order must not be [`Order::Timed`], its turns do not count.
pub fn run_with<T: Target>(
    plan: &Plan,
    program: Option<Rc<dyn Program>>,
    target: &mut T,
    history: &mut History,
    director: &mut dyn Director,
) -> Result<Summary, T::Stop> {
    let mut scheduler = Scheduler::new(plan, program, target, history);
    scheduler.run_directed(director)?;
    Ok(scheduler.summary)
}

/// What happens beside the processes' own turns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Event {
    LockTimeout {
        process: u8,
        ticket: u32,
    },
    Fault {
        index: u16,
    },
    /// The session has been idle for so long that the server ends it.
    IdleTimeout {
        process: u8,
        session: Session,
        cause: Cause,
    },
    ServerUp,
    FaultsEnd,
    /// A look whether everything is done.
    Look,
}

/// How often one looks whether everything is done.
const LOOK_INTERVAL: Micros = Micros::from_millis(250);

/// Whoever dies of his own program comes back after so long at the earliest, at the latest after a dead interval.
const SHORTEST_DEATH: Micros = Micros::from_millis(10);

struct Scheduler<'a, T: Target> {
    plan: &'a Plan,
    target: &'a mut T,
    history: &'a mut History,
    processes: Vec<Running>,
    agenda: Agenda<Event>,
    /// One; or in a directed run one for each process, so that it does not matter who comes first.
    tokens: Vec<Stream>,
    /// How long the dead take to come back that died of their own program.
    deaths: Stream,
    sessions: u16,
    now: Micros,
    /// The server's wall clock, against `now`.
    server_clock: ClockOffset,
    server_up_at: Micros,
    summary: Summary,
    /// None where time decides.
    directed: Option<Directed>,
    /// In a directed run: the choices so far, each with among how many.
    picks: Vec<(u8, u8)>,
}

impl<'a, T: Target> Scheduler<'a, T> {
    fn new(plan: &'a Plan, program: Option<Rc<dyn Program>>, target: &'a mut T, history: &'a mut History) -> Self {
        let directed = Directed::of(&plan.order, plan.processes.len(), plan.dead_interval);
        let token_streams = if directed.is_some() { plan.processes.len() as u64 } else { 1 };
        let mut scheduler = Scheduler {
            plan,
            target,
            history,
            processes: Vec::with_capacity(plan.processes.len()),
            agenda: Agenda::new(plan.seed, plan.processes.len()),
            tokens: (0..token_streams).map(|index| Stream::new(plan.seed, "token", index)).collect(),
            deaths: Stream::new(plan.seed, "death", 0),
            sessions: 0,
            now: Micros(0),
            server_clock: ClockOffset::NONE,
            server_up_at: Micros(0),
            summary: Summary::default(),
            directed,
            picks: Vec::new(),
        };
        for (index, process) in plan.processes.iter().enumerate() {
            let actor = match &process.role {
                Role::Worker(options) => AnyActor::Worker(Box::new(Worker::new(options.clone(), program.clone()))),
                Role::Script(options) => AnyActor::Script(Script::new(options.clone())),
            };
            let latency = Stream::new(plan.seed, "latency", index as u64);
            scheduler.processes.push(Running::new(actor, latency, process.clock));
            scheduler.wake(index, Micros(0));
        }
        scheduler.place_faults();
        scheduler.agenda.push(plan.faults_end, Event::FaultsEnd);
        scheduler
    }

    /// The process's one appointment; an earlier one lapses.
    fn wake(&mut self, process: usize, at: Micros) {
        self.processes[process].ticket += 1;
        self.agenda.wake(process, at);
    }

    /// When the run ends, whatever is left.
    fn last(&self) -> Micros {
        match self.plan.end {
            // A little longer, so that the history's last record lies beyond the bound.
            End::Drained => self.plan.faults_end + self.plan.liveness_bound + Micros::from_secs(1),
            End::At(time) => time,
        }
    }

    fn run(&mut self) -> Result<(), T::Stop> {
        let last = self.last();
        while let Some((at, next)) = self.agenda.pop() {
            if at > last {
                break;
            }
            self.now = at;
            match next {
                Next::Turn(process) => self.step(process)?,
                Next::Event(event) if self.handle(event)? => break,
                Next::Event(_) => {}
            }
        }
        self.finish()
    }

    /// True if the run is over.
    fn handle(&mut self, event: Event) -> Result<bool, T::Stop> {
        match event {
            Event::LockTimeout { process, ticket } => self.lock_timeout(process as usize, ticket)?,
            Event::Fault { index } => {
                let fault = self.plan.faults[index as usize];
                let blow = Blow { effect: fault.what, cause: Cause { kind: fault.kind, phase: None } };
                self.strike(fault.when.process().0 as usize, blow)?;
            }
            Event::IdleTimeout { process, session, cause } => self.idle_timeout(process as usize, session, cause)?,
            Event::ServerUp => self.note_fault(0, Fault::ServerRestart),
            Event::FaultsEnd => {
                // A plan that somebody cut may have lost its last step.
                self.set_server_clock(0, ClockOffset::NONE);
                self.note_fault(0, Fault::End);
                for process in &mut self.processes {
                    process.points.clear();
                    // Of a call that is blocked.
                    process.after = None;
                }
                if self.plan.end == End::Drained {
                    self.agenda.push(self.now + LOOK_INTERVAL, Event::Look);
                }
            }
            Event::Look if self.is_done() => return Ok(true),
            Event::Look => self.agenda.push(self.now + LOOK_INTERVAL, Event::Look),
        }
        Ok(false)
    }

    fn is_done(&self) -> bool {
        let scripts_done = self.processes.iter().zip(&self.plan.processes).all(|(process, plan)| {
            let once = matches!(&plan.role, Role::Script(options) if options.is_once());
            process.finished || !once
        });
        scripts_done && self.target.engine().is_drained()
    }

    /// Whatever is still open is rolled back, and what is left is told.
    fn finish(&mut self) -> Result<(), T::Stop> {
        for index in 0..self.processes.len() {
            self.hang_up(index)?;
        }
        self.history.state = Some(self.target.state()?);
        self.summary.ended_at = self.now;
        Ok(())
    }

    /// One process's turn: it says what it does until it makes a call or sleeps.
    fn step(&mut self, index: usize) -> Result<(), T::Stop> {
        if self.processes[index].paused_until > self.now {
            let until = self.processes[index].paused_until;
            self.wake(index, until);
            return Ok(());
        }
        if let Some(op) = self.processes[index].held.take() {
            return self.make_call(index, &op);
        }
        let clock = self.processes[index].clock;
        loop {
            let process = &mut self.processes[index];
            let answered = std::mem::take(&mut process.is_answered).then_some(&mut process.answered);
            let action = process.actor.poll(clock.at(self.now), answered);
            match &action {
                Action::Note(note) => self.record(index, Happening::Note(*note)),
                Action::Sleep(until) => {
                    self.wake(index, clock.when(*until, self.now));
                    return Ok(());
                }
                Action::Die => {
                    let restart_after = self.deaths.span(SHORTEST_DEATH, self.plan.dead_interval);
                    return self.crash(index, restart_after);
                }
                Action::Finished => {
                    self.processes[index].finished = true;
                    return self.hang_up(index);
                }
                Action::Call(op) => return self.begin_call(index, op),
            }
        }
    }

    /// Faults that fall before a call are met here.
    fn begin_call(&mut self, index: usize, op: &PlainOp) -> Result<(), T::Stop> {
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

    fn make_call(&mut self, index: usize, op: &PlainOp) -> Result<(), T::Stop> {
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

    fn connect(&mut self, index: usize) -> Result<Slot, T::Stop> {
        if let Some((slot, _)) = self.processes[index].connection {
            return Ok(slot);
        }
        let slot = self.target.connect()?;
        self.sessions += 1;
        self.processes[index].connection = Some((slot, Session(self.sessions)));
        Ok(slot)
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

    fn lock_timeout(&mut self, index: usize, ticket: u32) -> Result<(), T::Stop> {
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
    fn let_in(&mut self) -> Result<(), T::Stop> {
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

    fn process_at(&self, slot: Slot) -> usize {
        let held = self.processes.iter().position(|process| process.connection.is_some_and(|(held, _)| held == slot));
        held.expect("a session belongs to a process")
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

    fn xid(&self, index: usize) -> Xid {
        self.processes[index].connection.map_or(Xid(0), |(slot, _)| self.target.xid(slot))
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
    fn answer_unknown(&mut self, index: usize, outcome: Option<Outcome>) {
        if let Some(outcome) = outcome {
            self.record(index, Happening::Return(Reply::Unknown));
            self.record(index, Happening::Note(Note::Resolved { outcome }));
        }
        self.processes[index].answered.reply = Reply::Unknown;
        self.answer(index, Xid(0));
    }

    /// The process's session ends, and with it what it had not committed.
    fn hang_up(&mut self, index: usize) -> Result<(), T::Stop> {
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

    fn note_fault(&mut self, index: usize, fault: Fault) {
        self.record(index, Happening::Fault(fault));
    }

    fn record_call(&mut self, index: usize, op: &PlainOp) {
        let kept = self.history.keep_op(op);
        self.record(index, Happening::Call(kept));
    }

    /// A record of the process's session, under its open transaction.
    fn record(&mut self, index: usize, what: Happening<Span, Span, Span, Span>) {
        let open = self.processes[index].connection.filter(|(slot, _)| self.target.engine().is_in_transaction(*slot));
        let xid = open.map_or(Xid(0), |(slot, _)| self.target.xid(slot));
        self.record_with(index, xid, what);
    }

    fn record_with(&mut self, index: usize, xid: Xid, what: Happening<Span, Span, Span, Span>) {
        let process = &self.processes[index];
        let session = process.connection.map_or(process.refused_session, |(_, session)| session);
        let (at, incarnation) = (self.now, process.incarnation);
        self.history.push(Record { at, process: Process(index as u8), incarnation, session, xid, what });
    }
}

#[cfg(test)]
mod tests;
