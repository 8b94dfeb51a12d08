//! Windows, by their definitions: Q1, Q3, Q4.
//!
//! - **Q1** Each event whose first tick lies in a window that is finished, as are all before it, or behind which all is
//!   finished, has its end for that subscription: it was acknowledged, or is dead. At the end each event that a tick sees
//!   and that has no end for somebody has its row.
//! - **Q3** No two committed acts acknowledge one event for one subscription.
//! - **Q4** No two windows of a subscription share a tick, unless one was taken over from the holder of the other, who had
//!   that very window; both ends are ticks; no event lies between two windows and in none.

use super::act::Act;
use super::court::Court;
use super::facts::{Claim, Facts};
use super::mint::{Appearance, How};
use crate::name::{Consumer, EventId, Tick};
use crate::op::Op;
use crate::property::Property;
use crate::reply::Reply;
use alloc::format;

pub(super) fn judge(facts: &Facts<'_>, court: &mut Court) {
    acknowledged_once(facts, court);
    disjoint(facts, court);
    nothing_lost(facts, court);
    rows(facts, court);
}

impl Facts<'_> {
    /// How often the event was acknowledged for the subscription.
    pub(crate) fn acknowledgements(&self, event: EventId, consumer: Consumer) -> usize {
        let is_it = |it: &&super::mint::Ending| {
            it.id == event && it.consumer == Some(consumer) && !matches!(it.how, How::Cancelled)
        };
        self.endings.iter().filter(is_it).count()
    }

    /// The first tick that sees it.
    pub(crate) fn first_tick(&self, event: &Appearance) -> Option<Tick> {
        let seeing = self.ticks.iter().filter(|tick| Some(tick.queue) == event.queue && self.sees(tick, event.xid));
        seeing.map(|tick| tick.number).min()
    }

    /// Whether the window of a claim is handed out event by event.
    pub(super) fn is_isolated(&self, claim: &Claim) -> bool {
        claim.isolated
            || self.account.committed().any(|act| match act.op {
                Op::HandOut { worker, token, .. } => (worker, token) == (claim.worker, claim.token),
                _ => false,
            })
    }

    /// The committed acts that ended a window under that claim's token.
    pub(super) fn finishes(&self, claim: &Claim) -> impl Iterator<Item = &Act> {
        let is_isolated = self.is_isolated(claim);
        let holder = (claim.worker, claim.token);
        self.account.committed().filter(move |act| match (act.op, act.reply) {
            (Op::Handoff { worker, token, .. }, _) => (worker, token) == holder && !is_isolated,
            (Op::HandOut { worker, token, .. }, Some(Reply::HandedOut { events, .. })) => {
                (worker, token) == holder && events.len == 0
            }
            _ => false,
        })
    }

    pub(super) fn committed_claims(&self, consumer: Consumer) -> impl Iterator<Item = &Claim> {
        self.claims.iter().filter(move |claim| claim.consumer == Some(consumer) && claim.act.is_committed())
    }

    /// Whether somebody has finished this window, under whatever token.
    fn is_finished(&self, consumer: Consumer, (prev, next): (Tick, Tick)) -> bool {
        self.committed_claims(consumer)
            .any(|claim| (claim.prev, claim.next) == (prev, next) && self.finishes(claim).next().is_some())
    }

    pub(crate) fn subscribers(&self) -> impl Iterator<Item = (Consumer, Tick)> {
        self.account.committed().filter_map(|act| match (act.op, act.reply) {
            (Op::Subscribe { consumer, .. }, Some(Reply::Subscribed { cursor })) => Some((consumer, cursor)),
            _ => None,
        })
    }
}

fn acknowledged_once(facts: &Facts<'_>, court: &mut Court) {
    for (place, ending) in facts.endings.iter().enumerate() {
        let Some(consumer) = ending.consumer else { continue };
        let mut before = facts.endings[..place].iter();
        if facts.appearance(ending.id).is_some() && before.any(|it| (it.id, it.consumer) == (ending.id, Some(consumer)))
        {
            court.broken(Property::Q3, format!("{} was acknowledged twice for {consumer}", ending.id));
        }
    }
}

fn disjoint(facts: &Facts<'_>, court: &mut Court) {
    for claim in facts.claims.iter().filter(|claim| claim.act.is_committed()) {
        let Some(consumer) = claim.consumer else { continue };
        let window = format!("({},{}]", claim.prev, claim.next);
        let queue = facts.account.queue_of(consumer);
        for end in [claim.prev, claim.next] {
            let is_cursor = facts.subscribers().any(|(_, cursor)| cursor == end);
            if queue.is_some_and(|queue| facts.tick(queue, end).is_none()) && !is_cursor {
                court.missing(&facts.account, Property::Q4, format!("{window} is bounded by {end}, which nobody took"));
            }
        }
        let start = facts.subscribers().find(|(other, _)| *other == consumer).map(|(_, cursor)| cursor);
        if claim.victim.0 == 0 && start.is_some_and(|start| claim.prev < start) {
            court.broken(Property::Q4, format!("{window} lies before the subscription"));
        }
        if claim.next <= claim.prev {
            court.broken(Property::Q4, format!("{window} ends before it starts"));
        }
        if claim.victim.0 != 0 {
            let held = facts.held_by(claim.victim, claim.act.commit);
            let is_open = |held: &&Claim| facts.over(held) > claim.act.commit;
            if held.filter(is_open).is_some_and(|held| (held.prev, held.next) != (claim.prev, claim.next)) {
                court.broken(Property::Q4, format!("{window} was taken over from {}, who had another", claim.victim));
            }
            continue;
        }
        let others = facts.committed_claims(consumer).filter(|other| other.act.commit < claim.act.commit);
        for other in others.filter(|other| other.prev < claim.next && claim.prev < other.next) {
            court.broken(Property::Q4, format!("{window} and ({},{}] were both given out", other.prev, other.next));
            if facts.over(other) > claim.act.commit {
                court.broken(Property::Q8, format!("{window} was given out to two at once"));
            }
        }
    }
}

fn nothing_lost(facts: &Facts<'_>, court: &mut Court) {
    for (consumer, start) in facts.subscribers() {
        let queue = facts.account.queue_of(consumer);
        for event in facts.appearances.iter().filter(|event| event.queue == queue && event.xid.0 != 0) {
            let Some(tick) = facts.first_tick(event).filter(|tick| *tick > start) else { continue };
            if facts.acknowledgements(event.id, consumer) > 0 {
                continue;
            }
            let is_past = |claim: &&Claim| claim.prev < tick;
            let mut before = facts.committed_claims(consumer).filter(is_past);
            let is_all_finished = before.all(|claim| facts.is_finished(consumer, (claim.prev, claim.next)));
            let is_given = facts.committed_claims(consumer).any(|claim| claim.prev < tick && tick <= claim.next);
            let is_passed = facts.committed_claims(consumer).any(|claim| claim.prev >= tick);
            if !is_all_finished || !(is_given || is_passed) {
                continue;
            }
            lost(facts, court, event);
            if !is_given {
                court.missing(&facts.account, Property::Q4, format!("{} lies between two windows", event.id));
            }
        }
    }
}

fn lost(facts: &Facts<'_>, court: &mut Court, event: &Appearance) {
    court.missing(&facts.account, Property::Q1, format!("{} is lost", event.id));
    if facts.mint(event.id).is_some_and(|mint| mint.workflow.0 != 0 && facts.ending(event.id).is_none()) {
        court.missing(&facts.account, Property::W1, format!("{}, with which its workflow goes on, is lost", event.id));
    }
}

fn rows(facts: &Facts<'_>, court: &mut Court) {
    let Some(state) = &facts.account.history.state else { return };
    for event in &facts.appearances {
        let Some((queue, tick)) = event.queue.zip(facts.first_tick(event)) else { continue };
        let is_waiting = |(consumer, start): (Consumer, Tick)| {
            facts.account.queue_of(consumer) == Some(queue)
                && tick > start
                && facts.acknowledgements(event.id, consumer) == 0
        };
        let has_row = state.events.iter().any(|row| row.event.id == event.id);
        if facts.subscribers().any(is_waiting) && !has_row {
            court.missing(&facts.account, Property::Q1, format!("{} waits, and its row is gone", event.id));
        }
    }
    for one in &state.workers {
        let Some((_, prev, next)) = one.window else { continue };
        let is_shared = |(_, start, end): (_, Tick, Tick)| start < next && prev < end;
        let mut others = state.workers.iter().filter(|it| it.consumer == one.consumer && it.worker < one.worker);
        if others.any(|other| other.window.is_some_and(is_shared)) {
            court.broken(Property::Q8, format!("({prev},{next}] stands in two rows"));
        }
    }
}
