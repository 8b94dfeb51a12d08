//! A window in the worker's hands: what it was given, and what it decided.

use super::decision::Decided;
use alloc::boxed::Box;
use alloc::vec::Vec;
use tourbillon_models::name::{EventId, Micros, Step, Token, WorkflowId};
use tourbillon_models::op::{Decision, Verb};
use tourbillon_models::reply::{Arrival, ChildResult, Event};

/// A window, or of an isolated one the event at hand.
#[derive(Clone, Debug)]
pub struct Lease {
    pub token: Token,
    /// Its events are handed out one by one.
    pub is_isolated: bool,
    pub events: Vec<Event>,
    /// What their children left, by join.
    pub results: Vec<ChildResult>,
    pub decisions: Vec<Decision>,
    pub effects: Vec<(WorkflowId, u32, Step)>,
    pub heartbeat_at: Micros,
    /// What a handoff that is not committed yet has made of its events.
    pub dead: Vec<EventId>,
}

impl Lease {
    pub fn new(token: Token, is_isolated: bool, now: Micros) -> Box<Self> {
        Box::new(Lease {
            token,
            is_isolated,
            events: Vec::new(),
            results: Vec::new(),
            decisions: Vec::new(),
            effects: Vec::new(),
            heartbeat_at: now,
            dead: Vec::new(),
        })
    }

    /// The next event of an isolated window takes the place of the last one.
    pub fn turn_to(&mut self, events: Vec<Event>) {
        self.events = events;
        self.decisions.clear();
        self.effects.clear();
    }

    /// Whether something must be known before the work that the events do not say.
    pub fn needs_results(&self) -> bool {
        self.events.iter().any(|event| matches!(event.arrival, Arrival::Joined { .. }))
    }

    pub fn decided(&mut self, event: &Event, Decided { decision, children, effect }: Decided) {
        self.decisions.push(decision);
        self.decisions.extend(children);
        if effect {
            self.effects.push((event.workflow, event.sequence, event.step));
        }
    }

    /// Without effects a handoff is a statement by itself.
    pub const fn needs_transaction(&self) -> bool {
        !self.effects.is_empty()
    }

    /// What the handoff's reply says of dead letters: 0 in the place of a successor, and every rejection.
    pub fn handed_off(&mut self, appended: &[u32]) {
        let mut appended = appended.iter();
        let dead = self.decisions.iter().filter(|decision| match decision.verb {
            verb if verb.has_id() => appended.next() == Some(&0),
            verb => verb == Verb::Reject,
        });
        self.dead = dead.map(|decision| decision.event).collect();
    }
}
