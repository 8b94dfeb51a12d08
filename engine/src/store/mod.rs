//! A transactional store with PostgreSQL's semantics, exact as far as this engine, or a client of it, can tell.
//!
//! READ COMMITTED and REPEATABLE READ, row and table and advisory locks with their queues, re-checks after waits,
//! unique conflicts, truncation, deadlocks, sequences, savepoints, crashes. It is *not* durable and *not*
//! concurrent: one statement runs at a time, to its end or to its next wait. The same random schedules run against
//! it and against a real server, and every reply and every block is compared.

pub mod appends;
pub mod approach;
mod deadlock;
pub mod executor;
pub mod footprint;
pub mod index;
pub mod locks;
pub mod marks;
pub mod ordered;
pub mod rows;
pub mod sequence;
pub mod snapshot;
pub mod statement;
pub mod transaction;
pub mod unflushed;

use alloc::vec::Vec;
use deadlock::Resolution;
use footprint::Resource;
use locks::{Acquired, LockKey, Locks, Mode, Slot, WaitsFor};
use sequence::{LogPosition, Sequence};
use serde::{Deserialize, Serialize};
use tourbillon_models::name::{Micros, Xid};
use tourbillon_models::op::Isolation;
use tourbillon_models::reply::{Outcome, Refusal};
use transaction::{Target, Transactions, Undo, Wait};
use unflushed::{Durability, Unflushed};

/// The server's setting of that name, as far as transactions can tell: above `Minimal` an access exclusive lock on a
/// table is logged under its transaction's id, which therefore is assigned before the lock is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalLevel {
    #[default]
    Minimal,
    /// Also for `logical`.
    Replica,
}

/// The tables of one database, told apart by number.
pub trait Tables: Default {
    const COUNT: usize;
    const SEQUENCES: usize;

    /// Takes one change back.
    fn undo(&mut self, change: Undo);
    /// What became final: deletions and truncations may give their memory up.
    fn settle(&mut self, change: Undo);
    /// What a constraint that is deferred to the commit says about a change of the transaction's that stands.
    fn refuse_commit(&self, _change: Undo, _transactions: &Transactions, _me: Slot) -> Option<Refusal> {
        None
    }
    /// Transactions that had committed were taken back: what was concluded from them does not hold any more.
    fn forget_conclusions(&mut self) {}
    /// Back to what an installation puts there; to be called before anything else.
    fn clear(&mut self);
}

/// A database: its tables, and all that is going on in it.
pub struct Store<T> {
    pub tables: T,
    pub transactions: Transactions,
    pub locks: Locks,
    sequences: Vec<Sequence>,
    log: LogPosition,
    /// None where commits are synchronous.
    unflushed: Option<Unflushed>,
    /// The server's wall clock.
    pub clock: Micros,
    pub wal_level: WalLevel,
    woken: Vec<Slot>,
}

impl<T: Tables> Default for Store<T> {
    fn default() -> Self {
        let mut tables = T::default();
        tables.clear();
        Store {
            tables,
            transactions: Transactions::new(),
            locks: Locks::new(T::COUNT),
            sequences: (0..T::SEQUENCES).map(|_| Sequence::default()).collect(),
            log: LogPosition::default(),
            unflushed: None,
            clock: Micros(0),
            wal_level: WalLevel::Minimal,
            woken: Vec::new(),
        }
    }
}

impl<T: Tables> Store<T> {
    /// Empties the store for another run, and keeps the memory and the settings.
    pub fn clear(&mut self) {
        self.tables.clear();
        self.transactions.clear();
        self.locks.clear();
        self.sequences.iter_mut().for_each(|sequence| *sequence = Sequence::default());
        self.log = LogPosition::default();
        self.unflushed = None;
        self.clock = Micros(0);
    }

    /// Of an empty store, and until it is emptied again.
    pub fn set_durability(&mut self, durability: Durability) {
        if durability == Durability::Asynchronous && self.unflushed.is_none() {
            self.unflushed = Some(Unflushed::default());
            // Whatever a crash may take back needs what it replaced.
            self.transactions.retained += 1;
        }
    }

    /// The log reaches the disk, and with it every commit up to now.
    pub fn flush(&mut self) {
        self.log.flush();
        if let Some(unflushed) = &mut self.unflushed {
            unflushed.clear();
        }
    }

    pub fn begin(&mut self, slot: Slot, isolation: Isolation, explicit: bool) {
        self.transactions.begin(slot, isolation, explicit, self.clock);
    }

    /// Commits, or rolls back what has failed, or what a deferred constraint refuses. True if it committed.
    pub fn commit(&mut self, slot: Slot) -> Result<bool, Refusal> {
        if self.transactions.of(slot).failed {
            self.rollback(slot);
            return Ok(false);
        }
        let mut changes = self.transactions.of(slot).undo.iter();
        let refusal = changes.find_map(|change| self.tables.refuse_commit(*change, &self.transactions, slot));
        if let Some(refusal) = refusal {
            self.rollback(slot);
            return Err(refusal);
        }
        let xid = self.transactions.of(slot).xid;
        self.transactions.of(slot).undo.iter().for_each(|change| self.transactions.recorder.publishes(*change));
        let undo = core::mem::take(&mut self.transactions.of_mut(slot).undo);
        self.log_commit(xid, &undo);
        self.transactions.end(slot, Outcome::Committed);
        if self.transactions.nobody_looks_back() {
            undo.iter().for_each(|change| self.tables.settle(*change));
        } else {
            undo.iter()
                .filter(|change| matches!(change, Undo::Truncate { .. }))
                .for_each(|change| self.tables.settle(*change));
        }
        self.transactions.of_mut(slot).undo = undo;
        self.transactions.of_mut(slot).undo.clear();
        self.release_locks(slot);
        Ok(true)
    }

    /// Whether a crash now would lose this transaction, which has committed.
    pub fn may_lose(&self, xid: Xid) -> bool {
        self.unflushed.as_ref().is_some_and(|unflushed| unflushed.holds(xid))
    }

    /// A transaction that truncates waits for the disk however it commits: the server removes files then.
    fn log_commit(&mut self, xid: Xid, changes: &[Undo]) {
        let Some(unflushed) = &mut self.unflushed else {
            if xid != Xid(0) {
                self.log.flush();
            }
            return;
        };
        if changes.iter().any(|change| matches!(change, Undo::Truncate { .. })) {
            self.flush();
        } else {
            unflushed.commit(xid, changes);
        }
    }

    pub fn rollback(&mut self, slot: Slot) {
        self.undo_to(slot, 0);
        if self.transactions.of(slot).is_open() {
            self.transactions.end(slot, Outcome::Aborted);
        }
        self.release_locks(slot);
    }

    pub fn savepoint(&mut self, slot: Slot, level: u8) {
        self.transactions.savepoint(slot, level);
    }

    /// Forgets the newest savepoint: what was done since stays, and is taken back with what was done before.
    pub fn release(&mut self, slot: Slot) {
        self.transactions.release(slot);
    }

    /// Back to the newest savepoint of that name, which stays.
    pub fn rollback_to(&mut self, slot: Slot, level: u8) -> Result<(), Refusal> {
        let transaction = self.transactions.of_mut(slot);
        let place = transaction.savepoints.iter().rposition(|savepoint| savepoint.level == level);
        let Some(place) = place else {
            self.fail(slot);
            return Err(Refusal::UndefinedObject);
        };
        transaction.failed = false;
        self.undo_part(slot, place);
        Ok(())
    }

    /// An error: what the transaction did since its last savepoint is gone at once, locks included.
    pub fn fail(&mut self, slot: Slot) {
        let transaction = self.transactions.of_mut(slot);
        if transaction.failed {
            return;
        }
        transaction.failed = true;
        match transaction.savepoints.len().checked_sub(1) {
            Some(place) => self.undo_part(slot, place),
            None => {
                self.undo_to(slot, 0);
                self.release_waiters_of_failed(slot);
            }
        }
    }

    /// Whoever waited for what is taken back here must not wait for the rest of the transaction.
    fn undo_part(&mut self, slot: Slot, place: usize) {
        self.transactions.recorder.gives_back(slot);
        self.undo_to(slot, self.transactions.of(slot).savepoints[place].undo_len);
        self.transactions.restart_part(slot, place);
    }

    /// A failed transaction without savepoints is over for everyone else, though its session has yet to say so.
    fn release_waiters_of_failed(&mut self, slot: Slot) {
        let (isolation, explicit) = {
            let transaction = self.transactions.of(slot);
            (transaction.isolation, transaction.explicit)
        };
        self.transactions.end(slot, Outcome::Aborted);
        self.release_locks(slot);
        self.transactions.begin(slot, isolation, explicit, self.clock);
        self.transactions.of_mut(slot).failed = true;
    }

    fn undo_to(&mut self, slot: Slot, keep: usize) {
        while self.transactions.of(slot).undo.len() > keep {
            let change = self.transactions.of_mut(slot).undo.pop().expect("the length was just asked for");
            match change {
                Undo::Lock { key, mode } => {
                    self.locks.release_mode(slot, key, mode, &mut self.woken);
                    self.release_woken();
                }
                change => self.tables.undo(change),
            }
        }
    }

    fn release_locks(&mut self, slot: Slot) {
        let transaction = self.transactions.of_mut(slot);
        let mut tables = core::mem::take(&mut transaction.tables_locked);
        let mut others = core::mem::take(&mut transaction.others_locked);
        while tables != 0 {
            let table = tables.trailing_zeros();
            tables &= tables - 1;
            self.locks.release(slot, LockKey::Table(table as u8), &mut self.woken);
        }
        for key in others.drain(..) {
            self.locks.release(slot, key, &mut self.woken);
        }
        self.transactions.of_mut(slot).others_locked = others;
        self.release_woken();
    }

    /// Gives up one lock before the transaction ends: only queues of rows are left so.
    fn release_one(&mut self, slot: Slot, key: LockKey) {
        self.transactions.recorder.asks_for(slot, key, Mode::Exclusive);
        self.transactions.of_mut(slot).others_locked.retain(|other| *other != key);
        self.locks.release(slot, key, &mut self.woken);
        self.release_woken();
    }

    fn release_woken(&mut self) {
        for slot in core::mem::take(&mut self.woken) {
            if let Wait::For(Target::Lock { key, mode }) = self.transactions.of(slot).wait {
                self.note_lock(slot, key, mode);
                self.transactions.finish_wait(slot, Ok(()));
            }
        }
    }

    /// Remembers a lock for its release.
    fn note_lock(&mut self, slot: Slot, key: LockKey, mode: Mode) {
        let transaction = self.transactions.of_mut(slot);
        if !transaction.savepoints.is_empty() {
            transaction.undo.push(Undo::Lock { key, mode });
        }
        match key {
            LockKey::Table(table) => transaction.tables_locked |= 1 << table,
            _ if transaction.others_locked.contains(&key) => {}
            _ => transaction.others_locked.push(key),
        }
    }

    /// The session's call is given up: it waits no more, and holds what it held.
    pub fn abandon_wait(&mut self, slot: Slot) {
        if self.transactions.of(slot).wait != Wait::None {
            self.transactions.recorder.writes(Resource::Everything);
        }
        if let Wait::For(Target::Lock { key, .. }) = self.transactions.of(slot).wait {
            self.locks.withdraw(slot, key, &mut self.woken);
            self.release_woken();
        }
        self.transactions.drop_wait(slot);
    }

    /// Ends a wait with an error, which its call will report when it goes on.
    pub fn fail_wait(&mut self, slot: Slot, refusal: Refusal) {
        let Wait::For(target) = self.transactions.of(slot).wait else { return };
        if let Target::Lock { key, .. } = target {
            self.locks.withdraw(slot, key, &mut self.woken);
            self.release_woken();
        }
        self.transactions.finish_wait(slot, Err(refusal));
    }

    /// Asks for a lock; the caller has to wait if it is queued.
    pub fn acquire(&mut self, slot: Slot, key: LockKey, mode: Mode) -> Result<Acquired, Refusal> {
        self.prepare_to_lock(slot, key, mode);
        self.transactions.recorder.asks_for(slot, key, mode);
        let acquired = self.locks.acquire(slot, key, mode);
        match acquired {
            Acquired::Granted { fresh: true } => self.note_lock(slot, key, mode),
            Acquired::Granted { fresh: false } | Acquired::Queued => {}
            Acquired::Deadlock => return Err(Refusal::Deadlock),
        }
        Ok(acquired)
    }

    /// `LogAccessExclusiveLockPrepare`: what is logged needs an id first, also if the lock cannot be had.
    fn prepare_to_lock(&mut self, slot: Slot, key: LockKey, mode: Mode) {
        let is_logged = self.wal_level == WalLevel::Replica
            && mode == Mode::AccessExclusive
            && matches!(key, LockKey::Table(_))
            && !self.locks.is_held(slot, key, mode);
        if is_logged {
            self.transactions.assign_xid(slot);
        }
    }

    /// As [`Store::acquire`], but only if there is no need to wait. False if there is.
    pub fn acquire_now(&mut self, slot: Slot, key: LockKey, mode: Mode) -> Result<bool, Refusal> {
        self.prepare_to_lock(slot, key, mode);
        self.transactions.recorder.asks_for(slot, key, mode);
        match self.locks.is_free(slot, key, mode) {
            true => self.acquire(slot, key, mode).map(|_| true),
            false => Ok(false),
        }
    }

    /// Begins a wait, unless it would close a cycle: then it is this session that gives way.
    pub fn start_wait(&mut self, slot: Slot, target: Target) -> Result<(), Refusal> {
        self.transactions.start_wait(slot, target);
        match deadlock::resolve(&self.transactions, &self.locks, slot) {
            Resolution::NoCycle => Ok(()),
            Resolution::Reorder(orders) => {
                for (key, order) in orders {
                    self.locks.reorder(key, &order, &mut self.woken);
                }
                self.release_woken();
                Ok(())
            }
            Resolution::Deadlock => {
                self.abandon_wait(slot);
                Err(Refusal::Deadlock)
            }
        }
    }

    /// Sessions for which a waiting session waits: those that hold what it wants, and those queued before it.
    pub fn waits_for(&self, slot: Slot) -> WaitsFor {
        deadlock::waits_for(&self.transactions, &self.locks, slot, &[])
    }

    /// The value drawn last, by anybody; 0 if none was.
    pub fn last_value(&self, sequence: usize) -> u32 {
        self.transactions.recorder.reads(Resource::Sequence(sequence as u8));
        self.sequences[sequence].last()
    }

    pub fn next_value(&mut self, slot: Slot, sequence: usize) -> u32 {
        self.transactions.recorder.writes(Resource::Sequence(sequence as u8));
        let (value, logs) = self.sequences[sequence].next(&mut self.log);
        if logs {
            self.transactions.assign_top_xid(slot);
        }
        value
    }

    /// Every session and open transaction is gone; what was committed stays, if it had reached the disk. Gives back the
    /// transactions that had committed and are lost, in the order of their commits. Their ids are not given out again,
    /// as a server may do: all who could have kept one are lost as well, but for clients who ask about it.
    pub fn crash(&mut self) -> Vec<Xid> {
        self.transactions.recorder.writes(Resource::Everything);
        for slot in self.transactions.connected() {
            self.abandon_wait(slot);
            self.rollback(slot);
            self.transactions.drop_wait(slot);
            self.transactions.disconnect(slot);
        }
        let lost = self.lose_unflushed();
        let log = &self.log;
        self.sequences.iter_mut().for_each(|sequence| sequence.crash(log));
        lost
    }

    fn lose_unflushed(&mut self) -> Vec<Xid> {
        let Some(unflushed) = &mut self.unflushed else { return Vec::new() };
        let (lost, changes) = unflushed.lose();
        changes.into_iter().for_each(|change| self.tables.undo(change));
        lost.iter().for_each(|xid| self.transactions.lose(*xid));
        self.tables.forget_conclusions();
        lost
    }

    /// What `pg_current_snapshot()` tells a statement that starts now.
    pub fn current_snapshot(&self, slot: Slot) -> snapshot::Snapshot {
        let fixed = self.transactions.of(slot).snapshot.clone();
        fixed.unwrap_or_else(|| self.transactions.snapshot(slot))
    }

    pub fn outcome(&self, xid: Xid) -> Option<Outcome> {
        self.transactions.recorder.reads(Resource::Ids);
        self.transactions.outcome(xid)
    }
}
