//! Isolation: windows that killed whoever held them, one event at a time, each alone. Q11 for tries, W10 for them, L3.
//!
//! A window that was taken over twice is isolated: hand-outs give one event each, every one of them counts a try, and a
//! handoff ends that event only. The hand-out that finds nothing left ends the window.
//!
//! - **L3** A takeover of a window that had been taken over before gives it out as isolated; and at an end that is late
//!   enough no isolated window is open. Broken by takeovers that nobody counts, and by tries that are counted in the
//!   transaction that dies.
//! - **Q11** The tries of an event that a window hands out rise by one each time, and never above the most that the call
//!   allows. (A hand-out whose reply was lost may have counted one.) **W10** An event that a hand-out gives up had as many
//!   tries as that call allows.
//!
//! A hand-out whose reply was lost may have ended the window, or an event; who did is told by what its worker does next,
//! and by the rows at the end.

use super::checker::{Done, Pass};
use super::clue::Clue;
use super::content::Content;
use super::lease::{Finish, Phase, Worker, takes_over};
use super::transactions::NONE;
use super::{Property, Reach};
use crate::name::{Consumer, EventId, Micros, Queue, Tick, Token, WorkerId, Xid};
use crate::op::Op;
use crate::record::Span;
use crate::reply::Reply;
use crate::state::{DeadLetterRow, DeadReason, WorkerRow};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

/// From so many takeovers on, a window is isolated.
const CRASHES: u32 = 2;

/// How often the events of isolated windows were handed out, by consumer and event: tries, and the last record.
#[derive(Default)]
pub(super) struct Tries(BTreeMap<(u8, u32), (u16, u32)>);

impl Tries {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// What a hand-out said: the event, its tries, and what it gave up.
pub(super) struct HandOut {
    pub(super) events: Span,
    pub(super) tries: u16,
    pub(super) max_tries: u16,
    pub(super) dead: Span,
}

impl Pass<'_> {
    /// A window was given to a worker, as a whole or to be handed out event by event.
    pub(super) fn given_out(
        &mut self,
        done: Done,
        worker: WorkerId,
        window: (Tick, Tick),
        victim: WorkerId,
        is_isolated: bool,
    ) {
        let Some(known) = self.memory.workers.get_mut(worker.0) else { return };
        let consumer = known.consumer;
        known.isolated = is_isolated;
        if is_isolated {
            self.found.sees(Reach::Isolation);
        }
        if victim.0 == 0 {
            return;
        }
        let Some(range) = self.range_of(consumer, (window.0.0, window.1.0)) else { return };
        let (takeovers, given) = (range.takeovers, range.record());
        if takeovers < CRASHES {
            return;
        }
        self.found.exercised(Property::L3);
        if !is_isolated {
            let clue = Clue(self.history);
            self.found.violated(Property::L3, &[given, done.record()], || {
                let (prev, next, at) = (window.0, window.1, clue.at(done.record()));
                format!(
                    "the window ({prev},{next}] of {} was given out as a whole at {at}, to {worker}, although it had been taken \
                     over {takeovers} times by then: it should have been isolated",
                    Consumer(consumer)
                )
            });
        }
    }

    /// A committed hand-out.
    pub(super) fn handed_out(&mut self, done: Done, worker: WorkerId, token: Token, out: &HandOut) {
        let history = self.history;
        let Some(known) = self.memory.workers.get_mut(worker.0) else { return };
        let consumer = known.consumer;
        if known.token == token {
            known.isolated = true;
        }
        self.alive(done, worker, token);
        for id in history.ids(out.dead) {
            self.gave_up(done, (consumer, worker), EventId(*id), out.max_tries);
        }
        match history.events(out.events) {
            [] => self.isolation_ended(done, worker, token),
            events => events.iter().for_each(|event| self.tried(done, (consumer, worker), event.id, out)),
        }
    }

    fn tried(&mut self, done: Done, (consumer, worker): (u8, WorkerId), event: EventId, out: &HandOut) {
        self.found.exercised(Property::Q11);
        let before = self.tries_of(consumer, event);
        let lost = self.lost_hand_outs(consumer, worker);
        if out.tries > before.0.saturating_add(1).saturating_add(lost) {
            self.settle_tries(done.record(), event);
        }
        let lost = self.lost_hand_outs(consumer, worker);
        let (before, first) = self.tries_of(consumer, event);
        self.memory.tries.0.insert((consumer, event.0), (out.tries, done.record()));
        let clue = Clue(self.history);
        let expected = before.saturating_add(1);
        if out.tries < expected || out.tries > expected.saturating_add(lost) {
            self.found.violated(Property::Q11, &[first, done.record()], || {
                let (at, tries) = (clue.at(done.record()), out.tries);
                format!("{event} was handed out alone to {worker} at {at} as try {tries}, after {before} that had been counted")
            });
        }
        if out.tries > out.max_tries {
            self.found.violated(Property::Q11, &[first, done.record()], || {
                let (at, tries, most) = (clue.at(done.record()), out.tries, out.max_tries);
                format!("{event} was handed out alone to {worker} at {at} for try {tries}, and {most} are allowed")
            });
        }
    }

    /// A hand-out of a victim's may have its reply still under way.
    fn settle_tries(&mut self, index: u32, event: EventId) {
        let history = self.history;
        let is_its = |_: &Op<Span>, reply: &Reply<Span, Span, Span>| matches!(reply, Reply::HandedOut { events, .. } if history.events(*events).iter().any(|other| other.id == event));
        if !self.settle(index, is_its) {
            self.settle_lost(index, |op| matches!(op, Op::HandOut { .. }));
        }
    }

    fn tries_of(&self, consumer: u8, event: EventId) -> (u16, u32) {
        self.memory.tries.0.get(&(consumer, event.0)).copied().unwrap_or((0, NONE))
    }

    /// How many hand-outs of the worker's window may have counted a try that nobody was told of.
    fn lost_hand_outs(&mut self, consumer: u8, worker: WorkerId) -> u16 {
        let Some(window) = self.memory.workers.get(worker.0).map(|known| known.window) else { return 0 };
        self.range_of(consumer, window).map_or(0, |range| range.lost_hand_outs)
    }

    /// A hand-out found that an event has no try left.
    fn gave_up(&mut self, done: Done, (consumer, worker): (u8, WorkerId), event: EventId, max_tries: u16) {
        let clue = Clue(self.history);
        if self.tries_of(consumer, event).0 < max_tries {
            self.settle_tries(done.record(), event);
        }
        let (tries, last) = self.tries_of(consumer, event);
        let lost = self.lost_hand_outs(consumer, worker);
        self.found.exercised(Property::Q11);
        if tries.saturating_add(lost) < max_tries {
            self.false_dead_letter(&[last, done.record()], || {
                let at = clue.at(done.record());
                format!("{event} became a dead letter at {at} for {max_tries} tries that did not end, and was handed out alone {tries} times")
            });
        }
        self.end_as_dead(done, consumer, event, DeadReason::Tries);
    }

    /// The event of an isolated window ends as a dead letter, and its workflow with it.
    fn end_as_dead(&mut self, done: Done, consumer: u8, event: EventId, reason: DeadReason) {
        self.acknowledge(done, consumer, event);
        let Some(known) = self.memory.events.get(event.0).copied() else { return };
        let arrival = self.memory.arrivals.of(event).unwrap_or_default();
        let content = Content::of_entry(&known, arrival);
        self.dead_letter(done, consumer, Queue(known.queue), event, reason, &content);
        if known.consumed != NONE {
            let clue = Clue(self.history);
            return self.found.violated(Property::Q12, &[known.consumed, done.record()], || {
                let (before, at) = (clue.under_token(known.consumed), clue.at(done.record()));
                format!(
                    "{event} became a dead letter at {at}, and had been handed off by {before}: {}",
                    clue.successor(known.consumed, event)
                )
            });
        }
        if known.workflow.0 == 0 {
            return;
        }
        if let Some(known) = self.memory.events.get_mut(event.0) {
            known.consumed = done.record();
        }
        self.workflow_died(done, known.workflow);
    }

    /// A hand-out found nothing left: the window is finished.
    fn isolation_ended(&mut self, done: Done, worker: WorkerId, token: Token) {
        self.found.sees(Reach::IsolationFinished);
        self.found.exercised(Property::L3);
        let Some((consumer, window)) = self.fence(done, worker, token, Finish::Window) else { return };
        self.end_window(done, consumer, window);
    }

    fn end_window(&mut self, done: Done, consumer: u8, window: (u32, u32)) {
        let events = self.unacknowledged(consumer, window);
        for event in events {
            self.explain_end(done, consumer, EventId(event));
        }
        self.window_finished(done, consumer, window);
        let (memory, queue) = (&mut *self.memory, window);
        let events = &memory.events;
        memory.tries.0.retain(|(other, event), _| {
            *other != consumer || events.get(*event).is_some_and(|known| known.tick <= queue.0 || known.tick > queue.1)
        });
    }

    /// The events of a window that have no end so far.
    fn unacknowledged(&mut self, consumer: u8, window: (u32, u32)) -> Vec<u32> {
        let Some(subscription) = self.subscription(consumer) else { return Vec::new() };
        let (queue, bit) = (subscription.queue, subscription.bit);
        let log = &self.memory.queues[queue as usize];
        let (start, end) = (log.end_of(window.0).max(log.seen_base), log.end_of(window.1));
        let seen = (start..end).filter_map(|position| log.seen.get((position - log.seen_base) as usize).copied());
        seen.filter(|event| self.memory.events.get(*event).is_some_and(|known| known.acknowledged & bit == 0)).collect()
    }

    /// An event of a finished isolated window has an end; one in a reply that was lost is told by other means.
    fn explain_end(&mut self, done: Done, consumer: u8, event: EventId) {
        self.believe_handoff_of_event(done.record(), event);
        let bit = self.subscription(consumer).map_or(0, |subscription| subscription.bit);
        let has_end = self.memory.events.get(event.0).is_none_or(|known| known.acknowledged & bit != 0);
        if has_end || !self.memory.has_lost_hand_out {
            return;
        }
        let is_row = |row: &DeadLetterRow| row.event == event && row.consumer.0 == consumer;
        match &self.history.state {
            Some(state) if !state.dead_letters.iter().any(is_row) => {}
            Some(_) => self.end_as_dead(done, consumer, event, DeadReason::Tries),
            None => {
                self.found.unknown(Property::Q1);
                self.end_as_dead(done, consumer, event, DeadReason::Tries);
            }
        }
    }

    /// The reply to a hand-out is lost, and it committed, or may have.
    pub(super) fn hand_out_lost(&mut self, worker: WorkerId, token: Token) {
        self.memory.has_lost_hand_out = true;
        let Some(known) = self.memory.workers.get(worker.0).filter(|known| known.token == token) else { return };
        let (consumer, window) = (known.consumer, known.window);
        if let Some(range) = self.range_of(consumer, window) {
            range.lost_hand_outs = range.lost_hand_outs.saturating_add(1);
        }
    }

    /// The worker shows that it has no window any more: a hand-out of its own that was lost had ended it.
    pub(super) fn believe_end_of_isolation(&mut self, index: u32, worker: WorkerId) {
        if !self.memory.has_lost_hand_out {
            return;
        }
        let Some(known) = self.memory.workers.get(worker.0) else { return };
        let (consumer, window) = (known.consumer, known.window);
        let is_theft = |_: &Op<Span>, reply: &Reply<Span, Span, Span>| takes_over(reply, worker, window);
        // Another that took it over, with the reply under way or lost, would explain the same.
        if self.settle(index, is_theft) || self.memory.has_lost_claim {
            return;
        }
        let phase = self.memory.workers.get(worker.0).map_or(Phase::Free, |known| known.phase);
        let is_lost = self.range_of(consumer, window).is_some_and(|range| range.lost_hand_outs > 0);
        if phase == Phase::Open && is_lost {
            self.ended_by_lost_hand_out(index, worker);
        }
    }

    fn ended_by_lost_hand_out(&mut self, index: u32, worker: WorkerId) {
        let Some(known) = self.memory.workers.get_mut(worker.0) else { return };
        let (consumer, window, token) = (known.consumer, known.window, known.token);
        known.phase = Phase::Finished;
        let clue = Clue(self.history);
        let lost = (0..index).rev().find(|call| {
            matches!(clue.op(*call), Some(Op::HandOut { worker: own, token: same, .. }) if own == worker && same == token)
        });
        let lost = lost.unwrap_or(index);
        self.memory.no_doubt(lost);
        let xid = Xid(0);
        let done = Done { call: lost, ret: NONE, begun: lost, commit_call: lost, commit: index, xid };
        self.end_window(done, consumer, window);
    }

    /// At the end the rows say which isolated windows were finished by a hand-out that was lost: nobody has them.
    pub(super) fn settle_isolation(&mut self) {
        let Some(state) = self.history.state.as_ref().filter(|_| self.memory.has_lost_hand_out) else { return };
        let index = self.history.records.len() as u32;
        let mut ended: Vec<(u8, (u32, u32), WorkerId)> = Vec::new();
        for (subscription, consumer) in self.memory.subscriptions.iter().zip(0u8..) {
            let ranges = subscription.iter().flat_map(|subscription| &subscription.ranges);
            for range in ranges.filter(|range| range.lost_hand_outs > 0 && !range.is_done) {
                let is_row = |row: &WorkerRow| {
                    let has_it = row.window.is_some_and(|(_, prev, next)| (prev.0, next.0) == (range.prev, range.next));
                    has_it && row.consumer.0 == consumer
                };
                if !state.workers.iter().any(is_row) {
                    ended.push((consumer, (range.prev, range.next), range.holder));
                }
            }
        }
        for (consumer, window, holder) in ended {
            let is_open = |known: &Worker| known.phase == Phase::Open && known.window == window;
            match self.memory.workers.get(holder.0).is_some_and(is_open) {
                true => self.ended_by_lost_hand_out(index, holder),
                false => {
                    let xid = Xid(0);
                    let done = Done { call: NONE, ret: NONE, begun: NONE, commit_call: NONE, commit: NONE, xid };
                    self.end_window(done, consumer, window);
                }
            }
        }
    }

    /// At an end that is late enough: no isolated window is open.
    pub(super) fn judge_isolated(&mut self, end: Micros) {
        let clue = Clue(self.history);
        let open = self.memory.workers.iter().find(|(_, known)| known.phase == Phase::Open && known.isolated);
        let Some((id, known)) = open else { return };
        let (consumer, window, claimed) = (known.consumer, known.window, known.claimed);
        let event = self.unacknowledged(consumer, window).first().copied();
        let (tries, last) = event.map_or((0, NONE), |event| self.tries_of(consumer, EventId(event)));
        self.found.violated(Property::L3, &[claimed, last], || {
            let (worker, prev, next, at) = (WorkerId(id), Tick(window.0), Tick(window.1), clue.at(claimed));
            let waits = match event {
                Some(event) => format!("{} was handed out {tries} times, and has no end", EventId(event)),
                None => "each event of it has its end, and no hand-out has finished it".into(),
            };
            format!("the window ({prev},{next}], isolated, is open at {end}, with {worker} since {at}: {waits}")
        });
    }
}
