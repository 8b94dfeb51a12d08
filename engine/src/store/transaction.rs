//! Sessions and their transactions: who is in progress, in which order ids were given, who waits for whom.
//!
//! Aborting is physical: an aborted transaction's changes are taken back at once, so a row version is either
//! committed or its writer is still in progress. What a table must do for that is told by [`Undo`].

use super::footprint::{Recorder, Resource};
use super::locks::{LockKey, Mode, SESSIONS, Slot};
use super::snapshot::Snapshot;
use alloc::vec::Vec;
use tourbillon_models::name::{Micros, Xid};
use tourbillon_models::op::Isolation;
use tourbillon_models::reply::{Outcome, Refusal};

/// A transaction, also one that has written nothing and so has no [`Xid`], or a part of it that a savepoint began.
/// Never reused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxRef {
    pub slot: Slot,
    serial: u32,
    /// 0: the transaction itself.
    part: u32,
}

impl TxRef {
    /// Who put there what was there from the beginning; never in progress.
    pub const NOBODY: TxRef = TxRef { slot: SESSIONS as Slot - 1, serial: u32::MAX, part: 0 };
}

/// A change to take back if its transaction, or its savepoint, is rolled back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Undo {
    Insert { table: u8, row: u32 },
    Update { table: u8, row: u32 },
    Delete { table: u8, row: u32 },
    Append { table: u8, position: u64 },
    Truncate { table: u8 },
    Lock { key: LockKey, mode: Mode },
}

impl Undo {
    /// None for a lock.
    pub const fn table(self) -> Option<u8> {
        match self {
            Undo::Insert { table, .. }
            | Undo::Update { table, .. }
            | Undo::Delete { table, .. }
            | Undo::Append { table, .. }
            | Undo::Truncate { table } => Some(table),
            Undo::Lock { .. } => None,
        }
    }
}

/// What a session waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The end of another transaction.
    Transaction(TxRef),
    /// Its turn in a lock's queue; when the wait is over the lock is held.
    Lock { key: LockKey, mode: Mode },
    /// Nothing: others that have just been let in may go first.
    Turn,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    None,
    For(Target),
    Over(Result<(), Refusal>),
}

/// A savepoint, and the part of the transaction since then: one that can be taken back alone, and be waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Savepoint {
    pub level: u8,
    pub undo_len: usize,
    part: u32,
    /// The part's own id, as a transaction's; 0 until its first write.
    xid: Xid,
}

/// A part that was released: what it did belongs to the part around it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Released {
    part: u32,
    /// 0: the transaction itself.
    into: u32,
    xid: Xid,
}

/// One session's transaction. Its vectors are kept from one transaction to the next.
#[derive(Debug)]
pub struct Transaction {
    /// 0: none is open.
    serial: u32,
    pub explicit: bool,
    /// Takes nothing but its end, or a rollback to a savepoint.
    pub failed: bool,
    pub isolation: Isolation,
    /// 0 until the first write.
    pub xid: Xid,
    /// Under REPEATABLE READ, from the first query on.
    pub snapshot: Option<Snapshot>,
    pub started_at: Micros,
    pub savepoints: Vec<Savepoint>,
    released: Vec<Released>,
    pub undo: Vec<Undo>,
    pub wait: Wait,
    /// Set by the session for the locks it asks for from now on; zero: none.
    pub lock_timeout: Micros,
    /// Set by the session: if it stands idle in this transaction for long, the server ends it.
    pub ends_when_idle: bool,
    /// How long the present wait may last. Whoever runs the store measures it: a clock that is set moves no timeout.
    pub may_wait: Option<Micros>,
    pub tables_locked: u64,
    pub others_locked: Vec<LockKey>,
}

impl Transaction {
    fn new() -> Self {
        Transaction {
            serial: 0,
            explicit: false,
            failed: false,
            isolation: Isolation::ReadCommitted,
            xid: Xid(0),
            snapshot: None,
            started_at: Micros(0),
            savepoints: Vec::new(),
            released: Vec::new(),
            undo: Vec::new(),
            wait: Wait::None,
            lock_timeout: Micros(0),
            ends_when_idle: false,
            may_wait: None,
            tables_locked: 0,
            others_locked: Vec::new(),
        }
    }

    pub const fn is_open(&self) -> bool {
        self.serial != 0
    }

    fn has_part(&self, part: u32) -> bool {
        part == 0 || self.savepoints.iter().any(|savepoint| savepoint.part == part)
    }
}

/// All sessions, and what must be known about transactions as a whole.
pub struct Transactions {
    sessions: Vec<Transaction>,
    connected: u64,
    next_serial: u32,
    next_xid: u32,
    latest_completed: Xid,
    /// Transactions with an id that are in progress, in the order of their ids.
    in_progress: Vec<Xid>,
    /// By id, from the first on: how each ended.
    outcomes: Vec<Outcome>,
    /// How many snapshots outlive a statement: while there are any, old row versions are kept.
    pub retained: u32,
    /// Sessions that wait, as bits.
    pub waiting: u64,
    /// Sessions whose wait is over and that have not gone on yet, in the order of their release.
    pub released: Vec<Slot>,
    pub recorder: Recorder,
}

impl Transactions {
    pub fn new() -> Self {
        Transactions {
            sessions: (0..SESSIONS).map(|_| Transaction::new()).collect(),
            connected: 0,
            next_serial: 1,
            next_xid: 1,
            latest_completed: Xid(0),
            in_progress: Vec::new(),
            outcomes: Vec::new(),
            retained: 0,
            waiting: 0,
            released: Vec::new(),
            recorder: Recorder::default(),
        }
    }

    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        for session in &mut self.sessions {
            session.serial = 0;
            session.failed = false;
            session.snapshot = None;
            session.savepoints.clear();
            session.released.clear();
            session.undo.clear();
            session.wait = Wait::None;
            session.tables_locked = 0;
            session.others_locked.clear();
        }
        self.connected = 0;
        self.next_serial = 1;
        self.next_xid = 1;
        self.latest_completed = Xid(0);
        self.in_progress.clear();
        self.outcomes.clear();
        self.retained = 0;
        self.waiting = 0;
        self.released.clear();
        self.recorder.clear();
    }

    /// A free session; none if all are connected. The last place is nobody's: an onlooker's, who has no transaction.
    pub fn connect(&mut self) -> Option<Slot> {
        let slot = (!self.connected).trailing_zeros();
        if slot as usize >= SESSIONS - 1 {
            return None;
        }
        self.connected |= 1 << slot;
        Some(slot as Slot)
    }

    pub fn disconnect(&mut self, slot: Slot) {
        assert!(!self.of(slot).is_open(), "a session ends its transaction before it goes");
        self.connected &= !(1 << slot);
    }

    pub fn connected(&self) -> impl Iterator<Item = Slot> + use<> {
        let connected = self.connected;
        (0..SESSIONS as Slot).filter(move |slot| connected >> slot & 1 != 0)
    }

    pub fn of(&self, slot: Slot) -> &Transaction {
        &self.sessions[slot as usize]
    }

    pub fn of_mut(&mut self, slot: Slot) -> &mut Transaction {
        &mut self.sessions[slot as usize]
    }

    pub fn begin(&mut self, slot: Slot, isolation: Isolation, explicit: bool, now: Micros) {
        if explicit {
            self.recorder.reads(Resource::Ids);
        }
        let serial = self.take_serial();
        let transaction = self.of_mut(slot);
        assert!(!transaction.is_open(), "a session has one transaction");
        transaction.serial = serial;
        transaction.explicit = explicit;
        transaction.failed = false;
        transaction.isolation = isolation;
        transaction.xid = Xid(0);
        transaction.started_at = now;
        transaction.lock_timeout = Micros(0);
        transaction.ends_when_idle = false;
    }

    /// What the session writes now belongs to this.
    pub fn current(&self, slot: Slot) -> TxRef {
        let transaction = self.of(slot);
        let part = transaction.savepoints.last().map_or(0, |savepoint| savepoint.part);
        TxRef { slot, serial: transaction.serial, part }
    }

    /// In progress: neither committed nor aborted, nor taken back.
    pub fn is_active(&self, tx: TxRef) -> bool {
        let transaction = self.of(tx.slot);
        let was_released = |released: &Released| released.part == tx.part && transaction.has_part(released.into);
        transaction.serial == tx.serial
            && (transaction.has_part(tx.part) || transaction.released.iter().any(was_released))
    }

    pub fn is_active_other(&self, tx: TxRef, me: Slot) -> bool {
        tx.slot != me && self.is_active(tx)
    }

    pub fn is_mine(&self, tx: TxRef, me: Slot) -> bool {
        tx.slot == me && self.is_active(tx)
    }

    /// The transaction's id, assigned now if it has none. A write after a savepoint takes another for that part, which
    /// nobody sees but in the gap it leaves.
    pub fn assign_xid(&mut self, slot: Slot) -> Xid {
        let xid = self.assign_top_xid(slot);
        for index in 0..self.of(slot).savepoints.len() {
            if self.of(slot).savepoints[index].xid == Xid(0) {
                self.of_mut(slot).savepoints[index].xid = self.take_xid();
            }
        }
        xid
    }

    /// As [`Transactions::assign_xid`], for what a rollback to a savepoint does not take back.
    pub fn assign_top_xid(&mut self, slot: Slot) -> Xid {
        if self.of(slot).xid == Xid(0) {
            let xid = self.take_xid();
            self.in_progress.push(xid);
            self.of_mut(slot).xid = xid;
        }
        self.of(slot).xid
    }

    fn take_xid(&mut self) -> Xid {
        self.recorder.writes(Resource::Ids);
        let xid = Xid(self.next_xid);
        self.next_xid += 1;
        self.outcomes.push(Outcome::InProgress);
        xid
    }

    /// The id of the part of the transaction that writes now; it must have been assigned.
    pub fn part_xid(&self, slot: Slot) -> Xid {
        let transaction = self.of(slot);
        transaction.savepoints.last().map_or(transaction.xid, |savepoint| savepoint.xid)
    }

    fn complete(&mut self, xid: Xid, outcome: Outcome) {
        if xid != Xid(0) {
            self.outcomes[xid.0 as usize - 1] = outcome;
            self.latest_completed = self.latest_completed.max(xid);
        }
    }

    /// A transaction that had committed is lost.
    pub fn lose(&mut self, xid: Xid) {
        self.outcomes[xid.0 as usize - 1] = Outcome::Aborted;
    }

    pub fn savepoint(&mut self, slot: Slot, level: u8) {
        let part = self.take_serial();
        let transaction = self.of_mut(slot);
        let undo_len = transaction.undo.len();
        transaction.savepoints.push(Savepoint { level, undo_len, part, xid: Xid(0) });
    }

    /// Ends the parts from the savepoint in this place on, and begins another there. What they changed must have been
    /// taken back.
    pub fn restart_part(&mut self, slot: Slot, place: usize) {
        for index in place..self.of(slot).savepoints.len() {
            let ended = self.of(slot).savepoints[index];
            self.complete(ended.xid, Outcome::Aborted);
            self.complete_released(slot, Outcome::Aborted, |released| released.into == ended.part);
        }
        let part = self.take_serial();
        let savepoints = &mut self.of_mut(slot).savepoints;
        savepoints.truncate(place + 1);
        savepoints[place].part = part;
        savepoints[place].xid = Xid(0);
        if self.waiting != 0 {
            self.release_waiters(slot);
        }
    }

    /// Ends the newest part; what it did is from now on what the part around it did.
    pub fn release(&mut self, slot: Slot) {
        let transaction = self.of_mut(slot);
        let Savepoint { part, xid, .. } = transaction.savepoints.pop().expect("what is released was begun");
        let into = transaction.savepoints.last().map_or(0, |around| around.part);
        transaction.released.iter_mut().filter(|inner| inner.into == part).for_each(|inner| inner.into = into);
        if xid != Xid(0) {
            transaction.released.push(Released { part, into, xid });
        }
    }

    fn complete_released(&mut self, slot: Slot, outcome: Outcome, ends: impl Fn(&Released) -> bool) {
        let mut released = core::mem::take(&mut self.of_mut(slot).released);
        for part in released.iter().filter(|part| ends(part)) {
            self.complete(part.xid, outcome);
        }
        released.retain(|part| !ends(part));
        self.of_mut(slot).released = released;
    }

    fn take_serial(&mut self) -> u32 {
        let serial = self.next_serial;
        self.next_serial += 1;
        serial
    }

    /// What PostgreSQL's `pg_current_snapshot()` would be.
    pub fn snapshot(&self, slot: Slot) -> Snapshot {
        self.recorder.reads(Resource::Ids);
        let own = self.of(slot).xid;
        let xmax = Xid(self.latest_completed.0 + 1);
        let listed = self.in_progress.iter().copied();
        Snapshot { xmax, in_progress: listed.filter(|xid| *xid < xmax && *xid != own).collect() }
    }

    /// Under REPEATABLE READ the first query fixes what the transaction sees.
    pub fn fix_snapshot(&mut self, slot: Slot) {
        let transaction = self.of(slot);
        if transaction.isolation == Isolation::RepeatableRead && transaction.snapshot.is_none() {
            let snapshot = self.snapshot(slot);
            self.of_mut(slot).snapshot = Some(snapshot);
            self.retained += 1;
        }
    }

    /// No snapshot, and no statement under way, may still need what is not the newest.
    pub fn nobody_looks_back(&self) -> bool {
        self.retained == 0 && self.waiting == 0 && self.released.is_empty()
    }

    /// Marks the transaction as over. Its changes must have been taken back before, if it aborts.
    pub fn end(&mut self, slot: Slot, outcome: Outcome) {
        self.recorder.ends(slot);
        if self.of(slot).xid != Xid(0) {
            self.recorder.writes(Resource::Ids);
        }
        while let Some(savepoint) = self.of_mut(slot).savepoints.pop() {
            self.complete(savepoint.xid, outcome);
        }
        self.complete_released(slot, outcome, |_| true);
        let transaction = self.of_mut(slot);
        let xid = transaction.xid;
        transaction.serial = 0;
        transaction.undo.clear();
        if transaction.snapshot.take().is_some() {
            self.retained -= 1;
        }
        if xid != Xid(0) {
            self.in_progress.retain(|other| *other != xid);
            self.complete(xid, outcome);
        }
        if self.waiting != 0 {
            self.release_waiters(slot);
        }
    }

    /// Lets everyone look again who waits for what is over of this session: its transaction, or a part of that.
    fn release_waiters(&mut self, of: Slot) {
        for slot in 0..SESSIONS as Slot {
            if self.waiting >> slot & 1 != 0
                && let Wait::For(Target::Transaction(tx)) = self.of(slot).wait
                && tx.slot == of
                && !self.is_active(tx)
            {
                self.finish_wait(slot, Ok(()));
            }
        }
    }

    pub fn start_wait(&mut self, slot: Slot, target: Target) {
        self.recorder.writes(Resource::Everything);
        let transaction = self.of_mut(slot);
        transaction.wait = Wait::For(target);
        let timeout = transaction.lock_timeout;
        transaction.may_wait = (timeout != Micros(0)).then_some(timeout);
        if target == Target::Turn {
            self.finish_wait(slot, Ok(()));
        } else {
            self.waiting |= 1 << slot;
        }
    }

    /// The session may go on, with this result, when its turn comes.
    pub fn finish_wait(&mut self, slot: Slot, result: Result<(), Refusal>) {
        self.recorder.writes(Resource::Everything);
        self.of_mut(slot).wait = Wait::Over(result);
        self.of_mut(slot).may_wait = None;
        self.waiting &= !(1 << slot);
        self.released.push(slot);
    }

    /// Forgets a wait whose call is gone.
    pub fn drop_wait(&mut self, slot: Slot) {
        self.of_mut(slot).wait = Wait::None;
        self.waiting &= !(1 << slot);
        self.released.retain(|other| *other != slot);
    }

    pub fn outcome(&self, xid: Xid) -> Option<Outcome> {
        self.outcomes.get((xid.0 as usize).checked_sub(1)?).copied()
    }
}

impl Default for Transactions {
    fn default() -> Self {
        Transactions::new()
    }
}
