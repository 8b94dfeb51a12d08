//! The course of a plan's workflows, walked without an engine: how many steps, how long asleep, how many deaths.
//!
//! A plan gives its workflows time in proportion to that. What it is not: a prediction; faults come on top of it.

use crate::sweep::catch;
use tourbillon_models::name::Micros;
use tourbillon_models::workload::{Next, Program, StepInput};

/// The longest of all workflows, and the deaths of all together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Course {
    pub steps: u64,
    pub asleep: Micros,
    /// Steps that take their process down.
    pub deaths: u64,
}

/// Who has not ended after so many steps never will, as far as a plan is concerned,
const ENDLESS: u64 = 10_000;
/// and is given time for so many, none of them asleep: enough to see that it does not end.
const ENOUGH: Course = Course { steps: 64, asleep: Micros(0), deaths: 0 };

impl Course {
    /// Of both versions of the code. A program that panics is met when it runs.
    pub fn of(program: &dyn Program, items: u64, size: u64) -> Course {
        let walks = (0..items as u32).flat_map(|index| [(index, 0), (index, 1)]);
        walks.fold(Course::default(), |sum, (index, version)| {
            let course = catch(|| walk(program, index, size, version)).unwrap_or(ENOUGH);
            Course {
                steps: sum.steps.max(course.steps),
                asleep: sum.asleep.max(course.asleep),
                deaths: sum.deaths + course.deaths,
            }
        })
    }
}

fn walk(program: &dyn Program, index: u32, size: u64, version: u16) -> Course {
    let (mut step, mut state) = program.start(index, size);
    let mut attempt = 1;
    let mut course = Course::default();
    while course.steps < ENDLESS {
        course.steps += 1;
        match program.decide(StepInput { step, state, attempt, version }).next {
            Next::Goto { step: to, state: with } => (step, state, attempt) = (to, with, 1),
            Next::Sleep { step: to, state: with, delay } => {
                (step, state, attempt) = (to, with, 1);
                course.asleep = course.asleep + delay;
            }
            Next::Retry { delay, max_attempts } if attempt < max_attempts => {
                attempt += 1;
                course.asleep = course.asleep + delay;
            }
            Next::Die => return Course { deaths: 1, ..course },
            Next::Retry { .. } | Next::Complete | Next::Fail | Next::Reject => return course,
        }
    }
    ENOUGH
}

#[cfg(test)]
mod tests {
    use super::*;
    use tourbillon_models::workload::Workload;

    fn course(workload: &str, items: u64, size: u64) -> Course {
        let program = Workload::by_name(workload).and_then(|workload| workload.program()).expect("it has a program");
        Course::of(program, items, size)
    }

    #[test]
    fn a_workflow_is_walked_to_its_end() {
        assert_eq!(course("chain", 5, 1), Course { steps: 4, ..Course::default() });
        assert_eq!(course("agent-loop", 2, 12).steps, 25);
        assert_eq!(course("poison", 6, 1).deaths, 4, "two workflows, at two versions");
        assert!(course("long-sleep", 3, 1).asleep >= Micros::from_secs(30));
    }

    #[test]
    fn who_does_not_end_is_given_time_for_a_few_steps() {
        assert_eq!(course("agent-loop", 1, 1_000_000), ENOUGH);
    }
}
