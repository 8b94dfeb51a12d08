//! Ends of workflows that somebody has seen, and whose replies are still under way, or lost.
//!
//! Who is told that a workflow is dead, or that all children have ended, shows that their ends have committed. Those are
//! looked for ahead, step by step; what is under way and leads to no end is left alone.

use super::checker::Pass;
use super::clue::Clue;
use super::transactions::NONE;
use super::undeliverable::calls_dead;
use crate::history::History;
use crate::name::EventId;
use crate::op::{Op, Verb};
use crate::record::Span;
use crate::reply::Reply;

/// So many steps of one workflow may be under way.
const STEPS: u32 = 16;

/// Where a call leads from an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    End,
    To(u32),
}

impl Pass<'_> {
    /// The workflow has ended, as somebody was told: what ends it may be under way.
    pub(super) fn settle_end(&mut self, workflow: u32) {
        let history = self.history;
        for _ in 0..STEPS {
            let live = self.memory.workflows.get(workflow).filter(|known| known.ended == NONE);
            let Some(event) = live.map(|known| known.continuation) else { return };
            let is_its = |op: &Op<Span>, reply: &Reply<Span, Span, Span>| way_from(history, event, op, reply).is_some();
            if !self.is_end_under_way(event) || !self.settle(self.now, is_its) {
                return;
            }
        }
    }

    fn is_end_under_way(&self, event: u32) -> bool {
        let mut from = event;
        for _ in 0..STEPS {
            match self.way_under_way(from) {
                Some(Way::End) => return true,
                Some(Way::To(next)) => from = next,
                None => return false,
            }
        }
        false
    }

    fn way_under_way(&self, event: u32) -> Option<Way> {
        let (history, clue) = (self.history, Clue(self.history));
        self.memory.used_sessions.iter().find_map(|session| {
            let state = &self.memory.sessions[session.0 as usize];
            if state.call == NONE || state.settled || (state.dead && !state.undecided) {
                return None;
            }
            let way = |call: u32, ret: u32| way_from(history, event, &clue.op(call)?, &clue.reply(ret)?);
            match state.in_transaction || state.undecided {
                true => state.writes.iter().find_map(|write| way(write.call, write.ret)),
                false => way(state.call, clue.return_of(state.call)?),
            }
        })
    }

    /// Whether a reply that was lost, or has not come, may tell of the end of an event, or of what it will be.
    pub(super) fn may_have_ended(&self, event: u32) -> bool {
        let history = self.history;
        self.memory.has_lost_hand_out
            || self.memory.timers.has_lost_drain()
            || self.memory.waits.has_lost_expiry()
            || self.memory.joins.is_untold(EventId(event))
            || self.is_handoff_in_doubt(EventId(event))
            || self.may_come(|op| match op {
                Op::Handoff { decisions, .. } => {
                    history.decisions(*decisions).iter().any(|decision| decision.event.0 == event)
                }
                Op::HandOut { .. } | Op::Drain { .. } | Op::ExpireWaits { .. } => true,
                _ => false,
            })
    }
}

fn way_from(history: &History, event: u32, op: &Op<Span>, reply: &Reply<Span, Span, Span>) -> Option<Way> {
    let is_called_dead = calls_dead(reply).iter().any(|dead| history.ids(*dead).contains(&event));
    match (op, reply) {
        (Op::Handoff { decisions, .. }, Reply::HandedOff { appended, .. }) => {
            let mut appended = history.ids(*appended).iter();
            for decision in history.decisions(*decisions) {
                let id = if decision.verb.has_id() { appended.next().copied() } else { None };
                if decision.event.0 == event && decision.verb != Verb::Child {
                    return Some(id.filter(|id| *id != 0).map_or(Way::End, Way::To));
                }
            }
            is_called_dead.then_some(Way::End)
        }
        _ => is_called_dead.then_some(Way::End),
    }
}
