//! A queue: what was put in, what was taken out, and what is left.

use super::edn::{Line, vector};
use super::{last, pair};
use crate::brute::act::Act;
use crate::brute::facts::Facts;
use crate::name::{Consumer, EventId, Queue};
use crate::op::Op;
use crate::reply::Reply;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub(super) fn lines(facts: &Facts<'_>) -> Vec<Line> {
    let mut lines = Vec::new();
    for act in &facts.account.acts {
        let put = appended(facts, act).into_iter().flat_map(|(event, queue)| copies(facts, event, queue));
        let put: Vec<String> = put.collect();
        for (value, order) in put.iter().zip(1u32..) {
            lines.extend(pair(facts, act, order, "enqueue", (value.clone(), value.clone())));
        }
        let is_alone = put.is_empty();
        for (value, order) in taken(facts, act).into_iter().zip(put.len() as u32 + 1..) {
            // Alone, it lasts from its transaction's begin to its end.
            let order = if is_alone && order == 1 { 0 } else { order };
            lines.extend(pair(facts, act, order, "dequeue", ("nil".to_string(), value)));
        }
    }
    let left = left(facts);
    if facts.account.history.state.is_some() {
        lines.extend(last(facts, "drain", ("nil".to_string(), vector(left))));
    }
    lines
}

fn copy(consumer: Consumer, event: EventId) -> String {
    format!("[:{consumer} {}]", event.0)
}

/// One for each subscription that is to have it: not for one that began behind it.
fn copies(facts: &Facts<'_>, event: EventId, queue: Option<Queue>) -> Vec<String> {
    let consumers = queue.map_or(Vec::new(), |queue| facts.account.consumers_of(queue));
    let tick = facts.appearance(event).and_then(|it| facts.first_tick(it));
    let is_for = |consumer: &Consumer| {
        let start = facts.subscribers().find(|(other, _)| other == consumer).map(|(_, cursor)| cursor);
        tick.zip(start).is_none_or(|(tick, start)| tick > start)
    };
    consumers.into_iter().filter(is_for).map(|consumer| copy(consumer, event)).collect()
}

/// What an act put into the log, committed or not.
fn appended(facts: &Facts<'_>, act: &Act) -> Vec<(EventId, Option<Queue>)> {
    let own = facts.appearances.iter().filter(|it| (it.act.session, it.act.call) == (act.session, act.call));
    let committed: Vec<_> = own.map(|it| (it.id, it.queue)).collect();
    match (act.op, act.reply) {
        (Op::Append { queue, .. }, Some(Reply::Appended { event, .. })) if !act.is_committed() => {
            Vec::from([(event, Some(queue))])
        }
        (Op::Start { queue, .. }, Some(Reply::Started { event, .. })) if !act.is_committed() && event.0 != 0 => {
            Vec::from([(event, Some(queue))])
        }
        _ => committed,
    }
}

fn taken(facts: &Facts<'_>, act: &Act) -> Vec<String> {
    let own = facts.endings.iter().filter(|it| (it.act.session, it.act.call) == (act.session, act.call));
    own.filter_map(|it| Some(copy(it.consumer?, it.id))).collect()
}

/// What lies in a table, and has no end for somebody.
fn left(facts: &Facts<'_>) -> Vec<String> {
    let Some(state) = &facts.account.history.state else { return Vec::new() };
    let mut left = Vec::new();
    for row in &state.events {
        let open = facts.account.consumers_of(row.queue).into_iter();
        let open = open.filter(|consumer| facts.acknowledgements(row.event.id, *consumer) == 0);
        let open: Vec<String> = open.map(|consumer| copy(consumer, row.event.id)).collect();
        let copies = copies(facts, row.event.id, Some(row.queue));
        left.extend(copies.into_iter().filter(|copy| open.contains(copy)));
    }
    left
}
