//! What of a subscription is done with: events that were acknowledged, windows that were finished. Q1 and Q3.
//!
//! - **Q1** When a window is finished, and all before it, each event in it has its end (it was acknowledged, or became a
//!   dead letter); an event that lies in what was skipped is lost as well. Looked at once for each event and subscription,
//!   as the finished ones grow together. Broken by acknowledging more than was read, and by every way to drop an event from a window.
//! - **Q3** A committed handoff of an event that the subscription had acknowledged. Broken by two tokens on one window.

use super::Property;
use super::checker::{Done, Pass};
use super::clue::Clue;
use super::transactions::NONE;
use super::window::{BITS, Range};
use crate::name::{Consumer, EventId, Tick};
use crate::op::Op;
use crate::reply::Reply;
use alloc::format;

impl Pass<'_> {
    /// A committed handoff acknowledges an event for a subscription.
    pub(super) fn acknowledge(&mut self, done: Done, consumer: u8, event: EventId) {
        self.found.exercised(Property::Q3);
        let Some(Some(subscription)) = self.memory.subscriptions.get(consumer as usize) else { return };
        let bit = subscription.bit;
        let Some(known) = self.memory.events.get_mut(event.0) else { return };
        let was = known.acknowledged & bit != 0 && bit != 1 << (BITS - 1);
        known.acknowledged |= bit;
        if was {
            self.acknowledged_twice(done, consumer, event);
        }
    }

    pub(super) fn acknowledged_twice(&mut self, done: Done, consumer: u8, event: EventId) {
        let clue = Clue(self.history);
        let tells = self.found.tells(Property::Q3);
        let first = if tells { first_handoff(clue, event, done.record()) } else { None };
        let records = [first.unwrap_or(NONE), done.record(), done.commit];
        self.found.violated(Property::Q3, &records, || {
            let (again, consumer) = (clue.under_token(done.record()), Consumer(consumer));
            let first = first.map_or_else(|| "before".into(), |first| format!("by {}", clue.under_token(first)));
            format!(
                "{event} was acknowledged twice for {consumer}: {first}, and by {again}{}",
                clue.death_of_token(done.record())
            )
        });
    }

    /// A committed handoff has ended a window.
    pub(super) fn window_finished(&mut self, done: Done, consumer: u8, window: (u32, u32)) {
        self.found.exercised(Property::Q1);
        if let Some(range) = self.range_of(consumer, window) {
            range.is_done = true;
        }
        self.advance(done, consumer);
    }

    /// Lets the finished part of a subscription grow, and looks at each event that it grows over.
    fn advance(&mut self, done: Done, consumer: u8) {
        loop {
            let Some(Some(subscription)) = self.memory.subscriptions.get_mut(consumer as usize) else { return };
            let Some(range) = subscription.ranges.front().copied().filter(|range| range.is_done) else { break };
            let queue = subscription.queue;
            let (gap_end, end) = {
                let log = &self.memory.queues[queue as usize];
                (log.end_of(range.prev), log.end_of(range.next))
            };
            // A window that was given out before this one, to somebody who has not heard of it yet.
            if !self.look_until(done, consumer, gap_end, None) {
                break;
            }
            self.look_until(done, consumer, end, Some(range));
            let Some(subscription) = self.subscription(consumer) else { return };
            subscription.finished = subscription.finished.max(range.next);
            subscription.ranges.pop_front();
        }
        let queue = self.subscription(consumer).map(|subscription| subscription.queue);
        queue.into_iter().for_each(|queue| self.trim(queue, Some(done)));
    }

    /// Looks at the events up to a position. In a finished window, one without an acknowledgement is lost; between
    /// windows it may still be given out, so there the look stops: false.
    fn look_until(&mut self, done: Done, consumer: u8, end: u32, range: Option<Range>) -> bool {
        let Some(Some(subscription)) = self.memory.subscriptions.get_mut(consumer as usize) else { return false };
        let (bit, queue, mut position) = (subscription.bit, subscription.queue, subscription.position);
        while position < end {
            let log = &self.memory.queues[queue as usize];
            let event = position.checked_sub(log.seen_base).and_then(|index| log.seen.get(index as usize));
            let Some(event) = event.copied() else { break };
            let is_acknowledged = self.memory.events.get(event).is_none_or(|known| known.acknowledged & bit != 0);
            match (is_acknowledged, range) {
                (true, _) => {}
                (false, None) => break,
                (false, Some(_)) => self.lost_event(done.record(), consumer, EventId(event), range),
            }
            position += 1;
        }
        let Some(subscription) = self.subscription(consumer) else { return false };
        subscription.position = position;
        position >= end
    }

    /// An event for which there is no end any more.
    pub(super) fn lost_event(&mut self, record: u32, consumer: u8, event: EventId, range: Option<Range>) {
        let clue = Clue(self.history);
        let Some(known) = self.memory.events.get(event.0).copied() else { return };
        self.found.violated(Property::Q1, &[known.born, range.map_or(NONE, |range| range.record()), record], || {
            let (born, consumer, tick) = (clue.at(known.born), Consumer(consumer), Tick(known.tick));
            let ended = match range {
                Some(range) => {
                    let (prev, next) = (Tick(range.prev), Tick(range.next));
                    format!("its window ({prev},{next}] was finished at {} without it", clue.at(record))
                }
                None => format!("all up to {tick}, with which it came, is finished"),
            };
            let of = if known.workflow.0 == 0 { "".into() } else { format!(" of {}", clue.workflow(known.workflow)) };
            format!("{event}{of}, appended at {born}, is lost to {consumer}: {ended}")
        });
        self.continuation_lost(record, event);
    }

    /// An event got its place among those that had been looked at already.
    pub(super) fn insert_behind(&mut self, queue: u8, event: u32, position: u32) {
        for consumer in 0..self.memory.subscriptions.len() {
            let Some(subscription) = &mut self.memory.subscriptions[consumer] else { continue };
            let Some(known) = self.memory.events.get(event) else { continue };
            let is_passed = position < subscription.position
                || (position == subscription.position && known.tick <= subscription.finished);
            if subscription.queue != queue || !is_passed {
                continue;
            }
            subscription.position += 1;
            let is_own = subscription.start.is_some_and(|start| start < known.tick);
            if is_own && known.acknowledged & subscription.bit == 0 {
                self.lost_event(known.born, consumer as u8, EventId(event), None);
            }
        }
    }

    /// Lets go of events that all subscriptions are done with, and of ticks that lie behind all of them. `done` is what
    /// finished them; events that nobody subscribed to are finished by nothing.
    pub(super) fn trim(&mut self, queue: u8, done: Option<Done>) {
        let mut position = self.memory.queues[queue as usize].seen_end();
        let mut finished = NONE;
        for consumer in &self.memory.queues[queue as usize].consumers {
            if let Some(Some(subscription)) = self.memory.subscriptions.get(*consumer as usize) {
                position = position.min(subscription.position);
                finished = finished.min(subscription.finished);
            }
        }
        while self.memory.queues[queue as usize].seen_base < position {
            let log = &mut self.memory.queues[queue as usize];
            let Some(event) = log.seen.pop_front() else { break };
            log.seen_base += 1;
            self.event_finished(queue, event, done);
        }
        let ticks = &mut self.memory.queues[queue as usize].ticks;
        let finished = self.memory.timers.needs(queue).map_or(finished, |needed| finished.min(needed));
        while ticks.get(1).is_some_and(|second| second.number <= finished) {
            ticks.pop_front();
        }
    }
}

/// The first accepted handoff of an event before that record.
pub(super) fn first_handoff(clue: Clue<'_>, event: EventId, before: u32) -> Option<u32> {
    (0..before).find(|index| {
        let accepted = matches!(clue.reply(*index), Some(Reply::HandedOff { .. } | Reply::Unknown));
        accepted
            && matches!(clue.effect(*index), Some((Op::Handoff { decisions, .. }, _))
                if clue.0.decisions(decisions).iter().any(|decision| decision.event == event))
    })
}
