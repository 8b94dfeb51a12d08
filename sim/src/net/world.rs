//! What a run over a network is made of beside the network itself: the server's sessions, the processes, the history.
//!
//! Everything is recorded where the server does it, at the time at which it does. Between two frames exactly one call is
//! made, and everyone whom it let in has gone on; so a history reads as one of the direct target does, with sessions
//! that outlive their connections. What it is *not*: a host. Hosts hold it in turn and are never preempted.

use crate::plan::{Phase, Plan, PlannedEffect, Role};
use crate::random::Stream;
use crate::run::Summary;
use crate::run::faults::{Blow, Cause};
use crate::run::process::{AnyActor, Running};
use crate::run::records::ends_of;
use crate::target::{Direct, Target};
use std::any::Any;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tourbillon_engine::actors::script::Script;
use tourbillon_engine::actors::worker::Worker;
use tourbillon_engine::engine::Environment;
use tourbillon_engine::store::executor::Progress;
use tourbillon_engine::store::locks::{SESSIONS, Slot};
use tourbillon_models::history::{History, PlainOp, PlainReply};
use tourbillon_models::name::{Key, Micros, Process, Session, Xid};
use tourbillon_models::op::Op;
use tourbillon_models::record::{ClockOffset, Fault, Happening, Note, Record, Span};
use tourbillon_models::reply::{Outcome, Reply};
use tourbillon_models::workload::Program;

pub(super) struct World {
    pub(super) plan: Rc<Plan>,
    pub(super) target: Direct,
    pub(super) history: History,
    pub(super) processes: Vec<Running>,
    pub(super) shells: Vec<Shell>,
    /// As the server sees them; none once their session has ended.
    connections: Vec<Option<Connection>>,
    /// What hosts have asked for that befalls the server or the network.
    pub(super) asked: Vec<(usize, Blow)>,
    /// Sessions that may stand idle for too long: when to look.
    pub(super) idle: Vec<(Micros, Idle)>,
    tokens: Stream,
    pub(super) deaths: Stream,
    sessions: u16,
    now: Micros,
    server_clock: ClockOffset,
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
    last_session: Session,
    /// The connection that the server has accepted last.
    current: Option<usize>,
    /// Its machine is down until then.
    pub(super) down_until: Micros,
}

#[derive(Clone, Copy)]
pub(super) struct Idle {
    process: usize,
    connection: usize,
    cause: Cause,
}

struct Connection {
    process: usize,
    incarnation: u8,
    /// The process's own count.
    number: u32,
    /// From the first call on.
    session: Option<(Slot, Session)>,
    starting: Option<Key>,
    blocked: bool,
    lock_deadline: Option<Micros>,
    reply: PlainReply,
    /// What is to be sent.
    outbox: Option<(PlainReply, Xid)>,
    /// How many of its calls have returned.
    returned: u64,
    wake: Rc<Notify>,
}

fn sure<T>(result: Result<T, Infallible>) -> T {
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

    // ---- what befalls processes

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
        let is_it = |known: &&Connection| known.process == index && known.number == number;
        let Some(known) = self.connections.iter().rev().flatten().find(is_it) else { return };
        let is_last = known.session.is_some_and(|(_, session)| session == self.shells[index].last_session);
        if known.returned == sent && sent > 0 && is_last {
            self.note_fault(index, Fault::LostReply);
        }
    }

    // ---- the server

    /// Somebody has connected; none if there are too many.
    pub(super) fn accept(&mut self, process: u8, incarnation: u8, number: u32) -> Option<(usize, Rc<Notify>)> {
        let open = self.connections.iter().flatten().count();
        if open >= SESSIONS || usize::from(process) >= self.processes.len() {
            return None;
        }
        let wake = Rc::new(Notify::new());
        let connection = Connection {
            process: usize::from(process),
            incarnation,
            number,
            session: None,
            starting: None,
            blocked: false,
            lock_deadline: None,
            reply: Reply::Done,
            outbox: None,
            returned: 0,
            wake: Rc::clone(&wake),
        };
        self.connections.push(Some(connection));
        let id = self.connections.len() - 1;
        self.shells[usize::from(process)].current = Some(id);
        Some((id, wake))
    }

    fn known(&mut self, id: usize) -> &mut Connection {
        self.connections[id].as_mut().expect("the connection is open")
    }

    pub(super) fn is_open(&self, id: usize) -> bool {
        self.connections[id].is_some()
    }

    pub(super) fn is_blocked(&self, id: usize) -> bool {
        self.connections[id].as_ref().is_some_and(|known| known.blocked)
    }

    pub(super) fn lock_deadline(&self, id: usize) -> Option<Micros> {
        self.connections[id].as_ref().filter(|known| known.blocked)?.lock_deadline
    }

    pub(super) fn take_reply(&mut self, id: usize) -> Option<(PlainReply, Xid)> {
        self.connections[id].as_mut()?.outbox.take()
    }

    pub(super) fn call(&mut self, id: usize, op: &PlainOp) {
        let slot = match self.known(id).session {
            Some((slot, _)) => slot,
            None => {
                let slot = sure(self.target.connect());
                self.sessions += 1;
                self.known(id).session = Some((slot, Session(self.sessions)));
                slot
            }
        };
        self.summary.calls += 1;
        let needs_token = matches!(op, Op::Claim { .. } | Op::TakeOver { .. });
        let random = if needs_token { self.tokens.bits() } else { 0 };
        let environment = Environment { now: self.server_clock.at(self.now), random };
        let kept = self.history.keep_op(op);
        self.record_of(id, Happening::Call(kept));
        let known = self.connections[id].as_mut().expect("the connection is open");
        if let (process, Some((_, session))) = (known.process, known.session) {
            self.shells[process].last_session = session;
        }
        if let Op::Start { key, .. } = op {
            known.starting = Some(*key);
        }
        match sure(self.target.call(slot, op, environment, &mut known.reply)) {
            Progress::Returned => self.returned(id),
            Progress::Blocked => {
                self.summary.blocked += 1;
                known.blocked = true;
                let process = known.process;
                self.record_of(id, Happening::Blocked);
                self.watch_deadline(id);
                self.let_in();
                if let Some(blow) = self.due_wait(id, process, op) {
                    self.strike(process, blow);
                }
                return;
            }
        }
        self.let_in();
    }

    fn due_wait(&mut self, id: usize, process: usize, op: &PlainOp) -> Option<Blow> {
        let is_current = self.shells[process].current == Some(id);
        let blow = if is_current { self.processes[process].due_wait(op, self.now) } else { None };
        blow.filter(|_| self.is_blocked(id))
    }

    /// A wait begins.
    fn watch_deadline(&mut self, id: usize) {
        let Some((slot, _)) = self.known(id).session else { return };
        let deadline = self.target.engine().may_wait(slot).map(|limit| self.now + limit);
        let known = self.known(id);
        known.lock_deadline = deadline;
        known.wake.notify_one();
    }

    pub(super) fn lock_timeout(&mut self, id: usize) {
        let now = self.now;
        let Some(known) = &self.connections[id] else { return };
        let Some((slot, _)) = known.session else { return };
        let is_over = known.blocked && known.lock_deadline.is_some_and(|deadline| deadline <= now);
        if is_over && self.target.engine().may_wait(slot).is_some() {
            sure(self.target.time_out(slot, self.server_clock.at(now)));
            self.let_in();
        }
    }

    /// Everyone whose wait is over goes on before anything else happens.
    fn let_in(&mut self) {
        while self.target.engine().anyone_released() {
            let released = self.target.engine().released();
            let mut chosen = 0;
            if released.len() > 1 {
                chosen = sure(self.target.pick(&released));
                self.summary.choices.push(chosen as u8);
            }
            let slot = released[chosen];
            let id = self.connection_at(slot);
            if released.len() > 1 {
                self.record_of(id, Happening::Choice { among: released.len() as u8 });
            }
            match self.go_on(id, slot) {
                Progress::Returned => self.returned(id),
                Progress::Blocked => self.watch_deadline(id),
            }
        }
    }

    /// A call that only let others into a row's queue goes on at once.
    fn go_on(&mut self, id: usize, slot: Slot) -> Progress {
        let reply = &mut self.connections[id].as_mut().expect("a call that waits has a connection").reply;
        loop {
            let progress = sure(self.target.resume(slot, self.server_clock.at(self.now), reply));
            if progress != Progress::Blocked || !self.target.engine().released().contains(&slot) {
                return progress;
            }
        }
    }

    fn connection_at(&self, slot: Slot) -> usize {
        let is_it = |known: &Option<Connection>| {
            known.as_ref().and_then(|known| known.session).is_some_and(|(held, _)| held == slot)
        };
        self.connections.iter().position(is_it).expect("a session belongs to a connection")
    }

    /// The server has answered; the answer is on its way.
    fn returned(&mut self, id: usize) {
        let xid = self.xid(id);
        self.spread_word(id);
        let known = self.connections[id].as_mut().expect("the connection is open");
        known.blocked = false;
        known.returned += 1;
        let reply = std::mem::replace(&mut known.reply, Reply::Done);
        let kept = self.history.keep_reply(&reply);
        known.outbox = Some((reply, xid));
        known.wake.notify_one();
        let process = known.process;
        self.record_with(id, xid, Happening::Return(kept));
        self.crash_after(id, process);
    }

    /// The server may be to die before anybody hears the answer.
    fn crash_after(&mut self, id: usize, process: usize) {
        let after = &mut self.processes[process].after;
        let is_current = self.shells[process].current == Some(id);
        if let Some(blow) = after.take_if(|blow| is_current && matches!(blow.effect, PlannedEffect::ServerCrash { .. }))
        {
            self.asked.push((process, blow));
        }
    }

    /// What somebody has started, even if nobody knows yet whether it stays, is known to all who listen.
    fn spread_word(&mut self, id: usize) {
        let known = self.known(id);
        let (Some(key), Reply::Started { workflow, .. }) = (known.starting.take(), &known.reply) else { return };
        let workflow = *workflow;
        for (process, plan) in self.processes.iter_mut().zip(&self.plan.processes) {
            if plan.hears_of == Some(key) {
                process.actor.hear_of(workflow);
            }
        }
    }

    fn xid(&self, id: usize) -> Xid {
        let session = self.connections[id].as_ref().and_then(|known| known.session);
        session.map_or(Xid(0), |(slot, _)| self.target.xid(slot))
    }

    fn is_in_transaction(&self, id: usize) -> bool {
        let session = self.connections[id].as_ref().and_then(|known| known.session);
        session.is_some_and(|(slot, _)| self.target.engine().is_in_transaction(slot))
    }

    /// The server gives a connection up that nobody has spoken on for too long.
    pub(super) fn lose(&mut self, id: usize) {
        self.record_of(id, Happening::Fault(Fault::SessionLost));
        self.summary.network_faults.push(super::network::NetworkFault::SessionLost);
        self.hang_up(id);
    }

    /// The session ends, and with it what it had not committed.
    pub(super) fn hang_up(&mut self, id: usize) {
        let Some(known) = &self.connections[id] else { return };
        known.wake.notify_one();
        if let Some((slot, _)) = known.session {
            let (xid, is_open) = (self.xid(id), self.is_in_transaction(id));
            sure(self.target.disconnect(slot, self.server_clock.at(self.now)));
            if is_open {
                self.record_with(id, xid, Happening::Note(Note::Resolved { outcome: Outcome::Aborted }));
            }
        }
        self.connections[id] = None;
        self.let_in();
    }

    pub(super) fn hang_up_all(&mut self) {
        (0..self.connections.len()).for_each(|id| self.hang_up(id));
    }

    /// The connection that the server has with a process, if it has one.
    pub(super) fn connection_of(&self, process: usize) -> Option<usize> {
        self.shells[process].current.filter(|id| self.is_open(*id))
    }

    pub(super) fn server_crash(&mut self, index: usize) {
        self.note_fault(index, Fault::ServerCrash);
        self.summary.server_crashes += 1;
        self.is_up = false;
        let open: Vec<_> = (0..self.connections.len()).map(|id| (self.xid(id), self.is_in_transaction(id))).collect();
        let lost = sure(self.target.crash());
        for (id, (xid, is_open)) in open.into_iter().enumerate() {
            if self.is_blocked(id) {
                self.record_with(id, xid, Happening::Return(Reply::Unknown));
            }
            if is_open {
                self.record_with(id, xid, Happening::Note(Note::Resolved { outcome: Outcome::Aborted }));
            }
            self.connections[id] = None;
        }
        self.note_lost(&lost);
    }

    /// A note for each, in the session in which it had committed.
    fn note_lost(&mut self, lost: &[Xid]) {
        self.summary.lost_commits += lost.len() as u64;
        let notes = ends_of(&self.history, lost);
        let what = Happening::Note(Note::Resolved { outcome: Outcome::Aborted });
        notes.into_iter().for_each(|end| self.history.push(Record { at: self.now, what, ..end }));
    }

    pub(super) fn flush(&mut self, index: usize) {
        sure(self.target.flush());
        self.note_fault(index, Fault::LogFlush);
    }

    pub(super) fn set_server_clock(&mut self, index: usize, offset: ClockOffset) {
        if self.server_clock != offset {
            self.server_clock = offset;
            self.note_fault(index, Fault::ClockStep(offset));
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

    // ---- records

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
    fn record_of(&mut self, id: usize, what: Happening<Span, Span, Span, Span>) {
        let xid = if self.is_in_transaction(id) { self.xid(id) } else { Xid(0) };
        self.record_with(id, xid, what);
    }

    fn record_with(&mut self, id: usize, xid: Xid, what: Happening<Span, Span, Span, Span>) {
        let now = self.now;
        let known = self.known(id);
        let session = known.session.map_or(Session(0), |(_, session)| session);
        let (process, incarnation) = (Process(known.process as u8), known.incarnation);
        self.history.push(Record { at: now, process, incarnation, session, xid, what });
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
}
