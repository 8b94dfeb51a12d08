//! The engine's tables: the Rust twin of `sql/schema.sql`, and the application's ledger beside them.
//!
//! What is in the rows is told there. Only here: a tick also remembers how far each event table had come, which
//! stands for the server's index on `xid`; timer tables have that index themselves.

use crate::store::Tables;
use crate::store::appends::{Appends, Extent};
use crate::store::index::{Any, Ascending, Ordinal};
use crate::store::locks::Slot;
use crate::store::ordered::{Keyed, Ordered};
use crate::store::rows::{Row, Rows};
use crate::store::snapshot::Snapshot;
use crate::store::statement::Has;
use crate::store::transaction::{Transactions, TxRef, Undo};
use tourbillon_models::name::{
    Consumer, EmitId, EventId, Key, Micros, Name, Queue, Step, Tick, Token, WorkerId, WorkflowId, Xid,
};
use tourbillon_models::op::QueueKind;
use tourbillon_models::reply::{ChildResult, EmitAnswer, Event, Refusal};
use tourbillon_models::state::{AuditRow, BoxContent, DeadReason, LedgerRow, Parent};

/// At most so many queues; their names are below it.
pub const QUEUES: usize = 4;
/// No event may have this state: a rule of the application's, which on the server is a constraint in `sql/workload.sql`.
pub const FORBIDDEN_STATE: u64 = u64::MAX;
/// Event tables of one queue.
pub const EVENT_TABLES: usize = 3;
/// Timer tables of one queue.
pub const TIMER_TABLES: usize = 2;
/// Tables of the audit.
pub const AUDIT_TABLES: usize = 2;

pub const LEDGER: u8 = 6;
const FIRST_EVENT_TABLE: u8 = 7;
const FIRST_TIMER_TABLE: u8 = FIRST_EVENT_TABLE + (QUEUES * EVENT_TABLES) as u8;
const DRAIN: u8 = FIRST_TIMER_TABLE + (QUEUES * TIMER_TABLES) as u8;
const TRIES: u8 = DRAIN + 1;
const DEAD_LETTERS: u8 = DRAIN + 2;
const CANCELLED: u8 = DRAIN + 3;
const BOXES: u8 = DRAIN + 4;
const EMITTED: u8 = DRAIN + 5;
const OPEN_JOINS: u8 = DRAIN + 6;
const RESULTS: u8 = DRAIN + 7;
const AUDIT_CURSOR: u8 = DRAIN + 8;
const FIRST_AUDIT_TABLE: u8 = DRAIN + 9;

/// The number of one of a queue's event tables.
pub const fn event_table(queue: Queue, table: u8) -> u8 {
    FIRST_EVENT_TABLE + queue.0 * EVENT_TABLES as u8 + table
}

/// The number of one of a queue's timer tables.
pub const fn timer_table(queue: Queue, table: u8) -> u8 {
    FIRST_TIMER_TABLE + queue.0 * TIMER_TABLES as u8 + table
}

/// The number of one of the audit's tables.
pub const fn audit_table(table: u8) -> u8 {
    FIRST_AUDIT_TABLE + table
}

#[derive(Clone, Debug)]
pub struct QueueRow {
    pub queue: Queue,
    pub kind: QueueKind,
    /// A hint to producers; a window reads all tables.
    pub current_table: u8,
}

#[derive(Clone, Debug)]
pub struct TickRow {
    pub queue: Queue,
    pub tick: Tick,
    pub at: Micros,
    pub snapshot: Snapshot,
    /// The last event id drawn before the snapshot was taken, in any queue.
    pub last_event: EventId,
    pub extents: [Extent; EVENT_TABLES],
}

#[derive(Clone, Debug)]
pub struct SubscriptionRow {
    pub consumer: Consumer,
    pub queue: Queue,
    pub cursor: Tick,
}

/// A window that a worker has open: (prev, next], under a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    pub token: Token,
    pub prev: Tick,
    pub next: Tick,
}

/// A lease.
#[derive(Clone, Debug)]
pub struct WorkerRow {
    pub worker: WorkerId,
    pub consumer: Consumer,
    pub window: Option<Window>,
    pub heartbeat: Micros,
    pub crashes: u32,
    /// The transaction that held the window and has not handed it off.
    pub held: Option<TxRef>,
}

#[derive(Clone, Debug)]
pub struct StartKeyRow {
    pub queue: Queue,
    pub key: Key,
    pub workflow: WorkflowId,
}

#[derive(Clone, Debug)]
pub struct WorkflowRow {
    pub workflow: WorkflowId,
    pub queue: Queue,
    /// None for a child, and for what a replay began.
    pub key: Option<Key>,
    pub parent: Option<Parent>,
}

/// What is between a workflow and those who emit a name to it.
#[derive(Clone, Debug)]
pub struct BoxRow {
    pub workflow: WorkflowId,
    pub name: Name,
    pub queue: Queue,
    pub since: Micros,
    pub token_hash: Option<u64>,
    pub content: BoxContent,
    /// A wait that is kept apart from promises, where the two are not one row.
    pub is_apart: bool,
    /// Of a promise that time may drop.
    pub dropped_at: Option<Micros>,
}

/// An emit that was taken, and what it was answered; none until its transaction knows.
#[derive(Clone, Debug)]
pub struct EmittedRow {
    pub workflow: WorkflowId,
    pub emit: EmitId,
    pub answer: Option<EmitAnswer>,
}

/// A workflow that waits for its children; and what it goes on as.
#[derive(Clone, Debug)]
pub struct OpenJoinRow {
    pub join: EventId,
    pub workflow: WorkflowId,
    pub queue: Queue,
    pub since: Micros,
    pub sequence: u32,
    pub step: Step,
    pub state: u64,
    pub total: u32,
    pub ended: u32,
}

/// What a child left, until its parent has handed the step off that reads it.
#[derive(Clone, Debug)]
pub struct ResultRow(pub ChildResult);

/// An event of an isolated window: how often it was handed out, and whether it was handed off.
#[derive(Clone, Debug)]
pub struct TriesRow {
    pub consumer: Consumer,
    pub event: EventId,
    pub tries: u16,
    pub is_done: bool,
}

/// An event that will not be delivered again. Who consumes a queue of messages has his own; nobody has that of a timer that
/// could not become a message.
#[derive(Clone, Debug)]
pub struct DeadLetterRow {
    pub queue: Queue,
    pub consumer: Option<Consumer>,
    pub event: Event,
    pub reason: DeadReason,
    /// Of the workflow that ended with it.
    pub parent: Option<Parent>,
    /// 0 until it is replayed.
    pub replayed_as: EventId,
}

/// An event that is not due yet, or was delivered and lies there until its table is truncated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timer {
    pub due: Micros,
    /// As it will be appended; its xid is that of the transaction that scheduled it.
    pub event: Event,
}

impl Keyed for Timer {
    type Key = (Micros, EventId);

    fn key(&self) -> (Micros, EventId) {
        (self.due, self.event.id)
    }

    fn xid(&self) -> Xid {
        self.event.xid
    }
}

/// What a drain goes by of a tick; a copy, so that the tick itself may go.
#[derive(Clone, Debug)]
pub struct Edge {
    pub tick: Tick,
    pub at: Micros,
    pub snapshot: Snapshot,
}

impl From<&TickRow> for Edge {
    fn from(row: &TickRow) -> Edge {
        Edge { tick: row.tick, at: row.at, snapshot: row.snapshot.clone() }
    }
}

/// The cursor of a queue's timers: all that were due in `done` are delivered, and of those due in `open` all up to
/// the position.
#[derive(Clone, Debug)]
pub struct DrainRow {
    pub queue: Queue,
    /// A hint to those who schedule; a drain reads both tables.
    pub current_table: u8,
    pub done: Edge,
    pub open: Option<Edge>,
    pub position: Option<(Micros, EventId)>,
    /// Of [`crate::designs::delayed_rotation`], and of nobody else.
    pub watermark: Micros,
    pub window_end: Micros,
}

/// A timer that was cancelled, and the table that it lay in, until that is truncated.
#[derive(Clone, Debug)]
pub struct CancelledRow {
    pub queue: Queue,
    pub table: u8,
    pub event: EventId,
}

/// There is one.
#[derive(Clone, Debug)]
pub struct AuditCursorRow {
    /// A hint to those who write the audit.
    pub current_table: u8,
}

/// The sequences, by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sequence {
    EventId,
    TickNumber,
    WorkerId,
    /// Drawn from only where tokens are not random.
    Token,
}

/// One database.
#[derive(Default)]
pub struct Schema {
    queues: Rows<QueueRow>,
    ticks: Rows<TickRow>,
    subscriptions: Rows<SubscriptionRow>,
    workers: Rows<WorkerRow>,
    start_keys: Rows<StartKeyRow>,
    workflows: Rows<WorkflowRow>,
    tries: Rows<TriesRow>,
    dead_letters: Rows<DeadLetterRow>,
    drains: Rows<DrainRow>,
    cancelled: Rows<CancelledRow>,
    boxes: Rows<BoxRow>,
    emitted: Rows<EmittedRow>,
    open_joins: Rows<OpenJoinRow>,
    results: Rows<ResultRow>,
    audit_cursors: Rows<AuditCursorRow>,
    pub audit: [Appends<AuditRow>; AUDIT_TABLES],
    pub ledger: Appends<LedgerRow>,
    pub events: [[Appends<Event>; EVENT_TABLES]; QUEUES],
    pub timers: [[Ordered<Timer>; TIMER_TABLES]; QUEUES],
    /// No lease with a window has had a heartbeat before this time, whoever looks: stands for an index on heartbeats.
    pub no_heartbeat_before: Micros,
}

macro_rules! table {
    ($row:ty, $field:ident, $number:expr, $index:ident<$key:ty>, |$this:ident| $value:expr) => {
        impl Row for $row {
            type Key = $key;
            type Index = $index<$key>;
            const TABLE: u8 = $number;

            fn key(&self) -> $key {
                let $this = self;
                $value
            }
        }

        impl Has<$row> for Schema {
            fn rows(&self) -> &Rows<$row> {
                &self.$field
            }

            fn rows_mut(&mut self) -> &mut Rows<$row> {
                &mut self.$field
            }
        }
    };
}

table!(QueueRow, queues, 0, Any<Queue>, |row| row.queue);
table!(TickRow, ticks, 1, Ascending<(Queue, Tick)>, |row| (row.queue, row.tick));
table!(SubscriptionRow, subscriptions, 2, Any<Consumer>, |row| row.consumer);
table!(WorkerRow, workers, 3, Ascending<WorkerId>, |row| row.worker);
table!(StartKeyRow, start_keys, 4, Any<(Queue, Key)>, |row| (row.queue, row.key));
table!(WorkflowRow, workflows, 5, Ascending<WorkflowId>, |row| row.workflow);
table!(TriesRow, tries, TRIES, Any<(Consumer, EventId)>, |row| (row.consumer, row.event));
table!(DeadLetterRow, dead_letters, DEAD_LETTERS, Any<(Option<Consumer>, EventId)>, |row| (row.consumer, row.event.id));
table!(DrainRow, drains, DRAIN, Any<Queue>, |row| row.queue);
table!(CancelledRow, cancelled, CANCELLED, Any<(Queue, EventId)>, |row| (row.queue, row.event));

table!(BoxRow, boxes, BOXES, Any<(WorkflowId, Name, bool)>, |row| (row.workflow, row.name, row.is_apart));
table!(EmittedRow, emitted, EMITTED, Any<(WorkflowId, EmitId)>, |row| (row.workflow, row.emit));
table!(OpenJoinRow, open_joins, OPEN_JOINS, Any<EventId>, |row| row.join);
table!(AuditCursorRow, audit_cursors, AUDIT_CURSOR, Any<()>, |_row| ());
table!(ResultRow, results, RESULTS, Any<(EventId, u16)>, |row| (row.0.join, row.0.index));

impl Ordinal for (Queue, Tick) {
    fn ordinal(self) -> u64 {
        u64::from(self.0.0) << 32 | u64::from(self.1.0)
    }
}

impl Ordinal for WorkflowId {
    fn ordinal(self) -> u64 {
        self.0.into()
    }
}

impl Ordinal for WorkerId {
    fn ordinal(self) -> u64 {
        self.0.into()
    }
}

impl Schema {
    fn number_tables(&mut self) {
        self.ledger.table = LEDGER;
        (FIRST_AUDIT_TABLE..).zip(&mut self.audit).for_each(|(number, lines)| lines.table = number);
        let events = self.events.iter_mut().flatten();
        (FIRST_EVENT_TABLE..).zip(events).for_each(|(number, events)| events.table = number);
        let timers = self.timers.iter_mut().flatten();
        (FIRST_TIMER_TABLE..).zip(timers).for_each(|(number, timers)| timers.table = number);
    }

    /// The table of the audit of this number, if it is one.
    fn audit(&mut self, table: u8) -> Option<&mut Appends<AuditRow>> {
        self.audit.get_mut(table.checked_sub(FIRST_AUDIT_TABLE)? as usize)
    }

    fn appends(&mut self, table: u8) -> &mut Appends<Event> {
        let index = (table - FIRST_EVENT_TABLE) as usize;
        &mut self.events[index / EVENT_TABLES][index % EVENT_TABLES]
    }

    /// The timer table of this number, if it is one.
    fn timers(&mut self, table: u8) -> Option<&mut Ordered<Timer>> {
        let index = table.checked_sub(FIRST_TIMER_TABLE)? as usize;
        self.timers.get_mut(index / TIMER_TABLES)?.get_mut(index % TIMER_TABLES)
    }

    fn undo_timer(timers: &mut Ordered<Timer>, change: Undo) {
        match change {
            Undo::Append { position, .. } => timers.undo_append(position as u32),
            Undo::Delete { row, .. } => timers.undo_delete(row),
            Undo::Truncate { .. } => timers.undo_truncate(),
            Undo::Insert { .. } | Undo::Update { .. } | Undo::Lock { .. } => unreachable!("not a change of a timer"),
        }
    }

    fn undo_audit(audit: &mut Appends<AuditRow>, change: Undo) {
        match change {
            Undo::Append { position, .. } => audit.undo_append(position),
            Undo::Truncate { .. } => audit.undo_truncate(),
            _ => unreachable!("not a change of the audit"),
        }
    }

    fn settle_timer(timers: &mut Ordered<Timer>, change: Undo) {
        match change {
            Undo::Delete { row, .. } => timers.forget_deleted(row),
            Undo::Truncate { .. } => timers.forget_truncated(),
            _ => {}
        }
    }

    fn undo_row<R: Row>(rows: &mut Rows<R>, change: Undo) {
        match change {
            Undo::Insert { row, .. } => rows.undo_insert(row),
            Undo::Update { row, .. } => rows.undo_update(row),
            Undo::Delete { row, .. } => rows.undo_delete(row),
            Undo::Append { .. } | Undo::Truncate { .. } | Undo::Lock { .. } => unreachable!("not a change of a row"),
        }
    }
}

impl Tables for Schema {
    const COUNT: usize = FIRST_AUDIT_TABLE as usize + AUDIT_TABLES;
    const SEQUENCES: usize = 4;

    fn undo(&mut self, change: Undo) {
        if let Some(timers) = change.table().and_then(|table| self.timers(table)) {
            return Schema::undo_timer(timers, change);
        }
        if let Some(audit) = change.table().and_then(|table| self.audit(table)) {
            return Schema::undo_audit(audit, change);
        }
        match change {
            Undo::Append { table: LEDGER, position } => self.ledger.undo_append(position),
            Undo::Append { table, position } => self.appends(table).undo_append(position),
            Undo::Truncate { table } => self.appends(table).undo_truncate(),
            Undo::Insert { table, .. } | Undo::Update { table, .. } | Undo::Delete { table, .. } => match table {
                QueueRow::TABLE => Schema::undo_row(&mut self.queues, change),
                TickRow::TABLE => Schema::undo_row(&mut self.ticks, change),
                SubscriptionRow::TABLE => Schema::undo_row(&mut self.subscriptions, change),
                WorkerRow::TABLE => Schema::undo_row(&mut self.workers, change),
                StartKeyRow::TABLE => Schema::undo_row(&mut self.start_keys, change),
                WorkflowRow::TABLE => Schema::undo_row(&mut self.workflows, change),
                TriesRow::TABLE => Schema::undo_row(&mut self.tries, change),
                DeadLetterRow::TABLE => Schema::undo_row(&mut self.dead_letters, change),
                DrainRow::TABLE => Schema::undo_row(&mut self.drains, change),
                CancelledRow::TABLE => Schema::undo_row(&mut self.cancelled, change),
                BoxRow::TABLE => Schema::undo_row(&mut self.boxes, change),
                EmittedRow::TABLE => Schema::undo_row(&mut self.emitted, change),
                OpenJoinRow::TABLE => Schema::undo_row(&mut self.open_joins, change),
                ResultRow::TABLE => Schema::undo_row(&mut self.results, change),
                AuditCursorRow::TABLE => Schema::undo_row(&mut self.audit_cursors, change),
                _ => unreachable!("table {table} has no rows"),
            },
            Undo::Lock { .. } => unreachable!("locks are the store's"),
        }
    }

    fn settle(&mut self, change: Undo) {
        if let Some(timers) = change.table().and_then(|table| self.timers(table)) {
            return Schema::settle_timer(timers, change);
        }
        match change {
            Undo::Delete { table: TickRow::TABLE, row } => self.ticks.reclaim(row),
            Undo::Delete { table: WorkflowRow::TABLE, row } => self.workflows.reclaim(row),
            Undo::Delete { table: TriesRow::TABLE, row } => self.tries.reclaim(row),
            Undo::Delete { table: CancelledRow::TABLE, row } => self.cancelled.reclaim(row),
            Undo::Delete { table: BoxRow::TABLE, row } => self.boxes.reclaim(row),
            Undo::Delete { table: EmittedRow::TABLE, row } => self.emitted.reclaim(row),
            Undo::Delete { table: OpenJoinRow::TABLE, row } => self.open_joins.reclaim(row),
            Undo::Delete { table: ResultRow::TABLE, row } => self.results.reclaim(row),
            Undo::Truncate { table } => match self.audit(table) {
                Some(audit) => audit.forget_truncated(),
                None => self.appends(table).forget_truncated(),
            },
            _ => {}
        }
    }

    /// A transaction that held a window must have handed it off.
    fn refuse_commit(&self, change: Undo, transactions: &Transactions, me: Slot) -> Option<Refusal> {
        let Undo::Update { table: WorkerRow::TABLE, row } = change else { return None };
        let held = self.workers.newest(row).held.filter(|tx| transactions.is_mine(*tx, me));
        held.map(|_| Refusal::HeldWindow)
    }

    fn forget_conclusions(&mut self) {
        self.no_heartbeat_before = Micros(0);
    }

    fn clear(&mut self) {
        self.queues.clear();
        self.ticks.clear();
        self.subscriptions.clear();
        self.workers.clear();
        self.start_keys.clear();
        self.workflows.clear();
        self.tries.clear();
        self.dead_letters.clear();
        self.drains.clear();
        self.cancelled.clear();
        self.boxes.clear();
        self.emitted.clear();
        self.open_joins.clear();
        self.results.clear();
        self.audit.iter_mut().for_each(Appends::clear);
        self.audit_cursors.clear();
        self.audit_cursors.install(AuditCursorRow { current_table: 0 });
        self.ledger.clear();
        self.events.iter_mut().flatten().for_each(Appends::clear);
        self.timers.iter_mut().flatten().for_each(Ordered::clear);
        self.number_tables();
        self.no_heartbeat_before = Micros(0);
    }
}
