//! What follows on a decision, as far as the handoff's reply says it; and what the program must have said for it.

use super::dead_letter::is_exhausted;
use super::transactions::NONE;
use crate::name::{EventId, Micros, WaitToken};
use crate::op::{Decision, Verb};
use crate::workload::{Child, Next};

/// What follows on a decision.
#[derive(Clone, Copy)]
pub(super) enum Successor {
    /// Nothing: the end of its workflow, an acknowledgement, or a reply that left out what there should be.
    None,
    Dead,
    /// Its id was in a reply that was lost.
    Untold,
    Event(EventId),
    Timer(EventId),
    /// A wait or a join, by the event that it will be.
    Later(EventId),
}

/// The children of a spawn, in their order.
#[derive(Clone, Copy)]
pub(super) struct Children<'h> {
    pub(super) decisions: &'h [Decision],
    /// Their first events, and their workflows; none if nobody was told.
    pub(super) ids: Option<(&'h [u32], &'h [u32])>,
}

impl Children<'_> {
    pub(super) const NONE: Children<'static> = Children { decisions: &[], ids: None };
}

impl Successor {
    /// `told` is what the reply says: none if it was lost, an inner none if it says nothing.
    pub(super) fn of(decision: &Decision, told: Option<Option<u32>>) -> Self {
        match (decision.verb, told) {
            (Verb::Acknowledge | Verb::Complete | Verb::Fail | Verb::Child, _) => Successor::None,
            (Verb::Reject, _) | (_, Some(Some(0))) => Successor::Dead,
            (Verb::Retry, None) if is_exhausted(decision) => Successor::Dead,
            (_, None) => Successor::Untold,
            (_, Some(None)) => Successor::None,
            (Verb::Await | Verb::Spawn, Some(Some(id))) => Successor::Later(EventId(id)),
            (_, Some(Some(id))) if is_delayed(decision) => Successor::Timer(EventId(id)),
            (_, Some(Some(id))) => Successor::Event(EventId(id)),
        }
    }

    pub(super) const fn id(self) -> u32 {
        match self {
            Successor::Event(id) | Successor::Timer(id) | Successor::Later(id) => id.0,
            _ => NONE,
        }
    }
}

/// Whether what follows is a timer.
pub(super) const fn is_delayed(decision: &Decision) -> bool {
    matches!(decision.verb, Verb::Sleep) || (matches!(decision.verb, Verb::Retry) && decision.delay.0 > 0)
}

/// Whether what follows becomes an event only in a transaction of its own.
pub(super) const fn is_later(decision: &Decision) -> bool {
    is_delayed(decision) || matches!(decision.verb, Verb::Await | Verb::Spawn)
}

/// What the program must have said for this decision to be the right one.
pub(super) fn told_by(decision: &Decision, children: &[Decision]) -> Next {
    let Decision { step, state, delay, max_attempts, name, token, .. } = *decision;
    match decision.verb {
        Verb::Goto => Next::Goto { step, state },
        Verb::Sleep => Next::Sleep { step, state, delay },
        Verb::Retry => Next::Retry { delay, max_attempts },
        Verb::Await => Next::Await { name, step, state, deadline: deadline_of(delay), token: token_of(token) },
        Verb::Spawn => {
            let child = |child: &Decision| Child { step: child.step, state: child.state };
            Next::Spawn { step, state, children: children.iter().map(child).collect() }
        }
        Verb::Fail => Next::Fail { result: state },
        Verb::Reject => Next::Reject,
        Verb::Complete | Verb::Acknowledge | Verb::Child => Next::Complete { result: state },
    }
}

pub(super) fn deadline_of(delay: Micros) -> Option<Micros> {
    (delay != Micros(0)).then_some(delay)
}

fn token_of(token: WaitToken) -> Option<WaitToken> {
    (token != WaitToken::NONE).then_some(token)
}
