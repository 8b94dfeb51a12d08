//! A worker: registers, claims windows, runs their steps, hands them off.
//!
//! A step's external work is done outside any transaction; its effects in the database, its successor and the
//! acknowledgement are one transaction: begin, hold, effect…, handoff, commit. After a lost reply the worker repeats
//! that transaction with the same decisions: if it had committed, the token is stale and nothing happens twice.

use super::{Action, Actor, Answered};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{Consumer, EventId, Micros, Queue, Step, Token, WorkerId, WorkflowId};
use tourbillon_models::op::{Decision, Isolation, Op, Verb};
use tourbillon_models::record::Note;
use tourbillon_models::reply::{Event, Refusal, Reply};
use tourbillon_models::workload::{Next, Program};

/// How claims are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimHabit {
    /// As they should be: each a transaction of its own.
    Alone,
    /// Inside a transaction that stays open for a while, as a framework's session wrapper would.
    InTransaction { open_for: Micros },
}

/// How much of a window is handed off at first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandoffHabit {
    Whole,
    /// One page is read and handed off, as if it were the window.
    FirstPage,
}

/// A time of slowness.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Slowness {
    pub until: Micros,
    pub poll_interval: Micros,
    pub work_duration: Micros,
}

/// What a worker is told to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WorkerOptions {
    pub consumer: Consumer,
    /// A consumer that the worker tries to subscribe itself, before anything else; refused, it goes home.
    pub subscribe_to: Option<Queue>,
    pub start_at: Micros,
    pub poll_interval: Micros,
    pub dead_interval: Micros,
    pub heartbeat_interval: Micros,
    /// External work of one step.
    pub work_duration: Micros,
    pub slowness: Option<Slowness>,
    pub page_limit: u32,
    pub claim: ClaimHabit,
    pub handoff: HandoffHabit,
}

/// A window in the worker's hands.
#[derive(Clone, Debug)]
struct Lease {
    token: Token,
    events: Vec<Event>,
    decisions: Vec<Decision>,
    effects: Vec<(WorkflowId, u32, Step)>,
    heartbeat_at: Micros,
}

impl Lease {
    fn new(token: Token, now: Micros) -> Self {
        Lease { token, events: Vec::new(), decisions: Vec::new(), effects: Vec::new(), heartbeat_at: now }
    }
}

/// What the worker is at; a call that is under way is named by the state that made it.
#[derive(Clone, Debug)]
enum State {
    Subscribe,
    Subscribing,
    Register,
    Registering,
    Claim,
    BeginningClaim,
    Claiming,
    /// Claimed inside an open transaction.
    Lingering {
        lease: Option<Box<Lease>>,
    },
    CommittingClaim {
        lease: Option<Box<Lease>>,
    },
    Read {
        lease: Box<Lease>,
    },
    Reading {
        lease: Box<Lease>,
    },
    Work {
        lease: Box<Lease>,
        index: usize,
    },
    Working {
        lease: Box<Lease>,
        index: usize,
    },
    Worked {
        lease: Box<Lease>,
        index: usize,
    },
    Beating {
        lease: Box<Lease>,
        index: usize,
    },
    Begin {
        lease: Box<Lease>,
    },
    Beginning {
        lease: Box<Lease>,
    },
    Holding {
        lease: Box<Lease>,
    },
    Effecting {
        lease: Box<Lease>,
        index: usize,
    },
    HandingOff {
        lease: Box<Lease>,
    },
    Committing {
        lease: Box<Lease>,
    },
    /// Rolls back a transaction that failed; then goes on as `then` says.
    RollBack {
        then: Then,
    },
    RollingBack {
        then: Then,
    },
    Drop,
    Idle,
    Finished,
}

#[derive(Clone, Debug)]
enum Then {
    Drop,
    Register,
    /// The transaction was a victim, not wrong: again, with the same decisions.
    Begin {
        lease: Box<Lease>,
    },
    Claim,
}

/// A worker.
pub struct Worker {
    options: WorkerOptions,
    /// None on a plain queue: its events are acknowledged, and that is all.
    program: Option<Rc<dyn Program>>,
    identity: WorkerId,
    /// A refusal teaches better habits.
    handoff: HandoffHabit,
    state: State,
}

impl Worker {
    pub fn new(options: WorkerOptions, program: Option<Rc<dyn Program>>) -> Self {
        let (state, handoff) = (Worker::first_state(&options), options.handoff);
        Worker { options, program, identity: WorkerId(0), handoff, state }
    }

    fn first_state(options: &WorkerOptions) -> State {
        if options.subscribe_to.is_some() { State::Subscribe } else { State::Register }
    }

    /// Takes the answer in: every state that waits for one has its successor here.
    fn take(&mut self, state: State, Answered { reply, xid: _ }: Answered, now: Micros) -> State {
        match (state, reply) {
            (State::Subscribing, Reply::Subscribed { .. }) => State::Register,
            (State::Subscribing, Reply::Unknown) => State::Subscribe,
            (State::Subscribing, Reply::Refused(Refusal::UniqueViolation)) => State::Register,
            (State::Subscribing, _) => State::Finished,

            (State::Registering, Reply::Registered { worker }) => {
                self.identity = worker;
                State::Claim
            }
            (State::Registering, Reply::Unknown) => State::Register,
            (State::Registering, _) => State::Finished,

            (State::BeginningClaim, Reply::Done) => State::Claiming,
            (State::BeginningClaim, _) => State::Claim,
            (State::Claiming, reply) => self.take_claim(reply, now),
            (State::CommittingClaim { lease: Some(lease) }, Reply::Committed) => State::Read { lease },
            (State::CommittingClaim { lease: None }, Reply::Committed | Reply::RolledBack) => State::Idle,
            (State::CommittingClaim { .. }, _) => State::Register,

            (State::Reading { lease }, Reply::Events(events)) => self.take_page(lease, events),
            (State::Reading { lease }, Reply::Unknown) => State::Read { lease },
            (State::Reading { .. }, _) => State::Drop,

            (State::Beating { mut lease, index }, Reply::Done) => {
                lease.heartbeat_at = now;
                State::Work { lease, index }
            }
            (State::Beating { lease, index }, Reply::Unknown) => State::Work { lease, index },
            (State::Beating { .. }, _) => State::Drop,

            (State::Beginning { lease }, Reply::Done) => State::Holding { lease },
            (State::Beginning { lease }, _) => State::Begin { lease },
            (State::Holding { lease }, Reply::Done) => State::Effecting { lease, index: 0 },
            (State::Effecting { lease, index }, Reply::Done) => State::Effecting { lease, index: index + 1 },
            (State::HandingOff { lease }, Reply::HandedOff { .. }) if lease.effects.is_empty() => State::Claim,
            (State::HandingOff { lease }, Reply::HandedOff { .. }) => State::Committing { lease },
            (State::Committing { .. }, Reply::Committed) => State::Claim,
            (State::Committing { lease }, Reply::Unknown) => State::Begin { lease },
            (State::Committing { .. }, _) => State::Drop,
            (State::Holding { lease } | State::Effecting { lease, .. } | State::HandingOff { lease }, reply) => {
                self.take_failed_handoff(lease, reply)
            }

            (State::RollingBack { then }, _) => match then {
                Then::Drop => State::Drop,
                Then::Register => State::Register,
                Then::Begin { lease } => State::Begin { lease },
                Then::Claim => State::Idle,
            },
            (state, reply) => unreachable!("no call of {state:?} is answered by {reply:?}"),
        }
    }

    fn take_claim(&mut self, reply: PlainReply, now: Micros) -> State {
        let in_transaction = matches!(self.options.claim, ClaimHabit::InTransaction { .. });
        let lease = match reply {
            Reply::Claimed { token, .. } => Some(Box::new(Lease::new(token, now))),
            Reply::Idle => None,
            // Whatever the claim may have opened is nobody's now: somebody takes it over.
            Reply::Unknown => return State::Register,
            Reply::Refused(Refusal::WindowOpen | Refusal::UndefinedObject) if in_transaction => {
                return State::RollBack { then: Then::Register };
            }
            Reply::Refused(Refusal::WindowOpen | Refusal::UndefinedObject) => return State::Register,
            _ if in_transaction => return State::RollBack { then: Then::Claim },
            _ => return State::Idle,
        };
        match lease {
            lease if in_transaction => State::Lingering { lease },
            Some(lease) => State::Read { lease },
            None => State::Idle,
        }
    }

    /// Pages are read until one comes short; a window without events gives nothing to decide.
    fn take_page(&self, mut lease: Box<Lease>, events: Vec<Event>) -> State {
        let short = events.len() < self.options.page_limit as usize;
        lease.events.extend(events);
        if lease.events.is_empty() {
            return State::Drop;
        }
        if short || self.handoff == HandoffHabit::FirstPage {
            return State::Work { lease, index: 0 };
        }
        State::Read { lease }
    }

    fn take_failed_handoff(&mut self, lease: Box<Lease>, reply: PlainReply) -> State {
        let in_transaction = !lease.effects.is_empty();
        if reply == Reply::Refused(Refusal::WindowMismatch) {
            self.handoff = HandoffHabit::Whole;
        }
        let then = match reply {
            Reply::Unknown => return State::Begin { lease },
            Reply::Refused(Refusal::Deadlock | Refusal::SerializationFailure | Refusal::LockNotAvailable) => {
                Then::Begin { lease }
            }
            _ => Then::Drop,
        };
        match (in_transaction, then) {
            (true, then) => State::RollBack { then },
            (false, Then::Begin { lease }) => State::Begin { lease },
            (false, _) => State::Drop,
        }
    }

    fn decide(&self, event: &Event) -> (Decision, bool) {
        let acknowledge = Decision {
            event: event.id,
            verb: Verb::Acknowledge,
            workflow: event.workflow,
            sequence: event.sequence,
            step: event.step,
            state: event.state,
        };
        let Some(program) = &self.program else { return (acknowledge, false) };
        let outcome = program.decide(event.step, event.state);
        let decision = match outcome.next {
            Next::Goto { step, state } => {
                Decision { verb: Verb::Goto, sequence: event.sequence + 1, step, state, ..acknowledge }
            }
            Next::Complete => Decision { verb: Verb::Complete, ..acknowledge },
        };
        (decision, outcome.effect)
    }

    /// The next thing to do in a state that waits for no answer, and the state after it.
    fn act(&mut self, state: State, now: Micros) -> (State, Option<Action>) {
        let worker = self.identity;
        match state {
            State::Subscribe | State::Register if now < self.options.start_at => {
                (state, Some(Action::Sleep(self.options.start_at)))
            }
            State::Subscribe => {
                let queue = self.options.subscribe_to.expect("only who subscribes is in this state");
                let consumer = self.options.consumer;
                (State::Subscribing, Some(Action::Call(Op::Subscribe { queue, consumer })))
            }
            State::Register => {
                let consumer = self.options.consumer;
                (State::Registering, Some(Action::Call(Op::Register { consumer })))
            }
            State::Claim => match self.options.claim {
                ClaimHabit::Alone => (State::Claiming, Some(Action::Call(self.claim()))),
                ClaimHabit::InTransaction { .. } => {
                    let begin = Op::Begin { isolation: Isolation::ReadCommitted };
                    (State::BeginningClaim, Some(Action::Call(begin)))
                }
            },
            State::Claiming => (State::Claiming, Some(Action::Call(self.claim()))),
            State::Lingering { lease } => {
                let ClaimHabit::InTransaction { open_for } = self.options.claim else {
                    unreachable!("claims linger in transactions only")
                };
                (State::CommittingClaim { lease }, Some(Action::Sleep(now + open_for)))
            }
            State::CommittingClaim { .. } | State::Committing { .. } => (state, Some(Action::Call(Op::Commit))),
            State::Read { lease } => {
                let after = lease.events.last().map_or(EventId(0), |event| event.id);
                let read = Op::Read { worker, token: lease.token, after, limit: self.options.page_limit };
                (State::Reading { lease }, Some(Action::Call(read)))
            }
            State::Work { lease, index } => self.work(lease, index, now),
            State::Working { lease, index } => {
                let until = now + self.pace(now).1;
                (State::Worked { lease, index }, Some(Action::Sleep(until)))
            }
            State::Worked { mut lease, index } => {
                let event = lease.events[index];
                let (decision, effect) = self.decide(&event);
                lease.decisions.push(decision);
                if effect {
                    lease.effects.push((event.workflow, event.sequence, event.step));
                }
                let note = Note::WorkEnded { event: event.id };
                (State::Work { lease, index: index + 1 }, Some(Action::Note(note)))
            }
            State::Begin { lease } if lease.effects.is_empty() => {
                let call = self.handoff(&lease);
                (State::HandingOff { lease }, Some(Action::Call(call)))
            }
            State::Begin { lease } => {
                let begin = Op::Begin { isolation: Isolation::ReadCommitted };
                (State::Beginning { lease }, Some(Action::Call(begin)))
            }
            State::Holding { lease } => {
                let hold = Op::Hold { worker, token: lease.token };
                (State::Holding { lease }, Some(Action::Call(hold)))
            }
            State::Effecting { lease, index } => match lease.effects.get(index).copied() {
                Some((workflow, sequence, step)) => {
                    let effect = Op::Effect { workflow, sequence, step };
                    (State::Effecting { lease, index }, Some(Action::Call(effect)))
                }
                None => {
                    let call = self.handoff(&lease);
                    (State::HandingOff { lease }, Some(Action::Call(call)))
                }
            },
            State::RollBack { then } => (State::RollingBack { then }, Some(Action::Call(Op::Rollback))),
            State::Drop => (State::Idle, Some(Action::Note(Note::Dropped))),
            State::Idle => (State::Claim, Some(Action::Sleep(now + self.pace(now).0))),
            State::Finished => (State::Finished, Some(Action::Finished)),
            waiting => unreachable!("{waiting:?} waits for an answer"),
        }
    }

    /// How long the worker waits between polls, and how long its work takes.
    fn pace(&self, now: Micros) -> (Micros, Micros) {
        match self.options.slowness {
            Some(slowness) if now < slowness.until => (slowness.poll_interval, slowness.work_duration),
            _ => (self.options.poll_interval, self.options.work_duration),
        }
    }

    fn claim(&self) -> PlainOp {
        Op::Claim { worker: self.identity, dead_interval: self.options.dead_interval }
    }

    fn handoff(&self, lease: &Lease) -> PlainOp {
        Op::Handoff { worker: self.identity, token: lease.token, decisions: lease.decisions.clone() }
    }

    /// The next event's external work, after a heartbeat if one is due; after the last, the transaction.
    fn work(&mut self, lease: Box<Lease>, index: usize, now: Micros) -> (State, Option<Action>) {
        let Some(event) = lease.events.get(index) else { return (State::Begin { lease }, None) };
        if now - lease.heartbeat_at >= self.options.heartbeat_interval {
            let beat = Op::Heartbeat { worker: self.identity, token: lease.token };
            return (State::Beating { lease, index }, Some(Action::Call(beat)));
        }
        let note = Note::WorkStarted { event: event.id };
        (State::Working { lease, index }, Some(Action::Note(note)))
    }
}

impl Actor for Worker {
    fn poll(&mut self, now: Micros, answered: Option<Answered>) -> Action {
        let mut state = core::mem::replace(&mut self.state, State::Finished);
        if let Some(answered) = answered {
            state = self.take(state, answered, now);
        }
        loop {
            let (next, action) = self.act(state, now);
            state = next;
            if let Some(action) = action {
                self.state = state;
                return action;
            }
        }
    }

    fn restart(&mut self, _now: Micros) {
        self.identity = WorkerId(0);
        self.state = Worker::first_state(&self.options);
    }
}
