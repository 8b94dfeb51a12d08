//! The log, by its definitions: D2, D5, Q2, Q5, Q6, Q7, Q14.
//!
//! - **D2** Whatever is delivered was minted in a transaction that committed; so was whatever lies in a table at the end.
//! - **D5** No id of an event, token, worker or child is in the replies of two committed acts that mint; no token in that of
//!   a claim after a committed one.
//! - **Q2** Whatever is delivered or handed off was minted by somebody; a message with that payload.
//! - **Q5** Each event of a page is visible at the end of the window and not at its start; after the last page no other is.
//! - **Q6** Two who read a window to its end were given the same.
//! - **Q7** No tick sees the later and not the earlier of two events, if one had committed before the other was begun.
//! - **Q14** Of two ticks of a queue the one with the higher number sees what the other sees, and has no earlier clock, and
//!   did not commit before the other was asked to.

use super::act::Act;
use super::court::Court;
use super::facts::{Delivery, Facts, Taken};
use super::mint::Mint;
use crate::name::{EventId, WorkflowId, Xid};
use crate::op::Op;
use crate::property::Property;
use crate::reply::{Event, Reply};
use alloc::format;
use alloc::vec::Vec;

pub(super) fn judge(facts: &Facts<'_>, court: &mut Court) {
    unique(facts, court);
    delivered(facts, court);
    complete(facts, court);
    causal(facts, court);
    monotone(facts, court);
    rows(facts, court);
}

fn unique(facts: &Facts<'_>, court: &mut Court) {
    for (place, mint) in facts.mints.iter().enumerate() {
        if facts.mints[..place].iter().any(|other| other.id == mint.id) {
            court.broken(Property::D5, format!("{} was minted twice", mint.id));
        }
        let is_twin = |other: &Mint| other.begins && other.workflow == mint.workflow;
        if mint.begins && mint.parent.is_some() && facts.mints[..place].iter().any(is_twin) {
            court.broken(Property::D5, format!("{} was begun twice", mint.workflow));
        }
    }
    for claim in &facts.claims {
        let mut others = facts.claims.iter().filter(|other| other.token == claim.token && other.act.is_committed());
        if others.any(|other| other.act.commit < claim.act.ret) {
            court.broken(Property::D5, format!("token {} was given out again", claim.token));
        }
    }
    let registered = |act: &Act| match act.reply {
        Some(Reply::Registered { worker }) if matches!(act.op, Op::Register { .. }) => Some(worker),
        _ => None,
    };
    let workers: Vec<_> = facts.account.committed().filter_map(registered).collect();
    for (place, worker) in workers.iter().enumerate() {
        if workers[..place].contains(worker) {
            court.broken(Property::D5, format!("{worker} was registered twice"));
        }
    }
}

fn delivered(facts: &Facts<'_>, court: &mut Court) {
    for delivery in &facts.deliveries {
        for event in &delivery.events {
            let Some(known) = facts.appearance(event.id) else {
                stranger(facts, court, event);
                continue;
            };
            if known.act.commit_call > delivery.act.ret {
                court.broken(Property::D2, format!("{} was delivered before it was committed", event.id));
            }
            let mint = facts.mint(event.id).filter(|mint| mint.workflow.0 == 0 && event.workflow.0 == 0);
            let is_message = mint.filter(|mint| mint.kind == super::mint::Kind::Event);
            if is_message.is_some_and(|mint| mint.state != event.state) {
                court.broken(Property::Q2, format!("{} was delivered with {}", event.id, event.state));
            }
            let Some(window) = facts.window_of(&delivery.act, delivery.worker, delivery.token) else { continue };
            let queue = facts.queue_of_worker(delivery.worker);
            let is_here = queue == known.queue && facts.belongs(known, (window.prev, window.next)) != Some(false);
            if !is_here && known.xid.0 != 0 && known.queue.is_some() && queue.is_some() {
                court.broken(
                    Property::Q5,
                    format!("{} is not of the window ({},{}]", event.id, window.prev, window.next),
                );
            }
        }
    }
    for ending in &facts.endings {
        if ending.decision.is_some() && facts.appearance(ending.id).is_none() {
            court.missing(
                &facts.account,
                Property::Q2,
                format!("{} was handed off, and nobody appended it", ending.id),
            );
        }
    }
}

/// Delivered, and no committed act had put it there.
fn stranger(facts: &Facts<'_>, court: &mut Court, event: &Event) {
    let mut minted = Vec::new();
    let undone = facts.account.acts.iter().filter(|act| !act.is_committed());
    undone.for_each(|act| facts.account.mints_of(act, &mut minted));
    let is_known = facts.mint(event.id).is_some() || minted.iter().any(|mint| mint.id == event.id);
    let is_undone = facts.account.acts.iter().any(|act| !act.is_committed() && act.xid == event.xid && act.xid.0 != 0)
        && !facts.account.committed().any(|act| act.xid == event.xid);
    let property = if is_known || is_undone { Property::D2 } else { Property::Q2 };
    court.missing(&facts.account, property, format!("{} was delivered from nowhere", event.id));
}

/// The pages of one reading, from the first on, each where the one before ended; none if it did not come to the end.
fn reading<'f>(facts: &'f Facts<'_>, last: &Delivery) -> Option<Vec<&'f Event>> {
    let mut events: Vec<&Event> = Vec::new();
    let mut reached = None;
    for page in facts.deliveries.iter().filter(|it| (it.worker, it.token) == (last.worker, last.token)) {
        let Some((after, limit)) = page.page else { continue };
        if after.0 == 0 {
            events.clear();
            reached = Some(EventId(0));
        }
        let is_next = reached == Some(after) && page.events.is_sorted_by(|one, next| one.id < next.id);
        let is_after = page.events.first().is_none_or(|first| first.id > after);
        events.extend(&page.events);
        reached = (is_next && is_after).then_some(page.events.last().map_or(after, |event| event.id));
        if page.act.ret == last.act.ret {
            return (reached.is_some() && (page.events.len() as u64) < u64::from(limit)).then_some(events);
        }
    }
    None
}

fn complete(facts: &Facts<'_>, court: &mut Court) {
    let mut wholes = Vec::new();
    for delivery in &facts.deliveries {
        let Some(window) = facts.window_of(&delivery.act, delivery.worker, delivery.token) else { continue };
        let Some(events) = reading(facts, delivery) else { continue };
        let ends = (window.prev, window.next);
        let queue = facts.queue_of_worker(delivery.worker);
        for known in &facts.appearances {
            let is_there = events.iter().any(|event| event.id == known.id);
            if known.queue == queue && known.xid.0 != 0 && facts.belongs(known, ends) == Some(true) && !is_there {
                court.broken(Property::Q5, format!("{} is missing from ({},{}]", known.id, ends.0, ends.1));
            }
        }
        wholes.push((window.consumer, ends, events));
    }
    for (place, (consumer, ends, events)) in wholes.iter().enumerate() {
        for (_, _, others) in wholes[..place].iter().filter(|(other, same, _)| (other, same) == (consumer, ends)) {
            let has_all = |these: &[&Event], those: &[&Event]| these.iter().all(|event| those.contains(event));
            if !has_all(events, others) || !has_all(others, events) {
                court.broken(Property::Q6, format!("({},{}] was read twice, not the same", ends.0, ends.1));
            }
        }
    }
}

fn causal(facts: &Facts<'_>, court: &mut Court) {
    for later in &facts.appearances {
        for earlier in facts.appearances.iter().filter(|it| it.act.commit < later.act.begun) {
            let is_comparable = earlier.queue == later.queue && earlier.xid.0 != 0 && later.xid.0 != 0;
            let ticks = facts.ticks.iter().filter(|tick| is_comparable && Some(tick.queue) == later.queue);
            for tick in ticks {
                if facts.sees(tick, later.xid) && !facts.sees(tick, earlier.xid) {
                    court.broken(
                        Property::Q7,
                        format!("{} sees {} and not {}, which had committed before", tick.number, later.id, earlier.id),
                    );
                }
            }
        }
    }
}

fn monotone(facts: &Facts<'_>, court: &mut Court) {
    for act in facts.account.committed() {
        let (Op::Subscribe { queue, .. }, Some(Reply::Subscribed { cursor })) = (act.op, act.reply) else { continue };
        if facts.tick(queue, cursor).is_some_and(|tick| tick.act.commit_call > act.commit) {
            court.broken(Property::Q14, format!("{cursor} was a cursor, and was taken after that"));
        }
    }
    for (place, tick) in facts.ticks.iter().enumerate() {
        for other in facts.ticks[..place].iter().filter(|other| other.queue == tick.queue) {
            if other.number == tick.number {
                court.broken(Property::Q14, format!("{} was taken twice", tick.number));
                continue;
            }
            let (early, late) = if tick.number < other.number { (tick, other) } else { (other, tick) };
            if late.at < early.at {
                court.broken(Property::Q14, format!("the clock fell from {} to {}", early.number, late.number));
            }
            if unseen(facts, early, late) {
                court.broken(Property::Q14, format!("{} sees what {} does not", early.number, late.number));
            }
            if late.act.commit < early.act.commit_call {
                court.broken(Property::Q14, format!("{} committed after {}", early.number, late.number));
            }
        }
    }
}

/// Whether some transaction is visible at the first and not at the second.
fn unseen(facts: &Facts<'_>, early: &Taken, late: &Taken) -> bool {
    let known = facts.account.history.ids(early.snapshot.in_progress).len() as u32;
    let hidden = facts.account.history.ids(late.snapshot.in_progress).iter().copied();
    let from = late.snapshot.xmax.0;
    // Beyond the second's end the first hides so many at most.
    let beyond = (from..early.snapshot.xmax.0).take(known as usize + 1);
    hidden.chain(beyond).any(|xid| facts.sees(early, Xid(xid)) && !facts.sees(late, Xid(xid)))
}

fn rows(facts: &Facts<'_>, court: &mut Court) {
    let Some(state) = &facts.account.history.state else { return };
    for row in &state.events {
        let id = row.event.id;
        if facts.appearance(id).is_none() {
            court.missing(&facts.account, Property::D2, format!("{id} lies in a table, and nobody appended it"));
        }
    }
    for row in &state.timers {
        if facts.mint(row.event.id).is_none() {
            let id = row.event.id;
            court.missing(&facts.account, Property::D2, format!("{id} lies in a timer table, and nobody scheduled it"));
        }
    }
    for row in &state.start_keys {
        let is_start = |mint: &&Mint| mint.begins && mint.queue == Some(row.queue) && mint.key == Some(row.key);
        let is_replay = |mint: &&Mint| mint.begins && mint.key.is_none() && mint.workflow == row.workflow;
        if !facts.mints.iter().any(|mint| is_start(&mint) || is_replay(&mint)) {
            court.missing(&facts.account, Property::D2, format!("{} is taken, and nobody used it", row.key));
        }
    }
    effects(facts, court);
}

/// The ledger holds exactly what committed transactions wrote: D1 for what is not there, D2 for what should not be.
fn effects(facts: &Facts<'_>, court: &mut Court) {
    let Some(state) = &facts.account.history.state else { return };
    let written = facts.account.committed().filter_map(|act| match act.op {
        Op::Effect { workflow, sequence, step } => Some((workflow, sequence, step, act.xid)),
        _ => None,
    });
    let written: Vec<(WorkflowId, u32, crate::name::Step, Xid)> = written.collect();
    let kept: Vec<_> = state.ledger.iter().map(|row| (row.workflow, row.sequence, row.step, row.xid)).collect();
    if written.iter().any(|line| line.3.0 == 0) {
        return [Property::D1, Property::D2].into_iter().for_each(|property| court.unclear(property));
    }
    for line in written.iter().chain(&kept) {
        let count = |lines: &[_]| lines.iter().filter(|other| *other == line).count();
        match (count(&written), count(&kept)) {
            (written, kept) if written > kept => {
                court.missing(&facts.account, Property::D1, format!("an effect of {} is gone", line.0));
            }
            (written, kept) if written < kept => {
                court.missing(&facts.account, Property::D2, format!("an effect of {} is nobody's", line.0));
            }
            _ => {}
        }
    }
}
