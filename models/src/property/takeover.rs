//! Takeovers: since when a worker was silent, and whether a transaction holds its window. Q10.
//!
//! - **Q10** A takeover runs at least the dead interval (the one that its call names) after the victim's last claim,
//!   heartbeat, hold or hand-out ran, by the server's clock, and not while a transaction that did one of these is open.
//!   A call's time lies between its two records; the pair that excuses most counts. That the transaction was really open
//!   is taken as proved only when the reply to a later call in its session shows that the server had not ended it. Broken by
//!   heartbeats at transaction start, by leases that go by the workers' clocks.

use super::Property;
use super::checker::Pass;
use super::clue::Clue;
use super::lease::Phase;
use super::transactions::Write;
use crate::name::{Micros, Session, WorkerId};
use crate::op::Op;
use crate::record::{Happening, Span};
use crate::reply::Reply;
use alloc::format;

/// A takeover while the victim's transaction seemed to be open: proved when that session shows that it was.
#[derive(Clone, Copy)]
pub(super) struct Suspicion {
    pub(super) holder: Session,
    held: u32,
    takeover: u32,
    victim: WorkerId,
}

impl Pass<'_> {
    /// A takeover ran: whatever becomes of its transaction, the victim must have been silent for long enough.
    pub(super) fn takeover_ran(&mut self, index: u32, session: Session, call: u32, victim: WorkerId, interval: Micros) {
        self.found.exercised(Property::Q10);
        self.believe_claim_of(index, victim);
        let clue = Clue(self.history);
        let Some(known) = self.memory.workers.get(victim.0) else { return };
        let (heartbeat, record, locked_by) = (known.heartbeat, known.heartbeat_record, known.locked_by);
        let alive = matches!(known.phase, Phase::Open | Phase::Lost);
        let at = self.memory.server_clock.latest(self.history, call, index);
        let silent = at - heartbeat;
        if alive && silent < interval {
            self.found.violated(Property::Q10, &[record, index], || {
                let thief = clue.process(index);
                format!(
                    "{thief} took the window of {victim} over at {at}, although {victim} had shown itself at {heartbeat}, \
                     {silent} earlier, and the dead interval is {interval}"
                )
            });
        }
        let Some((holder, held)) = locked_by.filter(|(holder, held)| *holder != session && *held < call) else {
            return;
        };
        let in_flight = self.session(holder).call;
        let is_ending = matches!(clue.op(in_flight), Some(Op::Commit | Op::Rollback | Op::RollbackTo { .. }));
        if !is_ending {
            self.memory.suspicions.push(Suspicion { holder, held, takeover: index, victim });
        }
    }

    /// A reply in a session shows that the server had not ended it, nor its transaction, when the takeover ran: a reply to a
    /// call that was made after it. One that was under way may have been answered before, and heard of late; if it was
    /// refused, that may have been what let the window go.
    pub(super) fn confirm_suspicions(&mut self, index: u32, session: Session, call: u32, is_refusal: bool) {
        let clue = Clue(self.history);
        for place in (0..self.memory.suspicions.len()).rev() {
            let Suspicion { holder, held, takeover, victim } = self.memory.suspicions[place];
            if holder != session || index == takeover {
                continue;
            }
            if call < takeover {
                let locked_by = self.memory.workers.get(victim.0).and_then(|known| known.locked_by);
                if is_refusal && locked_by != Some((holder, held)) {
                    self.memory.suspicions.swap_remove(place);
                }
                continue;
            }
            self.memory.suspicions.swap_remove(place);
            self.found.violated(Property::Q10, &[held, takeover, index], || {
                let (at, since, thief) = (clue.at(takeover), clue.at(held), clue.process(takeover));
                format!(
                    "{thief} took the window of {victim} over at {at}, although a transaction of {victim} held it since \
                     {since} and was still open at {}",
                    clue.at(index)
                )
            });
        }
    }

    /// The victim of a takeover had a window: its own claim may have its reply still under way.
    pub(super) fn believe_claim_of(&mut self, index: u32, victim: WorkerId) {
        if self.memory.workers.get(victim.0).is_some_and(|known| known.phase == Phase::Open) {
            return;
        }
        let is_its =
            |op: &Op<Span>| matches!(op, Op::Claim { worker, .. } | Op::TakeOver { worker, .. } if *worker == victim);
        if !self.settle(index, |op, reply| is_its(op) && matches!(reply, Reply::Claimed { .. })) {
            self.settle_lost(index, is_its);
        }
    }

    /// An open transaction has written a lease.
    pub(super) fn lock(&mut self, index: u32, session: Session, worker: WorkerId) {
        if !self.session(session).in_transaction {
            return;
        }
        if let Some(known) = self.memory.workers.get_mut(worker.0)
            && known.locked_by.is_none()
        {
            known.locked_by = Some((session, index));
        }
    }

    /// What a transaction, or a part of it, had locked is free.
    pub(super) fn unlock(&mut self, writes: &[Write]) {
        let history = self.history;
        for write in writes {
            let Happening::Call(op) = &history.records[write.call as usize].what else { continue };
            if let Op::Claim { worker, .. }
            | Op::TakeOver { worker, .. }
            | Op::Hold { worker, .. }
            | Op::Heartbeat { worker, .. } = op
                && let Some(known) = self.memory.workers.get_mut(worker.0)
                && known.locked_by.is_some_and(|(_, since)| since == write.ret)
            {
                known.locked_by = None;
            }
        }
    }
}
