//! Workflows: their steps, effects, retries, timers and dead letters.

use super::log::{answer, ask, calls};
use super::{Mutator, Planted, Soil, mutator, planted};
use tourbillon::fuzz::edit::Draft;
use tourbillon_models::history::PlainReply;
use tourbillon_models::name::{EventId, Micros, WorkflowId, Xid};
use tourbillon_models::op::{Decision, Op, Verb};
use tourbillon_models::property::Property;
use tourbillon_models::record::RecordOf;
use tourbillon_models::reply::{Event, Reply};

pub const MUTATORS: &[Mutator] = &[
    mutator("start a key twice", "chain", Soil::Any, start_again),
    mutator("tell a repeated start another workflow", "chain", Soil::Any, start_otherwise),
    mutator("lose an effect", "chain", Soil::Calm, lose_effect),
    mutator("write an effect twice", "chain", Soil::Calm, effect_again),
    mutator("lose a handoff, keep its effect", "chain", Soil::Calm, lose_handoff),
    mutator("go back in sequence", "chain", Soil::Calm, go_back),
    mutator("go on to another step", "chain", Soil::Calm, another_step),
    mutator("arrive with another state", "chain", Soil::Calm, another_state),
    mutator("arrive as another transaction's", "chain", Soil::Calm, another_transaction),
    mutator("an attempt that was not counted", "flaky", Soil::Calm, attempt_uncounted),
    mutator("one attempt too many", "flaky", Soil::Calm, attempt_too_many),
    mutator("a dead letter before its time", "flaky", Soil::Calm, dead_early),
    mutator("replay a dead letter twice", "flaky", Soil::Any, replay_again),
    mutator("fire a timer early", "messages", Soil::Calm, fire_early),
    mutator("fire a timer twice", "restart", Soil::Calm, fire_again),
    mutator("leave a timer behind", "restart", Soil::Calm, leave_timer),
    mutator("cancel what has fired", "messages", Soil::Any, cancel_fired),
    mutator("a timer forgets its workflow", "restart", Soil::Calm, timer_forgets),
    mutator("fire a timer an hour late", "restart", Soil::Calm, fire_late),
    mutator("hand off after the end", "chain", Soil::Calm, after_the_end),
];

fn start_again(draft: &mut Draft) -> Option<Planted> {
    let (place, key) = calls(draft).into_iter().find_map(|(_, place, op, reply)| match (op, reply) {
        (Op::Start { key, .. }, Reply::Started { event: EventId(0), .. }) => Some((place, key)),
        _ => None,
    })?;
    answer(draft, place, Reply::Started { workflow: WorkflowId(90_001), event: EventId(90_001), table: 0 });
    planted(Property::W9, [key.to_string(), "f90001".to_owned()])
}

fn start_otherwise(draft: &mut Draft) -> Option<Planted> {
    let (place, key) = calls(draft).into_iter().find_map(|(_, place, op, reply)| match (op, reply) {
        (Op::Start { key, .. }, Reply::Started { event: EventId(0), .. }) => Some((place, key)),
        _ => None,
    })?;
    answer(draft, place, Reply::Started { workflow: WorkflowId(90_001), event: EventId(0), table: 0 });
    planted(Property::W9, [key.to_string(), "f90001".to_owned()])
}

/// The name under which a workflow was started.
pub fn name_of(draft: &Draft, workflow: WorkflowId) -> Option<String> {
    calls(draft).into_iter().find_map(|(.., op, reply)| match (op, reply) {
        (Op::Start { key, .. }, Reply::Started { workflow: started, .. }) if started == workflow => {
            Some(key.to_string())
        }
        _ => None,
    })
}

fn first_effect(draft: &Draft) -> Option<(usize, usize, WorkflowId)> {
    calls(draft).into_iter().find_map(|(call, place, op, _)| match op {
        Op::Effect { workflow, .. } => Some((call, place, workflow)),
        _ => None,
    })
}

fn lose_effect(draft: &mut Draft) -> Option<Planted> {
    let (call, _, workflow) = first_effect(draft)?;
    draft.lose(call);
    planted(Property::W5, [name_of(draft, workflow)?, "without its effect".to_owned()])
}

fn effect_again(draft: &mut Draft) -> Option<Planted> {
    let (call, place, workflow) = first_effect(draft)?;
    let copies = [call, place].map(|from| RecordOf { at: draft.records[place].at, ..draft.records[from].clone() });
    draft.records.splice(place + 1..place + 1, copies);
    planted(Property::W5, [name_of(draft, workflow)?, "2 effects".to_owned()])
}

fn handoffs(draft: &Draft) -> Vec<(usize, usize, Vec<Decision>, PlainReply)> {
    let handoffs = calls(draft).into_iter().filter_map(|(call, place, op, reply)| match (op, &reply) {
        (Op::Handoff { decisions, .. }, Reply::HandedOff { .. }) => Some((call, place, decisions, reply)),
        _ => None,
    });
    handoffs.collect()
}

/// Changes one decision of a handoff.
fn decide(draft: &mut Draft, call: usize, event: EventId, change: impl Fn(&mut Decision)) {
    let Some((.., op, _)) = calls(draft).into_iter().find(|(other, ..)| *other == call) else { return };
    let Op::Handoff { worker, token, mut decisions } = op else { return };
    decisions.iter_mut().filter(|decision| decision.event == event).for_each(change);
    ask(draft, call, Op::Handoff { worker, token, decisions });
}

fn decision_of(draft: &Draft, verb: Verb) -> Option<(usize, usize, Decision, PlainReply)> {
    handoffs(draft).into_iter().find_map(|(call, place, decisions, reply)| {
        let decision = decisions.into_iter().find(|decision| decision.verb == verb)?;
        Some((call, place, decision, reply))
    })
}

fn lose_handoff(draft: &mut Draft) -> Option<Planted> {
    let (call, .., workflow) = first_effect(draft)?;
    let session = draft.records[call].session;
    let (handoff, ..) =
        handoffs(draft).into_iter().find(|(other, ..)| *other > call && draft.records[*other].session == session)?;
    draft.lose(handoff);
    planted(Property::W2, [name_of(draft, workflow)?, "without its handoff".to_owned()])
}

fn go_back(draft: &mut Draft) -> Option<Planted> {
    let (call, _, decision, _) = decision_of(draft, Verb::Goto)?;
    decide(draft, call, decision.event, |decision| decision.sequence = 0);
    planted(Property::W4, [name_of(draft, decision.workflow)?, "to step 0".to_owned()])
}

fn another_step(draft: &mut Draft) -> Option<Planted> {
    let (call, _, decision, _) = decision_of(draft, Verb::Goto)?;
    decide(draft, call, decision.event, |decision| decision.step.0 += 1);
    planted(Property::W7, [name_of(draft, decision.workflow)?])
}

/// The first page with an event of a workflow's second step or a later one.
fn page(draft: &Draft) -> Option<(usize, Vec<Event>, usize)> {
    calls(draft).into_iter().find_map(|(_, place, op, reply)| match (op, reply) {
        (Op::Read { .. }, Reply::Events(events)) => {
            let index = events.iter().position(|event| event.workflow.0 != 0 && event.sequence > 1)?;
            Some((place, events, index))
        }
        _ => None,
    })
}

fn another_state(draft: &mut Draft) -> Option<Planted> {
    let (place, mut events, index) = page(draft)?;
    events[index].state ^= 1;
    let names = [events[index].id.to_string(), events[index].state.to_string()];
    answer(draft, place, Reply::Events(events));
    planted(Property::W7, names)
}

fn another_transaction(draft: &mut Draft) -> Option<Planted> {
    let (place, mut events, index) = page(draft)?;
    let was = std::mem::replace(&mut events[index].xid, Xid(90_001));
    let names = [events[index].id.to_string(), was.to_string(), "x90001".to_owned()];
    answer(draft, place, Reply::Events(events));
    planted(Property::W2, names)
}

fn attempt_uncounted(draft: &mut Draft) -> Option<Planted> {
    let (call, _, decision, _) = decision_of(draft, Verb::Retry)?;
    decide(draft, call, decision.event, |decision| decision.attempt -= 1);
    planted(Property::Q11, [decision.event.to_string()])
}

/// A retry with its id in the reply.
fn retry(draft: &Draft, is_dead: bool) -> Option<(usize, usize, Decision, PlainReply, usize)> {
    handoffs(draft).into_iter().find_map(|(call, place, decisions, reply)| {
        let Reply::HandedOff { appended, .. } = &reply else { return None };
        let with_ids = decisions.iter().filter(|decision| decision.verb.has_id());
        let (index, decision) = with_ids
            .enumerate()
            .find(|(index, decision)| decision.verb == Verb::Retry && (appended[*index] == 0) == is_dead)?;
        Some((call, place, *decision, reply.clone(), index))
    })
}

fn set_id(draft: &mut Draft, place: usize, reply: PlainReply, index: usize, id: u32) {
    let Reply::HandedOff { mut appended, children, resumed, undeliverable, table, timer_table } = reply else { return };
    appended[index] = id;
    answer(draft, place, Reply::HandedOff { appended, children, resumed, undeliverable, table, timer_table });
}

fn attempt_too_many(draft: &mut Draft) -> Option<Planted> {
    let (_, place, decision, reply, index) = retry(draft, true)?;
    set_id(draft, place, reply, index, 90_001);
    planted(Property::Q11, [decision.event.to_string(), "e90001".to_owned()])
}

fn dead_early(draft: &mut Draft) -> Option<Planted> {
    let (_, place, decision, reply, index) = retry(draft, false)?;
    set_id(draft, place, reply, index, 0);
    planted(Property::W10, [decision.event.to_string()])
}

fn replay_again(draft: &mut Draft) -> Option<Planted> {
    let (call, event) = calls(draft).into_iter().find_map(|(call, _, op, reply)| match (op, reply) {
        (Op::ReplayDeadLetter { event, .. }, Reply::Replayed { .. }) if !draft.is_in_transaction(call) => {
            Some((call, event))
        }
        _ => None,
    })?;
    let at = draft.answer(call)? + 1;
    draft.repeat(call, at);
    answer(draft, at + 1, Reply::Replayed { workflow: WorkflowId(90_001), event: EventId(90_001), table: 0 });
    planted(Property::Q12, [event.to_string(), "e90001".to_owned()])
}

fn drains(draft: &Draft) -> Vec<(usize, usize, PlainReply, Vec<u32>)> {
    let drains = calls(draft).into_iter().filter_map(|(call, place, _, reply)| match &reply {
        Reply::Drained { fired, .. } if !fired.is_empty() => Some((call, place, reply.clone(), fired.clone())),
        _ => None,
    });
    drains.collect()
}

fn fire_early(draft: &mut Draft) -> Option<Planted> {
    let fired: Vec<u32> = drains(draft).into_iter().flat_map(|(.., fired)| fired).collect();
    let (call, place, op, reply) = calls(draft)
        .into_iter()
        .find(|(.., reply)| matches!(reply, Reply::Scheduled { event, .. } if fired.contains(&event.0)))?;
    let (Op::Schedule { queue, payload, delay }, Reply::Scheduled { event, due, table }) = (op, reply) else {
        return None;
    };
    let late = Micros::from_secs(3_600);
    ask(draft, call, Op::Schedule { queue, payload, delay: delay + late });
    answer(draft, place, Reply::Scheduled { event, due: due + late, table });
    planted(Property::T1, [event.to_string(), (due + late).to_string()])
}

fn fire_again(draft: &mut Draft) -> Option<Planted> {
    let (call, place, _, fired) = drains(draft).into_iter().find(|(call, ..)| !draft.is_in_transaction(*call))?;
    draft.repeat(call, place + 1);
    planted(Property::T3, [EventId(fired[0]).to_string()])
}

fn leave_timer(draft: &mut Draft) -> Option<Planted> {
    let (_, place, reply, _) = drains(draft)
        .into_iter()
        .find(|(_, _, reply, fired)| matches!(reply, Reply::Drained { is_done: true, .. }) && fired.len() == 1)?;
    let Reply::Drained { tick, mut fired, dead, resumed, undeliverable, table, is_done } = reply else { return None };
    let lost = fired.pop()?;
    answer(draft, place, Reply::Drained { tick, fired, dead, resumed, undeliverable, table, is_done });
    planted(Property::T2, [EventId(lost).to_string(), tick.to_string()])
}

fn cancel_fired(draft: &mut Draft) -> Option<Planted> {
    let (place, event) = calls(draft).into_iter().find_map(|(call, place, op, reply)| match (op, reply) {
        (Op::Cancel { event, .. }, Reply::TooLate) if !draft.is_in_transaction(call) => {
            let was_fired = drains(draft).iter().any(|(_, at, _, fired)| *at < call && fired.contains(&event.0));
            was_fired.then_some((place, event))
        }
        _ => None,
    })?;
    answer(draft, place, Reply::Cancelled);
    planted(Property::T3, [event.to_string(), "cancelled".to_owned()])
}

fn timer_forgets(draft: &mut Draft) -> Option<Planted> {
    let fired: Vec<u32> = drains(draft).into_iter().flat_map(|(.., fired)| fired).collect();
    let (place, mut events, index) = calls(draft).into_iter().find_map(|(_, place, op, reply)| match (op, reply) {
        (Op::Read { .. }, Reply::Events(events)) => {
            let index = events.iter().position(|event| fired.contains(&event.id.0))?;
            Some((place, events, index))
        }
        _ => None,
    })?;
    events[index].workflow = WorkflowId(0);
    let id = events[index].id;
    answer(draft, place, Reply::Events(events));
    planted(Property::T5, [id.to_string()])
}

fn fire_late(draft: &mut Draft) -> Option<Planted> {
    let (call, .., fired) = drains(draft).pop()?;
    let late = Micros::from_secs(3_600);
    draft.records.iter_mut().skip(call).for_each(|record| record.at = record.at + late);
    planted(Property::T4, [EventId(fired[0]).to_string()])
}

fn after_the_end(draft: &mut Draft) -> Option<Planted> {
    // What completed one workflow completes it again, in a later window.
    let (_, _, end, _) = decision_of(draft, Verb::Complete)?;
    let (call, ..) = handoffs(draft).into_iter().rfind(|(_, _, decisions, _)| decisions[0].event != end.event)?;
    let Op::Handoff { worker, token, mut decisions } = calls(draft).into_iter().find(|it| it.0 == call)?.2 else {
        return None;
    };
    decisions.push(end);
    ask(draft, call, Op::Handoff { worker, token, decisions });
    planted(Property::W3, [end.event.to_string(), "two successors".to_owned()])
}
