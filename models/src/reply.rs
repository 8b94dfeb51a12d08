//! Replies: what the system under test answered, with the facts that the properties need.
//!
//! `E` is how a list of events is held, `I` a list of ids: a `Vec` between target and actor, a
//! [`Span`](crate::record::Span) in a history.

use crate::name::{EventId, Micros, Step, Tick, Token, WorkerId, WorkflowId, Xid};
use serde::{Deserialize, Serialize};

/// One event as a window delivers it. `workflow` is 0 in a plain queue, where `state` is the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    pub id: EventId,
    pub xid: Xid,
    pub workflow: WorkflowId,
    pub sequence: u32,
    pub step: Step,
    pub attempt: u16,
    pub state: u64,
}

/// Which transactions a snapshot sees: those below `xmax`, without the ones listed as in progress.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SnapshotOf<I> {
    pub xmax: Xid,
    pub in_progress: I,
}

/// Why the system under test refused; each has PostgreSQL's code for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The token is not the current one of this worker's lease.
    StaleToken,
    /// The decisions do not cover exactly the window.
    WindowMismatch,
    /// A queue of workflows has its one consumer already.
    OneConsumer,
    /// The worker asks for a window while it has one open.
    WindowOpen,
    /// The call belongs to the other kind of queue.
    WrongQueueKind,
    /// Workers and duties run at READ COMMITTED.
    IsolationLevel,
    /// A transaction that held a window commits without having handed it off.
    HeldWindow,
    /// The window is not isolated: it is read and handed off as a whole.
    NotIsolated,
    /// A tick inside a transaction that has written already.
    WroteBefore,
    /// The transaction failed earlier and takes nothing but its end.
    FailedTransaction,
    UniqueViolation,
    /// A rule of the application's forbids the row.
    CheckViolation,
    SerializationFailure,
    Deadlock,
    LockNotAvailable,
    /// No such queue, consumer, worker or savepoint.
    UndefinedObject,
}

impl Refusal {
    /// The SQLSTATE with which the server reports this refusal.
    pub const fn sqlstate(self) -> &'static str {
        match self {
            Refusal::StaleToken
            | Refusal::WindowMismatch
            | Refusal::WindowOpen
            | Refusal::HeldWindow
            | Refusal::NotIsolated => "55000",
            Refusal::OneConsumer => "42710",
            Refusal::WrongQueueKind => "42809",
            Refusal::IsolationLevel => "0A000",
            Refusal::WroteBefore => "25001",
            Refusal::FailedTransaction => "25P02",
            Refusal::UniqueViolation => "23505",
            Refusal::CheckViolation => "23514",
            Refusal::SerializationFailure => "40001",
            Refusal::Deadlock => "40P01",
            Refusal::LockNotAvailable => "55P03",
            Refusal::UndefinedObject => "42704",
        }
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Committed,
    Aborted,
    InProgress,
}

/// The answer to one [`Op`](crate::op::Op).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply<E, I> {
    /// Nothing to report beyond success.
    Done,
    /// `commit` of a transaction that had not failed.
    Committed,
    /// `rollback`, or `commit` of a transaction that had failed.
    RolledBack,
    Subscribed {
        cursor: Tick,
    },
    /// The event and the physical table (0 to 2) it went to.
    Appended {
        event: EventId,
        table: u8,
    },
    /// `event` is 0 if the key was known: then the workflow had been started before.
    Started {
        workflow: WorkflowId,
        event: EventId,
        table: u8,
    },
    Registered {
        worker: WorkerId,
    },
    /// The window (prev, next] under a token; `victim` is the worker it was taken over from, or 0. The events of an
    /// isolated window are handed out one by one.
    Claimed {
        token: Token,
        prev: Tick,
        next: Tick,
        victim: WorkerId,
        #[serde(default)]
        isolated: bool,
    },
    /// Nothing to claim; nothing that a tick would add.
    Idle,
    Events(E),
    /// One event of an isolated window, or none if the window is finished; how often it has been tried, this time
    /// included; and what was found to have no try left.
    HandedOut {
        events: E,
        tries: u16,
        dead: I,
    },
    /// One id for each decision that continues its workflow, in their order: an event's, or a timer's, which is that of
    /// the event that it will be; 0 for one that became a dead letter. And the tables that events and timers went to.
    HandedOff {
        appended: I,
        table: u8,
        #[serde(default)]
        timer_table: u8,
    },
    /// `event` will be appended when it is due.
    Scheduled {
        event: EventId,
        due: Micros,
        table: u8,
    },
    Cancelled,
    /// It has fired, or there is no such timer.
    TooLate,
    /// Timers that became events, and those that could not and became dead letters; `is_done` if nothing more is due at
    /// this tick.
    Drained {
        tick: Tick,
        fired: I,
        dead: I,
        table: u8,
        is_done: bool,
    },
    /// The timer table was truncated and is current now; what was not delivered moved to the other one.
    TimersRotated {
        table: u8,
        moved: u32,
    },
    /// More would have to be moved than has been delivered.
    TimersKept,
    /// `workflow` is 0 for a message.
    Replayed {
        workflow: WorkflowId,
        event: EventId,
        table: u8,
    },
    Ticked {
        tick: Tick,
        at: Micros,
        snapshot: SnapshotOf<I>,
    },
    /// The table was truncated and is current now; ticks below `horizon` are gone.
    Rotated {
        table: u8,
        horizon: Tick,
    },
    /// The oldest table holds events that somebody at tick `horizon` still needs.
    NotRotated {
        horizon: Tick,
    },
    Counted {
        rows: u32,
    },
    Resolved(Outcome),
    Refused(Refusal),
    /// No answer came: the connection was lost. Born in a target, never in an engine.
    Unknown,
}

impl<E, I> From<Refusal> for Reply<E, I> {
    fn from(refusal: Refusal) -> Self {
        Reply::Refused(refusal)
    }
}

impl<E, I> Reply<E, I> {
    /// The same reply with its lists held another way.
    pub fn map<E2, I2>(&self, events_as: impl FnOnce(&E) -> E2, mut ids_as: impl FnMut(&I) -> I2) -> Reply<E2, I2> {
        match *self {
            Reply::Done => Reply::Done,
            Reply::Committed => Reply::Committed,
            Reply::RolledBack => Reply::RolledBack,
            Reply::Subscribed { cursor } => Reply::Subscribed { cursor },
            Reply::Appended { event, table } => Reply::Appended { event, table },
            Reply::Started { workflow, event, table } => Reply::Started { workflow, event, table },
            Reply::Registered { worker } => Reply::Registered { worker },
            Reply::Claimed { token, prev, next, victim, isolated } => {
                Reply::Claimed { token, prev, next, victim, isolated }
            }
            Reply::Idle => Reply::Idle,
            Reply::Events(ref events) => Reply::Events(events_as(events)),
            Reply::HandedOut { ref events, tries, ref dead } => {
                Reply::HandedOut { events: events_as(events), tries, dead: ids_as(dead) }
            }
            Reply::HandedOff { ref appended, table, timer_table } => {
                Reply::HandedOff { appended: ids_as(appended), table, timer_table }
            }
            Reply::Scheduled { event, due, table } => Reply::Scheduled { event, due, table },
            Reply::Cancelled => Reply::Cancelled,
            Reply::TooLate => Reply::TooLate,
            Reply::Drained { tick, ref fired, ref dead, table, is_done } => {
                Reply::Drained { tick, fired: ids_as(fired), dead: ids_as(dead), table, is_done }
            }
            Reply::TimersRotated { table, moved } => Reply::TimersRotated { table, moved },
            Reply::TimersKept => Reply::TimersKept,
            Reply::Replayed { workflow, event, table } => Reply::Replayed { workflow, event, table },
            Reply::Ticked { tick, at, snapshot: SnapshotOf { xmax, ref in_progress } } => {
                Reply::Ticked { tick, at, snapshot: SnapshotOf { xmax, in_progress: ids_as(in_progress) } }
            }
            Reply::Rotated { table, horizon } => Reply::Rotated { table, horizon },
            Reply::NotRotated { horizon } => Reply::NotRotated { horizon },
            Reply::Counted { rows } => Reply::Counted { rows },
            Reply::Resolved(outcome) => Reply::Resolved(outcome),
            Reply::Refused(refusal) => Reply::Refused(refusal),
            Reply::Unknown => Reply::Unknown,
        }
    }
}
