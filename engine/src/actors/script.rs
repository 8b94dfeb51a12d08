//! A script: statements at given times, in order. Clients, duties, holders of open transactions, and those who behave
//! badly are scripts; what they are is in their data.
//!
//! A script is *not* clever: a refusal ends the round in progress (after a rollback), and a lost reply is met as the
//! round says. It remembers two things, since no plan can name an event or a workflow: what it scheduled last, so that it
//! can take that back, and which workflow it started last, so that it can tell it something.

use super::{Action, Actor, Answered};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::{EmitId, EventId, Micros, WorkflowId, Xid};
use tourbillon_models::op::Op;
use tourbillon_models::reply::{EmitAnswer, Outcome, Refusal, Reply};

/// What to do when a reply was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLostReply {
    /// The round is idempotent: run it again.
    Repeat,
    /// The same, and what it emits must be heard: if it came second, it is emitted again after a while under another id.
    Insist,
    /// Ask what became of the transaction, and run it again only if it aborted.
    Resolve,
    /// It will be done again anyhow, or nobody minds.
    GiveUp,
}

/// What to do when a statement is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnRefusal {
    /// Roll back; then run the round again if it was a victim of others and must be done.
    RollBack,
    /// Swallow the error and go on with the next statement, as some clients do.
    CarryOn,
}

/// A few statements, usually one transaction, each after a pause. A `Cancel` of event 0 takes back what the script
/// scheduled last, committed or not. An `Emit` to workflow 0 is for the one that it started last, or was told of; if there is
/// none, it is left out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Round {
    pub at: Micros,
    pub on_lost_reply: OnLostReply,
    pub on_refusal: OnRefusal,
    pub statements: Vec<(Micros, PlainOp)>,
}

/// When the rounds are run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptOptions {
    /// Each round once, in order; a round whose time has passed starts at once.
    Once { rounds: Vec<Round> },
    /// One round over and over: a duty. The next begins `every` after the last began, never before it ended.
    Periodic { every: Micros, round: Round },
}

impl ScriptOptions {
    pub fn rounds_mut(&mut self) -> &mut [Round] {
        match self {
            ScriptOptions::Once { rounds } => rounds,
            ScriptOptions::Periodic { round, .. } => core::slice::from_mut(round),
        }
    }

    /// Whether it comes to an end by itself.
    pub const fn is_once(&self) -> bool {
        matches!(self, ScriptOptions::Once { .. })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Before a round.
    Between,
    /// Before the pause that precedes a statement.
    Pause {
        index: usize,
    },
    Ready {
        index: usize,
    },
    Called {
        index: usize,
    },
    RollBack {
        then: Then,
    },
    RollingBack {
        then: Then,
    },
    Resolve,
    Resolving,
}

/// What follows a rollback.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    Repeat,
    NextRound,
}

/// A round that comes once more, under other ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct PutOff {
    at: Micros,
    round: usize,
    repetition: u32,
}

/// A script in progress.
pub struct Script {
    options: ScriptOptions,
    round: usize,
    /// How often this round was put off.
    repetition: u32,
    /// The first round that has never been run.
    upcoming: usize,
    put_off: Vec<PutOff>,
    /// What the round emitted last came second.
    is_second: bool,
    next_at: Micros,
    in_transaction: bool,
    xid: Xid,
    /// The timer that it was told of last.
    scheduled: Option<(EventId, Micros)>,
    started: Option<WorkflowId>,
    state: State,
}

/// How long one waits before asking again what became of a transaction that is still in progress.
const RESOLVE_INTERVAL: Micros = Micros::from_millis(100);
/// How long one waits before repeating what was a victim of others.
const RETRY_INTERVAL: Micros = Micros::from_millis(20);
/// How long one waits before emitting once more what came second.
const INSIST_INTERVAL: Micros = Micros::from_millis(250);
/// Ids of emits that were put off are so far apart; a plan's own are smaller.
pub const EMIT_REPETITION: u32 = 10_000;

impl Script {
    pub fn new(options: ScriptOptions) -> Self {
        let next_at = match &options {
            ScriptOptions::Once { rounds } => rounds.first().map_or(Micros(0), |round| round.at),
            ScriptOptions::Periodic { round, .. } => round.at,
        };
        Script {
            options,
            round: 0,
            repetition: 0,
            upcoming: 1,
            put_off: Vec::new(),
            is_second: false,
            next_at,
            in_transaction: false,
            xid: Xid(0),
            scheduled: None,
            started: None,
            state: State::Between,
        }
    }

    /// Somebody else has started a workflow, and says so.
    pub const fn hear_of(&mut self, workflow: WorkflowId) {
        self.started = Some(workflow);
    }

    fn current(&self) -> Option<&Round> {
        match &self.options {
            ScriptOptions::Once { rounds } => rounds.get(self.round),
            ScriptOptions::Periodic { round, .. } => Some(round),
        }
    }

    /// A duty that was held up does not make up for the rounds that it missed.
    fn next_round(&mut self, now: Micros) -> State {
        if self.insists() && self.is_second {
            let (round, repetition) = (self.round, self.repetition + 1);
            self.put_off.push(PutOff { at: now + INSIST_INTERVAL, round, repetition });
        }
        match &self.options {
            ScriptOptions::Once { rounds } => {
                let upcoming = rounds.get(self.upcoming).map(|round| round.at);
                let next = self.put_off.iter().min().copied();
                match next.filter(|next| upcoming.is_none_or(|at| next.at < at)) {
                    Some(next) => {
                        self.put_off.retain(|other| *other != next);
                        (self.next_at, self.round, self.repetition) = (next.at, next.round, next.repetition);
                    }
                    None => {
                        (self.next_at, self.round, self.repetition) = (upcoming.unwrap_or_default(), self.upcoming, 0);
                        self.upcoming += 1;
                    }
                }
            }
            ScriptOptions::Periodic { every, .. } => self.next_at = now.max(self.next_at + *every),
        }
        State::Between
    }

    fn insists(&self) -> bool {
        self.current().is_some_and(|round| round.on_lost_reply == OnLostReply::Insist)
    }

    fn repeat(&mut self, at: Micros) -> State {
        self.next_at = at;
        State::Between
    }

    fn take(&mut self, Answered { reply, xid }: &Answered, now: Micros) -> State {
        if *xid != Xid(0) {
            self.xid = *xid;
        }
        match *reply {
            Reply::Scheduled { event, due, .. } => self.scheduled = Some((event, due)),
            Reply::Started { workflow, .. } => self.started = Some(workflow),
            Reply::Emitted { answer, .. } => self.is_second = answer == EmitAnswer::Second,
            _ => {}
        }
        match (self.state, reply) {
            (State::RollingBack { then }, _) => {
                self.in_transaction = false;
                match then {
                    Then::Repeat => self.repeat(now + RETRY_INTERVAL),
                    Then::NextRound => self.next_round(now),
                }
            }
            (State::Resolving, Reply::Resolved(Outcome::Committed)) => self.next_round(now),
            (State::Resolving, Reply::Resolved(Outcome::Aborted)) => self.repeat(now),
            (State::Resolving, _) => {
                self.next_at = now + RESOLVE_INTERVAL;
                State::Resolve
            }
            (State::Called { .. }, Reply::Unknown) => self.take_lost_reply(now),
            (State::Called { index }, Reply::Refused(_)) if self.carries_on() => State::Pause { index: index + 1 },
            (State::Called { .. }, Reply::Refused(refusal)) => self.take_refusal(*refusal, now),
            (State::Called { index }, _) => State::Pause { index: index + 1 },
            (state, reply) => unreachable!("no call of {state:?} is answered by {reply:?}"),
        }
    }

    /// A transaction that has not shown an id has done nothing, so it can be run again.
    fn take_lost_reply(&mut self, now: Micros) -> State {
        self.in_transaction = false;
        match self.current().expect("a call belongs to a round").on_lost_reply {
            OnLostReply::Repeat | OnLostReply::Insist => self.repeat(now),
            OnLostReply::Resolve if self.xid == Xid(0) => self.repeat(now),
            OnLostReply::Resolve => {
                self.next_at = now;
                State::Resolve
            }
            OnLostReply::GiveUp => self.next_round(now),
        }
    }

    fn carries_on(&self) -> bool {
        self.current().is_some_and(|round| round.on_refusal == OnRefusal::CarryOn)
    }

    fn take_refusal(&mut self, refusal: Refusal, now: Micros) -> State {
        let is_victim = matches!(refusal, Refusal::Deadlock | Refusal::SerializationFailure);
        let must = self.current().is_some_and(|round| round.on_lost_reply != OnLostReply::GiveUp);
        let then = if is_victim && must { Then::Repeat } else { Then::NextRound };
        match (self.in_transaction, then) {
            (true, then) => State::RollBack { then },
            (false, Then::Repeat) => self.repeat(now + RETRY_INTERVAL),
            (false, Then::NextRound) => self.next_round(now),
        }
    }

    /// None if it is left out.
    fn call(&mut self, index: usize) -> Option<Action> {
        let mut op = self.current()?.statements.get(index)?.1.clone();
        match &mut op {
            Op::Begin { .. } => self.in_transaction = true,
            Op::Commit | Op::Rollback => self.in_transaction = false,
            Op::Cancel { event: event @ EventId(0), due, .. } => {
                (*event, *due) = self.scheduled.unwrap_or((*event, *due));
            }
            Op::Emit { workflow, emit, .. } => {
                *emit = EmitId(emit.0 + self.repetition * EMIT_REPETITION);
                if *workflow == WorkflowId(0) {
                    *workflow = self.started?;
                }
            }
            _ => {}
        }
        Some(Action::Call(op))
    }
}

impl Actor for Script {
    fn poll(&mut self, now: Micros, answered: Option<&mut Answered>) -> Action {
        if let Some(answered) = answered {
            self.state = self.take(answered, now);
        }
        loop {
            match self.state {
                State::Between => {
                    if self.current().is_none() {
                        return Action::Finished;
                    }
                    if self.next_at > now {
                        return Action::Sleep(self.next_at);
                    }
                    self.state = State::Pause { index: 0 };
                    self.xid = Xid(0);
                    self.is_second = false;
                }
                State::Pause { index } => {
                    let pause = self.current().and_then(|round| round.statements.get(index)).map(|(pause, _)| *pause);
                    let Some(pause) = pause else {
                        self.state = self.next_round(now);
                        continue;
                    };
                    self.state = State::Ready { index };
                    if pause != Micros(0) {
                        return Action::Sleep(now + pause);
                    }
                }
                State::Ready { index } => match self.call(index) {
                    Some(call) => {
                        self.state = State::Called { index };
                        return call;
                    }
                    None => self.state = State::Pause { index: index + 1 },
                },
                State::RollBack { then } => {
                    self.state = State::RollingBack { then };
                    return Action::Call(Op::Rollback);
                }
                State::Resolve => {
                    if self.next_at > now {
                        return Action::Sleep(self.next_at);
                    }
                    self.state = State::Resolving;
                    return Action::Call(Op::Resolve { xid: self.xid });
                }
                waiting @ (State::Called { .. } | State::RollingBack { .. } | State::Resolving) => {
                    unreachable!("{waiting:?} waits for an answer")
                }
            }
        }
    }

    /// A round that was under way is run again only if it is idempotent: the process has forgotten its transaction.
    fn restart(&mut self, now: Micros) {
        self.in_transaction = false;
        self.scheduled = None;
        if matches!(self.state, State::Between) {
            return;
        }
        self.state = match self.current().map(|round| round.on_lost_reply) {
            Some(OnLostReply::Repeat | OnLostReply::Insist) => self.repeat(now),
            _ => self.next_round(now),
        };
    }
}

#[cfg(test)]
mod tests;
