//! Workflows: whether they live, and what continues them. W1 and W8; of what a handoff decides: [`handoff`](super::handoff).
//!
//! A workflow is followed by its continuations: a committed start, `goto`, sleep or retry gives it one, an event or a
//! timer (which is the event that it will be); the handoff of that event takes it away again. A dead letter takes it away
//! and ends the workflow, as failed; a replay of it is a workflow of its own.
//!
//! - **W1** After each commit a live workflow has one continuation more than were taken away, an ended one none. Broken
//!   by every lost or double advance.
//! - **W8** Nothing of a workflow commits (handoff, effect under a lease) when its end had committed already.

use super::Property;
use super::checker::{Done, Pass};
use super::clue::Clue;
use super::handoff::Decided;
use super::log::Entry;
use super::successor::Successor;
use super::transactions::NONE;
use crate::name::{EventId, Queue, Step, WorkflowId, Xid};
use crate::op::Verb;
use crate::reply::ChildOutcome;
use alloc::format;

pub(super) struct Workflow {
    /// The event that continues it, or [`NONE`] if nobody was told its id.
    pub(super) continuation: u32,
    pub(super) continuation_count: i32,
    /// By this record its last step had committed.
    pub(super) advanced: u32,
    /// By this record its end had committed; [`NONE`] while it lives.
    pub(super) ended: u32,
    pub(super) queue: u8,
}

/// A row of the application's ledger that a committed transaction wrote.
#[derive(Clone, Copy)]
pub(super) struct LedgerLine {
    pub(super) workflow: WorkflowId,
    pub(super) sequence: u32,
    pub(super) step: Step,
    pub(super) xid: Xid,
    pub(super) record: u32,
}

impl Pass<'_> {
    /// A step was handed off: what continues its workflow now.
    pub(super) fn count_continuation(&mut self, known: &Entry, decided: Decided<'_>, is_again: bool) {
        let Decided { done, decision, children, successor, .. } = decided;
        let Some(workflow) = self.memory.workflows.get_mut(known.workflow.0) else {
            if self.memory.workflows.is_retired(known.workflow.0) {
                self.went_on(done, known.workflow, NONE);
            }
            return;
        };
        self.found.exercised(Property::W8);
        let ended = workflow.ended;
        if !is_again {
            workflow.continuation_count -= 1;
        }
        match successor {
            Successor::Event(_) | Successor::Timer(_) | Successor::Later(_) | Successor::Untold => {
                workflow.continuation_count += 1;
                workflow.continuation = successor.id();
            }
            Successor::None if decision.verb.continues() => workflow.continuation = NONE,
            _ if ended == NONE => workflow.ended = done.commit,
            _ => {}
        }
        workflow.advanced = done.commit;
        let has_ended = ended == NONE && workflow.ended != NONE;
        if ended < done.commit_call {
            self.went_on(done, known.workflow, ended);
        }
        if matches!(successor, Successor::Untold) {
            self.successor_lost(done, known.queue, decision);
            if decision.verb == Verb::Spawn {
                self.children_lost(done, Queue(known.queue), children.decisions);
            }
        }
        if has_ended {
            let outcome = match decision.verb {
                Verb::Complete => (ChildOutcome::Completed, decision.state),
                Verb::Fail => (ChildOutcome::Failed, decision.state),
                _ => (ChildOutcome::Dead, 0),
            };
            self.workflow_ended(done, known.workflow, outcome);
        } else if decision.verb == Verb::Retry {
            self.child_retried(known.workflow);
        }
        self.judge_continuation(done.record(), done.commit, known.workflow);
    }

    pub(super) fn judge_continuation(&mut self, record: u32, commit: u32, workflow: WorkflowId) {
        let clue = Clue(self.history);
        self.found.exercised(Property::W1);
        let Some(known) = self.memory.workflows.get(workflow.0) else { return };
        let (count, is_live) = (known.continuation_count, known.ended == NONE);
        if count == i32::from(is_live) {
            return;
        }
        self.found.violated(Property::W1, &[record, commit], || {
            let (name, at) = (clue.workflow(workflow), clue.at(record));
            match (is_live, count) {
                (true, ..=0) => format!("{name} is live and has had no continuation since {at}"),
                (true, _) => format!("{name} has {count} continuations since {at}"),
                (false, _) => format!("{name} has ended, and since {at} the balance of its continuations is {count}"),
            }
        });
    }

    pub(super) fn went_on(&mut self, done: Done, workflow: WorkflowId, ended: u32) {
        let clue = Clue(self.history);
        self.found.violated(Property::W8, &[ended, done.record(), done.commit], || {
            let ended = if ended == NONE { "before".into() } else { format!("at {}", clue.at(ended)) };
            let who = clue.under_token(done.record());
            format!("{} had ended {ended}, and was committed to again by {who}", clue.workflow(workflow))
        });
    }

    /// An event was ended without a successor, although its workflow did not end.
    pub(super) fn continuation_lost(&mut self, record: u32, event: EventId) {
        let Some(known) = self.memory.events.get_mut(event.0) else { return };
        if known.workflow.0 == 0 || known.consumed != NONE {
            return;
        }
        known.consumed = record;
        let workflow = known.workflow;
        self.workflow_lost(record, workflow);
    }

    /// A workflow's continuation is gone, and nothing took its place.
    pub(super) fn workflow_lost(&mut self, record: u32, workflow: WorkflowId) {
        if let Some(known) = self.memory.workflows.get_mut(workflow.0) {
            known.continuation_count -= 1;
            self.judge_continuation(record, record, workflow);
        }
    }

    /// A workflow's continuation became a dead letter, other than by a decision: that is its end.
    pub(super) fn workflow_died(&mut self, done: Done, workflow: WorkflowId) {
        let Some(known) = self.memory.workflows.get_mut(workflow.0) else { return };
        let ended = known.ended;
        known.continuation_count -= 1;
        known.advanced = done.commit;
        if ended == NONE {
            known.ended = done.commit;
            self.workflow_ended(done, workflow, (ChildOutcome::Dead, 0));
        } else if ended < done.commit_call {
            self.went_on(done, workflow, ended);
        }
        self.judge_continuation(done.record(), done.commit, workflow);
    }

    /// A workflow has ended: its parent is told, and whoever emits to it has nobody to tell.
    fn workflow_ended(&mut self, done: Done, workflow: WorkflowId, (outcome, result): (ChildOutcome, u64)) {
        if self.has_children() {
            self.child_ended(done, workflow, outcome, result);
        }
        self.mailboxes_end(workflow);
    }
}

impl Workflow {
    pub(super) const fn new(queue: Queue, continuation: u32, commit: u32) -> Self {
        Workflow { continuation, continuation_count: 1, advanced: commit, ended: NONE, queue: queue.0 }
    }
}
