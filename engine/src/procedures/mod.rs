//! The engine's procedures: the Rust twins of `sql/*.sql`, under the same names, in the same files.
//!
//! Each takes the same locks in the same order as its twin and draws from the same sequences at the same places. A
//! procedure is an `async fn` over a [`Db`]: it is suspended only where it waits for a lock.

pub mod audit;
pub mod dead_letter;
pub mod drain;
pub mod emit;
pub mod end;
pub mod handoff;
pub mod isolation;
pub mod join;
pub mod observe;
pub mod producer;
pub mod queue;
pub mod timer;
pub mod wait;
pub mod worker;
pub mod workload;

#[cfg(test)]
pub mod flows;

use crate::guard::{Guard, Guards};
use crate::schema::{Schema, Sequence};
use crate::store::statement::Tx;
use tourbillon_models::name::Micros;
use tourbillon_models::op::Isolation;
use tourbillon_models::reply::Refusal;

/// What one call is given: a session's transaction, the guards that stand, the call's random bits, and what its caller
/// takes for the time.
pub struct Db {
    pub tx: Tx<Schema>,
    pub guards: Guards,
    pub random: u64,
    pub caller_clock: Micros,
}

impl Db {
    /// The server's wall clock, read when it is asked for.
    pub fn clock(&self) -> Micros {
        self.tx.with(|store, _| store.clock)
    }

    /// What leases go by, at a time by the server's clock: that time, whatever the caller's own clock says.
    fn lease_clock(&self, now: Micros) -> Micros {
        if self.guards.on(Guard::ServerClock) { now } else { self.caller_clock }
    }

    /// When the caller's transaction began; no lease and no deadline may go by it.
    fn transaction_clock(&self) -> Micros {
        self.tx.with(|store, slot| store.transactions.of(slot).started_at)
    }

    pub fn next_value(&self, sequence: Sequence) -> u32 {
        self.tx.with(|store, slot| store.next_value(slot, sequence as usize))
    }

    /// Under REPEATABLE READ a duty would go by what was true when its transaction began.
    fn require_read_committed(&self) -> Result<(), Refusal> {
        match self.tx.isolation() {
            Isolation::RepeatableRead if self.guards.on(Guard::IsolationCheck) => Err(Refusal::IsolationLevel),
            _ => Ok(()),
        }
    }
}
