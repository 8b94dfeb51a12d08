//! Joins: children, their ends, and the parent that goes on when all of them have ended. J1, J2, J3, J5, J6; of what is read of
//! them: [`results`](super::results); at the end: [`rows`](super::rows).
//!
//! A join is the event that it will be, under the same id: a committed handoff opens it with its children, who are
//! workflows of their own, or goes on at once if there are none. Any end of a child counts, once, and its result is kept
//! until the step that the join leads to is handed off.
//!
//! - **J1** The continuation of a join is appended at most once. Broken by two last children who both see all others ended.
//! - **J2** It is appended when as many children as it has have ended, in committed transactions or in the one that appends
//!   it. Broken by counting an end that was reported before.
//! - **J3** The transaction in which the last end commits appends it; at the end no join is open whose children have all
//!   ended. Broken by last children who do not see each other.
//! - **J5** Each committed end of a child (it completed, failed, or became a dead letter of whatever reason) is recorded: at
//!   the end the rows of joins have counted it, and the rows of results hold it. Broken by dead letters that tell nobody.
//! - **J6** A join goes on when as many children have ended as the handoff said (J2 and J3 count by that), and at the end its
//!   row says so still, and how its workflow goes on.
//!
//! What a handoff has opened whose reply was lost has no ids: of such joins only the children's steps are judged.

use super::checker::{Done, Pass};
use super::clue::Clue;
use super::handoff::Decided;
use super::log::{Entry, UNTOLD_TABLE};
use super::successor::Successor;
use super::transactions::NONE;
use super::workflow::Workflow;
use super::{Property, Reach};
use crate::name::{EventId, Queue, WorkflowId};
use crate::op::{Decision, Verb};
use crate::record::Span;
use crate::reply::{Arrival, ChildOutcome, ChildResult, Event};
use crate::state::Parent;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// What a child left.
#[derive(Clone, Copy)]
pub(super) struct Left {
    pub(super) outcome: ChildOutcome,
    pub(super) result: u64,
    pub(super) record: u32,
}

/// A join whose step nobody has handed off.
pub(super) struct Join {
    pub(super) workflow: WorkflowId,
    pub(super) queue: u8,
    pub(super) sequence: u32,
    pub(super) step: u16,
    pub(super) state: u64,
    pub(super) born: u32,
    /// The children, and what they left, by their place.
    children: Vec<u32>,
    pub(super) left: Vec<Option<Left>>,
    pub(super) ended: u32,
    /// Where the transaction of the last end began, and where it had committed.
    last_end: (u32, u32),
    /// The record that told of its continuation; none while it is open.
    pub(super) resumed: Option<u32>,
    /// Its last end was in a reply that was lost.
    is_untold: bool,
    /// Not all that its children left is known.
    pub(super) is_vague: bool,
    pub(super) is_read: bool,
}

/// A child that lives.
#[derive(Clone, Copy)]
struct Kin {
    parent: Parent,
    was_retried: bool,
    was_taken_over: bool,
}

#[derive(Default)]
pub(super) struct Joins {
    pub(super) by_id: BTreeMap<u32, Join>,
    kin: BTreeMap<u32, Kin>,
    /// Joins whose last end has been applied: were they resumed?
    complete: Vec<u32>,
    /// A handoff of this history that spawned was lost.
    pub(super) has_lost_spawn: bool,
    /// The last crash of the server, or 0.
    pub(super) crashed: u32,
}

impl Joins {
    pub(super) fn clear(&mut self) {
        self.by_id.clear();
        self.kin.clear();
        self.complete.clear();
        self.has_lost_spawn = false;
        self.crashed = 0;
    }

    pub(super) fn has_complete(&self) -> bool {
        !self.complete.is_empty()
    }

    pub(super) fn is_open(&self, id: EventId) -> bool {
        self.by_id.get(&id.0).is_some_and(|join| join.resumed.is_none())
    }

    pub(super) fn open(&self) -> impl Iterator<Item = (u32, &Join)> {
        self.by_id.iter().filter(|(_, join)| join.resumed.is_none()).map(|(id, join)| (*id, join))
    }

    pub(super) fn is_known(&self, id: EventId) -> bool {
        self.by_id.contains_key(&id.0)
    }

    /// Whether what became of a join whose children have all ended was in a reply that was lost.
    pub(super) fn is_untold(&self, id: EventId) -> bool {
        self.by_id.get(&id.0).is_some_and(|join| join.is_untold)
    }

    /// Whether some join may have been resumed without anybody being told.
    pub(super) fn has_untold(&self) -> bool {
        self.has_lost_spawn || self.by_id.values().any(|join| join.is_untold || join.is_vague)
    }

    pub(super) fn parent_of(&self, workflow: WorkflowId) -> Option<Parent> {
        self.kin.get(&workflow.0).map(|kin| kin.parent)
    }

    /// What the children left, in their order, if all of it is known.
    pub(super) fn results_of(&self, id: EventId) -> Option<Vec<ChildResult>> {
        let join = self.by_id.get(&id.0).filter(|join| !join.is_vague)?;
        let left = join.left.iter().zip(0u16..);
        left.map(|(left, index)| {
            left.map(|Left { outcome, result, .. }| ChildResult { join: id, index, outcome, result })
        })
        .collect()
    }
}

impl Join {
    pub(super) fn total(&self) -> u32 {
        self.left.len() as u32
    }

    pub(super) const fn is_untold(&self) -> bool {
        self.is_untold
    }

    /// Its continuation was told of.
    pub(super) const fn ends(&mut self, record: u32) {
        self.resumed = Some(record);
        self.is_untold = false;
    }
}

impl Pass<'_> {
    /// A committed handoff opened a join, and started its children.
    #[cold]
    pub(super) fn join_opened(
        &mut self,
        queue: Queue,
        id: EventId,
        Decided { done, decision, children, table, .. }: Decided<'_>,
    ) {
        let clue = Clue(self.history);
        let Decision { workflow, sequence, step, state, .. } = *decision;
        self.found.exercised(Property::D5);
        if self.is_given_out(id) {
            return self.found.violated(Property::D5, &[done.record()], || {
                format!("{id} was given out again at {}, and both transactions committed", clue.at(done.record()))
            });
        }
        if children.decisions.is_empty() {
            self.found.sees(Reach::ChildlessSpawn);
            self.memory.joins.complete.push(id.0);
        }
        if self.memory.joins.kin.contains_key(&workflow.0) {
            self.found.sees(Reach::NestedSpawn);
        }
        let Some((events, workflows)) = children.ids else { return self.memory.joins.has_lost_spawn = true };
        let join = Join {
            workflow,
            queue: queue.0,
            sequence,
            step: step.0,
            state,
            born: done.record(),
            children: workflows.to_vec(),
            left: vec![None; children.decisions.len()],
            ended: 0,
            last_end: (NONE, 0),
            resumed: None,
            is_untold: false,
            is_vague: false,
            is_read: false,
        };
        self.memory.joins.by_id.insert(id.0, join);
        for ((child, index), (event, workflow)) in
            children.decisions.iter().zip(0u16..).zip(events.iter().zip(workflows))
        {
            let parent = Parent { join: id, index };
            self.child_started(done, queue, (*workflow, *event), Some(parent));
            let content = (WorkflowId(*workflow), 1, child.step.0, child.state);
            self.add_event(done, EventId(*event), Entry::new(done, queue, table, content));
        }
    }

    /// A workflow that nobody started under a key; of a lost spawn nobody knows which join is its parent's.
    pub(super) fn child_started(
        &mut self,
        done: Done,
        queue: Queue,
        (workflow, event): (u32, u32),
        parent: Option<Parent>,
    ) {
        let (workflows, clue) = (&mut self.memory.workflows, Clue(self.history));
        if workflows.get(workflow).is_some() || workflows.is_retired(workflow) {
            return self.found.violated(Property::D5, &[done.record()], || {
                let at = clue.at(done.record());
                format!("the workflow id {} was given out again at {at}", WorkflowId(workflow))
            });
        }
        workflows.insert(workflow, Workflow::new(queue, event, done.commit));
        parent.into_iter().for_each(|parent| self.adopt_child(WorkflowId(workflow), parent));
    }

    /// The workflow reports to a join, as a child or as what a dead one lives on as.
    pub(super) fn adopt_child(&mut self, workflow: WorkflowId, parent: Parent) {
        let kin = Kin { parent, was_retried: false, was_taken_over: false };
        self.memory.joins.kin.insert(workflow.0, kin);
    }

    pub(super) fn child_retried(&mut self, workflow: WorkflowId) {
        if let Some(kin) = self.memory.joins.kin.get_mut(&workflow.0) {
            kin.was_retried = true;
        }
    }

    /// A window that holds the child's event was taken over, and is handed off.
    pub(super) fn child_taken_over(&mut self, workflow: WorkflowId) {
        if let Some(kin) = self.memory.joins.kin.get_mut(&workflow.0) {
            kin.was_taken_over = true;
        }
    }

    pub(super) fn has_children(&self) -> bool {
        !self.memory.joins.kin.is_empty()
    }

    /// A workflow's end was committed: if it is a child, that is counted once.
    pub(super) fn child_ended(&mut self, done: Done, workflow: WorkflowId, outcome: ChildOutcome, result: u64) {
        let Some(kin) = self.memory.joins.kin.remove(&workflow.0) else { return };
        self.found.exercised(Property::J5);
        if kin.was_retried {
            self.found.sees(Reach::ChildRetried);
        }
        if kin.was_taken_over {
            self.found.sees(Reach::ChildTakenOver);
        }
        match outcome {
            ChildOutcome::Completed => self.found.sees(Reach::ChildCompleted),
            ChildOutcome::Failed => self.found.sees(Reach::ChildFailed),
            ChildOutcome::Dead => {}
        }
        let Parent { join: id, index } = kin.parent;
        let Some(join) = self.memory.joins.by_id.get_mut(&id.0) else { return };
        let Some(slot @ None) = join.left.get_mut(index as usize) else { return };
        *slot = Some(Left { outcome, result, record: done.record() });
        join.ended += 1;
        let (_, before) = core::mem::replace(&mut join.last_end, (done.begun, done.commit));
        if join.ended < join.total() {
            return;
        }
        join.is_untold = done.ret == NONE;
        if join.total() > 1 && before != done.commit && before > done.begun {
            self.found.sees(Reach::LastChildrenConcurrent);
        }
        if join.is_untold && Some(join.state) == self.forbidden_state() {
            return self.join_dies(done, id);
        }
        self.memory.joins.complete.push(id.0);
    }

    /// Which waits and joins became events in a call that ended workflows, or handed a window off.
    #[cold]
    pub(super) fn continued(&mut self, done: Done, resumed: Span, table: u8) {
        let mut joined = 0;
        for id in self.history.ids(resumed) {
            let id = EventId(*id);
            if self.memory.waits.open.contains_key(&id.0) {
                self.promise_found(done, id, table);
                continue;
            }
            joined += 1;
            self.join_resumed(done, id, table);
        }
        if joined > 1 {
            self.found.sees(Reach::JoinsTogether);
        }
    }

    pub(super) fn join_resumed(&mut self, done: Done, id: EventId, table: u8) {
        if self.may_join(done, id) {
            self.join_becomes(done, id, table);
        }
    }

    /// Whether a join that somebody says to be over was open; J1 and J2 of that.
    pub(super) fn may_join(&mut self, done: Done, id: EventId) -> bool {
        self.found.exercised(Property::J1);
        self.found.exercised(Property::J2);
        if !self.memory.joins.by_id.contains_key(&id.0) && !self.is_event(id) {
            self.settle_birth(self.now, id);
        }
        let Some(join) = self.memory.joins.by_id.get(&id.0) else {
            self.nothing_joined(done, id);
            return false;
        };
        if let Some(first) = join.resumed {
            self.joined_twice(done, id, first);
            return false;
        }
        if join.ended < join.total() {
            self.settle_children(id);
        }
        let Some(join) = self.memory.joins.by_id.get(&id.0) else { return false };
        if join.ended < join.total() && !self.judge_early_join(done, id) {
            self.memory.joins.by_id.get_mut(&id.0).into_iter().for_each(|join| join.is_vague = true);
        }
        true
    }

    fn join_becomes(&mut self, done: Done, id: EventId, table: u8) {
        let crashed = self.memory.joins.crashed;
        let Some(join) = self.memory.joins.by_id.get_mut(&id.0) else { return };
        self.found.exercised(Property::J6);
        join.ends(done.record());
        if join.born < crashed && join.total() > 0 {
            self.found.sees(Reach::JoinAcrossCrash);
        }
        let content = (join.workflow, join.sequence, join.step, join.state);
        let mut entry = Entry::new(done, Queue(join.queue), table, content);
        entry.is_truncated = table == UNTOLD_TABLE;
        self.add_event(done, id, entry);
        self.arrives(id, Some(Arrival::Joined { join: id }));
    }

    /// The events that children of a join who have not ended go on as, as far as anybody was told.
    fn live_children(&self, id: EventId) -> Vec<u32> {
        let Some(join) = self.memory.joins.by_id.get(&id.0) else { return Vec::new() };
        let live = join.children.iter().zip(&join.left).filter(|(_, left)| left.is_none());
        live.filter_map(|(child, _)| self.memory.workflows.get(*child)).map(|known| known.continuation).collect()
    }

    /// Whoever has ended the other children may have the reply still under way.
    fn settle_children(&mut self, id: EventId) {
        let children = self.memory.joins.by_id.get(&id.0).map(|join| join.children.clone());
        children.into_iter().flatten().for_each(|child| self.settle_end(child));
    }

    /// J2: fewer children have ended. False if a reply that was lost may tell of others.
    fn judge_early_join(&mut self, done: Done, id: EventId) -> bool {
        let clue = Clue(self.history);
        let live = self.live_children(id);
        live.iter().for_each(|event| self.believe_handoff_of_event(self.now, EventId(*event)));
        let Some(join) = self.memory.joins.by_id.get(&id.0) else { return true };
        if join.ended >= join.total() {
            return true;
        }
        if live.iter().any(|event| *event == NONE || self.may_have_ended(*event)) {
            return false;
        }
        let (workflow, born, ended, total) = (join.workflow, join.born, join.ended, join.total());
        self.found.violated(Property::J2, &[born, done.record(), done.commit], || {
            let (workflow, at) = (clue.workflow(workflow), clue.at(done.record()));
            format!("{workflow} went on from its join {id} at {at}, and {ended} of its {total} children had ended")
        });
        false
    }

    fn joined_twice(&mut self, done: Done, id: EventId, first: u32) {
        let clue = Clue(self.history);
        let workflow = self.memory.events.get(id.0).map(|known| known.workflow);
        self.found.violated(Property::J1, &[first, done.record(), done.commit], || {
            let workflow = workflow.map_or_else(|| "a workflow".into(), |workflow| clue.workflow(workflow));
            let before = if first == NONE { "before".into() } else { format!("at {}", clue.at(first)) };
            let (by, at) = (clue.process(done.record()), clue.at(done.record()));
            format!("{workflow} went on from its join {id} twice: {before}, and by {by} at {at}")
        });
    }

    /// What was resumed is no open join, and no open wait.
    fn nothing_joined(&mut self, done: Done, id: EventId) {
        if self.is_event(id) {
            let first = self.memory.events.get(id.0).map_or(NONE, |known| known.born);
            return self.joined_twice(done, id, first);
        }
        if self.memory.joins.has_lost_spawn || self.has_lost_await() {
            return;
        }
        let clue = Clue(self.history);
        self.found.violated(Property::J2, &[done.record(), done.commit], || {
            let (by, at) = (clue.process(done.record()), clue.at(done.record()));
            format!("{by} resumed {id} at {at}, and no workflow had a join or a wait of that id")
        });
    }

    /// J3 of joins whose last end was applied with the last record.
    #[cold]
    pub(super) fn judge_complete_joins(&mut self) {
        while let Some(id) = self.memory.joins.complete.pop() {
            self.found.exercised(Property::J3);
            let Some(join) = self.memory.joins.by_id.get(&id) else { continue };
            if join.resumed.is_none() && !join.is_untold {
                self.not_resumed(EventId(id), "");
            }
        }
    }

    /// J3: nobody has resumed a join whose children have all ended.
    pub(super) fn not_resumed(&mut self, id: EventId, when: &str) {
        let clue = Clue(self.history);
        let Some(join) = self.memory.joins.by_id.get(&id.0) else { return };
        let last = join.left.iter().flatten().map(|left| left.record).max().unwrap_or(join.born);
        let (workflow, born, total) = (join.workflow, join.born, join.total());
        self.found.violated(Property::J3, &[born, last, join.last_end.1], || {
            let (workflow, by, at) = (clue.workflow(workflow), clue.process(last), clue.at(last));
            match total {
                0 => format!("{workflow} spawned no children at {at}, and did not go on as {id}{when}"),
                _ => format!(
                    "all {total} children of {workflow} have ended, the last by {by} at {at}, and its join {id} was not resumed{when}"
                ),
            }
        });
    }

    /// Somebody is handed an event that was an open join when it was last heard of. True if something lost explains it.
    pub(super) fn meet_join(&mut self, index: u32, event: &Event) -> bool {
        if !self.memory.joins.is_open(event.id) {
            return false;
        }
        let live = self.live_children(event.id);
        live.iter().for_each(|child| self.believe_handoff_of_event(index, EventId(*child)));
        let Some(join) = self.memory.joins.by_id.get(&event.id.0) else { return false };
        let is_complete = join.ended == join.total();
        let is_explained = join.is_untold || (!is_complete && live.iter().any(|event| self.may_have_ended(*event)));
        if !is_explained {
            return false;
        }
        if !is_complete {
            self.memory.joins.by_id.get_mut(&event.id.0).into_iter().for_each(|join| join.is_vague = true);
        }
        let xid = event.xid;
        let done = Done { call: index, ret: index, begun: NONE, commit_call: index, commit: index, xid };
        self.join_becomes(done, event.id, UNTOLD_TABLE);
        true
    }

    /// The step to which a join led was handed off: what its children left is not needed any more, unless it is retried or
    /// may be replayed.
    #[cold]
    pub(super) fn joined_decided(&mut self, join: EventId, decision: &Decision, successor: Successor) {
        if decision.verb != Verb::Retry && !matches!(successor, Successor::Dead) {
            self.memory.joins.by_id.remove(&join.0);
        }
    }
}
