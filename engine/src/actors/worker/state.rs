//! Where a worker stands. A state that makes a call becomes the one that waits for its answer, and that one what the answer
//! leads to; both are told in [`super`].

use super::lease::Lease;
use alloc::boxed::Box;

/// What the worker is at; a call that is under way is named by the state that made it.
#[derive(Clone, Debug)]
pub enum State {
    Subscribe,
    Subscribing,
    Register,
    Registering,
    /// A dead letter that is given another life.
    Replaying,
    Claim,
    BeginningClaim,
    Claiming,
    /// Claimed inside an open transaction.
    Lingering {
        lease: Option<Box<Lease>>,
    },
    CommittingClaim {
        lease: Option<Box<Lease>>,
    },
    Read {
        lease: Box<Lease>,
    },
    Reading {
        lease: Box<Lease>,
    },
    /// The window has no events.
    Empty {
        lease: Box<Lease>,
    },
    LookAgain {
        lease: Box<Lease>,
    },
    /// The next event of an isolated window.
    HandOut {
        lease: Box<Lease>,
    },
    HandingOut {
        lease: Box<Lease>,
    },
    /// What children left whose parents are among the events.
    ReadResults {
        lease: Box<Lease>,
    },
    ReadingResults {
        lease: Box<Lease>,
    },
    Work {
        lease: Box<Lease>,
        index: usize,
    },
    Working {
        lease: Box<Lease>,
        index: usize,
    },
    Worked {
        lease: Box<Lease>,
        index: usize,
    },
    Beating {
        lease: Box<Lease>,
        index: usize,
    },
    Begin {
        lease: Box<Lease>,
    },
    Beginning {
        lease: Box<Lease>,
    },
    Holding {
        lease: Box<Lease>,
    },
    /// Before a statement of the transaction: the effects in their order, then the handoff.
    Guard {
        lease: Box<Lease>,
        index: usize,
    },
    Guarding {
        lease: Box<Lease>,
        index: usize,
    },
    Effecting {
        lease: Box<Lease>,
        index: usize,
    },
    HandingOff {
        lease: Box<Lease>,
    },
    /// Back to the savepoint, and on with the next statement as if nothing had happened.
    Undo {
        lease: Box<Lease>,
        index: usize,
    },
    Undoing {
        lease: Box<Lease>,
        index: usize,
    },
    Committing {
        lease: Box<Lease>,
    },
    /// Rolls back a transaction that failed; then goes on as `then` says.
    RollBack {
        then: Then,
    },
    RollingBack {
        then: Then,
    },
    Drop,
    Idle,
    Finished,
}

/// What follows a rollback.
#[derive(Clone, Debug)]
pub enum Then {
    Drop,
    Register,
    /// The transaction was a victim, not wrong: again, with the same decisions.
    Begin {
        lease: Box<Lease>,
    },
    Claim,
}
