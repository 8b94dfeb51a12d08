//! Storage: which event lies in which table, what rotation truncates, and whether it goes on. Q13, Q15, L5.
//!
//! - **Q13** When a table is truncated, every event that lay in it for certain (its append had returned before rotation
//!   was called) is finished: each subscription of its queue is done with it and all before it. A handoff that was under
//!   way at that time counts if it commits. Broken by looking before the lock, and by looking at cursors only.
//! - **Q15** At the end no row lies in an event table whose append is older than six rotation periods, unless in that
//!   time some event of its queue waited longer than one period to be finished: then the backlog explains it. So live
//!   rows are bounded by the backlog and the rate times a few periods. Judged where rotation is still being tried at the
//!   end. Broken by a rotation that never completes.
//! - **L5** After the faults, rotation does not fail four times in a row over six periods in which nothing waited for
//!   longer than one. Broken by a lock that is never waited for.

use super::checker::{Done, Pass};
use super::clue::Clue;
use super::transactions::NONE;
use super::{Property, Reach};
use crate::history::State;
use crate::name::{EventId, Micros, Queue, Tick};
use alloc::format;

/// Rotations that a row can outlive (three tables), twice, because each may be late by a period.
const PERIODS: u64 = 6;
const TRIES: usize = 4;

/// A queue's rotation.
pub(super) struct Rotation {
    /// Until then some event was unfinished for longer than a period.
    stalled_until: Micros,
    succeeded: Micros,
    /// When the last tries failed, since one succeeded; the latest last.
    failed: [Option<Micros>; TRIES],
    /// When rotation was tried last, whatever came of it, and the record of that.
    tried: Micros,
    last_record: u32,
}

/// An event that was truncated before all were done with it, as far as the replies so far tell.
#[derive(Clone, Copy)]
pub(super) struct Doubt {
    event: u32,
    rotated: u32,
    horizon: u32,
}

impl Rotation {
    pub(super) const fn new() -> Self {
        Rotation {
            stalled_until: Micros(0),
            succeeded: Micros(0),
            failed: [None; TRIES],
            tried: Micros(0),
            last_record: NONE,
        }
    }
}

impl Pass<'_> {
    pub(super) fn rotated(&mut self, done: Done, queue: Queue, table: u8, horizon: Tick) {
        self.found.sees(Reach::RotationDone);
        let at = Clue(self.history).at(done.record());
        if at >= self.history.header.faults_end {
            self.found.exercised(Property::L5);
        }
        let log = self.queue(queue);
        log.current_table = table;
        log.storage.succeeded = at;
        log.storage.failed = [None; TRIES];
        log.storage.tried = at;
        log.storage.last_record = done.record();
        let Some(rows) = log.tables.get_mut(table as usize) else { return };
        let mut rows = core::mem::take(rows);
        rows.retain(|event| !self.truncated(done, *event, horizon));
        self.queue(queue).tables[table as usize] = rows;
        self.memory.events.retire_front(|event| event.is_finished && event.is_truncated);
        self.memory.workflows.retire_front(|workflow| workflow.ended < done.commit_call);
    }

    /// One row of a truncated table. False if it may have come after the truncation.
    fn truncated(&mut self, done: Done, event: u32, horizon: Tick) -> bool {
        let Some(known) = self.memory.events.get_mut(event) else { return true };
        if known.born >= done.call {
            return false;
        }
        self.found.exercised(Property::Q13);
        known.is_truncated = true;
        if !known.is_finished {
            self.memory.doubts.push(Doubt { event, rotated: done.record(), horizon: horizon.0 });
        }
        true
    }

    pub(super) fn not_rotated(&mut self, queue: Queue, index: u32) {
        self.found.sees(Reach::RotationRefused);
        let at = Clue(self.history).at(index);
        let storage = &mut self.queue(queue).storage;
        storage.failed.rotate_left(1);
        storage.failed[TRIES - 1] = Some(at);
        storage.tried = at;
        storage.last_record = index;
    }

    /// All subscriptions are done with an event, by that commit.
    pub(super) fn event_finished(&mut self, queue: u8, event: u32, commit_call: u32) {
        let clue = Clue(self.history);
        let Some(known) = self.memory.events.get_mut(event) else { return };
        known.is_finished = true;
        let (born, is_truncated) = (known.born, known.is_truncated);
        if commit_call == NONE {
            return;
        }
        let now = clue.at(commit_call);
        if now - clue.at(born) > self.history.header.rotation_period {
            self.memory.queues[queue as usize].storage.stalled_until = now;
        }
        if is_truncated && !self.memory.doubts.is_empty() {
            let Some(place) = self.memory.doubts.iter().position(|doubt| doubt.event == event) else { return };
            let doubt = self.memory.doubts.swap_remove(place);
            if doubt.rotated < commit_call {
                self.truncated_too_early(doubt, commit_call);
            }
        }
    }

    fn truncated_too_early(&mut self, doubt: Doubt, finished: u32) {
        let clue = Clue(self.history);
        let Some(known) = self.memory.events.get(doubt.event).copied() else { return };
        self.found.violated(Property::Q13, &[known.born, doubt.rotated, finished], || {
            let (event, table, horizon) = (EventId(doubt.event), known.table, Tick(doubt.horizon));
            let (born, rotated) = (clue.at(known.born), clue.at(doubt.rotated));
            let until = match finished {
                NONE => "nobody had dealt with it".into(),
                _ => format!("it was dealt with only at {}", clue.at(finished)),
            };
            format!(
                "table {table} of {} was truncated at {rotated} (horizon {horizon}) with {event} in it, appended at {born}: {until}",
                Queue(known.queue)
            )
        });
    }

    /// At the end: what was truncated and is still not finished was needed.
    pub(super) fn judge_doubts(&mut self, has_doubts: bool) {
        while let Some(doubt) = self.memory.doubts.pop() {
            let queue = self.memory.events.get(doubt.event).map_or(0, |known| known.queue);
            match has_doubts {
                _ if self.memory.queues[queue as usize].consumers.is_empty() => {}
                true => self.found.unknown(Property::Q13),
                false => self.truncated_too_early(doubt, NONE),
            }
        }
    }

    /// Until when some event of the queue kept its table from being truncated.
    fn stalled_until(&self, queue: usize, end: Micros) -> Micros {
        let clue = Clue(self.history);
        let log = &self.memory.queues[queue];
        let oldest = [log.seen.front().copied(), log.first_pending()];
        let waits = oldest
            .into_iter()
            .flatten()
            .filter_map(|event| self.memory.events.get(event))
            .any(|known| end - clue.at(known.born) > self.history.header.rotation_period);
        if waits { end } else { log.storage.stalled_until }
    }

    /// Q15 and L5, when the run went on for long enough after the faults.
    pub(super) fn judge_rotation(&mut self, state: &State, end: Micros) {
        let period = self.history.header.rotation_period.0;
        let span = Micros(period.saturating_mul(PERIODS));
        let quiet_since = end - span;
        if period == 0 || quiet_since < self.history.header.faults_end {
            return;
        }
        for queue in 0..self.memory.queues.len() {
            let stalled_until = self.stalled_until(queue, end);
            // Rotation that nobody asks for is nobody's bug.
            let is_tried = self.memory.queues[queue].storage.tried > end - Micros(period.saturating_mul(2));
            if stalled_until > quiet_since || !is_tried {
                continue;
            }
            self.found.exercised(Property::Q15);
            self.judge_rows(state, queue, quiet_since);
            self.judge_tries(queue, quiet_since.min(self.memory.queues[queue].storage.succeeded), stalled_until);
        }
    }

    fn judge_rows(&mut self, state: &State, queue: usize, quiet_since: Micros) {
        let clue = Clue(self.history);
        let old = state.events.iter().filter(|row| row.queue.0 as usize == queue).find_map(|row| {
            let born = self.memory.events.get(row.event.id.0)?.born;
            (clue.at(born) < quiet_since).then_some((row, born))
        });
        let Some((row, born)) = old else { return };
        let last = self.memory.queues[queue].storage.last_record;
        self.found.violated(Property::Q15, &[born, last], || {
            let (event, table, at) = (row.event.id, row.table, clue.at(born));
            format!(
                "{event}, appended at {at}, still lies in table {table} of {} at the end, {PERIODS} rotation periods after \
                 anything there was last waited for",
                row.queue
            )
        });
    }

    fn judge_tries(&mut self, queue: usize, quiet_since: Micros, stalled_until: Micros) {
        let storage = &self.memory.queues[queue].storage;
        let since = stalled_until.max(self.history.header.faults_end);
        let Some(first) = storage.failed[0].filter(|first| *first >= since && storage.succeeded <= quiet_since) else {
            return;
        };
        let last = storage.last_record;
        self.found.violated(Property::L5, &[last], || {
            let queue = Queue(queue as u8);
            format!("rotation of {queue} failed at least {TRIES} times in a row since {first}, and nothing there was waited for")
        });
    }
}
