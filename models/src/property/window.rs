//! Windows of a subscription: who was given which, and what was read of them. Q4 and Q6; of what was acknowledged:
//! [`acknowledgement`](super::acknowledgement).
//!
//! - **Q4** The windows of a subscription, whoever was given them, neither overlap nor leave out a tick with events in
//!   it, and are bounded by ticks that somebody took; a takeover moves the victim's window as it was. (Ticks without
//!   events may be skipped: an empty window is closed, not handed out.) Broken by a takeover that copies the wrong window.
//! - **Q6** What was read of a window from its start to its end is the same each time.

use super::checker::{Done, Pass};
use super::clue::Clue;
use super::{Property, Reach};
use crate::name::{Consumer, EventId, Queue as QueueName, Tick, Token, WorkerId};
use crate::reply::{Arrival, Event};
use alloc::collections::VecDeque;
use alloc::format;

/// Subscriptions of one queue beyond this share the last bit, and are not told apart by Q3.
pub(super) const BITS: usize = 32;

pub(super) struct Subscription {
    pub(super) queue: u8,
    /// The tick at which it began; none if the reply was lost, and no window was given out yet.
    pub(super) start: Option<u32>,
    /// Its bit in [`Entry::acknowledged`](super::log::Entry::acknowledged).
    pub(super) bit: u32,
    /// All windows up to this tick are finished.
    pub(super) finished: u32,
    /// All events before this position have been looked at: they are acknowledged, or were told as lost.
    pub(super) position: u32,
    /// Windows that were given out and are not, or not all before them, finished; by tick.
    pub(super) ranges: VecDeque<Range>,
}

/// A window that was given out.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) prev: u32,
    pub(super) next: u32,
    pub(super) holder: WorkerId,
    pub(super) is_done: bool,
    /// The record of the claim that gave it out first.
    given: u32,
    /// How often something went wrong for its holder, so that steps of it may run again.
    pub(super) excuses: u32,
    /// How often it was taken over, as far as anyone was told.
    pub(super) takeovers: u32,
    /// How many replies to hand-outs of its events were lost.
    pub(super) lost_hand_outs: u16,
    /// One of them befell the present holder, who has started nothing since: an abort, then its death, then the takeover
    /// from it are one failure, however often it is told.
    is_excused: bool,
    /// A former holder whose failure explained the takeover from it: should it live, and start something all the same, the
    /// failure explains that, and the takeover explains itself.
    presumed_dead: Option<WorkerId>,
    /// What a reader saw who read it to its end, and the record of that.
    fingerprint: Option<(u64, u32)>,
}

impl Range {
    /// Something went wrong for the holder.
    pub(super) fn excuse(&mut self) {
        self.excuses += u32::from(!core::mem::replace(&mut self.is_excused, true));
    }

    /// Another takes its place, who may start everything once.
    fn pass_to(&mut self, holder: WorkerId) {
        self.takeovers += 1;
        let was_excused = core::mem::take(&mut self.is_excused);
        self.excuses += u32::from(!was_excused);
        self.presumed_dead = was_excused.then_some(self.holder);
        self.holder = holder;
    }

    /// Somebody starts external work.
    pub(super) fn started_by(&mut self, worker: WorkerId) {
        self.is_excused &= worker != self.holder;
        if self.presumed_dead == Some(worker) {
            self.presumed_dead = None;
            self.excuses += 1;
        }
    }
}

/// How far the holder of a lease has read.
#[derive(Clone, Copy)]
pub(super) struct Progress {
    last: u32,
    count: u32,
    fingerprint: u64,
    /// The pages did not follow one on the other.
    is_broken: bool,
}

impl Range {
    /// The claim that gave it out first.
    pub(super) fn record(&self) -> u32 {
        self.given
    }
}

impl Progress {
    pub(super) const NEW: Progress = Progress { last: 0, count: 0, fingerprint: 0, is_broken: false };

    /// Whether nothing was read.
    pub(super) const fn is_new(&self) -> bool {
        self.count == 0
    }
}

impl Pass<'_> {
    pub(super) fn subscribed(&mut self, done: Done, queue: QueueName, consumer: Consumer, cursor: Option<Tick>) {
        if let Some(cursor) = cursor {
            self.know_tick(done.record(), queue, cursor);
        }
        let index = consumer.0 as usize;
        if self.memory.subscriptions.len() <= index {
            self.memory.subscriptions.resize_with(index + 1, || None);
        }
        if self.memory.subscriptions[index].is_some() {
            return;
        }
        let log = self.queue(queue);
        log.consumers.push(consumer.0);
        let bit = 1u32 << (log.consumers.len() - 1).min(BITS - 1);
        let start = cursor.map(|cursor| cursor.0);
        let position = start.map_or(log.seen_base, |start| log.end_of(start).max(log.seen_base));
        self.memory.subscriptions[index] = Some(Subscription {
            queue: queue.0,
            start,
            bit,
            finished: start.unwrap_or(0),
            position,
            ranges: VecDeque::new(),
        });
    }

    pub(super) fn subscription(&mut self, consumer: u8) -> Option<&mut Subscription> {
        self.memory.subscriptions.get_mut(consumer as usize)?.as_mut()
    }

    /// A window that moves on from the cursor is given out.
    pub(super) fn window_given(&mut self, done: Done, consumer: u8, (prev, next): (Tick, Tick), holder: WorkerId) {
        self.found.exercised(Property::Q4);
        let Some(queue) = self.subscription(consumer).map(|subscription| QueueName(subscription.queue)) else { return };
        self.know_ends(done, queue, (prev, next));
        let start = self.queue(queue).end_of(prev.0);
        let Some(subscription) = self.subscription(consumer) else { return };
        if subscription.start.is_none() {
            subscription.start = Some(prev.0);
            subscription.finished = prev.0;
            subscription.position = subscription.position.max(start);
        }
        let ranges = &mut subscription.ranges;
        let place = ranges.partition_point(|range| range.prev < prev.0);
        let before = place.checked_sub(1).map(|place| ranges[place]).filter(|range| range.next > prev.0);
        let after = ranges.get(place).copied().filter(|range| range.prev < next.0);
        let range = Range {
            prev: prev.0,
            next: next.0,
            holder,
            is_done: false,
            given: done.record(),
            excuses: 0,
            takeovers: 0,
            lost_hand_outs: 0,
            is_excused: false,
            presumed_dead: None,
            fingerprint: None,
        };
        match before.or(after) {
            None if prev.0 >= subscription.finished => ranges.insert(place, range),
            None => self.given_again(done, consumer, (prev, next)),
            Some(other) => {
                if let Some(same) = ranges.get_mut(place).filter(|same| same.prev == prev.0 && same.next == next.0) {
                    same.holder = holder;
                }
                self.overlaps(done, consumer, (prev, next), other);
            }
        }
    }

    fn know_ends(&mut self, done: Done, queue: QueueName, (prev, next): (Tick, Tick)) {
        let clue = Clue(self.history);
        for tick in [prev, next] {
            if !self.know_tick(done.record(), queue, tick) {
                self.found.violated(Property::Q4, &[done.record()], || {
                    format!(
                        "the window ({prev},{next}] was given out at {}, and nobody took tick {tick}",
                        clue.at(done.record())
                    )
                });
            }
        }
        if next <= prev {
            self.found.violated(Property::Q4, &[done.record()], || {
                format!(
                    "the window ({prev},{next}] was given out at {}, which ends before it starts",
                    clue.at(done.record())
                )
            });
        }
    }

    fn given_again(&mut self, done: Done, consumer: u8, (prev, next): (Tick, Tick)) {
        let clue = Clue(self.history);
        let finished = self.subscription(consumer).map_or(Tick(0), |subscription| Tick(subscription.finished));
        self.found.violated(Property::Q4, &[done.record()], || {
            let (consumer, at) = (Consumer(consumer), clue.at(done.record()));
            format!(
                "{consumer} was given the window ({prev},{next}] at {at}, although all up to {finished} was finished"
            )
        });
    }

    fn overlaps(&mut self, done: Done, consumer: u8, (prev, next): (Tick, Tick), other: Range) {
        let clue = Clue(self.history);
        let records = [other.given, done.record()];
        let sentence = || {
            let (other_prev, other_next, holder) = (Tick(other.prev), Tick(other.next), other.holder);
            let (at, before, consumer) = (clue.at(done.record()), clue.at(other.given), Consumer(consumer));
            format!(
                "{consumer} gave out the window ({prev},{next}] at {at}, and ({other_prev},{other_next}] to {holder} at {before}"
            )
        };
        self.found.violated(Property::Q4, &records, sentence);
        if !other.is_done {
            self.found.violated(Property::Q8, &records, || format!("two live tokens: {}", sentence()));
        }
    }

    /// A window moves from a victim to another worker. `was` is the victim's, as far as it is known.
    pub(super) fn window_moved(
        &mut self,
        done: Done,
        consumer: u8,
        (prev, next): (Tick, Tick),
        holder: WorkerId,
        was: Option<(u32, u32)>,
    ) {
        self.found.exercised(Property::Q4);
        let clue = Clue(self.history);
        if let Some(was) = was.filter(|was| *was != (prev.0, next.0)) {
            self.found.violated(Property::Q4, &[done.record()], || {
                let (at, was) = (clue.at(done.record()), (Tick(was.0), Tick(was.1)));
                format!("{holder} took over ({prev},{next}] at {at}, but its victim had ({},{}]", was.0, was.1)
            });
        }
        let Some(subscription) = self.subscription(consumer) else { return };
        let known = subscription.ranges.iter_mut().find(|range| range.prev == prev.0 && range.next == next.0);
        match known {
            Some(range) => range.pass_to(holder),
            None if next.0 > subscription.finished => {
                self.window_given(done, consumer, (prev, next), holder);
                let range = self.range_of(consumer, (prev.0, next.0));
                range.into_iter().for_each(|range| range.pass_to(holder));
            }
            None => {}
        }
    }

    pub(super) fn range_of(&mut self, consumer: u8, (prev, next): (u32, u32)) -> Option<&mut Range> {
        let subscription = self.subscription(consumer)?;
        subscription.ranges.iter_mut().find(|range| range.prev == prev && range.next == next)
    }

    /// A page was read: with the last one, the whole window is compared with what it should be, and was before.
    pub(super) fn page_read(
        &mut self,
        index: u32,
        worker: WorkerId,
        token: Token,
        (after, limit): (EventId, u32),
        events: &[Event],
    ) {
        let Some(known) = self.memory.workers.get_mut(worker.0).filter(|known| known.token == token) else { return };
        let progress = &mut known.progress;
        match after.0 {
            0 => *progress = Progress::NEW,
            _ => self.found.sees(Reach::PagedRead),
        }
        progress.is_broken |= progress.last != after.0;
        for event in events {
            progress.is_broken |= event.id.0 <= progress.last;
            progress.last = event.id.0;
            progress.fingerprint = progress.fingerprint.wrapping_add(fingerprint(event));
        }
        progress.count += events.len() as u32;
        if progress.is_broken || events.len() as u64 >= u64::from(limit) {
            return;
        }
        let (progress, consumer, window) = (*progress, known.consumer, known.window);
        let Some(queue) = self.subscription(consumer).map(|subscription| subscription.queue) else { return };
        self.judge_complete(index, (worker, token), queue, window.0, window.1, progress.count);
        self.compare_reads(index, consumer, window, progress.fingerprint);
    }

    fn compare_reads(&mut self, index: u32, consumer: u8, window: (u32, u32), fingerprint: u64) {
        let clue = Clue(self.history);
        let Some(range) = self.range_of(consumer, window) else { return };
        let before = range.fingerprint.get_or_insert((fingerprint, index));
        let (expected, first) = *before;
        if first == index {
            return;
        }
        self.found.exercised(Property::Q6);
        self.found.sees(Reach::Redelivery);
        if expected != fingerprint {
            self.found.violated(Property::Q6, &[first, index], || {
                let (prev, next) = (Tick(window.0), Tick(window.1));
                format!(
                    "the window ({prev},{next}] of {} had other events at {} than at {}",
                    Consumer(consumer),
                    clue.at(index),
                    clue.at(first)
                )
            });
        }
    }
}

/// Order does not matter, content does.
fn fingerprint(event: &Event) -> u64 {
    let mut mixed = u64::from(event.id.0) << 32 | u64::from(event.xid.0);
    let arrival = match event.arrival {
        Arrival::Direct => 0,
        Arrival::TimedOut => 1,
        Arrival::Emitted { payload } => payload.wrapping_mul(2).wrapping_add(3),
        Arrival::Joined { join } => u64::from(join.0) << 2 | 2,
    };
    let step = u64::from(event.attempt) << 16 | u64::from(event.step.0) | arrival << 32;
    for part in [event.state, u64::from(event.workflow.0) << 32 | u64::from(event.sequence), step] {
        mixed = (mixed ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    mixed
}
