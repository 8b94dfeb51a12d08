//! Statements: what a procedure does to the store, each as PostgreSQL would, waits and re-checks included.
//!
//! A [`Tx`] is a session's handle. Its methods borrow the store only between waits, so a procedure reads like the
//! PL/pgSQL beside it and is suspended only where it waits for a lock. Under READ COMMITTED every statement sees what
//! is committed when it starts; under REPEATABLE READ what was committed at the transaction's first.

use super::locks::{Acquired, LockKey, Mode, Slot};
use super::rows::{Conflict, Found, Row, RowLock, Rows};
use super::transaction::{Target, Undo, Wait};
use super::{Store, Tables};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::{Future, poll_fn};
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

/// The savepoint of a block, which no client can name while the block lasts.
const BLOCK: u8 = u8::MAX;

/// A step of a statement between two waits.
enum Step<V> {
    Done(V),
    Wait(Target),
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

    pub(crate) async fn wait(&self, target: Target) -> Result<(), Refusal> {
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
                Step::Wait(target) => self.wait(target).await?,
            }
        }
    }

    /// A block with an exception handler: if the body fails, what it did is taken back, locks included, and the transaction
    /// goes on.
    pub async fn attempt<V>(&self, body: impl Future<Output = Result<V, Refusal>>) -> Result<V, Refusal> {
        self.with(|store, slot| store.savepoint(slot, BLOCK));
        let result = body.await;
        self.with(|store, slot| {
            if result.is_err() {
                store.rollback_to(slot, BLOCK).expect("the block was begun");
            }
            store.release(slot);
        });
        result
    }

    /// A table lock, an advisory lock: waits for its turn.
    pub async fn lock(&self, key: LockKey, mode: Mode) -> Result<(), Refusal> {
        match self.with(|store, slot| store.acquire(slot, key, mode))? {
            Acquired::Granted { .. } => Ok(()),
            _ => self.wait(Target::Lock { key, mode }).await,
        }
    }

    /// Several locks, one after the other.
    pub async fn lock_each(&self, keys: impl IntoIterator<Item = LockKey>, mode: Mode) -> Result<(), Refusal> {
        let mut keys = keys.into_iter();
        loop {
            let taken = self.with(|store, slot| {
                for key in &mut keys {
                    match store.acquire(slot, key, mode)? {
                        Acquired::Granted { .. } => {}
                        _ => return Ok(Some(key)),
                    }
                }
                Ok(None)
            })?;
            let Some(key) = taken else { return Ok(()) };
            self.wait(Target::Lock { key, mode }).await?;
        }
    }

    /// As [`Tx::lock`], but fails instead of waiting (55P03).
    pub fn lock_now(&self, key: LockKey, mode: Mode) -> Result<(), Refusal> {
        match self.with(|store, slot| store.acquire_now(slot, key, mode))? {
            true => Ok(()),
            false => Err(Refusal::LockNotAvailable),
        }
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
                Conflict::None => {
                    put(store, slot, row.clone());
                    Ok(Step::Done(()))
                }
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
        match self.find_to_change(key, &condition)? {
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

    /// Changes the row under this key if it fulfils the condition. False if there is no such row, or none any more.
    ///
    /// The change is told the server's clock. As on a server, the new row is made before the statement waits, and again
    /// after a wait only if there is a newer version of the row to make it from.
    pub async fn update<R: Row>(
        &self,
        key: R::Key,
        condition: impl Fn(&R) -> bool,
        change: impl Fn(&mut R, Micros),
    ) -> Result<bool, Refusal>
    where
        T: Has<R>,
    {
        let Some(first) = self.find_to_change(key, &condition)? else { return Ok(false) };
        let began = self.with(|store, _| store.clock);
        let Some((found, heritage)) = self.come_by(first, RowLock::NoKeyUpdate, &condition).await? else {
            return Ok(false);
        };
        self.with(|store, slot| {
            let now = if found == first { began } else { store.clock };
            store.tables.rows_mut().update(found, |row| change(row, now), heritage, &store.transactions, slot);
            store.transactions.of_mut(slot).undo.push(Undo::Update { table: R::TABLE, row: found.row });
        });
        Ok(true)
    }

    /// Deletes the row under this key if it fulfils the condition. False if there is none, or none any more.
    pub async fn delete<R: Row>(&self, key: R::Key, condition: impl Fn(&R) -> bool) -> Result<bool, Refusal>
    where
        T: Has<R>,
    {
        let Some(found) = self.find_to_change(key, &condition)? else { return Ok(false) };
        let Some((found, _)) = self.come_by(found, RowLock::Update, &condition).await? else { return Ok(false) };
        self.with(|store, slot| {
            store.tables.rows_mut().delete(found, &store.transactions, slot);
            store.transactions.of_mut(slot).undo.push(Undo::Delete { table: R::TABLE, row: found.row });
        });
        Ok(true)
    }

    /// The row that the statement sees under this key, if it fulfils the condition. Where it sees two, one of them is
    /// deleted, and cannot be changed or locked at its isolation level.
    fn find_to_change<R: Row>(&self, key: R::Key, condition: &impl Fn(&R) -> bool) -> Result<Option<Found>, Refusal>
    where
        T: Has<R>,
    {
        match self.with(|store, slot| store.tables.rows().find_where(key, condition, &store.transactions, slot)) {
            Some((_, true)) => Err(Refusal::SerializationFailure),
            Some((found, false)) => Ok(Some(found)),
            None => Ok(None),
        }
    }
}

fn put<T: Has<R>, R: Row>(store: &mut Store<T>, slot: Slot, row: R) {
    let row = store.tables.rows_mut().insert(row, &store.transactions, slot);
    store.transactions.of_mut(slot).undo.push(Undo::Insert { table: R::TABLE, row });
}
