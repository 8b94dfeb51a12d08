//! Retries: how often a step was attempted, and when it is attempted again. Q11 for attempts, L4.
//!
//! - **Q11** A retry's attempt is one more than that of the event that it retries, which is delivered with the attempt
//!   with which it was appended; and the retry is a dead letter if and only if its attempt lies above the most that its
//!   decision allows: one attempt too many is as wrong as one too few (which is also W10). Broken by counting in the
//!   transaction that aborts.
//! - **L4** After the faults, a retry that is due ends its next attempt, whatever comes of it, within the liveness bound;
//!   at an end that is late enough none waits for longer. Broken by whatever lets new work pass by.

use super::checker::{Done, Pass};
use super::clue::Clue;
use super::dead_letter::is_exhausted;
use super::log::Entry;
use super::successor::Successor;
use super::{Property, Reach};
use crate::name::{EventId, Micros, Step, Tick};
use crate::op::Decision;
use alloc::format;

impl Pass<'_> {
    /// A committed decision to retry.
    pub(super) fn retried(&mut self, done: Done, known: &Entry, decision: &Decision, successor: Successor) {
        self.found.sees(Reach::Retry);
        self.found.exercised(Property::Q11);
        let clue = Clue(self.history);
        let Decision { event, attempt, max_attempts, .. } = *decision;
        let records = [known.born, done.record(), done.commit];
        let step = || format!("{} at {}", clue.workflow(known.workflow), clue.step(Step(known.step)));
        if attempt != known.attempt.saturating_add(1) {
            self.found.violated(Property::Q11, &records, || {
                let (step, before, at) = (step(), known.attempt, clue.at(done.record()));
                format!("{step} ({event}) was retried at {at} as attempt {attempt}, after attempt {before}")
            });
        }
        let is_dead = matches!(successor, Successor::Dead);
        if is_dead == is_exhausted(decision) || matches!(successor, Successor::None) {
            return;
        }
        self.found.violated(Property::Q11, &records, || {
            let (step, at, then) = (step(), clue.at(done.record()), clue.successor(done.record(), event));
            format!(
                "{step} ({event}) was retried at {at} as attempt {attempt} of {max_attempts} at most, and became {then}"
            )
        });
        if is_dead {
            self.false_dead_letter(&records, || {
                let (step, at) = (step(), clue.at(done.record()));
                format!("{step} ({event}) became a dead letter at {at}, and attempt {attempt} of {max_attempts} was still allowed")
            });
        }
    }

    /// An attempt after the first was handed off: L4, if it waited after the faults.
    pub(super) fn attempted(&mut self, done: Done, known: &Entry, event: EventId) {
        let clue = Clue(self.history);
        let header = &self.history.header;
        let now = clue.at(done.record());
        if now <= header.faults_end {
            return;
        }
        self.found.exercised(Property::L4);
        let since = clue.at(known.born).max(header.faults_end);
        if now - since > header.liveness_bound {
            self.found.violated(Property::L4, &[known.born, done.record()], || {
                let (name, step) = (clue.workflow(known.workflow), clue.step(Step(known.step)));
                let (attempt, waited) = (known.attempt, now - since);
                format!("attempt {attempt} of {name} at {step} ({event}) was there at {since}, and ended only at {now}, {waited} later")
            });
        }
    }

    /// At an end that is late enough: no attempt after the first waits for longer than the bound.
    pub(super) fn judge_starved(&mut self, end: Micros, bound: Micros) {
        let clue = Clue(self.history);
        let faults_end = self.history.header.faults_end;
        for queue in 0..self.memory.queues.len() {
            let log = &self.memory.queues[queue];
            if log.consumers.is_empty() {
                continue;
            }
            let waiting = log.seen.iter().copied().chain(log.pending_events());
            let starved = waiting.filter_map(|event| Some((EventId(event), *self.memory.events.get(event)?)));
            let starved = starved.filter(|(_, known)| known.attempt > 1 && known.consumed == super::transactions::NONE);
            let Some((event, known)) = starved.min_by_key(|(_, known)| known.born) else { continue };
            self.found.exercised(Property::L4);
            let since = clue.at(known.born).max(faults_end);
            if end < since || end - since < bound {
                continue;
            }
            let touched = self.last_touch(Some(known.tick));
            self.found.violated(Property::L4, &[known.born, touched], || {
                let (name, step) = (clue.workflow(known.workflow), clue.step(Step(known.step)));
                let attempt = known.attempt;
                let waits = match (known.tick, touched) {
                    (0, _) => "a tick that sees it".into(),
                    (tick, super::transactions::NONE) => {
                        format!("a worker that claims the window with {}", Tick(tick))
                    }
                    (_, claimed) => format!("the handoff of whoever claimed its window at {}", clue.at(claimed)),
                };
                format!("attempt {attempt} of {name} at {step} ({event}) is there since {since} and has not ended at {end}: it waits for {waits}")
            });
        }
    }
}
