//! One event that always kills its handler, amid innocent ones.

use super::{Next, Program, StepInput, StepOutcome, stir};
use crate::name::Step;

/// One workflow in five, told by its state, dies at its second step: with an effect before it that must stay, and beside
/// others in its window that must go on.
pub struct Poison;

const STEPS: [&str; 3] = ["open", "parse", "store"];
const OPEN: Step = Step(0);
const PARSE: Step = Step(1);
const STORE: Step = Step(2);

impl Program for Poison {
    fn name(&self) -> &'static str {
        "poison"
    }

    fn summary(&self) -> &'static str {
        "one workflow in five takes every process down that runs its second step"
    }

    fn steps(&self) -> &[&str] {
        &STEPS
    }

    /// The first of every five, so that even a small plan has one.
    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        let stirred = stir(u64::from(index) << 32 ^ size) << 1;
        (OPEN, stirred | u64::from(index.is_multiple_of(5)))
    }

    fn decide(&self, StepInput { step, state, .. }: StepInput) -> StepOutcome {
        let is_poison = state & 1 == 1;
        let next = match step {
            OPEN => Next::Goto { step: PARSE, state },
            PARSE if is_poison => Next::Die,
            PARSE => Next::Goto { step: STORE, state },
            _ => Next::Complete { result: 0 },
        };
        StepOutcome { effect: step == OPEN || step == STORE, next }
    }
}
