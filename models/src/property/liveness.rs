//! The end of a history: what must have happened by then, and whether the rows that are left are the right ones.
//! L1, L2, and the parts of D1, D2, Q1, Q8, W1, W8 and W9 that look at the final state.
//!
//! - **L1** At the end, if it comes about `liveness_bound` or more after `faults_end`: every event of a queue with
//!   subscriptions is acknowledged by all of them (or a dead letter), no timer waits, every window that was given out is
//!   finished, and every workflow has ended. An end that comes earlier with work left over is unknown, and so is one before
//!   the last timer is due. Broken by whatever gets stuck.
//! - **L7** After the faults, no event waits for longer than the liveness bound until its subscriptions are done with it,
//!   while one of its queue that was appended later is handed off. (Where all wait, that is L1.) Broken by whatever lets the
//!   quick overtake the slow without end.
//! - **L2** At such an end no window is held by a worker whose last sign of life lies before `faults_end`.
//! - **The rows**: the ledger holds exactly what committed transactions wrote (D1: one is missing; D2: one is of a
//!   transaction that did not commit); every event that somebody still waits for has its row (Q1), and every row its
//!   committed transaction (D2); start keys are those that committed (W9: one is missing; D2); workflow rows are those of the live ones
//!   (W1: one is missing; W8: one of an ended workflow); a window stands in one row (Q8).
//!
//! With a transaction in doubt, rows are not compared, and what depends on them is unknown.

use super::Property;
use super::checker::Pass;
use super::clue::Clue;
use super::lease::Phase;
use super::log::UNTOLD_TABLE;
use super::transactions::NONE;
use super::workflow::{LedgerLine, Workflow};
use crate::name::{Consumer, EventId, Micros, Queue, Tick, WorkerId, WorkflowId};
use crate::op::Op;
use crate::record::Span;
use crate::reply::Reply;
use crate::state::{LedgerRow, State};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// So many records are searched for one that overtook another.
const SEARCHED: usize = 10_000;

/// A run that goes on to the end of its bound makes its last record a little before: by one part of so many, at most.
const SLACK: u64 = 10;

type LedgerKey = (u32, u32, u16, u32);

impl Pass<'_> {
    /// What had waited for something that never came.
    pub(super) fn leftovers(&mut self, has_doubts: bool) {
        self.judge_missing(has_doubts);
        self.judge_doubts(has_doubts);
        if has_doubts {
            for property in [Property::D1, Property::D2, Property::Q1, Property::W1, Property::W5] {
                self.found.unknown(property);
            }
            self.unknown_rows();
        }
        self.judge_gaps();
    }

    /// Events before a window that was given out, in no window themselves.
    fn judge_gaps(&mut self) {
        let is_claim = |_: u32, op: &Op<Span>| matches!(op, Op::Claim { .. } | Op::TakeOver { .. });
        if self.is_under_way(is_claim) {
            return;
        }
        for consumer in 0..self.memory.subscriptions.len() {
            let Some(subscription) = &self.memory.subscriptions[consumer] else { continue };
            let Some(range) = subscription.ranges.front() else { continue };
            let log = &self.memory.queues[subscription.queue as usize];
            let position = subscription.position;
            if position >= log.end_of(range.prev) || self.memory.has_lost_claim {
                continue;
            }
            let Some(event) = log.seen.get((position - log.seen_base) as usize).copied() else { continue };
            let (clue, range, finished) = (Clue(self.history), *range, subscription.finished);
            let born = self.memory.events.get(event).map_or(NONE, |known| known.born);
            let records = [born, range.record()];
            self.found.violated(Property::Q4, &records, || {
                let (event, consumer) = (EventId(event), Consumer(consumer as u8));
                let (from, prev, next) = (Tick(finished), Tick(range.prev), Tick(range.next));
                let at = clue.at(range.record());
                format!(
                    "{consumer} gave out ({prev},{next}] at {at} after {from}, and left out {event}, which lies between"
                )
            });
            self.lost_event(range.record(), consumer as u8, EventId(event), None);
        }
    }

    pub(super) fn compare_state(&mut self, state: &State, has_doubts: bool) {
        if !is_table_by_table(state) {
            self.found.ill_formed(self.history.records.len() as u32, "rows of the state are doubled, or out of order");
        }
        if has_doubts {
            return;
        }
        self.compare_ledger(state);
        self.compare_events(state);
        self.compare_workflows(state);
        self.compare_keys(state);
        self.compare_leases(state);
        self.compare_timers(state);
        self.compare_dead_letters(state);
        self.compare_boxes(state);
        self.compare_joins(state);
    }

    fn compare_ledger(&mut self, state: &State) {
        if self.memory.has_unnumbered_effects {
            return self.found.unknown(Property::D1);
        }
        let sum = |keys: &mut dyn Iterator<Item = LedgerKey>| keys.fold(0u64, |sum, key| sum.wrapping_add(mix(key)));
        let of_history = sum(&mut self.memory.ledger.iter().map(key_of_line));
        let of_state = sum(&mut state.ledger.iter().map(key_of_row));
        if of_history == of_state && self.memory.ledger.len() == state.ledger.len() {
            return;
        }
        let mut rows: Vec<LedgerKey> = state.ledger.iter().map(key_of_row).collect();
        rows.sort_unstable();
        let mut lines: Vec<LedgerLine> = self.memory.ledger.clone();
        lines.sort_unstable_by_key(key_of_line);
        self.ledger_differs(&lines, &rows);
    }

    fn ledger_differs(&mut self, lines: &[LedgerLine], rows: &[LedgerKey]) {
        let clue = Clue(self.history);
        let (mut lines, mut rows) = (lines.iter().peekable(), rows.iter().peekable());
        loop {
            let missing = match (lines.peek(), rows.peek()) {
                (None, None) => return,
                (Some(line), Some(row)) if key_of_line(line) == **row => {
                    lines.next();
                    rows.next();
                    continue;
                }
                (Some(line), row) => row.is_none_or(|row| key_of_line(line) < **row),
                (None, Some(_)) => false,
            };
            if let (true, Some(line)) = (missing, lines.peek().copied()) {
                lines.next();
                self.found.violated(Property::D1, &[line.record], || {
                    let (workflow, sequence, xid) = (clue.workflow(line.workflow), line.sequence, line.xid);
                    format!("the effect of {workflow} step {sequence} was committed by {xid}, and is not in the ledger at the end")
                });
            } else if let Some((workflow, sequence, _, xid)) = rows.next().copied() {
                self.found.violated(Property::D2, &[], || {
                    let workflow = clue.workflow(WorkflowId(workflow));
                    format!("the ledger has an effect of {workflow} step {sequence} by x{xid} at the end, which no committed transaction wrote")
                });
            }
        }
    }

    fn compare_events(&mut self, state: &State) {
        let clue = Clue(self.history);
        let mut rows: BTreeSet<u32> = BTreeSet::new();
        for row in &state.events {
            rows.insert(row.event.id.0);
            let is_known = self.memory.events.get(row.event.id.0).is_some()
                || self.memory.events.is_retired(row.event.id.0)
                || self.may_have_fired(row.event.id);
            if !is_known && self.memory.missing.is_empty() {
                self.found.violated(Property::D2, &[], || {
                    let (event, table, queue) = (row.event.id, row.table, row.queue);
                    format!(
                        "{event} lies in table {table} of {queue} at the end, and no committed transaction appended it"
                    )
                });
            }
        }
        for queue in 0..self.memory.queues.len() {
            let log = &self.memory.queues[queue];
            if log.consumers.is_empty() {
                continue;
            }
            let gone = log.seen.iter().copied().find(|event| !rows.contains(event));
            let Some((event, known)) = gone.and_then(|event| Some((event, *self.memory.events.get(event)?))) else {
                continue;
            };
            if known.table == UNTOLD_TABLE {
                continue;
            }
            self.found.violated(Property::Q1, &[known.born], || {
                let (event, queue, at) = (EventId(event), Queue(queue as u8), clue.at(known.born));
                format!("{event}, appended at {at}, is not finished, and its row is gone from {queue} at the end")
            });
        }
    }

    fn compare_workflows(&mut self, state: &State) {
        let clue = Clue(self.history);
        let mut rows: BTreeSet<u32> = BTreeSet::new();
        for row in &state.workflows {
            rows.insert(row.workflow.0);
            let ended = match self.memory.workflows.get(row.workflow.0) {
                Some(known) => known.ended,
                None if self.memory.workflows.is_retired(row.workflow.0) => 0,
                None => continue,
            };
            if ended != NONE {
                self.found.violated(Property::W8, &[ended], || {
                    format!("{} has ended, and has a row of a live workflow at the end", clue.workflow(row.workflow))
                });
            }
        }
        let gone = self.memory.workflows.iter().find(|(id, known)| known.ended == NONE && !rows.contains(id));
        if let Some((id, known)) = gone {
            let records = [self.memory.events.get(known.continuation).map_or(NONE, |event| event.born)];
            self.found.violated(Property::W1, &records, || {
                format!("{} has not ended, and has no row at the end", clue.workflow(WorkflowId(id)))
            });
        }
    }

    fn compare_keys(&mut self, state: &State) {
        let rows: BTreeSet<(u8, u32, u32)> =
            state.start_keys.iter().map(|row| (row.queue.0, row.key.0, row.workflow.0)).collect();
        let gone = self.memory.keys.iter().find(|(queue, key, id)| !rows.contains(&(queue.0, key.0, id.0)));
        if let Some((queue, key, id)) = gone {
            let clue = Clue(self.history);
            let start = clue.start_of(id).unwrap_or(NONE);
            self.found.violated(Property::W9, &[start], || {
                let at = clue.at(start);
                format!(
                    "{key} of {queue} was started as {id} at {at}, and its key is not kept: it could be started again"
                )
            });
        }
        let is_replay = |id: WorkflowId| self.memory.dead_letters.replays.contains(&id.0);
        let mut aliens = state.start_keys.iter().filter(|row| self.memory.keys.get(row.queue, row.key).is_none());
        let alien = aliens.find(|row| !is_replay(row.workflow));
        if let Some(row) = alien.filter(|_| self.memory.missing.is_empty()) {
            self.found.violated(Property::D2, &[], || {
                format!("the key {} of {} is taken at the end, and no committed start used it", row.key, row.queue)
            });
        }
    }

    fn compare_leases(&mut self, state: &State) {
        let mut windows: Vec<(u8, u32, u32, WorkerId)> = state
            .workers
            .iter()
            .filter_map(|row| row.window.map(|(_, prev, next)| (row.consumer.0, prev.0, next.0, row.worker)))
            .collect();
        windows.sort_unstable();
        for pair in windows.windows(2) {
            let ((consumer, prev, end, one), (same, start, next, other)) = (pair[0], pair[1]);
            if consumer == same && start < end {
                self.found.violated(Property::Q8, &[], || {
                    let (consumer, window, second) =
                        (Consumer(consumer), (Tick(prev), Tick(end)), (Tick(start), Tick(next)));
                    format!(
                        "at the end two workers of {consumer} hold overlapping windows: {one} ({},{}] and {other} ({},{}]",
                        window.0, window.1, second.0, second.1
                    )
                });
            }
        }
    }

    /// What must have happened by the end.
    pub(super) fn liveness(&mut self, has_doubts: bool) {
        let header = &self.history.header;
        let Some(state) = &self.history.state else { return };
        let end = self.history.records.last().map_or(Micros(0), |record| record.at);
        let bound = header.liveness_bound.0 - header.liveness_bound.0 / SLACK;
        let is_late = end.0 >= header.faults_end.0.saturating_add(bound);
        self.judge_drain(end, is_late, has_doubts);
        self.judge_rotation(state, end);
        if is_late {
            self.judge_takeovers(end);
            self.judge_isolated(end);
            self.judge_late_timers(end, Micros(bound));
            self.judge_starved(end, Micros(bound));
            self.judge_fairness(end, Micros(bound));
        }
    }

    /// L7 of what was waiting to the end. What was finished late is judged when it was.
    fn judge_fairness(&mut self, end: Micros, bound: Micros) {
        let clue = Clue(self.history);
        let faults_end = self.history.header.faults_end;
        for queue in 0..self.memory.queues.len() {
            let log = &self.memory.queues[queue];
            let oldest = log.seen.front().copied().into_iter().chain(log.pending_events());
            let oldest = oldest.filter_map(|event| Some((event, *self.memory.events.get(event)?)));
            let Some((event, known)) = oldest.min_by_key(|(_, known)| known.born) else { continue };
            let since = clue.at(known.born).max(faults_end);
            if !log.consumers.is_empty() && end >= since && end - since >= bound {
                self.judge_overtaken(EventId(event), known.born, NONE);
            }
        }
    }

    /// An event waited for longer than the bound: until that record, or to the end. Were later ones handed off?
    pub(super) fn judge_overtaken(&mut self, event: EventId, born: u32, until: u32) {
        let (history, clue) = (self.history, Clue(self.history));
        if !self.found.tells(Property::L7) {
            return;
        }
        let Some(known) = self.memory.events.get(event.0).copied() else { return };
        let since = clue.at(born).max(history.header.faults_end);
        let last = (history.records.len() as u32).min(until);
        let is_later = |decided: EventId| {
            let other = clue.birth_of(decided).unwrap_or(0);
            decided != event && other > born && clue.at(other) >= since
        };
        let overtaker = (born..last).rev().take(SEARCHED).find_map(|index| {
            let Some(Reply::HandedOff { .. }) = clue.reply(index) else { return None };
            let Some((Op::Handoff { worker, decisions, .. }, _)) = clue.effect(index) else { return None };
            let consumer = self.memory.workers.get(worker.0)?.consumer;
            let own = self.memory.subscriptions.get(consumer as usize)?.as_ref()?.queue;
            let decided = history.decisions(decisions).first()?.event;
            (own == known.queue && is_later(decided)).then_some((index, decided))
        });
        let Some((index, other)) = overtaker else { return };
        self.found.violated(Property::L7, &[born, index, until], || {
            let of = if known.workflow.0 == 0 { "a message".into() } else { clue.workflow(known.workflow) };
            let (at, then) =
                (clue.at(index), if until == NONE { "the end".into() } else { format!("{}", clue.at(until)) });
            format!(
                "{event} of {of} waited from {since} to {then}, while {other}, which came later, was handed off at {at}"
            )
        });
    }

    fn judge_drain(&mut self, end: Micros, is_late: bool, has_doubts: bool) {
        let clue = Clue(self.history);
        let waiting = (0..self.memory.queues.len()).find_map(|queue| {
            let log = &self.memory.queues[queue];
            let event = log.seen.front().copied().or_else(|| log.first_pending())?;
            (!log.consumers.is_empty()).then_some(event)
        });
        let timer = self.memory.timers.first();
        let mut live = self.memory.workflows.iter().filter(|(_, known)| known.ended == NONE).peekable();
        let is_any_live = live.peek().is_some();
        let live = live.find(|(_, known)| !self.is_patient(known, end)).map(|(id, _)| id);
        let is_asleep = timer.is_some_and(|(_, timer)| timer.due.1 > end) || is_any_live;
        if is_asleep && waiting.is_none() && live.is_none() {
            return self.found.unknown(Property::L1);
        }
        let timer = timer.filter(|(_, timer)| timer.due.1 <= end);
        let is_drained = waiting.is_none() && live.is_none() && timer.is_none();
        if !is_drained && (has_doubts || !is_late) {
            return self.found.unknown(Property::L1);
        }
        self.found.exercised(Property::L1);
        if is_drained {
            return;
        }
        let event = waiting.and_then(|event| Some((EventId(event), *self.memory.events.get(event)?)));
        let touched = self.last_touch(event.map(|(_, known)| known.tick));
        let born = event.map_or(NONE, |(_, known)| known.born);
        let records = [born, touched, timer.filter(|_| event.is_none()).map_or(NONE, |(_, timer)| timer.born)];
        let waits = match (event, timer) {
            (Some((event, known)), _) => self.waits_for(event, known.tick, touched),
            (None, Some((id, timer))) => {
                let (due, queue) = (timer.due.1, timer.queue());
                format!("{id} is due since {due} and waits for a drain of {queue}, {}", clue.drains_since(queue, due))
            }
            (None, None) => self.waits_in_vain(live),
        };
        self.found.violated(Property::L1, &records, || {
            let who = match (live, event, timer) {
                (_, Some((_, known)), _) if known.workflow.0 != 0 => clue.workflow(known.workflow),
                (_, None, Some((_, timer))) if timer.content.workflow.0 != 0 => clue.workflow(timer.content.workflow),
                (Some(live), ..) => clue.workflow(WorkflowId(live)),
                _ => "a message".into(),
            };
            let faults_end = self.history.header.faults_end;
            let stuck = clue.waiting(end);
            format!("{who} is not done at {end}, {} after the last fault: {waits}{stuck}", end - faults_end)
        });
    }

    /// Whether nothing but time, somebody outside, or its children can let a workflow go on.
    fn is_patient(&self, known: &Workflow, end: Micros) -> bool {
        let id = EventId(known.continuation);
        if let Some(timer) = self.memory.timers.pending(id.0) {
            return timer.due.1 > end;
        }
        if let Some(wait) = self.memory.waits.open.get(&id.0) {
            let mailbox = self.memory.waits.boxes.get(&(wait.workflow.0, wait.name.0));
            let is_promised = mailbox.is_some_and(|mailbox| mailbox.promise.is_some());
            return !is_promised && wait.due.is_none_or(|(_, latest)| latest > end);
        }
        self.memory.joins.by_id.get(&id.0).is_some_and(|join| join.resumed.is_none() && join.ended < join.total())
    }

    /// What a workflow waits for that has no event.
    fn waits_in_vain(&self, live: Option<u32>) -> String {
        let clue = Clue(self.history);
        let continuation = live.and_then(|id| self.memory.workflows.get(id)).map_or(NONE, |known| known.continuation);
        if let Some(wait) = self.memory.waits.open.get(&continuation) {
            let (name, since) = (clue.name(wait.name), clue.at(wait.born));
            let due = wait.due.map_or_else(String::new, |(_, due)| format!(", until {due} at most"));
            return format!("it waits for {name} since {since}{due}");
        }
        match self.memory.joins.by_id.get(&continuation) {
            Some(join) => format!("it waits for its children since {}, and all have ended", clue.at(join.born)),
            None => "it has no event that anyone could work on".into(),
        }
    }

    /// Whom an event waits for, since when, and what would have to happen.
    fn waits_for(&self, event: EventId, tick: u32, touched: u32) -> String {
        let clue = Clue(self.history);
        let at = clue.at(touched);
        match (tick, clue.effect(touched)) {
            (0, _) => format!("{event} is seen by no tick"),
            (tick, Some((Op::Claim { worker, .. } | Op::TakeOver { worker, .. }, _))) => {
                let is_isolated = self.memory.workers.get(worker.0).is_some_and(|known| known.isolated);
                let rest = if is_isolated { ", isolated, and has not finished it" } else { "" };
                let ends = if is_isolated { "is not finished" } else { "is not acknowledged" };
                format!("{event}, seen since {}, {ends}: {worker} has held its window since {at}{rest}", Tick(tick))
            }
            (tick, _) => {
                format!("{event}, seen since {}, is not acknowledged, and no worker has its window", Tick(tick))
            }
        }
    }

    /// The last record that speaks of the window in which an event waits: its claim.
    pub(super) fn last_touch(&self, tick: Option<u32>) -> u32 {
        let Some(tick) = tick.filter(|tick| *tick != 0) else { return NONE };
        let holder = self
            .memory
            .workers
            .iter()
            .find(|(_, worker)| worker.phase == Phase::Open && worker.window.0 < tick && tick <= worker.window.1);
        holder.map_or(NONE, |(_, worker)| worker.claimed)
    }

    fn judge_takeovers(&mut self, end: Micros) {
        let clue = Clue(self.history);
        let faults_end = self.history.header.faults_end;
        if end - faults_end <= self.history.header.dead_interval {
            return;
        }
        let silent = self
            .memory
            .workers
            .iter()
            .find(|(_, worker)| worker.phase == Phase::Open && clue.at(worker.heartbeat_call) <= faults_end);
        let Some((id, worker)) = silent else { return };
        let (window, heartbeat, claimed) = (worker.window, clue.at(worker.heartbeat_call), worker.claimed);
        self.found.violated(Property::L2, &[claimed], || {
            let (worker, prev, next, at) = (WorkerId(id), Tick(window.0), Tick(window.1), clue.at(claimed));
            format!(
                "{worker} still holds the window ({prev},{next}] at {end}, claimed at {at}, and was silent since {heartbeat}"
            )
        });
    }
}

/// Each kind of row in the order of its key, and no key twice.
fn is_table_by_table(state: &State) -> bool {
    state.queues.is_sorted_by(|one, next| one.queue < next.queue)
        && state.ticks.is_sorted_by(|one, next| (one.queue, one.tick) < (next.queue, next.tick))
        && state.subscriptions.is_sorted_by(|one, next| one.consumer < next.consumer)
        && state.workers.is_sorted_by(|one, next| one.worker < next.worker)
        && state.start_keys.is_sorted_by(|one, next| (one.queue, one.key) < (next.queue, next.key))
        && state.workflows.is_sorted_by(|one, next| one.workflow < next.workflow)
        && state
            .events
            .is_sorted_by(|one, next| (one.queue, one.table, one.event.id) < (next.queue, next.table, next.event.id))
}

fn key_of_line(line: &LedgerLine) -> LedgerKey {
    (line.workflow.0, line.sequence, line.step.0, line.xid.0)
}

fn key_of_row(row: &LedgerRow) -> LedgerKey {
    (row.workflow.0, row.sequence, row.step.0, row.xid.0)
}

/// Spreads a row over 64 bits, so that sums of rows tell multisets apart.
fn mix((workflow, sequence, step, xid): LedgerKey) -> u64 {
    let mut mixed = u64::from(workflow) << 32 | u64::from(sequence);
    for part in [u64::from(step) << 32 | u64::from(xid), 0x94d0_49bb_1331_11eb] {
        mixed = (mixed ^ part).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^= mixed >> 31;
    }
    mixed
}
