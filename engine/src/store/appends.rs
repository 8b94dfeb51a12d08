//! A table that is only appended to, scanned and truncated: an event table.
//!
//! Rows lie in the order of insertion, at positions that never repeat; positions are this store's index, and mean
//! nothing to anyone's semantics. Truncation is not multi-version: it takes the rows from every snapshot at once.

use super::footprint::Resource;
use super::locks::Slot;
use super::transaction::{Transactions, TxRef};
use alloc::vec::Vec;
use core::ops::Range;
use tourbillon_models::name::Xid;

#[derive(Clone, Debug)]
struct Appended<E> {
    item: E,
    writer: TxRef,
    xid: Xid,
    aborted: bool,
}

/// Positions between which a reader finds everything that it may see and has not seen before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Extent {
    /// Everything below was visible.
    pub low: u64,
    /// Nothing at or above was there.
    pub high: u64,
}

#[derive(Debug)]
pub struct Appends<E> {
    /// The number of the table.
    pub table: u8,
    rows: Vec<Appended<E>>,
    /// The position of the first row.
    base: u64,
    /// Transactions that appended, each with its first position; those that are over are dropped in passing.
    writers: Vec<(TxRef, u64)>,
    /// What a truncation took away that may still be rolled back.
    truncated: Vec<Vec<Appended<E>>>,
    spare: Vec<Appended<E>>,
}

impl<E> Default for Appends<E> {
    fn default() -> Self {
        Appends { table: 0, rows: Vec::new(), base: 0, writers: Vec::new(), truncated: Vec::new(), spare: Vec::new() }
    }
}

impl<E> Appends<E> {
    pub fn clear(&mut self) {
        self.rows.clear();
        self.base = 0;
        self.writers.clear();
        self.truncated.clear();
    }

    pub fn append(&mut self, item: E, transactions: &Transactions, me: Slot) -> u64 {
        let position = self.base + self.rows.len() as u64;
        let writer = transactions.current(me);
        if self.writers.last().is_none_or(|(last, _)| *last != writer) {
            self.writers.retain(|(tx, _)| transactions.is_active(*tx));
            if !self.writers.iter().any(|(tx, _)| *tx == writer) {
                self.writers.push((writer, position));
            }
        }
        self.rows.push(Appended { item, writer, xid: transactions.of(me).xid, aborted: false });
        position
    }

    /// What lies between what everyone sees and the end. Nothing is noted as read: who ends a transaction that appended
    /// meets those who take a snapshot, as a tick does; and where exactly an extent begins and ends, nobody can tell.
    pub fn extent(&self, transactions: &Transactions) -> Extent {
        let high = self.base + self.rows.len() as u64;
        let active = self.writers.iter().filter(|(tx, _)| transactions.is_active(*tx));
        Extent { low: active.map(|(_, position)| *position).min().unwrap_or(high), high }
    }

    /// What a statement of `me` that starts now sees between two positions.
    pub fn range<'a>(
        &'a self,
        positions: Range<u64>,
        transactions: &'a Transactions,
        me: Slot,
    ) -> impl Iterator<Item = &'a E> {
        transactions.recorder.reads(Resource::Table(self.table));
        let start = (positions.start.saturating_sub(self.base) as usize).min(self.rows.len());
        let end = (positions.end.saturating_sub(self.base) as usize).clamp(start, self.rows.len());
        let snapshot = transactions.of(me).snapshot.as_ref();
        self.rows[start..end]
            .iter()
            .filter(move |row| {
                !row.aborted
                    && !transactions.is_active_other(row.writer, me)
                    && snapshot.is_none_or(|snapshot| {
                        row.writer.slot == me && transactions.is_active(row.writer) || snapshot.sees(row.xid)
                    })
            })
            .map(|row| &row.item)
    }

    pub fn all<'a>(&'a self, transactions: &'a Transactions, me: Slot) -> impl Iterator<Item = &'a E> {
        self.range(0..u64::MAX, transactions, me)
    }

    /// Rows, those included that were rolled back.
    pub fn version_count(&self) -> usize {
        self.rows.len()
    }

    pub fn truncate(&mut self) {
        self.base += self.rows.len() as u64;
        let rows = core::mem::replace(&mut self.rows, core::mem::take(&mut self.spare));
        self.truncated.push(rows);
    }

    pub fn undo_append(&mut self, position: u64) {
        // The place stays taken: a position used twice would lie outside extents that were told in between.
        self.rows[(position - self.base) as usize].aborted = true;
    }

    pub fn undo_truncate(&mut self) {
        let rows = self.truncated.pop().expect("a truncation kept what it took until it commits");
        self.base -= rows.len() as u64;
        self.rows = rows;
    }

    /// The truncations of the transaction that just committed are final.
    pub fn forget_truncated(&mut self) {
        for mut rows in self.truncated.drain(..) {
            rows.clear();
            self.spare = rows;
        }
    }
}
