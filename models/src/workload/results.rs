//! A step's result is substituted into the next.

use super::{Child, Next, Program, StepInput, StepOutcome, millis_of, stir};
use crate::name::{Micros, Step};
use crate::reply::{ChildOutcome, ChildResult};
use alloc::vec;

/// What the child computes is the state with which its parent goes on, and the parent's own result. Some ask twice before
/// they use it: what it left must be there still.
pub struct Results;

const STEPS: [&str; 4] = ["ask", "compute", "use", "store"];
const ASK: Step = Step(0);
const COMPUTE: Step = Step(1);
const USE: Step = Step(2);
const STORE: Step = Step(3);

const MAX_ATTEMPTS: u16 = 3;

impl Program for Results {
    fn name(&self) -> &'static str {
        "results"
    }

    fn summary(&self) -> &'static str {
        "a child computes something, and its parent goes on with the result; some look at it more than once"
    }

    fn steps(&self) -> &[&str] {
        &STEPS
    }

    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        (ASK, stir(u64::from(index) << 32 ^ size))
    }

    fn decide(&self, StepInput { step, state, results, attempt, .. }: StepInput) -> StepOutcome {
        let again = |delay| Next::Retry { delay, max_attempts: MAX_ATTEMPTS };
        let next = match step {
            ASK => Next::Spawn { step: USE, state, children: vec![Child { step: COMPUTE, state: stir(state) }] },
            COMPUTE if attempt == 1 && state.is_multiple_of(4) => again(Micros(0)),
            COMPUTE => Next::Complete { result: stir(state) },
            USE if attempt == 1 && state % 3 == 1 => again(Micros(0)),
            USE if attempt < 3 && state % 3 == 2 => again(millis_of(state, 10, 300)),
            USE => match results {
                [ChildResult { outcome: ChildOutcome::Completed, result, .. }] => {
                    Next::Goto { step: STORE, state: *result }
                }
                _ => Next::Fail { result: 0 },
            },
            STORE => Next::Complete { result: state },
            _ => Next::Complete { result: 0 },
        };
        StepOutcome { effect: step == COMPUTE && attempt == 1 || step == STORE, next }
    }
}

#[cfg(test)]
mod tests {
    use super::super::walk::{Answers, walk};
    use super::*;

    #[test]
    fn what_the_child_computes_is_what_the_parent_stores() {
        let mut looks = [0; 3];
        for index in 0..60 {
            let walked = walk(&Results, index, 1, Answers::Expected);
            let (_, state) = Results.start(index, 1);
            assert_eq!(walked.end, Next::Complete { result: stir(stir(state)) });
            looks[walked.steps.iter().filter(|step| **step == "use").count() - 1] += 1;
        }
        assert!(looks.iter().all(|count| *count > 5), "{looks:?}");
    }

    #[test]
    fn a_child_that_is_dead_leaves_nothing_to_use() {
        let (_, state) = (0..).map(|index| Results.start(index, 1)).find(|(_, state)| state % 3 == 0).unwrap();
        let input = StepInput { step: USE, state, ..StepInput::first(ASK, 0) };
        assert_eq!(Results.decide(input).next, Next::Fail { result: 0 });
    }
}
