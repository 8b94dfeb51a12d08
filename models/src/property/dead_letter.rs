//! Dead letters: what nobody will work on any more, why, and what was given another life. Q12 and W10.
//!
//! An event becomes a dead letter by its decision (rejected, or retried beyond its attempts), by a hand-out that finds
//! its tries used up, or since it cannot be delivered: by a drain, or by whoever ends the wait or the join that it was. That is its end, and the end of its workflow.
//!
//! - **Q12** A dead letter is written once and stays: nothing that has it for an end has another one; at most one
//!   committed replay names it, and none that is none; at the end there is one row for each that was told, with its step
//!   and state, and with the event that it was replayed as. Broken by a replay that leaves the original where it was.
//! - **W10** Each dead letter has its reason in the history: a retry's attempt beyond the most that its decision allows; a
//!   decision that rejects; as many hand-outs of that event alone as the call allows, none of which ended it; or, where the
//!   header's option `undeliverable_state` names what cannot be delivered, that state. A row that nobody told of has none.
//!   Broken by dead-lettering what is old, and the innocent in a poisoned window.

use super::arrival::told;
use super::checker::{Done, Pass};
use super::clue::Clue;
use super::content::Content;
use super::log::Entry;
use super::transactions::NONE;
use super::undeliverable::calls_dead;
use super::workflow::Workflow;
use super::{Property, Reach};
use crate::name::{Consumer, EventId, Queue, Step, WorkflowId};
use crate::op::{Decision, Op, Verb};
use crate::reply::{Arrival, Reply};
use crate::state::{DeadLetterRow, DeadReason, Parent, State};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;

/// The header's option that names the state which an application's rule forbids.
pub const UNDELIVERABLE_STATE: &str = "undeliverable_state";

#[derive(Clone, Copy)]
pub(super) struct DeadLetter {
    queue: u8,
    record: u32,
    reason: DeadReason,
    content: Content,
    /// Of a child: to which join it reports.
    parent: Option<Parent>,
    /// The record of its replay, or [`NONE`].
    replayed: u32,
    /// As what; 0 if the reply was lost.
    replayed_as: EventId,
}

#[derive(Default)]
pub(super) struct DeadLetters {
    /// By event and consumer.
    letters: BTreeMap<(u32, u8), DeadLetter>,
    /// Dead in a drain that nobody knows to have scheduled it.
    untold: BTreeSet<u32>,
    /// Workflows that are replays: their start key is nobody's.
    pub(super) replays: BTreeSet<u32>,
}

impl DeadLetters {
    pub(super) fn clear(&mut self) {
        self.letters.clear();
        self.untold.clear();
        self.replays.clear();
    }

    /// The consumer's dead letter of this event, or nobody's: that of a message which no drain could deliver.
    fn of(&mut self, consumer: Consumer, event: EventId) -> Option<&mut DeadLetter> {
        let is_nobodys =
            |letter: &DeadLetter| letter.reason == DeadReason::Undeliverable && letter.content.workflow.0 == 0;
        let mut letters = self.letters.range_mut((event.0, 0)..=(event.0, u8::MAX));
        letters.find(|((_, of), letter)| *of == consumer.0 || is_nobodys(letter)).map(|(_, letter)| letter)
    }

    #[inline]
    pub(super) fn is_dead(&self, event: EventId) -> bool {
        if self.letters.is_empty() && self.untold.is_empty() {
            return false;
        }
        self.untold.contains(&event.0) || self.letters.range((event.0, 0)..=(event.0, u8::MAX)).next().is_some()
    }
}

impl Pass<'_> {
    pub(super) fn dead_letter(
        &mut self,
        done: Done,
        consumer: u8,
        queue: Queue,
        event: EventId,
        reason: DeadReason,
        content: &Content,
    ) {
        self.found.exercised(Property::Q12);
        self.found.exercised(Property::W10);
        match reason {
            DeadReason::Attempts => self.found.sees(Reach::RetryExhausted),
            DeadReason::Tries => self.found.sees(Reach::DeadLetterTries),
            DeadReason::Rejected => self.found.sees(Reach::DeadLetterRejected),
            DeadReason::Undeliverable => {}
        }
        if self.memory.joins.parent_of(content.workflow).is_some() {
            self.found.sees(match reason {
                DeadReason::Attempts => Reach::ChildDeadAttempts,
                DeadReason::Tries => Reach::ChildDeadTries,
                DeadReason::Rejected => Reach::ChildRejected,
                DeadReason::Undeliverable => Reach::ChildUndeliverable,
            });
        }
        let letter = DeadLetter {
            queue: queue.0,
            record: done.record(),
            reason,
            content: *content,
            parent: self.memory.joins.parent_of(content.workflow),
            replayed: NONE,
            replayed_as: EventId(0),
        };
        let clue = Clue(self.history);
        let before = self.memory.dead_letters.letters.get(&(event.0, consumer)).map(|letter| letter.record);
        match before {
            Some(first) => self.found.violated(Property::Q12, &[first, done.record()], || {
                let (at, again, consumer) = (clue.at(first), clue.at(done.record()), Consumer(consumer));
                format!("{event} became a dead letter of {consumer} twice: at {at}, and at {again}")
            }),
            None => drop(self.memory.dead_letters.letters.insert((event.0, consumer), letter)),
        }
    }

    /// A drain calls dead what nobody is known to have scheduled.
    pub(super) fn dead_letter_untold(&mut self, done: Done, queue: Queue, event: EventId) {
        let clue = Clue(self.history);
        let is_fired = self.memory.events.get(event.0).is_some() || self.memory.events.is_retired(event.0);
        if self.memory.dead_letters.is_dead(event) || is_fired {
            return self.found.violated(Property::Q12, &[done.record()], || {
                let (how, at) = (if is_fired { "had become an event" } else { "was one" }, clue.at(done.record()));
                format!("{event} of {queue} became a dead letter at {at}, and {how} before")
            });
        }
        self.memory.dead_letters.untold.insert(event.0);
    }

    /// What an event that ended otherwise says about a dead letter of it.
    pub(super) fn judge_only_end(&mut self, done: Done, consumer: u8, event: EventId) {
        let Some(letter) = self.memory.dead_letters.letters.get(&(event.0, consumer)).copied() else { return };
        let clue = Clue(self.history);
        self.found.violated(Property::Q12, &[letter.record, done.record(), done.commit], || {
            let (dead, who) = (clue.at(letter.record), clue.under_token(done.record()));
            format!(
                "{event} became a dead letter at {dead}, and was handed off by {who}: {}",
                clue.successor(done.record(), event)
            )
        });
    }

    /// W10 of what could not be delivered.
    pub(super) fn judge_undeliverable(&mut self, done: Done, event: EventId, content: &Content, born: u32) {
        let clue = Clue(self.history);
        let Some(forbidden) = self.forbidden_state() else { return };
        if content.state != forbidden {
            self.found.violated(Property::W10, &[born, done.record()], || {
                let (at, state) = (clue.at(done.record()), content.state);
                format!("{event} became a dead letter at {at} as undeliverable, with state {state}, and only {forbidden} cannot be delivered")
            });
        }
    }

    /// A dead letter that had no reason.
    pub(super) fn false_dead_letter(&mut self, records: &[u32], sentence: impl FnOnce() -> String) {
        self.found.violated(Property::W10, records, sentence);
    }

    pub(super) fn replayed(&mut self, done: Done, key: (Consumer, EventId), new: (WorkflowId, EventId, u8)) {
        self.found.exercised(Property::Q12);
        self.found.sees(Reach::DeadLetterReplayed);
        let ((consumer, event), (workflow, id, table)) = (key, new);
        let (history, clue) = (self.history, Clue(self.history));
        if !self.memory.dead_letters.is_dead(event) {
            self.settle(done.record(), |op, reply| match (op, reply) {
                (Op::Handoff { decisions, .. }, Reply::HandedOff { undeliverable, .. }) => {
                    history.decisions(*decisions).iter().any(|decision| decision.event == event)
                        || history.ids(*undeliverable).contains(&event.0)
                }
                _ => calls_dead(reply).iter().any(|dead| history.ids(*dead).contains(&event.0)),
            });
        }
        let Some(letter) = self.memory.dead_letters.of(consumer, event) else {
            return self.replayed_unknown(done, consumer, event);
        };
        let first = letter.replayed;
        if first == NONE {
            (letter.replayed, letter.replayed_as) = (done.record(), id);
        }
        let letter = *letter;
        if first != NONE {
            self.found.violated(Property::Q12, &[letter.record, first, done.record()], || {
                let (before, at) = (clue.at(first), clue.at(done.record()));
                let was = match letter.replayed_as.0 {
                    0 => "as an event whose id was lost".into(),
                    _ => format!("as {}", letter.replayed_as),
                };
                format!("the dead letter {event} was replayed twice: {was} at {before}, and as {id} at {at}")
            });
        }
        self.live_on(done, &letter, workflow, id, table);
    }

    /// The replay's own event.
    fn live_on(&mut self, done: Done, letter: &DeadLetter, workflow: WorkflowId, id: EventId, table: u8) {
        let Content { step, state, .. } = letter.content;
        let sequence = u32::from(workflow.0 != 0);
        if workflow.0 != 0 {
            self.memory.dead_letters.replays.insert(workflow.0);
            self.memory.workflows.insert(workflow.0, Workflow::new(Queue(letter.queue), id.0, done.commit));
            letter.parent.into_iter().for_each(|parent| self.adopt_child(workflow, parent));
        }
        let entry = Entry::new(done, Queue(letter.queue), table, (workflow, sequence, step, state));
        self.add_event(done, id, entry);
        self.arrives(id, Some(letter.content.arrival));
    }

    fn replayed_unknown(&mut self, done: Done, consumer: Consumer, event: EventId) {
        let clue = Clue(self.history);
        let explains = self.memory.dead_letters.untold.contains(&event.0) || self.may_be_dead(event);
        if !explains {
            self.found.violated(Property::Q12, &[done.record()], || {
                let at = clue.at(done.record());
                format!("{event} was replayed at {at}, and had not become a dead letter of {consumer}")
            });
        }
    }

    /// Whether a reply that was lost may have told of this dead letter.
    fn may_be_dead(&self, event: EventId) -> bool {
        let rows = self.history.state.as_ref().map_or(&[][..], |state| &state.dead_letters);
        let has_lost_drain = self.memory.timers.has_lost_drain();
        let has_lost = self.memory.has_lost_hand_out || !self.memory.missing.is_empty() || has_lost_drain;
        has_lost && (rows.is_empty() || rows.iter().any(|row| row.event == event))
    }

    /// A replay whose reply was lost, and that committed: what it lives on as is known when somebody is handed it.
    pub(super) fn replay_lost(&mut self, done: Done, consumer: Consumer, event: EventId) {
        let Some(letter) = self.memory.dead_letters.of(consumer, event) else { return };
        if done.commit != NONE && letter.replayed == NONE {
            letter.replayed = done.commit;
        }
        let letter = *letter;
        self.miss_replay(done, Queue(letter.queue), letter.content, letter.parent);
    }

    pub(super) fn compare_dead_letters(&mut self, state: &State) {
        let rows: BTreeSet<(u32, u8)> = state.dead_letters.iter().map(|row| (row.event.0, row.consumer.0)).collect();
        let clue = Clue(self.history);
        let gone = self.memory.dead_letters.letters.iter().find(|(key, _)| !rows.contains(key));
        if let Some(((event, consumer), letter)) = gone.map(|(key, letter)| (*key, *letter)) {
            self.found.violated(Property::Q12, &[letter.record, letter.replayed], || {
                let (event, consumer, at) = (EventId(event), Consumer(consumer), clue.at(letter.record));
                format!("{event} became a dead letter of {consumer} at {at}, and has no row at the end")
            });
        }
        for row in &state.dead_letters {
            self.compare_dead_letter(row);
        }
    }

    fn compare_dead_letter(&mut self, row: &DeadLetterRow) {
        let clue = Clue(self.history);
        let DeadLetterRow { event, consumer, reason, step, state, replayed_as, .. } = *row;
        let Some(letter) = self.memory.dead_letters.letters.get(&(event.0, consumer.0)).copied() else {
            let explains = self.memory.dead_letters.untold.contains(&event.0) || self.may_be_dead(event);
            if !explains {
                self.false_dead_letter(&[], || {
                    format!("{event} is a dead letter of {consumer} at the end ({reason:?}), and nothing tells how it became one")
                });
            }
            return;
        };
        if letter.reason != reason {
            self.false_dead_letter(&[letter.record], || {
                let (at, told) = (clue.at(letter.record), letter.reason);
                format!("{event} became a dead letter at {at} ({told:?}), and is kept with another reason: {reason:?}")
            });
        }
        let is_same = letter.content.step == step.0 && letter.content.state == state;
        if !is_same {
            self.found.violated(Property::Q12, &[letter.record], || {
                let (was, is) = (clue.step(Step(letter.content.step)), clue.step(step));
                let at = clue.at(letter.record);
                format!(
                    "{event} became a dead letter at {at} at {was} with state {}, and is kept at {is} with {state}",
                    letter.content.state
                )
            });
        }
        let is_vague = letter.parent.is_none() && self.memory.joins.has_lost_spawn;
        if letter.content.arrival != row.arrival || (letter.parent != row.parent && !is_vague) {
            self.found.violated(Property::Q12, &[letter.record], || {
                let (was, is) = ((letter.content.arrival, letter.parent), (row.arrival, row.parent));
                let told = |(arrival, parent): (Arrival, Option<Parent>)| match parent {
                    None => told(arrival),
                    Some(Parent { join, index }) => format!("{}, of child {index} of {join}", told(arrival)),
                };
                let at = clue.at(letter.record);
                format!("{event} became a dead letter at {at} {}, and is kept {}", told(was), told(is))
            });
        }
        let is_told = letter.replayed != NONE;
        if is_told != (replayed_as.0 != 0) || (letter.replayed_as.0 != 0 && letter.replayed_as != replayed_as) {
            self.found.violated(Property::Q12, &[letter.record, letter.replayed], || {
                let kept =
                    if replayed_as.0 == 0 { "as not replayed".into() } else { format!("as replayed as {replayed_as}") };
                let told =
                    if is_told { format!("was replayed as {}", letter.replayed_as) } else { "was not replayed".into() };
                format!("the dead letter {event} {told}, and is kept {kept}")
            });
        }
    }
}

/// Which decisions make a dead letter is known by their reply, or, without one, by what they say.
pub(super) const fn is_exhausted(decision: &Decision) -> bool {
    matches!(decision.verb, Verb::Retry) && decision.attempt > decision.max_attempts
}
