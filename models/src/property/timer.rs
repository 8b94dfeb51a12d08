//! Timers: what is scheduled, what becomes of it, and when. T1 to T5.
//!
//! A timer is the event that it will be, under the same id: scheduled by a sleep, by a retry with a delay, or for a
//! message. It ends once: it fires (a committed drain names it), is cancelled, or is a dead letter.
//!
//! - **T1** No timer fires before it is due: before the call that scheduled it plus its delay, by the server's clock; nor
//!   at a tick taken before the due time that the server told. Broken by deadlines on the worker's clock.
//! - **T2** A timer that is pending at the end has its row. (Of rounds that leave one behind: [`drain`](super::drain).) Broken by a
//!   rotation that leaves some behind.
//! - **T3** A timer fires at most once, and not if it was cancelled. Broken by cancelling without the cursor's lock.
//! - **T4** After the faults, a committed timer fires within the liveness bound from its due time on, or is a dead letter.
//!   Broken by one that cannot be delivered and blocks all others.
//! - **T5** The event that a timer becomes is delivered, and a timer's row is kept, with the workflow, sequence, step,
//!   attempt and state with which it was scheduled. Broken by a queue of timers that forgets the workflow.
//!
//! A drain whose reply was lost may have fired whatever was due by then; what it did shows when somebody is handed the
//! event, or in the rows at the end.

use super::checker::{Done, Pass};
use super::clue::Clue;
use super::content::{Content, self_of};
use super::drain::Cursor;
use super::log::Entry;
use super::transactions::NONE;
use super::{Property, Reach};
use crate::name::{EventId, Micros, Queue, Tick, Xid};
use crate::reply::{Event, Reply};
use crate::state::{DeadReason, State};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;

/// How long from when, and until when as far as the server said it.
#[derive(Clone, Copy)]
pub(super) struct Delay {
    pub(super) delay: Micros,
    pub(super) told: Option<Micros>,
}

/// A committed timer that has not fired.
#[derive(Clone, Copy)]
pub(super) struct Timer {
    queue: u8,
    pub(super) content: Content,
    pub(super) xid: Xid,
    pub(super) born: u32,
    commit: u32,
    /// The earliest and the latest time at which it can be due, on the server's clock.
    pub(super) due: (Micros, Micros),
    pub(super) told: Option<Micros>,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pending,
    /// The reply to a cancellation was lost.
    Undecided,
    Cancelled(u32),
    /// Told as lost.
    Lost,
}

#[derive(Default)]
pub(super) struct Timers {
    by_id: BTreeMap<u32, Timer>,
    /// Those that wait, by queue and the latest time at which they are due.
    pub(super) waiting: BTreeSet<(u8, Micros, u32)>,
    /// Fired, and nobody was told who scheduled it.
    untold: BTreeMap<u32, (Done, u8, u8)>,
    pub(super) cursors: BTreeMap<u8, Cursor>,
}

impl Timers {
    pub(super) fn clear(&mut self) {
        self.by_id.clear();
        self.waiting.clear();
        self.untold.clear();
        self.cursors.clear();
    }

    /// The tick that the next round of drains may still need, if any of a queue's timers waits.
    pub(super) fn needs(&self, queue: u8) -> Option<u32> {
        if self.waiting.is_empty() {
            return None;
        }
        self.waiting.range((queue, Micros(0), 0)..).next().filter(|(other, ..)| *other == queue)?;
        self.cursors.get(&queue).map(|cursor| cursor.done)
    }

    /// Whether some drain of some queue may have fired more than anyone was told.
    pub(super) fn has_lost_drain(&self) -> bool {
        self.cursors.values().any(|cursor| cursor.lost.is_some())
    }

    /// How many of a queue's workflows sleep.
    pub(super) fn sleeping(&self, queue: u8) -> usize {
        let waiting = self.waiting.range((queue, Micros(0), 0)..=(queue, Micros(u64::MAX), u32::MAX));
        waiting.filter(|(.., id)| self.by_id.get(id).is_some_and(|timer| timer.content.workflow.0 != 0)).count()
    }

    /// One that waits.
    pub(super) fn pending(&self, id: u32) -> Option<&Timer> {
        self.by_id.get(&id).filter(|timer| timer.fate == Fate::Pending)
    }

    /// The one that is due first, and those whose cancellation is open left out.
    pub(super) fn first(&self) -> Option<(EventId, Timer)> {
        let waiting = self.waiting.iter().filter_map(|(.., id)| Some((EventId(*id), *self.pending(*id)?)));
        waiting.min_by_key(|(_, timer)| timer.due.1)
    }
}

impl Timer {
    pub(super) const fn queue(&self) -> Queue {
        Queue(self.queue)
    }
}

impl Pass<'_> {
    /// A committed call scheduled an event.
    pub(super) fn scheduled(&mut self, done: Done, queue: Queue, id: EventId, content: Content, delay: Delay) {
        self.found.sees(Reach::TimerScheduled);
        self.found.exercised(Property::D5);
        let clue = Clue(self.history);
        let is_known = self.memory.timers.by_id.contains_key(&id.0)
            || self.memory.events.get(id.0).is_some()
            || self.memory.events.is_retired(id.0);
        if is_known {
            return self.found.violated(Property::D5, &[done.record()], || {
                format!("{id} was given out again at {}, and both transactions committed", clue.at(done.record()))
            });
        }
        let (earliest, latest) = self.server_time(done);
        let due = (after(earliest, delay.delay), after(latest, delay.delay));
        let timer = Timer {
            queue: queue.0,
            content,
            xid: done.xid,
            born: done.record(),
            commit: done.commit,
            due,
            told: delay.told,
            fate: Fate::Pending,
        };
        self.memory.timers.by_id.insert(id.0, timer);
        self.memory.timers.waiting.insert((queue.0, due.1, id.0));
        self.memory.timers.cursors.entry(queue.0).or_insert(Cursor::NEW);
        if let Some((fired, queue, table)) = self.memory.timers.untold.remove(&id.0) {
            self.fire(fired, Queue(queue), id, table);
        }
    }

    /// The clock of the tick and the due time that was told are both the server's, so they are compared exactly.
    pub(super) fn judge_early(&mut self, done: Done, queue: Queue, tick: Tick, id: u32) {
        let clue = Clue(self.history);
        let Some(timer) = self.memory.timers.by_id.get(&id).copied() else { return };
        let Some(due) = timer.told else { return };
        let taken = self.queue(queue).tick(tick.0).and_then(|tick| tick.told_at());
        if let Some(taken) = taken.filter(|taken| *taken < due) {
            self.found.violated(Property::T1, &[timer.born, done.record()], || {
                let (id, at) = (EventId(id), clue.at(done.record()));
                format!("{id} was due at {due}, and was delivered at {at} as due at {tick}, which was taken at {taken}")
            });
        }
    }

    /// A committed drain made an event of a timer.
    pub(super) fn fire(&mut self, done: Done, queue: Queue, id: EventId, table: u8) {
        self.found.exercised(Property::T3);
        if !self.memory.timers.by_id.contains_key(&id.0) {
            let is_fired = self.memory.events.get(id.0).is_some() || self.memory.events.is_retired(id.0);
            if is_fired || self.memory.timers.untold.contains_key(&id.0) {
                return self.fired_again(done, id);
            }
            // Whoever scheduled it may have the reply still under way; then it comes back here.
            self.memory.timers.untold.insert(id.0, (done, queue.0, table));
            self.settle_birth(done.record(), id);
            return;
        }
        let Some(timer) = self.memory.timers.by_id.remove(&id.0) else { return };
        self.memory.timers.waiting.remove(&(timer.queue, timer.due.1, id.0));
        if let Fate::Cancelled(cancelled) = timer.fate {
            self.both_cancelled_and_fired(id, cancelled, done.record());
        }
        self.judge_fire(done, id, &timer);
        let mut entry = Entry::new(done, Queue(timer.queue), table, timer.content.of_event());
        entry.attempt = timer.content.attempt;
        entry.is_timer = true;
        self.add_event(done, id, entry);
        self.arrives(id, Some(timer.content.arrival));
        if timer.queue != queue.0 {
            let clue = Clue(self.history);
            self.found.violated(Property::T5, &[timer.born, done.record()], || {
                let (was, at) = (Queue(timer.queue), clue.at(done.record()));
                format!("{id} was scheduled on {was}, and fired at {at} on {queue}")
            });
        }
    }

    /// T1 and T4 of one that fires.
    fn judge_fire(&mut self, done: Done, id: EventId, timer: &Timer) {
        let clue = Clue(self.history);
        self.found.sees(Reach::TimerFired);
        self.found.exercised(Property::T1);
        let ended = if done.end() == NONE { done.call } else { done.end() };
        let fired_at = self.memory.server_clock.latest(self.history, done.call, ended);
        if fired_at < timer.due.0 {
            self.found.violated(Property::T1, &[timer.born, done.record()], || {
                let (due, born) = (timer.due.0, clue.at(timer.born));
                format!("{id}, scheduled at {born}, fired at {fired_at}, and was not due before {due}")
            });
        }
        if timer.commit != NONE && self.memory.server_clock.at(self.history, timer.commit) > timer.due.1 {
            self.found.sees(Reach::TimerFiredLatePath);
        }
        let header = &self.history.header;
        let (at, since) = (clue.at(ended), self.due_since(timer));
        if at > header.faults_end {
            self.found.exercised(Property::T4);
        }
        if at - since > header.liveness_bound {
            self.found.violated(Property::T4, &[timer.born, done.record()], || {
                let (due, late) = (timer.due.1, at - since);
                format!("{id}, due at {due}, fired only at {at}, {late} after it could have")
            });
        }
    }

    /// Since when a timer could have fired, faults aside.
    fn due_since(&self, timer: &Timer) -> Micros {
        let committed = Clue(self.history).at(if timer.commit == NONE { timer.born } else { timer.commit });
        timer.due.1.max(committed).max(self.history.header.faults_end)
    }

    fn fired_again(&mut self, done: Done, id: EventId) {
        let clue = Clue(self.history);
        let first = self.memory.events.get(id.0).map_or(NONE, |known| known.born);
        self.found.violated(Property::T3, &[first, done.record()], || {
            let (before, at) = (told_at(clue, first), clue.at(done.record()));
            format!("{id} fired twice: {before}, and at {at}")
        });
    }

    fn both_cancelled_and_fired(&mut self, id: EventId, cancelled: u32, fired: u32) {
        let clue = Clue(self.history);
        self.found.violated(Property::T3, &[cancelled, fired], || {
            let (by, then) = (clue.process(cancelled), clue.at(cancelled));
            format!("{id} was cancelled by {by} at {then}, and fired {}", told_at(clue, fired))
        });
    }

    /// A timer that cannot become an event became a dead letter.
    pub(super) fn timer_undeliverable(&mut self, done: Done, queue: Queue, id: EventId) {
        if !self.memory.timers.by_id.contains_key(&id.0) {
            self.settle_birth(done.record(), id);
        }
        let Some(timer) = self.memory.timers.by_id.remove(&id.0) else {
            return self.dead_letter_untold(done, queue, id);
        };
        self.memory.timers.waiting.remove(&(timer.queue, timer.due.1, id.0));
        if let Fate::Cancelled(cancelled) = timer.fate {
            self.both_cancelled_and_fired(id, cancelled, done.record());
        }
        let consumer = match timer.content.workflow.0 {
            0 => 0,
            _ => self.queue(queue).consumers.first().copied().unwrap_or_default(),
        };
        self.found.sees(Reach::TimerDeadLetter);
        self.judge_undeliverable(done, id, &timer.content, timer.born);
        self.dead_letter(done, consumer, queue, id, DeadReason::Undeliverable, &timer.content);
        self.workflow_died(done, timer.content.workflow);
    }

    /// Whoever appended or scheduled this id may have the reply still under way.
    pub(super) fn settle_birth(&mut self, index: u32, id: EventId) -> bool {
        let history = self.history;
        self.settle(index, |_, reply| match reply {
            Reply::Appended { event, .. }
            | Reply::Started { event, .. }
            | Reply::Scheduled { event, .. }
            | Reply::Replayed { event, .. } => *event == id,
            Reply::HandedOff { appended, resumed, .. } => {
                history.ids(*appended).contains(&id.0) || history.ids(*resumed).contains(&id.0)
            }
            Reply::Drained { fired, resumed, .. } => {
                history.ids(*fired).contains(&id.0) || history.ids(*resumed).contains(&id.0)
            }
            Reply::HandedOut { resumed, .. } | Reply::Expired { resumed, .. } => history.ids(*resumed).contains(&id.0),
            Reply::Emitted { event, .. } => *event == id,
            _ => false,
        })
    }

    pub(super) fn left_behind(&mut self, done: Done, queue: Queue, tick: Tick, id: EventId) {
        let clue = Clue(self.history);
        let Some(timer) = self.memory.timers.by_id.get_mut(&id.0) else { return };
        timer.fate = Fate::Lost;
        let timer = *timer;
        self.memory.timers.waiting.remove(&(timer.queue, timer.due.1, id.0));
        self.found.violated(Property::T2, &[timer.born, timer.commit, done.record()], || {
            let (who, due) = (self_of(clue, &timer.content), timer.told.unwrap_or(timer.due.1));
            format!(
                "{id} ({who}), scheduled at {} and due at {due}, is lost: the round of {queue} at {tick} sees it, and was \
                 done at {} without it",
                clue.at(timer.born),
                clue.at(done.record())
            )
        });
    }

    pub(super) fn cancelled(&mut self, done: Done, id: EventId) {
        self.found.sees(Reach::TimerCancelled);
        self.found.exercised(Property::T3);
        if !self.memory.timers.by_id.contains_key(&id.0) {
            self.settle_birth(done.record(), id);
        }
        let Some(timer) = self.memory.timers.by_id.get_mut(&id.0) else {
            let fired = match self.memory.events.get(id.0) {
                Some(known) if known.is_timer => known.born,
                None if self.memory.events.is_retired(id.0) => NONE,
                _ => return,
            };
            return self.both_cancelled_and_fired(id, done.record(), fired);
        };
        timer.fate = Fate::Cancelled(done.record());
        let timer = *timer;
        self.memory.timers.waiting.remove(&(timer.queue, timer.due.1, id.0));
        self.workflow_lost(done.record(), timer.content.workflow);
    }

    /// Nobody knows whether it was cancelled, or too late.
    pub(super) fn cancel_lost(&mut self, id: EventId) {
        if let Some(timer) = self.memory.timers.by_id.get_mut(&id.0)
            && timer.fate == Fate::Pending
        {
            timer.fate = Fate::Undecided;
        }
    }

    /// Somebody is handed an event that was a timer when it was last heard of. True if a lost drain explains it.
    pub(super) fn meet_timer(&mut self, event: &Event) -> bool {
        let Some(timer) = self.memory.timers.by_id.get(&event.id.0) else { return false };
        let queue = timer.queue;
        let Some((lost, _)) = self.memory.timers.cursors.get(&queue).and_then(|cursor| cursor.lost) else {
            return false;
        };
        self.memory.no_doubt(lost.call);
        let done = Done { xid: event.xid, ..lost };
        self.fire(done, Queue(queue), event.id, super::log::UNTOLD_TABLE);
        true
    }

    /// Somebody is handed an event that a drain had named, and whose id nobody was told before.
    pub(super) fn untold_met(&mut self, id: EventId) {
        self.memory.timers.untold.remove(&id.0);
    }

    /// Whether an event that nobody was told of may be what a drain made of a timer.
    pub(super) fn may_have_fired(&self, id: EventId) -> bool {
        let timers = &self.memory.timers;
        timers.by_id.contains_key(&id.0) || timers.untold.contains_key(&id.0)
    }

    /// The rows of the timers at the end.
    pub(super) fn compare_timers(&mut self, state: &State) {
        for row in &state.events {
            self.meet_timer(&row.event);
        }
        let clue = Clue(self.history);
        let mut rows: BTreeSet<u32> = BTreeSet::new();
        for row in &state.timers {
            rows.insert(row.event.id.0);
            self.compare_timer(row.event, row.queue, row.table);
        }
        let gone =
            self.memory.timers.by_id.iter().find(|(id, timer)| timer.fate == Fate::Pending && !rows.contains(id));
        if let Some((id, timer)) = gone.map(|(id, timer)| (EventId(*id), *timer)) {
            self.found.violated(Property::T2, &[timer.born], || {
                let (who, born, due) = (self_of(clue, &timer.content), clue.at(timer.born), timer.due.1);
                let queue = Queue(timer.queue);
                format!("{id} ({who}), scheduled at {born} and due at {due}, has not fired, and its row is gone from {queue} at the end")
            });
        }
    }

    fn compare_timer(&mut self, event: Event, queue: Queue, table: u8) {
        let clue = Clue(self.history);
        let id = event.id;
        let Some(timer) = self.memory.timers.by_id.get(&id.0).copied() else {
            let is_known = self.memory.events.get(id.0).is_some()
                || self.memory.events.is_retired(id.0)
                || self.memory.timers.untold.contains_key(&id.0)
                || self.memory.dead_letters.is_dead(id);
            if !is_known && self.memory.missing.is_empty() {
                self.found.violated(Property::D2, &[], || {
                    format!("{id} lies in timer table {table} of {queue} at the end, and no committed transaction scheduled it")
                });
            }
            return;
        };
        self.found.exercised(Property::T5);
        if let Fate::Cancelled(cancelled) = timer.fate {
            self.found.violated(Property::T3, &[cancelled], || {
                let (by, at) = (clue.process(cancelled), clue.at(cancelled));
                format!(
                    "{id} was cancelled by {by} at {at}, and still lies in timer table {table} of {queue} at the end"
                )
            });
        }
        let kept = Content::of(&event);
        if kept != timer.content {
            self.not_intact(id, timer.born, NONE, (&timer.content, &kept), "lies in its table at the end");
        }
    }

    /// T5: what was scheduled is not what it was.
    pub(super) fn not_intact(
        &mut self,
        id: EventId,
        born: u32,
        index: u32,
        (was, is): (&Content, &Content),
        how: &str,
    ) {
        let clue = Clue(self.history);
        self.found.violated(Property::T5, &[born, index], || {
            format!("{id} was scheduled as {}, and {how} as {}", was.told(clue), is.told(clue))
        });
    }

    /// At an end that is late enough: no timer is due for longer than the bound.
    pub(super) fn judge_late_timers(&mut self, end: Micros, bound: Micros) {
        let clue = Clue(self.history);
        let Some((id, timer)) = self.memory.timers.first() else { return };
        let since = self.due_since(&timer);
        self.found.exercised(Property::T4);
        if end < since || end - since < bound {
            return;
        }
        let drained = self.memory.timers.cursors.get(&timer.queue).map_or(NONE, |cursor| cursor.record);
        self.found.violated(Property::T4, &[timer.born, drained], || {
            let (who, due) = (self_of(clue, &timer.content), timer.due.1);
            let told = clue.drains_since(Queue(timer.queue), since);
            format!(
                "{id} ({who}) is due since {due} and has not fired at {end}: it waits for a drain of {}, {told}",
                Queue(timer.queue)
            )
        });
    }
}

fn told_at(clue: Clue<'_>, record: u32) -> String {
    if record == NONE { String::from("before") } else { format!("at {}", clue.at(record)) }
}

fn after(start: Micros, delay: Micros) -> Micros {
    Micros(start.0.saturating_add(delay.0))
}
