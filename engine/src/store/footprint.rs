//! Footprints: what a call read and wrote, as far as the order of two calls can tell.
//!
//! Two calls of two sessions whose footprints do not meet may be exchanged: both reply the same, and leave the same
//! behind. Whoever explores schedules asks for that; nobody else records anything. What is seen and what is locked are
//! kept apart: a row changed by a transaction in progress is in the way of those who lock or change it, and of those who
//! read only once it commits. Where it is not certain what a call depends on (it waits, it wakes others) it meets
//! everything. What does *not* count is memory that is given back and places that are used again: nobody can see those.

use super::locks::{LockKey, Mode, SESSIONS, Slot};
use super::transaction::Undo;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::RefCell;

/// What calls can have in common.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Resource {
    /// All that there is, and its order.
    Everything,
    /// Ids of transactions, and which are in progress.
    Ids,
    Sequence(u8),
    /// What everybody sees of a table, whichever rows.
    Table(u8),
    /// What everybody sees of a row.
    Row(u8, u32),
    /// Who locks a row, or is about to change it.
    Marks(u8, u32),
    /// Which keys of a table are taken, or about to be.
    Keys(u8),
    TableLock(u8),
    AdvisoryLock(u32, u32),
    /// The queues for a row.
    RowQueue(u8, u32),
}

/// Without order, and some perhaps more than once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Footprint {
    pub reads: Vec<Resource>,
    pub writes: Vec<Resource>,
}

impl Footprint {
    pub fn clear(&mut self) {
        self.reads.clear();
        self.writes.clear();
    }

    pub fn has_everything(&self) -> bool {
        self.writes.contains(&Resource::Everything)
    }

    /// Whether one of them writes what the other reads or writes.
    pub fn meets(&self, other: &Footprint) -> bool {
        let hits = |writes: &[Resource], footprint: &Footprint| {
            writes.iter().any(|resource| footprint.reads.contains(resource) || footprint.writes.contains(resource))
        };
        let is_all = self.has_everything() || other.has_everything();
        is_all || hits(&self.writes, other) || hits(&other.writes, self)
    }

    fn take_in(&mut self, other: &Footprint) {
        self.reads.extend_from_slice(&other.reads);
        self.writes.extend_from_slice(&other.writes);
    }
}

#[derive(Debug)]
struct Notes {
    footprint: Footprint,
    /// By session: what its transaction holds, and gives back when it ends.
    held: Vec<Footprint>,
}

/// Notes what happens, if it was asked to.
#[derive(Debug, Default)]
pub struct Recorder {
    notes: Option<Box<RefCell<Notes>>>,
}

impl Recorder {
    pub fn start(&mut self) {
        let held = (0..SESSIONS).map(|_| Footprint::default()).collect();
        self.notes = Some(Box::new(RefCell::new(Notes { footprint: Footprint::default(), held })));
    }

    pub fn clear(&mut self) {
        self.note(|notes| {
            notes.footprint.clear();
            notes.held.iter_mut().for_each(Footprint::clear);
        });
    }

    #[inline]
    fn note(&self, what: impl FnOnce(&mut Notes)) {
        if let Some(notes) = &self.notes {
            what(&mut notes.borrow_mut());
        }
    }

    /// What was noted since the last time. Its memory comes back with the next call.
    pub fn take(&self, into: &mut Footprint) {
        into.clear();
        self.note(|notes| core::mem::swap(&mut notes.footprint, into));
    }

    #[inline]
    pub fn reads(&self, resource: Resource) {
        self.note(|notes| notes.footprint.reads.push(resource));
    }

    #[inline]
    pub fn writes(&self, resource: Resource) {
        self.note(|notes| notes.footprint.writes.push(resource));
    }

    /// Nobody else has it until the transaction ends, and its end gives it back.
    #[inline]
    pub fn holds(&self, slot: Slot, resource: Resource) {
        self.note(|notes| {
            notes.footprint.writes.push(resource);
            let held = &mut notes.held[slot as usize].writes;
            if !held.contains(&resource) {
                held.push(resource);
            }
        });
    }

    /// Locks that many can hold meet only those that are for one.
    #[inline]
    pub fn asks_for(&self, slot: Slot, key: LockKey, mode: Mode) {
        self.note(|notes| {
            let (resource, is_shared) = match key {
                LockKey::Table(table) => (Resource::TableLock(table), mode.is_shared()),
                LockKey::Advisory { class, object } => (Resource::AdvisoryLock(class, object), false),
                LockKey::RowQueue { table, row, .. } => (Resource::RowQueue(table, row), false),
            };
            for footprint in [&mut notes.footprint, &mut notes.held[slot as usize]] {
                if is_shared { footprint.reads.push(resource) } else { footprint.writes.push(resource) }
            }
        });
    }

    /// What a transaction held is given back, in part or as a whole.
    pub fn gives_back(&self, slot: Slot) {
        self.note(|notes| notes.footprint.take_in(&notes.held[slot as usize]));
    }

    pub fn ends(&self, slot: Slot) {
        self.gives_back(slot);
        self.note(|notes| notes.held[slot as usize].clear());
    }

    /// A change that everybody sees from now on.
    pub fn publishes(&self, change: Undo) {
        self.note(|notes| {
            let Some(table) = change.table() else { return };
            notes.footprint.writes.push(Resource::Table(table));
            match change {
                Undo::Insert { row, .. } | Undo::Delete { row, .. } => {
                    notes.footprint.writes.extend([Resource::Row(table, row), Resource::Keys(table)]);
                }
                Undo::Update { row, .. } => notes.footprint.writes.push(Resource::Row(table, row)),
                Undo::Append { .. } | Undo::Truncate { .. } | Undo::Lock { .. } => {}
            }
        });
    }
}

#[cfg(test)]
mod tests;
