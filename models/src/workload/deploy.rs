//! Code that is replaced while workflows are under way.

use super::{Next, Program, StepInput, StepOutcome, millis_of, stir};
use crate::name::Step;

/// The second version sorts straight into delivery and has no stamping any more: what was on its way there is a dead
/// letter that says so, and not a loop.
pub struct Deploy;

const STEPS: [&str; 4] = ["receive", "sort", "stamp", "deliver"];
const RECEIVE: Step = Step(0);
const SORT: Step = Step(1);
const STAMP: Step = Step(2);
const DELIVER: Step = Step(3);

impl Program for Deploy {
    fn name(&self) -> &'static str {
        "deploy"
    }

    fn summary(&self) -> &'static str {
        "while workflows are under way, a second version skips a step that it has no code for"
    }

    fn steps(&self) -> &[&str] {
        &STEPS
    }

    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        (RECEIVE, stir(u64::from(index) << 32 ^ size))
    }

    fn decide(&self, StepInput { step, state, version, .. }: StepInput) -> StepOutcome {
        let is_first = version == 0;
        let next = match step {
            RECEIVE => Next::Goto { step: SORT, state: stir(state) },
            // Some wait before they are stamped, and so meet the deployment.
            SORT if is_first && state.is_multiple_of(2) => {
                Next::Sleep { step: STAMP, state: stir(state), delay: millis_of(state, 50, 1_500) }
            }
            SORT if is_first => Next::Goto { step: STAMP, state: stir(state) },
            SORT => Next::Goto { step: DELIVER, state: stir(state) },
            STAMP if is_first => Next::Goto { step: DELIVER, state: stir(state) },
            STAMP => Next::Reject,
            _ => Next::Complete { result: 0 },
        };
        StepOutcome { effect: step <= DELIVER && next != Next::Reject, next }
    }
}
