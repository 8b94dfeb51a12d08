//! Workloads: what workers are asked to do, as pure functions.
//!
//! A [`Program`] is a workflow: step names, where it starts, and a function from a step and its state to what comes
//! next. It knows no queue, worker, transaction or time, so the same program runs on every target, and a checker can
//! ask it what a step *should* have passed on. Not here: how many workflows there are and when they start (a plan
//! says that), and the plain queue's messages, which have no program: an event of theirs is acknowledged, and that is all.
//!
//! Invariant: the same step and state give the same outcome, always.
//!
//! A program of one's own is a dozen lines:
//!
//! ```
//! use tourbillon_models::name::Step;
//! use tourbillon_models::workload::{Next, Program, StepInput, StepOutcome};
//!
//! struct Countdown;
//!
//! impl Program for Countdown {
//!     fn name(&self) -> &str { "countdown" }
//!     fn summary(&self) -> &str { "counts to zero, an effect at each number" }
//!     fn steps(&self) -> &[&str] { &["count"] }
//!     fn start(&self, _index: u32, size: u64) -> (Step, u64) { (Step(0), size) }
//!     fn decide(&self, input: StepInput) -> StepOutcome {
//!         let next = match input.state {
//!             0 => Next::Complete { result: 0 },
//!             left => Next::Goto { step: Step(0), state: left - 1 },
//!         };
//!         StepOutcome { effect: true, next }
//!     }
//! }
//! ```
//!
//! So is one that waits for its children, for somebody, and for a while:
//!
//! ```
//! use tourbillon_models::name::{Micros, Name, Step};
//! use tourbillon_models::reply::Arrival;
//! use tourbillon_models::workload::{Child, Expected, Next, Program, StepInput, StepOutcome, shape};
//!
//! struct Trip;
//!
//! impl Program for Trip {
//!     fn name(&self) -> &str { "trip" }
//!     fn summary(&self) -> &str { "books a flight and a room, asks, and sleeps before it asks again" }
//!     fn steps(&self) -> &[&str] { &["begin", "book", "ask", "leave"] }
//!     fn names(&self) -> &[&str] { &["yes"] }
//!     fn emits(&self, _index: u32, _size: u64) -> Vec<Expected> {
//!         vec![Expected { name: Name(0), payload: 1, token: None }]
//!     }
//!     fn start(&self, index: u32, _size: u64) -> (Step, u64) { (Step(0), index.into()) }
//!     fn decide(&self, input: StepInput) -> StepOutcome {
//!         let (state, second) = (input.state, Micros::from_secs(1));
//!         let next = match (input.step, input.arrival) {
//!             (Step(0), _) => Next::Spawn { step: Step(2), state, children: vec![Child { step: Step(1), state }; 2] },
//!             (Step(1), _) => Next::Complete { result: state },
//!             (Step(2), _) => Next::Await { name: Name(0), step: Step(3), state, deadline: Some(second), token: None },
//!             (_, Arrival::TimedOut) => Next::Sleep { step: Step(2), state, delay: second },
//!             _ => Next::Complete { result: state },
//!         };
//!         StepOutcome { effect: input.step == Step(1), next }
//!     }
//! }
//!
//! let expected = "\
//! trip, starts with begin
//!   begin: spawn book, then ask
//!   book: a row, complete
//!   ask: await yes or a deadline, then leave
//!   ask, joined: await yes or a deadline, then leave
//!   leave, emitted: complete
//!   leave, timed out: sleep, then ask
//! ";
//! assert_eq!(shape::explore(&Trip).unwrap().to_string(), expected);
//! ```

mod agent_loop;
mod approval;
mod chain;
mod children_fail;
mod deploy;
mod dispatch;
mod emit_race;
mod external_call;
mod fan_out;
mod flaky;
mod long_sleep;
mod observability;
mod poison;
mod restart;
mod results;
mod secrets;
pub mod shape;
mod small;
#[cfg(test)]
mod walk;

pub use agent_loop::AgentLoop;
pub use chain::Chain;
pub use children_fail::ChildrenFail;
pub use emit_race::EmitRace;
pub use long_sleep::LongSleep;
pub use secrets::SECRET;

use crate::name::{Micros, Name, Step, WaitToken};
use crate::reply::{Arrival, ChildResult};
use alloc::vec::Vec;
use approval::Approval;
use deploy::Deploy;
use dispatch::Dispatch;
use external_call::ExternalCall;
use fan_out::FanOut;
use flaky::Flaky;
use observability::Observability;
use poison::Poison;
use restart::Restart;
use results::Results;
use secrets::Secrets;
use small::{Apart, Ask, Pair, Single};

/// What a step asks for: whether it writes a row of the application's in the database, and what comes next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepOutcome {
    /// A step with an effect opens a transaction, holds its window, writes, and hands off in that transaction.
    pub effect: bool,
    pub next: Next,
}

/// How a workflow goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    Goto {
        step: Step,
        state: u64,
    },
    /// Goes on with another step after a while.
    Sleep {
        step: Step,
        state: u64,
        delay: Micros,
    },
    /// This step again with the same state, at most so many times in all.
    Retry {
        delay: Micros,
        max_attempts: u16,
    },
    /// Goes on with another step when somebody emits this name to the workflow, or when the deadline has passed. Who emits
    /// must show the token, if one is asked for.
    Await {
        name: Name,
        step: Step,
        state: u64,
        deadline: Option<Micros>,
        token: Option<WaitToken>,
    },
    /// Starts children, and goes on with another step when they have all ended.
    Spawn {
        step: Step,
        state: u64,
        children: Vec<Child>,
    },
    /// Its result is what a parent is told.
    Complete {
        result: u64,
    },
    Fail {
        result: u64,
    },
    /// The program has no such step.
    Reject,
    /// The handler takes its whole process down with it.
    Die,
}

/// Where a child begins: a workflow of the same program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Child {
    pub step: Step,
    pub state: u64,
}

/// What a step is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StepInput<'a> {
    pub step: Step,
    pub state: u64,
    /// What the workflow had waited for, and what came of it.
    pub arrival: Arrival,
    /// What its children left, in their order, if it had waited for them.
    pub results: &'a [ChildResult],
    /// 1 at first; more for a step that asked to be retried.
    pub attempt: u16,
    /// Of the code that the worker runs: a deployment raises it while workflows are under way.
    pub version: u16,
}

impl StepInput<'_> {
    /// Of a workflow's first step, or of one that another went on to: its first attempt, of the first version.
    pub const fn first(step: Step, state: u64) -> Self {
        StepInput { step, state, arrival: Arrival::Direct, results: &[], attempt: 1, version: 0 }
    }
}

/// A workflow as a pure function.
pub trait Program {
    /// The name on the command line and in the header of a history.
    fn name(&self) -> &str;

    /// One sentence.
    fn summary(&self) -> &str;

    /// The names of the steps; a [`Step`] is an index into them.
    fn steps(&self) -> &[&str];

    /// What its workflows await; a [`Name`] is an index into them.
    fn names(&self) -> &[&str] {
        &[]
    }

    /// What is emitted to the `index`-th workflow of a plan from outside, sooner or later, and often more than once.
    fn emits(&self, index: u32, size: u64) -> Vec<Expected> {
        let _ = (index, size);
        Vec::new()
    }

    /// Where the `index`-th workflow of a plan begins, and with which state; `size` is how much work the plan asks of it.
    fn start(&self, index: u32, size: u64) -> (Step, u64);

    /// What follows when a step has run. A step that the program does not have ends the workflow, without an
    /// effect: a history from elsewhere may name one.
    fn decide(&self, input: StepInput) -> StepOutcome;
}

/// What a workflow may count on being told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    pub name: Name,
    pub payload: u64,
    pub token: Option<WaitToken>,
}

/// What a plan can ask for by name.
#[derive(Clone, Copy)]
pub enum Workload {
    /// Messages on a plain queue, some of them due later: each event is acknowledged. What sets one such workload apart
    /// from another is how clients and workers behave, which the plan says.
    Messages {
        name: &'static str,
        summary: &'static str,
    },
    Program(&'static (dyn Program + Sync)),
    /// Another's program, where clients, workers or the server behave in a way of its own.
    Behaviour {
        name: &'static str,
        summary: &'static str,
        program: &'static (dyn Program + Sync),
    },
}

impl Workload {
    /// Every workload, in the order in which they are listed.
    pub const ALL: [Workload; 23] = [
        Workload::Program(&Chain),
        Workload::Program(&AgentLoop),
        Workload::Messages {
            name: "messages",
            summary: "messages on a plain queue with several consumers, each acknowledged; some are due later, or cancelled",
        },
        Workload::Program(&Restart),
        Workload::Program(&LongSleep),
        Workload::Program(&Flaky),
        Workload::Program(&Poison),
        Workload::Program(&Dispatch),
        Workload::Program(&Deploy),
        Workload::Behaviour {
            name: "zombie",
            summary: "the chain, and workers that sleep past the dead interval inside and outside a transaction, then go on",
            program: &Chain,
        },
        Workload::Behaviour {
            name: "outage",
            summary: "marker, sleep, marker; for longer than every horizon nobody ticks, works or cleans up, then all return",
            program: &Restart,
        },
        Workload::Messages {
            name: "slow-consumer",
            summary: "messages for several consumers, one of which stands still until faults are over",
        },
        Workload::Behaviour {
            name: "burst",
            summary: "the chain, two hundred times at once from one session, or twenty times from each of eight",
            program: &Chain,
        },
        Workload::Program(&FanOut),
        Workload::Program(&Results),
        Workload::Program(&Approval),
        Workload::Program(&EmitRace),
        Workload::Program(&ChildrenFail),
        Workload::Program(&ExternalCall),
        Workload::Program(&Observability),
        Workload::Program(&Secrets),
        Workload::Behaviour {
            name: "triggered",
            summary: "marker, sleep, marker, begun where an application writes its rows: one by one, and twenty in one transaction",
            program: &Restart,
        },
        Workload::Behaviour {
            name: "rolled-back-start",
            summary: "marker, sleep, marker; most of the transactions that start one are rolled back and leave no trace",
            program: &Restart,
        },
    ];

    /// Too small for a seed to draw, small enough for all their schedules to be run.
    pub const SMALL: [Workload; 4] =
        [Workload::Program(&Single), Workload::Program(&Pair), Workload::Program(&Apart), Workload::Program(&Ask)];

    /// Also one of the small.
    pub fn by_name(name: &str) -> Option<Workload> {
        Workload::ALL.into_iter().chain(Workload::SMALL).find(|workload| workload.name() == name)
    }

    pub fn name(&self) -> &'static str {
        match self {
            Workload::Messages { name, .. } | Workload::Behaviour { name, .. } => name,
            Workload::Program(program) => program.name(),
        }
    }

    pub fn summary(&self) -> &'static str {
        match self {
            Workload::Messages { summary, .. } | Workload::Behaviour { summary, .. } => summary,
            Workload::Program(program) => program.summary(),
        }
    }

    /// The names of the steps; none for messages.
    pub fn steps(&self) -> &'static [&'static str] {
        self.program().map_or(&[], |program| program.steps())
    }

    /// What its workflows await.
    pub fn names(&self) -> &'static [&'static str] {
        self.program().map_or(&[], |program| program.names())
    }

    pub fn program(&self) -> Option<&'static (dyn Program + Sync)> {
        match self {
            Workload::Messages { .. } => None,
            Workload::Program(program) | Workload::Behaviour { program, .. } => Some(*program),
        }
    }
}

impl core::fmt::Debug for Workload {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// A bijection on 64 bits (the finisher of splitmix64): different states stay different.
const fn stir(state: u64) -> u64 {
    let state = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ state >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ state >> 31
}

/// A span of time that follows from a state: from `low` to `high` milliseconds.
const fn millis_of(state: u64, low: u64, high: u64) -> Micros {
    Micros::from_millis(low + stir(state) % (high - low + 1))
}

#[cfg(test)]
mod tests;
