//! Handoffs: what a worker decided about the steps of its window, and what follows. W2, W3, W4, W7; of what is left of the
//! workflows then: [`workflow`](super::workflow), of a step's work: [`work`](super::work).
//!
//! - **W3** No event is handed off twice with a successor or an end (a dead letter is one), by whichever consumer. Broken by
//!   a zombie whose handoff commits, and by a second consumer.
//! - **W4** A successor's sequence is higher than its predecessor's, and it is delivered with that sequence.
//! - **W2** A successor is delivered under the number of the transaction that acknowledged its predecessor, or, if it was a
//!   timer, of the drain. (For effects: [`work`](super::work).) Broken by a client that acknowledges separately.
//! - **W7** A step is delivered as it was appended, and its decision is the one that the program takes at that attempt, in
//!   the version by which the worker said that it had done the work. Where the program dies, there is no decision.

use super::acknowledgement::first_handoff;
use super::checker::{Done, Pass};
use super::clue::Clue;
use super::content::Content;
use super::dead_letter::is_exhausted;
use super::lease::Finish;
use super::log::{Entry, UNTOLD, UNTOLD_TABLE};
use super::successor::{Children, Successor, told_by};
use super::timer::Delay;
use super::transactions::NONE;
use super::{Property, Reach};
use crate::name::{EventId, Queue, Step, Token, WorkerId};
use crate::op::{Decision, Verb};
use crate::record::Span;
use crate::reply::Arrival;
use crate::state::DeadReason;
use crate::workload::StepInput;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Pass<'_> {
    pub(super) fn handed_off(
        &mut self,
        done: Done,
        worker: WorkerId,
        token: Token,
        decisions: Span,
        told: Option<HandedOff>,
    ) {
        let history = self.history;
        let table = told.as_ref().map_or(UNTOLD_TABLE, |told| told.table);
        let is_alone = self.memory.workers.get(worker.0).is_some_and(|known| known.isolated && known.token == token);
        let finish = if is_alone { Finish::Event } else { Finish::Window };
        let fence = self.fence(done, worker, token, finish);
        let consumer = self.memory.workers.get(worker.0).map(|known| known.consumer);
        if self.has_children() {
            self.see_taken_over(worker, history.decisions(decisions));
        }
        let mut ids = told.as_ref().map(|told| (history.ids(told.appended), history.ids(told.children)));
        let mut rest = history.decisions(decisions);
        while let [decision, others @ ..] = rest {
            rest = others;
            let id = match &mut ids {
                Some((appended, _)) if decision.verb.has_id() => Some(take_id(appended)),
                Some(_) => Some(None),
                None => None,
            };
            let successor = Successor::of(decision, id);
            let mut children = Children::NONE;
            if decision.verb == Verb::Spawn {
                (children, rest) = children_of(decision, rest, &mut ids);
            }
            if decision.verb != Verb::Child {
                self.decide(Decided { done, consumer, decision, children, successor, table });
            }
        }
        if let Some(told) = told {
            self.undeliverable(done, told.undeliverable);
            self.continued(done, told.resumed, table);
        }
        if self.memory.waits.has_registered() {
            self.judge_registered(done);
        }
        match fence {
            Some(_) if is_alone => self.found.sees(Reach::IsolatedHandoff),
            Some((consumer, window)) => self.window_finished(done, consumer, window),
            None => {}
        }
    }

    /// Children in a window that had been taken over.
    #[cold]
    fn see_taken_over(&mut self, worker: WorkerId, decisions: &[Decision]) {
        let Some(known) = self.memory.workers.get(worker.0) else { return };
        let (consumer, window) = (known.consumer, known.window);
        if self.range_of(consumer, window).is_some_and(|range| range.takeovers > 0) {
            decisions.iter().for_each(|decision| self.child_taken_over(decision.workflow));
        }
    }

    #[inline]
    fn decide(&mut self, decided: Decided<'_>) {
        let Decided { done, consumer, decision, children, successor, .. } = decided;
        let event = decision.event;
        let Some(known) = self.memory.events.get(event.0).copied().or_else(|| self.settle_unread(done, event)) else {
            return self.decided_unknown(decided);
        };
        if let Some(consumer) = consumer {
            self.acknowledge(done, consumer, event);
            self.judge_dead(done, (consumer, &known), decision, successor);
        }
        if decision.verb == Verb::Retry {
            self.retried(done, &known, decision, successor);
        }
        if known.attempt > 1 {
            self.attempted(done, &known, event);
        }
        if known.workflow.0 == 0 {
            return self.add_successor(Queue(known.queue), decided);
        }
        if decision.verb == Verb::Acknowledge {
            return self.continuation_lost(done.record(), event);
        }
        self.found.exercised(Property::W3);
        let is_again = known.consumed != NONE;
        if is_again {
            self.continued_twice(done, &known, event);
        } else if let Some(known) = self.memory.events.get_mut(event.0) {
            known.consumed = done.record();
        }
        let arrival = self.memory.arrivals.of(event).unwrap_or_default();
        self.judge_decision(done, &known, (decision, children), arrival);
        self.count_continuation(&known, decided, is_again);
        self.add_successor(Queue(known.queue), decided);
        if let (Arrival::Joined { join }, false) = (arrival, is_again) {
            self.joined_decided(join, decision, successor);
        }
    }

    /// The event of a handoff: nobody was shown it so far, if a crash has lost what it was read by.
    #[cold]
    fn settle_unread(&mut self, done: Done, event: EventId) -> Option<Entry> {
        let is_found = !self.is_event(event) && self.settle_birth(done.record(), event);
        self.memory.events.get(event.0).copied().filter(|_| is_found)
    }

    /// Whether the event is a dead letter from here on, or was one before.
    fn judge_dead(&mut self, done: Done, (consumer, known): (u8, &Entry), decision: &Decision, successor: Successor) {
        if self.memory.dead_letters.is_dead(decision.event) {
            self.judge_only_end(done, consumer, decision.event);
        }
        if !matches!(successor, Successor::Dead) {
            return;
        }
        let event = decision.event;
        let reason = if decision.verb == Verb::Retry { DeadReason::Attempts } else { DeadReason::Rejected };
        if matches!(decision.verb, Verb::Goto | Verb::Sleep | Verb::Await | Verb::Spawn) {
            let clue = Clue(self.history);
            return self.false_dead_letter(&[known.born, done.record()], || {
                let (workflow, who) = (clue.workflow(known.workflow), clue.under_token(done.record()));
                format!("{workflow} was to go on from {event}, by {who}, and became a dead letter")
            });
        }
        let arrival = self.memory.arrivals.of(event).unwrap_or_default();
        let content = Content::of_entry(known, arrival);
        self.dead_letter(done, consumer, Queue(known.queue), event, reason, &content);
    }

    fn add_successor(&mut self, queue: Queue, decided: Decided<'_>) {
        let Decided { done, decision, successor, table, .. } = decided;
        match successor {
            Successor::Event(id) => {
                self.add_event(done, id, Entry::of_successor(done, queue, table, decision));
                if decision.verb == Verb::Retry {
                    self.arrives(id, Some(decision.arrival));
                }
            }
            Successor::Later(id) if decision.verb == Verb::Await => self.wait_registered(done, queue, id, decision),
            Successor::Later(id) => self.join_opened(queue, id, decided),
            Successor::Timer(id) => {
                let Decision { workflow, sequence, step, attempt, state, delay, arrival, .. } = *decision;
                let arrival = if decision.verb == Verb::Retry { arrival } else { Arrival::Direct };
                let content = Content { workflow, sequence, step: step.0, attempt, state, arrival };
                self.scheduled(done, queue, id, content, Delay { delay, told: None });
            }
            Successor::None | Successor::Dead | Successor::Untold => {}
        }
    }

    /// A handoff of an event that is not live: it was finished long ago, or never there.
    fn decided_unknown(&mut self, decided: Decided<'_>) {
        let Decided { done, consumer, decision, .. } = decided;
        let (clue, event) = (Clue(self.history), decision.event);
        if self.memory.events.is_retired(event.0) {
            consumer.into_iter().for_each(|consumer| self.acknowledged_twice(done, consumer, event));
            if decision.verb != Verb::Acknowledge {
                self.continued_long_after(done, decision);
            }
        } else {
            self.found.violated(Property::Q2, &[done.record()], || {
                let who = clue.under_token(done.record());
                format!("{event}, which no committed transaction appended, was handed off by {who}")
            });
        }
        let queue = consumer.and_then(|consumer| self.subscription(consumer)).map(|subscription| subscription.queue);
        if let Some(queue) = queue {
            self.add_successor(Queue(queue), decided);
        }
    }

    /// A second successor of a step whose event was finished and truncated in the meantime.
    fn continued_long_after(&mut self, done: Done, decision: &Decision) {
        let (clue, event) = (Clue(self.history), decision.event);
        let tells = self.found.tells(Property::W3);
        let first = if tells { first_handoff(clue, event, done.record()) } else { None }.unwrap_or(NONE);
        self.found.violated(Property::W3, &[first, done.record(), done.commit], || {
            format!("the step of {event} has two successors: {}", both_successors(clue, event, first, done.record()))
        });
        if let (true, Some(workflow)) = (decision.verb.continues(), self.memory.workflows.get_mut(decision.workflow.0))
        {
            workflow.continuation_count += 1;
            self.judge_continuation(done.record(), done.commit, decision.workflow);
        }
    }

    fn continued_twice(&mut self, done: Done, known: &Entry, event: EventId) {
        let clue = Clue(self.history);
        let (first, again) = (known.consumed, done.record());
        self.found.violated(Property::W3, &[known.born, first, again, done.commit], || {
            let (workflow, sequence) = (clue.workflow(known.workflow), known.sequence);
            format!("{workflow} step {sequence} has two successors: {}", both_successors(clue, event, first, again))
        });
    }

    /// The decision itself: the workflow's own, rising, what the program says, with the effect that the program asks for.
    fn judge_decision(
        &mut self,
        done: Done,
        known: &Entry,
        (decision, children): (&Decision, Children<'_>),
        arrival: Arrival,
    ) {
        let clue = Clue(self.history);
        let event = decision.event;
        let records = [known.born, done.record(), done.commit];
        if decision.verb.continues() && !is_exhausted(decision) {
            self.found.exercised(Property::W4);
            if known.sequence != UNTOLD && decision.sequence <= known.sequence {
                self.found.violated(Property::W4, &records, || {
                    let (workflow, at) = (clue.workflow(known.workflow), clue.at(done.record()));
                    format!("{workflow} went from step {} to step {} at {at}", known.sequence, decision.sequence)
                });
            }
            if decision.workflow != known.workflow {
                self.found.violated(Property::W7, &records, || {
                    let (other, own) = (clue.workflow(decision.workflow), clue.workflow(known.workflow));
                    format!("{event} belongs to {own}, and its handoff appended a step of {other}")
                });
            }
        }
        let Some(program) = self.program else { return self.judge_effects(done, known, event, None) };
        let results = match arrival {
            Arrival::Joined { join } => self.memory.joins.results_of(join),
            _ => Some(Vec::new()),
        };
        let Some(results) = results else { return self.judge_effects(done, known, event, None) };
        self.found.exercised(Property::W7);
        let version = self.version_of(done, known, event);
        let (step, state, attempt) = (Step(known.step), known.state, known.attempt);
        let asked = program.decide(StepInput { step, state, arrival, results: &results, attempt, version });
        let is_same_step = decision.step.0 == known.step && decision.state == known.state;
        let was = told_by(decision, children.decisions);
        let is_same_again = || is_same_step && decision.arrival == arrival;
        if asked.next != was || (decision.verb == Verb::Retry && !is_same_again()) {
            self.found.violated(Property::W7, &records, || {
                let (workflow, step) = (clue.workflow(known.workflow), clue.step(Step(known.step)));
                let asked = asked.next;
                let attempt = if attempt > 1 { format!(", attempt {attempt}") } else { "".into() };
                let version = if version > 0 { format!(", version {version}") } else { "".into() };
                format!(
                    "{workflow} was handed off at {step} (state {state}{attempt}{version}) with {was:?}, and the program says {asked:?}"
                )
            });
        }
        self.judge_effects(done, known, event, Some(asked.effect));
    }
}

/// What a handoff's reply says.
pub(super) struct HandedOff {
    pub(super) appended: Span,
    pub(super) children: Span,
    pub(super) resumed: Span,
    pub(super) undeliverable: Span,
    pub(super) table: u8,
}

/// One decision of a handoff, with what came of it.
#[derive(Clone, Copy)]
pub(super) struct Decided<'h> {
    pub(super) done: Done,
    /// Whose window it was, if that is known.
    pub(super) consumer: Option<u8>,
    pub(super) decision: &'h Decision,
    pub(super) children: Children<'h>,
    pub(super) successor: Successor,
    /// Where events were appended.
    pub(super) table: u8,
}

/// What two handoffs of one event came to.
fn both_successors(clue: Clue<'_>, event: EventId, first: u32, again: u32) -> String {
    format!(
        "{}, committed by {}, and {}, committed by {}{}",
        clue.successor(first, event),
        clue.under_token(first),
        clue.successor(again, event),
        clue.under_token(again),
        clue.death_of_token(again)
    )
}

/// The ids that a handoff's reply still has for decisions, and for children.
type Ids<'h> = Option<(&'h [u32], &'h [u32])>;

fn take_id(ids: &mut &[u32]) -> Option<u32> {
    let (id, rest) = ids.split_first()?;
    *ids = rest;
    Some(*id)
}

/// The children of a spawn, who follow it, and what comes after them.
#[cold]
fn children_of<'h>(spawn: &Decision, rest: &'h [Decision], ids: &mut Ids<'h>) -> (Children<'h>, &'h [Decision]) {
    let is_child = |decision: &&Decision| decision.verb == Verb::Child && decision.event == spawn.event;
    let (decisions, rest) = rest.split_at(rest.iter().take_while(is_child).count());
    let mut own = None;
    if let Some((appended, workflows)) = ids {
        let count = decisions.len();
        if let (Some((events, later)), Some((started, others))) =
            (appended.split_at_checked(count), workflows.split_at_checked(count))
        {
            own = Some((events, started));
            (*appended, *workflows) = (later, others);
        }
    }
    (Children { decisions, ids: own }, rest)
}

impl Entry {
    fn of_successor(done: Done, queue: Queue, table: u8, decision: &Decision) -> Self {
        let content = (decision.workflow, decision.sequence, decision.step.0, decision.state);
        Entry { attempt: decision.attempt, ..Entry::new(done, queue, table, content) }
    }
}
