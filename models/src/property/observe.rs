//! What onlookers are told. O1.
//!
//! - **O1** Counts of a queue's live workflows, by what they wait for, agree with the history. Judged where that is one number:
//!   the call had nobody beside it, no other transaction that has written is open, and no reply is missing that would change
//!   the count. Broken by views that count what was rolled back, or has ended.

use super::Property;
use super::checker::Pass;
use super::clue::Clue;
use super::transactions::{NONE, may_write};
use crate::name::{Queue, Session};
use crate::reply::LiveCounts;
use alloc::format;

impl Pass<'_> {
    pub(super) fn observed(&mut self, index: u32, session: Session, call: u32, queue: Queue, told: LiveCounts) {
        if call + 1 != index || !self.is_quiet(session) {
            return;
        }
        self.found.exercised(Property::O1);
        let counted = self.live_counts(queue);
        if counted == told {
            return;
        }
        let clue = Clue(self.history);
        self.found.violated(Property::O1, &[call, index], || {
            let (by, at) = (clue.process(index), clue.at(index));
            format!("{by} was told at {at} that of the workflows of {queue} {}; and {}", shown(told), shown(counted))
        });
    }

    /// Whether what has committed is what everybody sees, and nothing is missing.
    fn is_quiet(&self, own: Session) -> bool {
        let clue = Clue(self.history);
        let is_busy = |session: &Session| {
            let state = &self.memory.sessions[session.0 as usize];
            let calls =
                state.call != NONE && clue.op(state.call).is_none_or(|op| may_write(&op) || state.in_transaction);
            match *session == own {
                true => state.in_transaction,
                false => {
                    (!state.dead || state.undecided) && (calls || (state.in_transaction && !state.writes.is_empty()))
                }
            }
        };
        let memory = &self.memory;
        memory.in_doubt.is_empty()
            && memory.missing.is_empty()
            && !memory.has_lost_hand_out
            && !memory.timers.has_lost_drain()
            && !memory.waits.has_untold()
            && !memory.joins.has_untold()
            && !memory.used_sessions.iter().any(is_busy)
    }

    fn live_counts(&self, queue: Queue) -> LiveCounts {
        let memory = &self.memory;
        let of_queue = |other: u8| other == queue.0;
        let live = memory.workflows.iter().filter(|(_, known)| known.ended == NONE && of_queue(known.queue)).count();
        let sleeping = memory.timers.sleeping(queue.0);
        let waiting = memory.waits.open.values().filter(|wait| of_queue(wait.queue)).count();
        let joining = memory.joins.open().filter(|(_, join)| of_queue(join.queue)).count();
        LiveCounts {
            ready: live.saturating_sub(sleeping + waiting + joining) as u32,
            sleeping: sleeping as u32,
            waiting: waiting as u32,
            joining: joining as u32,
        }
    }
}

fn shown(LiveCounts { ready, sleeping, waiting, joining }: LiveCounts) -> alloc::string::String {
    format!("{ready} are ready, {sleeping} asleep, {waiting} waiting and {joining} joining")
}
