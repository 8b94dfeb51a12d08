//! Marks on a row version: which transactions lock it, how strongly, and which one replaces or deletes it.
//!
//! This is PostgreSQL's `xmax`, multixacts included, and kept as exactly: who is over stays until the next mark is
//! made, since it is the strength once needed, not the strength needed now, that decides who queues for a row. A mark
//! needs no cleaning up when its transaction ends; only a change taken back is told so.

use super::locks::{Mode, Slot};
use super::transaction::{Transactions, TxRef};
use alloc::vec::Vec;
use tourbillon_models::name::Xid;

/// Row lock modes, weakest first. An update takes `NoKeyUpdate`, a delete `Update`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RowLock {
    KeyShare,
    Share,
    NoKeyUpdate,
    Update,
}

impl RowLock {
    pub fn conflicts_with(self, other: RowLock) -> bool {
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

/// What a transaction did to a version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Deed {
    Locks,
    /// Put a newer version after it.
    Replaces,
    Deletes,
}

/// One transaction's mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    pub tx: TxRef,
    /// Of the part of the transaction that made it: marks are kept in the order of these.
    pub xid: Xid,
    /// Of the whole transaction, which is what snapshots tell apart.
    pub top_xid: Xid,
    /// The strongest lock that it took on the version, or would have taken to do what it did.
    pub mode: RowLock,
    pub deed: Deed,
    /// What it did was taken back.
    pub undone: bool,
}

impl Mark {
    /// The version is, for all time, not the newest of its row.
    fn is_committed_write(&self, transactions: &Transactions) -> bool {
        self.is_live_write() && !transactions.is_active(self.tx)
    }

    /// Has put the version's place to another use, or is about to.
    pub fn is_live_write(&self) -> bool {
        self.deed != Deed::Locks && !self.undone
    }

    const fn rank(&self) -> (Xid, Deed, RowLock) {
        (self.xid, self.deed, self.mode)
    }

    fn is_same_as(&self, other: &Mark) -> bool {
        self.tx == other.tx && self.mode == other.mode && self.deed == other.deed
    }
}

/// All marks of one version.
#[derive(Clone, Debug, Default)]
pub enum Marks {
    #[default]
    None,
    One(Mark),
    /// Some of which may be over.
    Many(Vec<Mark>),
}

impl Marks {
    pub fn all(&self) -> &[Mark] {
        match self {
            Marks::None => &[],
            Marks::One(mark) => core::slice::from_ref(mark),
            Marks::Many(marks) => marks,
        }
    }

    fn all_mut(&mut self) -> &mut [Mark] {
        match self {
            Marks::None => &mut [],
            Marks::One(mark) => core::slice::from_mut(mark),
            Marks::Many(marks) => marks,
        }
    }

    pub const fn is_many(&self) -> bool {
        matches!(self, Marks::Many(_))
    }

    /// The write that was not taken back, if there is one: by now in progress or committed.
    pub fn write(&self) -> Option<&Mark> {
        self.all().iter().find(|mark| mark.is_live_write())
    }

    /// The write of this transaction is taken back.
    pub fn undo_write(&mut self) {
        let write = self.all_mut().iter_mut().find(|mark| mark.is_live_write());
        write.expect("a write is taken back once").undone = true;
    }

    pub fn is_running(&self, transactions: &Transactions) -> bool {
        self.all().iter().any(|mark| transactions.is_active(mark.tx))
    }

    /// Nobody ever wrote, not even in vain.
    pub fn is_locked_only(&self) -> bool {
        self.all().iter().all(|mark| mark.deed == Deed::Locks)
    }

    /// Somebody once put a newer version after this one, perhaps in vain.
    pub fn was_replaced(&self) -> bool {
        self.all().iter().any(|mark| mark.deed == Deed::Replaces)
    }

    /// Somebody wanted even those who only hold the key away.
    pub fn keeps_key_share_out(&self) -> bool {
        self.all().iter().any(|mark| mark.mode == RowLock::Update)
    }

    /// The strongest lock ever marked; none for a lone write.
    pub fn strongest_lock(&self) -> Option<RowLock> {
        match self {
            Marks::One(mark) if mark.deed != Deed::Locks => None,
            marks => marks.all().iter().map(|mark| mark.mode).max(),
        }
    }

    /// The version was marked by nobody else.
    pub fn is_only_of(&self, me: Slot, transactions: &Transactions) -> bool {
        matches!(self, Marks::One(mark) if transactions.is_mine(mark.tx, me))
    }

    /// The strongest mode in which this session holds the version, if it does.
    pub fn own(&self, me: Slot, transactions: &Transactions) -> Option<RowLock> {
        let own = self.all().iter().filter(|mark| transactions.is_mine(mark.tx, me));
        own.map(|mark| mark.mode).max()
    }

    /// Whether one of the marks has to be waited for, if it is not over.
    pub fn is_in_the_way(&self, mark: &Mark, mode: RowLock, me: Slot, transactions: &Transactions) -> bool {
        // Where there is only one, PostgreSQL has looked at its mode before, and waits for it whatever it is.
        !transactions.is_mine(mark.tx, me) && (!self.is_many() || mode.conflicts_with(mark.mode))
    }

    /// Whether somebody's mark forbids a lock in this mode now: a lock in progress, or a write that was not taken back.
    pub fn conflict_with(&self, mode: RowLock, me: Slot, transactions: &Transactions) -> bool {
        self.all().iter().any(|mark| {
            !transactions.is_mine(mark.tx, me)
                && mode.conflicts_with(mark.mode)
                && (mark.is_live_write() || mark.deed == Deed::Locks && transactions.is_active(mark.tx))
        })
    }

    /// What a new version takes over. Where there is only one mark PostgreSQL supposes that it holds the key, also if it is
    /// the writer's own.
    pub fn inherited(&self) -> Marks {
        match self {
            Marks::One(mark) => Marks::One(Mark { mode: RowLock::KeyShare, deed: Deed::Locks, ..*mark }),
            marks => marks.clone(),
        }
    }

    /// Adds a mark, and drops those that are over and meant nothing but a lock.
    pub fn add(&mut self, new: Mark, transactions: &Transactions) {
        let keep = |mark: &Mark| transactions.is_active(mark.tx) || mark.is_committed_write(transactions);
        match self {
            Marks::One(old) if old.tx == new.tx => {
                let mode = old.mode.max(new.mode);
                *self = Marks::One(Mark { mode, ..new });
            }
            Marks::One(old) if keep(old) => {
                let mut marks = alloc::vec![*old, new];
                marks.sort_unstable_by_key(Mark::rank);
                *self = Marks::Many(marks);
            }
            Marks::Many(marks) if marks.iter().any(keep) => {
                if marks.iter().any(|mark| mark.is_same_as(&new)) {
                    return;
                }
                marks.retain(keep);
                marks.push(new);
                marks.sort_unstable_by_key(Mark::rank);
            }
            _ => *self = Marks::One(new),
        }
    }

    /// Whether these are still the same marks: then nobody else has come since.
    pub fn are_still(&self, before: &Marks) -> bool {
        let (now, before_all) = (self.all(), before.all());
        self.is_many() == before.is_many()
            && now.len() == before_all.len()
            && now.iter().zip(before_all).all(|(now, before)| now.is_same_as(before))
    }
}
