//! plan, then act and observe for as many rounds as the plan asks.

use super::{Next, Program, StepInput, StepOutcome};
use crate::name::Step;

/// Very many cheap steps without an effect. The state's low half counts the rounds that are left, its high half tells
/// workflows apart.
pub struct AgentLoop;

const STEPS: [&str; 3] = ["plan", "act", "observe"];
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

    fn steps(&self) -> &[&str] {
        &STEPS
    }

    /// `size` is the number of rounds, at least one and below 2³².
    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        (PLAN, u64::from(index) << 32 | size.clamp(1, u64::from(u32::MAX)))
    }

    fn decide(&self, StepInput { step, state, .. }: StepInput) -> StepOutcome {
        let left = state as u32;
        let next = match step {
            PLAN => Next::Goto { step: ACT, state },
            ACT => Next::Goto { step: OBSERVE, state },
            OBSERVE if left > 1 => Next::Goto { step: ACT, state: state - 1 },
            _ => Next::Complete { result: 0 },
        };
        StepOutcome { effect: false, next }
    }
}
