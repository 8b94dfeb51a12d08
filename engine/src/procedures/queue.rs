//! The rotating log: `sql/queue.sql`.

use super::Db;
use super::timer::is_timer_due;
use crate::designs::delayed_rotation;
use crate::guard::Guard;
use crate::schema::{
    DrainRow, EVENT_TABLES, Edge, QueueRow, Sequence, SubscriptionRow, TickRow, WorkerRow, event_table,
};
use crate::store::Store;
use crate::store::appends::Extent;
use crate::store::locks::{LockKey, Mode, Slot};
use crate::store::snapshot::Snapshot;
use crate::store::statement::Has;
use crate::store::transaction::Undo;
use alloc::boxed::Box;
use alloc::vec::Vec;
use tourbillon_models::history::PlainReply;
use tourbillon_models::name::{Consumer, EventId, Micros, Queue, Tick, Xid};
use tourbillon_models::op::QueueKind;
use tourbillon_models::reply::{Event, Refusal, Reply, SnapshotOf};

pub type Database = Store<crate::schema::Schema>;

/// Classes of advisory locks: one for ticks, one for rotation.
const TICK_CLASS: u32 = 0;
const ROTATE_CLASS: u32 = 1;

pub async fn create_queue(db: Db, queue: Queue, kind: QueueKind) -> Result<PlainReply, Refusal> {
    require_nothing_written(&db)?;
    let last_event = last_event(&db);
    let snapshot = db.tx.with(|store, slot| store.current_snapshot(slot));
    db.tx.insert(QueueRow { queue, kind, current_table: 0 }).await?;
    let tick = Tick(db.next_value(Sequence::TickNumber));
    let extents = db.tx.with(|store, _| extents(store, queue));
    let first = TickRow { queue, tick, at: db.clock(), snapshot, last_event, extents };
    let done = Edge::from(&first);
    let (watermark, window_end) = (db.clock(), db.clock() + delayed_rotation::WINDOW);
    db.tx.insert(first).await?;
    db.tx.insert(DrainRow { queue, current_table: 0, done, open: None, position: None, watermark, window_end }).await?;
    Ok(Reply::Done)
}

/// A transaction's own xid may count as over in its own snapshot, and what it writes later is then in no window.
fn require_nothing_written(db: &Db) -> Result<(), Refusal> {
    match db.tx.with(|store, slot| store.transactions.of(slot).xid) {
        Xid(0) => Ok(()),
        _ => Err(Refusal::WroteBefore),
    }
}

pub async fn subscribe(db: Db, queue: Queue, consumer: Consumer) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    let kind = db.tx.get::<QueueRow>(queue).ok_or(Refusal::UndefinedObject)?.kind;
    // The lock of rotation. 1. A subscriber reads the latest tick, and stays open. 2. Ticks and claims go on.
    // 3. Rotation does not see the new cursor and deletes its tick: the subscriber's first window would be empty, and
    // its events lost. It also lets two subscribers of one queue come one after the other.
    db.tx.lock(LockKey::Advisory { class: ROTATE_CLASS, object: queue.0.into() }, Mode::Exclusive).await?;
    if db.guards.on(Guard::OneConsumer) && kind == QueueKind::Workflow && has_subscription(&db, queue) {
        return Err(Refusal::OneConsumer);
    }
    let cursor = db.tx.with(|store, slot| latest_tick(store, slot, queue, |row| row.tick));
    let cursor = cursor.ok_or(Refusal::UndefinedObject)?;
    db.tx.insert(SubscriptionRow { consumer, queue, cursor }).await?;
    Ok(Reply::Subscribed { cursor })
}

fn has_subscription(db: &Db, queue: Queue) -> bool {
    db.tx.with(|store, slot| subscriptions(store, slot, queue).next().is_some())
}

pub async fn tick(db: Db, queue: Queue) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    db.tx.get::<QueueRow>(queue).ok_or(Refusal::UndefinedObject)?;
    // A row lock would take an xid before the snapshot.
    if db.guards.on(Guard::TickLock) {
        db.tx.lock(LockKey::Advisory { class: TICK_CLASS, object: queue.0.into() }, Mode::Exclusive).await?;
    }
    require_nothing_written(&db)?;
    // Before the snapshot, so that an id drawn in between counts as drawn since.
    let last_event = last_event(&db);
    if is_idle(&db, queue, last_event).await? {
        return Ok(Reply::Idle);
    }
    // Boxed, like the rest of a claim: a call's future is moved when it is made, and most have nothing to do.
    Box::pin(store_tick(&db, queue, last_event)).await
}

async fn store_tick(db: &Db, queue: Queue, last_event: EventId) -> Result<PlainReply, Refusal> {
    let (snapshot, extents, at) = db.tx.with(|store, slot| {
        let snapshot = store.current_snapshot(slot);
        let latest = latest_tick(store, slot, queue, |row| row.at);
        let mut extents = extents(store, queue);
        if store.transactions.of(slot).snapshot.is_some() {
            // An old snapshot: what is visible now need not be visible in it.
            extents.iter_mut().for_each(|extent| extent.low = 0);
        }
        (snapshot, extents, latest.map_or(store.clock, |latest| latest.max(store.clock)))
    });
    let tick = Tick(db.next_value(Sequence::TickNumber));
    let told = SnapshotOf { xmax: snapshot.xmax, in_progress: snapshot.in_progress.iter().map(|xid| xid.0).collect() };
    db.tx.insert(TickRow { queue, tick, at, snapshot, last_event, extents }).await?;
    Ok(Reply::Ticked { tick, at, snapshot: told })
}

fn last_event(db: &Db) -> EventId {
    EventId(db.tx.with(|store, _| store.last_value(Sequence::EventId as usize)))
}

/// Whether a tick would end an empty window. Ids are a cheap look: in a queue that is busy one was drawn since the latest
/// tick. If none was, a transaction that was in progress at that tick may have committed, or a timer's time have come.
async fn is_idle(db: &Db, queue: Queue, last_event: EventId) -> Result<bool, Refusal> {
    let latest = db.tx.with(|store, slot| latest_tick(store, slot, queue, |row| (row.last_event, row.tick)));
    let Some((known, latest)) = latest else { return Ok(false) };
    if known != last_event {
        return Ok(false);
    }
    if db.guards.on(Guard::IdleTick) {
        let tables = (0..EVENT_TABLES as u8).map(|table| LockKey::Table(event_table(queue, table)));
        db.tx.lock_each(tables, Mode::AccessShare).await?;
        let holds_later = |store: &Database, slot, table| holds_later(store, slot, queue, table, latest);
        if db.tx.with(|store, slot| (0..EVENT_TABLES).any(|table| holds_later(store, slot, table))) {
            return Ok(false);
        }
    }
    Ok(!db.guards.on(Guard::IdleTimer) || !is_timer_due(db, queue, latest).await?)
}

pub async fn rotate(db: Db, queue: Queue, lock_timeout: Micros) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    db.tx.get::<QueueRow>(queue).ok_or(Refusal::UndefinedObject)?;
    // Locks are waited for neither nowait, which starves under overlapping readers, nor for ever (0 to PostgreSQL), which
    // stalls all who queue behind.
    set_lock_timeout(&db, lock_timeout.max(Micros::from_millis(1)));
    let lock = LockKey::Advisory { class: ROTATE_CLASS, object: queue.0.into() };
    let rotated = match db.tx.lock(lock, Mode::Exclusive).await {
        Ok(()) => rotate_oldest(&db, queue).await,
        Err(refusal) => Err(refusal),
    };
    set_lock_timeout(&db, Micros(0));
    rotated
}

pub fn set_lock_timeout(db: &Db, lock_timeout: Micros) {
    db.tx.with(|store, slot| store.transactions.of_mut(slot).lock_timeout = lock_timeout);
}

/// What rotate does once it has the queue's lock.
async fn rotate_oldest(db: &Db, queue: Queue) -> Result<PlainReply, Refusal> {
    let row = db.tx.get::<QueueRow>(queue).ok_or(Refusal::UndefinedObject)?;
    let oldest = (row.current_table + 1) % EVENT_TABLES as u8;

    // A cheap look, so that a table in use is not locked for nothing.
    let mut horizon = horizon(db, queue);
    if is_needed(db, queue, oldest, horizon).await? {
        return Ok(Reply::NotRotated { horizon });
    }
    let table = LockKey::Table(event_table(queue, oldest));
    match db.guards.on(Guard::RotationLockTimeout) {
        true => db.tx.lock(table, Mode::AccessExclusive).await?,
        false => db.tx.lock_now(table, Mode::AccessExclusive)?,
    }
    if db.guards.on(Guard::RotationLookAfterLock) {
        // While the lock was waited for, a producer that believed the table current may have committed to it.
        horizon = self::horizon(db, queue);
        if is_needed(db, queue, oldest, horizon).await? {
            return Ok(Reply::NotRotated { horizon });
        }
    }
    truncate(db, queue, oldest);
    db.tx.update::<QueueRow>(queue, |_| true, |row, _| row.current_table = oldest).await?;
    delete_ticks_below(db, queue, horizon).await?;
    Ok(Reply::Rotated { table: oldest, horizon })
}

/// The exclusive lock must be held.
fn truncate(db: &Db, queue: Queue, table: u8) {
    db.tx.with(|store, slot| {
        store.transactions.assign_xid(slot);
        store.tables.events[queue.0 as usize][table as usize].truncate();
        store.transactions.of_mut(slot).undo.push(Undo::Truncate { table: event_table(queue, table) });
    });
}

async fn delete_ticks_below(db: &Db, queue: Queue, horizon: Tick) -> Result<(), Refusal> {
    let old: Vec<Tick> = db.tx.with(|store, slot| {
        let rows =
            Has::<TickRow>::rows(&store.tables).range((queue, Tick(0))..(queue, horizon), &store.transactions, slot);
        rows.map(|(_, row)| row.tick).collect()
    });
    for tick in old {
        db.tx.delete::<TickRow>((queue, tick), |_| true).await?;
    }
    Ok(())
}

/// The lowest tick that anybody still needs.
fn horizon(db: &Db, queue: Queue) -> Tick {
    db.tx.with(|store, slot| {
        let cursors = subscriptions(store, slot, queue).map(|row| row.cursor);
        let latest = latest_tick(store, slot, queue, |row| row.tick);
        let lowest = cursors.chain(latest).min().expect("a queue has a tick from its creation on");
        if !db.guards.on(Guard::RotationMinCursor) {
            return lowest;
        }
        let workers = Has::<WorkerRow>::rows(&store.tables).all(&store.transactions, slot);
        let open = workers.filter_map(|(_, row)| row.window.map(|window| (row.consumer, window.prev)));
        let of_queue = open.filter(|(consumer, _)| {
            let subscription = Has::<SubscriptionRow>::rows(&store.tables).find(*consumer, &store.transactions, slot);
            subscription.is_some_and(|(_, row)| row.queue == queue)
        });
        of_queue.map(|(_, prev)| prev).fold(lowest, Tick::min)
    })
}

async fn is_needed(db: &Db, queue: Queue, table: u8, horizon: Tick) -> Result<bool, Refusal> {
    db.tx.lock(LockKey::Table(event_table(queue, table)), Mode::AccessShare).await?;
    Ok(db.tx.with(|store, slot| holds_later(store, slot, queue, table as usize, horizon)))
}

/// Whether a table holds an event that the tick does not see. The table must be locked.
fn holds_later(store: &Database, slot: Slot, queue: Queue, table: usize, tick: Tick) -> bool {
    let Some(row) = tick_at(store, slot, queue, tick) else { return false };
    let events = &store.tables.events[queue.0 as usize][table];
    let from = row.extents[table].low;
    events.range(from..u64::MAX, &store.transactions, slot).any(|event| !row.snapshot.sees(event.xid))
}

fn subscriptions(store: &Database, slot: Slot, queue: Queue) -> impl Iterator<Item = &SubscriptionRow> {
    let rows = Has::<SubscriptionRow>::rows(&store.tables).all(&store.transactions, slot);
    rows.map(|(_, row)| row).filter(move |row| row.queue == queue)
}

pub fn latest_tick<V>(store: &Database, slot: Slot, queue: Queue, value: impl Fn(&TickRow) -> V) -> Option<V> {
    let ticks = (queue, Tick(0))..=(queue, Tick(u32::MAX));
    let mut rows = Has::<TickRow>::rows(&store.tables).range(ticks, &store.transactions, slot);
    rows.next_back().map(|(_, row)| value(row))
}

/// None for a tick that is gone.
pub fn tick_at(store: &Database, slot: Slot, queue: Queue, tick: Tick) -> Option<&TickRow> {
    Has::<TickRow>::rows(&store.tables).find((queue, tick), &store.transactions, slot).map(|(_, row)| row)
}

/// The smallest tick after this one.
pub fn tick_after(store: &Database, slot: Slot, queue: Queue, tick: Tick) -> Option<Tick> {
    let ticks = (queue, Tick(tick.0 + 1))..=(queue, Tick(u32::MAX));
    let mut rows = Has::<TickRow>::rows(&store.tables).range(ticks, &store.transactions, slot);
    rows.next().map(|(_, row)| row.tick)
}

fn extents(store: &Database, queue: Queue) -> [Extent; EVENT_TABLES] {
    store.tables.events[queue.0 as usize].each_ref().map(|table| table.extent(&store.transactions))
}

/// The tables that windows of a queue are read from.
pub async fn lock_window(db: &Db, queue: Queue) -> Result<(), Refusal> {
    let mut tables = 0b111;
    if !db.guards.on(Guard::ReadAllTables) {
        let current = db.tx.get::<QueueRow>(queue).ok_or(Refusal::UndefinedObject)?.current_table;
        tables = 1 << current | 1 << ((current + 2) % EVENT_TABLES as u8);
    }
    let tables = (0..EVENT_TABLES as u8).filter(|table| tables >> table & 1 != 0);
    db.tx.lock_each(tables.map(|table| LockKey::Table(event_table(queue, table))), Mode::AccessShare).await
}

/// Calls `each` with every event of the window (prev, next], table by table, until it answers false. No events if
/// one of the ticks is gone. The tables must be locked, see [`lock_window`].
pub fn window_events(db: &Db, queue: Queue, prev: Tick, next: Tick, mut each: impl FnMut(&Event) -> bool) {
    db.tx.with(|store, slot| {
        let (Some(from), Some(to)) = (tick_at(store, slot, queue, prev), tick_at(store, slot, queue, next)) else {
            return;
        };
        let current = match db.guards.on(Guard::ReadAllTables) {
            true => None,
            false => Has::<QueueRow>::rows(&store.tables).find(queue, &store.transactions, slot),
        };
        for (table, events) in store.tables.events[queue.0 as usize].iter().enumerate() {
            let is_third = |current: u8| (current as usize + 1) % EVENT_TABLES == table;
            if current.is_some_and(|(_, row)| is_third(row.current_table)) {
                continue;
            }
            let positions = from.extents[table].low..to.extents[table].high;
            let mut events = events.range(positions, &store.transactions, slot);
            if !events.all(|event| !is_in_window(db, event.xid, &from.snapshot, &to.snapshot) || each(event)) {
                return;
            }
        }
    });
}

fn is_in_window(db: &Db, xid: Xid, prev: &Snapshot, next: &Snapshot) -> bool {
    let in_range = xid >= prev.xmax && xid < next.xmax;
    let was_in_progress = db.guards.on(Guard::InProgressSet) && prev.in_progress.contains(&xid);
    (in_range || was_in_progress) && next.sees(xid)
}
