//! Statements: what a procedure does to the store, each as PostgreSQL would, waits and re-checks included.
//!
//! A [`Tx`] is a session's handle. Its methods borrow the store only between waits, so a procedure reads like the
//! PL/pgSQL beside it and is suspended only where it waits for a lock. Under READ COMMITTED every statement sees what
//! is committed when it starts; under REPEATABLE READ what was committed at the transaction's first.

use super::locks::{Acquired, LockKey, Mode, Slot};
use super::rows::{Conflict, Found, Hindrance, Row, RowLock, Rows};
use super::transaction::{Target, TxRef, Undo, Wait};
use super::{Store, Tables};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::poll_fn;
use core::ops::RangeBounds;
use core::task::Poll;
use tourbillon_models::name::Micros;
use tourbillon_models::op::Isolation;
use tourbillon_models::reply::Refusal;

/// The table of rows of one type.
pub trait Has<R: Row>: Tables {
    fn rows(&self) -> &Rows<R>;
    fn rows_mut(&mut self) -> &mut Rows<R>;
}

/// What a locking statement does about a row that another transaction holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    Wait,
    SkipLocked,
    NoWait,
}

/// What became of an insert.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inserted {
    Inserted,
    /// `on conflict do nothing` did nothing.
    Nothing,
}

/// A step of a statement between two waits.
enum Step<V> {
    Done(V),
    /// Look again at once: nothing was let in between.
    Again,
    Wait(Target),
}

/// A row on its way to being locked: the version last seen, and the queue joined for it.
struct Approach {
    found: Found,
    queued: Option<LockKey>,
    /// A newer version than the statement's own had to be taken: its condition must be looked at again.
    rechecked: bool,
    policy: Policy,
}

enum Locked {
    Locked,
    /// Deleted meanwhile, or skipped.
    Gone,
}

/// A session's handle on the store, for the length of one call.
pub struct Tx<T> {
    store: Rc<RefCell<Store<T>>>,
    slot: Slot,
}

impl<T: Tables> Tx<T> {
    pub fn new(store: Rc<RefCell<Store<T>>>, slot: Slot) -> Self {
        Tx { store, slot }
    }

    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Borrows the store for as long as nothing waits.
    pub fn with<V>(&self, body: impl FnOnce(&mut Store<T>, Slot) -> V) -> V {
        body(&mut self.store.borrow_mut(), self.slot)
    }

    pub fn isolation(&self) -> Isolation {
        self.with(|store, slot| store.transactions.of(slot).isolation)
    }

    async fn wait(&self, target: Target) -> Result<(), Refusal> {
        self.with(|store, slot| store.start_wait(slot, target))?;
        poll_fn(|_| {
            self.with(|store, slot| match store.transactions.of(slot).wait {
                Wait::For(_) => Poll::Pending,
                Wait::Over(_) if store.transactions.released.contains(&slot) => Poll::Pending,
                Wait::Over(result) => {
                    store.transactions.of_mut(slot).wait = Wait::None;
                    Poll::Ready(result)
                }
                Wait::None => unreachable!("a call is polled again only after its wait"),
            })
        })
        .await
    }

    async fn run<V>(
        &self,
        mut step: impl FnMut(&mut Store<T>, Slot) -> Result<Step<V>, Refusal>,
    ) -> Result<V, Refusal> {
        loop {
            match self.with(&mut step)? {
                Step::Done(value) => return Ok(value),
                Step::Again => {}
                Step::Wait(target) => self.wait(target).await?,
            }
        }
    }

    /// A table lock, an advisory lock: waits for its turn.
    pub async fn lock(&self, key: LockKey, mode: Mode) -> Result<(), Refusal> {
        match self.with(|store, slot| store.acquire(slot, key, mode))? {
            Acquired::Granted { .. } => Ok(()),
            _ => self.wait(Target::Lock { key, mode }).await,
        }
    }

    /// As [`Tx::lock`], but fails instead of waiting (55P03).
    pub fn lock_now(&self, key: LockKey, mode: Mode) -> Result<(), Refusal> {
        self.with(|store, slot| {
            if !store.locks.is_free(slot, key, mode) {
                return Err(Refusal::LockNotAvailable);
            }
            store.acquire(slot, key, mode).map(|_| ())
        })
    }

    /// As [`Tx::lock`], but says whether the lock was there to be had, and never waits.
    pub fn try_lock(&self, key: LockKey, mode: Mode) -> bool {
        self.lock_now(key, mode).is_ok()
    }

    /// One row by key, as this statement sees it.
    pub fn get<R: Row>(&self, key: R::Key) -> Option<R>
    where
        T: Has<R>,
    {
        self.with(|store, slot| store.tables.rows().find(key, &store.transactions, slot).map(|(_, row)| row.clone()))
    }

    /// Inserts a row; 23505 if its key is taken.
    pub async fn insert<R: Row>(&self, row: R) -> Result<(), Refusal>
    where
        T: Has<R>,
    {
        self.run(|store, slot| {
            store.transactions.assign_xid(slot);
            match store.tables.rows().conflict(row.key(), &store.transactions, slot) {
                Conflict::None => Ok(Step::Done(put(store, slot, row.clone()))),
                Conflict::Pending(tx) => Ok(Step::Wait(Target::Transaction(tx))),
                Conflict::Taken { .. } => Err(Refusal::UniqueViolation),
            }
        })
        .await
    }

    /// `insert … on conflict do nothing`. Under REPEATABLE READ 40001 if what is in the way cannot be seen.
    pub async fn insert_or_nothing<R: Row>(&self, row: R) -> Result<Inserted, Refusal>
    where
        T: Has<R>,
    {
        self.run(|store, slot| match store.tables.rows().conflict(row.key(), &store.transactions, slot) {
            Conflict::None => {
                store.transactions.assign_xid(slot);
                put(store, slot, row.clone());
                Ok(Step::Done(Inserted::Inserted))
            }
            Conflict::Pending(tx) => Ok(Step::Wait(Target::Transaction(tx))),
            Conflict::Taken { seen: true } => Ok(Step::Done(Inserted::Nothing)),
            Conflict::Taken { seen: false } => Err(Refusal::SerializationFailure),
        })
        .await
    }

    /// Locks the row under this key if it fulfils the condition, and returns it as it is then.
    pub async fn select_for<R: Row>(
        &self,
        key: R::Key,
        mode: RowLock,
        policy: Policy,
        condition: impl Fn(&R) -> bool,
    ) -> Result<Option<R>, Refusal>
    where
        T: Has<R>,
    {
        let found = self.with(|store, slot| {
            let found = store.tables.rows().find(key, &store.transactions, slot);
            found.filter(|(_, row)| condition(row)).map(|(found, _)| found)
        });
        match found {
            Some(found) => self.lock_found(found, mode, policy, &condition).await,
            None => Ok(None),
        }
    }

    /// Locks, in the order of their keys, at most `limit` rows of a range that fulfil the condition. The rows are
    /// those of the statement's start; each is looked at again if it had to be waited for.
    pub async fn select_range_for<R: Row>(
        &self,
        keys: impl RangeBounds<R::Key>,
        mode: RowLock,
        policy: Policy,
        limit: usize,
        condition: impl Fn(&R) -> bool,
    ) -> Result<Vec<R>, Refusal>
    where
        T: Has<R>,
    {
        let found: Vec<Found> = self.with(|store, slot| {
            let rows = store.tables.rows().range(keys, &store.transactions, slot);
            rows.filter(|(_, row)| condition(row)).map(|(found, _)| found).collect()
        });
        let mut locked = Vec::new();
        for found in found {
            if locked.len() == limit {
                break;
            }
            locked.extend(self.lock_found(found, mode, policy, &condition).await?);
        }
        Ok(locked)
    }

    /// Changes the row under this key if it fulfils the condition; the change is told the server's clock as it is then,
    /// after any wait. False if there is no such row, or none any more.
    pub async fn update<R: Row>(
        &self,
        key: R::Key,
        condition: impl Fn(&R) -> bool,
        change: impl Fn(&mut R, Micros),
    ) -> Result<bool, Refusal>
    where
        T: Has<R>,
    {
        let Some(found) = self.found_for_writing(key, &condition) else { return Ok(false) };
        if self.lock_found(found, RowLock::NoKeyUpdate, Policy::Wait, &condition).await?.is_none() {
            return Ok(false);
        }
        self.with(|store, slot| {
            let now = store.clock;
            store.tables.rows_mut().update(found.row, |row| change(row, now), &store.transactions, slot);
            store.transactions.of_mut(slot).undo.push(Undo::Update { table: R::TABLE, row: found.row });
        });
        Ok(true)
    }

    /// Deletes the row under this key if it fulfils the condition. False if there is none, or none any more.
    pub async fn delete<R: Row>(&self, key: R::Key, condition: impl Fn(&R) -> bool) -> Result<bool, Refusal>
    where
        T: Has<R>,
    {
        let Some(found) = self.found_for_writing(key, &condition) else { return Ok(false) };
        if self.lock_found(found, RowLock::Update, Policy::Wait, &condition).await?.is_none() {
            return Ok(false);
        }
        self.with(|store, slot| {
            store.tables.rows_mut().delete(found.row, &store.transactions, slot);
            store.transactions.of_mut(slot).undo.push(Undo::Delete { table: R::TABLE, row: found.row });
        });
        Ok(true)
    }

    /// An update or delete that finds its row takes a transaction id before it waits for anything.
    fn found_for_writing<R: Row>(&self, key: R::Key, condition: &impl Fn(&R) -> bool) -> Option<Found>
    where
        T: Has<R>,
    {
        self.with(|store, slot| {
            let (found, row) = store.tables.rows().find(key, &store.transactions, slot)?;
            if !condition(row) {
                return None;
            }
            store.transactions.assign_xid(slot);
            Some(found)
        })
    }

    /// Locks a row that the statement found; none if it is gone, was skipped, or fulfils the condition no more (it
    /// stays locked then, as in PostgreSQL).
    async fn lock_found<R: Row>(
        &self,
        found: Found,
        mode: RowLock,
        policy: Policy,
        condition: &impl Fn(&R) -> bool,
    ) -> Result<Option<R>, Refusal>
    where
        T: Has<R>,
    {
        let mut approach = Approach { found, queued: None, rechecked: false, policy };
        let locked = self.run(|store, slot| approach_row::<T, R>(store, slot, &mut approach, mode)).await?;
        if matches!(locked, Locked::Gone) {
            return Ok(None);
        }
        let row = self.with(|store, slot| store.tables.rows().newest(found.row, &store.transactions, slot).cloned());
        Ok(row.filter(|row| !approach.rechecked || condition(row)))
    }
}

fn put<T: Has<R>, R: Row>(store: &mut Store<T>, slot: Slot, row: R) {
    let row = store.tables.rows_mut().insert(row, &store.transactions, slot);
    store.transactions.of_mut(slot).undo.push(Undo::Insert { table: R::TABLE, row });
}

/// One step towards a row's lock: the order of looking, queueing and waiting is that of PostgreSQL's
/// `heap_lock_tuple` and `EvalPlanQual`.
fn approach_row<T: Has<R>, R: Row>(
    store: &mut Store<T>,
    slot: Slot,
    approach: &mut Approach,
    mode: RowLock,
) -> Result<Step<Locked>, Refusal> {
    let rows: &Rows<R> = store.tables.rows();
    match rows.hindrance(approach.found, mode, &store.transactions, slot) {
        Hindrance::None => {
            store.transactions.assign_xid(slot);
            if store.tables.rows_mut().lock(approach.found.row, mode, &store.transactions, slot) {
                let lock = Undo::RowLock { table: R::TABLE, row: approach.found.row };
                store.transactions.of_mut(slot).undo.push(lock);
            }
            leave_queue(store, slot, approach);
            Ok(Step::Done(Locked::Locked))
        }
        Hindrance::Locked { by, queue } => wait_for_holder::<T, R>(store, slot, approach, mode, by, queue),
        Hindrance::Updated(_) | Hindrance::Updating(_) | Hindrance::Deleted
            if store.transactions.of(slot).isolation == Isolation::RepeatableRead =>
        {
            Err(Refusal::SerializationFailure)
        }
        Hindrance::Deleted => {
            leave_queue(store, slot, approach);
            Ok(Step::Done(Locked::Gone))
        }
        Hindrance::Updating(tx) => follow(store, slot, approach, Target::Transaction(tx)),
        Hindrance::Updated(newest) => {
            approach.found = newest;
            approach.rechecked = true;
            follow(store, slot, approach, Target::Turn)
        }
    }
}

/// A row whose version at hand is outdated is followed outside its queue, so whoever queued behind may be first.
fn follow<T: Tables>(
    store: &mut Store<T>,
    slot: Slot,
    approach: &mut Approach,
    target: Target,
) -> Result<Step<Locked>, Refusal> {
    let lets_others_in = leave_queue(store, slot, approach);
    match target {
        Target::Turn if !lets_others_in => Ok(Step::Again),
        Target::Transaction(_) if approach.policy == Policy::SkipLocked => Ok(Step::Done(Locked::Gone)),
        Target::Transaction(_) if approach.policy == Policy::NoWait => Err(Refusal::LockNotAvailable),
        target => Ok(Step::Wait(target)),
    }
}

fn wait_for_holder<T: Has<R>, R: Row>(
    store: &mut Store<T>,
    slot: Slot,
    approach: &mut Approach,
    mode: RowLock,
    holder: TxRef,
    queue: bool,
) -> Result<Step<Locked>, Refusal> {
    match approach.policy {
        Policy::SkipLocked => return Ok(Step::Done(Locked::Gone)),
        Policy::NoWait => return Err(Refusal::LockNotAvailable),
        Policy::Wait => {}
    }
    let key = Rows::<R>::queue_key(approach.found);
    if queue && approach.queued != Some(key) {
        approach.queued = Some(key);
        if store.acquire(slot, key, mode.queue_mode())? == Acquired::Queued {
            return Ok(Step::Wait(Target::Lock { key, mode: mode.queue_mode() }));
        }
    }
    Ok(Step::Wait(Target::Transaction(holder)))
}

/// Leaves the row's queue, if it was joined; true if that let somebody else in.
fn leave_queue<T: Tables>(store: &mut Store<T>, slot: Slot, approach: &mut Approach) -> bool {
    let Some(key) = approach.queued.take() else { return false };
    let before = store.transactions.released.len();
    store.release_one(slot, key);
    store.transactions.released.len() > before
}
