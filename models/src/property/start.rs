//! Starts: a workflow for each key, once. W9.
//!
//! - **W9** A committed start with a key that a committed start had used answers with that workflow and appends nothing.

use super::checker::{Done, Pass};
use super::clue::Clue;
use super::dense::Dense;
use super::log::{Entry, UNTOLD};
use super::transactions::NONE;
use super::workflow::Workflow;
use super::{Property, Reach};
use crate::name::{EventId, Key, Queue, Step, WorkflowId};
use crate::op::Op;
use crate::record::Span;
use crate::reply::Reply;
use alloc::collections::BTreeMap;
use alloc::format;

/// The workflow of each key of each queue.
pub(super) struct Keys {
    /// (queue, workflow) of a key, for the first queue that used it.
    first: Dense<(u8, u32)>,
    others: BTreeMap<(u8, u32), u32>,
}

impl Keys {
    pub(super) const fn new() -> Self {
        Keys { first: Dense::new(), others: BTreeMap::new() }
    }

    pub(super) fn clear(&mut self) {
        self.first.clear();
        self.others.clear();
    }

    pub(super) fn get(&self, queue: Queue, key: Key) -> Option<WorkflowId> {
        match self.first.get(key.0) {
            Some((first, workflow)) if *first == queue.0 => Some(WorkflowId(*workflow)),
            Some(_) => self.others.get(&(queue.0, key.0)).copied().map(WorkflowId),
            None => None,
        }
    }

    pub(super) fn insert(&mut self, queue: Queue, key: Key, workflow: WorkflowId) {
        if self.first.get(key.0).is_none() {
            self.first.insert(key.0, (queue.0, workflow.0));
        } else if self.get(queue, key).is_none() {
            self.others.insert((queue.0, key.0), workflow.0);
        }
    }

    /// Every key, with its queue and its workflow.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Queue, Key, WorkflowId)> {
        let first = self.first.iter().map(|(key, (queue, workflow))| (Queue(*queue), Key(key), WorkflowId(*workflow)));
        first
            .chain(self.others.iter().map(|((queue, key), workflow)| (Queue(*queue), Key(*key), WorkflowId(*workflow))))
    }
}

impl Pass<'_> {
    pub(super) fn started(
        &mut self,
        done: Done,
        (queue, key): (Queue, Key),
        (step, state): (Step, u64),
        (workflow, event, table): (WorkflowId, EventId, u8),
    ) {
        if event.0 == 0 {
            return self.start_repeated(done, queue, key, workflow);
        }
        self.found.exercised(Property::W9);
        let known = self.memory.keys.get(queue, key);
        let lost = self.lost_start_before(done, queue, key);
        if known.is_some() || lost.is_some() {
            self.started_twice(done, queue, key, (known, lost), workflow);
        }
        self.memory.keys.insert(queue, key, workflow);
        self.memory.workflows.insert(workflow.0, Workflow::new(queue, event.0, done.commit));
        let entry = Entry::new(done, queue, table, (workflow, UNTOLD, step.0, state));
        self.add_event(done, event, entry);
    }

    fn started_twice(
        &mut self,
        done: Done,
        queue: Queue,
        key: Key,
        (known, lost): (Option<WorkflowId>, Option<u32>),
        workflow: WorkflowId,
    ) {
        let clue = Clue(self.history);
        let tells = self.found.tells(Property::W9);
        let first = lost.or_else(|| known.filter(|_| tells).and_then(|known| clue.start_of(known)));
        self.found.violated(Property::W9, &[first.unwrap_or(NONE), done.record(), done.commit], || {
            let at = clue.at(done.record());
            let as_first = known.map_or_else(|| "a workflow whose id was lost".into(), |known| format!("{known}"));
            let first = first.map_or_else(|| "before".into(), |first| format!("at {}", clue.at(first)));
            format!("{key} of {queue} was started twice: as {as_first} {first}, and as {workflow} at {at}")
        });
    }

    /// A start that answers that its key was known.
    fn start_repeated(&mut self, done: Done, queue: Queue, key: Key, workflow: WorkflowId) {
        self.found.sees(Reach::StartRepeated);
        self.found.exercised(Property::W9);
        if self.memory.keys.get(queue, key).is_none() {
            let same_key = |op: &Op<Span>, reply: &Reply<Span, Span, Span>| {
                matches!((op, reply), (Op::Start { queue: other, key: same, .. }, Reply::Started { .. })
                    if *other == queue && *same == key)
            };
            if !self.settle(done.record(), same_key) {
                let is_same = |op: &Op<Span>| matches!(op, Op::Start { queue: other, key: same, .. } if *other == queue && *same == key);
                self.settle_lost(done.record(), is_same);
                self.find_lost_start(queue, key, workflow);
            }
        }
        let clue = Clue(self.history);
        match self.memory.keys.get(queue, key) {
            Some(known) if known == workflow => {}
            Some(known) => self.found.violated(Property::W9, &[done.record()], || {
                format!(
                    "{key} of {queue} is {known}, but a repeated start was told {workflow} at {}",
                    clue.at(done.record())
                )
            }),
            None => self.found.violated(Property::D2, &[done.record()], || {
                let at = clue.at(done.record());
                format!("a start of {key} was told at {at} that the key was known, and no committed start had used it")
            }),
        }
    }
}
