//! Joins, by their definitions: J1 to J6.
//!
//! A child *has left* what its first end says: the result of its decision, or, as a dead letter, nothing.
//!
//! - **J1** A join is put into the log once; and is then open no more.
//! - **J2** It is put there when all its children have ended in acts that committed by then. Nothing else is.
//! - **J3** The act in which the last of them ends says so; of a join without children, the one that opens it.
//! - **J4** What is read under a token is what the children left of each join whose step the window holds, unless that was
//!   handed off.
//! - **J5** At the end the open join has counted those that ended, and what they left has its rows until the step after it
//!   is handed off.
//! - **J6** At the end its row says what the handoff said.

use super::act::{Account, NONE};
use super::court::Court;
use super::facts::Facts;
use super::mint::{Ending, How, Kind, Mint, resumed_by};
use crate::name::EventId;
use crate::op::{Op, Verb};
use crate::property::Property;
use crate::reply::{Arrival, ChildOutcome, ChildResult, Reply};
use alloc::format;
use alloc::vec::Vec;

pub(super) fn judge(facts: &Facts<'_>, court: &mut Court) {
    for mint in facts.mints.iter().filter(|mint| mint.kind == Kind::Join) {
        went_on(facts, mint, court);
        rows(facts, mint, court);
    }
    strangers(facts, court);
    read(facts, court);
    rows_of_nobody(facts, court);
}

impl Facts<'_> {
    /// The first end of each child of a join, in their order.
    fn ends_of_children(&self, mint: &Mint) -> Vec<Option<&Ending>> {
        mint.children.iter().map(|(child, _)| self.end_of(*child)).collect()
    }

    /// What all its children left; none while one lives.
    pub(super) fn left(&self, join: EventId) -> Option<Vec<ChildResult>> {
        let mint = self.mints.iter().find(|mint| mint.id == join && mint.kind == Kind::Join)?;
        let ends = self.ends_of_children(mint).into_iter().zip(0u16..);
        ends.map(|(end, index)| Some(result_of(join, index, end?))).collect()
    }
}

fn result_of(join: EventId, index: u16, end: &Ending) -> ChildResult {
    let (outcome, result) = match (end.how, end.decision) {
        (How::Decided(Verb::Complete, _), Some(decision)) => (ChildOutcome::Completed, decision.state),
        (How::Decided(Verb::Fail, _), Some(decision)) => (ChildOutcome::Failed, decision.state),
        _ => (ChildOutcome::Dead, 0),
    };
    ChildResult { join, index, outcome, result }
}

fn total(facts: &Facts<'_>, mint: &Mint) -> usize {
    let decided = facts.account.decided(&mint.act);
    decided.iter().find(|it| it.id == Some(mint.id)).map_or(0, |it| it.children.len())
}

fn went_on(facts: &Facts<'_>, mint: &Mint, court: &mut Court) {
    let account = &facts.account;
    let ends = facts.ends_of_children(mint);
    let count_by = |commit: u32| ends.iter().flatten().filter(|end| end.act.commit <= commit).count();
    let ways = facts.appearances.iter().filter(|it| it.id == mint.id).map(|it| it.act);
    let dead = facts.endings.iter().filter(|it| it.id == mint.id && it.how == How::Dead && it.consumer.is_none());
    let mut ways: Vec<_> = ways.chain(dead.map(|it| it.act)).collect();
    ways.sort_by_key(|act| act.commit);
    if ways.len() > 1 {
        court.broken(Property::J1, format!("{} went on twice", mint.id));
    }
    if let Some(act) = ways.first()
        && count_by(act.commit) < total(facts, mint)
    {
        court.missing(account, Property::J2, format!("{} went on before its children had ended", mint.id));
    }
    if mint.children.len() < total(facts, mint) || ends.iter().any(Option::is_none) {
        return;
    }
    let last = ends.iter().flatten().map(|end| end.act).max_by_key(|act| act.commit).unwrap_or(mint.act);
    let says_so = ways.iter().any(|act| act.is_same_transaction(&last) || act.commit <= last.commit);
    if !says_so {
        court.missing(account, Property::J3, format!("{} did not go on when all had ended", mint.id));
    }
}

/// What is said to have gone on is a join, or an await of the same handoff.
fn strangers(facts: &Facts<'_>, court: &mut Court) {
    for act in facts.account.committed() {
        let Some(resumed) = act.reply.as_ref().and_then(resumed_by) else { continue };
        if matches!(act.op, Op::ExpireWaits { .. }) {
            continue;
        }
        for id in facts.account.history.ids(resumed) {
            match facts.mint(EventId(*id)).map(|mint| mint.kind) {
                Some(Kind::Join | Kind::Wait) => {}
                Some(_) if facts.appearance(EventId(*id)).is_some_and(|it| it.act.commit < act.commit) => {
                    court.broken(Property::J1, format!("e{id} went on, and was an event before"));
                }
                _ => court.missing(&facts.account, Property::J2, format!("e{id} went on, and is no join")),
            }
        }
    }
}

fn read(facts: &Facts<'_>, court: &mut Court) {
    for act in &facts.account.acts {
        let (Op::ReadResults { worker, token }, Some(Reply::Results(results))) = (act.op, act.reply) else { continue };
        let Some(window) = facts.window_of(act, worker, token) else { continue };
        let results = facts.account.history.results(results);
        let queue = facts.queue_of_worker(worker);
        let held = facts
            .appearances
            .iter()
            .filter(|it| it.queue == queue && facts.belongs(it, (window.prev, window.next)) == Some(true));
        let held: Vec<_> = held.filter_map(|it| Some((it.id, joined(it.arrival)?))).collect();
        for result in results {
            if !held.iter().any(|(_, join)| *join == result.join) {
                court.missing(&facts.account, Property::J4, format!("{} is of another window", result.join));
            }
        }
        for (event, join) in held {
            let is_done = facts.endings.iter().any(|it| it.id == event && it.act.commit < act.ret)
                || is_settled(facts, join, act.ret);
            let Some(left) = facts.left(join).filter(|_| !is_done) else { continue };
            let own: Vec<_> = results.iter().filter(|result| result.join == join).collect();
            if own.len() != left.len() || !left.iter().all(|result| own.contains(&result)) {
                court.missing(&facts.account, Property::J4, format!("{join} was read as it is not"));
            }
        }
    }
}

const fn joined(arrival: Arrival) -> Option<EventId> {
    match arrival {
        Arrival::Joined { join } => Some(join),
        _ => None,
    }
}

fn rows(facts: &Facts<'_>, mint: &Mint, court: &mut Court) {
    let account = &facts.account;
    let Some(state) = &account.history.state else { return };
    let (id, total) = (mint.id, total(facts, mint) as u32);
    let ends = facts.ends_of_children(mint);
    let ended = ends.iter().flatten().count() as u32;
    let is_over = facts.appearance(id).is_some() || facts.ending(id).is_some();
    match state.joins.iter().find(|row| row.join == id) {
        Some(row) => {
            let is_same =
                (row.workflow, row.step, row.state, row.total) == (mint.workflow, mint.step, mint.state, total);
            if is_settled(facts, id, NONE) {
                return court.missing(account, Property::D2, format!("{id} is open again"));
            }
            if !is_same || mint.sequence != Some(row.sequence) {
                court.missing(account, Property::J6, format!("{id} is kept otherwise"));
            }
            if is_over {
                court.missing(account, Property::J1, format!("{id} went on, and is open"));
            } else if row.ended != ended {
                court.missing(account, Property::J5, format!("{id} has counted {}", row.ended));
            }
            if !is_over && ended >= total {
                court.missing(account, Property::J3, format!("{id} is open, and all have ended"));
            }
        }
        None if !is_over && ended < total => {
            court.missing(account, Property::J6, format!("{id} is open, without a row"));
        }
        None => {}
    }
    for (end, index) in ends.iter().zip(0u16..).filter(|_| !is_settled(facts, id, NONE)) {
        let row = state.results.iter().find(|row| (row.join, row.index) == (id, index));
        if end.map(|end| result_of(id, index, end)).as_ref() != row {
            court.missing(account, Property::J5, format!("what child {index} of {id} left is not kept"));
        }
    }
}

/// The step that it led to was handed off, and not for another attempt, nor as a dead letter that may be replayed.
fn is_settled(facts: &Facts<'_>, join: EventId, before: u32) -> bool {
    let steps = facts.appearances.iter().filter(|it| joined(it.arrival) == Some(join));
    let ids: Vec<EventId> = steps.map(|it| it.id).collect();
    facts.endings.iter().any(|it| {
        let is_retry = matches!(it.how, How::Decided(Verb::Retry, _));
        ids.contains(&it.id) && it.decision.is_some() && !is_retry && !it.is_dead() && it.act.commit < before
    })
}

fn rows_of_nobody(facts: &Facts<'_>, court: &mut Court) {
    let account: &Account<'_> = &facts.account;
    let Some(state) = &account.history.state else { return };
    for row in &state.joins {
        if !facts.mints.iter().any(|mint| mint.id == row.join && mint.kind == Kind::Join) {
            court.missing(account, Property::D2, format!("nobody opened {}", row.join));
        }
    }
}
