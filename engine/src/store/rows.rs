//! A table of versioned rows with one unique key: insert, update, delete, row locks.
//!
//! Versions of a row form a chain whose newest may belong to a transaction in progress, and only the newest. A row's
//! locks stand in the row; a lock is over when its transaction is, so committing releases nothing. What is *not*
//! here: waiting. A function that would have to wait says for what; see `statement`.

use super::locks::{LockKey, Mode, Slot};
use super::snapshot::Snapshot;
use super::transaction::{Transactions, TxRef};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::RangeBounds;
use tourbillon_models::name::Xid;

/// A row type: its unique key, and the number of its table.
pub trait Row: Clone {
    type Key: Ord + Copy;
    const TABLE: u8;

    fn key(&self) -> Self::Key;
}

/// Row lock modes, weakest first. An update takes `NoKeyUpdate`, a delete `Update`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RowLock {
    KeyShare,
    Share,
    NoKeyUpdate,
    Update,
}

impl RowLock {
    fn conflicts_with(self, other: RowLock) -> bool {
        match self {
            RowLock::KeyShare => other == RowLock::Update,
            RowLock::Share => other >= RowLock::NoKeyUpdate,
            RowLock::NoKeyUpdate => other >= RowLock::Share,
            RowLock::Update => true,
        }
    }

    /// The mode in which one queues for a row that one wants to lock so.
    pub const fn queue_mode(self) -> Mode {
        match self {
            RowLock::KeyShare => Mode::AccessShare,
            RowLock::Share => Mode::RowShare,
            RowLock::NoKeyUpdate => Mode::Exclusive,
            RowLock::Update => Mode::AccessExclusive,
        }
    }
}

#[derive(Clone, Debug)]
struct Version<R> {
    row: R,
    xid: Xid,
    writer: TxRef,
    serial: u32,
}

#[derive(Clone, Copy, Debug)]
struct Locker {
    tx: TxRef,
    xid: Xid,
    mode: RowLock,
}

#[derive(Clone, Debug)]
struct Chain<R> {
    head: Version<R>,
    deleted: Option<(TxRef, Xid)>,
    /// Oldest first; kept only as far as somebody may still see them.
    older: Vec<Version<R>>,
    lockers: Vec<Locker>,
    /// An earlier row with the same key, deleted since.
    earlier: Option<u32>,
}

impl<R> Chain<R> {
    fn is_deleted_by_committed(&self, transactions: &Transactions) -> bool {
        self.deleted.is_some_and(|(tx, _)| !transactions.is_active(tx))
    }

    /// Another transaction in progress has updated or deleted the row.
    fn changed_by_other(&self, transactions: &Transactions, me: Slot) -> Option<TxRef> {
        let deleter = self.deleted.map(|(tx, _)| tx);
        deleter.into_iter().chain([self.head.writer]).find(|tx| transactions.is_active_other(*tx, me))
    }

    /// The newest version that is not another's work in progress.
    fn newest(&self, transactions: &Transactions, me: Slot) -> Option<&Version<R>> {
        let versions = core::iter::once(&self.head).chain(self.older.iter().rev());
        versions.into_iter().find(|version| !transactions.is_active_other(version.writer, me))
    }

    fn visible_now(&self, transactions: &Transactions, me: Slot) -> Option<&Version<R>> {
        let gone = self.deleted.is_some_and(|(tx, _)| !transactions.is_active_other(tx, me));
        if gone { None } else { self.newest(transactions, me) }
    }

    fn visible_in(&self, transactions: &Transactions, me: Slot, snapshot: &Snapshot) -> Option<&Version<R>> {
        let sees =
            |tx: TxRef, xid: Xid| transactions.is_mine(tx, me) || (!transactions.is_active(tx) && snapshot.sees(xid));
        if self.deleted.is_some_and(|(tx, xid)| sees(tx, xid)) {
            return None;
        }
        let versions = core::iter::once(&self.head).chain(self.older.iter().rev());
        versions.into_iter().find(|version| sees(version.writer, version.xid))
    }
}

/// A row that a statement found: where, and in which version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    pub row: u32,
    pub version: u32,
}

/// What stands in the way of a row lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hindrance {
    None,
    /// A transaction in progress holds a conflicting lock; `queue` unless this session is among the holders itself.
    Locked {
        by: TxRef,
        queue: bool,
    },
    /// A committed transaction has changed the row since: this is its newest version.
    Updated(Found),
    /// As `Updated`, but the newest version is itself being changed: wait for that one.
    Updating(TxRef),
    Deleted,
}

/// What stands in the way of an insert.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conflict {
    None,
    /// A transaction in progress has inserted, changed or deleted that key.
    Pending(TxRef),
    /// The key is taken; `seen` says whether the asking transaction's snapshot sees by whom.
    Taken {
        seen: bool,
    },
}

#[derive(Debug)]
pub struct Rows<R: Row> {
    chains: Vec<Chain<R>>,
    index: BTreeMap<R::Key, u32>,
    free: Vec<u32>,
    next_version: u32,
}

impl<R: Row> Default for Rows<R> {
    fn default() -> Self {
        Rows { chains: Vec::new(), index: BTreeMap::new(), free: Vec::new(), next_version: 0 }
    }
}

impl<R: Row> Rows<R> {
    pub fn clear(&mut self) {
        self.chains.clear();
        self.index.clear();
        self.free.clear();
        self.next_version = 0;
    }

    fn chains_of(&self, row: u32) -> impl Iterator<Item = (u32, &Chain<R>)> {
        core::iter::successors(Some(row), |row| self.chains[*row as usize].earlier)
            .map(|row| (row, &self.chains[row as usize]))
    }

    fn visible_at(&self, row: u32, transactions: &Transactions, me: Slot) -> Option<(Found, &R)> {
        let snapshot = transactions.of(me).snapshot.as_ref();
        self.chains_of(row).find_map(|(row, chain)| {
            let version = match snapshot {
                Some(snapshot) => chain.visible_in(transactions, me, snapshot),
                None => chain.visible_now(transactions, me),
            }?;
            Some((Found { row, version: version.serial }, &version.row))
        })
    }

    /// What a statement of `me` that starts now sees under this key.
    pub fn find(&self, key: R::Key, transactions: &Transactions, me: Slot) -> Option<(Found, &R)> {
        self.visible_at(*self.index.get(&key)?, transactions, me)
    }

    /// What a statement of `me` that starts now sees in a range of keys, in their order.
    pub fn range<'a>(
        &'a self,
        keys: impl RangeBounds<R::Key>,
        transactions: &'a Transactions,
        me: Slot,
    ) -> impl DoubleEndedIterator<Item = (Found, &'a R)> {
        self.index.range(keys).filter_map(move |(_, row)| self.visible_at(*row, transactions, me))
    }

    pub fn all<'a>(&'a self, transactions: &'a Transactions, me: Slot) -> impl Iterator<Item = (Found, &'a R)> {
        self.range(.., transactions, me)
    }

    /// The newest version that is not another's work in progress, whatever the snapshot says.
    pub fn newest(&self, row: u32, transactions: &Transactions, me: Slot) -> Option<&R> {
        self.chains[row as usize].newest(transactions, me).map(|version| &version.row)
    }

    pub fn hindrance(&self, found: Found, mode: RowLock, transactions: &Transactions, me: Slot) -> Hindrance {
        let chain = &self.chains[found.row as usize];
        let newest = chain.newest(transactions, me).expect("a row that was found has a committed version, or is ours");
        if chain.is_deleted_by_committed(transactions) {
            return Hindrance::Deleted;
        }
        if newest.serial != found.version {
            return match chain.changed_by_other(transactions, me) {
                Some(tx) => Hindrance::Updating(tx),
                None => Hindrance::Updated(Found { row: found.row, version: newest.serial }),
            };
        }
        let active = chain.lockers.iter().filter(|locker| transactions.is_active(locker.tx));
        let others = active.clone().filter(|locker| locker.tx.slot != me && mode.conflicts_with(locker.mode));
        match others.min_by_key(|locker| locker.xid) {
            None => Hindrance::None,
            Some(holder) => {
                let member = active.clone().any(|locker| locker.tx.slot == me);
                Hindrance::Locked { by: holder.tx, queue: !member }
            }
        }
    }

    /// Whether the row's present version is one that the transaction's snapshot does not see.
    pub fn changed_since_snapshot(&self, row: u32, transactions: &Transactions, me: Slot) -> bool {
        let Some(snapshot) = transactions.of(me).snapshot.as_ref() else { return false };
        let chain = &self.chains[row as usize];
        let newest = chain.newest(transactions, me).expect("a row that was found has a version");
        !transactions.is_mine(newest.writer, me) && !snapshot.sees(newest.xid)
    }

    /// Adds a lock. True if the session did not hold one as strong already.
    pub fn lock(&mut self, row: u32, mode: RowLock, transactions: &Transactions, me: Slot) -> bool {
        let lockers = &mut self.chains[row as usize].lockers;
        lockers.retain(|locker| transactions.is_active(locker.tx));
        if lockers.iter().any(|locker| locker.tx.slot == me && locker.mode >= mode) {
            return false;
        }
        lockers.push(Locker { tx: transactions.current(me), xid: transactions.of(me).xid, mode });
        true
    }

    /// Whether the session holds the row in this mode, or a stronger one, already.
    pub fn holds(&self, row: u32, mode: RowLock, transactions: &Transactions, me: Slot) -> bool {
        let mut lockers = self.chains[row as usize].lockers.iter();
        lockers.any(|locker| locker.mode >= mode && transactions.is_mine(locker.tx, me))
    }

    pub fn conflict(&self, key: R::Key, transactions: &Transactions, me: Slot) -> Conflict {
        let Some(row) = self.index.get(&key) else { return Conflict::None };
        let chain = &self.chains[*row as usize];
        if let Some(tx) = chain.changed_by_other(transactions, me) {
            return Conflict::Pending(tx);
        }
        if chain.deleted.is_some() {
            return Conflict::None;
        }
        Conflict::Taken { seen: !self.changed_since_snapshot(*row, transactions, me) }
    }

    /// The key must be free (see [`Rows::conflict`]).
    pub fn insert(&mut self, row: R, transactions: &Transactions, me: Slot) -> u32 {
        let key = row.key();
        let head = self.version(row, transactions, me);
        let earlier = self.index.get(&key).copied();
        let chain = Chain { head, deleted: None, older: Vec::new(), lockers: Vec::new(), earlier };
        let place = match self.free.pop() {
            Some(place) => {
                self.chains[place as usize] = chain;
                place
            }
            None => {
                self.chains.push(chain);
                self.chains.len() as u32 - 1
            }
        };
        self.index.insert(key, place);
        place
    }

    fn version(&mut self, row: R, transactions: &Transactions, me: Slot) -> Version<R> {
        self.next_version += 1;
        Version { row, xid: transactions.of(me).xid, writer: transactions.current(me), serial: self.next_version }
    }

    /// The row must be locked by `me`.
    pub fn update(&mut self, row: u32, change: impl FnOnce(&mut R), transactions: &Transactions, me: Slot) {
        let mut changed = self.chains[row as usize].head.row.clone();
        change(&mut changed);
        let head = self.version(changed, transactions, me);
        let chain = &mut self.chains[row as usize];
        if transactions.retained == 0 && !transactions.is_active(chain.head.writer) {
            chain.older.clear();
        }
        chain.older.push(core::mem::replace(&mut chain.head, head));
    }

    /// The row must be locked by `me`.
    pub fn delete(&mut self, row: u32, transactions: &Transactions, me: Slot) {
        self.chains[row as usize].deleted = Some((transactions.current(me), transactions.of(me).xid));
    }

    pub fn undo_insert(&mut self, row: u32) {
        let key = self.chains[row as usize].head.row.key();
        match self.chains[row as usize].earlier {
            Some(earlier) => self.index.insert(key, earlier),
            None => self.index.remove(&key),
        };
        self.free.push(row);
    }

    pub fn undo_update(&mut self, row: u32) {
        let chain = &mut self.chains[row as usize];
        chain.head = chain.older.pop().expect("an update keeps what it replaced until it commits");
    }

    pub fn undo_delete(&mut self, row: u32) {
        self.chains[row as usize].deleted = None;
    }

    pub fn undo_lock(&mut self, row: u32, me: Slot) {
        let lockers = &mut self.chains[row as usize].lockers;
        let last = lockers.iter().rposition(|locker| locker.tx.slot == me);
        lockers.remove(last.expect("a lock is undone once"));
    }

    /// Gives the place of a row whose deletion has committed to others, unless a snapshot may still see it.
    pub fn reclaim(&mut self, row: u32) {
        let key = self.chains[row as usize].head.row.key();
        if self.index.get(&key) == Some(&row) && self.chains[row as usize].earlier.is_none() {
            self.index.remove(&key);
            self.free.push(row);
        }
    }

    /// Where one waits for a row.
    pub fn queue_key(found: Found) -> LockKey {
        LockKey::RowQueue { table: R::TABLE, row: found.row, version: found.version }
    }
}
