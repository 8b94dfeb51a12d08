//! A plan: everything that a run does, decided before it begins. Plain data with a text form.
//!
//! From the plan and the choices that PostgreSQL leaves open, a run follows; a plan read back from a capsule runs as it
//! did, even after the generator that drew it has changed. What a plan does *not* say is how a run ends.

use crate::clock::Clock;
use crate::faults::FaultKind;
use crate::net::network::{Network, NetworkEffect};
use crate::order::Order;
use serde::{Deserialize, Serialize};
use tourbillon_engine::actors::script::{Round, ScriptOptions};
use tourbillon_engine::actors::worker::options::WorkerOptions;
use tourbillon_engine::store::WalLevel;
use tourbillon_engine::store::locks::SESSIONS;
use tourbillon_engine::store::unflushed::Durability;
use tourbillon_models::name::{Key, Micros, Process, Step};
use tourbillon_models::op::Op;
use tourbillon_models::record::ClockOffset;

/// One run, before it happens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub seed: u64,
    pub workload: String,
    /// Every drawn option, for people: name and value.
    pub options: Vec<(String, String)>,
    pub processes: Vec<ProcessPlan>,
    /// In the order of their time, points after times.
    pub faults: Vec<PlannedFault>,
    pub dead_interval: Micros,
    pub rotation_period: Micros,
    /// How often timers are drained; 0 in plans from before there were timers.
    #[serde(default)]
    pub drain_interval: Micros,
    /// A call takes between so much and so much to come back.
    pub latency: (Micros, Micros),
    #[serde(default, skip_serializing_if = "is_default")]
    pub latency_draw: LatencyDraw,
    /// After this time no fault begins.
    pub faults_end: Micros,
    /// So long after `faults_end` everything must have finished.
    pub liveness_bound: Micros,
    pub end: End,
    /// As on the server that the plan is for, since ids of transactions follow from it; the default is that of our own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub wal_level: WalLevel,
    /// Of a plan that was shrunk: the seed that had drawn it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_under: Option<u64>,
    /// How the processes' sessions commit; a crash of the server loses what was not flushed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub durability: Durability,
    /// Who decides whose turn it is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub order: Order,
    /// Between the processes and the server, where there is one; the plan then runs on `net`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Plan {
    /// Why it cannot be run, if it cannot: a plan that somebody edited, a person or a shrinker, may say anything.
    pub fn objection(&self) -> Option<String> {
        let count = self.processes.len();
        if count == 0 || count > SESSIONS {
            return Some(format!("it has {count} processes, and between 1 and {SESSIONS} are possible"));
        }
        if let Some(fault) = self.faults.iter().find(|fault| usize::from(fault.when.process().0) >= count) {
            return Some(format!("a fault names {}, and there are {count} processes", fault.when.process()));
        }
        if let Some(process) = self.processes.iter().find(|process| !process.clock.is_possible()) {
            return Some(format!("the clock of {} shows or takes no time", process.name));
        }
        // The model's clock stands still there, and a server's does not.
        let is_before_all = |fault: &&PlannedFault| match (fault.when, fault.what) {
            (When::Time { at, .. }, PlannedEffect::ServerClockStep(offset)) => offset.behind > at,
            _ => false,
        };
        if let Some(fault) = self.faults.iter().find(is_before_all) {
            return Some(format!("{:?} sets the server's clock to a time before the run began", fault.what));
        }
        if let Some(objection) = self.network.as_ref().and_then(Network::objection) {
            return Some(objection);
        }
        if self.network.is_some() && self.order != Order::Timed {
            return Some("on a network time decides who comes next, and it has an order".to_owned());
        }
        // A call that takes no time would let a process run for ever at one point in time.
        let (low, high) = self.latency;
        (low.0 == 0 || low > high).then(|| format!("its calls take between {} and {} µs", low.0, high.0))
    }

    /// Where workflows begin, and with what.
    pub fn starts_mut(&mut self) -> impl Iterator<Item = (&mut Step, &mut u64)> {
        self.rounds_mut().flat_map(|round| &mut round.statements).filter_map(|(_, op)| match op {
            Op::Start { step, state, .. } => Some((step, state)),
            _ => None,
        })
    }

    /// Of all scripts.
    pub fn rounds_mut(&mut self) -> impl Iterator<Item = &mut Round> {
        let scripts = self.processes.iter_mut().filter_map(|process| match &mut process.role {
            Role::Script(script) => Some(script),
            Role::Worker(_) => None,
        });
        scripts.flat_map(ScriptOptions::rounds_mut)
    }
}

/// How long a call takes is drawn
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatencyDraw {
    /// for one call of a process after the other.
    #[default]
    InTurn,
    /// for each time by itself: a call that is not made makes no difference to later ones.
    ByTime,
}

/// When a run is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// As soon as faults are over and nothing is left to do, at the latest at the liveness bound.
    Drained,
    /// At this time, whatever is left.
    At(Micros),
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProcessPlan {
    pub name: String,
    pub role: Role,
    #[serde(default, skip_serializing_if = "Clock::is_right")]
    pub clock: Clock,
    /// A script that hears at once which workflow was started under this key, whoever did that: what it emits is for that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hears_of: Option<Key>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Worker(WorkerOptions),
    Script(ScriptOptions),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PlannedFault {
    pub when: When,
    pub what: PlannedEffect,
    /// Of which this one was drawn; none if it belongs to what the plan is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<FaultKind>,
}

/// Where a fault falls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    Time {
        at: Micros,
        process: Process,
    },
    /// At the process's n-th call of this kind, counted from 0 over all its incarnations.
    Point {
        process: Process,
        call: CallKind,
        nth: u32,
        phase: Phase,
        /// Calls before this time do not count.
        #[serde(default, skip_serializing_if = "is_default")]
        from: Micros,
    },
}

impl When {
    pub const fn process(self) -> Process {
        match self {
            When::Time { process, .. } | When::Point { process, .. } => process,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The server has not seen the call.
    Before,
    /// The server has answered, and nobody has heard it yet.
    After,
    /// The call waits for a lock; counted are those that do.
    Waiting,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    Any,
    Begin,
    Claim,
    Read,
    HandOut,
    Hold,
    Effect,
    Handoff,
    Commit,
    Start,
    Append,
    Schedule,
    Emit,
    ExpireWaits,
    ReadResults,
    Observe,
}

impl CallKind {
    pub const fn matches<D>(self, op: &Op<D>) -> bool {
        match self {
            CallKind::Any => true,
            CallKind::Begin => matches!(op, Op::Begin { .. }),
            CallKind::Claim => matches!(op, Op::Claim { .. } | Op::TakeOver { .. }),
            CallKind::Read => matches!(op, Op::Read { .. }),
            CallKind::HandOut => matches!(op, Op::HandOut { .. }),
            CallKind::Hold => matches!(op, Op::Hold { .. }),
            CallKind::Effect => matches!(op, Op::Effect { .. }),
            CallKind::Handoff => matches!(op, Op::Handoff { .. }),
            CallKind::Commit => matches!(op, Op::Commit),
            CallKind::Start => matches!(op, Op::Start { .. }),
            CallKind::Append => matches!(op, Op::Append { .. }),
            CallKind::Schedule => matches!(op, Op::Schedule { .. }),
            CallKind::Emit => matches!(op, Op::Emit { .. }),
            CallKind::ExpireWaits => matches!(op, Op::ExpireWaits { .. }),
            CallKind::ReadResults => matches!(op, Op::ReadResults { .. }),
            CallKind::Observe => matches!(op, Op::Observe { .. }),
        }
    }
}

/// What a fault does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannedEffect {
    Crash {
        restart_after: Micros,
    },
    Pause {
        duration: Micros,
    },
    LostReply,
    ServerCrash {
        down_for: Micros,
    },
    /// No fault: the server's log reaches the disk, and with it every commit up to now.
    Flush,
    /// The server's wall clock is set: off by so much from here on, until the next step or the end of the faults.
    ServerClockStep(ClockOffset),
    /// The process stands still for `duration`, and after `idle` the server ends its session if that is in a transaction
    /// that holds its window.
    IdleTimeout {
        idle: Micros,
        duration: Micros,
    },
    /// On the way between the process and the server; nothing where there is no network.
    Network(NetworkEffect),
}
