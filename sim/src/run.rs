//! The scheduler: a plan and a target become a history.
//!
//! Virtual time, event-driven: idle time costs nothing. Everything that happens is recorded by it, in `records`, and nowhere else.
//! Between two entries of the agenda exactly one call is made, and everyone whom it let in has gone on.

mod calls;
mod directed;
mod directors;
pub(crate) mod faults;
mod idle;
pub(crate) mod process;
pub(crate) mod records;
mod session;

pub use directed::{Director, Stage};

use crate::agenda::{Agenda, Next};
use crate::faults::FaultKind;
use crate::net::network::NetworkFault;
use crate::order::Order;
use crate::plan::{End, Phase, Plan, Role};
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
use tourbillon_models::history::History;
use tourbillon_models::name::{Micros, Session};
use tourbillon_models::record::{ClockOffset, Fault, Happening};
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
}

#[cfg(test)]
mod tests;
