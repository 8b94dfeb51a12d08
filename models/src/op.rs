//! Operations: what one client statement asks of the system under test.
//!
//! One [`Op`] is one statement, and so one point between which crashes, pauses and other sessions fall. `D` is how
//! a list of decisions is held: a `Vec` between actor and target, a [`Span`](crate::record::Span) in a history.

use crate::name::{
    ActorId, Consumer, EmitId, EventId, Key, Micros, Name, Queue, Step, Token, WaitToken, WorkerId, WorkflowId, Xid,
};
use crate::reply::Arrival;
use crate::serial::is_default;
use serde::{Deserialize, Serialize};

/// The two isolation levels that applications use; what workers and duties call refuses the second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    ReadCommitted,
    RepeatableRead,
}

/// A plain queue carries messages to any number of consumers; a queue of workflows has exactly one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueKind {
    Plain,
    Workflow,
}

/// Table lock modes that this engine, or maintenance beside it, takes. In order of strength.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableLock {
    AccessShare,
    RowShare,
    RowExclusive,
    Share,
    AccessExclusive,
}

/// What a worker decided for one event of its window.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// A plain event was dealt with.
    Acknowledge,
    /// The workflow continues with another step.
    Goto,
    /// The workflow continues with another step after a delay.
    Sleep,
    /// The same step again, after a delay or at once; a dead letter if its attempts are used up.
    Retry,
    /// The workflow continues when somebody emits a name to it, or its deadline passes.
    Await,
    /// The workflow continues when all its children have ended.
    Spawn,
    /// No decision of its own: one child of the spawn that is decided for the same event.
    Child,
    /// The workflow ends.
    Complete,
    /// The workflow ends, and has failed.
    Fail,
    /// Nobody has code for this step: a dead letter.
    Reject,
}

impl Verb {
    /// Whether a handoff's reply has an id for it: that of what follows, or of a child's first event.
    pub const fn has_id(self) -> bool {
        self.continues() || matches!(self, Verb::Child)
    }

    /// Whether the workflow goes on, attempts permitting.
    pub const fn continues(self) -> bool {
        matches!(self, Verb::Goto | Verb::Sleep | Verb::Retry | Verb::Await | Verb::Spawn)
    }
}

/// One decision; `workflow`, `sequence`, `step`, `attempt` and `state` are those of the successor (unused by
/// `Acknowledge`). The `state` of what ends a workflow is its result. A `Child` has no workflow yet, and its place among
/// the children of its spawn, from 0, as its sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Decision {
    pub event: EventId,
    pub verb: Verb,
    pub workflow: WorkflowId,
    pub sequence: u32,
    pub step: Step,
    #[serde(default = "first_attempt")]
    pub attempt: u16,
    /// How often a step that is retried may be attempted in all; 0 for other verbs.
    #[serde(default)]
    pub max_attempts: u16,
    /// From the handoff on, on the server's clock: how long until the successor is due. Of what is awaited, until the
    /// deadline passes; 0 if there is none.
    #[serde(default)]
    pub delay: Micros,
    pub state: u64,
    /// Of a retry: what came of the wait that led to the step, which its next attempt is told again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub arrival: Arrival,
    /// What is awaited.
    #[serde(default = "first_name", skip_serializing_if = "is_first_name")]
    pub name: Name,
    /// What whoever emits that must show.
    #[serde(default, skip_serializing_if = "is_default")]
    pub token: WaitToken,
}

impl Decision {
    /// One that says what becomes of an event, and nothing of what follows.
    pub const fn new(event: EventId, verb: Verb) -> Self {
        Decision {
            event,
            verb,
            workflow: WorkflowId(0),
            sequence: 0,
            step: Step(0),
            attempt: first_attempt(),
            max_attempts: 0,
            delay: Micros(0),
            state: 0,
            arrival: Arrival::Direct,
            name: first_name(),
            token: WaitToken::NONE,
        }
    }
}

const fn first_attempt() -> u16 {
    1
}

const fn first_name() -> Name {
    Name(0)
}

const fn is_first_name(name: &Name) -> bool {
    name.0 == 0
}

/// One statement of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op<D> {
    Begin {
        isolation: Isolation,
    },
    Savepoint {
        level: u8,
    },
    RollbackTo {
        level: u8,
    },
    Commit,
    Rollback,

    CreateQueue {
        queue: Queue,
        kind: QueueKind,
    },
    Subscribe {
        queue: Queue,
        consumer: Consumer,
    },

    /// Appends a message to a plain queue, inside the caller's transaction.
    Append {
        queue: Queue,
        payload: u64,
    },
    /// Starts a workflow, inside the caller's transaction; idempotent by key.
    Start {
        queue: Queue,
        key: Key,
        step: Step,
        state: u64,
    },
    /// Appends a message to a plain queue when the delay is over, inside the caller's transaction.
    Schedule {
        queue: Queue,
        payload: u64,
        delay: Micros,
    },
    /// Takes back what was scheduled, unless it has fired.
    Cancel {
        queue: Queue,
        event: EventId,
        due: Micros,
    },
    /// Tells a workflow something that it awaits, or will await, inside the caller's transaction; idempotent by its id.
    /// Workflow 0 stands for the one that the caller started last.
    Emit {
        workflow: WorkflowId,
        name: Name,
        payload: u64,
        emit: EmitId,
        #[serde(default)]
        token: WaitToken,
        actor: ActorId,
    },
    /// A step's effect: a row in the application's ledger, which has no unique key, so that a double effect shows.
    Effect {
        workflow: WorkflowId,
        sequence: u32,
        step: Step,
    },

    Register {
        consumer: Consumer,
    },
    Heartbeat {
        worker: WorkerId,
        token: Token,
        /// What the caller takes for the time, here and below: the engine does not go by it.
        #[serde(default)]
        at: Micros,
    },
    /// Asks for a window: a stale one of another worker if there is one, else the next one that is not empty.
    Claim {
        worker: WorkerId,
        dead_interval: Micros,
        #[serde(default)]
        at: Micros,
    },
    /// The first half of a claim: a stale window of another worker, if there is one.
    TakeOver {
        worker: WorkerId,
        dead_interval: Micros,
        #[serde(default)]
        at: Micros,
    },
    /// A page of at most `limit` events of the open window, by id, after `after` (0: from the start).
    Read {
        worker: WorkerId,
        token: Token,
        after: EventId,
        limit: u32,
    },
    /// One event of an isolated window, alone; counts the try. No event: the window is finished.
    HandOut {
        worker: WorkerId,
        token: Token,
        max_tries: u16,
    },
    /// What the children left whose joins the open window's events come from.
    ReadResults {
        worker: WorkerId,
        token: Token,
    },
    /// Locks the worker's lease until the transaction ends, which it must do by handing the window off.
    Hold {
        worker: WorkerId,
        token: Token,
        #[serde(default)]
        at: Micros,
    },
    /// Finishes the open window: successors and acknowledgement, in one statement.
    Handoff {
        worker: WorkerId,
        token: Token,
        decisions: D,
    },

    /// Ends a window and starts the next; nothing if the queue is idle.
    Tick {
        queue: Queue,
    },
    Rotate {
        queue: Queue,
        lock_timeout: Micros,
    },

    /// Delivers timers that are due at a tick, at most so many.
    Drain {
        queue: Queue,
        limit: u32,
    },
    /// Empties the older timer table, and makes it current.
    RotateTimers {
        queue: Queue,
        lock_timeout: Micros,
    },
    /// Resumes waits whose deadline has passed, at most so many.
    ExpireWaits {
        queue: Queue,
        limit: u32,
    },
    /// Empties the audit's older table, if nothing in it is younger than `keep`, and makes it current.
    RotateAudit {
        keep: Micros,
        lock_timeout: Micros,
    },
    /// Counts a queue's live workflows by what they wait for.
    Observe {
        queue: Queue,
    },
    /// Gives a dead letter another life: as a message, or as a workflow of its own.
    ReplayDeadLetter {
        consumer: Consumer,
        event: EventId,
    },

    /// An application's read of one of the three event tables: a table lock, and under REPEATABLE READ the snapshot.
    Peek {
        queue: Queue,
        table: u8,
    },
    /// Maintenance's lock on one of the three event tables.
    LockTable {
        queue: Queue,
        table: u8,
        mode: TableLock,
    },
    /// Asks what became of a transaction whose commit was never answered.
    Resolve {
        xid: Xid,
    },
}

impl<D> Op<D> {
    /// The same operation with its decisions held another way.
    pub fn map<D2>(&self, decisions_as: impl FnOnce(&D) -> D2) -> Op<D2> {
        match *self {
            Op::Begin { isolation } => Op::Begin { isolation },
            Op::Savepoint { level } => Op::Savepoint { level },
            Op::RollbackTo { level } => Op::RollbackTo { level },
            Op::Commit => Op::Commit,
            Op::Rollback => Op::Rollback,
            Op::CreateQueue { queue, kind } => Op::CreateQueue { queue, kind },
            Op::Subscribe { queue, consumer } => Op::Subscribe { queue, consumer },
            Op::Append { queue, payload } => Op::Append { queue, payload },
            Op::Start { queue, key, step, state } => Op::Start { queue, key, step, state },
            Op::Schedule { queue, payload, delay } => Op::Schedule { queue, payload, delay },
            Op::Cancel { queue, event, due } => Op::Cancel { queue, event, due },
            Op::Emit { workflow, name, payload, emit, token, actor } => {
                Op::Emit { workflow, name, payload, emit, token, actor }
            }
            Op::Effect { workflow, sequence, step } => Op::Effect { workflow, sequence, step },
            Op::Register { consumer } => Op::Register { consumer },
            Op::Heartbeat { worker, token, at } => Op::Heartbeat { worker, token, at },
            Op::Claim { worker, dead_interval, at } => Op::Claim { worker, dead_interval, at },
            Op::TakeOver { worker, dead_interval, at } => Op::TakeOver { worker, dead_interval, at },
            Op::Read { worker, token, after, limit } => Op::Read { worker, token, after, limit },
            Op::HandOut { worker, token, max_tries } => Op::HandOut { worker, token, max_tries },
            Op::ReadResults { worker, token } => Op::ReadResults { worker, token },
            Op::Hold { worker, token, at } => Op::Hold { worker, token, at },
            Op::Handoff { worker, token, ref decisions } => {
                Op::Handoff { worker, token, decisions: decisions_as(decisions) }
            }
            Op::Tick { queue } => Op::Tick { queue },
            Op::Rotate { queue, lock_timeout } => Op::Rotate { queue, lock_timeout },
            Op::Drain { queue, limit } => Op::Drain { queue, limit },
            Op::RotateTimers { queue, lock_timeout } => Op::RotateTimers { queue, lock_timeout },
            Op::ExpireWaits { queue, limit } => Op::ExpireWaits { queue, limit },
            Op::RotateAudit { keep, lock_timeout } => Op::RotateAudit { keep, lock_timeout },
            Op::Observe { queue } => Op::Observe { queue },
            Op::ReplayDeadLetter { consumer, event } => Op::ReplayDeadLetter { consumer, event },
            Op::Peek { queue, table } => Op::Peek { queue, table },
            Op::LockTable { queue, table, mode } => Op::LockTable { queue, table, mode },
            Op::Resolve { xid } => Op::Resolve { xid },
        }
    }

    /// What the caller takes for the time, if the call says so.
    pub const fn caller_clock(&self) -> Micros {
        match *self {
            Op::Heartbeat { at, .. } | Op::Claim { at, .. } | Op::TakeOver { at, .. } | Op::Hold { at, .. } => at,
            _ => Micros(0),
        }
    }

    /// Whether this statement only moves between transactions, and asks nothing of the engine.
    pub const fn is_transaction_control(&self) -> bool {
        matches!(self, Op::Begin { .. } | Op::Savepoint { .. } | Op::RollbackTo { .. } | Op::Commit | Op::Rollback)
    }
}
