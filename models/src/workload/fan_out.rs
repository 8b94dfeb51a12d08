//! Three branches of unequal length, joined, and a sum that must be right.

use super::{Child, Next, Program, StepInput, StepOutcome, millis_of, stir};
use crate::name::Step;
use crate::reply::ChildOutcome;

/// The first branch is done at once, the last one travels for the longest. A branch's state names the workflow, the branch
/// and how many legs are left, so that what it brings can be told beforehand.
pub struct FanOut;

const STEPS: [&str; 3] = ["split", "travel", "sum"];
const SPLIT: Step = Step(0);
const TRAVEL: Step = Step(1);
const SUM: Step = Step(2);

const BRANCHES: u64 = 3;

/// A branch with so many legs before it.
const fn branch(state: u64, branch: u64, legs: u64) -> Child {
    Child { step: TRAVEL, state: state & !0xff | branch << 4 | legs }
}

/// What a branch brings.
const fn share(state: u64) -> u64 {
    stir(state & !0xf) & 0xffff
}

fn sum(state: u64) -> u64 {
    (0..BRANCHES).map(|index| share(branch(state, index, 0).state)).sum()
}

impl Program for FanOut {
    fn name(&self) -> &'static str {
        "fan-out"
    }

    fn summary(&self) -> &'static str {
        "three branches of one, two and three legs with sleeps in between, joined, and the sum of what they bring"
    }

    fn steps(&self) -> &[&str] {
        &STEPS
    }

    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        (SPLIT, stir(u64::from(index) << 32 ^ size) & !0xff)
    }

    fn decide(&self, StepInput { step, state, results, .. }: StepInput) -> StepOutcome {
        let next = match step {
            SPLIT => {
                let children = (0..BRANCHES).map(|index| branch(state, index, index + 1)).collect();
                Next::Spawn { step: SUM, state, children }
            }
            TRAVEL if state & 0xf > 1 => {
                let (state, delay) = (state - 1, millis_of(state, 20, 700));
                // The second branch does not rest.
                if state & 0x10 == 0 { Next::Sleep { step, state, delay } } else { Next::Goto { step, state } }
            }
            TRAVEL => Next::Complete { result: share(state) },
            SUM => {
                let shares = results.iter().filter(|child| child.outcome == ChildOutcome::Completed);
                match shares.map(|child| child.result).sum() {
                    total if total == sum(state) => Next::Complete { result: total },
                    total => Next::Fail { result: total },
                }
            }
            _ => Next::Complete { result: 0 },
        };
        StepOutcome { effect: step <= SUM, next }
    }
}

#[cfg(test)]
mod tests {
    use super::super::walk::{Answers, walk};
    use super::*;

    #[test]
    fn branches_differ_in_length_and_their_sum_is_right() {
        for index in 0..20 {
            let walked = walk(&FanOut, index, 1, Answers::Expected);
            assert_eq!(walked.steps, ["split", "travel", "travel", "travel", "travel", "travel", "travel", "sum"]);
            let (_, state) = FanOut.start(index, 1);
            assert_eq!(walked.end, Next::Complete { result: sum(state) });
        }
    }

    #[test]
    fn without_all_its_branches_the_sum_is_wrong() {
        let (_, state) = FanOut.start(3, 1);
        let joined = StepInput { step: SUM, state, ..StepInput::first(SPLIT, 0) };
        assert!(matches!(FanOut.decide(joined).next, Next::Fail { .. }));
    }
}
