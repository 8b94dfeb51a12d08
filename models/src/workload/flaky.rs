//! A step that fails so many times, then succeeds; or gives up.

use super::{Next, Program, StepInput, StepOutcome, millis_of, stir};
use crate::name::{Micros, Step};

/// How often it fails follows from the state. A retry is a decision like any other, so now and then the failed attempt
/// leaves a row behind, as an application's log of failures would.
pub struct Flaky;

const STEPS: [&str; 2] = ["call", "report"];
const CALL: Step = Step(0);
const REPORT: Step = Step(1);

/// A step that failed so often is a dead letter.
const MAX_ATTEMPTS: u16 = 3;

impl Flaky {
    /// 0 to 4: with three attempts in all, two in five are never enough.
    const fn failures(state: u64) -> u16 {
        (state % 5) as u16
    }
}

impl Program for Flaky {
    fn name(&self) -> &'static str {
        "flaky"
    }

    fn summary(&self) -> &'static str {
        "a step fails up to four times and is retried, at once or after a while; the third failure in a row is the last"
    }

    fn steps(&self) -> &[&str] {
        &STEPS
    }

    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        (CALL, stir(u64::from(index) << 32 ^ size))
    }

    fn decide(&self, StepInput { step, state, attempt, .. }: StepInput) -> StepOutcome {
        match step {
            CALL if attempt <= Flaky::failures(state) => {
                let delay = if state >> 8 & 1 == 0 { Micros(0) } else { millis_of(state, 20, 400) };
                let next = Next::Retry { delay, max_attempts: MAX_ATTEMPTS };
                StepOutcome { effect: state >> 9 & 3 == 0, next }
            }
            CALL => StepOutcome { effect: true, next: Next::Goto { step: REPORT, state: stir(state) } },
            // Somebody looks at what came of it, and is not always pleased.
            REPORT if state.is_multiple_of(4) => StepOutcome { effect: true, next: Next::Fail { result: 0 } },
            _ => StepOutcome { effect: step == REPORT, next: Next::Complete { result: 0 } },
        }
    }
}
