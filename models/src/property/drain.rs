//! Drains, and the rounds that they make. T2; of the timers that they fire: [`timer`](super::timer).
//!
//! - **T2** A timer that is not cancelled is not lost. It is when a round of drains is done at a tick that sees it (by
//!   its snapshot) and was taken when it was due, and none of the round's drains named it. Broken by a watermark that moves
//!   past the rest of a page, and by timers that commit behind it.
//!
//! A drain whose reply was lost may have fired whatever was due by then; what it did shows when somebody is handed the
//! event, or in the rows at the end. Until then T2 asks for none of these timers, in later rounds neither: which of them is still
//! there, only L1 can tell.

use super::checker::{Done, Pass};
use super::transactions::NONE;
use super::{Property, Reach};
use crate::name::{EventId, Micros, Queue, Tick};
use crate::op::Op;
use crate::record::Span;
use crate::reply::Reply;
use alloc::vec::Vec;

/// A queue's drains.
#[derive(Clone, Copy)]
pub(super) struct Cursor {
    /// The tick of the last round that was done.
    pub(super) done: u32,
    /// The last reply.
    pub(super) record: u32,
    /// The last drain whose reply was lost, and the time by which it was over, on the server's clock.
    pub(super) lost: Option<(Done, Micros)>,
}

impl Cursor {
    pub(super) const NEW: Cursor = Cursor { done: 0, record: NONE, lost: None };
}

impl Pass<'_> {
    pub(super) fn drained(
        &mut self,
        done: Done,
        queue: Queue,
        tick: Tick,
        (fired, dead): (Span, Span),
        end: (u8, bool),
    ) {
        let history = self.history;
        let (table, is_done) = end;
        for id in history.ids(fired) {
            self.judge_early(done, queue, tick, *id);
            self.fire(done, queue, EventId(*id), table);
        }
        for id in history.ids(dead) {
            self.timer_undeliverable(done, queue, EventId(*id));
        }
        if !is_done {
            self.found.sees(Reach::TimerPageFull);
        }
        if is_done && !self.memory.timers.waiting.is_empty() {
            self.judge_round(done, queue, tick);
        }
        let cursor = self.memory.timers.cursors.entry(queue.0).or_insert(Cursor::NEW);
        cursor.record = done.record();
        if is_done {
            cursor.done = cursor.done.max(tick.0);
        }
    }

    /// A round is done: whatever was due at its tick, and is seen by it, has fired.
    fn judge_round(&mut self, done: Done, queue: Queue, tick: Tick) {
        self.found.exercised(Property::T2);
        let history = self.history;
        let Some(entry) = self.queue(queue).tick(tick.0) else { return };
        let (Some(taken), asked_at) = (entry.told_at(), entry.asked_at()) else { return };
        let latest = taken.max(asked_at);
        let lost_until =
            self.memory.timers.cursors.get(&queue.0).and_then(|cursor| cursor.lost).map(|(_, until)| until);
        let log = &self.memory.queues[queue.0 as usize];
        let Some(entry) = log.tick(tick.0) else { return };
        let due = self.memory.timers.waiting.range((queue.0, Micros(0), 0)..=(queue.0, latest, u32::MAX));
        let left: Vec<u32> = due
            .filter_map(|(.., id)| Some((*id, self.memory.timers.pending(*id)?)))
            .filter(|(_, timer)| {
                let is_due = timer.told.map_or(timer.due.1 <= asked_at, |due| due <= taken);
                let may_have_fired = lost_until.is_some_and(|until| timer.due.0 <= until);
                is_due && timer.xid.0 != 0 && entry.sees(history, timer.xid) && !may_have_fired
            })
            .map(|(id, _)| id)
            .collect();
        for id in left {
            // Another drain of this round, or whoever cancelled it, may have the reply still under way.
            let is_gone = |op: &Op<Span>, reply: &Reply<Span, Span, Span>| match (op, reply) {
                (Op::Cancel { event, .. }, Reply::Cancelled) => event.0 == id,
                (_, Reply::Drained { fired, dead, .. }) => {
                    history.ids(*fired).contains(&id) || history.ids(*dead).contains(&id)
                }
                _ => false,
            };
            let may_be_gone = |op: &Op<Span>| match op {
                Op::Cancel { event, .. } => event.0 == id,
                Op::Drain { queue: other, .. } => *other == queue,
                _ => false,
            };
            if !self.settle(done.record(), is_gone) && !self.may_come(may_be_gone) {
                self.left_behind(done, queue, tick, EventId(id));
            }
        }
    }

    /// Nobody knows what it fired: what was due by then.
    pub(super) fn drain_lost(&mut self, done: Done, queue: Queue) {
        let end = self.memory.server_clock.latest(self.history, done.call, done.commit);
        let cursor = self.memory.timers.cursors.entry(queue.0).or_insert(Cursor::NEW);
        let until = cursor.lost.map_or(end, |(_, until)| until.max(end));
        cursor.lost = Some((done, until));
    }
}
