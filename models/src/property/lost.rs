//! What committed without anybody being told: the reply was lost, so ids are missing, and only the question is known.
//!
//! Whoever is handed such an event names it at last; until then it waits here. What fits nothing that waits, and no call
//! in flight, comes from nowhere (Q2), or from a transaction that did not commit (D2).

use super::Property;
use super::checker::{Done, Pass};
use super::clue::Clue;
use super::content::Content;
use super::fate::Known;
use super::log::{Entry, UNTOLD, UNTOLD_TABLE};
use super::successor::is_later;
use super::transactions::NONE;
use super::wait::is_await;
use super::workflow::Workflow;
use crate::history::History;
use crate::name::{EventId, Key, Name, Queue, Step, WorkerId, WorkflowId};
use crate::op::{Decision, Op, Verb};
use crate::record::Span;
use crate::reply::{Arrival, Event, Outcome};
use crate::state::Parent;
use alloc::format;

const SEARCHES: u32 = 64;

/// An event that was appended, or may have been, and whose id is not known.
#[derive(Clone, Copy)]
pub(super) struct Missing {
    done: Done,
    queue: Queue,
    what: What,
    /// Nobody told whether it committed.
    is_in_doubt: bool,
}

#[derive(Clone, Copy)]
enum What {
    Message {
        payload: u64,
    },
    /// The workflow is known once a repeated start has told it.
    Start {
        key: Key,
        step: Step,
        state: u64,
        workflow: Option<WorkflowId>,
    },
    /// What follows on a decision: an event, a timer, a wait, or a join.
    Successor(Decision),
    /// The first step of a child.
    Child {
        step: Step,
        state: u64,
    },
    /// What a dead letter lives on as; the parent of a child.
    Replay(Content, Option<Parent>),
    Timer {
        payload: u64,
    },
    /// A handoff in doubt: any of its successors shows that it committed.
    Handoff {
        worker: WorkerId,
        decisions: Span,
    },
}

impl Pass<'_> {
    pub(super) fn append_lost(&mut self, done: Done, queue: Queue, payload: u64) {
        self.miss(done, queue, What::Message { payload });
    }

    pub(super) fn start_lost(&mut self, done: Done, (queue, key): (Queue, Key), (step, state): (Step, u64)) {
        if self.memory.keys.get(queue, key).is_none() {
            self.miss(done, queue, What::Start { key, step, state, workflow: None });
        }
    }

    pub(super) fn successor_lost(&mut self, done: Done, queue: u8, decision: &Decision) {
        self.miss(done, Queue(queue), What::Successor(*decision));
    }

    /// A lost handoff spawned: nobody knows the ids of its children.
    pub(super) fn children_lost(&mut self, done: Done, queue: Queue, children: &[Decision]) {
        self.memory.joins.has_lost_spawn = true;
        for Decision { step, state, .. } in children {
            self.miss(done, queue, What::Child { step: *step, state: *state });
        }
    }

    pub(super) fn handoff_in_doubt(&mut self, done: Done, worker: WorkerId, decisions: Span) {
        self.miss(done, Queue(0), What::Handoff { worker, decisions });
    }

    pub(super) fn schedule_lost(&mut self, done: Done, queue: Queue, payload: u64) {
        self.miss(done, queue, What::Timer { payload });
    }

    pub(super) fn miss_replay(&mut self, done: Done, queue: Queue, content: Content, parent: Option<Parent>) {
        self.miss(done, queue, What::Replay(content, parent));
    }

    fn miss(&mut self, done: Done, queue: Queue, what: What) {
        self.memory.missing.push(Missing { done, queue, what, is_in_doubt: done.commit == NONE });
    }

    /// The record by which a lost start of this key had committed, if it had before the other one was called.
    pub(super) fn lost_start_before(&self, done: Done, queue: Queue, key: Key) -> Option<u32> {
        self.memory.missing.iter().find_map(|missing| match missing.what {
            What::Start { key: same, .. } if same == key && missing.queue == queue => {
                (missing.done.commit < done.call).then_some(missing.done.commit)
            }
            _ => None,
        })
    }

    /// A repeated start tells the workflow that a lost one had started.
    pub(super) fn find_lost_start(&mut self, queue: Queue, key: Key, id: WorkflowId) -> bool {
        let mut found = None;
        for missing in &mut self.memory.missing {
            if let What::Start { key: same, workflow, .. } = &mut missing.what
                && *same == key
                && missing.queue == queue
                && workflow.is_none()
            {
                *workflow = Some(id);
                missing.is_in_doubt = false;
                found = Some(missing.done);
                break;
            }
        }
        let Some(Done { call, commit, .. }) = found else { return false };
        self.memory.no_doubt(call);
        self.memory.keys.insert(queue, key, id);
        self.memory.workflows.insert(id.0, Workflow::new(queue, NONE, commit));
        true
    }

    /// Somebody was handed an event that no reply had told of. True if it is known now.
    pub(super) fn meet(&mut self, index: u32, event: &Event, queue: Option<u8>) -> bool {
        let id = event.id.0;
        if self.settle_birth(index, event.id) && self.memory.events.get(id).is_some() {
            return true;
        }
        let history = self.history;
        self.settle_lost(index, |op| may_make(history, op, event));
        if self.meet_timer(event) || self.meet_wait(index, event) || self.meet_join(index, event) {
            return true;
        }
        self.believe_handoff(index, event);
        let find = |pass: &Self| pass.memory.missing.iter().position(|missing| missing.is(event, queue));
        let mut place = find(self);
        if place.is_none() && self.believe_handoff_of_child(index, event) {
            place = find(self);
        }
        if let Some(place) = place {
            let missing = self.memory.missing.swap_remove(place);
            self.untold_met(event.id);
            self.adopt(index, event, missing);
            return true;
        }
        self.came_from_nowhere(index, event);
        false
    }

    /// A successor of a handoff in doubt is there, so the handoff committed.
    fn believe_handoff(&mut self, index: u32, event: &Event) {
        let history = self.history;
        let place = self.memory.missing.iter().position(|missing| match missing.what {
            What::Handoff { decisions, .. } => {
                history.decisions(decisions).iter().any(|decision| is_successor(decision, event))
            }
            _ => false,
        });
        place.into_iter().for_each(|place| self.believe(index, place));
    }

    /// A child of a spawn in doubt is there. True if one such handoff is believed.
    fn believe_handoff_of_child(&mut self, index: u32, event: &Event) -> bool {
        let history = self.history;
        let is_child = |decision: &Decision| {
            decision.verb == Verb::Child && (decision.step, decision.state) == (event.step, event.state)
        };
        let is_its = |missing: &Missing| match missing.what {
            What::Handoff { decisions, .. } => history.decisions(decisions).iter().any(is_child),
            _ => false,
        };
        let is_first = event.workflow.0 != 0 && event.sequence == 1 && event.attempt == 1;
        let place = self.memory.missing.iter().position(is_its).filter(|_| is_first);
        place.into_iter().for_each(|place| self.believe(index, place));
        place.is_some()
    }

    /// Whether some await was in a handoff whose reply was lost.
    pub(super) fn has_lost_await(&self) -> bool {
        self.has_missing(|decision| decision.verb == Verb::Await)
    }

    /// Whether an await of this name was in a handoff whose reply was lost.
    pub(super) fn is_await_lost(&self, workflow: WorkflowId, name: Name) -> bool {
        self.has_missing(|decision| is_await(decision, workflow, name))
    }

    /// Whether nobody knows if a handoff of this event committed.
    pub(super) fn is_handoff_in_doubt(&self, event: EventId) -> bool {
        let history = self.history;
        self.memory.missing.iter().any(|missing| match missing.what {
            What::Handoff { decisions, .. } => {
                history.decisions(decisions).iter().any(|decision| decision.event == event)
            }
            _ => false,
        })
    }

    fn has_missing(&self, is_it: impl Fn(&Decision) -> bool) -> bool {
        let history = self.history;
        self.memory.missing.iter().any(|missing| match missing.what {
            What::Successor(decision) => is_it(&decision),
            What::Handoff { decisions, .. } => history.decisions(decisions).iter().any(&is_it),
            _ => false,
        })
    }

    /// Somebody names the wait that a lost handoff had registered.
    pub(super) fn find_lost_wait(&mut self, index: u32, id: EventId, workflow: WorkflowId, name: Name) {
        let history = self.history;
        let in_doubt = self.memory.missing.iter().position(|missing| match missing.what {
            What::Handoff { decisions, .. } => {
                history.decisions(decisions).iter().any(|decision| is_await(decision, workflow, name))
            }
            _ => false,
        });
        in_doubt.into_iter().for_each(|place| self.believe(index, place));
        let place = self.memory.missing.iter().position(
            |missing| matches!(missing.what, What::Successor(decision) if is_await(&decision, workflow, name)),
        );
        let Some(place) = place else { return };
        let Missing { done, queue, what, .. } = self.memory.missing.swap_remove(place);
        let What::Successor(decision) = what else { return };
        self.wait_registered(done, queue, id, &decision);
        if let Some(known) = self.memory.workflows.get_mut(workflow.0).filter(|known| known.continuation == NONE) {
            known.continuation = id.0;
        }
    }

    /// An event of a finished window has its end: if it was in a handoff in doubt, that committed.
    pub(super) fn believe_handoff_of_event(&mut self, index: u32, event: EventId) {
        let history = self.history;
        let is_its = |missing: &Missing| match missing.what {
            What::Handoff { decisions, .. } => {
                history.decisions(decisions).iter().any(|decision| decision.event == event)
            }
            _ => false,
        };
        let place = self.memory.missing.iter().position(is_its);
        place.into_iter().for_each(|place| self.believe(index, place));
    }

    /// The worker shows that its handoff in doubt committed.
    pub(super) fn believe_handoff_of(&mut self, index: u32, worker: WorkerId) {
        let is_own = |missing: &Missing| matches!(missing.what, What::Handoff { worker: own, .. } if own == worker);
        let place = self.memory.missing.iter().position(is_own);
        place.into_iter().for_each(|place| self.believe(index, place));
    }

    fn believe(&mut self, index: u32, place: usize) {
        let Missing { done, what, .. } = self.memory.missing.swap_remove(place);
        self.memory.no_doubt(done.call);
        let Some(Op::Handoff { token, .. }) = Clue(self.history).op(done.call) else { return };
        if let What::Handoff { worker, decisions } = what {
            self.handed_off(Done { commit: index, ..done }, worker, token, decisions, None);
        }
    }

    fn adopt(&mut self, index: u32, event: &Event, missing: Missing) {
        let Missing { done, queue, what, .. } = missing;
        self.memory.no_doubt(done.call);
        let commit = if done.commit == NONE { index } else { done.commit };
        let done = Done { xid: event.xid, commit, ..done };
        let mut entry = Entry::new(done, queue, UNTOLD_TABLE, (event.workflow, UNTOLD, event.step.0, event.state));
        entry.is_truncated = true;
        entry.attempt = event.attempt;
        match what {
            What::Start { key, workflow: None, .. } => self.adopt_start(done, queue, key, event),
            What::Start { .. } | What::Successor(_) => {
                if let What::Successor(decision @ Decision { verb: Verb::Await, .. }) = what {
                    self.lost_wait_met(event, &decision);
                }
                if let Some(workflow) = self.memory.workflows.get_mut(event.workflow.0)
                    && workflow.continuation == NONE
                {
                    workflow.continuation = event.id.0;
                }
            }
            What::Child { .. } => self.child_started(done, queue, (event.workflow.0, event.id.0), None),
            What::Replay(content, parent) if content.workflow.0 != 0 => {
                self.memory.dead_letters.replays.insert(event.workflow.0);
                let workflow = Workflow::new(queue, event.id.0, done.commit);
                self.memory.workflows.insert(event.workflow.0, workflow);
                parent.into_iter().for_each(|parent| self.adopt_child(event.workflow, parent));
            }
            What::Message { .. } | What::Handoff { .. } | What::Replay(..) | What::Timer { .. } => {}
        }
        self.add_event(done, event.id, entry);
        self.arrives(event.id, Some(event.arrival));
    }

    fn adopt_start(&mut self, done: Done, queue: Queue, key: Key, event: &Event) {
        let clue = Clue(self.history);
        if let Some(known) = self.memory.keys.get(queue, key) {
            self.found.violated(Property::W9, &[done.record(), done.commit], || {
                let (again, at) = (event.workflow, clue.at(done.record()));
                format!("{key} of {queue} was started twice: as {known}, and, with a reply that was lost at {at}, as {again}")
            });
        }
        self.memory.keys.insert(queue, key, event.workflow);
        let workflow = Workflow::new(queue, event.id.0, done.commit);
        self.memory.workflows.insert(event.workflow.0, workflow);
    }

    fn came_from_nowhere(&mut self, index: u32, event: &Event) {
        let clue = Clue(self.history);
        // Only so often is the history searched; what comes then is more of the same.
        self.memory.strangers += 1;
        let is_searched = self.memory.strangers <= SEARCHES;
        let birth = if is_searched { clue.birth_of(event.id) } else { self.memory.stranger_birth };
        self.memory.stranger_birth = birth;
        let aborted = matches!(
            self.memory.outcomes.get(event.xid.0),
            Some(Known::RolledBack | Known::Resolved(Outcome::Aborted, _))
        );
        let at = clue.at(index);
        match birth {
            Some(birth) => self.found.violated(Property::D2, &[birth, index], || {
                let (id, process, born) = (event.id, clue.process(birth), clue.at(birth));
                let not = if aborted { "was rolled back" } else { "had not committed" };
                format!(
                    "{id} was delivered at {at}, but the transaction in which {process} appended it at {born} {not}"
                )
            }),
            None if aborted => self.found.violated(Property::D2, &[index], || {
                format!("{} was delivered at {at} from {}, which had aborted", event.id, event.xid)
            }),
            None => self.found.violated(Property::Q2, &[index], || {
                format!("{} ({}) was delivered at {at}, and nobody appended it", event.id, event.xid)
            }),
        }
    }

    /// At the end: a lost append that committed, was due in a finished window, and was delivered to nobody.
    pub(super) fn judge_missing(&mut self, has_doubts: bool) {
        let (history, clue) = (self.history, Clue(self.history));
        for place in 0..self.memory.missing.len() {
            let Missing { done, queue, what, is_in_doubt } = self.memory.missing[place];
            let was_due = self.memory.subscriptions.iter().flatten().any(|subscription| {
                let log = &self.memory.queues[subscription.queue as usize];
                let tick = log.ticks.iter().find(|tick| tick.sees(history, done.xid));
                subscription.queue == queue.0 && tick.is_some_and(|tick| tick.number <= subscription.finished)
            });
            // A lost start may have found its key known, and appended nothing; a timer comes when it is due.
            let is_sure = match what {
                What::Message { .. } | What::Child { .. } | What::Replay(..) => true,
                What::Successor(decision) => !is_later(&decision),
                _ => false,
            };
            if is_in_doubt || has_doubts || !is_sure || done.xid.0 == 0 || !was_due {
                continue;
            }
            self.found.violated(Property::Q1, &[done.call, done.commit], || {
                let (process, at, xid) = (clue.process(done.call), clue.at(done.call), done.xid);
                format!(
                    "what {process} appended at {at} ({xid}, the reply was lost, it committed) was delivered to nobody"
                )
            });
        }
    }
}

impl Missing {
    fn is(&self, event: &Event, queue: Option<u8>) -> bool {
        let same_queue = queue.is_none_or(|queue| queue == self.queue.0);
        // A timer's event carries the number of the drain.
        let is_timer = match self.what {
            What::Timer { .. } => true,
            What::Successor(decision) => is_later(&decision),
            _ => false,
        };
        let same_transaction = is_timer || self.done.xid.0 == 0 || self.done.xid == event.xid;
        same_queue
            && same_transaction
            && match self.what {
                What::Message { payload } | What::Timer { payload } => event.workflow.0 == 0 && event.state == payload,
                What::Start { step, state, workflow, .. } => {
                    event.step == step && event.state == state && workflow.is_none_or(|id| id == event.workflow)
                }
                What::Successor(decision) => is_successor(&decision, event),
                What::Child { step, state } => {
                    let is_first = event.sequence == 1 && event.attempt == 1 && event.arrival == Arrival::Direct;
                    is_first && event.workflow.0 != 0 && (event.step, event.state) == (step, state)
                }
                What::Replay(content, _) => {
                    (event.workflow.0 == 0) == (content.workflow.0 == 0)
                        && event.step.0 == content.step
                        && event.state == content.state
                }
                What::Handoff { .. } => false,
            }
    }
}

/// Whether a call of which nobody was told may have appended the event.
fn may_make(history: &History, op: &Op<Span>, event: &Event) -> bool {
    match op {
        Op::Append { payload, .. } | Op::Schedule { payload, .. } => event.workflow.0 == 0 && event.state == *payload,
        Op::Start { step, state, .. } => (event.step, event.state) == (*step, *state),
        Op::Handoff { decisions, .. } => history.decisions(*decisions).iter().any(|decision| {
            let is_child = decision.verb == Verb::Child && (decision.step, decision.state) == (event.step, event.state);
            is_child || is_successor(decision, event)
        }),
        Op::ReplayDeadLetter { .. } | Op::Drain { .. } | Op::ExpireWaits { .. } | Op::Emit { .. } => true,
        _ => false,
    }
}

fn is_successor(decision: &Decision, event: &Event) -> bool {
    decision.verb.continues() && decision.workflow == event.workflow && decision.sequence == event.sequence
}
