//! Commits that are acknowledged and not yet on disk: what a crash takes back.
//!
//! With asynchronous commit a transaction is over for everyone when it says so, and durable only once the log is flushed.
//! Until then its changes are kept here, in the order of the commits. What it is not: a log. Changes lie in the tables,
//! as ever; this only says how to take them back. Invariant: a flush makes all of them durable, so what a crash loses
//! is a suffix.

use super::transaction::Undo;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tourbillon_models::name::Xid;

/// What sessions have set as `synchronous_commit`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// On: a commit is on disk before it is acknowledged.
    #[default]
    Synchronous,
    /// Off.
    Asynchronous,
}

/// The commits since the last flush.
#[derive(Debug, Default)]
pub struct Unflushed {
    commits: Vec<Xid>,
    /// Of all of them, one after the other.
    changes: Vec<Undo>,
}

impl Unflushed {
    pub fn clear(&mut self) {
        self.commits.clear();
        self.changes.clear();
    }

    /// Keeps what a transaction did that has just committed. Who has no id has written nothing.
    pub fn commit(&mut self, xid: Xid, changes: &[Undo]) {
        if xid != Xid(0) {
            self.changes.extend(changes.iter().filter(|change| change.table().is_some()));
            self.commits.push(xid);
        }
    }

    pub fn holds(&self, xid: Xid) -> bool {
        self.commits.contains(&xid)
    }

    /// Those that are lost, in the order of their commits, and what they did, newest first.
    pub fn lose(&mut self) -> (Vec<Xid>, Vec<Undo>) {
        let lost = core::mem::take(&mut self.commits);
        (lost, self.changes.drain(..).rev().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, Environment};
    use crate::guard::Guards;
    use crate::store::executor::Progress;
    use crate::store::locks::Slot;
    use alloc::vec;
    use tourbillon_models::history::{PlainOp, PlainReply};
    use tourbillon_models::name::{Consumer, EventId, Micros, Queue, Token, WorkerId};
    use tourbillon_models::op::{Decision, Op, QueueKind, Verb};
    use tourbillon_models::reply::{Outcome, Reply};

    const Q: Queue = Queue(0);

    fn call(engine: &mut Engine, slot: Slot, op: PlainOp) -> PlainReply {
        let mut reply = Reply::Done;
        let progress = engine.call(slot, &op, Environment { now: Micros(1), random: 7 }, &mut reply);
        assert_eq!(progress, Progress::Returned, "{op:?} waits");
        reply
    }

    fn append(engine: &mut Engine, slot: Slot) -> Xid {
        call(engine, slot, Op::Append { queue: Q, payload: 1 });
        engine.xid(slot)
    }

    fn begun(durability: Durability) -> (Engine, Slot) {
        let mut engine = Engine::new(Guards::ALL);
        engine.set_durability(durability);
        let slot = engine.connect().unwrap();
        call(&mut engine, slot, Op::CreateQueue { queue: Q, kind: QueueKind::Plain });
        call(&mut engine, slot, Op::Subscribe { queue: Q, consumer: Consumer(0) });
        engine.flush();
        (engine, slot)
    }

    #[test]
    fn a_crash_loses_what_was_committed_since_the_last_flush() {
        let (mut engine, slot) = begun(Durability::Asynchronous);
        let kept = append(&mut engine, slot);
        engine.flush();
        let lost = vec![append(&mut engine, slot), append(&mut engine, slot)];
        assert!(engine.may_lose(lost[0]) && !engine.may_lose(kept));
        assert_eq!(engine.crash(), lost);
        let state = engine.state();
        assert_eq!(state.events.iter().map(|row| row.event.xid).collect::<Vec<_>>(), [kept]);
        assert_eq!(engine.outcome(kept), Some(Outcome::Committed));
        assert_eq!(engine.outcome(lost[1]), Some(Outcome::Aborted));
        assert_eq!(engine.crash(), [], "what is lost is lost once");
    }

    #[test]
    fn synchronous_commits_stay() {
        let (mut engine, slot) = begun(Durability::Synchronous);
        append(&mut engine, slot);
        assert_eq!(engine.crash(), []);
        assert_eq!(engine.state().events.len(), 1);
    }

    #[test]
    fn a_truncation_takes_what_was_before_it_to_the_disk() {
        let (mut engine, slot) = begun(Durability::Asynchronous);
        append(&mut engine, slot);
        let rotated = call(&mut engine, slot, Op::Rotate { queue: Q, lock_timeout: Micros(1) });
        assert!(matches!(rotated, Reply::Rotated { .. }), "{rotated:?}");
        let lost = append(&mut engine, slot);
        assert_eq!(engine.crash(), [lost]);
        assert_eq!(engine.state().events.len(), 1);
    }

    #[test]
    fn rows_changed_again_and_again_are_as_before() {
        let (mut engine, slot) = begun(Durability::Asynchronous);
        append(&mut engine, slot);
        call(&mut engine, slot, Op::Tick { queue: Q });
        engine.flush();
        let (before, event) = (engine.state(), EventId(1));
        for _ in 0..3 {
            let slot = engine.connect().unwrap();
            let Reply::Registered { worker } = call(&mut engine, slot, Op::Register { consumer: Consumer(0) }) else {
                panic!("it may register")
            };
            let at = Micros(1);
            let claim = Op::Claim { worker, dead_interval: Micros(9), at };
            let Reply::Claimed { token, .. } = call(&mut engine, slot, claim) else { panic!("there is a window") };
            call(&mut engine, slot, Op::Heartbeat { worker, token, at });
            let decision = Decision::new(event, Verb::Acknowledge);
            let handoff = Op::Handoff { worker, token, decisions: vec![decision] };
            let reply = call(&mut engine, slot, handoff);
            assert!(matches!(reply, Reply::HandedOff { .. }), "{reply:?}");
            assert_eq!((worker, token), (WorkerId(1), Token(7)), "the sequence begins again");
            assert_eq!(engine.crash().len(), 4);
            assert_eq!(engine.state(), before);
        }
    }
}
