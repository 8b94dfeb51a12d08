//! The lock manager: tables, advisory locks, and the queues that form at contended rows.
//!
//! Holders are bit masks of sessions, so the usual case (nobody conflicts) is a few instructions and allocates
//! nothing. Row locks themselves are not here: they live in the rows (see `rows`), as in PostgreSQL.
//!
//! Queues are first come, first served, with PostgreSQL's two exceptions: whoever holds the object already passes
//! those who wait for him, and a wake-up grants whatever conflicts neither with holders nor with those still ahead.

use alloc::vec::Vec;
use tourbillon_models::op::TableLock;

/// A session's place in the store's session table.
pub type Slot = u8;

/// At most so many sessions at once: they are bits of a `u64`.
pub const SESSIONS: usize = 64;

/// What can be locked here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockKey {
    Table(u8),
    Advisory {
        class: u32,
        object: u32,
    },
    /// The queue for one version of a row: its first member waits for the row's holder, the others behind it.
    RowQueue {
        table: u8,
        row: u32,
        version: u32,
    },
}

/// PostgreSQL's lock modes, as far as anyone here asks for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mode {
    AccessShare,
    RowShare,
    RowExclusive,
    Share,
    Exclusive,
    AccessExclusive,
}

const MODES: usize = 6;
const ALL_MODES: u8 = (1 << MODES) - 1;

impl Mode {
    const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The modes that this one cannot stand beside, as bits.
    const fn conflicts(self) -> u8 {
        match self {
            Mode::AccessShare => Mode::AccessExclusive.bit(),
            Mode::RowShare => Mode::Exclusive.bit() | Mode::AccessExclusive.bit(),
            Mode::RowExclusive => Mode::Share.bit() | Mode::Exclusive.bit() | Mode::AccessExclusive.bit(),
            Mode::Share => Mode::RowExclusive.bit() | Mode::Exclusive.bit() | Mode::AccessExclusive.bit(),
            Mode::Exclusive => ALL_MODES & !Mode::AccessShare.bit(),
            Mode::AccessExclusive => ALL_MODES,
        }
    }

    /// Any number of sessions may have one of these at once.
    pub const fn is_shared(self) -> bool {
        matches!(self, Mode::AccessShare | Mode::RowShare | Mode::RowExclusive)
    }

    const fn conflicts_with(self, other: Mode) -> bool {
        self.conflicts() & other.bit() != 0
    }
}

impl From<TableLock> for Mode {
    fn from(lock: TableLock) -> Mode {
        match lock {
            TableLock::AccessShare => Mode::AccessShare,
            TableLock::RowShare => Mode::RowShare,
            TableLock::RowExclusive => Mode::RowExclusive,
            TableLock::Share => Mode::Share,
            TableLock::AccessExclusive => Mode::AccessExclusive,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Request {
    slot: Slot,
    mode: Mode,
}

/// One lockable object: who holds it in which mode, and who waits.
#[derive(Clone, Default, Debug)]
struct Lock {
    holders: [u64; MODES],
    queue: Vec<Request>,
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acquired {
    /// Held now; `fresh` if it was not held in this mode before.
    Granted {
        fresh: bool,
    },
    Queued,
    /// The request and a waiter wait for each other: no need to look further.
    Deadlock,
}

impl Lock {
    fn held_by(&self, slot: Slot) -> u8 {
        (0..MODES).fold(0, |modes, mode| modes | ((self.holders[mode] >> slot & 1) as u8) << mode)
    }

    /// Sessions that hold the lock in a mode this request cannot stand beside.
    fn blockers(&self, request: Request) -> u64 {
        let (mut modes, mut all) = (request.mode.conflicts(), 0);
        while modes != 0 {
            all |= self.holders[modes.trailing_zeros() as usize];
            modes &= modes - 1;
        }
        all & !(1 << request.slot)
    }

    fn grant(&mut self, request: Request) {
        self.holders[request.mode as usize] |= 1 << request.slot;
    }

    fn is_held(&self, request: Request) -> bool {
        self.holders[request.mode as usize] >> request.slot & 1 != 0
    }

    /// Nobody holds it, or waits for it, in a mode that this request minds.
    fn is_free(&self, request: Request) -> bool {
        let passes_queue = !self.queue.iter().any(|waiter| request.mode.conflicts_with(waiter.mode));
        passes_queue && self.blockers(request) == 0
    }

    fn acquire(&mut self, request: Request) -> Acquired {
        if self.is_held(request) {
            return Acquired::Granted { fresh: false };
        }
        if self.is_free(request) {
            self.grant(request);
            return Acquired::Granted { fresh: true };
        }
        self.enqueue(request)
    }

    /// A holder goes before the first waiter that waits for him, and is served at once if nobody further ahead minds.
    fn enqueue(&mut self, request: Request) -> Acquired {
        let held = self.held_by(request.slot);
        let mut ahead = 0;
        let mut place = self.queue.len();
        for (index, waiter) in self.queue.iter().enumerate() {
            if held != 0 && waiter.mode.conflicts() & held != 0 {
                if request.mode.conflicts() & self.held_by(waiter.slot) != 0 {
                    return Acquired::Deadlock;
                }
                if request.mode.conflicts() & ahead == 0 && self.blockers(request) == 0 {
                    self.grant(request);
                    return Acquired::Granted { fresh: true };
                }
                place = index;
                break;
            }
            ahead |= waiter.mode.bit();
        }
        self.queue.insert(place, request);
        Acquired::Queued
    }

    /// Grants what can be granted, in the order of the queue.
    fn wake(&mut self, woken: &mut Vec<Slot>) {
        let mut ahead = 0;
        let mut index = 0;
        while index < self.queue.len() {
            let request = self.queue[index];
            if request.mode.conflicts() & ahead == 0 && self.blockers(request) == 0 {
                self.queue.remove(index);
                self.grant(request);
                woken.push(request.slot);
            } else {
                ahead |= request.mode.bit();
                index += 1;
            }
        }
    }

    fn release(&mut self, slot: Slot) {
        for holders in &mut self.holders {
            *holders &= !(1 << slot);
        }
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.holders.iter().all(|holders| *holders == 0)
    }
}

/// All locks. Tables have a place of their own; the rest is few and looked for one by one.
#[derive(Default)]
pub struct Locks {
    tables: Vec<Lock>,
    others: Vec<(LockKey, Lock)>,
}

impl Locks {
    pub fn new(table_count: usize) -> Self {
        Locks { tables: (0..table_count).map(|_| Lock::default()).collect(), others: Vec::new() }
    }

    pub fn clear(&mut self) {
        self.others.clear();
        for lock in &mut self.tables {
            lock.holders = [0; MODES];
            lock.queue.clear();
        }
    }

    fn find(&mut self, key: LockKey) -> Option<&mut Lock> {
        match key {
            LockKey::Table(table) => Some(&mut self.tables[table as usize]),
            _ => self.others.iter_mut().find(|(other, _)| *other == key).map(|(_, lock)| lock),
        }
    }

    fn look(&self, key: LockKey) -> Option<&Lock> {
        match key {
            LockKey::Table(table) => Some(&self.tables[table as usize]),
            _ => self.others.iter().find(|(other, _)| *other == key).map(|(_, lock)| lock),
        }
    }

    /// The lock of what is no table, made if nobody has it yet.
    fn other(&mut self, key: LockKey) -> &mut Lock {
        let place = self.others.iter().position(|(other, _)| *other == key);
        let place = place.unwrap_or_else(|| {
            self.others.push((key, Lock::default()));
            self.others.len() - 1
        });
        &mut self.others[place].1
    }

    /// Lets go of a lock that nobody holds or wants; tables keep theirs.
    fn tidy(&mut self, key: LockKey) {
        if !matches!(key, LockKey::Table(_)) {
            self.others.retain(|(other, lock)| *other != key || !lock.is_idle());
        }
    }

    pub fn acquire(&mut self, slot: Slot, key: LockKey, mode: Mode) -> Acquired {
        let request = Request { slot, mode };
        let lock = match key {
            LockKey::Table(table) => &mut self.tables[table as usize],
            _ => self.other(key),
        };
        lock.acquire(request)
    }

    /// Whether the lock could be had without waiting.
    pub fn is_free(&self, slot: Slot, key: LockKey, mode: Mode) -> bool {
        let request = Request { slot, mode };
        self.look(key).is_none_or(|lock| lock.is_held(request) || lock.is_free(request))
    }

    /// Gives up what `slot` holds of one object, and wakes whom that lets in.
    pub fn release(&mut self, slot: Slot, key: LockKey, woken: &mut Vec<Slot>) {
        let Some(lock) = self.find(key) else { return };
        lock.release(slot);
        if !lock.queue.is_empty() {
            lock.wake(woken);
        }
        self.tidy(key);
    }

    /// Gives up one mode of one object: what a rollback to a savepoint does.
    pub fn release_mode(&mut self, slot: Slot, key: LockKey, mode: Mode, woken: &mut Vec<Slot>) {
        let Some(lock) = self.find(key) else { return };
        lock.holders[mode as usize] &= !(1 << slot);
        lock.wake(woken);
        self.tidy(key);
    }

    /// Withdraws a request that has not been granted; those behind it may now be.
    pub fn withdraw(&mut self, slot: Slot, key: LockKey, woken: &mut Vec<Slot>) {
        let Some(lock) = self.find(key) else { return };
        lock.queue.retain(|request| request.slot != slot);
        lock.wake(woken);
        self.tidy(key);
    }

    /// Whom a queued request waits for: holders, and those ahead of it that it cannot stand beside.
    pub fn waits_for(&self, slot: Slot, key: LockKey) -> WaitsFor {
        let Some(lock) = self.look(key) else { return WaitsFor::default() };
        let Some(place) = lock.queue.iter().position(|request| request.slot == slot) else {
            return WaitsFor::default();
        };
        let request = lock.queue[place];
        let ahead = lock.queue[..place].iter().filter(|waiter| request.mode.conflicts_with(waiter.mode));
        WaitsFor { holders: lock.blockers(request), ahead: ahead.fold(0, |mask, waiter| mask | 1 << waiter.slot) }
    }

    pub fn is_held(&self, slot: Slot, key: LockKey, mode: Mode) -> bool {
        self.look(key).is_some_and(|lock| lock.is_held(Request { slot, mode }))
    }

    pub fn holds(&self, slot: Slot, key: LockKey) -> bool {
        self.look(key).is_some_and(|lock| lock.held_by(slot) != 0)
    }

    /// The sessions that wait for a lock, in the order of its queue.
    pub fn queue(&self, key: LockKey) -> impl Iterator<Item = Slot> {
        self.look(key).into_iter().flat_map(|lock| &lock.queue).map(|request| request.slot)
    }

    /// As [`Locks::waits_for`], if the queue were in this order.
    pub fn waits_for_in(&self, slot: Slot, key: LockKey, order: &[Slot]) -> WaitsFor {
        let Some(lock) = self.look(key) else { return WaitsFor::default() };
        let request = |slot: Slot| lock.queue.iter().find(|request| request.slot == slot).copied();
        let Some(own) = request(slot) else { return WaitsFor::default() };
        let ahead = order.iter().take_while(|other| **other != slot).filter_map(|other| request(*other));
        let ahead = ahead.filter(|waiter| own.mode.conflicts_with(waiter.mode));
        WaitsFor { holders: lock.blockers(own), ahead: ahead.fold(0, |mask, waiter| mask | 1 << waiter.slot) }
    }

    /// Puts a queue in this order, and wakes whom that lets in.
    pub fn reorder(&mut self, key: LockKey, order: &[Slot], woken: &mut Vec<Slot>) {
        let Some(lock) = self.find(key) else { return };
        lock.queue.sort_by_key(|request| order.iter().position(|slot| *slot == request.slot));
        lock.wake(woken);
    }
}

/// Sessions, as bits, that keep a request waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WaitsFor {
    pub holders: u64,
    pub ahead: u64,
}
