//! Cycles of waits: found when a wait begins, by whoever begins it, as PostgreSQL does when a wait has lasted a while.
//!
//! Who holds a lock cannot be passed, who merely queues before one can: a cycle with a queue in it is resolved, if
//! possible, by another order of that queue. This follows PostgreSQL's `deadlock.c`, whose choice among several orders
//! decides who is served first.

use super::locks::{LockKey, Locks, SESSIONS, Slot, WaitsFor};
use super::transaction::{Target, Transactions, Wait};
use alloc::vec::Vec;

/// What must be done about the cycles that a new wait closes.
pub enum Resolution {
    NoCycle,
    /// These queues in these orders leave none.
    Reorder(Vec<(LockKey, Vec<Slot>)>),
    Deadlock,
}

/// That somebody waits only because somebody else is before him in a queue; or that the order should be the other way.
#[derive(Clone, Copy)]
struct Behind {
    waiter: Slot,
    blocker: Slot,
    key: LockKey,
}

type Orders = Vec<(LockKey, Vec<Slot>)>;

struct Graph<'a> {
    transactions: &'a Transactions,
    locks: &'a Locks,
}

/// Looks for cycles through `slot`, which has just begun to wait.
pub fn resolve(transactions: &Transactions, locks: &Locks, slot: Slot) -> Resolution {
    if transactions.waiting == 1 << slot {
        return Resolution::NoCycle;
    }
    let graph = Graph { transactions, locks };
    match graph.orders_without_cycle(slot, &mut Vec::new()) {
        None => Resolution::Deadlock,
        Some(orders) if orders.is_empty() => Resolution::NoCycle,
        Some(orders) => Resolution::Reorder(orders),
    }
}

/// For whom a session waits, if queues were in these orders.
pub fn waits_for(transactions: &Transactions, locks: &Locks, slot: Slot, orders: &[(LockKey, Vec<Slot>)]) -> WaitsFor {
    match transactions.of(slot).wait {
        Wait::For(Target::Transaction(tx)) => WaitsFor { holders: 1 << tx.slot, ahead: 0 },
        Wait::For(Target::Lock { key, .. }) => match orders.iter().find(|(other, _)| *other == key) {
            Some((_, order)) => locks.waits_for_in(slot, key, order),
            None => locks.waits_for(slot, key),
        },
        Wait::For(Target::Turn) | Wait::None | Wait::Over(_) => WaitsFor::default(),
    }
}

impl Graph<'_> {
    /// Orders of queues that fulfil these wishes, and those that have to be added, and leave no cycle.
    fn orders_without_cycle(&self, start: Slot, wishes: &mut Vec<Behind>) -> Option<Orders> {
        let orders = self.expand(wishes)?;
        let mut found = Vec::new();
        let concerned = wishes.iter().flat_map(|wish| [wish.waiter, wish.blocker]);
        for slot in concerned.chain([start]) {
            if let Some(behind) = self.cycle_through(slot, &orders) {
                if behind.is_empty() {
                    return None;
                }
                found = behind;
            }
        }
        if found.is_empty() {
            return Some(orders);
        }
        for behind in found {
            if wishes.len() >= SESSIONS {
                return None;
            }
            wishes.push(behind);
            if let Some(orders) = self.orders_without_cycle(start, wishes) {
                return Some(orders);
            }
            wishes.pop();
        }
        None
    }

    /// The queues that somebody has a wish about, ordered so; none if the wishes contradict each other.
    fn expand(&self, wishes: &[Behind]) -> Option<Orders> {
        let mut orders: Orders = Vec::new();
        for wish in wishes.iter().rev() {
            if orders.iter().all(|(key, _)| *key != wish.key) {
                let of_queue: Vec<Behind> = wishes.iter().filter(|other| other.key == wish.key).copied().collect();
                orders.push((wish.key, self.sort(wish.key, &of_queue)?));
            }
        }
        Some(orders)
    }

    /// From the end, takes whoever is last and before nobody that is still left: what need not change does not.
    fn sort(&self, key: LockKey, wishes: &[Behind]) -> Option<Vec<Slot>> {
        let mut left: Vec<Slot> = self.locks.queue(key).collect();
        let mut order = Vec::new();
        while !left.is_empty() {
            let must_precede =
                |slot: &Slot| wishes.iter().any(|wish| wish.waiter == *slot && left.contains(&wish.blocker));
            let last = left.iter().rposition(|slot| !must_precede(slot))?;
            order.push(left.remove(last));
        }
        order.reverse();
        Some(order)
    }

    /// A way from `start` back to it: its places in queues, the last first. Empty if there are only holders on it.
    fn cycle_through(&self, start: Slot, orders: &[(LockKey, Vec<Slot>)]) -> Option<Vec<Behind>> {
        let mut behind = Vec::new();
        self.reaches(start, start, 1 << start, orders, &mut behind).1.then_some(behind)
    }

    /// Depth first, holders before those ahead in the queue. Also returns who was visited.
    fn reaches(
        &self,
        from: Slot,
        goal: Slot,
        visited: u64,
        orders: &[(LockKey, Vec<Slot>)],
        behind: &mut Vec<Behind>,
    ) -> (u64, bool) {
        let mut visited = visited;
        let WaitsFor { holders, ahead } = waits_for(self.transactions, self.locks, from, orders);
        let holders = (0..SESSIONS as Slot).filter(|slot| holders >> slot & 1 != 0).map(|slot| (slot, None));
        let key = match self.transactions.of(from).wait {
            Wait::For(Target::Lock { key, .. }) if ahead != 0 => Some(key),
            _ => None,
        };
        let queue = key.map(|key| self.queue(key, orders)).unwrap_or_default();
        let ahead = queue.into_iter().filter(|slot| ahead >> slot & 1 != 0).map(|slot| (slot, key));
        for (next, key) in holders.chain(ahead) {
            let mut found = next == goal;
            if !found && visited >> next & 1 == 0 {
                (visited, found) = self.reaches(next, goal, visited | 1 << next, orders, behind);
            }
            if found {
                behind.extend(key.map(|key| Behind { waiter: from, blocker: next, key }));
                return (visited, true);
            }
        }
        (visited, false)
    }

    fn queue(&self, key: LockKey, orders: &[(LockKey, Vec<Slot>)]) -> Vec<Slot> {
        match orders.iter().find(|(other, _)| *other == key) {
            Some((_, order)) => order.clone(),
            None => self.locks.queue(key).collect(),
        }
    }
}
