//! The engine's tables: the Rust twin of `sql/schema.sql`, and the application's ledger beside them.
//!
//! What is in the rows is told there. Only here: a tick also remembers how far each event table had come, which
//! stands for the server's index on `xid`.

use crate::store::Tables;
use crate::store::appends::{Appends, Extent};
use crate::store::index::{Any, Ascending, Ordinal};
use crate::store::rows::{Row, Rows};
use crate::store::snapshot::Snapshot;
use crate::store::statement::Has;
use crate::store::transaction::Undo;
use tourbillon_models::history::LedgerRow;
use tourbillon_models::name::{Consumer, EventId, Key, Micros, Queue, Tick, Token, WorkerId, WorkflowId};
use tourbillon_models::op::QueueKind;
use tourbillon_models::reply::Event;

/// At most so many queues; their names are below it.
pub const QUEUES: usize = 4;
/// Event tables of one queue.
pub const EVENT_TABLES: usize = 3;

pub const LEDGER: u8 = 6;
const FIRST_EVENT_TABLE: u8 = 7;

/// The number of one of a queue's event tables.
pub const fn event_table(queue: Queue, table: u8) -> u8 {
    FIRST_EVENT_TABLE + queue.0 * EVENT_TABLES as u8 + table
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
    pub key: Key,
}

/// The sequences, by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sequence {
    EventId,
    TickNumber,
    WorkerId,
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
    pub ledger: Appends<LedgerRow>,
    pub events: [[Appends<Event>; EVENT_TABLES]; QUEUES],
    /// No lease with a window has had a heartbeat before this time, whoever looks: stands for an index on heartbeats.
    pub no_heartbeat_before: Micros,
    /// Workflow ids are random on the server; here they only need to be different.
    pub workflow_count: u32,
}

macro_rules! table {
    ($row:ty, $field:ident, $number:literal, $index:ident<$key:ty>, |$this:ident| $value:expr) => {
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
    fn appends(&mut self, table: u8) -> &mut Appends<Event> {
        let index = (table - FIRST_EVENT_TABLE) as usize;
        &mut self.events[index / EVENT_TABLES][index % EVENT_TABLES]
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
    const COUNT: usize = FIRST_EVENT_TABLE as usize + QUEUES * EVENT_TABLES;
    const SEQUENCES: usize = 3;

    fn undo(&mut self, change: Undo) {
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
                _ => unreachable!("table {table} has no rows"),
            },
            Undo::Lock { .. } => unreachable!("locks are the store's"),
        }
    }

    fn settle(&mut self, change: Undo) {
        match change {
            Undo::Delete { table: TickRow::TABLE, row } => self.ticks.reclaim(row),
            Undo::Delete { table: WorkflowRow::TABLE, row } => self.workflows.reclaim(row),
            Undo::Truncate { table } => self.appends(table).forget_truncated(),
            _ => {}
        }
    }

    fn clear(&mut self) {
        self.queues.clear();
        self.ticks.clear();
        self.subscriptions.clear();
        self.workers.clear();
        self.start_keys.clear();
        self.workflows.clear();
        self.ledger.clear();
        self.events.iter_mut().flatten().for_each(Appends::clear);
        self.workflow_count = 0;
        self.no_heartbeat_before = Micros(0);
    }
}
