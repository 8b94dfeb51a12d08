//! A decision: what the program says comes after an event, in the form in which it is handed off.

use alloc::vec::Vec;
use tourbillon_models::name::{EventId, Micros, WaitToken};
use tourbillon_models::op::{Decision, Verb};
use tourbillon_models::reply::{Arrival, ChildResult, Event};
use tourbillon_models::workload::{Child, Next, Program, StepInput};

/// What is handed off for an event, and whether a row is written with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decided {
    pub decision: Decision,
    pub children: Vec<Decision>,
    pub effect: bool,
}

/// None if the handler takes its process down. Without a program events are acknowledged, and that is all.
pub fn decide(program: Option<&dyn Program>, event: &Event, results: &[ChildResult], version: u16) -> Option<Decided> {
    let Event { id, workflow, sequence, step, attempt, state, arrival, .. } = *event;
    let end = |verb| Decision { workflow, sequence, step, state, ..Decision::new(id, verb) };
    let Some(program) = program else {
        return Some(Decided { decision: end(Verb::Acknowledge), children: Vec::new(), effect: false });
    };
    let outcome =
        program.decide(StepInput { step, state, arrival, results: results_of(arrival, results), attempt, version });
    let on = |verb| Decision { sequence: sequence + 1, ..end(verb) };
    let mut children = Vec::new();
    let decision = match outcome.next {
        Next::Goto { step, state } => Decision { step, state, ..on(Verb::Goto) },
        Next::Sleep { step, state, delay } => Decision { step, state, delay, ..on(Verb::Sleep) },
        Next::Retry { delay, max_attempts } => {
            Decision { attempt: attempt + 1, max_attempts, delay, arrival, ..on(Verb::Retry) }
        }
        Next::Await { name, step, state, deadline, token } => {
            let (delay, token) = (deadline.unwrap_or(Micros(0)), token.unwrap_or(WaitToken::NONE));
            Decision { step, state, name, delay, token, ..on(Verb::Await) }
        }
        Next::Spawn { step, state, children: of_spawn } => {
            children.extend(of_spawn.into_iter().enumerate().map(|(index, it)| child(id, index as u32, it)));
            Decision { step, state, ..on(Verb::Spawn) }
        }
        Next::Complete { result } => Decision { state: result, ..end(Verb::Complete) },
        Next::Fail { result } => Decision { state: result, ..end(Verb::Fail) },
        Next::Reject => end(Verb::Reject),
        Next::Die => return None,
    };
    Some(Decided { decision, children, effect: outcome.effect })
}

fn child(event: EventId, index: u32, Child { step, state }: Child) -> Decision {
    Decision { sequence: index, step, state, ..Decision::new(event, Verb::Child) }
}

/// Of all that was read for a window, sorted by join, what concerns a step.
fn results_of(arrival: Arrival, results: &[ChildResult]) -> &[ChildResult] {
    let Arrival::Joined { join } = arrival else { return &[] };
    let start = results.partition_point(|result| result.join < join);
    let end = results.partition_point(|result| result.join <= join);
    &results[start..end]
}
