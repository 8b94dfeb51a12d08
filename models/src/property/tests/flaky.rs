//! A workflow in which everything goes wrong that can, for tales.

use crate::name::{Micros, Step};
use crate::workload::{Next, Program, StepInput, StepOutcome};

/// A step for each thing that can go wrong; the workflow's key says where it starts.
pub(super) struct Flaky;

/// Sleeps for two seconds, then goes on with [`TRY`].
pub(super) const NAP: u32 = 0;
/// Fails the first time, is tried again a second later, then goes on with [`LAST`].
pub(super) const TRY: u32 = 1;
/// Completes; from version 2 of the code on it fails.
pub(super) const LAST: u32 = 2;
/// No version has code for it.
pub(super) const GONE: u32 = 3;
/// Never succeeds, and is attempted twice.
pub(super) const HOPELESS: u32 = 4;
/// Kills its process.
pub(super) const POISON: u32 = 5;

impl Program for Flaky {
    fn name(&self) -> &str {
        "flaky tale"
    }

    fn summary(&self) -> &str {
        "whatever can go wrong"
    }

    fn steps(&self) -> &[&str] {
        &["nap", "try", "last", "gone", "hopeless", "poison"]
    }

    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        (Step((index % 10) as u16), u64::from(index) + size)
    }

    fn decide(&self, StepInput { step, state, attempt, version, .. }: StepInput) -> StepOutcome {
        let next = match u32::from(step.0) {
            NAP => Next::Sleep { step: Step(1), state: state + 1, delay: Micros::from_secs(2) },
            TRY if attempt == 1 => Next::Retry { delay: Micros::from_secs(1), max_attempts: 3 },
            TRY => Next::Goto { step: Step(2), state },
            LAST if version < 2 => Next::Complete { result: 0 },
            LAST => Next::Fail { result: 0 },
            GONE => Next::Reject,
            HOPELESS => Next::Retry { delay: Micros(0), max_attempts: 2 },
            _ => Next::Die,
        };
        StepOutcome { effect: false, next }
    }
}
