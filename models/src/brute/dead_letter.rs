//! Retries, tries and dead letters, by their definitions: Q11, Q12.
//!
//! - **Q11** A retry's attempt is one more than that of what it retries; it is dead if and only if that is more than its
//!   decision allows; what is delivered has the attempt that was appended. Of the hand-outs of one event the n-th says n,
//!   and no more than its call allows.
//! - **Q12** No event is a dead letter twice for one consumer, nor dead and handed off; a replay names a dead letter, and no
//!   other replay names it; at the end there is one row for each dead letter that was told, as it was.

use super::court::Court;
use super::facts::Facts;
use super::mint::{Ending, How, Kind};
use crate::name::{Consumer, EventId};
use crate::op::{Op, Verb};
use crate::property::Property;
use crate::reply::Reply;
use alloc::format;
use alloc::vec::Vec;

pub(super) fn judge(facts: &Facts<'_>, court: &mut Court) {
    attempts(facts, court);
    tries(facts, court);
    once(facts, court);
    replays(facts, court);
    rows(facts, court);
}

fn attempts(facts: &Facts<'_>, court: &mut Court) {
    for ending in &facts.endings {
        let Some(decision) = ending.decision.filter(|decision| decision.verb == Verb::Retry) else { continue };
        let Some(mint) = facts.mint(ending.id) else { continue };
        if decision.attempt != mint.attempt.saturating_add(1) {
            court.broken(Property::Q11, format!("{} was retried as attempt {}", ending.id, decision.attempt));
        }
        let How::Decided(_, Some(id)) = ending.how else { continue };
        if (id.0 == 0) != (decision.attempt > decision.max_attempts) {
            court.broken(Property::Q11, format!("{} became {id} as attempt {}", ending.id, decision.attempt));
        }
    }
    for event in facts.deliveries.iter().flat_map(|delivery| &delivery.events) {
        let known = facts.mint(event.id).filter(|_| facts.appearance(event.id).is_some());
        if known.is_some_and(|mint| mint.attempt != event.attempt && !matches!(mint.kind, Kind::Timer(..))) {
            court.broken(Property::Q11, format!("{} arrived as attempt {}", event.id, event.attempt));
        }
    }
}

fn tries(facts: &Facts<'_>, court: &mut Court) {
    let outs = facts.account.committed().filter_map(|act| match (act.op, act.reply) {
        (Op::HandOut { worker, max_tries, .. }, Some(Reply::HandedOut { events, tries, .. })) => {
            let event = facts.account.history.events(events).first()?;
            Some((facts.account.consumer_of(worker)?, event.id, tries, max_tries))
        }
        _ => None,
    });
    let outs: Vec<_> = outs.collect();
    for (place, (consumer, event, tries, most)) in outs.iter().enumerate() {
        let before = outs[..place].iter().filter(|(other, same, ..)| (other, same) == (consumer, event)).count();
        if usize::from(*tries) != before + 1 {
            court.missing(&facts.account, Property::Q11, format!("{event} was handed out as try {tries}"));
        }
        if tries > most {
            court.broken(Property::Q11, format!("{event} was handed out for try {tries} of {most}"));
        }
    }
}

/// For whom an event is dead: of what could not be delivered, the queue's first consumer; of a message, nobody.
fn letter_of(facts: &Facts<'_>, ending: &Ending) -> Option<(EventId, Consumer)> {
    let mint = facts.mint(ending.id)?;
    let is_told = match ending.how {
        How::Dead => true,
        How::Decided(verb, _) => ending.is_dead() && matches!(verb, Verb::Reject | Verb::Retry),
        How::Cancelled => false,
    };
    let first = || mint.queue.and_then(|queue| facts.account.consumers_of(queue).first().copied());
    let consumer = match ending.consumer {
        Some(consumer) => consumer,
        None if mint.workflow.0 == 0 => Consumer(0),
        None => first().unwrap_or(Consumer(0)),
    };
    is_told.then_some((ending.id, consumer))
}

fn once(facts: &Facts<'_>, court: &mut Court) {
    for (place, ending) in facts.endings.iter().enumerate() {
        let letter = letter_of(facts, ending);
        for other in &facts.endings[..place] {
            let known = letter_of(facts, other);
            let is_both_dead = letter.is_some() && letter == known;
            // An event may be dead for one consumer and acknowledged by another.
            let is_same = other.id == ending.id && other.consumer == ending.consumer;
            let is_dead_and_not = is_same && ending.decision.is_some() && known.is_some();
            let is_not_and_dead = is_same && other.decision.is_some() && ending.how == How::Dead;
            if is_both_dead || is_dead_and_not || is_not_and_dead {
                court.broken(Property::Q12, format!("{} has two ends, and one is a dead letter", ending.id));
            }
        }
    }
}

fn replays(facts: &Facts<'_>, court: &mut Court) {
    let replays = facts.account.committed().filter_map(|act| match (act.op, act.reply) {
        (Op::ReplayDeadLetter { consumer, event }, Some(Reply::Replayed { event: new, .. })) => {
            Some((consumer, event, new, act))
        }
        _ => None,
    });
    let replays: Vec<_> = replays.collect();
    for (place, (consumer, event, ..)) in replays.iter().enumerate() {
        let mut letters = facts.endings.iter().filter_map(|ending| letter_of(facts, ending));
        let is_nobodys = facts.mint(*event).is_some_and(|mint| mint.workflow.0 == 0);
        if !letters.any(|(dead, of)| dead == *event && (of == *consumer || is_nobodys)) {
            court.missing(&facts.account, Property::Q12, format!("{event} was replayed, and is no dead letter"));
        }
        if replays[..place].iter().any(|(other, same, ..)| (other, same) == (consumer, event)) {
            court.broken(Property::Q12, format!("{event} was replayed twice"));
        }
    }
    let Some(state) = &facts.account.history.state else { return };
    for row in &state.dead_letters {
        let mut told = replays.iter().filter(|(_, event, ..)| *event == row.event);
        let as_told = told.next().map_or(EventId(0), |(_, _, new, _)| *new);
        if as_told != row.replayed_as {
            let sentence = format!("{} is kept as replayed as {}", row.event, row.replayed_as);
            court.missing(&facts.account, Property::Q12, sentence);
        }
    }
}

fn rows(facts: &Facts<'_>, court: &mut Court) {
    let Some(state) = &facts.account.history.state else { return };
    for ending in &facts.endings {
        let Some((event, consumer)) = letter_of(facts, ending) else { continue };
        let row = state.dead_letters.iter().find(|row| (row.event, row.consumer) == (event, consumer));
        let Some(row) = row else {
            court.missing(&facts.account, Property::Q12, format!("the dead letter {event} has no row"));
            continue;
        };
        let Some(mint) = facts.mint(event) else { continue };
        let arrival = facts.appearance(event).map_or(mint.arrival, |it| it.arrival);
        let is_wait = mint.kind == Kind::Wait;
        if (row.step, row.state, row.parent) != (mint.step, mint.state, mint.parent)
            || (row.arrival != arrival && !is_wait)
        {
            court.missing(&facts.account, Property::Q12, format!("the dead letter {event} is kept otherwise"));
        }
    }
}
