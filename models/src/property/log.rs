//! The log: events, ticks, and which event becomes visible at which tick. Q7, Q14, and D5 for events.
//!
//! - **Q14** Over the committed ticks of a queue in the order of their numbers, what the snapshots see only grows and
//!   the clock does not fall; no number occurs twice; a tick that commits when a later number had committed already is
//!   late. Broken by two tickers at once, and by a tick under an old snapshot.
//! - **Q7** If a transaction had committed before another began, its events become visible at the same tick or an
//!   earlier one. (By ticks, which is finer than by windows, and follows from snapshots as PostgreSQL takes them.)
//!   Broken by going by ids.
//! - **D5** No event id is given out that a committed transaction had been given.

use super::checker::{Done, Pass};
use super::clue::Clue;
use super::transactions::NONE;
use super::{Property, Reach};
use crate::history::History;
use crate::name::{EventId, Micros, Queue as QueueName, Tick, WorkflowId, Xid};
use crate::op::QueueKind;
use crate::record::Span;
use crate::reply::SnapshotOf;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec::Vec;

/// The sequence of an event whose append did not say it: that of a start, until it is delivered.
pub(super) const UNTOLD: u32 = u32::MAX;
/// The table of an event whose append nobody was told of.
pub(super) const UNTOLD_TABLE: u8 = u8::MAX;

/// A committed event.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) state: u64,
    pub(super) xid: Xid,
    pub(super) workflow: WorkflowId,
    pub(super) sequence: u32,
    /// The first tick that sees it, or 0 as long as none does.
    pub(super) tick: u32,
    /// A bit for each subscription of its queue.
    pub(super) acknowledged: u32,
    /// How often external work was started for it: four bits for each of the first sixteen subscriptions.
    pub(super) attempts: u64,
    /// The record that told of it, or the call if the reply was lost.
    pub(super) born: u32,
    /// The handoff that continued its workflow, or [`NONE`].
    pub(super) consumed: u32,
    pub(super) step: u16,
    /// 1, or more where its step is retried.
    pub(super) attempt: u16,
    /// One more than that of the program by which it was worked on first; 0 before.
    pub(super) version: u16,
    pub(super) queue: u8,
    pub(super) table: u8,
    /// Committed effects of its step.
    pub(super) effects: u8,
    /// All subscriptions that were to have it are done with it.
    pub(super) is_finished: bool,
    pub(super) is_truncated: bool,
    /// It was a timer.
    pub(super) is_timer: bool,
}

pub(super) struct TickEntry {
    pub(super) number: u32,
    at: Micros,
    xmax: Xid,
    in_progress: Span,
    asked_at: Micros,
    pub(super) commit: u32,
    /// How many events had been seen by a tick when this one had been taken.
    pub(super) end: u32,
    /// False for a tick whose reply was lost: only that it exists is known.
    pub(super) is_told: bool,
}

/// A committed event that no tick sees yet.
struct Pending {
    event: u32,
    xid: Xid,
    begun: u32,
    commit: u32,
}

pub(super) struct Queue {
    pub(super) kind: Option<QueueKind>,
    pub(super) current_table: u8,
    pub(super) ticks: VecDeque<TickEntry>,
    /// Events that a tick sees and that somebody is not done with, in the order of their ticks.
    pub(super) seen: VecDeque<u32>,
    /// How many left `seen` at its front.
    pub(super) seen_base: u32,
    pending: Vec<Pending>,
    /// The latest start of a transaction among the events that earlier ticks saw, and its event.
    latest_begin: (u32, u32),
    pub(super) tables: [Vec<u32>; 3],
    /// The consumers, in the order in which they subscribed; the position is the bit in [`Entry::acknowledged`].
    pub(super) consumers: Vec<u8>,
    pub(super) lost_ticks: u32,
    pub(super) storage: super::storage::Rotation,
}

impl Queue {
    pub(super) fn new() -> Self {
        Queue {
            kind: None,
            current_table: 0,
            ticks: VecDeque::new(),
            seen: VecDeque::new(),
            seen_base: 0,
            pending: Vec::new(),
            latest_begin: (0, NONE),
            tables: [const { Vec::new() }; 3],
            consumers: Vec::new(),
            lost_ticks: 0,
            storage: super::storage::Rotation::new(),
        }
    }

    pub(super) fn reset(&mut self) {
        self.kind = None;
        self.current_table = 0;
        self.ticks.clear();
        self.seen.clear();
        self.seen_base = 0;
        self.pending.clear();
        self.latest_begin = (0, NONE);
        self.tables.iter_mut().for_each(Vec::clear);
        self.consumers.clear();
        self.lost_ticks = 0;
        self.storage = super::storage::Rotation::new();
    }

    pub(super) fn seen_end(&self) -> u32 {
        self.seen_base + self.seen.len() as u32
    }

    pub(super) fn place(&self, number: u32) -> Result<usize, usize> {
        // Numbers are nearly dense, so the tick is where the distance to the last one says, or close to it.
        let Some(last) = self.ticks.back() else { return Err(0) };
        let guess = (self.ticks.len() - 1).checked_sub(last.number.wrapping_sub(number) as usize);
        match guess.and_then(|guess| Some((guess, self.ticks.get(guess)?))) {
            Some((guess, tick)) if tick.number == number => Ok(guess),
            _ => self.ticks.binary_search_by_key(&number, |tick| tick.number),
        }
    }

    pub(super) fn tick(&self, number: u32) -> Option<&TickEntry> {
        self.place(number).ok().map(|place| &self.ticks[place])
    }

    /// How many events of the queue had been seen at this tick; of an unknown tick, at the one before it.
    pub(super) fn end_of(&self, number: u32) -> u32 {
        match self.place(number) {
            Ok(place) => self.ticks[place].end,
            Err(0) => 0,
            Err(place) => self.ticks[place - 1].end,
        }
    }

    /// An event that no tick sees yet.
    pub(super) fn first_pending(&self) -> Option<u32> {
        self.pending.first().map(|pending| pending.event)
    }

    /// Those that no tick sees yet.
    pub(super) fn pending_events(&self) -> impl Iterator<Item = u32> + '_ {
        self.pending.iter().map(|pending| pending.event)
    }
}

impl TickEntry {
    /// When it was taken, on the server's clock; none of one whose reply was lost.
    pub(super) fn told_at(&self) -> Option<Micros> {
        self.is_told.then_some(self.at)
    }

    /// The earliest time at which it can have been taken, on the server's clock.
    pub(super) const fn asked_at(&self) -> Micros {
        self.asked_at
    }

    pub(super) fn sees(&self, history: &History, xid: Xid) -> bool {
        xid < self.xmax && (self.in_progress.len == 0 || !history.ids(self.in_progress).contains(&xid.0))
    }
}

impl Pass<'_> {
    pub(super) fn queue(&mut self, queue: QueueName) -> &mut Queue {
        let index = queue.0 as usize;
        if self.memory.queues.len() <= index {
            self.memory.queues.resize_with(index + 1, Queue::new);
        }
        &mut self.memory.queues[index]
    }

    pub(super) fn appended(&mut self, done: Done, queue: QueueName, payload: u64, event: EventId, table: u8) {
        let entry = Entry::new(done, queue, table, (WorkflowId(0), 0, 0, payload));
        self.add_event(done, event, entry);
    }

    /// A committed event enters the log.
    pub(super) fn add_event(&mut self, done: Done, event: EventId, entry: Entry) {
        self.found.exercised(Property::D5);
        if self.memory.events.get(event.0).is_some() || self.memory.events.is_retired(event.0) {
            let clue = Clue(self.history);
            self.found.violated(Property::D5, &[done.record()], || {
                format!("{event} was given out again at {}, and both transactions committed", clue.at(done.record()))
            });
            return;
        }
        let history = self.history;
        let queue = self.queue(QueueName(entry.queue));
        if (entry.table as usize) < queue.tables.len() {
            queue.tables[entry.table as usize].push(event.0);
        }
        let is_late_table = entry.table != queue.current_table && entry.table != UNTOLD_TABLE;
        let is_late = entry.xid.0 != 0 && queue.ticks.back().is_some_and(|tick| tick.sees(history, entry.xid));
        if !is_late && entry.xid.0 != 0 {
            queue.pending.push(Pending { event: event.0, xid: entry.xid, begun: done.begun, commit: done.commit });
        }
        self.memory.events.insert(event.0, entry);
        if is_late_table {
            self.found.sees(Reach::LateAppend);
        }
        if is_late {
            self.seen_late(event.0, entry.xid, entry.queue);
        }
    }

    /// An event whose append is known only after a tick that sees it: it gets its place among what that tick saw.
    fn seen_late(&mut self, event: u32, xid: Xid, queue: u8) {
        let history = self.history;
        let log = &mut self.memory.queues[queue as usize];
        let mut place = log.ticks.len() - 1;
        while place > 0 && log.ticks[place - 1].sees(history, xid) {
            place -= 1;
        }
        let position = log.ticks[place].end.max(log.seen_base);
        log.ticks.iter_mut().skip(place).for_each(|tick| tick.end += 1);
        let number = log.ticks[place].number;
        log.seen.insert((position - log.seen_base) as usize, event);
        if let Some(entry) = self.memory.events.get_mut(event) {
            entry.tick = number;
        }
        self.insert_behind(queue, event, position);
    }

    pub(super) fn ticked(&mut self, done: Done, queue: QueueName, tick: Tick, at: Micros, snapshot: &SnapshotOf<Span>) {
        let SnapshotOf { xmax, in_progress } = *snapshot;
        if in_progress.len > 0 {
            self.found.sees(Reach::TickInProgress);
        }
        let (asked_at, commit) = (self.server_time(done).0, done.commit);
        let entry = TickEntry { number: tick.0, at, xmax, in_progress, asked_at, commit, end: 0, is_told: true };
        self.found.exercised(Property::Q14);
        let log = self.queue(queue);
        let place = match log.place(tick.0) {
            Ok(place) => return self.tick_repeated(done, queue, place, entry),
            Err(place) => place,
        };
        self.judge_order(done, queue, place, &entry);
        self.insert_tick(queue, place, entry);
    }

    /// Two ticks with one number, or the news of one that a claim had named before its reply was known.
    fn tick_repeated(&mut self, done: Done, queue: QueueName, place: usize, entry: TickEntry) {
        let clue = Clue(self.history);
        let known = &mut self.memory.queues[queue.0 as usize].ticks[place];
        if !known.is_told {
            *known = TickEntry { end: known.end, ..entry };
            return;
        }
        let (commit, number) = (known.commit, known.number);
        self.found.violated(Property::Q14, &[commit, done.record()], || {
            let tick = Tick(number);
            format!(
                "{queue} has two ticks {tick}: one committed at {}, one at {}",
                clue.at(commit),
                clue.at(done.commit)
            )
        });
    }

    fn judge_order(&mut self, done: Done, queue: QueueName, place: usize, entry: &TickEntry) {
        let (history, clue) = (self.history, Clue(self.history));
        let ticks = &self.memory.queues[queue.0 as usize].ticks;
        let number = Tick(entry.number);
        for later in ticks.iter().skip(place).filter(|later| later.commit < done.commit_call) {
            let (later, commit) = (Tick(later.number), later.commit);
            self.found.violated(Property::Q14, &[commit, done.record(), done.commit], || {
                let (at, before) = (clue.at(done.commit), clue.at(commit));
                format!(
                    "tick {number} of {queue} committed at {at}, after tick {later}, which had committed at {before}"
                )
            });
        }
        let before = place.checked_sub(1).and_then(|place| ticks.get(place));
        for (early, late) in [(before, Some(entry)), (Some(entry), ticks.get(place))] {
            let (Some(early), Some(late)) = (early, late) else { continue };
            let Some(what) = goes_back(history, early, late) else { continue };
            let numbers = (Tick(early.number), Tick(late.number));
            let records = [early.commit, late.commit, done.record()];
            self.found.violated(Property::Q14, &records, || match what {
                Back::Clock => format!(
                    "the clock of {queue} went back: tick {} was taken at {}, the later {} at {}",
                    numbers.0, early.at, numbers.1, late.at
                ),
                Back::Snapshot(xid) => format!(
                    "a snapshot of {queue} went back: tick {} sees {xid}, the later {} does not",
                    numbers.0, numbers.1
                ),
            });
        }
    }

    /// Puts a tick in its place and gives it the events that it is the first to see.
    fn insert_tick(&mut self, queue: QueueName, place: usize, mut entry: TickEntry) {
        let history = self.history;
        let log = &mut self.memory.queues[queue.0 as usize];
        let start = place.checked_sub(1).map_or(0, |place| log.ticks[place].end);
        if place == log.ticks.len() {
            if !log.pending.is_empty() {
                self.see_pending(queue, &entry);
            }
            let log = &mut self.memory.queues[queue.0 as usize];
            entry.end = log.seen_end();
            log.ticks.push_back(entry);
            if log.consumers.is_empty() {
                self.trim(queue.0, None);
            }
            return;
        }
        // One that comes late: what the next tick was thought to see first may be this one's.
        let end = log.ticks[place].end;
        let first = start.max(log.seen_base);
        let mut own = first;
        for position in first..end {
            let event = log.seen[(position - log.seen_base) as usize];
            let Some(known) = self.memory.events.get_mut(event) else { continue };
            if entry.sees(history, known.xid) {
                known.tick = entry.number;
                log.seen.swap((position - log.seen_base) as usize, (own - log.seen_base) as usize);
                own += 1;
            }
        }
        entry.end = own.max(start);
        log.ticks.insert(place, entry);
    }

    fn see_pending(&mut self, queue: QueueName, tick: &TickEntry) {
        let (history, clue) = (self.history, Clue(self.history));
        let log = &mut self.memory.queues[queue.0 as usize];
        let (earlier, earlier_event) = log.latest_begin;
        let before = log.ticks.back();
        let mut kept = 0;
        for index in 0..log.pending.len() {
            let Pending { event, xid, begun, commit } = log.pending[index];
            if !tick.sees(history, xid) {
                log.pending.swap(kept, index);
                kept += 1;
                continue;
            }
            log.seen.push_back(event);
            if let Some(known) = self.memory.events.get_mut(event) {
                known.tick = tick.number;
            }
            if before.is_some_and(|before| xid < before.xmax) {
                self.found.sees(Reach::InProgressDelivered);
            }
            self.found.exercised(Property::Q7);
            if commit < earlier && earlier_event != NONE {
                self.found.violated(Property::Q7, &[commit, earlier], || {
                    let (event, other, number) = (EventId(event), EventId(earlier_event), Tick(tick.number));
                    format!(
                        "{event} had committed at {} before the transaction of {other} began at {}, and yet {other} \
                         became visible at an earlier tick than {event}, which came with {number}",
                        clue.at(commit),
                        clue.at(earlier)
                    )
                });
            }
            if begun != NONE && begun > log.latest_begin.0 {
                log.latest_begin = (begun, event);
            }
        }
        log.pending.truncate(kept);
    }

    /// At the end: what no tick sees became visible later than all that some tick sees.
    pub(super) fn judge_unseen(&mut self) {
        let clue = Clue(self.history);
        for log in &self.memory.queues {
            let (begun, other) = log.latest_begin;
            let unseen = log.pending.iter().filter(|pending| other != NONE && pending.commit < begun);
            for Pending { event, commit, .. } in unseen {
                self.found.violated(Property::Q7, &[*commit, begun], || {
                    let (event, other) = (EventId(*event), EventId(other));
                    format!(
                        "{event} had committed at {} before the transaction of {other} began at {}, and yet {other} \
                         became visible, and {event} never did",
                        clue.at(*commit),
                        clue.at(begun)
                    )
                });
            }
        }
    }

    /// Makes sure that a tick that somebody names is in the table. False if nobody took it.
    pub(super) fn know_tick(&mut self, index: u32, queue: QueueName, number: Tick) -> bool {
        if self.queue(queue).place(number.0).is_ok() {
            return true;
        }
        let named = |op: &crate::op::Op<Span>, reply: &crate::reply::Reply<Span, Span, Span>| {
            matches!((op, reply), (crate::op::Op::Tick { queue: other }, crate::reply::Reply::Ticked { tick, .. })
                if *other == queue && *tick == number)
        };
        if self.settle(index, named) && self.queue(queue).place(number.0).is_ok() {
            return true;
        }
        self.settle_lost(index, |op| matches!(op, crate::op::Op::Tick { queue: other } if *other == queue));
        let log = self.queue(queue);
        let Err(place) = log.place(number.0) else { return true };
        let is_initial = place == 0 && log.seen_base == 0;
        if !is_initial && log.lost_ticks == 0 {
            return place == 0;
        }
        // The first tick comes with the queue and sees nothing of it; of a lost one only the place is known.
        let before = place.checked_sub(1).map(|place| &log.ticks[place]);
        let entry = TickEntry {
            number: number.0,
            at: before.map_or(Micros(0), |before| before.at),
            xmax: before.map_or(Xid(0), |before| before.xmax),
            in_progress: before.map_or(Span::default(), |before| before.in_progress),
            asked_at: Micros(0),
            commit: NONE,
            end: before.map_or(0, |before| before.end),
            is_told: is_initial,
        };
        log.ticks.insert(place, entry);
        true
    }
}

impl Entry {
    /// A new event: (workflow, sequence, step, state) are its content.
    pub(super) fn new(done: Done, queue: QueueName, table: u8, content: (WorkflowId, u32, u16, u64)) -> Self {
        let (workflow, sequence, step, state) = content;
        Entry {
            state,
            xid: done.xid,
            workflow,
            sequence,
            tick: 0,
            acknowledged: 0,
            born: done.record(),
            consumed: NONE,
            step,
            queue: queue.0,
            table,
            attempt: 1,
            version: 0,
            attempts: 0,
            effects: 0,
            is_finished: false,
            is_truncated: false,
            is_timer: false,
        }
    }
}

enum Back {
    Clock,
    Snapshot(Xid),
}

/// How a later tick goes back behind an earlier one, if it does.
fn goes_back(history: &History, early: &TickEntry, late: &TickEntry) -> Option<Back> {
    if late.at < early.at {
        return Some(Back::Clock);
    }
    if late.xmax < early.xmax {
        let forgotten = (late.xmax.0..early.xmax.0).map(Xid).find(|xid| early.sees(history, *xid));
        return forgotten.map(Back::Snapshot);
    }
    let in_progress = history.ids(late.in_progress).iter().map(|xid| Xid(*xid));
    in_progress.filter(|xid| early.sees(history, *xid)).map(Back::Snapshot).next()
}

const _: () = assert!(core::mem::size_of::<Option<Entry>>() <= 56);
