//! A table of versioned rows with one unique key: insert, update, delete, and the marks of those who lock.
//!
//! Versions of a row form a chain; each but the newest has the mark of whoever replaced it. A lock is over when its
//! transaction is, so committing releases nothing. What is *not* here: waiting. See `approach`.

use super::footprint::Resource;
use super::index::Index;
use super::locks::{LockKey, Slot};
use super::marks::{Deed, Mark, Marks};
use super::snapshot::Snapshot;
use super::transaction::{Transactions, TxRef};
use alloc::vec::Vec;
use core::ops::RangeBounds;
use either::Either;
use tourbillon_models::name::Xid;

pub use super::marks::RowLock;

/// A row type: its unique key with its index, and the number of its table.
pub trait Row: Clone {
    type Key: Ord + Copy;
    type Index: Index<Self::Key>;
    const TABLE: u8;

    fn key(&self) -> Self::Key;
}

#[derive(Clone, Debug)]
struct Version<R> {
    row: R,
    xid: Xid,
    writer: TxRef,
    serial: u32,
    marks: Marks,
}

#[derive(Clone, Debug)]
struct Chain<R> {
    head: Version<R>,
    /// Oldest first; kept only as far as somebody may still see them.
    older: Vec<Version<R>>,
    /// An earlier row with the same key, deleted since.
    earlier: Option<u32>,
}

impl<R> Chain<R> {
    fn newest_first(&self) -> impl Iterator<Item = &Version<R>> {
        core::iter::once(&self.head).chain(self.older.iter().rev())
    }

    fn position(&self, serial: u32) -> Option<usize> {
        if self.head.serial == serial {
            return Some(self.older.len());
        }
        self.older.iter().rposition(|version| version.serial == serial)
    }

    fn at(&self, position: usize) -> Option<&Version<R>> {
        if position == self.older.len() { Some(&self.head) } else { self.older.get(position) }
    }

    fn at_mut(&mut self, position: usize) -> Option<&mut Version<R>> {
        if position == self.older.len() { Some(&mut self.head) } else { self.older.get_mut(position) }
    }

    /// Who has deleted the row, or is about to: nobody replaced the newest version, so a write to it took it away.
    fn deleter(&self) -> Option<&Mark> {
        self.head.marks.write()
    }

    /// Whom somebody must wait for who wants the key: whoever first wrote what is not committed.
    fn changed_by_other(&self, transactions: &Transactions, me: Slot) -> Option<TxRef> {
        let by_other = |tx: &TxRef| transactions.is_active_other(*tx, me);
        let first = self.newest_first().map(|version| version.writer).take_while(by_other).last();
        first.or_else(|| self.deleter().map(|mark| mark.tx).filter(by_other))
    }

    /// The newest version that is not another's work in progress.
    fn newest(&self, transactions: &Transactions, me: Slot) -> Option<&Version<R>> {
        self.newest_first().find(|version| !transactions.is_active_other(version.writer, me))
    }

    fn visible_now(&self, transactions: &Transactions, me: Slot) -> Option<&Version<R>> {
        if matches!(self.head.marks, Marks::None) && !transactions.is_active_other(self.head.writer, me) {
            return Some(&self.head);
        }
        let gone = self.deleter().is_some_and(|mark| !transactions.is_active_other(mark.tx, me));
        if gone { None } else { self.newest(transactions, me) }
    }

    fn visible_in(&self, transactions: &Transactions, me: Slot, snapshot: &Snapshot) -> Option<&Version<R>> {
        let sees =
            |tx: TxRef, xid: Xid| transactions.is_mine(tx, me) || (!transactions.is_active(tx) && snapshot.sees(xid));
        if self.deleter().is_some_and(|mark| sees(mark.tx, mark.top_xid)) {
            return None;
        }
        self.newest_first().find(|version| sees(version.writer, version.xid))
    }
}

/// A row that a statement found: where, and in which version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    pub row: u32,
    pub version: u32,
}

fn found<R>(row: u32, version: &Version<R>) -> (Found, &R) {
    (Found { row, version: version.serial }, &version.row)
}

/// What may be done with a version, as PostgreSQL's `HeapTupleSatisfiesUpdate` says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Free,
    /// Somebody in progress, perhaps the asking session itself, locks or changes it.
    Marked,
    /// A committed transaction has replaced it by a newer version.
    Replaced,
    /// A committed transaction has deleted it.
    Deleted,
}

/// What a new version takes over from the one that it replaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heritage {
    Nothing,
    /// All marks, since some of them may hold the key; a lone one as if it did.
    Marks,
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
    index: R::Index,
    free: Vec<u32>,
    next_version: u32,
}

impl<R: Row> Default for Rows<R> {
    fn default() -> Self {
        Rows { chains: Vec::new(), index: R::Index::default(), free: Vec::new(), next_version: 0 }
    }
}

impl<R: Row> Rows<R> {
    pub fn clear(&mut self) {
        self.chains.clear();
        self.index.clear();
        self.free.clear();
        self.next_version = 0;
    }

    /// A row that is there before anybody comes; the table must be empty.
    pub fn install(&mut self, row: R) {
        assert!(self.chains.is_empty(), "somebody was here before");
        self.index.insert(row.key(), 0);
        let head = Version { row, xid: Xid(0), writer: TxRef::NOBODY, serial: 0, marks: Marks::None };
        self.chains.push(Chain { head, older: Vec::new(), earlier: None });
    }

    fn chains_of(&self, row: u32) -> impl Iterator<Item = (u32, &Chain<R>)> {
        core::iter::successors(Some(row), |row| self.chains[*row as usize].earlier)
            .map(|row| (row, &self.chains[row as usize]))
    }

    /// What is visible of the rows that had this one's key.
    fn visible_at<'a>(&'a self, row: u32, transactions: &'a Transactions, me: Slot) -> Option<(Found, &'a R)> {
        match &transactions.of(me).snapshot {
            None => self.chains_of(row).find_map(|(row, chain)| Some(found(row, chain.visible_now(transactions, me)?))),
            Some(snapshot) => self.visible_in(row, snapshot, transactions, me).next(),
        }
    }

    /// Under REPEATABLE READ that may be two: one that the transaction inserted itself, and one that somebody had deleted
    /// before that, after the snapshot.
    fn visible_in<'a>(
        &'a self,
        row: u32,
        snapshot: &'a Snapshot,
        transactions: &'a Transactions,
        me: Slot,
    ) -> impl Iterator<Item = (Found, &'a R)> {
        let visible = move |chain: &'a Chain<R>| chain.visible_in(transactions, me, snapshot);
        self.chains_of(row).filter_map(move |(row, chain)| Some(found(row, visible(chain)?)))
    }

    /// Whoever finds nothing would see any row that comes.
    fn look_up(&self, key: R::Key, transactions: &Transactions) -> Option<u32> {
        let row = self.index.get(key);
        let read = row.map_or(Resource::Table(R::TABLE), |row| Resource::Row(R::TABLE, row));
        transactions.recorder.reads(read);
        row
    }

    /// What a statement of `me` that starts now sees under this key.
    pub fn find<'a>(&'a self, key: R::Key, transactions: &'a Transactions, me: Slot) -> Option<(Found, &'a R)> {
        self.visible_at(self.look_up(key, transactions)?, transactions, me)
    }

    /// As [`Rows::find`], under a condition; and whether there is another such row.
    pub fn find_where(
        &self,
        key: R::Key,
        condition: impl Fn(&R) -> bool,
        transactions: &Transactions,
        me: Slot,
    ) -> Option<(Found, bool)> {
        let row = self.look_up(key, transactions)?;
        match &transactions.of(me).snapshot {
            None => self
                .visible_at(row, transactions, me)
                .filter(|(_, row)| condition(row))
                .map(|(found, _)| (found, false)),
            Some(snapshot) => {
                let visible = self.visible_in(row, snapshot, transactions, me);
                let mut fulfilling = visible.filter(|(_, row)| condition(row)).map(|(found, _)| found);
                Some((fulfilling.next()?, fulfilling.next().is_some()))
            }
        }
    }

    /// What a statement of `me` that starts now sees in a range of keys, in their order.
    pub fn range<'a>(
        &'a self,
        keys: impl RangeBounds<R::Key>,
        transactions: &'a Transactions,
        me: Slot,
    ) -> impl DoubleEndedIterator<Item = (Found, &'a R)> {
        transactions.recorder.reads(Resource::Table(R::TABLE));
        let rows = self.index.range(keys);
        match &transactions.of(me).snapshot {
            None => Either::Left(rows.filter_map(move |row| self.visible_at(row, transactions, me))),
            Some(snapshot) => Either::Right(rows.flat_map(move |row| {
                let mut visible = self.visible_in(row, snapshot, transactions, me);
                let newer = visible.next();
                [visible.next(), newer].into_iter().flatten()
            })),
        }
    }

    /// What a statement under READ COMMITTED may see of each row, now or once those who are at work end, whoever looks.
    pub fn every_current<'a>(&'a self, transactions: &'a Transactions) -> impl Iterator<Item = &'a R> {
        let of_chain = |chain: &'a Chain<R>| {
            let older = chain.older.iter().rev();
            let newer = chain.newest_first().take_while(|newer| transactions.is_active(newer.writer));
            core::iter::once(&chain.head).chain(older.zip(newer).map(|(older, _)| older))
        };
        self.chains.iter().flat_map(of_chain).map(|version| &version.row)
    }

    /// Rows and all their versions, whether anybody may still see them or not.
    pub fn version_count(&self) -> usize {
        let older: usize = self.chains.iter().map(|chain| chain.older.len()).sum();
        self.chains.len() - self.free.len() + older
    }

    pub fn all<'a>(&'a self, transactions: &'a Transactions, me: Slot) -> impl Iterator<Item = (Found, &'a R)> {
        self.range(.., transactions, me)
    }

    fn version_at(&self, found: Found) -> Option<&Version<R>> {
        let chain = &self.chains[found.row as usize];
        chain.at(chain.position(found.version)?)
    }

    /// The row in the version that was found; it must still be there.
    pub fn row(&self, found: Found) -> &R {
        &self.version_at(found).expect("what somebody has in hand is kept").row
    }

    /// A row's newest version, whoever wrote it.
    pub fn newest(&self, row: u32) -> &R {
        &self.chains[row as usize].head.row
    }

    pub fn marks(&self, found: Found) -> Option<&Marks> {
        self.version_at(found).map(|version| &version.marks)
    }

    /// The version that replaced this one, or is about to.
    pub fn newer(&self, found: Found) -> Option<Found> {
        let chain = &self.chains[found.row as usize];
        let newer = chain.at(chain.position(found.version)? + 1)?;
        Some(Found { row: found.row, version: newer.serial })
    }

    pub fn state(&self, found: Found, transactions: &Transactions) -> State {
        let version = self.version_at(found).expect("what somebody has in hand is kept");
        match &version.marks {
            Marks::None => State::Free,
            marks if marks.is_running(transactions) => State::Marked,
            marks if marks.write().is_none() => State::Free,
            _ if self.newer(found).is_some() => State::Replaced,
            _ => State::Deleted,
        }
    }

    /// Marks a version; the transaction must have its id.
    pub fn mark(&mut self, found: Found, mode: RowLock, deed: Deed, transactions: &Transactions, me: Slot) {
        let (tx, xid, top_xid) = (transactions.current(me), transactions.part_xid(me), transactions.of(me).xid);
        let chain = &mut self.chains[found.row as usize];
        let position = chain.position(found.version).expect("what somebody has in hand is kept");
        let version = chain.at_mut(position).expect("it has a position");
        version.marks.add(Mark { tx, xid, top_xid, mode, deed, undone: false }, transactions);
    }

    /// Whether the row's present version is one that the transaction's snapshot does not see.
    fn changed_since_snapshot(&self, row: u32, transactions: &Transactions, me: Slot) -> bool {
        let Some(snapshot) = transactions.of(me).snapshot.as_ref() else { return false };
        let chain = &self.chains[row as usize];
        let newest = chain.newest(transactions, me).expect("a row that was found has a version");
        !transactions.is_mine(newest.writer, me) && !snapshot.sees(newest.xid)
    }

    pub fn conflict(&self, key: R::Key, transactions: &Transactions, me: Slot) -> Conflict {
        transactions.recorder.holds(me, Resource::Keys(R::TABLE));
        let Some(row) = self.index.get(key) else { return Conflict::None };
        transactions.recorder.reads(Resource::Row(R::TABLE, row));
        transactions.recorder.holds(me, Resource::Marks(R::TABLE, row));
        // Whose change is oldest is met first.
        let pending = self.chains_of(row).filter_map(|(_, chain)| chain.changed_by_other(transactions, me)).last();
        if let Some(tx) = pending {
            return Conflict::Pending(tx);
        }
        let chain = &self.chains[row as usize];
        if chain.deleter().is_some() {
            return Conflict::None;
        }
        Conflict::Taken { seen: !self.changed_since_snapshot(row, transactions, me) }
    }

    /// The key must be free (see [`Rows::conflict`]).
    pub fn insert(&mut self, row: R, transactions: &Transactions, me: Slot) -> u32 {
        let key = row.key();
        let head = self.version(row, transactions, me);
        let earlier = self.index.get(key).filter(|earlier| !self.is_forgotten(*earlier, transactions));
        let chain = Chain { head, older: Vec::new(), earlier };
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

    /// Gives up the places of deleted rows that nobody may still see.
    fn is_forgotten(&mut self, row: u32, transactions: &Transactions) -> bool {
        let deleter = self.chains[row as usize].deleter().expect("a key is free once its row is deleted");
        if !transactions.nobody_looks_back() || transactions.is_active(deleter.tx) {
            return false;
        }
        let mut next = Some(row);
        while let Some(row) = next {
            self.free.push(row);
            next = self.chains[row as usize].earlier.take();
        }
        true
    }

    fn version(&mut self, row: R, transactions: &Transactions, me: Slot) -> Version<R> {
        self.next_version += 1;
        let (xid, writer) = (transactions.of(me).xid, transactions.current(me));
        Version { row, xid, writer, serial: self.next_version, marks: Marks::None }
    }

    /// Replaces the newest version of a row, which the session must have come by.
    pub fn update(
        &mut self,
        found: Found,
        change: impl FnOnce(&mut R),
        heritage: Heritage,
        transactions: &Transactions,
        me: Slot,
    ) {
        let before = &self.chains[found.row as usize].head;
        assert_eq!(before.serial, found.version, "only a row's newest version is replaced");
        let mut changed = before.row.clone();
        change(&mut changed);
        let mut head = self.version(changed, transactions, me);
        if heritage == Heritage::Marks {
            head.marks = self.chains[found.row as usize].head.marks.inherited();
        }
        self.mark(found, RowLock::NoKeyUpdate, Deed::Replaces, transactions, me);
        let chain = &mut self.chains[found.row as usize];
        if transactions.nobody_looks_back() && !transactions.is_active(chain.head.writer) {
            chain.older.clear();
        }
        chain.older.push(core::mem::replace(&mut chain.head, head));
    }

    /// Deletes a row in its newest version, which the session must have come by.
    pub fn delete(&mut self, found: Found, transactions: &Transactions, me: Slot) {
        let head = self.chains[found.row as usize].head.serial;
        assert_eq!(head, found.version, "only a row's newest version is deleted");
        self.mark(found, RowLock::Update, Deed::Deletes, transactions, me);
    }

    pub fn undo_insert(&mut self, row: u32) {
        let key = self.chains[row as usize].head.row.key();
        match self.chains[row as usize].earlier {
            Some(earlier) => self.index.insert(key, earlier),
            None => self.index.remove(key),
        };
        self.free.push(row);
    }

    pub fn undo_update(&mut self, row: u32) {
        let chain = &mut self.chains[row as usize];
        chain.head = chain.older.pop().expect("an update keeps what it replaced until it commits");
        chain.head.marks.undo_write();
    }

    pub fn undo_delete(&mut self, row: u32) {
        self.chains[row as usize].head.marks.undo_write();
    }

    /// Gives the place of a row whose deletion has committed to others, unless a snapshot may still see it.
    pub fn reclaim(&mut self, row: u32) {
        let key = self.chains[row as usize].head.row.key();
        if self.index.get(key) == Some(row) && self.chains[row as usize].earlier.is_none() {
            self.index.remove(key);
            self.free.push(row);
        }
    }

    /// Where one waits for a row.
    pub fn queue_key(found: Found) -> LockKey {
        LockKey::RowQueue { table: R::TABLE, row: found.row, version: found.version }
    }
}
