//! Waits: a workflow's half of the box between it and those who emit to it, and deadlines: `sql/wait.sql`.
//!
//! Wait and promise of one workflow and name are one row with one unique key, so whoever comes second meets the first, at
//! every isolation level. Whoever deletes a wait resumes it.

use super::Db;
use super::audit::{Deed, write_audit};
use super::emit::is_apart;
use super::end::{Resumed, resume};
use super::producer::{blank_event, current_table};
use crate::guard::Guard;
use crate::schema::{BoxRow, QueueRow};
use crate::store::rows::RowLock;
use crate::store::statement::{Has, Inserted, Policy};
use crate::wait_token;
use alloc::vec::Vec;
use tourbillon_models::history::PlainReply;
use tourbillon_models::name::{EventId, Micros, Queue, WorkflowId};
use tourbillon_models::op::Decision;
use tourbillon_models::reply::{Arrival, Event, Refusal, Reply};
use tourbillon_models::state::{Act, BoxContent};

/// An await that is handed off: the decision, and the id of the event that it will be.
#[derive(Clone, Copy, Debug)]
pub struct Awaited<'a> {
    pub id: EventId,
    pub decision: &'a Decision,
}

/// Registers waits, or finds what was promised. Gives back what goes on at once, in no order.
///
/// 1. Promises are locked in the order of their keys and taken; what shows another token than is asked for is thrown away.
/// 2. A wait is registered for each await that found none, in the same order, unless something is there: then once more.
pub async fn register_waits(
    db: &Db,
    queue: Queue,
    now: Micros,
    mut pending: Vec<Awaited<'_>>,
) -> Result<Vec<Event>, Refusal> {
    let mut resumed = Vec::new();
    pending.sort_unstable_by_key(|it| (it.decision.workflow, it.decision.name));
    while !pending.is_empty() {
        let promised = take_promises(db, &pending, &mut resumed).await?;
        pending.retain(|it| !promised.contains(&it.id));
        let mut again = Vec::new();
        for it in pending {
            if db.tx.insert_or_nothing(wait_of(db, queue, now, it)).await? == Inserted::Nothing {
                again.push(it);
            }
        }
        pending = again;
        if pending.iter().any(|it| awaits_already(db, it)) {
            return Err(Refusal::UniqueViolation);
        }
    }
    Ok(resumed)
}

/// A workflow has one continuation; that of a zombie must not look for a promise for ever.
fn awaits_already(db: &Db, it: &Awaited<'_>) -> bool {
    let key = (it.decision.workflow, it.decision.name, is_apart(db));
    db.tx.get::<BoxRow>(key).is_some_and(|row| !is_promise(&row))
}

/// The awaits that are over.
async fn take_promises(db: &Db, pending: &[Awaited<'_>], resumed: &mut Vec<Event>) -> Result<Vec<EventId>, Refusal> {
    let mut found = Vec::new();
    for it in pending {
        let key = (it.decision.workflow, it.decision.name, false);
        let promise = db.tx.select_for::<BoxRow>(key, RowLock::Update, Policy::Wait, is_promise).await?;
        found.extend(promise.map(|promise| (it, key, promise)));
    }
    let mut over = Vec::new();
    for (it, key, promise) in found {
        db.tx.delete::<BoxRow>(key, |_| true).await?;
        let asked = wait_token::hash(it.decision.token).map(wait_token::abbreviated);
        if let (true, BoxContent::Promise { payload }) = (is_shown(db, asked, promise.token_hash), promise.content) {
            let &Decision { workflow, sequence, step, state, .. } = it.decision;
            let arrival = Arrival::Emitted { payload };
            resumed.push(Event { id: it.id, workflow, sequence, step, arrival, ..blank_event(state) });
            over.push(it.id);
        } else {
            discard(db, &promise).await?;
        }
    }
    Ok(over)
}

async fn discard(db: &Db, promise: &BoxRow) -> Result<(), Refusal> {
    let &BoxRow { workflow, name, .. } = promise;
    write_audit(db, Deed { actor: None, act: Act::Discard, workflow, name }).await
}

const fn is_promise(row: &BoxRow) -> bool {
    matches!(row.content, BoxContent::Promise { .. })
}

/// Whether a wait that asks for one token is content with another; one that is missing is none.
pub fn is_shown(db: &Db, asked: Option<u64>, shown: Option<u64>) -> bool {
    asked.is_none() || asked == shown || (shown.is_none() && !db.guards.on(Guard::EmitToken))
}

fn wait_of(db: &Db, queue: Queue, now: Micros, it: Awaited<'_>) -> BoxRow {
    let &Decision { workflow, name, sequence, step, state, delay, token, .. } = it.decision;
    let deadline = (delay != Micros(0)).then(|| now + delay);
    BoxRow {
        workflow,
        name,
        queue,
        since: now,
        token_hash: wait_token::hash(token).map(wait_token::abbreviated),
        content: BoxContent::Wait { event: it.id, sequence, step, state, deadline },
        is_apart: is_apart(db),
        dropped_at: None,
    }
}

/// What a wait goes on as.
pub fn continuation(wait: &BoxRow, arrival: Arrival) -> Option<Event> {
    let BoxContent::Wait { event: id, sequence, step, state, .. } = wait.content else { return None };
    Some(Event { id, workflow: wait.workflow, sequence, step, arrival, ..blank_event(state) })
}

/// Resumes waits whose deadline has passed. One that somebody else is about to resume is left to him. What cannot become an
/// event ends its workflow, unless somebody has that locked, who may be about to resume it: then it is left.
pub async fn expire_waits(db: Db, queue: Queue, limit: u32) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    db.tx.get::<QueueRow>(queue).ok_or(Refusal::UndefinedObject)?;
    let now = db.clock();
    let due = lock_due(&db, queue, now, limit.max(1) as usize).await?;
    let events: Vec<Event> = due.iter().filter_map(|wait| continuation(wait, Arrival::TimedOut)).collect();
    let table = if events.is_empty() { 0 } else { current_table(&db, queue)? };
    let ids: Vec<EventId> = events.iter().map(|event| event.id).collect();
    let Resumed { resumed, undeliverable } = resume(&db, queue, table, events, Policy::SkipLocked).await?;
    for (wait, id) in due.iter().zip(ids) {
        if resumed.contains(&id.0) {
            db.tx.delete::<BoxRow>((wait.workflow, wait.name, wait.is_apart), |_| true).await?;
        }
    }
    if !db.guards.on(Guard::PromiseUntilEnd) {
        drop_promises(&db, queue, now).await?;
    }
    Ok(Reply::Expired { resumed, undeliverable, table })
}

/// In the order of deadlines.
async fn lock_due(db: &Db, queue: Queue, now: Micros, limit: usize) -> Result<Vec<BoxRow>, Refusal> {
    let deadline = |row: &BoxRow| match row.content {
        BoxContent::Wait { deadline, event, .. } if row.queue == queue => deadline.map(|deadline| (deadline, event)),
        _ => None,
    };
    let is_due = |row: &BoxRow| deadline(row).is_some_and(|(deadline, _)| deadline <= now);
    let mut due: Vec<_> = db.tx.with(|store, slot| {
        let rows = Has::<BoxRow>::rows(&store.tables).all(&store.transactions, slot).map(|(_, row)| row);
        rows.filter(|row| is_due(row)).map(|row| (deadline(row), (row.workflow, row.name, row.is_apart))).collect()
    });
    due.sort_unstable();
    let mut locked = Vec::new();
    for (_, key) in due {
        if locked.len() == limit {
            break;
        }
        locked.extend(db.tx.select_for::<BoxRow>(key, RowLock::Update, Policy::SkipLocked, is_due).await?);
    }
    Ok(locked)
}

/// What an engine would do that keeps promises for a while only.
async fn drop_promises(db: &Db, queue: Queue, now: Micros) -> Result<(), Refusal> {
    let is_old = |row: &BoxRow| row.queue == queue && row.dropped_at.is_some_and(|at| at <= now);
    let old: Vec<(WorkflowId, _, bool)> = db.tx.with(|store, slot| {
        let rows = Has::<BoxRow>::rows(&store.tables).all(&store.transactions, slot).map(|(_, row)| row);
        rows.filter(|row| is_old(row)).map(|row| (row.workflow, row.name, row.is_apart)).collect()
    });
    for key in old {
        db.tx.delete::<BoxRow>(key, is_old).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
