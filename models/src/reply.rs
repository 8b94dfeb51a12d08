//! Replies: what the system under test answered, with the facts that the properties need.
//!
//! `E` is how a list of events is held, `I` a list of ids, `R` a list of results: a `Vec` between target and actor, a
//! [`Span`](crate::record::Span) in a history.

use crate::name::{EventId, Micros, Step, Tick, Token, WorkerId, WorkflowId, Xid};
use crate::serial::is_default;
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
    #[serde(default, skip_serializing_if = "is_default")]
    pub arrival: Arrival,
}

/// What a step's workflow had waited for before it, and what came of that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrival {
    /// Nothing, or for time to pass.
    #[default]
    Direct,
    /// Somebody emitted what it awaited.
    Emitted { payload: u64 },
    /// What it awaited had not been emitted by the deadline.
    TimedOut,
    /// All its children have ended; what they left is kept under this id, which is that of the first attempt's event.
    Joined { join: EventId },
}

/// How a child ended, as its parent is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildOutcome {
    Completed,
    Failed,
    /// As a dead letter.
    Dead,
}

/// What a child left; the result of a dead one is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChildResult {
    pub join: EventId,
    /// Among the children of its spawn, from 0.
    pub index: u16,
    pub outcome: ChildOutcome,
    pub result: u64,
}

/// What became of an emit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmitAnswer {
    /// It ended a wait.
    Resumed,
    /// Nobody waits yet; it is kept until somebody does.
    Promised,
    /// Another is kept already.
    Second,
    /// The wait asks for another token. Nothing is kept.
    Forged,
    /// No such workflow is alive. Nothing is kept.
    Dead,
}

/// How many workflows of a queue are alive, by what they wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LiveCounts {
    /// For a worker.
    pub ready: u32,
    /// For a timer.
    pub sleeping: u32,
    /// For an emit.
    pub waiting: u32,
    /// For their children.
    pub joining: u32,
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
    /// More than the engine takes: of children, of promises, of bytes.
    LimitExceeded,
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
            Refusal::LimitExceeded => "54000",
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
pub enum Reply<E, I, R> {
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
        /// As in [`Reply::HandedOff`], of the parents of what is dead.
        #[serde(default)]
        resumed: I,
        #[serde(default)]
        undeliverable: I,
        #[serde(default)]
        table: u8,
    },
    Results(R),
    /// One id for each decision that continues its workflow and each child, in their order: an event's, or that of the
    /// event that a timer, a wait or a join will be; 0 for one that became a dead letter. And the tables that events and
    /// timers went to.
    HandedOff {
        appended: I,
        /// The children, in the order of the decisions.
        #[serde(default)]
        children: I,
        /// What had been waited for is here: the ids of awaits and spawns of this handoff that became events at once, in
        /// the order of the decisions; then those of joins that it completed, in their order.
        #[serde(default)]
        resumed: I,
        /// Waits and joins that came to their end and could not become events: they are dead letters.
        #[serde(default)]
        undeliverable: I,
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
        /// As in [`Reply::HandedOff`], of the parents of what is dead.
        #[serde(default)]
        resumed: I,
        #[serde(default)]
        undeliverable: I,
        table: u8,
        is_done: bool,
    },
    /// `event` is the wait's continuation if it was resumed. A repetition answers as the first time, and has done nothing.
    Emitted {
        answer: EmitAnswer,
        repeated: bool,
        event: EventId,
        table: u8,
    },
    /// Waits that were resumed since their deadline had passed, in the order of their deadlines; and joins, as in
    /// [`Reply::HandedOff`], of the parents of what is dead.
    Expired {
        #[serde(default)]
        resumed: I,
        #[serde(default)]
        undeliverable: I,
        table: u8,
    },
    Observed(LiveCounts),
    /// The timer table was truncated and is current now; what was not delivered moved to the other one.
    TimersRotated {
        table: u8,
        moved: u32,
    },
    /// More would have to be moved than has been delivered.
    TimersKept,
    /// The audit's table was truncated and is current now.
    AuditRotated {
        table: u8,
    },
    /// It holds what is too young to go.
    AuditKept,
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

impl<E, I, R> From<Refusal> for Reply<E, I, R> {
    fn from(refusal: Refusal) -> Self {
        Reply::Refused(refusal)
    }
}

impl<E, I, R> Reply<E, I, R> {
    /// The same reply with its lists held another way.
    pub fn map<E2, I2, R2>(
        &self,
        events_as: impl FnOnce(&E) -> E2,
        mut ids_as: impl FnMut(&I) -> I2,
        results_as: impl FnOnce(&R) -> R2,
    ) -> Reply<E2, I2, R2> {
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
            Reply::HandedOut { ref events, tries, ref dead, ref resumed, ref undeliverable, table } => {
                Reply::HandedOut {
                    events: events_as(events),
                    tries,
                    dead: ids_as(dead),
                    resumed: ids_as(resumed),
                    undeliverable: ids_as(undeliverable),
                    table,
                }
            }
            Reply::Results(ref results) => Reply::Results(results_as(results)),
            Reply::HandedOff { ref appended, ref children, ref resumed, ref undeliverable, table, timer_table } => {
                Reply::HandedOff {
                    appended: ids_as(appended),
                    children: ids_as(children),
                    resumed: ids_as(resumed),
                    undeliverable: ids_as(undeliverable),
                    table,
                    timer_table,
                }
            }
            Reply::Scheduled { event, due, table } => Reply::Scheduled { event, due, table },
            Reply::Cancelled => Reply::Cancelled,
            Reply::TooLate => Reply::TooLate,
            Reply::Drained { tick, ref fired, ref dead, ref resumed, ref undeliverable, table, is_done } => {
                Reply::Drained {
                    tick,
                    fired: ids_as(fired),
                    dead: ids_as(dead),
                    resumed: ids_as(resumed),
                    undeliverable: ids_as(undeliverable),
                    table,
                    is_done,
                }
            }
            Reply::Emitted { answer, repeated, event, table } => Reply::Emitted { answer, repeated, event, table },
            Reply::Expired { ref resumed, ref undeliverable, table } => {
                Reply::Expired { resumed: ids_as(resumed), undeliverable: ids_as(undeliverable), table }
            }
            Reply::Observed(counts) => Reply::Observed(counts),
            Reply::TimersRotated { table, moved } => Reply::TimersRotated { table, moved },
            Reply::TimersKept => Reply::TimersKept,
            Reply::AuditRotated { table } => Reply::AuditRotated { table },
            Reply::AuditKept => Reply::AuditKept,
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
