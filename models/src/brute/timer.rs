//! Timers, by their definitions: T1, T2, T3, T5.
//!
//! - **T1** No drain names a timer when the server's clock cannot have come to its time, nor at a tick before it.
//! - **T2** When a drain says that nothing more is due at a tick, each timer that this tick sees, and that was due when it
//!   was taken, has fired, is dead or was cancelled. At the end each that is neither has its row.
//! - **T3** No timer is named by two drains, nor by one and a cancellation; none that was cancelled has a row at the end.
//! - **T5** What fired arrives as it was scheduled, on its queue; so is what its row says.

use super::court::Court;
use super::facts::Facts;
use super::mint::{Ending, How, Kind, Mint};
use crate::name::{Micros, Tick};
use crate::op::Op;
use crate::property::Property;
use crate::reply::{Event, Reply};
use alloc::format;

pub(super) fn judge(facts: &Facts<'_>, court: &mut Court) {
    fired(facts, court);
    rounds(facts, court);
    once(facts, court);
    intact(facts, court);
    rows(facts, court);
}

fn timers<'f>(facts: &'f Facts<'_>) -> impl Iterator<Item = (&'f Mint, Micros, Option<Micros>)> {
    facts.mints.iter().filter_map(|mint| match mint.kind {
        Kind::Timer(delay, told) => Some((mint, delay, told)),
        _ => None,
    })
}

/// The earliest and the latest time at which it can be due.
fn due(facts: &Facts<'_>, mint: &Mint, delay: Micros) -> (Micros, Micros) {
    let (earliest, latest) = facts.account.times_of(&mint.act);
    (Micros(earliest.0.saturating_add(delay.0)), Micros(latest.0.saturating_add(delay.0)))
}

fn fired(facts: &Facts<'_>, court: &mut Court) {
    for (mint, delay, told) in timers(facts) {
        let first = facts.appearances.iter().filter(|it| it.id == mint.id).take(1);
        for fire in first {
            if facts.account.times_of(&fire.act).1 < due(facts, mint, delay).0 {
                court.broken(Property::T1, format!("{} fired before its time", mint.id));
            }
        }
        for act in facts.account.committed() {
            let (Op::Drain { queue, .. }, Some(Reply::Drained { tick, fired, .. })) = (act.op, act.reply) else {
                continue;
            };
            let is_named = facts.account.history.ids(fired).contains(&mint.id.0);
            let taken = facts.tick(queue, tick).map(|tick| tick.at);
            if is_named && taken.zip(told).is_some_and(|(taken, told)| taken < told) {
                court.broken(Property::T1, format!("{} fired at {tick}, before its time", mint.id));
            }
            if is_named && mint.queue != Some(queue) {
                court.broken(Property::T5, format!("{} fired on {queue}", mint.id));
            }
        }
    }
}

fn rounds(facts: &Facts<'_>, court: &mut Court) {
    for act in facts.account.committed() {
        let (Op::Drain { queue, .. }, Some(Reply::Drained { tick, is_done: true, .. })) = (act.op, act.reply) else {
            continue;
        };
        let Some(taken) = facts.tick(queue, tick) else { continue };
        let asked_at = facts.account.times_of(&taken.act).0;
        for (mint, delay, told) in timers(facts).filter(|(mint, ..)| mint.queue == Some(queue)) {
            let is_due = told.map_or(due(facts, mint, delay).1 <= asked_at, |told| told <= taken.at);
            let is_seen = mint.act.xid.0 != 0 && facts.sees(taken, mint.act.xid);
            // Whatever was being committed beside the round counts as well.
            let is_over = facts.appearances.iter().any(|it| it.id == mint.id && it.act.commit_call <= act.commit)
                || facts.endings.iter().any(|it| it.id == mint.id && it.act.commit_call <= act.commit);
            if is_due && is_seen && !is_over && mint.act.commit < act.commit {
                court.missing(&facts.account, Property::T2, format!("{} was left behind at {tick}", mint.id));
            }
        }
    }
    let Some(state) = &facts.account.history.state else { return };
    for (mint, ..) in timers(facts) {
        let is_over = facts.appearance(mint.id).is_some() || facts.ending(mint.id).is_some();
        if !is_over && !state.timers.iter().any(|row| row.event.id == mint.id) {
            court.missing(&facts.account, Property::T2, format!("{} waits, and its row is gone", mint.id));
        }
    }
}

fn is_cancellation(ending: &&Ending) -> bool {
    ending.how == How::Cancelled
}

fn once(facts: &Facts<'_>, court: &mut Court) {
    for (mint, ..) in timers(facts) {
        let fires = facts.appearances.iter().filter(|it| it.id == mint.id).count();
        let dead = facts.endings.iter().filter(|it| it.id == mint.id && it.how == How::Dead);
        let dead = dead.filter(|it| matches!(it.act.op, Op::Drain { .. })).count();
        let is_cancelled = facts.endings.iter().filter(is_cancellation).any(|it| it.id == mint.id);
        if fires > 1 {
            court.broken(Property::T3, format!("{} fired twice", mint.id));
        }
        if is_cancelled && fires + dead > 0 {
            court.broken(Property::T3, format!("{} was cancelled, and fired", mint.id));
        }
        let rows = facts.account.history.state.iter().flat_map(|state| &state.timers);
        if is_cancelled && rows.clone().any(|row| row.event.id == mint.id) && fires == 0 {
            court.broken(Property::T3, format!("{} was cancelled, and lies in its table", mint.id));
        }
    }
    for act in facts.account.committed() {
        let Some(Reply::Drained { fired, tick, .. }) = act.reply else { continue };
        let told: Tick = tick;
        for id in facts.account.history.ids(fired) {
            let mint = facts.mints.iter().find(|mint| mint.id.0 == *id);
            if mint.is_some_and(|mint| mint.kind == Kind::Event && mint.act.commit < act.call) {
                court.broken(Property::T3, format!("e{id} fired at {told}, and was an event before"));
            }
        }
    }
}

fn is_same(facts: &Facts<'_>, mint: &Mint, event: &Event) -> bool {
    let arrival = facts.appearance(mint.id).map_or(mint.arrival, |it| it.arrival);
    (mint.workflow, mint.step, mint.attempt, mint.state, arrival)
        == (event.workflow, event.step, event.attempt, event.state, event.arrival)
        && mint.sequence == Some(event.sequence)
}

fn intact(facts: &Facts<'_>, court: &mut Court) {
    for event in facts.deliveries.iter().flat_map(|delivery| &delivery.events) {
        let mut known = timers(facts).filter(|(mint, ..)| mint.id == event.id && facts.appearance(event.id).is_some());
        if known.any(|(mint, ..)| !is_same(facts, mint, event)) {
            court.broken(Property::T5, format!("{} arrived otherwise than it was scheduled", event.id));
        }
    }
}

fn rows(facts: &Facts<'_>, court: &mut Court) {
    let Some(state) = &facts.account.history.state else { return };
    for row in &state.timers {
        let waits = facts.appearance(row.event.id).is_none()
            && facts.ending(row.event.id).is_none_or(|it| is_cancellation(&it));
        let mut known = timers(facts).filter(|(mint, ..)| mint.id == row.event.id);
        if waits && known.any(|(mint, ..)| !is_same(facts, mint, &row.event)) {
            court.missing(&facts.account, Property::T5, format!("{} is kept otherwise", row.event.id));
        }
    }
}
