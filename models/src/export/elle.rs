//! Transactions over lists: effects and continuations of workflows.

use super::edn::{Line, vector};
use super::{last, pair};
use crate::brute::act::{Act, NONE};
use crate::brute::facts::Facts;
use crate::brute::mint::{Ending, How};
use crate::name::{EventId, WorkflowId};
use crate::op::Op;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// One part of a transaction.
enum Part {
    Append(String, i64),
    /// Nothing is known of what was read until it is answered.
    Read(String, Vec<i64>),
}

pub(super) fn lines(facts: &Facts<'_>) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut done: Vec<(u32, u32)> = Vec::new();
    for act in &facts.account.acts {
        let transaction = (act.session.0.into(), act.begun);
        if done.contains(&transaction) {
            continue;
        }
        done.push(transaction);
        let own = facts.account.acts.iter().filter(|other| (other.session.0.into(), other.begun) == transaction);
        let mut own: Vec<&Act> = own.collect();
        own.sort_by_key(|act| act.call);
        // What a transaction rolled back to a savepoint is not part of what it committed.
        if own.iter().any(|act| act.is_committed()) {
            own.retain(|act| act.is_committed());
        }
        let parts: Vec<Part> = own.iter().flat_map(|act| parts_of(facts, act)).collect();
        // An answer that is missing to one call of it is missing to all of it.
        let told_least = own.iter().min_by_key(|act| u32::from(act.reply.is_some())).copied();
        if let (Some(act), false) = (told_least, parts.is_empty()) {
            lines.extend(pair(facts, act, 0, "txn", (told(&parts, false), told(&parts, true))));
        }
    }
    if let Some(reads) = ledger(facts) {
        lines.extend(last(facts, "txn", (told(&reads, false), told(&reads, true))));
    }
    lines
}

fn told(parts: &[Part], is_answered: bool) -> String {
    vector(parts.iter().map(|part| match part {
        Part::Append(key, value) => format!("[:append {key} {value}]"),
        Part::Read(key, values) if is_answered => format!("[:r {key} {}]", vector(values)),
        Part::Read(key, _) => format!("[:r {key} nil]"),
    }))
}

fn effects_of(workflow: WorkflowId) -> String {
    format!(":effects/{workflow}")
}

fn steps_of(workflow: WorkflowId) -> String {
    format!(":steps/{workflow}")
}

fn parts_of(facts: &Facts<'_>, act: &Act) -> Vec<Part> {
    let mut parts = Vec::new();
    if let Op::Effect { workflow, sequence, .. } = act.op {
        parts.push(Part::Append(effects_of(workflow), sequence.into()));
    }
    for ending in facts.endings.iter().filter(|ending| is_of(&ending.act, act)) {
        let Some(mint) = facts.mint(ending.id).filter(|mint| mint.workflow.0 != 0) else { continue };
        let steps = steps_of(mint.workflow);
        parts.extend(chain(facts, ending.id).map(|read| Part::Read(steps.clone(), read)));
        match follows(ending) {
            Follows::Event(id) => parts.push(Part::Append(steps, id.0.into())),
            Follows::End => parts.push(Part::Append(steps, -i64::from(ending.id.0))),
            Follows::Nothing => {}
        }
    }
    let mut minted = Vec::new();
    facts.account.mints_of(act, &mut minted);
    let begun = minted.iter().filter(|mint| mint.begins);
    parts.extend(begun.map(|mint| Part::Append(steps_of(mint.workflow), mint.id.0.into())));
    parts
}

fn is_of(one: &Act, other: &Act) -> bool {
    (one.session, one.call) == (other.session, other.call)
}

enum Follows {
    Event(EventId),
    End,
    /// Or nobody was told.
    Nothing,
}

fn follows(ending: &Ending) -> Follows {
    match ending.how {
        How::Decided(verb, Some(id)) if verb.continues() && id.0 != 0 => Follows::Event(id),
        _ if ending.ends_workflow() => Follows::End,
        _ => Follows::Nothing,
    }
}

/// The continuations of a workflow up to that event, as its step has them behind it; none if a link is not known.
fn chain(facts: &Facts<'_>, event: EventId) -> Option<Vec<i64>> {
    let mut chain = Vec::from([i64::from(event.0)]);
    let mut reached = facts.mint(event)?;
    while !reached.begins {
        let before = reached.decision?.event;
        // An event whose id was given out twice may lead back to itself.
        if chain.contains(&before.0.into()) {
            return None;
        }
        chain.push(before.0.into());
        reached = facts.mint(before)?;
    }
    chain.reverse();
    Some(chain)
}

/// The ledger at the end, list by list; none of a history that stops before its state.
fn ledger(facts: &Facts<'_>) -> Option<Vec<Part>> {
    let state = facts.account.history.state.as_ref()?;
    let written = facts.account.acts.iter().filter_map(|act| match act.op {
        Op::Effect { workflow, .. } if act.ret != NONE => Some(workflow),
        _ => None,
    });
    let mut workflows: Vec<WorkflowId> = written.chain(state.ledger.iter().map(|row| row.workflow)).collect();
    workflows.sort_unstable();
    workflows.dedup();
    let reads = workflows.into_iter().map(|workflow| {
        let mut rows: Vec<_> = state.ledger.iter().filter(|row| row.workflow == workflow).collect();
        rows.sort_by_key(|row| (row.xid, row.sequence));
        Part::Read(effects_of(workflow), rows.iter().map(|row| row.sequence.into()).collect())
    });
    Some(reads.collect())
}
