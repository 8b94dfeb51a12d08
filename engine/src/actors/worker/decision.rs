//! A decision: what the program says comes after an event, in the form in which it is handed off.

use tourbillon_models::name::Micros;
use tourbillon_models::op::{Decision, Verb};
use tourbillon_models::reply::Event;
use tourbillon_models::workload::{Next, Program, StepInput};

/// What is handed off for an event, and whether a row is written with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decided {
    pub decision: Decision,
    pub effect: bool,
}

/// None if the handler takes its process down. Without a program events are acknowledged, and that is all.
pub fn decide(program: Option<&dyn Program>, event: &Event, version: u16) -> Option<Decided> {
    let Event { id, workflow, sequence, step, attempt, state, .. } = *event;
    let end = |verb| Decision {
        event: id,
        verb,
        workflow,
        sequence,
        step,
        attempt: 1,
        max_attempts: 0,
        delay: Micros(0),
        state,
    };
    let Some(program) = program else {
        return Some(Decided { decision: end(Verb::Acknowledge), effect: false });
    };
    let outcome = program.decide(StepInput { step, state, attempt, version });
    let on = |verb| Decision { sequence: sequence + 1, ..end(verb) };
    let decision = match outcome.next {
        Next::Goto { step, state } => Decision { step, state, ..on(Verb::Goto) },
        Next::Sleep { step, state, delay } => Decision { step, state, delay, ..on(Verb::Sleep) },
        Next::Retry { delay, max_attempts } => {
            Decision { attempt: attempt + 1, max_attempts, delay, ..on(Verb::Retry) }
        }
        Next::Complete => end(Verb::Complete),
        Next::Fail => end(Verb::Fail),
        Next::Reject => end(Verb::Reject),
        Next::Die => return None,
    };
    Some(Decided { decision, effect: outcome.effect })
}
