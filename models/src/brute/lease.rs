//! Leases, by their definitions: Q8 and Q9. (Two windows at once are found where windows are.)
//!
//! A token is *current* from the commit of the claim that gave it to a worker until the first commit of: the finish of its
//! window, a takeover from that worker, its next claim.
//!
//! - **Q8** No call that was made when its token was current no more is accepted, nor one under a token that no committed
//!   claim, and none of its own transaction, had given to that worker; nobody takes a window from a worker whose last token
//!   is over.
//! - **Q9** A handoff, and a hand-out that ends its window, commits under a token that was current when it was asked to.

use super::act::{Act, NONE};
use super::court::Court;
use super::facts::{Claim, Facts};
use crate::name::{Token, WorkerId};
use crate::op::Op;
use crate::property::Property;
use crate::reply::Reply;
use alloc::format;

pub(super) fn judge(facts: &Facts<'_>, court: &mut Court) {
    accepted(facts, court);
    fenced(facts, court);
    taken_from_nobody(facts, court);
}

impl Facts<'_> {
    /// What the worker was given last before that record.
    pub(super) fn held_by(&self, worker: WorkerId, before: u32) -> Option<&Claim> {
        let given = self.claims.iter().filter(|claim| claim.worker == worker && claim.act.is_committed());
        given.filter(|claim| claim.act.commit < before).max_by_key(|claim| claim.act.commit)
    }

    /// The record from which on the claim's token is current no more.
    pub(super) fn over(&self, claim: &Claim) -> u32 {
        let since = claim.act.commit;
        let finished = self.finishes(claim).map(|act| act.commit).min().unwrap_or(NONE);
        let committed = self.claims.iter().filter(|other| other.act.is_committed() && other.act.commit > since);
        let others = committed.filter(|other| other.victim == claim.worker || other.worker == claim.worker);
        let replaced = others.map(|other| other.act.commit).min().unwrap_or(NONE);
        finished.min(replaced)
    }

    /// Until when the token was current for that worker, as this act could know; none if it never was.
    fn current_until(&self, act: &Act, worker: WorkerId, token: Token) -> Option<u32> {
        let own = |claim: &&Claim| claim.act.session == act.session && claim.act.begun == act.begun;
        let given = self.claims.iter().filter(|claim| (claim.worker, claim.token) == (worker, token));
        let mut until = None;
        for claim in given.filter(|claim| claim.act.call < act.record()) {
            match claim.act.is_committed() && claim.act.commit <= act.record() {
                true => until = until.max(Some(self.over(claim))),
                false if own(&claim) => until = Some(NONE),
                false => {}
            }
        }
        until
    }
}

fn accepted(facts: &Facts<'_>, court: &mut Court) {
    for act in facts.account.acts.iter().filter(|act| act.reply.is_some()) {
        let (worker, token) = match act.op {
            Op::Read { worker, token, .. }
            | Op::ReadResults { worker, token }
            | Op::Hold { worker, token, .. }
            | Op::Heartbeat { worker, token, .. }
            | Op::HandOut { worker, token, .. } => (worker, token),
            _ => continue,
        };
        match facts.current_until(act, worker, token) {
            None => court.missing(
                &facts.account,
                Property::Q8,
                format!("{worker} was accepted under {token}, which nobody had given it"),
            ),
            Some(until) if until < act.call => {
                court.broken(Property::Q8, format!("{worker} was accepted under {token}, which was dead"));
            }
            Some(_) => {}
        }
    }
}

fn fenced(facts: &Facts<'_>, court: &mut Court) {
    for act in facts.account.committed() {
        let (worker, token) = match (act.op, act.reply) {
            (Op::Handoff { worker, token, .. }, _) => (worker, token),
            (Op::HandOut { worker, token, .. }, Some(Reply::HandedOut { events, .. })) if events.len == 0 => {
                (worker, token)
            }
            _ => continue,
        };
        match facts.current_until(act, worker, token) {
            None => {
                court.missing(&facts.account, Property::Q9, format!("{worker} committed under {token}, never its own"));
            }
            Some(until) if until < act.commit_call && until < act.commit => {
                court.broken(Property::Q9, format!("{worker} committed under {token}, which was dead"));
            }
            Some(_) => {}
        }
    }
}

fn taken_from_nobody(facts: &Facts<'_>, court: &mut Court) {
    for claim in facts.claims.iter().filter(|claim| claim.act.is_committed() && claim.victim.0 != 0) {
        let Some(held) = facts.held_by(claim.victim, claim.act.commit) else { continue };
        if facts.over(held) < claim.act.call {
            court.broken(Property::Q8, format!("{} was taken from, whose window was gone", claim.victim));
        }
    }
}
