//! How a statement comes by a row that others lock or change: the order of looking, queueing and waiting.
//!
//! This follows PostgreSQL's `heap_lock_tuple`, `heap_update`, `heap_delete` and `heapam_tuple_lock` branch by branch,
//! since each has its own idea of when to queue, what to look at again and what to lock on the way. A row that nobody
//! minds is had at once; the rest is boxed, so that a procedure is not larger for what seldom happens.

use super::footprint::Resource;
use super::locks::{Acquired, LockKey};
use super::marks::{Deed, Marks};
use super::rows::{Found, Heritage, Row, RowLock, Rows, State};
use super::statement::{Has, Policy, Tx};
use super::transaction::{Target, TxRef};
use super::{Store, Tables};
use alloc::boxed::Box;
use tourbillon_models::op::Isolation;
use tourbillon_models::reply::Refusal;

/// How an approach ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reached {
    Ours,
    /// A committed transaction has replaced the version.
    Replaced,
    Deleted,
    /// Somebody holds it, and one did not want to wait.
    Busy,
}

/// Whether whoever locks a version that was replaced locks those after it, too. A select does, and on the way waits even
/// if it was told not to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Newer {
    Locked,
    LeftAlone,
}

/// What a look at a newer version tells one who locks a whole chain.
enum Look {
    Marked,
    Wait(TxRef),
    Refused(Reached),
    /// Its writer has taken it back.
    Gone,
}

impl<T: Tables> Tx<T> {
    /// Locks a row for a select; none if it is gone, was skipped, or fulfils the condition no more (it stays locked then).
    pub(super) async fn lock_found<R: Row>(
        &self,
        found: Found,
        mode: RowLock,
        policy: Policy,
        condition: &impl Fn(&R) -> bool,
    ) -> Result<Option<R>, Refusal>
    where
        T: Has<R>,
    {
        self.note_approach::<R>(found);
        if self.lock_at_once(found, mode) {
            return Ok(Some(self.with(|store, _| store.tables.rows().row(found).clone())));
        }
        let locked = Box::pin(self.lock_newest(found, mode, policy, Newer::Locked)).await?;
        match locked {
            (Reached::Ours, version) => {
                let row: R = self.with(|store, _| store.tables.rows().row(version).clone());
                Ok((version == found || condition(&row)).then_some(row))
            }
            (Reached::Busy, _) => Ok(None),
            (Reached::Replaced | Reached::Deleted, _) => {
                self.refuse_if_repeatable_read()?;
                Ok(None)
            }
        }
    }

    fn note_approach<R: Row>(&self, found: Found) {
        self.with(|store, slot| {
            let recorder = &store.transactions.recorder;
            recorder.reads(Resource::Row(R::TABLE, found.row));
            recorder.holds(slot, Resource::Marks(R::TABLE, found.row));
        });
    }

    /// Gets a row into hand that is to be updated or deleted, in its newest version; none if it is gone, or fulfils the
    /// condition no more (it stays locked then). The transaction has its id before it waits for anything.
    pub(super) async fn come_by<R: Row>(
        &self,
        found: Found,
        mode: RowLock,
        condition: &impl Fn(&R) -> bool,
    ) -> Result<Option<(Found, Heritage)>, Refusal>
    where
        T: Has<R>,
    {
        self.note_approach::<R>(found);
        let at_once = self.with(|store, slot| {
            store.transactions.assign_xid(slot);
            let rows = store.tables.rows();
            if rows.state(found, &store.transactions) == State::Free {
                return Some(Heritage::Nothing);
            }
            let marks = rows.marks(found).expect("the statement has just found it");
            marks.is_only_of(slot, &store.transactions).then_some(Heritage::Marks)
        });
        if let Some(heritage) = at_once {
            return Ok(Some((found, heritage)));
        }
        Box::pin(self.come_by_contended(found, mode, condition)).await
    }

    async fn come_by_contended<R: Row>(
        &self,
        found: Found,
        mode: RowLock,
        condition: &impl Fn(&R) -> bool,
    ) -> Result<Option<(Found, Heritage)>, Refusal>
    where
        T: Has<R>,
    {
        let mut found = found;
        loop {
            let (reached, heritage) = self.wait_to_write(found, mode).await?;
            if reached == Reached::Ours {
                return Ok(Some((found, heritage)));
            }
            self.refuse_if_repeatable_read()?;
            if reached == Reached::Deleted {
                return Ok(None);
            }
            let (reached, newest) = self.lock_newest(found, mode, Policy::Wait, Newer::LeftAlone).await?;
            let fulfils = |row: &R| condition(row);
            if reached != Reached::Ours || !self.with(|store, _| fulfils(store.tables.rows().row(newest))) {
                return Ok(None);
            }
            found = newest;
        }
    }

    /// Under REPEATABLE READ what somebody has changed since the snapshot cannot be changed or locked.
    fn refuse_if_repeatable_read(&self) -> Result<(), Refusal> {
        match self.isolation() {
            Isolation::RepeatableRead => Err(Refusal::SerializationFailure),
            Isolation::ReadCommitted => Ok(()),
        }
    }

    fn lock_at_once<R: Row>(&self, found: Found, mode: RowLock) -> bool
    where
        T: Has<R>,
    {
        self.with(|store, slot| {
            let rows = store.tables.rows();
            if rows.state(found, &store.transactions) == State::Free {
                mark(store, slot, found, mode);
                return true;
            }
            let marks = rows.marks(found).expect("the statement has just found it");
            marks.own(slot, &store.transactions).is_some_and(|own| own >= mode)
        })
    }

    /// `heapam_tuple_lock`: locks a version, or, if committed transactions have replaced it, the newest.
    async fn lock_newest<R: Row>(
        &self,
        found: Found,
        mode: RowLock,
        policy: Policy,
        newer: Newer,
    ) -> Result<(Reached, Found), Refusal>
    where
        T: Has<R>,
    {
        let mut found = found;
        loop {
            let reached = self.lock_version(found, mode, policy, newer).await?;
            if reached != Reached::Replaced || self.isolation() == Isolation::RepeatableRead {
                return Ok((reached, found));
            }
            match self.find_newest(found, policy).await? {
                Ok(newest) => found = newest,
                Err(reached) => return Ok((reached, found)),
            }
        }
    }

    /// Follows the chain to a version that nobody replaces. Who is replacing one is waited for, whatever the lock, and
    /// outside the row's queue: whoever queued behind may be first.
    async fn find_newest<R: Row>(&self, replaced: Found, policy: Policy) -> Result<Result<Found, Reached>, Refusal>
    where
        T: Has<R>,
    {
        let mut at = replaced;
        loop {
            let next = self.with(|store, _| store.tables.rows().newer(at));
            let Some(next) = next else { return Ok(Err(Reached::Deleted)) };
            at = next;
            loop {
                let writer = self.with(|store, _| {
                    let marks = store.tables.rows().marks(next).expect("a committed version is kept");
                    marks.write().map(|mark| mark.tx)
                });
                match writer {
                    None => return Ok(Ok(next)),
                    Some(tx) if !self.is_active_other(tx) => break,
                    Some(tx) if !self.wait_for(tx, policy).await? => return Ok(Err(Reached::Busy)),
                    Some(_) => {}
                }
            }
        }
    }

    fn is_active_other(&self, tx: TxRef) -> bool {
        self.with(|store, slot| store.transactions.is_active_other(tx, slot))
    }

    /// Waits until the transaction is over, if it is not. False if it is not, and was not to be waited for.
    async fn wait_for(&self, tx: TxRef, policy: Policy) -> Result<bool, Refusal> {
        if !self.is_active_other(tx) {
            return Ok(true);
        }
        match policy {
            Policy::Wait => self.wait(Target::Transaction(tx)).await.map(|()| true),
            Policy::SkipLocked => Ok(false),
            Policy::NoWait => Err(Refusal::LockNotAvailable),
        }
    }

    /// `heap_lock_tuple`, and the end of what it queued for.
    async fn lock_version<R: Row>(
        &self,
        found: Found,
        mode: RowLock,
        policy: Policy,
        newer: Newer,
    ) -> Result<Reached, Refusal>
    where
        T: Has<R>,
    {
        let mut queued = None;
        let reached = self.lock_version_queueing(found, mode, policy, newer, &mut queued).await?;
        self.leave_queue(queued);
        Ok(reached)
    }

    async fn lock_version_queueing<R: Row>(
        &self,
        found: Found,
        mode: RowLock,
        policy: Policy,
        newer: Newer,
        queued: &mut Option<LockKey>,
    ) -> Result<Reached, Refusal>
    where
        T: Has<R>,
    {
        let mut first = true;
        let mut queues = true;
        loop {
            let (state, marks) = self.look(found);
            if state == State::Free {
                break;
            }
            if core::mem::take(&mut first) {
                let own = self.with(|store, slot| marks.own(slot, &store.transactions));
                if own.is_some_and(|own| own >= mode) {
                    return Ok(Reached::Ours);
                }
                // Whoever is first in the queue may wait for this very session.
                queues = own.is_none() || !marks.is_many();
            }
            let replaced = !marks.is_locked_only();
            let follows = newer == Newer::Locked && marks.was_replaced();
            // Should this one go, whatever comes in its place is none of the versions to lock.
            let next = self.with(|store, _| store.tables.rows().newer(found));
            if mode == RowLock::KeyShare && !marks.keeps_key_share_out() {
                if follows {
                    let reached = self.lock_newer(next, mode).await?;
                    if reached != Reached::Ours {
                        return Ok(reached);
                    }
                }
                let (_, now) = self.look(found);
                if has_write(&now) && (now.keeps_key_share_out() || !replaced) {
                    continue;
                }
                break;
            }
            if self.needs_no_wait(&marks, mode) {
                break;
            }
            if matches!(state, State::Replaced | State::Deleted) {
                return Ok(if state == State::Deleted { Reached::Deleted } else { Reached::Replaced });
            }
            if queues && !self.join_queue::<R>(found, mode, policy, queued).await? {
                return Ok(Reached::Busy);
            }
            if !self.wait_for_marks(&marks, mode, policy).await? {
                return Ok(Reached::Busy);
            }
            if follows {
                let reached = self.lock_newer(next, mode).await?;
                if reached != Reached::Ours {
                    return Ok(reached);
                }
            }
            let (_, now) = self.look(found);
            if !now.are_still(&marks) {
                continue;
            }
            if !has_write(&now) {
                break;
            }
            return Ok(self.fate(found));
        }
        self.with(|store, slot| mark(store, slot, found, mode));
        Ok(Reached::Ours)
    }

    fn look<R: Row>(&self, found: Found) -> (State, Marks)
    where
        T: Has<R>,
    {
        self.with(|store, _| {
            let rows = store.tables.rows();
            let marks = rows.marks(found).expect("what somebody has in hand is kept");
            (rows.state(found, &store.transactions), marks.clone())
        })
    }

    /// What became of a version that was not to be had.
    fn fate<R: Row>(&self, found: Found) -> Reached
    where
        T: Has<R>,
    {
        let is_replaced = self.with(|store, _| store.tables.rows().newer(found).is_some());
        if is_replaced { Reached::Replaced } else { Reached::Deleted }
    }

    /// Whether the marks are none that this lock minds, or only the session's own.
    fn needs_no_wait(&self, marks: &Marks, mode: RowLock) -> bool {
        self.with(|store, slot| {
            marks.is_only_of(slot, &store.transactions)
                || match mode {
                    RowLock::KeyShare | RowLock::Update => false,
                    RowLock::Share => marks.is_locked_only() && marks.strongest_lock() <= Some(RowLock::Share),
                    RowLock::NoKeyUpdate if marks.is_many() => !marks.conflict_with(mode, slot, &store.transactions),
                    RowLock::NoKeyUpdate => marks.strongest_lock() == Some(RowLock::KeyShare),
                }
        })
    }

    /// Waits for everyone whose mark is in the way, one after the other, as they were when one looked.
    async fn wait_for_marks(&self, marks: &Marks, mode: RowLock, policy: Policy) -> Result<bool, Refusal> {
        for mark in marks.all() {
            let in_the_way = self.with(|store, slot| marks.is_in_the_way(mark, mode, slot, &store.transactions));
            if in_the_way && !self.wait_for(mark.tx, policy).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// `heap_lock_updated_tuple`: locks this version, if it is still there, and those after it. Its waits know no policy.
    async fn lock_newer<R: Row>(&self, next: Option<Found>, mode: RowLock) -> Result<Reached, Refusal>
    where
        T: Has<R>,
    {
        self.with(|store, slot| store.transactions.assign_xid(slot));
        let mut next = next;
        while let Some(version) = next {
            match self.with(|store, slot| look_at_newer(store, slot, version, mode)) {
                Look::Wait(tx) => self.wait(Target::Transaction(tx)).await?,
                Look::Refused(reached) => return Ok(reached),
                Look::Gone => break,
                Look::Marked => next = self.with(|store, _| newer_if_written(store.tables.rows(), version)),
            }
        }
        Ok(Reached::Ours)
    }

    /// What `heap_update` and `heap_delete` wait for.
    async fn wait_to_write<R: Row>(&self, found: Found, mode: RowLock) -> Result<(Reached, Heritage), Refusal>
    where
        T: Has<R>,
    {
        let mut queued = None;
        let reached = self.wait_to_write_queueing(found, mode, &mut queued).await?;
        if self.leave_queue(queued) && reached.0 == Reached::Replaced {
            // Those behind in the queue run now, too, and may be first at the newest version.
            self.wait(Target::Turn).await?;
        }
        Ok(reached)
    }

    async fn wait_to_write_queueing<R: Row>(
        &self,
        found: Found,
        mode: RowLock,
        queued: &mut Option<LockKey>,
    ) -> Result<(Reached, Heritage), Refusal>
    where
        T: Has<R>,
    {
        loop {
            let (state, marks) = self.look(found);
            match state {
                State::Free => return Ok((Reached::Ours, Heritage::Nothing)),
                State::Replaced => return Ok((Reached::Replaced, Heritage::Nothing)),
                State::Deleted => return Ok((Reached::Deleted, Heritage::Nothing)),
                State::Marked => {}
            }
            let (only_own, conflict, is_member) = self.with(|store, slot| {
                let transactions = &store.transactions;
                let conflict = marks.conflict_with(mode, slot, transactions);
                (marks.is_only_of(slot, transactions), conflict, marks.own(slot, transactions).is_some())
            });
            if only_own {
                return Ok((Reached::Ours, Heritage::Marks));
            }
            let holds_key_only = !marks.is_many() && marks.strongest_lock() == Some(RowLock::KeyShare);
            if !conflict && (marks.is_many() || holds_key_only) {
                return Ok((self.fate_of_written(found, &marks), Heritage::Marks));
            }
            if !is_member {
                self.join_queue::<R>(found, mode, Policy::Wait, queued).await?;
            }
            self.wait_for_marks(&marks, mode, Policy::Wait).await?;
            let (_, now) = self.look(found);
            if !now.are_still(&marks) {
                continue;
            }
            let remain = marks.is_many() && self.with(|store, _| marks.is_running(&store.transactions));
            let heritage = if remain { Heritage::Marks } else { Heritage::Nothing };
            return Ok((self.fate_of_written(found, &now), heritage));
        }
    }

    fn fate_of_written<R: Row>(&self, found: Found, marks: &Marks) -> Reached
    where
        T: Has<R>,
    {
        if has_write(marks) { self.fate(found) } else { Reached::Ours }
    }

    /// Queues for a version, once, so as to be next when it is free. False if one did not want to wait.
    async fn join_queue<R: Row>(
        &self,
        found: Found,
        mode: RowLock,
        policy: Policy,
        queued: &mut Option<LockKey>,
    ) -> Result<bool, Refusal>
    where
        T: Has<R>,
    {
        if queued.is_some() {
            return Ok(true);
        }
        let (key, mode) = (Rows::<R>::queue_key(found), mode.queue_mode());
        match policy {
            Policy::SkipLocked if !self.try_lock(key, mode) => return Ok(false),
            Policy::SkipLocked => {}
            Policy::NoWait => self.lock_now(key, mode)?,
            Policy::Wait => {
                if self.with(|store, slot| store.acquire(slot, key, mode))? == Acquired::Queued {
                    self.wait(Target::Lock { key, mode }).await?;
                }
            }
        }
        *queued = Some(key);
        Ok(true)
    }

    /// True if that let somebody else in.
    fn leave_queue(&self, queued: Option<LockKey>) -> bool {
        let Some(key) = queued else { return false };
        self.with(|store, slot| {
            let before = store.transactions.released.len();
            store.release_one(slot, key);
            store.transactions.released.len() > before
        })
    }
}

/// Somebody has replaced or deleted the version, or is about to.
fn has_write(marks: &Marks) -> bool {
    marks.write().is_some()
}

fn mark<T: Has<R>, R: Row>(store: &mut Store<T>, slot: super::locks::Slot, found: Found, mode: RowLock) {
    store.transactions.assign_xid(slot);
    store.tables.rows_mut().mark(found, mode, Deed::Locks, &store.transactions, slot);
}

fn newer_if_written<R: Row>(rows: &Rows<R>, version: Found) -> Option<Found> {
    rows.marks(version).filter(|marks| has_write(marks)).and_then(|_| rows.newer(version))
}

/// Locks one of the newer versions, unless there is something in the way (`test_lockmode_for_conflict`).
fn look_at_newer<T: Has<R>, R: Row>(
    store: &mut Store<T>,
    slot: super::locks::Slot,
    version: Found,
    mode: RowLock,
) -> Look {
    let rows = store.tables.rows();
    let Some(marks) = rows.marks(version) else { return Look::Gone };
    for other in marks.all() {
        if store.transactions.is_mine(other.tx, slot) {
            return Look::Marked;
        }
        if !mode.conflicts_with(other.mode) {
            continue;
        }
        if store.transactions.is_active(other.tx) {
            return Look::Wait(other.tx);
        }
        if other.is_live_write() {
            let is_replaced = rows.newer(version).is_some();
            return Look::Refused(if is_replaced { Reached::Replaced } else { Reached::Deleted });
        }
    }
    mark(store, slot, version, mode);
    Look::Marked
}
