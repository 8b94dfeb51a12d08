//! What an application and its maintenance do beside the engine: `sql/workload.sql`.

use super::Db;
use crate::schema::{QueueRow, event_table};
use crate::store::locks::{LockKey, Mode};
use crate::store::transaction::Undo;
use tourbillon_models::history::PlainReply;
use tourbillon_models::name::{Queue, Step, WorkflowId, Xid};
use tourbillon_models::op::TableLock;
use tourbillon_models::reply::{Refusal, Reply};
use tourbillon_models::state::LedgerRow;

/// The ledger has no unique key, so that a double effect shows.
pub fn effect(db: &Db, workflow: WorkflowId, sequence: u32, step: Step) -> PlainReply {
    db.tx.with(|store, slot| {
        let xid = store.transactions.assign_xid(slot);
        let row = LedgerRow { workflow, sequence, step, xid };
        let position = store.tables.ledger.append(row, &store.transactions, slot);
        store.transactions.of_mut(slot).undo.push(Undo::Append { table: crate::schema::LEDGER, position });
    });
    Reply::Done
}

pub async fn peek(db: Db, queue: Queue, table: u8) -> Result<PlainReply, Refusal> {
    db.tx.get::<QueueRow>(queue).ok_or(Refusal::UndefinedObject)?;
    db.tx.lock(LockKey::Table(event_table(queue, table)), Mode::AccessShare).await?;
    let rows = db.tx.with(|store, slot| {
        store.tables.events[queue.0 as usize][table as usize].all(&store.transactions, slot).count()
    });
    Ok(Reply::Counted { rows: rows as u32 })
}

pub async fn lock_table(db: Db, queue: Queue, table: u8, mode: TableLock) -> Result<PlainReply, Refusal> {
    db.tx.get::<QueueRow>(queue).ok_or(Refusal::UndefinedObject)?;
    db.tx.lock(LockKey::Table(event_table(queue, table)), mode.into()).await?;
    Ok(Reply::Done)
}

/// What `pg_xact_status` knows; a number never given is reported as aborted.
pub fn resolve(db: &Db, xid: Xid) -> PlainReply {
    let outcome = db.tx.with(|store, _| store.outcome(xid));
    Reply::Resolved(outcome.unwrap_or(tourbillon_models::reply::Outcome::Aborted))
}
