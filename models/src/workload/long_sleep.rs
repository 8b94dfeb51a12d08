//! A sleep of minutes, where tables rotate every second.

use super::{Next, Program, StepInput, StepOutcome, millis_of, stir};
use crate::name::Step;

/// What slept for long must not be taken for something stale.
pub struct LongSleep;

const STEPS: [&str; 2] = ["doze", "wake"];
const DOZE: Step = Step(0);
const WAKE: Step = Step(1);

/// No event may carry this: a rule of the application's.
const FORBIDDEN: u64 = u64::MAX;

impl Program for LongSleep {
    fn name(&self) -> &'static str {
        "long-sleep"
    }

    fn summary(&self) -> &'static str {
        "sleeps for minutes, many times longer than anything is kept, then writes a row; now and then it cannot be woken"
    }

    fn steps(&self) -> &[&str] {
        &STEPS
    }

    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        (DOZE, stir(u64::from(index) << 32 ^ size))
    }

    fn decide(&self, StepInput { step, state, .. }: StepInput) -> StepOutcome {
        let next = match step {
            // Nobody can say so before it is due; then it is a dead letter, and the workflow has failed.
            DOZE if state >> 8 & 15 == 2 => {
                Next::Sleep { step: WAKE, state: FORBIDDEN, delay: millis_of(state, 30_000, 150_000) }
            }
            DOZE => Next::Sleep { step: WAKE, state: stir(state), delay: millis_of(state, 30_000, 150_000) },
            _ => Next::Complete { result: 0 },
        };
        StepOutcome { effect: step == WAKE, next }
    }
}
