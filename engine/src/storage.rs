//! How much each kind of the engine's tables holds: what an onlooker sees, and what lies there.
//!
//! Without a figure of how large a row is. For measurements: no procedure looks here.

use crate::schema::{
    AuditCursorRow, BoxRow, CancelledRow, DeadLetterRow, DrainRow, EmittedRow, OpenJoinRow, QueueRow, ResultRow,
    Schema, StartKeyRow, SubscriptionRow, TickRow, TriesRow, WorkerRow, WorkflowRow,
};
use crate::state::ONLOOKER;
use crate::store::Store;
use crate::store::rows::Row;
use crate::store::statement::Has;
use alloc::vec;
use alloc::vec::Vec;

/// One kind of table, under the server's name for it: all of a queue's, of all queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    pub table: &'static str,
    pub row_count: usize,
    /// Rows in all their versions, those included that nobody sees.
    pub version_count: usize,
}

pub fn storage(store: &Store<Schema>) -> Vec<Stored> {
    vec![
        events(store),
        timers(store),
        rows::<CancelledRow>(store, "cancelled"),
        rows::<TickRow>(store, "tick"),
        rows::<QueueRow>(store, "queue"),
        rows::<DrainRow>(store, "drain"),
        rows::<SubscriptionRow>(store, "subscription"),
        rows::<WorkerRow>(store, "worker"),
        rows::<WorkflowRow>(store, "workflow"),
        rows::<TriesRow>(store, "tries"),
        rows::<DeadLetterRow>(store, "dead_letter"),
        rows::<StartKeyRow>(store, "start_key"),
        rows::<BoxRow>(store, "box"),
        rows::<EmittedRow>(store, "emitted"),
        rows::<OpenJoinRow>(store, "open_join"),
        rows::<ResultRow>(store, "result"),
        rows::<AuditCursorRow>(store, "audit_cursor"),
        audit(store),
    ]
}

fn rows<R: Row + 'static>(store: &Store<Schema>, table: &'static str) -> Stored
where
    Schema: Has<R>,
{
    let rows = store.tables.rows();
    Stored { table, row_count: rows.all(&store.transactions, ONLOOKER).count(), version_count: rows.version_count() }
}

fn events(store: &Store<Schema>) -> Stored {
    let tables = || store.tables.events.iter().flatten();
    Stored {
        table: "event",
        row_count: tables().map(|events| events.all(&store.transactions, ONLOOKER).count()).sum(),
        version_count: tables().map(|events| events.version_count()).sum(),
    }
}

fn audit(store: &Store<Schema>) -> Stored {
    let tables = || store.tables.audit.iter();
    Stored {
        table: "audit",
        row_count: tables().map(|lines| lines.all(&store.transactions, ONLOOKER).count()).sum(),
        version_count: tables().map(|lines| lines.version_count()).sum(),
    }
}

fn timers(store: &Store<Schema>) -> Stored {
    let tables = || store.tables.timers.iter().flatten();
    Stored {
        table: "timer",
        row_count: tables().map(|timers| timers.range(.., &store.transactions, ONLOOKER).count()).sum(),
        version_count: tables().map(|timers| timers.version_count()).sum(),
    }
}
