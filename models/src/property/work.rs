//! What a step does beside going on: effects in the database, and work outside of it. W5, W6, and W2 for effects.
//!
//! - **W5** The step's effect is committed once, in the transaction of its handoff, if the program asks for one; none is
//!   committed for a step that was handed off before. Judged for transactions that held their window or handed it off:
//!   what a client writes without either is outside the contract, and its own business.
//! - **W2** An effect in a transaction that held its window comes with the handoff of its step in the same transaction.
//!   Broken by a client that forgets the handoff.
//! - **W6** External work for an event is started at most once more often than something went wrong for a holder of its
//!   window: a takeover, a refusal, an abort, a lost reply, a death. What goes wrong between two starts counts once.
//!   A start under a claim that a crash loses does not count. Broken by a redelivery after the commit.

use super::acknowledgement::first_handoff;
use super::checker::{Done, Pass};
use super::clue::Clue;
use super::log::{Entry, UNTOLD};
use super::transactions::{NONE, Write};
use super::workflow::LedgerLine;
use super::{Property, Reach};
use crate::name::{EventId, Step, WorkerId, WorkflowId};
use crate::op::Op;
use crate::record::Record;
use alloc::format;

impl Pass<'_> {
    pub(super) fn judge_effects(&mut self, done: Done, known: &Entry, event: EventId, expected: Option<bool>) {
        if expected == Some(true) {
            self.found.exercised(Property::W5);
        }
        let count = self.memory.events.get(event.0).map_or(0, |known| known.effects);
        if count == 1 || (count == 0 && expected != Some(true)) {
            return;
        }
        let clue = Clue(self.history);
        self.found.violated(Property::W5, &[known.born, done.record(), done.commit], || {
            let (workflow, step) = (clue.workflow(known.workflow), clue.step(Step(known.step)));
            let who = clue.under_token(done.record());
            match count {
                0 => format!("{workflow} left {step} (step {}) without its effect, by {who}", known.sequence),
                _ => format!("{workflow} left {step} (step {}) with {count} effects, by {who}", known.sequence),
            }
        });
    }

    /// A committed row in the application's ledger. Fenced: its transaction held a window, or handed one off.
    pub(super) fn effect(
        &mut self,
        done: Done,
        (workflow, sequence, step): (WorkflowId, u32, Step),
        is_fenced: bool,
        writes: &[Write],
    ) {
        let xid = done.xid;
        self.memory.has_unnumbered_effects |= xid.0 == 0;
        self.memory.ledger.push(LedgerLine { workflow, sequence, step, xid, record: done.record() });
        if !is_fenced {
            return;
        }
        let (mut continuation, advanced, ended) = match self.memory.workflows.get(workflow.0) {
            Some(known) => (known.continuation, known.advanced, known.ended),
            None if self.memory.workflows.is_retired(workflow.0) => (NONE, 0, 0),
            None => return,
        };
        // Where workflows go on twice, one that has ended may have steps yet.
        if self.found.is_broken(Property::W1) || self.found.is_broken(Property::W3) {
            continuation = self.handed_off_with(writes, workflow, sequence).unwrap_or(continuation);
        }
        if ended < done.commit_call {
            self.went_on(done, workflow, ended);
        }
        if let Some(event) = self.memory.events.get_mut(continuation)
            && event.consumed == NONE
            && (event.sequence == sequence || event.sequence == UNTOLD)
        {
            event.effects = event.effects.saturating_add(1);
            self.memory.effects.push((continuation, done.record()));
        } else if continuation != NONE && advanced < done.commit_call {
            let clue = Clue(self.history);
            self.found.violated(Property::W5, &[advanced, done.record(), done.commit], || {
                let (name, step) = (clue.workflow(workflow), clue.step(step));
                let (who, at) = (clue.process(done.record()), clue.at(done.record()));
                let before = clue.at(advanced);
                format!("{name} had gone on from step {sequence} ({step}) by {before}, and its effect was committed again by {who} at {at}")
            });
        }
    }

    /// Where workflows have gone on twice: which of its events with that sequence the transaction hands off.
    #[cold]
    fn handed_off_with(&self, writes: &[Write], workflow: WorkflowId, sequence: u32) -> Option<u32> {
        let (history, clue) = (self.history, Clue(self.history));
        let decisions = writes.iter().filter_map(|write| match clue.op(write.call)? {
            Op::Handoff { decisions, .. } => Some(history.decisions(decisions)),
            _ => None,
        });
        let mut events = decisions.flatten().map(|decision| decision.event.0);
        events.find(|event| {
            let known = self.memory.events.get(*event).filter(|known| known.workflow == workflow);
            known.is_some_and(|known| known.sequence == sequence || known.sequence == UNTOLD)
        })
    }

    /// The transaction is applied: each effect in it, from the `first` on, must have come with its step's handoff.
    pub(super) fn effects_committed(&mut self, writes: &[Write], done: Done, first: usize) {
        for place in first..self.memory.effects.len() {
            let (event, record) = self.memory.effects[place];
            self.found.exercised(Property::W2);
            let Some(known) = self.memory.events.get(event).copied() else { continue };
            if writes.iter().any(|write| write.ret == known.consumed) {
                continue;
            }
            let clue = Clue(self.history);
            self.found.violated(Property::W2, &[record, done.commit], || {
                let (workflow, step) = (clue.workflow(known.workflow), clue.step(Step(known.step)));
                let (who, at) = (clue.process(done.commit), clue.at(done.commit));
                format!(
                    "{who} committed the effect of {workflow} at {step} (step {}) at {at} without its handoff",
                    known.sequence
                )
            });
        }
    }

    pub(super) fn work_started(&mut self, index: u32, record: &Record, event: EventId) {
        // Of a claim that is lost nobody knows what went wrong with it, nor for how long its worker goes on.
        if self.memory.suffix.is_bereft(record.process) {
            return;
        }
        let id = WorkerId(self.memory.worker_of_process[record.process.0 as usize]);
        let Some(worker) = self.memory.workers.get(id.0) else { return };
        let (consumer, window, claimed) = (worker.consumer, worker.window, worker.claimed);
        let Some(bit) = self.subscription(consumer).map(|subscription| subscription.bit) else { return };
        let range = self.range_of(consumer, window);
        let excuses = range.map(|range| {
            range.started_by(id);
            range.excuses
        });
        let Some(known) = self.memory.events.get_mut(event.0) else { return };
        let attempts = known.attempt(bit);
        if attempts <= 1 {
            return;
        }
        let known = *known;
        self.found.exercised(Property::W6);
        self.found.sees(Reach::ExternalWorkRepeated);
        let Some(excuses) = excuses else { return };
        if known.tick <= window.0 || known.tick > window.1 || attempts <= 1 + excuses {
            return;
        }
        let clue = Clue(self.history);
        let tells = self.found.tells(Property::W6);
        let first = if tells { first_handoff(clue, event, index) } else { None }.unwrap_or(NONE);
        self.found.violated(Property::W6, &[first, claimed, index], || {
            let at = clue.at(index);
            let of = match known.workflow.0 {
                0 => "a message".into(),
                _ => format!("{} at {}", clue.workflow(known.workflow), clue.step(Step(known.step))),
            };
            let times = match attempts {
                2 => "second".into(),
                3 => "third".into(),
                more => format!("{more}th"),
            };
            format!(
                "external work of {of} ({event}) was started for the {times} time at {at}, and {excuses} failures of those who \
                 held it explain {} at most",
                excuses + 1
            )
        });
    }

    /// External work is done, by some version of the program. The first that says so is kept with the event.
    pub(super) fn work_ended(&mut self, record: &Record, event: EventId, version: u16) {
        let Some(known) = self.memory.events.get_mut(event.0) else { return };
        let told = version.saturating_add(1);
        if known.version == 0 {
            known.version = told;
        } else if known.version != told || !self.memory.versions.is_empty() {
            self.memory.versions.insert((event.0, record.process.0), version);
        }
    }

    /// The version by which whoever handed an event off had worked on it.
    pub(super) fn version_of(&self, done: Done, known: &Entry, event: EventId) -> u16 {
        let first = known.version.saturating_sub(1);
        if self.memory.versions.is_empty() {
            return first;
        }
        let process = self.history.records.get(done.call as usize).map_or(0, |record| record.process.0);
        self.memory.versions.get(&(event.0, process)).copied().unwrap_or(first)
    }
}

impl Entry {
    /// Counts one more start of external work for a subscription, and says how many there were. Up to sixteen are told
    /// apart; of subscriptions beyond the sixteenth none.
    fn attempt(&mut self, bit: u32) -> u32 {
        let shift = 4 * bit.trailing_zeros();
        if shift >= u64::BITS {
            return 0;
        }
        let before = (self.attempts >> shift & 15) as u32;
        if before < 15 {
            self.attempts += 1 << shift;
        }
        before + 1
    }
}
