//! Connections that fail, and what a network makes of it: goals only. A process may go on, or die, while the server keeps
//! its session, the transaction in it and its locks.
//!
//! Costs nothing where there is no network: a session dies with its connection there, and nobody goes on beside his own.
//! What it is not: a judgement. What becomes of such a session's transaction is decided in
//! [`transactions`](super::transactions).

use super::Reach;
use super::checker::Pass;
use super::place::Blow;
use crate::name::{Micros, Process, Session};
use crate::op::Op;
use crate::record::{Link, Record, Side, Span};
use crate::reply::Outcome;
use alloc::vec::Vec;

#[derive(Default)]
pub(super) struct Connections {
    /// Sessions that the server keeps, of processes that are gone from them.
    left: Vec<Session>,
    /// Partitions that nobody is known to have noticed, with their ends and the session that was there before.
    partitions: Vec<(Process, Micros, Session)>,
    /// When the server has last given free what the transaction of such a session had locked. It stays: a history in which that
    /// has happened is watched to its end.
    freed_at: Option<Micros>,
}

impl Connections {
    #[inline]
    pub(super) fn is_watching(&self) -> bool {
        !self.left.is_empty() || !self.partitions.is_empty() || self.freed_at.is_some()
    }

    pub(super) fn clear(&mut self) {
        self.left.clear();
        self.partitions.clear();
        self.freed_at = None;
    }
}

impl Pass<'_> {
    /// A call of a process that was in another session before, or while a connection has failed.
    #[cold]
    pub(super) fn called_over_network(&mut self, record: &Record, op: &Op<Span>, before: Option<Session>) {
        self.memory.connections.left.retain(|session| !self.memory.sessions[session.0 as usize].dead);
        match before {
            Some(before) if before > record.session => {
                self.found.sees(Reach::LateCall);
                if *op == Op::Commit {
                    self.found.sees(Reach::LateCommit);
                }
            }
            Some(before) if before < record.session => {
                let state = self.session(before);
                if state.in_transaction && !state.dead {
                    self.found.sees(Reach::BesideOwnTransaction);
                }
                self.leave(before);
            }
            _ => {}
        }
        self.see_partition_over(record);
        if matches!(op, Op::Claim { .. } | Op::TakeOver { .. }) {
            let left = core::mem::take(&mut self.memory.connections.left);
            if left.iter().any(|session| *session != record.session && self.holds(*session)) {
                self.found.sees(Reach::ClaimWhileGoneHolds);
            }
            self.memory.connections.left = left;
        }
    }

    fn see_partition_over(&mut self, record: &Record) {
        let partitions = &mut self.memory.connections.partitions;
        let Some(place) = partitions.iter().position(|(process, ..)| *process == record.process) else { return };
        let (_, until, session) = partitions[place];
        let is_same = session == record.session;
        if record.at >= until || !is_same {
            partitions.remove(place);
            self.found.sees(if is_same { Reach::PartitionUnnoticed } else { Reach::PartitionNoticed });
        }
    }

    /// A process is gone from its session, as far as it knows.
    pub(super) fn leave(&mut self, session: Session) {
        let state = self.session(session);
        let (is_dead, is_blocked) = (state.dead, state.blocked);
        if is_dead || self.memory.connections.left.contains(&session) {
            return;
        }
        self.memory.connections.left.push(session);
        if is_blocked {
            self.found.sees(Reach::GoneWhileBlocked);
        }
    }

    pub(super) fn link_failed(&mut self, index: u32, process: Process, link: Link, until: Micros) {
        self.befalls(index, Blow::from(link), process);
        let session = self.memory.session_of_process[usize::from(process.0)];
        if let (Link::Cut | Link::CutToServer | Link::CutToProcess, Some(session)) = (link, session) {
            self.memory.connections.partitions.push((process, until, session));
        }
    }

    pub(super) fn connection_lost(&mut self, index: u32, process: Process, gone_for: Side) {
        match gone_for {
            Side::Server => self.befalls(index, Blow::LostToServer, process),
            Side::Process => {
                self.befalls(index, Blow::LostToProcess, process);
                let session = self.memory.session_of_process[usize::from(process.0)];
                session.into_iter().for_each(|session| self.leave(session));
            }
        }
    }

    pub(super) fn session_given_up(&mut self, index: u32, record: &Record) {
        if self.memory.session_of_process[usize::from(record.process.0)] == Some(record.session) {
            self.befalls(index, Blow::GivenUp, record.process);
        }
        if self.holds(record.session) {
            self.found.sees(Reach::SessionLostHolding);
        }
    }

    /// A session's transaction is over, and what it had locked is free.
    pub(super) fn given_free(&mut self, record: &Record) {
        if self.memory.connections.left.contains(&record.session) {
            self.memory.connections.freed_at = Some(record.at);
        }
    }

    /// A call that had waited for a lock has returned: whoever is let in by a lock that was given free returns at that very time,
    /// where time is virtual. So it is a network's goal; real clocks hardly reach it.
    #[cold]
    pub(super) fn let_in(&mut self, record: &Record) {
        if self.memory.connections.freed_at == Some(record.at) {
            self.found.sees(Reach::WaitedForGone);
        }
    }

    pub(super) fn see_answer(&mut self, outcome: Outcome) {
        self.found.sees(match outcome {
            Outcome::Committed => Reach::AskedCommitted,
            Outcome::Aborted => Reach::AskedAborted,
            Outcome::InProgress => Reach::AskedInProgress,
        });
    }
}
