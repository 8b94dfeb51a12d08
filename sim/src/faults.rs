//! The kinds of fault that a sweep may draw, and that `--faults` names.

use serde::{Deserialize, Serialize};

/// One kind of fault, or of client that behaves badly.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    WorkerCrash,
    WorkerPause,
    LostReply,
    ServerCrash,
    HeldTransaction,
    LateProducer,
    DutyStop,
    SlowConsumer,
    ClaimInTransaction,
    DutyInTransaction,
    DutyRepeatableRead,
    SecondConsumer,
    PartialHandoff,
    SwallowedError,
    ForgottenHandoff,
    ReplayTwice,
    ClockDrift,
    ServerClockStep,
    AsyncCommitLoss,
    IdleTimeout,
}

impl FaultKind {
    pub const ALL: [FaultKind; 20] = [
        FaultKind::WorkerCrash,
        FaultKind::WorkerPause,
        FaultKind::LostReply,
        FaultKind::ServerCrash,
        FaultKind::HeldTransaction,
        FaultKind::LateProducer,
        FaultKind::DutyStop,
        FaultKind::SlowConsumer,
        FaultKind::ClaimInTransaction,
        FaultKind::DutyInTransaction,
        FaultKind::DutyRepeatableRead,
        FaultKind::SecondConsumer,
        FaultKind::PartialHandoff,
        FaultKind::SwallowedError,
        FaultKind::ForgottenHandoff,
        FaultKind::ReplayTwice,
        FaultKind::ClockDrift,
        FaultKind::ServerClockStep,
        FaultKind::AsyncCommitLoss,
        FaultKind::IdleTimeout,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            FaultKind::WorkerCrash => "worker_crash",
            FaultKind::WorkerPause => "worker_pause",
            FaultKind::LostReply => "lost_reply",
            FaultKind::ServerCrash => "server_crash",
            FaultKind::HeldTransaction => "held_transaction",
            FaultKind::LateProducer => "late_producer",
            FaultKind::DutyStop => "duty_stop",
            FaultKind::SlowConsumer => "slow_consumer",
            FaultKind::ClaimInTransaction => "claim_in_transaction",
            FaultKind::DutyInTransaction => "duty_in_transaction",
            FaultKind::DutyRepeatableRead => "duty_repeatable_read",
            FaultKind::SecondConsumer => "second_consumer",
            FaultKind::PartialHandoff => "partial_handoff",
            FaultKind::SwallowedError => "swallowed_error",
            FaultKind::ForgottenHandoff => "forgotten_handoff",
            FaultKind::ReplayTwice => "replay_twice",
            FaultKind::ClockDrift => "clock_drift",
            FaultKind::ServerClockStep => "server_clock_step",
            FaultKind::AsyncCommitLoss => "async_commit_loss",
            FaultKind::IdleTimeout => "idle_timeout",
        }
    }

    /// One sentence.
    pub const fn summary(self) -> &'static str {
        match self {
            FaultKind::WorkerCrash => "a worker, or whoever emits, dies before or after any call, and starts again",
            FaultKind::WorkerPause => {
                "a worker, or whoever emits, stands still for longer than the dead interval, also inside its transaction"
            }
            FaultKind::LostReply => "a request or a reply is lost, and the connection with it",
            FaultKind::ServerCrash => "the server dies with all open transactions, and comes back",
            FaultKind::HeldTransaction => {
                "a transaction stays open, at either isolation level, also with a lock on an event table"
            }
            FaultKind::LateProducer => "a producer appends under a snapshot from before several rotations",
            FaultKind::DutyStop => {
                "a duty stops for a while: the ticker, the drain, the expiry of waits, or either rotation"
            }
            FaultKind::SlowConsumer => "a worker polls rarely and works slowly",
            FaultKind::ClaimInTransaction => "workers claim inside transactions that stay open",
            FaultKind::DutyInTransaction => "a duty runs inside a transaction that stays open",
            FaultKind::DutyRepeatableRead => "a duty is called at REPEATABLE READ, after a look at something",
            FaultKind::SecondConsumer => "somebody tries to subscribe a second consumer, and to work for it",
            FaultKind::PartialHandoff => "a worker hands off the first page of its window as if it were all",
            FaultKind::SwallowedError => {
                "a worker that holds its window has a savepoint before each statement, and commits whatever is refused"
            }
            FaultKind::ForgottenHandoff => "a worker commits its effects without handing off the window that it holds",
            FaultKind::ReplayTwice => "every dead letter is replayed, and then once more",
            FaultKind::ClockDrift => "a worker's clock is wrong and runs at another rate, until it is set and steps",
            FaultKind::ServerClockStep => "the server's wall clock steps forward or back, and is set right in the end",
            FaultKind::AsyncCommitLoss => {
                "sessions commit asynchronously, and a crash of the server loses what was not flushed"
            }
            FaultKind::IdleTimeout => "a worker that holds its window stands still until the server ends its session",
        }
    }

    pub fn by_name(name: &str) -> Option<FaultKind> {
        FaultKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
