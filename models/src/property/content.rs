//! What an event says, from its append or its scheduling to its delivery or its dead letter.

use super::arrival::told;
use super::clue::Clue;
use super::log::Entry;
use crate::name::{Step, WorkflowId};
use crate::reply::{Arrival, Event};
use alloc::format;
use alloc::string::String;

/// What an event says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) workflow: WorkflowId,
    pub(super) sequence: u32,
    pub(super) step: u16,
    pub(super) attempt: u16,
    pub(super) state: u64,
    pub(super) arrival: Arrival,
}

impl Content {
    pub(super) const fn message(payload: u64) -> Self {
        Content { workflow: WorkflowId(0), sequence: 0, step: 0, attempt: 1, state: payload, arrival: Arrival::Direct }
    }

    pub(super) fn of(event: &Event) -> Self {
        let Event { workflow, sequence, step, attempt, state, arrival, .. } = *event;
        Content { workflow, sequence, step: step.0, attempt, state, arrival }
    }

    pub(super) fn of_entry(entry: &Entry, arrival: Arrival) -> Self {
        let Entry { workflow, sequence, step, attempt, state, .. } = *entry;
        Content { workflow, sequence, step, attempt, state, arrival }
    }

    pub(super) const fn of_event(&self) -> (WorkflowId, u32, u16, u64) {
        (self.workflow, self.sequence, self.step, self.state)
    }

    pub(super) fn told(&self, clue: Clue<'_>) -> String {
        let Content { workflow, sequence, step, attempt, state, arrival } = *self;
        match workflow.0 {
            0 => format!("a message with payload {state}"),
            _ => {
                let (workflow, step) = (clue.workflow(workflow), clue.step(Step(step)));
                let arrival = if arrival == Arrival::Direct { "".into() } else { format!(", {}", told(arrival)) };
                format!("{workflow} step {sequence} {step}, attempt {attempt}, with state {state}{arrival}")
            }
        }
    }
}

/// "w7 at `ship`", or "a message".
pub(super) fn self_of(clue: Clue<'_>, content: &Content) -> String {
    match content.workflow.0 {
        0 => String::from("a message"),
        _ => format!("{} at {}", clue.workflow(content.workflow), clue.step(Step(content.step))),
    }
}
