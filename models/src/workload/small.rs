//! Programs that are small enough for all their schedules to be run: as many steps as it takes to show something.
//!
//! No seed draws them.

use super::{Child, Expected, Next, Program, StepInput, StepOutcome};
use crate::name::{Micros, Name, Step};
use crate::reply::ChildOutcome;
use alloc::vec;
use alloc::vec::Vec;

/// One step with a row.
pub struct Single;

/// Two children in one window, joined; every other workflow is as small as one of them.
pub struct Pair;

/// Two children that end in windows of their own, joined.
pub struct Apart;

/// A wait that somebody ends.
pub struct Ask;

const ASKED: u64 = 100;

impl Program for Single {
    fn name(&self) -> &'static str {
        "single"
    }

    fn summary(&self) -> &'static str {
        "one step, with a row"
    }

    fn steps(&self) -> &[&str] {
        &["do"]
    }

    fn start(&self, index: u32, _size: u64) -> (Step, u64) {
        (Step(0), index.into())
    }

    fn decide(&self, StepInput { step, state, .. }: StepInput) -> StepOutcome {
        match step {
            Step(0) => StepOutcome { effect: true, next: Next::Complete { result: state } },
            _ => StepOutcome { effect: false, next: Next::Complete { result: 0 } },
        }
    }
}

/// Two children, told apart by their states.
fn children(step: Step, state: u64) -> Vec<Child> {
    vec![Child { step, state: state << 1 }, Child { step, state: state << 1 | 1 }]
}

/// What a parent makes of them.
fn sum(results: &[crate::reply::ChildResult]) -> Next {
    let all = results.iter().all(|child| child.outcome == ChildOutcome::Completed);
    let result = results.iter().map(|child| child.result).sum();
    if all { Next::Complete { result } } else { Next::Fail { result } }
}

impl Program for Pair {
    fn name(&self) -> &'static str {
        "pair"
    }

    fn summary(&self) -> &'static str {
        "two children in one window, each with a row, and their join; every other workflow is one step with a row"
    }

    fn steps(&self) -> &[&str] {
        &["split", "half", "sum"]
    }

    fn start(&self, index: u32, _size: u64) -> (Step, u64) {
        (Step((index % 2) as u16), index.into())
    }

    fn decide(&self, StepInput { step, state, results, .. }: StepInput) -> StepOutcome {
        let next = match step {
            Step(0) => Next::Spawn { step: Step(2), state, children: children(Step(1), state) },
            Step(1) => Next::Complete { result: state },
            Step(2) => sum(results),
            _ => Next::Complete { result: 0 },
        };
        StepOutcome { effect: step == Step(1), next }
    }
}

impl Program for Apart {
    fn name(&self) -> &'static str {
        "apart"
    }

    fn summary(&self) -> &'static str {
        "two children that end in windows of their own, as one has slept, each with a row, and their join"
    }

    fn steps(&self) -> &[&str] {
        &["split", "half", "end", "sum"]
    }

    fn start(&self, index: u32, _size: u64) -> (Step, u64) {
        (Step(0), index.into())
    }

    fn decide(&self, StepInput { step, state, results, .. }: StepInput) -> StepOutcome {
        let next = match step {
            Step(0) => Next::Spawn { step: Step(3), state, children: children(Step(1), state) },
            Step(1) if state & 1 == 0 => Next::Goto { step: Step(2), state },
            Step(1) => Next::Sleep { step: Step(2), state, delay: Micros(1) },
            Step(2) => Next::Complete { result: state },
            Step(3) => sum(results),
            _ => Next::Complete { result: 0 },
        };
        StepOutcome { effect: step == Step(2), next }
    }
}

impl Program for Ask {
    fn name(&self) -> &'static str {
        "ask"
    }

    fn summary(&self) -> &'static str {
        "waits for an answer without a deadline, and writes a row when it is there"
    }

    fn steps(&self) -> &[&str] {
        &["ask", "hear"]
    }

    fn names(&self) -> &[&str] {
        &["answer"]
    }

    fn emits(&self, index: u32, _size: u64) -> Vec<Expected> {
        vec![Expected { name: Name(0), payload: ASKED + u64::from(index), token: None }]
    }

    fn start(&self, index: u32, _size: u64) -> (Step, u64) {
        (Step(0), index.into())
    }

    fn decide(&self, StepInput { step, state, .. }: StepInput) -> StepOutcome {
        let next = match step {
            Step(0) => Next::Await { name: Name(0), step: Step(1), state, deadline: None, token: None },
            Step(1) => Next::Complete { result: state },
            _ => Next::Complete { result: 0 },
        };
        StepOutcome { effect: step == Step(1), next }
    }
}
