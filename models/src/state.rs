//! What the tables hold, as a history tells it when its run ends: one row type a table.
//!
//! What it is not: a schema. The engine and the server keep their rows as suits them, and tell them as these.

use crate::name::{
    ActorId, Consumer, EmitId, EventId, Key, Micros, Name, Queue, Step, Tick, Token, WorkerId, WorkflowId, Xid,
};
use crate::op::QueueKind;
use crate::reply::{Arrival, ChildResult, EmitAnswer, Event, SnapshotOf};
use crate::serial::is_default;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// All rows at the end of a run, by name and id, each kind in the order of its key.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct State {
    pub queues: Vec<QueueRow>,
    pub ticks: Vec<TickRow>,
    pub subscriptions: Vec<SubscriptionRow>,
    pub workers: Vec<WorkerRow>,
    pub start_keys: Vec<StartKeyRow>,
    pub workflows: Vec<WorkflowRow>,
    pub events: Vec<EventRow>,
    pub ledger: Vec<LedgerRow>,
    #[serde(default)]
    pub timers: Vec<TimerRow>,
    #[serde(default)]
    pub drains: Vec<DrainRow>,
    #[serde(default)]
    pub tries: Vec<TriesRow>,
    #[serde(default)]
    pub dead_letters: Vec<DeadLetterRow>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cancelled: Vec<CancelledRow>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boxes: Vec<BoxRow>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emits: Vec<EmitRow>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joins: Vec<JoinRow>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<ChildResult>,
    /// Table by table, each in the order in which it was written, as far as rotations have left it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audit: Vec<AuditRow>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QueueRow {
    pub queue: Queue,
    pub kind: QueueKind,
    pub current_table: u8,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TickRow {
    pub queue: Queue,
    pub tick: Tick,
    pub at: Micros,
    pub snapshot: SnapshotOf<Vec<u32>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SubscriptionRow {
    pub queue: Queue,
    pub consumer: Consumer,
    pub cursor: Tick,
}

/// A lease; `window` is none while the worker has nothing open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WorkerRow {
    pub worker: WorkerId,
    pub consumer: Consumer,
    pub window: Option<(Token, Tick, Tick)>,
    pub heartbeat: Micros,
    pub crashes: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StartKeyRow {
    pub queue: Queue,
    pub key: Key,
    pub workflow: WorkflowId,
}

/// A live workflow. Nobody started a child under a key, nor what a replay began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WorkflowRow {
    pub workflow: WorkflowId,
    pub queue: Queue,
    pub key: Option<Key>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub parent: Option<Parent>,
}

/// To which join a workflow reports, as which child.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Parent {
    pub join: EventId,
    pub index: u16,
}

/// What is between a workflow and those who emit a name to it: one row for both.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BoxRow {
    pub workflow: WorkflowId,
    pub name: Name,
    #[serde(default)]
    pub since: Micros,
    /// Of a token, where one is asked for or was shown: what tells two tokens apart.
    pub token_hash: Option<u64>,
    pub content: BoxContent,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxContent {
    /// The workflow waits; and what it goes on as.
    Wait { event: EventId, sequence: u32, step: Step, state: u64, deadline: Option<Micros> },
    /// Nobody waits yet.
    Promise { payload: u64 },
}

/// An emit that was taken, for as long as its workflow lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EmitRow {
    pub workflow: WorkflowId,
    pub emit: EmitId,
    pub answer: EmitAnswer,
}

/// A workflow that waits for its children; and what it goes on as.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinRow {
    pub join: EventId,
    pub workflow: WorkflowId,
    #[serde(default)]
    pub since: Micros,
    pub sequence: u32,
    pub step: Step,
    pub state: u64,
    pub total: u32,
    pub ended: u32,
}

/// What somebody did to a workflow from outside, or what was thrown away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditRow {
    /// Which of the two.
    #[serde(default, skip_serializing_if = "is_default")]
    pub table: u8,
    pub at: Micros,
    /// None if it was the engine itself.
    pub actor: Option<ActorId>,
    pub act: Act,
    pub workflow: WorkflowId,
    pub name: Name,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Somebody emitted, and was answered this.
    Emit(EmitAnswer),
    /// A wait found a promise without the token that it asks for, and threw it away.
    Discard,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EventRow {
    pub queue: Queue,
    pub table: u8,
    pub event: Event,
}

/// An event that is not due yet, or was delivered and lies there until its table is truncated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TimerRow {
    pub queue: Queue,
    pub table: u8,
    pub due: Micros,
    /// As it will be appended; its xid is that of who scheduled it.
    pub event: Event,
}

/// A timer that was cancelled, until the table in which it lay is truncated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CancelledRow {
    pub queue: Queue,
    pub table: u8,
    pub event: EventId,
}

/// How far a queue's timers are delivered: all that were due at tick `done`, and of those due at tick `open` all up to
/// the position.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DrainRow {
    pub queue: Queue,
    pub current_table: u8,
    pub done: Tick,
    pub open: Option<Tick>,
    pub position: Option<(Micros, EventId)>,
}

/// An event of an isolated window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TriesRow {
    pub consumer: Consumer,
    pub event: EventId,
    pub tries: u16,
    pub is_done: bool,
}

/// Why an event became a dead letter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    /// Its step was retried as often as it may be.
    Attempts,
    /// Alone in isolation it was tried as often as may be, and never ended.
    Tries,
    /// Nobody has code for its step.
    Rejected,
    /// A timer that could not become an event.
    Undeliverable,
}

/// `consumer` is that of the window; that of the queue for a timer of a workflow, 0 for one of a plain queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeadLetterRow {
    pub queue: Queue,
    pub consumer: Consumer,
    pub event: EventId,
    pub reason: DeadReason,
    pub sequence: u32,
    pub step: Step,
    pub attempt: u16,
    pub state: u64,
    /// The event that it lives on as; 0 as long as nobody has replayed it.
    pub replayed_as: EventId,
    #[serde(default, skip_serializing_if = "is_default")]
    pub arrival: Arrival,
    #[serde(default, skip_serializing_if = "is_default")]
    pub parent: Option<Parent>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LedgerRow {
    pub workflow: WorkflowId,
    pub sequence: u32,
    pub step: Step,
    pub xid: Xid,
}
