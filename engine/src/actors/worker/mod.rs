//! A worker: registers, claims windows, runs their steps, hands them off.
//!
//! A step's external work is done outside any transaction; its effects in the database, its successor and the
//! acknowledgement are one transaction: begin, hold, effect…, handoff, commit. After a lost reply the worker repeats
//! that transaction with the same decisions: if it had committed, the token is stale and nothing happens twice. Of an
//! isolated window it is handed one event after the other, each with a transaction of its own.

mod decision;
mod lease;
pub mod options;
mod state;
#[cfg(test)]
mod tests;

use super::{Action, Actor, Answered};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::mem::take;
use decision::decide;
use lease::Lease;
use options::{BurialHabit, ClaimHabit, ErrorHabit, HandoffHabit, IdentityHabit, WorkerOptions};
use state::{State, Then};
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{EventId, Micros, WorkerId};
use tourbillon_models::op::{Isolation, Op};
use tourbillon_models::record::Note;
use tourbillon_models::reply::{Event, Refusal, Reply};
use tourbillon_models::workload::Program;

/// When a worker looks for work next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Poll {
    Any,
    At(Micros),
    Never,
}

/// A worker.
pub struct Worker {
    options: WorkerOptions,
    /// None on a plain queue: its events are acknowledged, and that is all.
    program: Option<Rc<dyn Program>>,
    identity: WorkerId,
    /// A connection was lost since it registered.
    in_doubt: bool,
    /// A refusal teaches better habits.
    handoff: HandoffHabit,
    /// Dead letters to be replayed, the last one first.
    buried: Vec<EventId>,
    /// How many of the times at which it looks for work are over, if these are told.
    polled: usize,
    state: State,
}

impl Worker {
    pub fn new(options: WorkerOptions, program: Option<Rc<dyn Program>>) -> Self {
        let (state, handoff) = (Worker::first_state(&options), options.handoff);
        let (buried, polled) = (Vec::new(), 0);
        Worker { options, program, identity: WorkerId(0), in_doubt: false, handoff, buried, polled, state }
    }

    fn first_state(options: &WorkerOptions) -> State {
        if options.subscribe_to.is_some() { State::Subscribe } else { State::Register }
    }

    /// Takes the answer in: every state that waits for one has its successor here.
    fn take(&mut self, state: State, reply: &mut PlainReply, now: Micros) -> State {
        self.in_doubt |= matches!(reply, Reply::Unknown);
        match (state, reply) {
            (State::Subscribing, Reply::Subscribed { .. }) => State::Register,
            (State::Subscribing, Reply::Unknown) => State::Subscribe,
            (State::Subscribing, Reply::Refused(Refusal::UniqueViolation)) => State::Register,
            (State::Subscribing, _) => State::Finished,

            (State::Registering, Reply::Registered { worker }) => {
                self.identity = *worker;
                self.in_doubt = false;
                State::Claim
            }
            (State::Registering, Reply::Unknown) => State::Register,
            (State::Registering, _) => State::Finished,

            // Refused or lost, somebody else's replay or a new one of the same: nothing that must be known here.
            (State::Replaying, _) => State::Claim,

            (State::BeginningClaim, Reply::Done) => State::Claiming,
            (State::BeginningClaim, _) => State::Claim,
            (State::Claiming, reply) => self.take_claim(reply, now),
            (State::CommittingClaim { lease: Some(lease) }, Reply::Committed) => first_look(lease),
            (State::CommittingClaim { lease: None }, Reply::Committed | Reply::RolledBack) => State::Idle,
            (State::CommittingClaim { .. }, _) => State::Register,

            (State::Reading { lease }, Reply::Events(events)) => self.take_page(lease, take(events)),
            (State::Reading { lease }, Reply::Unknown) => State::Read { lease },
            (State::Reading { .. }, _) => State::Drop,

            (State::ReadingResults { mut lease }, Reply::Results(results)) => {
                lease.results = take(results);
                State::Work { lease, index: 0 }
            }
            (State::ReadingResults { lease }, Reply::Unknown) => State::ReadResults { lease },
            (State::ReadingResults { .. }, _) => State::Drop,

            (State::HandingOut { lease }, Reply::HandedOut { events, dead, .. }) => {
                self.take_event(lease, take(events), dead, now)
            }
            (State::HandingOut { lease }, Reply::Unknown) => State::HandOut { lease },
            (State::HandingOut { lease }, Reply::Refused(refusal)) if is_victim(*refusal) => State::HandOut { lease },
            (State::HandingOut { .. }, _) => State::Drop,

            (State::Beating { mut lease, index }, Reply::Done) => {
                lease.heartbeat_at = now;
                State::Work { lease, index }
            }
            (State::Beating { lease, index }, Reply::Unknown) => State::Work { lease, index },
            (State::Beating { .. }, _) => State::Drop,

            (State::Beginning { lease }, Reply::Done) => State::Holding { lease },
            (State::Beginning { lease }, _) => State::Begin { lease },
            (State::Holding { lease }, Reply::Done) => State::Guard { lease, index: 0 },
            (State::Guarding { lease, index }, Reply::Done) => State::Effecting { lease, index },
            (State::Effecting { lease, index }, Reply::Done) => State::Guard { lease, index: index + 1 },
            (State::HandingOff { mut lease }, Reply::HandedOff { appended, .. }) => {
                lease.handed_off(appended);
                if lease.needs_transaction() { State::Committing { lease } } else { self.finish(lease, now) }
            }
            (State::Undoing { lease, index }, Reply::Done) => State::Guard { lease, index },
            (State::Committing { lease }, Reply::Committed) => self.finish(lease, now),
            (State::Committing { lease }, Reply::Unknown) => State::Begin { lease },
            (State::Committing { lease }, Reply::Refused(refusal)) if is_victim(*refusal) => State::Begin { lease },
            (State::Committing { .. }, Reply::Refused(Refusal::HeldWindow)) => {
                self.handoff = HandoffHabit::Whole;
                State::Drop
            }
            (State::Committing { .. }, _) => State::Drop,
            (State::Effecting { lease, index }, Reply::Refused(_)) if self.swallows() => {
                State::Undo { lease, index: index + 1 }
            }
            (State::HandingOff { lease }, Reply::Refused(refusal)) if self.swallows() && lease.needs_transaction() => {
                self.learn(*refusal);
                let index = lease.effects.len() + 1;
                State::Undo { lease, index }
            }
            (
                State::Holding { lease }
                | State::Guarding { lease, .. }
                | State::Effecting { lease, .. }
                | State::Undoing { lease, .. }
                | State::HandingOff { lease },
                reply,
            ) => self.take_failed_handoff(lease, reply),

            (State::RollingBack { then }, _) => match then {
                Then::Drop => State::Drop,
                Then::Register => State::Register,
                Then::Begin { lease } => State::Begin { lease },
                Then::Claim => State::Idle,
            },
            (state, reply) => unreachable!("no call of {state:?} is answered by {reply:?}"),
        }
    }

    fn take_claim(&mut self, reply: &PlainReply, now: Micros) -> State {
        let in_transaction = matches!(self.options.claim, ClaimHabit::InTransaction { .. });
        let lease = match *reply {
            Reply::Claimed { token, isolated, .. } => Some(Lease::new(token, isolated, now)),
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
            Some(lease) => first_look(lease),
            None => State::Idle,
        }
    }

    /// Pages are read until one comes short. Where nothing comes there is nothing to decide: the worker looks into its window
    /// again later, as clients of PgQ do.
    fn take_page(&self, mut lease: Box<Lease>, events: Vec<Event>) -> State {
        let short = events.len() < self.options.page_limit as usize;
        lease.events.extend(events);
        if lease.events.is_empty() {
            return State::Empty { lease };
        }
        if short || self.handoff == HandoffHabit::FirstPage {
            return before_work(lease);
        }
        State::Read { lease }
    }

    /// Of an isolated window; no event means that the window is finished.
    fn take_event(&mut self, mut lease: Box<Lease>, events: Vec<Event>, dead: &[u32], now: Micros) -> State {
        self.bury(dead.iter().map(|id| EventId(*id)), now);
        if events.is_empty() {
            return State::Claim;
        }
        lease.turn_to(events);
        before_work(lease)
    }

    /// The handoff is committed.
    fn finish(&mut self, mut lease: Box<Lease>, now: Micros) -> State {
        self.bury(take(&mut lease.dead), now);
        if lease.is_isolated { State::HandOut { lease } } else { State::Claim }
    }

    fn bury(&mut self, dead: impl IntoIterator<Item = EventId>, now: Micros) {
        if matches!(self.options.burial, BurialHabit::ReplayedTwice { until } if now < until) {
            self.buried.extend(dead.into_iter().flat_map(|event| [event; 2]));
        }
    }

    fn swallows(&self) -> bool {
        self.options.errors == ErrorHabit::Swallowed
    }

    fn learn(&mut self, refusal: Refusal) {
        if refusal == Refusal::WindowMismatch {
            self.handoff = HandoffHabit::Whole;
        }
    }

    fn take_failed_handoff(&mut self, lease: Box<Lease>, reply: &PlainReply) -> State {
        let in_transaction = lease.needs_transaction();
        let then = match *reply {
            Reply::Unknown => return State::Begin { lease },
            Reply::Refused(refusal) if is_victim(refusal) => Then::Begin { lease },
            Reply::Refused(refusal) => {
                self.learn(refusal);
                Then::Drop
            }
            _ => Then::Drop,
        };
        match (in_transaction, then) {
            (true, then) => State::RollBack { then },
            (false, Then::Begin { lease }) => State::Begin { lease },
            (false, _) => State::Drop,
        }
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
            State::Claim if !self.buried.is_empty() => {
                let (consumer, event) = (self.options.consumer, self.buried.pop().expect("somebody is buried"));
                (State::Replaying, Some(Action::Call(Op::ReplayDeadLetter { consumer, event })))
            }
            State::Claim if self.in_doubt && self.options.identity == IdentityHabit::Renewed => (State::Register, None),
            State::Claim => match (self.next_poll(), self.options.claim) {
                (Poll::Never, _) => (State::Finished, None),
                (Poll::At(time), _) if now < time => (State::Claim, Some(Action::Sleep(time))),
                (Poll::At(_) | Poll::Any, habit) => self.look(habit, now),
            },
            State::Claiming => (State::Claiming, Some(Action::Call(self.claim(now)))),
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
            State::HandOut { lease } => {
                let hand_out = Op::HandOut { worker, token: lease.token, max_tries: self.options.max_tries };
                (State::HandingOut { lease }, Some(Action::Call(hand_out)))
            }
            State::ReadResults { lease } => {
                let read = Op::ReadResults { worker, token: lease.token };
                (State::ReadingResults { lease }, Some(Action::Call(read)))
            }
            State::Work { lease, index } => self.work(lease, index, now),
            State::Working { lease, index } => {
                let until = now + self.pace(now).1;
                (State::Worked { lease, index }, Some(Action::Sleep(until)))
            }
            State::Worked { mut lease, index } => {
                let (event, version) = (lease.events[index], self.version(now));
                let Some(decided) = decide(self.program.as_deref(), &event, &lease.results, version) else {
                    return (State::Finished, Some(Action::Die));
                };
                lease.decided(&event, decided);
                let note = Note::WorkEnded { event: event.id, version };
                (State::Work { lease, index: index + 1 }, Some(Action::Note(note)))
            }
            State::Begin { lease } if !lease.needs_transaction() => {
                let call = self.handoff(&lease);
                (State::HandingOff { lease }, Some(Action::Call(call)))
            }
            State::Begin { lease } => {
                let begin = Op::Begin { isolation: Isolation::ReadCommitted };
                (State::Beginning { lease }, Some(Action::Call(begin)))
            }
            State::Holding { lease } => {
                let hold = Op::Hold { worker, token: lease.token, at: now };
                (State::Holding { lease }, Some(Action::Call(hold)))
            }
            State::Guard { lease, index } if index > lease.effects.len() => (State::Committing { lease }, None),
            State::Guard { lease, index } if self.swallows() => {
                (State::Guarding { lease, index }, Some(Action::Call(Op::Savepoint { level: 1 })))
            }
            State::Guard { lease, index } => (State::Effecting { lease, index }, None),
            State::Effecting { lease, index } => match lease.effects.get(index).copied() {
                Some((workflow, sequence, step)) => {
                    let effect = Op::Effect { workflow, sequence, step };
                    (State::Effecting { lease, index }, Some(Action::Call(effect)))
                }
                None if self.handoff == HandoffHabit::Forgotten => (State::Committing { lease }, None),
                None => {
                    let call = self.handoff(&lease);
                    (State::HandingOff { lease }, Some(Action::Call(call)))
                }
            },
            State::Undo { lease, index } => {
                (State::Undoing { lease, index }, Some(Action::Call(Op::RollbackTo { level: 1 })))
            }
            State::RollBack { then } => (State::RollingBack { then }, Some(Action::Call(Op::Rollback))),
            State::Drop => (State::Idle, Some(Action::Note(Note::Dropped))),
            State::Idle => self.rest(State::Claim, now),
            State::Empty { lease } => self.rest(State::LookAgain { lease }, now),
            State::LookAgain { lease } => match self.next_poll() {
                Poll::Never => (State::Finished, None),
                Poll::At(time) if now < time => (State::LookAgain { lease }, Some(Action::Sleep(time))),
                Poll::At(_) | Poll::Any => {
                    self.polled += 1;
                    (State::Read { lease }, None)
                }
            },
            State::Finished => (State::Finished, Some(Action::Finished)),
            waiting => unreachable!("{waiting:?} waits for an answer"),
        }
    }

    /// Until the worker looks for work again; if it is told when, it waits there.
    fn rest(&self, then: State, now: Micros) -> (State, Option<Action>) {
        let pause = self.options.polls.is_none().then(|| Action::Sleep(now + self.pace(now).0));
        (then, pause)
    }

    fn next_poll(&self) -> Poll {
        match &self.options.polls {
            None => Poll::Any,
            Some(times) => times.get(self.polled).map_or(Poll::Never, |time| Poll::At(*time)),
        }
    }

    /// Asks for a window.
    fn look(&mut self, habit: ClaimHabit, now: Micros) -> (State, Option<Action>) {
        self.polled += 1;
        match habit {
            ClaimHabit::Alone | ClaimHabit::Standby => (State::Claiming, Some(Action::Call(self.claim(now)))),
            ClaimHabit::InTransaction { .. } => {
                let begin = Op::Begin { isolation: Isolation::ReadCommitted };
                (State::BeginningClaim, Some(Action::Call(begin)))
            }
        }
    }

    /// How long the worker waits between polls, and how long its work takes.
    fn pace(&self, now: Micros) -> (Micros, Micros) {
        match self.options.slowness {
            Some(slowness) if now < slowness.until => (slowness.poll_interval, slowness.work_duration),
            _ => (self.options.poll_interval, self.options.work_duration),
        }
    }

    /// Of the program, as deployed by now.
    fn version(&self, now: Micros) -> u16 {
        u16::from(self.options.deploy_at.is_some_and(|at| at <= now))
    }

    fn claim(&self, at: Micros) -> PlainOp {
        let (worker, dead_interval) = (self.identity, self.options.dead_interval);
        match self.options.claim {
            ClaimHabit::Standby => Op::TakeOver { worker, dead_interval, at },
            ClaimHabit::Alone | ClaimHabit::InTransaction { .. } => Op::Claim { worker, dead_interval, at },
        }
    }

    fn handoff(&self, lease: &Lease) -> PlainOp {
        Op::Handoff { worker: self.identity, token: lease.token, decisions: lease.decisions.clone() }
    }

    /// The next event's external work, after a heartbeat if one is due; after the last, the transaction.
    fn work(&mut self, lease: Box<Lease>, index: usize, now: Micros) -> (State, Option<Action>) {
        let Some(event) = lease.events.get(index) else { return (State::Begin { lease }, None) };
        if now - lease.heartbeat_at >= self.options.heartbeat_interval {
            let beat = Op::Heartbeat { worker: self.identity, token: lease.token, at: now };
            return (State::Beating { lease, index }, Some(Action::Call(beat)));
        }
        let note = Note::WorkStarted { event: event.id };
        (State::Working { lease, index }, Some(Action::Note(note)))
    }
}

/// What a fresh claim gives is read, or handed out.
fn first_look(lease: Box<Lease>) -> State {
    if lease.is_isolated { State::HandOut { lease } } else { State::Read { lease } }
}

fn before_work(lease: Box<Lease>) -> State {
    if lease.needs_results() { State::ReadResults { lease } } else { State::Work { lease, index: 0 } }
}

/// The call was a victim of others, not wrong: it is made again.
const fn is_victim(refusal: Refusal) -> bool {
    matches!(refusal, Refusal::Deadlock | Refusal::SerializationFailure | Refusal::LockNotAvailable)
}

impl Actor for Worker {
    fn poll(&mut self, now: Micros, answered: Option<&mut Answered>) -> Action {
        let mut state = core::mem::replace(&mut self.state, State::Finished);
        if let Some(Answered { reply, .. }) = answered {
            state = self.take(state, reply, now);
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
        self.in_doubt = false;
        self.buried.clear();
        self.state = Worker::first_state(&self.options);
    }
}
