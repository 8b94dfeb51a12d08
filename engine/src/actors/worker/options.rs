//! What a worker is told to do, and its habits, good and bad.
//!
//! A bad habit is one that applications have and that the engine must survive: it refuses what they do, or what they do
//! is harmless. What the engine cannot refuse is no habit here: a client that commits its effects although `hold` failed,
//! or that hands off in one transaction and writes its effects in another one that holds nothing, has torn its step in
//! two by itself.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tourbillon_models::name::{Consumer, Micros, Queue};

/// What a worker is told to do. Times are its own clock's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WorkerOptions {
    pub consumer: Consumer,
    /// A consumer that the worker tries to subscribe itself, before anything else; refused, it goes home.
    pub subscribe_to: Option<Queue>,
    pub start_at: Micros,
    pub poll_interval: Micros,
    /// The only times at which it looks for work; after the last it goes home. None: as often as the interval says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polls: Option<Vec<Micros>>,
    pub dead_interval: Micros,
    pub heartbeat_interval: Micros,
    /// External work of one step.
    pub work_duration: Micros,
    pub slowness: Option<Slowness>,
    pub page_limit: u32,
    /// An event of an isolated window that was tried so often is a dead letter.
    #[serde(default = "two_tries")]
    pub max_tries: u16,
    /// From then on the worker runs the program's version 1.
    #[serde(default)]
    pub deploy_at: Option<Micros>,
    pub claim: ClaimHabit,
    pub handoff: HandoffHabit,
    #[serde(default)]
    pub errors: ErrorHabit,
    #[serde(default)]
    pub burial: BurialHabit,
    #[serde(default, skip_serializing_if = "IdentityHabit::is_kept")]
    pub identity: IdentityHabit,
}

impl WorkerOptions {
    /// One without habits, that begins at once and takes no time over a step; the rest is to be set to what it is about.
    pub const fn plain(consumer: Consumer) -> Self {
        WorkerOptions {
            consumer,
            subscribe_to: None,
            start_at: Micros(0),
            poll_interval: Micros::from_millis(10),
            polls: None,
            dead_interval: Micros::from_millis(1_000),
            heartbeat_interval: Micros::from_millis(250),
            work_duration: Micros(0),
            slowness: None,
            page_limit: 1_000,
            max_tries: two_tries(),
            deploy_at: None,
            claim: ClaimHabit::Alone,
            handoff: HandoffHabit::Whole,
            errors: ErrorHabit::Heeded,
            burial: BurialHabit::LeftAlone,
            identity: IdentityHabit::Kept,
        }
    }
}

/// For plans from before there was a choice.
const fn two_tries() -> u16 {
    2
}

/// A time of slowness.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Slowness {
    pub until: Micros,
    pub poll_interval: Micros,
    pub work_duration: Micros,
}

/// How windows are come by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimHabit {
    /// As they should be: each claim a transaction of its own.
    Alone,
    /// Inside a transaction that stays open for a while, as a framework's session wrapper would.
    InTransaction { open_for: Micros },
    /// A standby claims nothing new: it takes over what others left.
    Standby,
}

/// How much of a window is handed off at first. A refusal teaches to hand off the whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandoffHabit {
    Whole,
    /// One page is read and handed off, as if it were the window.
    FirstPage,
    /// Hold, effects, commit: the handoff is forgotten, or left for a transaction of its own that would come next. At
    /// that commit the two are the same, and it is there that the engine refuses.
    Forgotten,
}

/// What becomes of an error in a transaction that holds its window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorHabit {
    /// The transaction is rolled back.
    #[default]
    Heeded,
    /// A savepoint before each statement; after an error back to it, on to the next statement, and commit. It begins after
    /// the hold: a failed hold is heeded.
    Swallowed,
}

/// What a worker is after its connection was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityHabit {
    /// Whom it registered as: right where commits are synchronous.
    #[default]
    Kept,
    /// It registers again before it claims. A crash may have lost the registration, and given its identity to another;
    /// who has it still would claim for that one.
    Renewed,
}

impl IdentityHabit {
    pub fn is_kept(&self) -> bool {
        *self == IdentityHabit::Kept
    }
}

/// What a worker does about its dead letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BurialHabit {
    #[default]
    LeftAlone,
    /// It replays each that it hears of before this time, and then replays it again.
    ReplayedTwice { until: Micros },
}
