//! Workflows, by their definitions: W1 to W5, W8, W9.
//!
//! - **W1** After each commit, as many ids are minted for a workflow and not ended as it is to have continuations: one
//!   while it lives, none once it has ended. At the end each that lives has its row.
//! - **W2** What is delivered carries the number of the transaction that put it in the log; an effect in a transaction that
//!   held a window has its step's handoff in that transaction.
//! - **W3** No event of a workflow is handed off that had an end.
//! - **W4** A successor's sequence is higher than its predecessor's, and arrives as it was appended.
//! - **W5** A step's effects under a lease are in the transaction of its handoff; one, where the program asks for one; and
//!   none is committed for a step from which the workflow had gone on.
//! - **W8** Nothing of a workflow is committed when its end had committed; at the end none that has ended has a row.
//! - **W9** No two starts of one key begin workflows; each that begins none is told the first's; at the end the key is kept.

use super::act::Act;
use super::court::Court;
use super::facts::Facts;
use super::mint::{Ending, How, Kind, Mint};
use crate::name::{EventId, Queue, WorkflowId};
use crate::op::{Op, Verb};
use crate::property::Property;
use crate::record::{Happening, Note};
use crate::reply::{Arrival, ChildResult, Reply};
use crate::workload::{Program, StepInput};
use alloc::format;
use alloc::vec::Vec;

pub(super) fn judge(facts: &Facts<'_>, program: Option<&dyn Program>, court: &mut Court) {
    continuations(facts, court);
    successors(facts, court);
    sequences(facts, court);
    effects(facts, program, court);
    ends(facts, court);
    starts(facts, court);
    rows(facts, court);
}

fn workflows(facts: &Facts<'_>) -> Vec<WorkflowId> {
    let mut workflows: Vec<_> = facts.mints.iter().filter(|mint| mint.begins).map(|mint| mint.workflow).collect();
    workflows.sort_unstable();
    workflows.dedup();
    workflows
}

fn continuations(facts: &Facts<'_>, court: &mut Court) {
    for workflow in workflows(facts) {
        let own: Vec<&Mint> = facts.mints.iter().filter(|mint| mint.workflow == workflow).collect();
        let is_own = |ending: &&Ending| own.iter().any(|mint| mint.id == ending.id);
        let endings: Vec<&Ending> = facts.endings.iter().filter(is_own).collect();
        let commits = own.iter().map(|mint| mint.act).chain(endings.iter().map(|ending| ending.act));
        let commits: Vec<Act> = commits.collect();
        for now in &commits {
            // Nothing is concluded about what was being committed at the time.
            let is_beside = |act: &Act| act.commit > now.commit && act.commit_call < now.commit;
            if commits.iter().any(is_beside) {
                continue;
            }
            let minted = own.iter().filter(|mint| mint.act.commit <= now.commit).count();
            let is_over =
                |mint: &&&Mint| endings.iter().any(|ending| ending.id == mint.id && ending.act.commit <= now.commit);
            let ended = own.iter().filter(|mint| mint.act.commit <= now.commit).filter(is_over).count();
            let has_ended = endings.iter().any(|ending| ending.ends_workflow() && ending.act.commit <= now.commit);
            if minted - ended != usize::from(!has_ended) {
                let (count, at) = (minted - ended, facts.account.at(now.commit));
                court.missing(&facts.account, Property::W1, format!("{workflow} has {count} continuations at {at}"));
            }
        }
    }
}

fn successors(facts: &Facts<'_>, court: &mut Court) {
    for (place, ending) in facts.endings.iter().enumerate() {
        let is_step =
            facts.mint(ending.id).is_some_and(|mint| mint.workflow.0 != 0) && facts.appearance(ending.id).is_some();
        let is_acknowledged = matches!(ending.how, How::Decided(Verb::Acknowledge, _));
        if !is_step || ending.decision.is_none() || is_acknowledged {
            continue;
        }
        if facts.endings[..place].iter().any(|before| before.id == ending.id) {
            court.broken(Property::W3, format!("{} has two ends", ending.id));
        }
    }
    for event in facts.deliveries.iter().flat_map(|delivery| &delivery.events) {
        let Some(known) = facts.appearance(event.id) else { continue };
        if known.xid != event.xid && known.xid.0 != 0 {
            court.broken(Property::W2, format!("{} arrived as one of {}", event.id, event.xid));
        }
    }
}

fn sequences(facts: &Facts<'_>, court: &mut Court) {
    for ending in &facts.endings {
        let (Some(decision), Some(mint)) = (ending.decision, facts.mint(ending.id)) else { continue };
        let is_exhausted = decision.verb == Verb::Retry && decision.attempt > decision.max_attempts;
        let sequence = sequence_of(facts, mint);
        let goes_on = mint.workflow.0 != 0 && decision.verb.continues() && !is_exhausted;
        if goes_on && sequence.is_some_and(|sequence| decision.sequence <= sequence) {
            court.broken(Property::W4, format!("{} went on to step {}", ending.id, decision.sequence));
        }
    }
    for event in facts.deliveries.iter().flat_map(|delivery| &delivery.events) {
        let Some(mint) = facts.mint(event.id).filter(|_| facts.appearance(event.id).is_some()) else { continue };
        // What a message says is Q2's, where both say that it is one.
        let is_message = mint.workflow.0 == 0 && event.workflow.0 == 0 && mint.state != event.state;
        if sequence_of(facts, mint).is_some_and(|sequence| sequence != event.sequence) && !is_message {
            court.broken(Property::W4, format!("{} arrived as step {}", event.id, event.sequence));
        }
    }
}

/// A start does not say it: then it is as it was delivered first.
fn sequence_of(facts: &Facts<'_>, mint: &Mint) -> Option<u32> {
    let mut delivered = facts.deliveries.iter().flat_map(|delivery| &delivery.events);
    mint.sequence.or_else(|| delivered.find(|event| event.id == mint.id).map(|event| event.sequence))
}

fn is_fenced(facts: &Facts<'_>, act: &Act) -> bool {
    facts
        .account
        .committed()
        .filter(|other| other.is_same_transaction(act) && !other.is_alone)
        .any(|other| matches!(other.op, Op::Hold { .. } | Op::Claim { .. } | Op::TakeOver { .. } | Op::Handoff { .. }))
}

fn effects(facts: &Facts<'_>, program: Option<&dyn Program>, court: &mut Court) {
    let fenced = facts.account.committed().filter_map(|act| match act.op {
        Op::Effect { workflow, sequence, .. } if is_fenced(facts, act) => Some((act, workflow, sequence)),
        _ => None,
    });
    let fenced: Vec<(&Act, WorkflowId, u32)> = fenced.collect();
    // Of each effect: which events its transaction hands off that it may be of, and which there are at all.
    let mut steps: Vec<(&Act, Vec<EventId>, Vec<EventId>)> = Vec::new();
    for (act, workflow, sequence) in fenced {
        // The first event's sequence may never have been told: then it is none that another of its events has.
        let says_it = |mint: &&Mint| mint.workflow == workflow && sequence_of(facts, mint) == Some(sequence);
        let is_told = facts.mints.iter().any(|mint| says_it(&mint));
        let of_step = facts.mints.iter().filter(|mint| {
            says_it(mint) || (!is_told && mint.workflow == workflow && sequence_of(facts, mint).is_none())
        });
        let ids: Vec<EventId> = of_step.map(|mint| mint.id).collect();
        let handoffs = facts.endings.iter().filter(|ending| ids.contains(&ending.id) && ending.decision.is_some());
        let handoffs: Vec<&Ending> = handoffs.collect();
        let own = handoffs.iter().filter(|ending| ending.act.is_same_transaction(act));
        let own: Vec<EventId> = own.map(|ending| ending.id).collect();
        let is_past = |id: &EventId| handoffs.iter().any(|it| it.id == *id && it.act.commit < act.commit_call);
        let of_which = if own.is_empty() { &ids } else { &own };
        if !of_which.is_empty() && of_which.iter().all(is_past) {
            court.broken(Property::W5, format!("the effect of {workflow} step {sequence} was committed again"));
        } else if own.is_empty() && !ids.is_empty() {
            let sentence = format!("the effect of {workflow} step {sequence} was committed without its handoff");
            court.missing(&facts.account, Property::W2, sentence);
        }
        steps.push((act, own, ids));
    }
    for ending in &facts.endings {
        let (Some(decision), Some(mint)) = (ending.decision, facts.mint(ending.id)) else { continue };
        if mint.workflow.0 == 0 || decision.verb == Verb::Acknowledge || facts.appearance(ending.id).is_none() {
            continue;
        }
        let is_own = |(act, own, ids): &&(&Act, Vec<EventId>, Vec<EventId>)| match own.is_empty() {
            false => act.is_same_transaction(&ending.act) && own.contains(&mint.id),
            true => act.commit <= ending.act.commit && ids.contains(&mint.id),
        };
        let count = steps.iter().filter(is_own).count();
        let asked = program.and_then(|program| asks_for_effect(facts, program, mint, ending));
        if count > 1 || (count == 0 && asked == Some(true)) {
            court.broken(Property::W5, format!("{} was handed off with {count} effects", ending.id));
        }
    }
}

/// What the program says to the step, as it was when it was handed off; none if not all that it was told is known.
fn asks_for_effect(facts: &Facts<'_>, program: &dyn Program, mint: &Mint, ending: &Ending) -> Option<bool> {
    let arrival = facts.appearance(mint.id)?.arrival;
    let results: Vec<ChildResult> = match arrival {
        Arrival::Joined { join } => facts.left(join)?,
        _ => Vec::new(),
    };
    let notes = facts.account.history.records.iter().take(ending.act.call as usize);
    let done = notes.filter_map(|record| match record.what {
        Happening::Note(Note::WorkEnded { event, version }) if event == mint.id => Some((record.process, version)),
        _ => None,
    });
    let done: Vec<_> = done.collect();
    let own = done.iter().rfind(|(process, _)| *process == ending.act.process).or(done.first());
    let version = own.map_or(0, |(_, version)| *version);
    let (step, state, attempt) = (mint.step, mint.state, mint.attempt);
    Some(program.decide(StepInput { step, state, arrival, results: &results, attempt, version }).effect)
}

fn ends(facts: &Facts<'_>, court: &mut Court) {
    for workflow in workflows(facts) {
        let Some(end) = facts.end_of(workflow) else { continue };
        let own: Vec<&Mint> = facts.mints.iter().filter(|mint| mint.workflow == workflow).collect();
        let endings = facts.endings.iter().filter(|it| own.iter().any(|mint| mint.id == it.id));
        for later in endings.filter(|it| it.act.commit > end.act.commit && it.act.commit_call > end.act.commit) {
            let is_step = later.how == How::Dead || (later.decision.is_some() && facts.appearance(later.id).is_some());
            let is_acknowledged = matches!(later.how, How::Decided(Verb::Acknowledge, _));
            if is_step && !is_acknowledged {
                court.broken(Property::W8, format!("{workflow} had ended, and {} was handed off", later.id));
            }
        }
        for act in facts.account.committed().filter(|act| act.commit_call > end.act.commit) {
            if matches!(act.op, Op::Effect { workflow: of, .. } if of == workflow) && is_fenced(facts, act) {
                court.broken(Property::W8, format!("{workflow} had ended, and has another effect"));
            }
        }
    }
}

fn starts(facts: &Facts<'_>, court: &mut Court) {
    let begun: Vec<&Mint> = facts.mints.iter().filter(|mint| mint.key.is_some()).collect();
    for (place, mint) in begun.iter().enumerate() {
        let key = |it: &Mint| (it.queue, it.key);
        if begun[..place].iter().any(|other| key(other) == key(mint)) {
            court.broken(Property::W9, format!("a key began {} and another before it", mint.workflow));
        }
    }
    for act in facts.account.committed() {
        let (Op::Start { queue, key, .. }, Some(Reply::Started { workflow, event, .. })) = (act.op, act.reply) else {
            continue;
        };
        let is_key = |mint: &&&Mint| (mint.queue, mint.key) == (Some(queue), Some(key));
        match begun.iter().rfind(|mint| is_key(mint) && mint.act.commit <= act.commit) {
            _ if event.0 != 0 => {}
            Some(known) if known.workflow == workflow => {}
            Some(known) => {
                court.broken(Property::W9, format!("{key} is {}, and somebody was told {workflow}", known.workflow));
            }
            None => court.missing(&facts.account, Property::D2, format!("{key} was known to nobody but the engine")),
        }
    }
}

fn rows(facts: &Facts<'_>, court: &mut Court) {
    let Some(state) = &facts.account.history.state else { return };
    for workflow in workflows(facts) {
        let has_row = state.workflows.iter().any(|row| row.workflow == workflow);
        match facts.end_of(workflow) {
            None if !has_row => court.missing(&facts.account, Property::W1, format!("{workflow} lives, without a row")),
            Some(_) if has_row => court.missing(&facts.account, Property::W8, format!("{workflow} ended, with a row")),
            _ => {}
        }
    }
    for mint in facts.mints.iter().filter(|mint| mint.kind == Kind::Event) {
        let Some(key) = mint.key else { continue };
        let is_its = |row: &crate::state::StartKeyRow| {
            (Some(row.queue), row.key, row.workflow) == (mint.queue as Option<Queue>, key, mint.workflow)
        };
        let is_last = facts.mints.iter().rfind(|it| (it.queue, it.key) == (mint.queue, mint.key));
        if is_last.is_some_and(|last| last.act.call == mint.act.call) && !state.start_keys.iter().any(is_its) {
            court.missing(&facts.account, Property::W9, format!("{key} is not kept"));
        }
    }
}
