//! The engine as a whole: sessions that make calls, each of which returns or waits.
//!
//! It never looks out: the time and the random bits of a call come with it, and it knows of a fault only that a client
//! may be gone and that the server may crash.

use crate::guard::Guards;
use crate::procedures::emit::Emit;
use crate::procedures::{
    Db, audit, dead_letter, drain, emit, handoff, isolation, join, observe, producer, queue, timer, wait, worker,
    workload,
};
use crate::schema::Schema;
use crate::storage::Stored;
use crate::store::WalLevel;
use crate::store::executor::{Executor, Progress};
use crate::store::footprint::Footprint;
use crate::store::locks::{SESSIONS, Slot};
use crate::store::statement::Tx;
use crate::store::unflushed::Durability;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{Micros, Xid};
use tourbillon_models::op::{Isolation, Op};
use tourbillon_models::reply::{Outcome, Refusal, Reply};
use tourbillon_models::state::State;

/// What comes to a call from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Environment {
    /// The server's wall clock: it may be set, forward and back.
    pub now: Micros,
    /// Turned into a token, should the call need one.
    pub random: u64,
}

/// The engine core: a store, the procedures over it, and the calls that wait in it.
pub struct Engine {
    executor: Executor<Schema, PlainReply>,
    guards: Guards,
}

impl Engine {
    pub fn new(guards: Guards) -> Self {
        Engine { executor: Executor::default(), guards }
    }

    /// An empty database for another run; the memory is kept.
    pub fn restart(&mut self, guards: Guards) {
        self.executor.clear();
        self.guards = guards;
    }

    /// As the server is set that this engine stands for; it stays so.
    pub fn set_wal_level(&mut self, wal_level: WalLevel) {
        self.executor.store_mut().wal_level = wal_level;
    }

    /// How sessions commit until the next restart; set before the first call.
    pub fn set_durability(&mut self, durability: Durability) {
        self.executor.store_mut().set_durability(durability);
    }

    /// The server's log reaches the disk, and with it every commit up to now.
    pub fn flush(&mut self) {
        self.executor.store_mut().flush();
    }

    /// Whether a crash now would lose this transaction, which has committed.
    pub fn may_lose(&self, xid: Xid) -> bool {
        self.executor.store().may_lose(xid)
    }

    /// From now on calls note what they read and write, also after a restart.
    pub fn record_footprints(&mut self) {
        self.executor.store_mut().transactions.recorder.start();
    }

    /// What was read and written since the last time; nothing if nobody asked for it to be recorded.
    pub fn take_footprint(&self, into: &mut Footprint) {
        self.executor.store().transactions.recorder.take(into);
    }

    /// A new session; none if too many are open.
    pub fn connect(&mut self) -> Option<Slot> {
        self.executor.store_mut().transactions.connect()
    }

    /// The client is gone: what it had not committed is rolled back.
    pub fn disconnect(&mut self, slot: Slot) {
        self.executor.disconnect(slot);
    }

    /// The server dies and comes back: all sessions are gone, what was committed and flushed is there. Gives back the
    /// transactions that had committed and are lost.
    pub fn crash(&mut self) -> Vec<Xid> {
        self.executor.crash()
    }

    /// One statement of a session that has none under way. `reply` is written if it returns.
    pub fn call(&mut self, slot: Slot, op: &PlainOp, environment: Environment, reply: &mut PlainReply) -> Progress {
        self.executor.store_mut().clock = environment.now;
        if op.is_transaction_control() {
            *reply = self.control(slot, op);
            return Progress::Returned;
        }
        {
            let mut store = self.executor.store_mut();
            let transaction = store.transactions.of(slot);
            if transaction.is_open() && transaction.failed {
                *reply = Refusal::FailedTransaction.into();
                return Progress::Returned;
            }
            if !transaction.is_open() {
                store.begin(slot, Isolation::ReadCommitted, false);
            }
            store.transactions.fix_snapshot(slot);
        }
        let db = Db {
            tx: Tx::new(self.executor.share(), slot),
            guards: self.guards,
            random: environment.random,
            caller_clock: op.caller_clock(),
        };
        match at_once(&db, op, reply) {
            Some(result) => self.executor.finish(slot, result, reply),
            None => self.executor.start(slot, procedure(db, op), reply),
        }
    }

    fn control(&mut self, slot: Slot, op: &PlainOp) -> PlainReply {
        let mut store = self.executor.store_mut();
        let transaction = store.transactions.of(slot);
        let (open, failed) = (transaction.is_open(), transaction.failed);
        match *op {
            Op::Begin { isolation } if !open => {
                store.begin(slot, isolation, true);
                Reply::Done
            }
            Op::Commit if open => match store.commit(slot) {
                Ok(true) => Reply::Committed,
                Ok(false) => Reply::RolledBack,
                Err(refusal) => Reply::Refused(refusal),
            },
            Op::Rollback if open => {
                store.rollback(slot);
                Reply::RolledBack
            }
            Op::Savepoint { .. } if open && failed => Reply::Refused(Refusal::FailedTransaction),
            Op::Savepoint { level } if open => {
                store.savepoint(slot, level);
                Reply::Done
            }
            Op::RollbackTo { level } if open => match store.rollback_to(slot, level) {
                Ok(()) => Reply::Done,
                Err(refusal) => Reply::Refused(refusal),
            },
            // PostgreSQL only warns here; a client that does this has lost track, and is told so.
            _ => Reply::Refused(Refusal::UndefinedObject),
        }
    }

    /// Sessions whose wait is over: any of them may go on first.
    pub fn released(&self) -> Vec<Slot> {
        self.executor.released()
    }

    pub fn anyone_released(&self) -> bool {
        self.executor.anyone_released()
    }

    /// Goes on with a released call, to its end or its next wait.
    pub fn resume(&mut self, slot: Slot, now: Micros, reply: &mut PlainReply) -> Progress {
        self.executor.store_mut().clock = now;
        self.executor.resume(slot, reply)
    }

    /// How long the session's present wait may last from its beginning, if there is a limit. To be measured by a clock that
    /// nobody sets.
    pub fn may_wait(&self, slot: Slot) -> Option<Micros> {
        self.executor.may_wait(slot)
    }

    /// The session's present wait has taken too long: it is released with an error.
    pub fn time_out(&mut self, slot: Slot) {
        self.executor.time_out(slot);
    }

    /// The id of the session's transaction, also of one that has just ended; 0 if it wrote nothing.
    pub fn xid(&self, slot: Slot) -> Xid {
        self.executor.store().transactions.of(slot).xid
    }

    pub fn is_in_transaction(&self, slot: Slot) -> bool {
        self.executor.store().transactions.of(slot).is_open()
    }

    /// Whether the server ends the session if that stands idle now for long: it holds its window.
    pub fn ends_when_idle(&self, slot: Slot) -> bool {
        let store = self.executor.store();
        let transaction = store.transactions.of(slot);
        transaction.is_open() && transaction.ends_when_idle
    }

    pub fn is_blocked(&self, slot: Slot) -> bool {
        self.executor.is_suspended(slot)
    }

    /// For whom a blocked session waits: holders of what it wants, and those queued before it.
    pub fn waits_for(&self, slot: Slot) -> BTreeSet<Slot> {
        let waits = self.executor.store().waits_for(slot);
        (0..SESSIONS as Slot).filter(|other| (waits.holders | waits.ahead) >> other & 1 != 0).collect()
    }

    pub fn outcome(&self, xid: Xid) -> Option<Outcome> {
        self.executor.store().outcome(xid)
    }

    /// All committed rows.
    pub fn state(&self) -> State {
        crate::state::state(&self.executor.store())
    }

    /// What each kind of table holds.
    pub fn storage(&self) -> Vec<Stored> {
        crate::storage::storage(&self.executor.store())
    }

    /// Whether nothing is left to do.
    pub fn is_drained(&self) -> bool {
        crate::state::is_drained(&self.executor.store())
    }
}

/// Calls that take no lock, and so never wait, need no future: they are many. None for all others.
fn at_once(db: &Db, op: &PlainOp, reply: &mut PlainReply) -> Option<Result<(), Refusal>> {
    let result = match *op {
        Op::Claim { worker, dead_interval, .. } => match worker::is_claim_idle(db, worker, dead_interval) {
            Ok(true) => Ok(Reply::Idle),
            Ok(false) => return None,
            Err(refusal) => Err(refusal),
        },
        Op::Effect { workflow, sequence, step } => Ok(workload::effect(db, workflow, sequence, step)),
        Op::Resolve { xid } => Ok(workload::resolve(db, xid)),
        _ => return None,
    };
    Some(result.map(|value| *reply = value))
}

type Procedure = Pin<Box<dyn Future<Output = Result<PlainReply, Refusal>>>>;

fn procedure(db: Db, op: &PlainOp) -> Procedure {
    match *op {
        Op::CreateQueue { queue, kind } => Box::pin(queue::create_queue(db, queue, kind)),
        Op::Subscribe { queue, consumer } => Box::pin(queue::subscribe(db, queue, consumer)),
        Op::Append { queue, payload } => Box::pin(producer::append(db, queue, payload)),
        Op::Start { queue, key, step, state } => Box::pin(producer::start(db, queue, key, step, state)),
        Op::Emit { workflow, name, payload, emit, token, actor } => {
            Box::pin(emit::emit(db, Emit { workflow, name, payload, emit, token, actor }))
        }
        Op::Register { consumer } => Box::pin(worker::register(db, consumer)),
        Op::Heartbeat { worker, token, .. } => Box::pin(worker::heartbeat(db, worker, token)),
        Op::Claim { worker, dead_interval, .. } => Box::pin(worker::claim_window(db, worker, dead_interval)),
        Op::TakeOver { worker, dead_interval, .. } => Box::pin(worker::take_over(db, worker, dead_interval)),
        Op::Read { worker, token, after, limit } => Box::pin(worker::read(db, worker, token, after, limit)),
        Op::Hold { worker, token, .. } => Box::pin(worker::hold(db, worker, token)),
        Op::HandOut { worker, token, max_tries } => Box::pin(isolation::hand_out(db, worker, token, max_tries)),
        Op::Handoff { worker, token, ref decisions } => {
            Box::pin(handoff::handoff(db, worker, token, decisions.clone()))
        }
        Op::Tick { queue } => Box::pin(queue::tick(db, queue)),
        Op::Rotate { queue, lock_timeout } => Box::pin(queue::rotate(db, queue, lock_timeout)),
        Op::ReadResults { worker, token } => Box::pin(join::read_results(db, worker, token)),
        Op::ExpireWaits { queue, limit } => Box::pin(wait::expire_waits(db, queue, limit)),
        Op::Observe { queue } => Box::pin(observe::observe(db, queue)),
        Op::ReplayDeadLetter { consumer, event } => Box::pin(dead_letter::replay_dead_letter(db, consumer, event)),
        Op::Schedule { queue, payload, delay } => Box::pin(timer::schedule(db, queue, payload, delay)),
        Op::Cancel { queue, event, due } => Box::pin(timer::cancel(db, queue, event, due)),
        Op::Drain { queue, limit } => Box::pin(drain::drain(db, queue, limit)),
        Op::RotateTimers { queue, lock_timeout } => Box::pin(timer::rotate_timers(db, queue, lock_timeout)),
        Op::RotateAudit { keep, lock_timeout } => Box::pin(audit::rotate_audit(db, keep, lock_timeout)),
        Op::Peek { queue, table } => Box::pin(workload::peek(db, queue, table)),
        Op::LockTable { queue, table, mode } => Box::pin(workload::lock_table(db, queue, table, mode)),
        Op::Effect { .. } | Op::Resolve { .. } => unreachable!("it never waits"),
        Op::Begin { .. } | Op::Savepoint { .. } | Op::RollbackTo { .. } | Op::Commit | Op::Rollback => {
            unreachable!("transaction control is not a procedure")
        }
    }
}
