//! The executor: runs a call until it returns or waits, and takes it up again when its wait is over.
//!
//! No runtime, no threads, no wakers: who may go on is asked of the store. A call that is given up is dropped before
//! its transaction ends, so nothing of it runs on.

use super::locks::Slot;
use super::{Store, Tables};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Ref, RefCell, RefMut};
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use tourbillon_models::name::{Micros, Xid};
use tourbillon_models::reply::Refusal;

type Call<V> = Pin<Box<dyn Future<Output = Result<V, Refusal>>>>;

/// What became of a call so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The reply stands where the caller wanted it.
    Returned,
    Blocked,
}

/// A store and the calls that are suspended in it. `V` is what a call replies; it is written where the caller keeps it,
/// because a reply that is handed on by value from one to the next costs more than many a call.
pub struct Executor<T, V> {
    store: Rc<RefCell<Store<T>>>,
    suspended: Vec<Option<Call<V>>>,
}

impl<T: Tables, V> Default for Executor<T, V> {
    fn default() -> Self {
        let suspended = (0..super::locks::SESSIONS).map(|_| None).collect();
        Executor { store: Rc::default(), suspended }
    }
}

impl<T: Tables, V: From<Refusal>> Executor<T, V> {
    pub fn store(&self) -> Ref<'_, Store<T>> {
        self.store.borrow()
    }

    pub fn store_mut(&mut self) -> RefMut<'_, Store<T>> {
        self.store.borrow_mut()
    }

    pub fn share(&self) -> Rc<RefCell<Store<T>>> {
        Rc::clone(&self.store)
    }

    /// Runs a call of a session whose transaction is open.
    pub fn start(&mut self, slot: Slot, mut call: Call<V>, reply: &mut V) -> Progress {
        assert!(self.suspended[slot as usize].is_none(), "a session has one call at a time");
        match poll(&mut call, reply) {
            Poll::Ready(result) => self.finish(slot, result, reply),
            Poll::Pending => {
                self.suspended[slot as usize] = Some(call);
                Progress::Blocked
            }
        }
    }

    /// Sessions whose wait is over, in the order of their release: which goes on first is open.
    pub fn released(&self) -> Vec<Slot> {
        self.store.borrow().transactions.released.clone()
    }

    pub fn anyone_released(&self) -> bool {
        !self.store.borrow().transactions.released.is_empty()
    }

    /// Goes on with a call whose wait is over, to its end or its next wait.
    pub fn resume(&mut self, slot: Slot, reply: &mut V) -> Progress {
        self.store.borrow_mut().transactions.released.retain(|other| *other != slot);
        let call = self.suspended[slot as usize].as_mut().expect("only a suspended call waits");
        match poll(call, reply) {
            Poll::Ready(result) => {
                self.suspended[slot as usize] = None;
                self.finish(slot, result, reply)
            }
            Poll::Pending => Progress::Blocked,
        }
    }

    /// The end of a call whose reply, if it succeeded, is written. An implicit transaction ends with its call; an explicit
    /// one fails with it.
    pub fn finish(&mut self, slot: Slot, result: Result<(), Refusal>, reply: &mut V) -> Progress {
        let mut store = self.store.borrow_mut();
        let explicit = store.transactions.of(slot).explicit;
        let ended = match (result, explicit) {
            (Ok(()), true) => Ok(()),
            (Ok(()), false) => store.commit(slot).map(|committed| {
                assert!(committed, "a call that succeeded has not failed its transaction");
            }),
            (Err(refusal), true) => {
                store.fail(slot);
                Err(refusal)
            }
            (Err(refusal), false) => {
                store.rollback(slot);
                Err(refusal)
            }
        };
        if let Err(refusal) = ended {
            *reply = refusal.into();
        }
        Progress::Returned
    }

    pub fn is_suspended(&self, slot: Slot) -> bool {
        self.suspended[slot as usize].is_some()
    }

    /// How long the session's present wait for a lock may last, if there is a limit.
    pub fn may_wait(&self, slot: Slot) -> Option<Micros> {
        self.store.borrow().transactions.of(slot).may_wait
    }

    /// The present wait takes too long: its call goes on with 55P03.
    pub fn time_out(&mut self, slot: Slot) {
        self.store.borrow_mut().fail_wait(slot, Refusal::LockNotAvailable);
    }

    /// The client is gone: its call is dropped, its transaction rolled back, its session closed.
    pub fn disconnect(&mut self, slot: Slot) {
        self.suspended[slot as usize] = None;
        let mut store = self.store.borrow_mut();
        store.abandon_wait(slot);
        if store.transactions.of(slot).is_open() {
            store.rollback(slot);
        }
        store.transactions.disconnect(slot);
    }

    /// The server is gone, and back with what was committed. See [`Store::crash`].
    pub fn crash(&mut self) -> Vec<Xid> {
        self.suspended.iter_mut().for_each(|call| *call = None);
        self.store.borrow_mut().crash()
    }

    /// Empties everything for another run, and keeps the memory.
    pub fn clear(&mut self) {
        self.suspended.iter_mut().for_each(|call| *call = None);
        self.store.borrow_mut().clear();
    }
}

fn poll<V>(call: &mut Call<V>, reply: &mut V) -> Poll<Result<(), Refusal>> {
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(value)) => {
            *reply = value;
            Poll::Ready(Ok(()))
        }
        Poll::Ready(Err(refusal)) => Poll::Ready(Err(refusal)),
        Poll::Pending => Poll::Pending,
    }
}
