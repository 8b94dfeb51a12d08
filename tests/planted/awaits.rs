//! Awaits and emits, spawns and joins.

use super::log::{answer, ask, calls};
use super::workflows::name_of;
use super::{Mutator, Planted, Soil, mutator, planted};
use tourbillon::fuzz::edit::Draft;
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{EmitId, EventId, Micros, WaitToken};
use tourbillon_models::op::{Op, Verb};
use tourbillon_models::property::Property;
use tourbillon_models::reply::{EmitAnswer, Reply};

pub const MUTATORS: &[Mutator] = &[
    mutator("resume a wait twice", "emit-race", Soil::Any, resume_again),
    mutator("take an emit's id twice", "emit-race", Soil::Any, take_again),
    mutator("time out before the deadline", "emit-race", Soil::Any, deadline_early),
    mutator("promise beside an open wait", "emit-race", Soil::Any, promise_beside),
    mutator("promise over a promise", "emit-race", Soil::Any, promise_over),
    mutator("promise to a dead workflow", "emit-race", Soil::Any, promise_to_dead),
    mutator("call a live workflow dead", "emit-race", Soil::Any, call_dead),
    mutator("resume without the token", "approval", Soil::Any, forget_token),
    mutator("call a right token forged", "approval", Soil::Any, call_forged),
    mutator("resume a join twice", "fan-out", Soil::Calm, join_again),
    mutator("resume a join early", "fan-out", Soil::Calm, join_early),
    mutator("lose the resume of a join", "fan-out", Soil::Calm, join_lost),
    mutator("read another result", "results", Soil::Calm, another_result),
    mutator("lose a result", "results", Soil::Calm, lose_result),
];

/// Emits that are transactions of their own.
fn emits(draft: &Draft, wanted: EmitAnswer) -> Vec<(usize, usize, PlainOp, EventId)> {
    let emits = calls(draft).into_iter().filter_map(|(call, place, op, reply)| match reply {
        Reply::Emitted { answer, repeated: false, event, .. } if answer == wanted && !draft.is_in_transaction(call) => {
            Some((call, place, op, event))
        }
        _ => None,
    });
    emits.collect()
}

fn emitted(answer: EmitAnswer, event: EventId) -> PlainReply {
    Reply::Emitted { answer, repeated: false, event, table: 0 }
}

fn resume_again(draft: &mut Draft) -> Option<Planted> {
    let (call, place, op, event) = emits(draft, EmitAnswer::Resumed).into_iter().next()?;
    let Op::Emit { workflow, name, payload, token, actor, .. } = op else { return None };
    draft.repeat(call, place + 1);
    let emit = EmitId(90_001);
    ask(draft, place + 1, Op::Emit { workflow, name, payload, emit, token, actor });
    planted(Property::A1, [event.to_string(), name_of(draft, workflow)?])
}

fn take_again(draft: &mut Draft) -> Option<Planted> {
    let (call, place, op, _) = emits(draft, EmitAnswer::Promised).into_iter().next()?;
    let Op::Emit { workflow, emit, .. } = op else { return None };
    draft.repeat(call, place + 1);
    answer(draft, place + 2, emitted(EmitAnswer::Second, EventId(0)));
    planted(Property::A2, [emit.to_string(), name_of(draft, workflow)?])
}

fn deadline_early(draft: &mut Draft) -> Option<Planted> {
    let event = calls(draft).into_iter().find_map(|(.., reply)| match reply {
        Reply::Expired { resumed, .. } => resumed.first().copied(),
        _ => None,
    })?;
    let (call, op, index) = calls(draft).into_iter().find_map(|(call, _, op, reply)| match (&op, reply) {
        (Op::Handoff { decisions, .. }, Reply::HandedOff { appended, .. }) => {
            let mut ids = appended.iter();
            let index = decisions.iter().position(|decision| {
                decision.verb.has_id() && ids.next() == Some(&event) && decision.verb == Verb::Await
            })?;
            Some((call, op.clone(), index))
        }
        _ => None,
    })?;
    let Op::Handoff { worker, token, mut decisions } = op else { return None };
    decisions[index].delay = decisions[index].delay + Micros::from_secs(3_600);
    let workflow = decisions[index].workflow;
    ask(draft, call, Op::Handoff { worker, token, decisions });
    planted(Property::A2, [name_of(draft, workflow)?, EventId(event).to_string(), "timed out".to_owned()])
}

fn promise_beside(draft: &mut Draft) -> Option<Planted> {
    let (_, place, op, _) = emits(draft, EmitAnswer::Resumed).into_iter().next()?;
    let Op::Emit { workflow, payload, .. } = op else { return None };
    answer(draft, place, emitted(EmitAnswer::Promised, EventId(0)));
    planted(Property::A3, [name_of(draft, workflow)?, payload.to_string()])
}

fn promise_over(draft: &mut Draft) -> Option<Planted> {
    let (_, place, op, _) = emits(draft, EmitAnswer::Second).into_iter().next()?;
    let Op::Emit { workflow, emit, .. } = op else { return None };
    answer(draft, place, emitted(EmitAnswer::Promised, EventId(0)));
    planted(Property::A5, [emit.to_string(), name_of(draft, workflow)?])
}

fn promise_to_dead(draft: &mut Draft) -> Option<Planted> {
    let (_, place, op, _) = emits(draft, EmitAnswer::Dead)
        .into_iter()
        .find(|(_, _, op, _)| matches!(op, Op::Emit { workflow, .. } if name_of(draft, *workflow).is_some()))?;
    let Op::Emit { workflow, emit, .. } = op else { return None };
    answer(draft, place, emitted(EmitAnswer::Promised, EventId(0)));
    planted(Property::A6, [emit.to_string(), name_of(draft, workflow)?, "promised".to_owned()])
}

fn call_dead(draft: &mut Draft) -> Option<Planted> {
    let (_, place, op, _) = emits(draft, EmitAnswer::Second).into_iter().next()?;
    let Op::Emit { workflow, emit, .. } = op else { return None };
    answer(draft, place, emitted(EmitAnswer::Dead, EventId(0)));
    planted(Property::A6, [emit.to_string(), name_of(draft, workflow)?, "dead".to_owned()])
}

fn forget_token(draft: &mut Draft) -> Option<Planted> {
    let (call, _, op, _) = emits(draft, EmitAnswer::Resumed)
        .into_iter()
        .find(|(_, _, op, _)| matches!(op, Op::Emit { token, .. } if *token != WaitToken::NONE))?;
    let Op::Emit { workflow, name, payload, emit, actor, .. } = op else { return None };
    ask(draft, call, Op::Emit { workflow, name, payload, emit, token: WaitToken::NONE, actor });
    planted(Property::A7, [name_of(draft, workflow)?, emit.to_string(), "no token".to_owned()])
}

fn call_forged(draft: &mut Draft) -> Option<Planted> {
    let (_, place, op, _) = emits(draft, EmitAnswer::Resumed).into_iter().next()?;
    let Op::Emit { workflow, emit, .. } = op else { return None };
    answer(draft, place, emitted(EmitAnswer::Forged, EventId(0)));
    planted(Property::A7, [emit.to_string(), name_of(draft, workflow)?])
}

/// Handoffs, by what they say to have gone on.
fn resuming(draft: &Draft) -> Vec<(usize, usize, PlainReply, Vec<u32>)> {
    let handoffs = calls(draft).into_iter().filter_map(|(call, place, _, reply)| match &reply {
        Reply::HandedOff { resumed, .. } => Some((call, place, reply.clone(), resumed.clone())),
        _ => None,
    });
    handoffs.collect()
}

fn resume(draft: &mut Draft, place: usize, reply: PlainReply, change: impl Fn(&mut Vec<u32>)) {
    let Reply::HandedOff { appended, children, mut resumed, undeliverable, table, timer_table } = reply else { return };
    change(&mut resumed);
    answer(draft, place, Reply::HandedOff { appended, children, resumed, undeliverable, table, timer_table });
}

fn join_again(draft: &mut Draft) -> Option<Planted> {
    let handoffs = resuming(draft);
    let (at, .., joined) = handoffs.iter().find(|(.., resumed)| !resumed.is_empty())?;
    let (_, place, reply, _) = handoffs.iter().find(|(call, .., resumed)| call > at && resumed.is_empty())?.clone();
    let id = joined[0];
    resume(draft, place, reply, |resumed| resumed.push(id));
    planted(Property::J1, [EventId(id).to_string(), "twice".to_owned()])
}

fn join_early(draft: &mut Draft) -> Option<Planted> {
    // The handoff just before the one that ends the last child.
    let handoffs = resuming(draft);
    let spawned = |id: u32| {
        calls(draft).into_iter().find_map(|(call, _, op, reply)| match (op, reply) {
            (Op::Handoff { decisions, .. }, Reply::HandedOff { appended, children, .. }) => {
                let is_it = appended.contains(&id) && children.len() > 1;
                (is_it && decisions.iter().any(|decision| decision.verb == Verb::Spawn)).then_some(call)
            }
            _ => None,
        })
    };
    let (at, id, last, reply) = handoffs.iter().find_map(|(call, place, reply, resumed)| {
        let id = *resumed.first()?;
        Some((spawned(id)?, id, (*call, *place), reply.clone()))
    })?;
    let (_, place, early, _) = handoffs.iter().find(|(call, ..)| *call > at && *call < last.0)?.clone();
    resume(draft, last.1, reply, |resumed| resumed.retain(|other| *other != id));
    resume(draft, place, early, |resumed| resumed.push(id));
    planted(Property::J2, [EventId(id).to_string(), "had ended".to_owned()])
}

fn join_lost(draft: &mut Draft) -> Option<Planted> {
    let (_, place, reply, resumed) = resuming(draft).into_iter().find(|(.., resumed)| !resumed.is_empty())?;
    let id = resumed[0];
    resume(draft, place, reply, |resumed| resumed.retain(|other| *other != id));
    planted(Property::J3, [EventId(id).to_string(), "was not resumed".to_owned()])
}

fn results(draft: &Draft) -> Option<(usize, Vec<tourbillon_models::reply::ChildResult>)> {
    calls(draft).into_iter().find_map(|(_, place, _, reply)| match reply {
        Reply::Results(results) if !results.is_empty() => Some((place, results)),
        _ => None,
    })
}

fn another_result(draft: &mut Draft) -> Option<Planted> {
    let (place, mut results) = results(draft)?;
    results[0].result ^= 1;
    let (join, result) = (results[0].join, results[0].result);
    answer(draft, place, Reply::Results(results));
    planted(Property::J4, [join.to_string(), result.to_string()])
}

fn lose_result(draft: &mut Draft) -> Option<Planted> {
    let (place, mut results) = results(draft)?;
    let join = results.remove(0).join;
    answer(draft, place, Reply::Results(results));
    planted(Property::J4, [join.to_string()])
}
