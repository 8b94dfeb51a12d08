//! Storage: which event lies in which table, what rotation truncates, and whether it goes on. Q13, Q15, L5.
//!
//! - **Q13** When a table is truncated, every event that lay in it for certain (its append had returned before rotation
//!   was called) is finished: each subscription of its queue is done with it and all before it. A handoff that was under
//!   way at that time counts if it commits. Broken by looking before the lock, and by looking at cursors only.
//! - **Q15** At the end no row lies in an event table that was appended before the last six tries to rotate, counted a
//!   period apart, unless after the first of them some event of its queue had waited for longer than a period to be
//!   finished: then the backlog explains it. So live rows are bounded by the backlog and the rate times a few periods.
//!   (A row outlives three rotations; each may come to nothing once.) Broken by a rotation that never completes.
//! - **L5** After the faults, the last four such tries do not all fail while nothing waits for longer than a period.
//!   Broken by a lock that is never waited for.
//!
//! A try that timed out while somebody else's transaction was open for longer than the timeout counts as a wait. Rotation
//! that nobody tries is nobody's bug.

use super::checker::{Done, Pass};
use super::clue::Clue;
use super::log::Entry;
use super::transactions::NONE;
use super::{Property, Reach};
use crate::name::{EventId, Micros, Queue, Tick};
use crate::state::State;
use alloc::format;

/// The tries that a row may outlive.
const TRIES: usize = 6;
/// The tries that may fail one after the other.
const FAILURES: usize = 4;

/// A queue's rotation.
pub(super) struct Rotation {
    /// Until then some event was unfinished for longer than a period.
    stalled_until: Micros,
    /// The last tries, the latest last; those within a period of one count as the same.
    tries: [Option<Try>; TRIES],
    last_record: u32,
}

#[derive(Clone, Copy)]
struct Try {
    at: Micros,
    has_succeeded: bool,
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
        Rotation { stalled_until: Micros(0), tries: [None; TRIES], last_record: NONE }
    }

    fn tried(&mut self, at: Micros, period: Micros, record: u32, has_succeeded: bool) {
        self.last_record = record;
        match &mut self.tries[TRIES - 1] {
            Some(last) if at - last.at < period => last.has_succeeded |= has_succeeded,
            _ => {
                self.tries.rotate_left(1);
                self.tries[TRIES - 1] = Some(Try { at, has_succeeded });
            }
        }
    }
}

impl Pass<'_> {
    pub(super) fn rotated(&mut self, done: Done, queue: Queue, table: u8, horizon: Tick) {
        self.found.sees(Reach::RotationDone);
        self.see_rotation(done);
        let (at, period) = (Clue(self.history).at(done.record()), self.history.header.rotation_period);
        let log = self.queue(queue);
        log.current_table = table;
        log.storage.tried(at, period, done.record(), true);
        let Some(rows) = log.tables.get_mut(table as usize) else { return };
        let mut rows = core::mem::take(rows);
        rows.retain(|event| !self.truncated(done, *event, horizon));
        self.queue(queue).tables[table as usize] = rows;
        self.retire(done);
    }

    /// Lets go of what is over, once each call that is under way was made after that: one made before may have seen it.
    fn retire(&mut self, done: Done) {
        let oldest = self.oldest_call();
        let memory = &mut *self.memory;
        let is_over = |event: &Entry| event.is_finished && event.is_truncated;
        let end = memory.events.first(is_over);
        memory.leaving.push_back((self.now, end));
        while let Some((_, end)) = memory.leaving.front().copied().filter(|(since, _)| *since < oldest) {
            memory.events.retire_before(end, is_over);
            memory.leaving.pop_front();
        }
        memory.workflows.retire_front(|workflow| workflow.ended < done.commit_call.min(oldest));
    }

    /// The first of the calls that are under way.
    fn oldest_call(&self) -> u32 {
        let states = self.memory.used_sessions.iter().map(|session| &self.memory.sessions[session.0 as usize]);
        states.filter(|state| !state.dead).map(|state| state.call).min().unwrap_or(NONE)
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

    /// A try that failed. One that a long transaction of somebody else's explains counts as a wait, not against rotation.
    pub(super) fn not_rotated(&mut self, queue: Queue, index: u32, is_explained: bool) {
        self.found.sees(Reach::RotationRefused);
        let (at, period) = (Clue(self.history).at(index), self.history.header.rotation_period);
        let storage = &mut self.queue(queue).storage;
        storage.tried(at, period, index, false);
        if is_explained {
            storage.stalled_until = at;
        }
    }

    /// All subscriptions are done with an event.
    pub(super) fn event_finished(&mut self, queue: u8, event: u32, done: Option<Done>) {
        let clue = Clue(self.history);
        let Some(known) = self.memory.events.get_mut(event) else { return };
        known.is_finished = true;
        let (born, is_truncated) = (known.born, known.is_truncated);
        let Some(Done { commit_call, commit, .. }) = done else { return };
        // A handoff may itself have waited for long, so what counts is when it was through.
        let now = clue.at(if commit == NONE { commit_call } else { commit });
        let header = &self.history.header;
        if now - clue.at(born) > header.rotation_period {
            self.memory.queues[queue as usize].storage.stalled_until = now;
        }
        if now > header.faults_end {
            self.found.exercised(Property::L7);
            if now - clue.at(born).max(header.faults_end) > header.liveness_bound {
                self.judge_overtaken(EventId(event), born, if commit == NONE { commit_call } else { commit });
            }
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

    /// Q15 and L5, where rotation was tried often enough after the faults and after what had to wait.
    pub(super) fn judge_rotation(&mut self, state: &State, end: Micros) {
        for queue in 0..self.memory.queues.len() {
            let since = self.stalled_until(queue, end).max(self.history.header.faults_end);
            let tries = self.memory.queues[queue].storage.tries;
            let is_quiet = |tried: Option<Try>| tried.filter(|tried| tried.at >= since);
            if let Some(first) = is_quiet(tries[0]) {
                self.found.exercised(Property::Q15);
                self.judge_rows(state, queue, first.at);
            }
            if let Some(first) = is_quiet(tries[TRIES - FAILURES]) {
                self.found.exercised(Property::L5);
                let all_failed = tries[TRIES - FAILURES..].iter().flatten().all(|tried| !tried.has_succeeded);
                if all_failed {
                    self.rotation_failed(queue, first.at);
                }
            }
        }
    }

    fn judge_rows(&mut self, state: &State, queue: usize, first: Micros) {
        let clue = Clue(self.history);
        let old = state.events.iter().filter(|row| row.queue.0 as usize == queue).find_map(|row| {
            let born = self.memory.events.get(row.event.id.0)?.born;
            (clue.at(born) < first).then_some((row, born))
        });
        let Some((row, born)) = old else { return };
        let last = self.memory.queues[queue].storage.last_record;
        self.found.violated(Property::Q15, &[born, last], || {
            let (event, table, at, queue) = (row.event.id, row.table, clue.at(born), row.queue);
            format!(
                "{event}, appended at {at}, still lies in table {table} of {queue} at the end: rotation was tried {TRIES} \
                 times since {first}, and nothing there was waited for"
            )
        });
    }

    fn rotation_failed(&mut self, queue: usize, first: Micros) {
        let last = self.memory.queues[queue].storage.last_record;
        self.found.violated(Property::L5, &[last], || {
            let queue = Queue(queue as u8);
            format!(
                "rotation of {queue} failed {FAILURES} times in a row since {first}, and nothing there was waited for"
            )
        });
    }
}
