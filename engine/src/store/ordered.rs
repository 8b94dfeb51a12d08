//! A table that is appended to, read in the order of a key or by the xid that its rows carry, deleted from and truncated:
//! a timer table.
//!
//! Rows lie in a vector; two ordered sets beside it are the server's two indexes, so that a look-up costs what it finds
//! and not what the table holds. Versions there are none, as rows never change: a row has a writer, and may have one who
//! deletes it. The xid of the second index is a field of the row's, and need not be its writer's: a row that was moved
//! keeps it. Truncation is not multi-version: it takes the rows from every snapshot at once. Nobody waits here.

use super::footprint::Resource;
use super::locks::Slot;
use super::transaction::{Transactions, TxRef};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::ops::{Bound, Range, RangeBounds};
use tourbillon_models::name::Xid;

/// What a row is found by.
pub trait Keyed {
    type Key: Ord + Copy + core::fmt::Debug;

    fn key(&self) -> Self::Key;
    /// As stored.
    fn xid(&self) -> Xid;
}

/// Who wrote or deleted a row.
#[derive(Clone, Copy, Debug)]
struct Deed {
    tx: TxRef,
    xid: Xid,
}

impl Deed {
    fn by(transactions: &Transactions, me: Slot) -> Deed {
        Deed { tx: transactions.current(me), xid: transactions.of(me).xid }
    }

    /// What aborts is taken back at once, so whoever is not in progress has committed.
    fn is_seen(&self, transactions: &Transactions, me: Slot) -> bool {
        match &transactions.of(me).snapshot {
            None => !transactions.is_active_other(self.tx, me),
            Some(snapshot) => {
                transactions.is_mine(self.tx, me) || !transactions.is_active(self.tx) && snapshot.sees(self.xid)
            }
        }
    }
}

#[derive(Debug)]
struct Kept<E> {
    item: E,
    written: Deed,
    deleted: Option<Deed>,
}

/// Whether a row that a statement has found can be deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deletion {
    Free,
    /// Somebody in progress deletes it.
    Pending(TxRef),
    /// Somebody deleted it since the transaction's snapshot.
    Gone,
}

#[derive(Debug)]
struct Content<E: Keyed> {
    rows: Vec<Kept<E>>,
    by_key: BTreeSet<(E::Key, u32)>,
    by_xid: BTreeSet<(Xid, u32)>,
}

impl<E: Keyed> Default for Content<E> {
    fn default() -> Self {
        Content { rows: Vec::new(), by_key: BTreeSet::new(), by_xid: BTreeSet::new() }
    }
}

impl<E: Keyed> Content<E> {
    fn clear(&mut self) {
        self.rows.clear();
        self.by_key.clear();
        self.by_xid.clear();
    }

    fn unlist(&mut self, place: u32) {
        let item = &self.rows[place as usize].item;
        self.by_key.remove(&(item.key(), place));
        self.by_xid.remove(&(item.xid(), place));
    }
}

#[derive(Debug)]
pub struct Ordered<E: Keyed> {
    /// The number of the table.
    pub table: u8,
    content: Content<E>,
    /// What a truncation took away that may still be rolled back.
    truncated: Vec<Content<E>>,
    spare: Content<E>,
}

impl<E: Keyed> Default for Ordered<E> {
    fn default() -> Self {
        Ordered { table: 0, content: Content::default(), truncated: Vec::new(), spare: Content::default() }
    }
}

impl<E: Keyed> Ordered<E> {
    pub fn clear(&mut self) {
        self.content.clear();
        self.truncated.clear();
    }

    /// Whether there is no row at all, seen or not.
    pub fn is_empty(&self, transactions: &Transactions) -> bool {
        transactions.recorder.reads(Resource::Table(self.table));
        self.content.by_key.is_empty()
    }

    /// Rows, those included that were deleted or rolled back.
    pub fn version_count(&self) -> usize {
        self.content.rows.len()
    }

    /// The place of the new row; the transaction must have its id.
    pub fn append(&mut self, item: E, transactions: &Transactions, me: Slot) -> u32 {
        let place = self.content.rows.len() as u32;
        self.content.by_key.insert((item.key(), place));
        self.content.by_xid.insert((item.xid(), place));
        self.content.rows.push(Kept { item, written: Deed::by(transactions, me), deleted: None });
        place
    }

    fn seen<'a>(&'a self, place: u32, transactions: &Transactions, me: Slot) -> Option<(u32, &'a E)> {
        let row = &self.content.rows[place as usize];
        let gone = row.deleted.is_some_and(|deed| deed.is_seen(transactions, me));
        (row.written.is_seen(transactions, me) && !gone).then_some((place, &row.item))
    }

    /// What a statement of `me` that starts now sees in a range of keys, in their order, each with its place.
    pub fn range<'a>(
        &'a self,
        keys: impl RangeBounds<E::Key>,
        transactions: &'a Transactions,
        me: Slot,
    ) -> impl Iterator<Item = (u32, &'a E)> {
        transactions.recorder.reads(Resource::Table(self.table));
        let start = match keys.start_bound() {
            Bound::Unbounded => Bound::Unbounded,
            Bound::Included(key) => Bound::Included((*key, 0)),
            Bound::Excluded(key) => Bound::Excluded((*key, u32::MAX)),
        };
        let end = match keys.end_bound() {
            Bound::Unbounded => Bound::Unbounded,
            Bound::Included(key) => Bound::Included((*key, u32::MAX)),
            Bound::Excluded(key) => Bound::Excluded((*key, 0)),
        };
        // A range that ends before it begins holds nothing; to the set it would be a mistake.
        let is_turned = match (start, end) {
            (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from > to,
            _ => false,
        };
        let range = (!is_turned).then(|| self.content.by_key.range((start, end)));
        let places = range.into_iter().flatten().map(|(_, place)| *place);
        places.filter_map(move |place| self.seen(place, transactions, me))
    }

    /// The same of the rows that carry an xid of this range.
    pub fn range_by_xid<'a>(
        &'a self,
        xids: Range<Xid>,
        transactions: &'a Transactions,
        me: Slot,
    ) -> impl Iterator<Item = (u32, &'a E)> {
        transactions.recorder.reads(Resource::Table(self.table));
        let end = xids.end.max(xids.start);
        let places = self.content.by_xid.range((xids.start, 0)..(end, 0)).map(|(_, place)| *place);
        places.filter_map(move |place| self.seen(place, transactions, me))
    }

    /// Of a row that the statement sees.
    pub fn deletion(&self, place: u32, transactions: &Transactions, me: Slot) -> Deletion {
        transactions.recorder.holds(me, Resource::Marks(self.table, place));
        match self.content.rows[place as usize].deleted {
            None => Deletion::Free,
            Some(deed) if transactions.is_active_other(deed.tx, me) => Deletion::Pending(deed.tx),
            Some(_) => Deletion::Gone,
        }
    }

    /// The deletion must be free, and the transaction must have its id.
    pub fn delete(&mut self, place: u32, transactions: &Transactions, me: Slot) {
        let row = &mut self.content.rows[place as usize];
        assert!(row.deleted.is_none(), "a row is deleted once");
        row.deleted = Some(Deed::by(transactions, me));
    }

    /// The exclusive lock must be held.
    pub fn truncate(&mut self) {
        let content = core::mem::replace(&mut self.content, core::mem::take(&mut self.spare));
        self.truncated.push(content);
    }

    pub fn undo_append(&mut self, place: u32) {
        // The place stays taken: those of others lie behind it.
        self.content.unlist(place);
    }

    pub fn undo_delete(&mut self, place: u32) {
        self.content.rows[place as usize].deleted = None;
    }

    pub fn undo_truncate(&mut self) {
        self.content = self.truncated.pop().expect("a truncation kept what it took until it commits");
    }

    /// A deletion that has committed, and that nobody looks back behind. Its transaction may also have truncated the table,
    /// and others' rows lie there now.
    pub fn forget_deleted(&mut self, place: u32) {
        let row = self.content.rows.get(place as usize);
        if row.is_some_and(|row| row.deleted.is_some()) {
            self.content.unlist(place);
        }
    }

    /// The truncations of the transaction that just committed are final.
    pub fn forget_truncated(&mut self) {
        for mut content in self.truncated.drain(..) {
            content.clear();
            self.spare = content;
        }
    }
}
