//! charge → pack → ship → notify: the core pattern.

use super::{Next, Program, StepInput, StepOutcome, stir};
use crate::name::Step;

/// An effect in each step. The state is stirred at each, so that a state that arrives at the wrong step or workflow is
/// no other's.
pub struct Chain;

const STEPS: [&str; 4] = ["charge", "pack", "ship", "notify"];

impl Program for Chain {
    fn name(&self) -> &'static str {
        "chain"
    }

    fn summary(&self) -> &'static str {
        "charge, pack, ship, notify: each step writes a row and enqueues its successor"
    }

    fn steps(&self) -> &[&str] {
        &STEPS
    }

    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        (Step(0), stir(u64::from(index) << 32 ^ size))
    }

    fn decide(&self, StepInput { step, state, .. }: StepInput) -> StepOutcome {
        let last = STEPS.len() as u16 - 1;
        let next = match step.0 < last {
            true => Next::Goto { step: Step(step.0 + 1), state: stir(state) },
            false => Next::Complete { result: 0 },
        };
        StepOutcome { effect: step.0 <= last, next }
    }
}
