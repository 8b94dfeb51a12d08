//! Waits and joins that came to their end, and could not become events: they are dead letters, and so end their workflows.
//!
//! Of timers: [`timer`](super::timer). What a wait or a join is told by counts as its one continuation (A1, J1), not before
//! its time (A2, J2), and the reason is judged as any other's (W10).

use super::checker::{Done, Pass};
use super::content::Content;
use super::transactions::NONE;
use super::{Property, Reach, UNDELIVERABLE_STATE};
use crate::name::{EventId, Queue};
use crate::record::Span;
use crate::reply::{Arrival, Reply};
use crate::state::{DeadReason, State};

impl Pass<'_> {
    /// What a call found undeliverable, before what it resumed: parents go on by it.
    pub(super) fn undeliverable(&mut self, done: Done, ids: Span) {
        for id in self.history.ids(ids) {
            let id = EventId(*id);
            let is_open = |pass: &Self| pass.memory.waits.open.contains_key(&id.0) || pass.memory.joins.is_open(id);
            if !is_open(self) && !self.is_event(id) && !self.memory.dead_letters.is_dead(id) {
                self.settle_birth(self.now, id);
            }
            match self.memory.waits.open.contains_key(&id.0) {
                true => self.wait_undeliverable(done, id),
                false => self.join_undeliverable(done, id),
            }
        }
    }

    fn wait_undeliverable(&mut self, done: Done, id: EventId) {
        let Some(wait) = self.memory.waits.open.get(&id.0).copied() else { return };
        self.found.exercised(Property::A2);
        self.judge_deadline(done, id, &wait);
        if self.close_wait(done, id, Some(Arrival::TimedOut)).is_none() {
            return;
        }
        self.found.sees(Reach::WaitUndeliverable);
        let arrival = Arrival::TimedOut;
        let (workflow, sequence, step, state) = (wait.workflow, wait.sequence, wait.step, wait.state);
        let content = Content { workflow, sequence, step, attempt: 1, state, arrival };
        self.dies(done, Queue(wait.queue), id, &content, wait.born);
    }

    fn join_undeliverable(&mut self, done: Done, id: EventId) {
        if self.may_join(done, id) {
            self.join_dies(done, id);
        }
    }

    /// The join of a live workflow is over, and it does not go on.
    pub(super) fn join_dies(&mut self, done: Done, id: EventId) {
        let Some(join) = self.memory.joins.by_id.get_mut(&id.0) else { return };
        join.ends(done.record());
        self.found.sees(Reach::JoinUndeliverable);
        self.found.exercised(Property::J6);
        let arrival = Arrival::Joined { join: id };
        let (workflow, sequence, step, state) = (join.workflow, join.sequence, join.step, join.state);
        let content = Content { workflow, sequence, step, attempt: 1, state, arrival };
        let (queue, born) = (Queue(join.queue), join.born);
        self.dies(done, queue, id, &content, born);
    }

    fn dies(&mut self, done: Done, queue: Queue, id: EventId, content: &Content, born: u32) {
        let consumer = self.queue(queue).consumers.first().copied().unwrap_or_default();
        self.judge_undeliverable(done, id, content, born);
        self.dead_letter(done, consumer, queue, id, DeadReason::Undeliverable, content);
        self.workflow_died(done, content.workflow);
    }

    /// The state that an application's rule forbids, if the header names one.
    pub(super) fn forbidden_state(&self) -> Option<u64> {
        self.history.header.option(UNDELIVERABLE_STATE)?.parse().ok()
    }

    /// A dead letter that was told in a reply which was lost is known by its row.
    pub(super) fn find_undeliverable(&mut self, state: &State) {
        for row in &state.dead_letters {
            let id = row.event;
            if row.reason != DeadReason::Undeliverable || self.memory.dead_letters.is_dead(id) {
                continue;
            }
            if let Some(lost) = self.lost_expiry(id) {
                self.wait_undeliverable(lost, id);
            } else if let Some(lost) = self.lost_completion(id) {
                self.join_dies(lost, id);
            }
        }
    }

    fn lost_expiry(&self, id: EventId) -> Option<Done> {
        let wait = self.memory.waits.open.get(&id.0)?;
        self.memory.waits.lost_expiry(wait.queue)
    }

    fn lost_completion(&self, id: EventId) -> Option<Done> {
        let join = self.memory.joins.by_id.get(&id.0).filter(|join| join.resumed.is_none())?;
        let is_over = join.is_untold() || self.memory.has_lost_hand_out || self.memory.timers.has_lost_drain();
        let index = self.now;
        is_over.then_some(Done {
            call: index,
            ret: index,
            begun: NONE,
            commit_call: index,
            commit: index,
            xid: crate::name::Xid(0),
        })
    }
}

/// What a reply says to be dead, other than by a decision.
pub(super) fn calls_dead(reply: &Reply<Span, Span, Span>) -> [Span; 2] {
    match *reply {
        Reply::HandedOut { dead, undeliverable, .. } | Reply::Drained { dead, undeliverable, .. } => {
            [dead, undeliverable]
        }
        Reply::HandedOff { undeliverable, .. } | Reply::Expired { undeliverable, .. } => [undeliverable; 2],
        _ => [Span::default(); 2],
    }
}
