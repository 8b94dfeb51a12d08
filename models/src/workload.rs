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
//! use tourbillon_models::workload::{Next, Program, StepOutcome};
//!
//! struct Countdown;
//!
//! impl Program for Countdown {
//!     fn name(&self) -> &str { "countdown" }
//!     fn summary(&self) -> &str { "counts to zero, an effect at each number" }
//!     fn steps(&self) -> &[&str] { &["count"] }
//!     fn start(&self, _index: u32, size: u64) -> (Step, u64) { (Step(0), size) }
//!     fn decide(&self, _step: Step, left: u64) -> StepOutcome {
//!         let next = match left {
//!             0 => Next::Complete,
//!             _ => Next::Goto { step: Step(0), state: left - 1 },
//!         };
//!         StepOutcome { effect: true, next }
//!     }
//! }
//! ```

use crate::name::Step;

/// What a step asks for: whether it writes a row of the application's in the database, and what comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StepOutcome {
    /// A step with an effect opens a transaction, holds its window, writes, and hands off in that transaction.
    pub effect: bool,
    pub next: Next,
}

/// How a workflow goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    Goto { step: Step, state: u64 },
    Complete,
}

/// A workflow as a pure function.
pub trait Program {
    /// The name on the command line and in the header of a history.
    fn name(&self) -> &str;

    /// One sentence.
    fn summary(&self) -> &str;

    /// The names of the steps; a [`Step`] is an index into them.
    fn steps(&self) -> &[&str];

    /// Where the `index`-th workflow of a plan begins, and with which state; `size` is how much work the plan asks of it.
    fn start(&self, index: u32, size: u64) -> (Step, u64);

    /// What follows when `step` has run with `state`. A step that the program does not have ends the workflow, without an
    /// effect: a history from elsewhere may name one.
    fn decide(&self, step: Step, state: u64) -> StepOutcome;
}

/// What a plan can ask for by name.
#[derive(Clone, Copy)]
pub enum Workload {
    /// Messages on a plain queue with several consumers; each event is acknowledged.
    Messages,
    Program(&'static (dyn Program + Sync)),
}

impl Workload {
    /// Every workload, in the order in which they are listed.
    pub const ALL: [Workload; 3] = [Workload::Program(&Chain), Workload::Program(&AgentLoop), Workload::Messages];

    pub fn by_name(name: &str) -> Option<Workload> {
        Workload::ALL.into_iter().find(|workload| workload.name() == name)
    }

    pub fn name(&self) -> &'static str {
        match self {
            Workload::Messages => "messages",
            Workload::Program(program) => program.name(),
        }
    }

    pub fn summary(&self) -> &'static str {
        match self {
            Workload::Messages => "messages on a plain queue with several consumers, each acknowledged",
            Workload::Program(program) => program.summary(),
        }
    }

    /// The names of the steps; none for messages.
    pub fn steps(&self) -> &'static [&'static str] {
        match self {
            Workload::Messages => &[],
            Workload::Program(program) => program.steps(),
        }
    }

    pub fn program(&self) -> Option<&'static (dyn Program + Sync)> {
        match self {
            Workload::Messages => None,
            Workload::Program(program) => Some(*program),
        }
    }
}

impl core::fmt::Debug for Workload {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// charge → pack → ship → notify, an effect in each: the core pattern.
///
/// The state is stirred at each step, so that a state that arrives at the wrong step or workflow is no other's.
pub struct Chain;

const CHAIN: [&str; 4] = ["charge", "pack", "ship", "notify"];

impl Program for Chain {
    fn name(&self) -> &'static str {
        "chain"
    }

    fn summary(&self) -> &'static str {
        "charge, pack, ship, notify: each step writes a row and enqueues its successor"
    }

    fn steps(&self) -> &'static [&'static str] {
        &CHAIN
    }

    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        (Step(0), stir(u64::from(index) << 32 ^ size))
    }

    fn decide(&self, step: Step, state: u64) -> StepOutcome {
        let last = CHAIN.len() as u16 - 1;
        let next = match step.0 < last {
            true => Next::Goto { step: Step(step.0 + 1), state: stir(state) },
            false => Next::Complete,
        };
        StepOutcome { effect: step.0 <= last, next }
    }
}

/// plan, then act and observe for as many rounds as the plan asks: very many cheap steps without an effect.
///
/// The state's low half counts the rounds that are left, its high half tells workflows apart.
pub struct AgentLoop;

const AGENT_LOOP: [&str; 3] = ["plan", "act", "observe"];
const PLAN: Step = Step(0);
const ACT: Step = Step(1);
const OBSERVE: Step = Step(2);

impl Program for AgentLoop {
    fn name(&self) -> &'static str {
        "agent-loop"
    }

    fn summary(&self) -> &'static str {
        "plan, then act and observe in a loop: one workflow, very many cheap steps"
    }

    fn steps(&self) -> &'static [&'static str] {
        &AGENT_LOOP
    }

    /// `size` is the number of rounds, at least one and below 2³².
    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        (PLAN, u64::from(index) << 32 | size.clamp(1, u64::from(u32::MAX)))
    }

    fn decide(&self, step: Step, state: u64) -> StepOutcome {
        let left = state as u32;
        let next = match step {
            PLAN => Next::Goto { step: ACT, state },
            ACT => Next::Goto { step: OBSERVE, state },
            OBSERVE if left > 1 => Next::Goto { step: ACT, state: state - 1 },
            _ => Next::Complete,
        };
        StepOutcome { effect: false, next }
    }
}

/// A bijection on 64 bits (the finisher of splitmix64): different states stay different.
const fn stir(state: u64) -> u64 {
    let state = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ state >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ state >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn run(program: &dyn Program, index: u32, size: u64) -> Vec<(&str, bool)> {
        let (mut step, mut state) = program.start(index, size);
        let mut taken = Vec::new();
        loop {
            let outcome = program.decide(step, state);
            taken.push((program.steps()[step.0 as usize], outcome.effect));
            match outcome.next {
                Next::Goto { step: to, state: with } => (step, state) = (to, with),
                Next::Complete => return taken,
            }
        }
    }

    #[test]
    fn chain_takes_its_four_steps_with_an_effect_in_each() {
        assert_eq!(run(&Chain, 7, 1), [("charge", true), ("pack", true), ("ship", true), ("notify", true)]);
    }

    #[test]
    fn agent_loop_takes_two_steps_a_round() {
        let names: Vec<&str> = run(&AgentLoop, 3, 2).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["plan", "act", "observe", "act", "observe"]);
        assert_eq!(run(&AgentLoop, 3, 1_000).len(), 2_001);
        assert_eq!(run(&AgentLoop, 3, 0).len(), 3, "at least one round");
    }

    #[test]
    fn states_of_different_workflows_differ() {
        for program in [&Chain as &dyn Program, &AgentLoop] {
            assert_ne!(program.start(1, 5).1, program.start(2, 5).1);
        }
    }

    #[test]
    fn a_step_that_is_not_the_programs_ends_the_workflow() {
        for program in [&Chain as &dyn Program, &AgentLoop] {
            assert_eq!(program.decide(Step(u16::MAX), 0), StepOutcome { effect: false, next: Next::Complete });
        }
    }

    #[test]
    fn workloads_are_found_by_name() {
        for workload in Workload::ALL {
            assert_eq!(Workload::by_name(workload.name()).map(|found| found.name()), Some(workload.name()));
        }
        assert!(Workload::by_name("chian").is_none());
    }
}
