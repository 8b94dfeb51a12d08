//! The audit: who did what to workflows from outside, and what was thrown away: `sql/audit.sql`.
//!
//! Two tables, and a pointer to the current one, which is a hint. Nothing updates or deletes a line.

use super::Db;
use super::queue::set_lock_timeout;
use crate::schema::{AuditCursorRow, audit_table};
use crate::store::locks::{LockKey, Mode};
use crate::store::rows::RowLock;
use crate::store::statement::Policy;
use crate::store::transaction::Undo;
use tourbillon_models::history::PlainReply;
use tourbillon_models::name::{ActorId, Micros, Name, WorkflowId};
use tourbillon_models::reply::{Refusal, Reply};
use tourbillon_models::state::{Act, AuditRow};

/// What somebody did to a workflow, or, without an actor, the engine itself.
#[derive(Clone, Copy, Debug)]
pub struct Deed {
    pub actor: Option<ActorId>,
    pub act: Act,
    pub workflow: WorkflowId,
    pub name: Name,
}

pub async fn write_audit(db: &Db, Deed { actor, act, workflow, name }: Deed) -> Result<(), Refusal> {
    let table = db.tx.get::<AuditCursorRow>(()).ok_or(Refusal::UndefinedObject)?.current_table;
    db.tx.lock(LockKey::Table(audit_table(table)), Mode::RowExclusive).await?;
    let row = AuditRow { table, at: db.clock(), actor, act, workflow, name };
    db.tx.with(|store, slot| {
        store.transactions.assign_xid(slot);
        let position = store.tables.audit[table as usize].append(row, &store.transactions, slot);
        store.transactions.of_mut(slot).undo.push(Undo::Append { table: audit_table(table), position });
    });
    Ok(())
}

pub async fn rotate_audit(db: Db, keep: Micros, lock_timeout: Micros) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    // As in a rotation of event tables.
    set_lock_timeout(&db, lock_timeout.max(Micros::from_millis(1)));
    let rotated = rotate_older(&db, keep).await;
    set_lock_timeout(&db, Micros(0));
    rotated
}

async fn rotate_older(db: &Db, keep: Micros) -> Result<PlainReply, Refusal> {
    let cursor = db.tx.select_for::<AuditCursorRow>((), RowLock::Update, Policy::Wait, |_| true).await?;
    let table = 1 - cursor.ok_or(Refusal::UndefinedObject)?.current_table;
    let since = db.clock() - keep;
    // A cheap look, so that a table in use is not locked for nothing.
    if holds_audit_since(db, table, since).await? {
        return Ok(Reply::AuditKept);
    }
    db.tx.lock(LockKey::Table(audit_table(table)), Mode::AccessExclusive).await?;
    // While the lock was waited for, whoever believed the table current may have committed to it.
    if holds_audit_since(db, table, since).await? {
        return Ok(Reply::AuditKept);
    }
    db.tx.with(|store, slot| {
        store.transactions.assign_xid(slot);
        store.tables.audit[table as usize].truncate();
        store.transactions.of_mut(slot).undo.push(Undo::Truncate { table: audit_table(table) });
    });
    db.tx.update::<AuditCursorRow>((), |_| true, |row, _| row.current_table = table).await?;
    Ok(Reply::AuditRotated { table })
}

async fn holds_audit_since(db: &Db, table: u8, since: Micros) -> Result<bool, Refusal> {
    db.tx.lock(LockKey::Table(audit_table(table)), Mode::AccessShare).await?;
    Ok(db.tx.with(|store, slot| {
        store.tables.audit[table as usize].all(&store.transactions, slot).any(|row| row.at > since)
    }))
}

#[cfg(test)]
mod tests;
