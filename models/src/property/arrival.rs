//! Arrivals: what a step is told of what its workflow had waited for, from the append of its event to its handoff.
//!
//! Most events have none, so they are kept beside the log: a history without waits and joins pays for no more than a
//! look into an empty map. What is wrong with one that is delivered: A2 of a wait's continuation, W7 of any other.

use super::Property;
use super::checker::Pass;
use super::clue::Clue;
use super::log::Entry;
use crate::name::EventId;
use crate::reply::{Arrival, Event};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

/// How many may be kept before the first look at which of them are still needed.
const KEPT: usize = 64;

#[derive(Default)]
pub(super) struct Arrivals {
    /// None: what was emitted is not known, since the reply was lost.
    by_event: BTreeMap<u32, Option<Arrival>>,
    full_at: usize,
}

impl Arrivals {
    pub(super) fn clear(&mut self) {
        self.by_event.clear();
        self.full_at = KEPT;
    }

    /// Whether the event's step is told this.
    #[inline]
    pub(super) fn agree(&self, event: &Event) -> bool {
        match self.by_event.is_empty() {
            true => matches!(event.arrival, Arrival::Direct),
            false => self.of(event.id) == Some(event.arrival),
        }
    }

    /// What the event's step is told; none if that is not known.
    #[inline]
    pub(super) fn of(&self, event: EventId) -> Option<Arrival> {
        if self.by_event.is_empty() {
            return Some(Arrival::Direct);
        }
        self.by_event.get(&event.0).copied().unwrap_or(Some(Arrival::Direct))
    }
}

impl Pass<'_> {
    /// An event that is in the log is to be delivered with this.
    #[inline]
    pub(super) fn arrives(&mut self, event: EventId, arrival: Option<Arrival>) {
        if arrival != Some(Arrival::Direct) {
            self.keep_arrival(event, arrival);
        }
    }

    #[cold]
    fn keep_arrival(&mut self, event: EventId, arrival: Option<Arrival>) {
        let (arrivals, events) = (&mut self.memory.arrivals, &self.memory.events);
        if arrivals.by_event.len() >= arrivals.full_at {
            arrivals.by_event.retain(|event, _| events.get(*event).is_some());
            arrivals.full_at = KEPT + 2 * arrivals.by_event.len();
        }
        arrivals.by_event.insert(event.0, arrival);
    }

    /// An event whose step is told something that its append does not say.
    pub(super) fn arrived_otherwise(&mut self, index: u32, event: &Event, known: &Entry) {
        let clue = Clue(self.history);
        let Some(expected) = self.memory.arrivals.of(event.id) else {
            return self.arrives(event.id, Some(event.arrival));
        };
        let is_wait = |arrival: Arrival| matches!(arrival, Arrival::Emitted { .. } | Arrival::TimedOut);
        let is_own = known.attempt == 1 && (is_wait(expected) || is_wait(event.arrival));
        let property = if is_own { Property::A2 } else { Property::W7 };
        self.found.violated(property, &[known.born, index], || {
            let (id, workflow, at) = (event.id, clue.workflow(event.workflow), clue.at(index));
            format!("{id} of {workflow} was to arrive {}, and arrived at {at} {}", told(expected), told(event.arrival))
        });
    }
}

/// "with 7, emitted", for a sentence.
pub(super) fn told(arrival: Arrival) -> String {
    match arrival {
        Arrival::Direct => String::from("as what nobody waited for"),
        Arrival::Emitted { payload } => format!("with {payload}, emitted"),
        Arrival::TimedOut => String::from("as timed out"),
        Arrival::Joined { join } => format!("as joined, with what the children of {join} left"),
    }
}
