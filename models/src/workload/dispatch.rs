//! A durable loop that drains a table of jobs, two rows for each.

use super::{Next, Program, StepInput, StepOutcome, millis_of};
use crate::name::Step;

/// The state's low half counts the jobs that are left, its high half tells loops apart.
pub struct Dispatch;

const STEPS: [&str; 3] = ["fetch", "run", "audit"];
const FETCH: Step = Step(0);
const RUN: Step = Step(1);
const AUDIT: Step = Step(2);

impl Program for Dispatch {
    fn name(&self) -> &'static str {
        "dispatch"
    }

    fn summary(&self) -> &'static str {
        "a durable loop drains a table of jobs: two rows for each, and a short sleep before the next"
    }

    fn steps(&self) -> &[&str] {
        &STEPS
    }

    /// `size` is the number of jobs, below 2³².
    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        (FETCH, u64::from(index) << 32 | size.min(u64::from(u32::MAX)))
    }

    fn decide(&self, StepInput { step, state, .. }: StepInput) -> StepOutcome {
        let left = state as u32;
        let next = match step {
            FETCH if left > 0 => Next::Goto { step: RUN, state },
            RUN => Next::Goto { step: AUDIT, state },
            AUDIT if left > 0 => Next::Sleep { step: FETCH, state: state - 1, delay: millis_of(state, 10, 200) },
            _ => Next::Complete { result: 0 },
        };
        StepOutcome { effect: step == RUN || step == AUDIT, next }
    }
}
