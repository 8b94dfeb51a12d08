//! A workflow's walk without an engine, for the tests of programs.

use super::{Child, Next, Program, StepInput};
use crate::name::{EventId, Name, WaitToken};
use crate::reply::{Arrival, ChildOutcome, ChildResult};
use alloc::vec::Vec;

/// How what is awaited comes out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answers {
    /// What is expected is told in time.
    Expected,
    /// Every deadline passes.
    Late,
}

/// The steps in their order, those of children before their parent's next; what the workflow itself awaited; how it ended.
pub struct Walked<'a> {
    pub steps: Vec<&'a str>,
    pub waits: Vec<(Name, Option<WaitToken>)>,
    pub end: Next,
}

pub fn walk(program: &dyn Program, index: u32, size: u64, answers: Answers) -> Walked<'_> {
    let (step, state) = program.start(index, size);
    let mut walker = Walker { program, told: program.emits(index, size), answers, steps: Vec::new() };
    let (waits, end) = walker.walk(Child { step, state });
    Walked { steps: walker.steps, waits, end }
}

struct Walker<'a> {
    program: &'a dyn Program,
    told: Vec<super::Expected>,
    answers: Answers,
    steps: Vec<&'a str>,
}

impl Walker<'_> {
    fn walk(&mut self, from: Child) -> (Vec<(Name, Option<WaitToken>)>, Next) {
        let (mut input, mut results) = (StepInput::first(from.step, from.state), Vec::new());
        let mut waits = Vec::new();
        loop {
            self.steps.push(self.program.steps()[input.step.0 as usize]);
            let next = self.program.decide(StepInput { results: &results, ..input }).next;
            match next {
                Next::Goto { step, state } | Next::Sleep { step, state, .. } if state != u64::MAX => {
                    input = StepInput::first(step, state);
                }
                Next::Retry { max_attempts, .. } if input.attempt < max_attempts => input.attempt += 1,
                Next::Await { name, step, state, deadline, token } => {
                    waits.push((name, token));
                    if state == u64::MAX {
                        return (waits, next);
                    }
                    let arrival = self.answer(name, deadline.is_some());
                    input = StepInput { arrival, ..StepInput::first(step, state) };
                }
                Next::Spawn { step, state, ref children } => {
                    let ends = children.iter().map(|child| self.walk(*child).1);
                    results = ends.enumerate().map(|(index, end)| result(index as u16, &end)).collect();
                    if state == u64::MAX {
                        return (waits, next);
                    }
                    let arrival = Arrival::Joined { join: EventId(1) };
                    input = StepInput { arrival, ..StepInput::first(step, state) };
                }
                end => return (waits, end),
            }
        }
    }

    fn answer(&mut self, name: Name, has_deadline: bool) -> Arrival {
        if has_deadline && self.answers == Answers::Late {
            return Arrival::TimedOut;
        }
        let place = self.told.iter().position(|told| told.name == name).expect("somebody tells what is awaited");
        Arrival::Emitted { payload: self.told.remove(place).payload }
    }
}

fn result(index: u16, end: &Next) -> ChildResult {
    let (outcome, result) = match *end {
        Next::Complete { result } => (ChildOutcome::Completed, result),
        Next::Fail { result } => (ChildOutcome::Failed, result),
        _ => (ChildOutcome::Dead, 0),
    };
    ChildResult { join: EventId(1), index, outcome, result }
}
