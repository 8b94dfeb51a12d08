//! What the whole store holds, as an onlooker sees it: committed rows only, each kind in the order of its key.

use crate::procedures::timer::is_delivered;
use crate::schema::{
    self, BoxRow, CancelledRow, DrainRow, EVENT_TABLES, EmittedRow, OpenJoinRow, QUEUES, ResultRow, Schema,
    SubscriptionRow, TIMER_TABLES, TickRow, Timer, WorkerRow, WorkflowRow,
};
use crate::store::Store;
use crate::store::locks::{SESSIONS, Slot};
use crate::store::rows::Row;
use crate::store::statement::Has;
use alloc::vec::Vec;
use tourbillon_models::name::{Consumer, Queue};
use tourbillon_models::reply::SnapshotOf;
use tourbillon_models::state::{self, State};

/// The slot that no session is given.
pub const ONLOOKER: Slot = SESSIONS as Slot - 1;

fn rows<R: Row + 'static>(store: &Store<Schema>) -> impl Iterator<Item = &R>
where
    Schema: Has<R>,
{
    store.tables.rows().all(&store.transactions, ONLOOKER).map(|(_, row)| row)
}

pub fn state(store: &Store<Schema>) -> State {
    State {
        queues: rows::<schema::QueueRow>(store).map(queue_row).collect(),
        ticks: rows::<TickRow>(store).map(tick_row).collect(),
        subscriptions: rows::<SubscriptionRow>(store).map(subscription_row).collect(),
        workers: rows::<WorkerRow>(store).map(worker_row).collect(),
        start_keys: rows::<schema::StartKeyRow>(store).map(start_key_row).collect(),
        workflows: rows::<WorkflowRow>(store).map(workflow_row).collect(),
        events: event_rows(store),
        ledger: store.tables.ledger.all(&store.transactions, ONLOOKER).copied().collect(),
        timers: timer_rows(store),
        drains: rows::<DrainRow>(store).map(drain_row).collect(),
        tries: rows::<schema::TriesRow>(store).map(tries_row).collect(),
        dead_letters: dead_letter_rows(store),
        cancelled: rows::<CancelledRow>(store).map(cancelled_row).collect(),
        boxes: rows::<BoxRow>(store).map(box_row).collect(),
        emits: rows::<EmittedRow>(store).map(emit_row).collect(),
        joins: rows::<OpenJoinRow>(store).map(join_row).collect(),
        results: rows::<ResultRow>(store).map(|row| row.0).collect(),
        audit: store.tables.audit.iter().flat_map(|lines| lines.all(&store.transactions, ONLOOKER)).copied().collect(),
    }
}

/// Whether nothing is left to do: no workflow lives, no window is open, no committed event lies before a cursor, no timer
/// waits.
pub fn is_drained(store: &Store<Schema>) -> bool {
    rows::<WorkflowRow>(store).next().is_none()
        && rows::<WorkerRow>(store).all(|row| row.window.is_none())
        && rows::<SubscriptionRow>(store).all(|row| !has_backlog(store, row))
        && rows::<DrainRow>(store).all(|row| !has_pending_timer(store, row))
}

fn has_pending_timer(store: &Store<Schema>, cursor: &DrainRow) -> bool {
    let tables = store.tables.timers[cursor.queue.0 as usize].iter();
    let mut timers = tables.flat_map(|timers| timers.range(.., &store.transactions, ONLOOKER));
    // The watermark is a published draft's; the engine leaves it where it was.
    timers.any(|(_, timer)| !is_delivered(cursor, timer) && timer.due > cursor.watermark)
}

fn has_backlog(store: &Store<Schema>, subscription: &SubscriptionRow) -> bool {
    let cursor = (subscription.queue, subscription.cursor);
    let rows = Has::<TickRow>::rows(&store.tables);
    let Some((_, tick)) = rows.find(cursor, &store.transactions, ONLOOKER) else { return false };
    let tables = &store.tables.events[subscription.queue.0 as usize];
    tables.iter().zip(&tick.extents).any(|(events, extent)| {
        events.range(extent.low..u64::MAX, &store.transactions, ONLOOKER).any(|event| !tick.snapshot.sees(event.xid))
    })
}

fn queue_row(row: &schema::QueueRow) -> state::QueueRow {
    state::QueueRow { queue: row.queue, kind: row.kind, current_table: row.current_table }
}

fn tick_row(row: &TickRow) -> state::TickRow {
    let in_progress = row.snapshot.in_progress.iter().map(|xid| xid.0).collect();
    let snapshot = SnapshotOf { xmax: row.snapshot.xmax, in_progress };
    state::TickRow { queue: row.queue, tick: row.tick, at: row.at, snapshot }
}

fn subscription_row(row: &SubscriptionRow) -> state::SubscriptionRow {
    state::SubscriptionRow { queue: row.queue, consumer: row.consumer, cursor: row.cursor }
}

fn worker_row(row: &WorkerRow) -> state::WorkerRow {
    let window = row.window.map(|window| (window.token, window.prev, window.next));
    state::WorkerRow {
        worker: row.worker,
        consumer: row.consumer,
        window,
        heartbeat: row.heartbeat,
        crashes: row.crashes,
    }
}

fn start_key_row(row: &schema::StartKeyRow) -> state::StartKeyRow {
    state::StartKeyRow { queue: row.queue, key: row.key, workflow: row.workflow }
}

fn workflow_row(row: &WorkflowRow) -> state::WorkflowRow {
    state::WorkflowRow { workflow: row.workflow, queue: row.queue, key: row.key, parent: row.parent }
}

fn drain_row(row: &DrainRow) -> state::DrainRow {
    state::DrainRow {
        queue: row.queue,
        current_table: row.current_table,
        done: row.done.tick,
        open: row.open.as_ref().map(|open| open.tick),
        position: row.position,
    }
}

fn timer_rows(store: &Store<Schema>) -> Vec<state::TimerRow> {
    let mut found = Vec::new();
    for queue in 0..QUEUES {
        for table in 0..TIMER_TABLES {
            let timers = store.tables.timers[queue][table].range(.., &store.transactions, ONLOOKER);
            let place = |(_, timer): (u32, &Timer)| state::TimerRow {
                queue: Queue(queue as u8),
                table: table as u8,
                due: timer.due,
                event: timer.event,
            };
            found.extend(timers.map(place));
        }
    }
    found
}

fn cancelled_row(row: &CancelledRow) -> state::CancelledRow {
    state::CancelledRow { queue: row.queue, table: row.table, event: row.event }
}

fn box_row(row: &BoxRow) -> state::BoxRow {
    let &BoxRow { workflow, name, since, token_hash, content, .. } = row;
    state::BoxRow { workflow, name, since, token_hash, content }
}

fn emit_row(row: &EmittedRow) -> state::EmitRow {
    let answer = row.answer.expect("an emit that has committed was answered");
    state::EmitRow { workflow: row.workflow, emit: row.emit, answer }
}

fn join_row(row: &OpenJoinRow) -> state::JoinRow {
    let &OpenJoinRow { join, workflow, since, sequence, step, state, total, ended, .. } = row;
    state::JoinRow { join, workflow, since, sequence, step, state, total, ended }
}

fn tries_row(row: &schema::TriesRow) -> state::TriesRow {
    state::TriesRow { consumer: row.consumer, event: row.event, tries: row.tries, is_done: row.is_done }
}

/// What is nobody's is told as the first consumer's.
fn dead_letter_rows(store: &Store<Schema>) -> Vec<state::DeadLetterRow> {
    let told = |row: &schema::DeadLetterRow| state::DeadLetterRow {
        queue: row.queue,
        consumer: row.consumer.unwrap_or(Consumer(0)),
        event: row.event.id,
        reason: row.reason,
        sequence: row.event.sequence,
        step: row.event.step,
        attempt: row.event.attempt,
        state: row.event.state,
        replayed_as: row.replayed_as,
        arrival: row.event.arrival,
        parent: row.parent,
    };
    let mut letters: Vec<_> = rows::<schema::DeadLetterRow>(store).map(told).collect();
    letters.sort_unstable_by_key(|row| (row.consumer, row.event));
    letters
}

fn event_rows(store: &Store<Schema>) -> Vec<state::EventRow> {
    let mut found = Vec::new();
    for queue in 0..QUEUES {
        for table in 0..EVENT_TABLES {
            let mut events: Vec<_> =
                store.tables.events[queue][table].all(&store.transactions, ONLOOKER).copied().collect();
            events.sort_unstable_by_key(|event| event.id);
            let place = |event| state::EventRow { queue: Queue(queue as u8), table: table as u8, event };
            found.extend(events.into_iter().map(place));
        }
    }
    found
}
