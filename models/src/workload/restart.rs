//! marker → sleep → marker, and the server restarts while the workflow sleeps.

use super::{Next, Program, StepInput, StepOutcome, millis_of, stir};
use crate::name::{Micros, Step};

/// Exactly one of each marker must be there in the end.
pub struct Restart;

const STEPS: [&str; 2] = ["before", "after"];
const BEFORE: Step = Step(0);
const AFTER: Step = Step(1);

impl Program for Restart {
    fn name(&self) -> &'static str {
        "restart"
    }

    fn summary(&self) -> &'static str {
        "a marker, a sleep of up to two seconds during which the server restarts, a marker"
    }

    fn steps(&self) -> &[&str] {
        &STEPS
    }

    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        (BEFORE, stir(u64::from(index) << 32 ^ size))
    }

    fn decide(&self, StepInput { step, state, .. }: StepInput) -> StepOutcome {
        let next = match step {
            BEFORE => Next::Sleep { step: AFTER, state: stir(state), delay: delay(state) },
            _ => Next::Complete { result: 0 },
        };
        StepOutcome { effect: step <= AFTER, next }
    }
}

/// Now and then none at all, which is a sleep like any other: until the next tick.
fn delay(state: u64) -> Micros {
    match state % 8 {
        0 => Micros(0),
        _ => millis_of(state, 50, 2_000),
    }
}
