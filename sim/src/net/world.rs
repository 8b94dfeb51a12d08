//! What a run over a network is made of beside the network itself: the server's sessions, the processes, the history.
//!
//! Everything is recorded where the server does it, at the time at which it does. Between two frames exactly one call is
//! made, and everyone whom it let in has gone on; so a history reads as one of the direct target does, with sessions
//! that outlive their connections. What it is *not*: a host. Hosts hold it in turn and are never preempted.

use crate::plan::{Phase, Plan, Role};
use crate::random::Stream;
use crate::run::Summary;
use crate::run::faults::{Blow, Cause};
use crate::run::process::{AnyActor, Running};
use crate::target::{Direct, Target};
use std::any::Any;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tourbillon_engine::actors::script::Script;
use tourbillon_engine::actors::worker::Worker;
use tourbillon_engine::store::locks::Slot;
use tourbillon_models::history::{History, PlainOp, PlainReply};
use tourbillon_models::name::{Key, Micros, Session, Xid};
use tourbillon_models::record::{ClockOffset, Fault, Happening};
use tourbillon_models::workload::Program;

pub(super) struct World {
    pub(super) plan: Rc<Plan>,
    pub(super) target: Direct,
    pub(super) history: History,
    pub(super) processes: Vec<Running>,
    pub(super) shells: Vec<Shell>,
    /// As the server sees them; none once their session has ended.
    pub(super) connections: Vec<Option<Connection>>,
    /// What hosts have asked for that befalls the server or the network.
    pub(super) asked: Vec<(usize, Blow)>,
    /// Sessions that may stand idle for too long: when to look.
    pub(super) idle: Vec<(Micros, Idle)>,
    pub(super) tokens: Stream,
    pub(super) deaths: Stream,
    pub(super) sessions: u16,
    pub(super) now: Micros,
    pub(super) server_clock: ClockOffset,
    pub(super) is_up: bool,
    pub(super) are_faults_over: bool,
    pub(super) summary: Summary,
    /// A task's panic, to be passed on.
    pub(super) panic: Option<Box<dyn Any + Send>>,
}

/// What a process has beside its actor.
pub(super) struct Shell {
    /// What befalls it next.
    pub(super) blows: VecDeque<Blow>,
    pub(super) wake: Rc<Notify>,
    /// In which its last call was made.
    pub(super) last_session: Session,
    /// The connection that the server has accepted last.
    pub(super) current: Option<usize>,
    /// Which one that is: of which life, and its number there.
    pub(super) greeted: (u8, u32),
    /// Its machine is down until then.
    pub(super) down_until: Micros,
}

#[derive(Clone, Copy)]
pub(super) struct Idle {
    process: usize,
    connection: usize,
    cause: Cause,
}

pub(super) struct Connection {
    pub(super) process: usize,
    pub(super) incarnation: u8,
    /// The process's own count.
    pub(super) number: u32,
    /// From the first call on.
    pub(super) session: Option<(Slot, Session)>,
    pub(super) starting: Option<Key>,
    pub(super) blocked: bool,
    pub(super) lock_deadline: Option<Micros>,
    pub(super) reply: PlainReply,
    /// What is to be sent.
    pub(super) outbox: Option<(PlainReply, Xid)>,
    /// How many of its calls have returned.
    pub(super) returned: u64,
    pub(super) wake: Rc<Notify>,
}

pub(super) fn sure<T>(result: Result<T, Infallible>) -> T {
    let Ok(value) = result;
    value
}

impl World {
    pub(super) fn new(plan: &Plan, program: Option<&Rc<dyn Program>>, target: Direct, history: History) -> World {
        let mut processes = Vec::with_capacity(plan.processes.len());
        for (index, process) in plan.processes.iter().enumerate() {
            let actor = match &process.role {
                Role::Worker(options) => AnyActor::Worker(Box::new(Worker::new(options.clone(), program.cloned()))),
                Role::Script(options) => AnyActor::Script(Script::new(options.clone())),
            };
            processes.push(Running::new(actor, Stream::new(plan.seed, "latency", index as u64), process.clock));
        }
        let shell = || Shell {
            blows: VecDeque::new(),
            wake: Rc::new(Notify::new()),
            last_session: Session(0),
            current: None,
            greeted: (0, 0),
            down_until: Micros(0),
        };
        let shells = processes.iter().map(|_| shell()).collect();
        World {
            plan: Rc::new(plan.clone()),
            target,
            history,
            processes,
            shells,
            connections: Vec::new(),
            asked: Vec::new(),
            idle: Vec::new(),
            tokens: Stream::new(plan.seed, "token", 0),
            deaths: Stream::new(plan.seed, "death", 0),
            sessions: 0,
            now: Micros(0),
            server_clock: ClockOffset::NONE,
            is_up: true,
            are_faults_over: false,
            summary: Summary::default(),
            panic: None,
        }
    }

    /// The time. Hosts take turns within a tick, so one may have come further than the next: it never goes back.
    pub(super) fn now(&mut self) -> Micros {
        let elapsed = turmoil::sim_elapsed().unwrap_or(Duration::ZERO);
        self.advance(Micros(elapsed.as_micros() as u64))
    }

    pub(super) fn advance(&mut self, to: Micros) -> Micros {
        self.now = self.now.max(to);
        self.now
    }

    pub(super) fn came_about(&mut self, Cause { kind, phase }: Cause) {
        self.summary.faults.extend(kind.map(|kind| (kind, phase)));
    }

    pub(super) fn strike(&mut self, process: usize, blow: Blow) {
        self.shells[process].blows.push_back(blow);
        self.shells[process].wake.notify_one();
    }

    /// It dies, and its session lives on until the server notices.
    pub(super) fn crash_process(&mut self, index: usize, restart_after: Micros) -> Micros {
        self.note_fault(index, Fault::CrashUnseen);
        let at = self.now + restart_after;
        let process = &mut self.processes[index];
        process.incarnation = process.incarnation.saturating_add(1);
        process.lost = false;
        process.is_answered = false;
        process.held = None;
        process.after = None;
        process.paused_until = Micros(0);
        process.actor.restart(process.clock.at(at));
        at
    }

    pub(super) fn pause(&mut self, index: usize, duration: Micros) {
        let until = self.now + duration;
        self.note_fault(index, Fault::Pause { until });
        self.processes[index].paused_until = until;
    }

    pub(super) fn watch_idle(&mut self, index: usize, idle: Micros, cause: Cause) {
        if let Some(connection) = self.shells[index].current {
            self.idle.push((self.now + idle, Idle { process: index, connection, cause }));
        }
    }

    /// Only a session that has stood idle since, in a transaction that holds its window; and only while there are faults.
    pub(super) fn idle_timeout(&mut self, Idle { process, connection, cause }: Idle) {
        let Some(known) = &self.connections[connection] else { return };
        let Some((slot, _)) = known.session else { return };
        let is_idle = !known.blocked && self.processes[process].paused_until > self.now;
        if is_idle && !self.are_faults_over && self.target.engine().ends_when_idle(slot) {
            self.record_of(connection, Happening::Fault(Fault::SessionEnd));
            self.came_about(cause);
            self.hang_up(connection);
        }
    }

    /// The process has given up its connection, on which it had made so many calls. If all were answered, what is lost is
    /// the last answer; otherwise the last call may still be made, and shows then.
    pub(super) fn gave_up(&mut self, index: usize, number: u32, sent: u64) {
        // Another life counts its connections from one again.
        let incarnation = self.processes[index].incarnation;
        let is_it =
            |known: &&Connection| (known.process, known.incarnation, known.number) == (index, incarnation, number);
        let Some(known) = self.connections.iter().rev().flatten().find(is_it) else { return };
        let is_last = known.session.is_some_and(|(_, session)| session == self.shells[index].last_session);
        if known.returned == sent && sent > 0 && is_last {
            self.note_fault(index, Fault::LostReply);
        }
    }

    /// The fault that falls at this call, if one does. What falls after it is kept until it is answered.
    pub(super) fn due_point(&mut self, index: usize, op: &PlainOp) -> Option<Blow> {
        let now = self.now;
        match self.processes[index].due_point(op, now)? {
            (Phase::After, blow) => {
                self.processes[index].after = Some(blow);
                None
            }
            (Phase::Before | Phase::Waiting, blow) => Some(blow),
        }
    }

    pub(super) fn end_faults(&mut self) {
        self.set_server_clock(0, ClockOffset::NONE);
        self.note_fault(0, Fault::End);
        self.are_faults_over = true;
        for (process, shell) in self.processes.iter_mut().zip(&mut self.shells) {
            process.points.clear();
            process.after = None;
            shell.blows.clear();
        }
    }

    pub(super) fn is_done(&self) -> bool {
        let scripts_done = self.processes.iter().zip(&self.plan.processes).all(|(process, plan)| {
            let once = matches!(&plan.role, Role::Script(options) if options.is_once());
            process.finished || !once
        });
        scripts_done && self.target.engine().is_drained()
    }
}
