//! What an application calls inside its own transaction, at any isolation level: `sql/producer.sql`.

use super::Db;
use crate::guard::Guard;
use crate::schema::{FORBIDDEN_STATE, QueueRow, Sequence, StartKeyRow, WorkflowRow, event_table};
use crate::store::locks::{LockKey, Mode};
use crate::store::statement::Inserted;
use crate::store::transaction::Undo;
use tourbillon_models::history::PlainReply;
use tourbillon_models::name::{EventId, Key, Queue, Step, WorkflowId, Xid};
use tourbillon_models::op::QueueKind;
use tourbillon_models::reply::{Arrival, Event, Refusal, Reply};

pub async fn append(db: Db, queue: Queue, payload: u64) -> Result<PlainReply, Refusal> {
    let row = require_kind(&db, queue, QueueKind::Plain)?;
    let event = blank_event(payload);
    // The pointer is a hint: by the time of the insert the table may have been rotated away, and is read all the same.
    let id = insert_event(&db, queue, row.current_table, event).await?;
    Ok(Reply::Appended { event: id, table: row.current_table })
}

pub async fn start(db: Db, queue: Queue, key: Key, step: Step, state: u64) -> Result<PlainReply, Refusal> {
    require_kind(&db, queue, QueueKind::Workflow)?;
    let workflow = fresh_workflow_id(&db);
    let inserted = db.tx.insert_or_nothing(StartKeyRow { queue, key, workflow }).await?;
    if inserted == Inserted::Nothing && db.guards.on(Guard::StartKey) {
        let known = db.tx.get::<StartKeyRow>((queue, key)).ok_or(Refusal::UndefinedObject)?;
        return Ok(Reply::Started { workflow: known.workflow, event: EventId(0), table: 0 });
    }
    db.tx.insert(WorkflowRow { workflow, queue, key: Some(key), parent: None }).await?;
    let table = current_table(&db, queue)?;
    let event = Event { workflow, sequence: 1, step, ..blank_event(state) };
    let id = insert_event(&db, queue, table, event).await?;
    Ok(Reply::Started { workflow, event: id, table })
}

/// Random in an installation. In a replay it is drawn from the sequence of event ids, as here, so that ids have the same order
/// in both.
pub fn fresh_workflow_id(db: &Db) -> WorkflowId {
    WorkflowId(db.next_value(Sequence::EventId))
}

pub fn require_kind(db: &Db, queue: Queue, kind: QueueKind) -> Result<QueueRow, Refusal> {
    let row = db.tx.get::<QueueRow>(queue).ok_or(Refusal::UndefinedObject)?;
    if row.kind == kind { Ok(row) } else { Err(Refusal::WrongQueueKind) }
}

pub fn current_table(db: &Db, queue: Queue) -> Result<u8, Refusal> {
    Ok(db.tx.get::<QueueRow>(queue).ok_or(Refusal::UndefinedObject)?.current_table)
}

/// An event whose id and transaction are not known yet.
pub const fn blank_event(state: u64) -> Event {
    Event {
        id: EventId(0),
        xid: Xid(0),
        workflow: WorkflowId(0),
        sequence: 0,
        step: Step(0),
        attempt: 1,
        state,
        arrival: Arrival::Direct,
    }
}

pub async fn insert_event(db: &Db, queue: Queue, table: u8, event: Event) -> Result<EventId, Refusal> {
    db.tx.lock(LockKey::Table(event_table(queue, table)), Mode::RowExclusive).await?;
    let id = EventId(db.next_value(Sequence::EventId));
    append_event(db, queue, table, Event { id, ..event })?;
    Ok(id)
}

/// Appends events that have their ids to the table that is current; gives back which that is, 0 if there are none.
pub async fn append_events(db: &Db, queue: Queue, events: &[Event]) -> Result<u8, Refusal> {
    if events.is_empty() {
        return Ok(0);
    }
    let table = current_table(db, queue)?;
    append_to(db, queue, table, events).await?;
    Ok(table)
}

/// As [`append_events`], to this table.
pub async fn append_to(db: &Db, queue: Queue, table: u8, events: &[Event]) -> Result<(), Refusal> {
    db.tx.lock(LockKey::Table(event_table(queue, table)), Mode::RowExclusive).await?;
    events.iter().try_for_each(|event| append_event(db, queue, table, *event))
}

/// Appends an event that has its id, unless the application's rule forbids it. The table must be locked.
pub fn append_event(db: &Db, queue: Queue, table: u8, event: Event) -> Result<(), Refusal> {
    db.tx.with(|store, slot| {
        store.transactions.assign_top_xid(slot);
        if event.state == FORBIDDEN_STATE {
            return Err(Refusal::CheckViolation);
        }
        let xid = store.transactions.assign_xid(slot);
        let events = &mut store.tables.events[queue.0 as usize][table as usize];
        let position = events.append(Event { xid, ..event }, &store.transactions, slot);
        let undo = Undo::Append { table: event_table(queue, table), position };
        store.transactions.of_mut(slot).undo.push(undo);
        Ok(())
    })
}
