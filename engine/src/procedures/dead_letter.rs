//! Dead letters: what will not be delivered again, and the other life that it may be given: `sql/dead_letter.sql`.

use super::Db;
use super::end::Ended;
use super::producer::{blank_event, fresh_workflow_id, insert_event};
use super::queue::{lock_window, window_events};
use crate::guard::Guard;
use crate::schema::{DeadLetterRow, QueueRow, SubscriptionRow, Window, WorkflowRow};
use crate::store::rows::RowLock;
use crate::store::statement::{Has, Policy};
use alloc::vec::Vec;
use tourbillon_models::history::PlainReply;
use tourbillon_models::name::{Consumer, EventId, Queue, WorkflowId};
use tourbillon_models::op::QueueKind;
use tourbillon_models::reply::{Event, Refusal, Reply};
use tourbillon_models::state::DeadReason;

/// Makes dead letters of these events of a window, each once. Gives back what ends with them.
pub async fn bury(
    db: &Db,
    queue: Queue,
    consumer: Consumer,
    window: Window,
    dead: &[(EventId, DeadReason)],
) -> Result<Vec<Ended>, Refusal> {
    lock_window(db, queue).await?;
    let mut letters: Vec<DeadLetterRow> = Vec::new();
    window_events(db, queue, window.prev, window.next, |event| {
        if let Some((_, reason)) = dead.iter().find(|(id, _)| *id == event.id) {
            letters.push(dead_letter(queue, Some(consumer), *event, *reason));
        }
        true
    });
    letters.sort_unstable_by_key(|letter| letter.event.id);
    let mut ended = Vec::with_capacity(letters.len());
    for letter in letters {
        ended.push(Ended::dead(letter.event.workflow));
        let parent = db.tx.get::<WorkflowRow>(letter.event.workflow).and_then(|row| row.parent);
        db.tx.insert_or_nothing(DeadLetterRow { parent, ..letter }).await?;
    }
    Ok(ended)
}

/// What fails at every try because of what the row is. Anything else, such as a deadlock, says nothing about it.
pub const fn is_about_row(refusal: Refusal) -> bool {
    matches!(refusal, Refusal::CheckViolation | Refusal::UniqueViolation)
}

/// A timer, a wait or a join that cannot become an event. It was its workflow's one continuation, so nobody else ends that.
pub async fn bury_undeliverable(db: &Db, queue: Queue, event: Event) -> Result<Option<Ended>, Refusal> {
    let letter = dead_letter(queue, None, event, DeadReason::Undeliverable);
    if event.workflow == WorkflowId(0) {
        db.tx.insert_or_nothing(letter).await?;
        return Ok(None);
    }
    let parent = db.tx.get::<WorkflowRow>(event.workflow).and_then(|row| row.parent);
    db.tx.insert_or_nothing(DeadLetterRow { consumer: consumer_of(db, queue), parent, ..letter }).await?;
    Ok(Some(Ended::dead(event.workflow)))
}

/// A queue of workflows has one.
fn consumer_of(db: &Db, queue: Queue) -> Option<Consumer> {
    db.tx.with(|store, slot| {
        let mut rows = Has::<SubscriptionRow>::rows(&store.tables).all(&store.transactions, slot);
        rows.find(|(_, row)| row.queue == queue).map(|(_, row)| row.consumer)
    })
}

/// Of a workflow that is nobody's child.
pub const fn dead_letter(queue: Queue, consumer: Option<Consumer>, event: Event, reason: DeadReason) -> DeadLetterRow {
    DeadLetterRow { queue, consumer, event, reason, parent: None, replayed_as: EventId(0) }
}

/// A message is appended again; a step begins a workflow of its own, which still is the child that the dead one was.
pub async fn replay_dead_letter(db: Db, consumer: Consumer, event: EventId) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    let queue = db.tx.get::<SubscriptionRow>(consumer).ok_or(Refusal::UndefinedObject)?.queue;
    let letter = lock_letter(&db, queue, consumer, event).await?.ok_or(Refusal::UndefinedObject)?;
    let QueueRow { kind, current_table: table, .. } = db.tx.get::<QueueRow>(queue).ok_or(Refusal::UndefinedObject)?;
    let mut replayed = blank_event(letter.event.state);
    if kind == QueueKind::Workflow {
        let workflow = fresh_workflow_id(&db);
        db.tx.insert(WorkflowRow { workflow, queue, key: None, parent: letter.parent }).await?;
        let Event { step, arrival, .. } = letter.event;
        replayed = Event { workflow, sequence: 1, step, arrival, ..replayed };
    }
    let id = insert_event(&db, queue, table, replayed).await?;
    db.tx.update::<DeadLetterRow>((letter.consumer, event), |_| true, |row, _| row.replayed_as = id).await?;
    Ok(Reply::Replayed { workflow: replayed.workflow, event: id, table })
}

/// The consumer's dead letter of this event, or nobody's, that was not replayed yet.
async fn lock_letter(
    db: &Db,
    queue: Queue,
    consumer: Consumer,
    event: EventId,
) -> Result<Option<DeadLetterRow>, Refusal> {
    let moves = db.guards.on(Guard::ReplayMoves);
    let is_here = |row: &DeadLetterRow| row.queue == queue && (row.replayed_as == EventId(0) || !moves);
    let own = db.tx.select_for((Some(consumer), event), RowLock::Update, Policy::Wait, is_here).await?;
    match own {
        Some(letter) => Ok(Some(letter)),
        None => db.tx.select_for((None, event), RowLock::Update, Policy::Wait, is_here).await,
    }
}
