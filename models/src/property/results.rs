//! What is read of what children left. J4.
//!
//! - **J4** What is read under a token is exactly what the children left of each join whose step the window holds and nobody
//!   has handed off: the first end of each child. Broken by dropping results with the join.

use super::checker::Pass;
use super::clue::Clue;
use super::transactions::NONE;
use super::{Property, Reach};
use crate::name::{EventId, Session, Token, WorkerId};
use crate::record::Span;
use crate::reply::{Arrival, ChildResult};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

impl Pass<'_> {
    /// What the children left was read under a token.
    pub(super) fn results_read(
        &mut self,
        index: u32,
        session: Session,
        (worker, token): (WorkerId, Token),
        span: Span,
    ) {
        let history = self.history;
        let Some((queue, prev, next)) = self.window_of(session, worker, token) else { return };
        let log = &self.memory.queues[queue as usize];
        let positions = log.end_of(prev).max(log.seen_base)..log.end_of(next);
        // Each join to which the window refers, and whether its step is still to be handed off.
        let mut joins: BTreeMap<u32, bool> = BTreeMap::new();
        for position in positions {
            let Some(event) = log.seen.get((position - log.seen_base) as usize).copied() else { continue };
            let Some(Arrival::Joined { join }) = self.memory.arrivals.of(EventId(event)) else { continue };
            let is_open = self.memory.events.get(event).is_some_and(|known| known.consumed == NONE);
            *joins.entry(join.0).or_default() |= is_open;
        }
        let results = history.results(span);
        // Of a window that was finished in the meantime, not all events are known any more.
        let is_whole = log.end_of(prev) >= log.seen_base;
        for result in results {
            if is_whole && !joins.contains_key(&result.join.0) {
                self.read_of_another(index, result);
            }
        }
        for (join, _) in joins.into_iter().filter(|(_, is_open)| *is_open) {
            self.judge_results(index, EventId(join), results);
        }
    }

    fn read_of_another(&mut self, index: u32, result: &ChildResult) {
        let clue = Clue(self.history);
        self.found.violated(Property::J4, &[index], || {
            let (by, at, join) = (clue.process(index), clue.at(index), result.join);
            format!("{by} read at {at} what the children of {join} left, and no event of its window comes from that")
        });
    }

    fn judge_results(&mut self, index: u32, id: EventId, results: &[ChildResult]) {
        self.found.exercised(Property::J4);
        let own = || results.iter().filter(|result| result.join == id);
        let Some(join) = self.memory.joins.by_id.get_mut(&id.0) else { return };
        let was_read = core::mem::replace(&mut join.is_read, true);
        self.found.sees(if was_read { Reach::ResultsReadAgain } else { Reach::ResultsRead });
        if join.is_vague {
            return;
        }
        let is_left = |result: &ChildResult| {
            let left = join.left.get(result.index as usize).copied().flatten();
            left.is_some_and(|left| (left.outcome, left.result) == (result.outcome, result.result))
        };
        let (read, total) = (own().count() as u32, join.total());
        let mut places: Vec<u16> = own().map(|result| result.index).collect();
        places.sort_unstable();
        let is_each_once = places.windows(2).all(|pair| pair[0] < pair[1]);
        let wrong = own().find(|result| !is_left(result)).copied();
        if wrong.is_none() && is_each_once && read == total {
            return;
        }
        let (workflow, clue) = (join.workflow, Clue(self.history));
        let wrong_left = wrong.and_then(|wrong| join.left.get(wrong.index as usize).copied().flatten());
        let records = [join.born, wrong_left.map_or(NONE, |left| left.record), index];
        self.found.violated(Property::J4, &records, || {
            let (workflow, at) = (clue.workflow(workflow), clue.at(index));
            match (wrong, wrong_left) {
                (Some(wrong), Some(left)) => format!(
                    "child {} of {workflow} (join {id}) ended {:?} with {}, and at {at} was read as {:?} with {}",
                    wrong.index, left.outcome, left.result, wrong.outcome, wrong.result
                ),
                (Some(wrong), None) => {
                    format!(
                        "{workflow} (join {id}) read at {at} what its child {} left, which had not ended",
                        wrong.index
                    )
                }
                (None, _) => {
                    format!("{workflow} (join {id}) has {total} children, and at {at} {read} results were read")
                }
            }
        });
    }
}
