//! The rows at the end, or in the middle.

use super::workflows::name_of;
use super::{Mutator, Planted, Soil, mutator, planted};
use tourbillon::fuzz::edit::Draft;
use tourbillon_models::name::Xid;
use tourbillon_models::property::Property;
use tourbillon_models::state::{BoxContent, DeadReason, LedgerRow, TickRow, WorkflowRow};

pub const MUTATORS: &[Mutator] = &[
    mutator("lose a row of the ledger", "chain", Soil::Calm, lose_ledger),
    mutator("write a row of the ledger", "chain", Soil::Calm, forge_ledger),
    mutator("lose the row of an event", "messages", Soil::Middle, lose_event),
    mutator("lose the row of a timer", "restart", Soil::Middle, lose_timer),
    mutator("lose the row of a wait", "approval", Soil::Middle, lose_wait),
    mutator("lose a promise", "emit-race", Soil::Middle, lose_promise),
    mutator("lose the row of an emit", "emit-race", Soil::Middle, lose_emit),
    mutator("another number of children", "fan-out", Soil::Middle, join_total),
    mutator("another count of children that ended", "fan-out", Soil::Middle, join_count),
    mutator("lose the row of a workflow", "chain", Soil::Middle, lose_workflow),
    mutator("keep the row of a workflow that ended", "chain", Soil::Calm, keep_workflow),
    mutator("forget a key", "chain", Soil::Calm, forget_key),
    mutator("lose a dead letter", "flaky", Soil::Any, lose_letter),
    mutator("another reason for a dead letter", "flaky", Soil::Calm, another_reason),
];

fn lose_ledger(draft: &mut Draft) -> Option<Planted> {
    let state = draft.state.as_mut()?;
    if state.ledger.is_empty() {
        return None;
    }
    let row = state.ledger.remove(0);
    planted(Property::D1, [name_of(draft, row.workflow)?, row.xid.to_string()])
}

fn forge_ledger(draft: &mut Draft) -> Option<Planted> {
    let state = draft.state.as_mut()?;
    let row = *state.ledger.last()?;
    state.ledger.push(LedgerRow { xid: Xid(90_001), ..row });
    planted(Property::D2, [name_of(draft, row.workflow)?, "x90001".to_owned()])
}

fn lose_event(draft: &mut Draft) -> Option<Planted> {
    // One that the last tick sees and the cursor's does not, while nobody holds a window.
    let state = draft.state.as_mut()?;
    let cursor = state.subscriptions.iter().map(|row| row.cursor).min()?;
    if state.workers.iter().any(|row| row.window.is_some()) {
        return None;
    }
    let tick = state.ticks.iter().find(|row| row.tick == cursor)?.clone();
    let last = state.ticks.last()?.clone();
    let sees = |row: &TickRow, xid: Xid| xid < row.snapshot.xmax && !row.snapshot.in_progress.contains(&xid.0);
    let place = state.events.iter().position(|row| sees(&last, row.event.xid) && !sees(&tick, row.event.xid))?;
    let row = state.events.remove(place);
    planted(Property::Q1, [row.event.id.to_string()])
}

fn lose_timer(draft: &mut Draft) -> Option<Planted> {
    let state = draft.state.as_mut()?;
    let fired = |id: u32| state.events.iter().any(|row| row.event.id.0 == id);
    // The one that is due last has not fired.
    let place = (0..state.timers.len()).max_by_key(|place| state.timers[*place].due)?;
    if fired(state.timers[place].event.id.0) || state.drains.iter().any(|row| row.position.is_some()) {
        return None;
    }
    let at = draft.records.last()?.at;
    let row = draft.state.as_mut()?.timers.remove(place);
    (row.due > at).then(|| planted(Property::T2, [row.event.id.to_string()]))?
}

fn lose_wait(draft: &mut Draft) -> Option<Planted> {
    let boxes = &mut draft.state.as_mut()?.boxes;
    let place = boxes.iter().position(|row| matches!(row.content, BoxContent::Wait { .. }))?;
    let row = boxes.remove(place);
    planted(Property::A4, [name_of(draft, row.workflow)?])
}

fn lose_promise(draft: &mut Draft) -> Option<Planted> {
    let boxes = &mut draft.state.as_mut()?.boxes;
    let place = boxes.iter().position(|row| matches!(row.content, BoxContent::Promise { .. }))?;
    let row = boxes.remove(place);
    planted(Property::A3, [name_of(draft, row.workflow)?])
}

fn lose_emit(draft: &mut Draft) -> Option<Planted> {
    let emits = &mut draft.state.as_mut()?.emits;
    if emits.is_empty() {
        return None;
    }
    let row = emits.remove(0);
    planted(Property::A2, [row.emit.to_string(), name_of(draft, row.workflow)?])
}

fn join_total(draft: &mut Draft) -> Option<Planted> {
    let row = draft.state.as_mut()?.joins.first_mut()?;
    row.total += 1;
    let (join, total) = (row.join, row.total);
    planted(Property::J6, [join.to_string(), format!("{total} children")])
}

fn join_count(draft: &mut Draft) -> Option<Planted> {
    let row = draft.state.as_mut()?.joins.first_mut()?;
    row.ended += 1;
    let (join, ended) = (row.join, row.ended);
    planted(Property::J5, [join.to_string(), format!("counted {ended}")])
}

fn lose_workflow(draft: &mut Draft) -> Option<Planted> {
    let workflows = &mut draft.state.as_mut()?.workflows;
    if workflows.is_empty() {
        return None;
    }
    let row = workflows.remove(0);
    planted(Property::W1, [name_of(draft, row.workflow)?])
}

fn keep_workflow(draft: &mut Draft) -> Option<Planted> {
    let state = draft.state.as_mut()?;
    let key = *state.start_keys.first()?;
    state.workflows.push(WorkflowRow { workflow: key.workflow, queue: key.queue, key: Some(key.key), parent: None });
    planted(Property::W8, [key.key.to_string()])
}

fn forget_key(draft: &mut Draft) -> Option<Planted> {
    let keys = &mut draft.state.as_mut()?.start_keys;
    if keys.is_empty() {
        return None;
    }
    let row = keys.remove(0);
    planted(Property::W9, [row.key.to_string(), row.workflow.to_string()])
}

fn lose_letter(draft: &mut Draft) -> Option<Planted> {
    let letters = &mut draft.state.as_mut()?.dead_letters;
    if letters.is_empty() {
        return None;
    }
    let row = letters.remove(0);
    planted(Property::Q12, [row.event.to_string(), row.consumer.to_string()])
}

fn another_reason(draft: &mut Draft) -> Option<Planted> {
    let row = draft.state.as_mut()?.dead_letters.iter_mut().find(|row| row.reason == DeadReason::Attempts)?;
    row.reason = DeadReason::Tries;
    let event = row.event;
    planted(Property::W10, [event.to_string(), "Tries".to_owned()])
}
