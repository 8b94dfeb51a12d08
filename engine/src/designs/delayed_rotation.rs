//! Delayed delivery by two tables and a watermark: `sql/designs/delayed_rotation.sql`.
//!
//! As the draft in PgQue's pull request 237 has it. Time is cut into windows. Of the two tables one is drained: it holds
//! what is due by the end of this window; the other holds what is due later. A drain appends what is due after the
//! watermark and by now, at most so many, and sets the watermark to now. At the window's end the tables change roles: what
//! is due beyond the next window is copied from the later table into the drained one, and that is truncated.
//!
//! It loses timers, in three ways:
//! - *A full page.* 1. More is due than a page holds. 2. The watermark goes to now all the same. 3. The rest lies behind it.
//! - *Behind the watermark.* 1. Somebody is told a due time, and waits for the state's row behind two drains. 2. The second
//!   sets the watermark to its own now. 3. He inserts a due time that has passed, and no drain looks there.
//! - *Carried into what is truncated.* 1. A timer is due beyond the next window. 2. Rotation copies it into the table that it
//!   truncates in the same transaction. 3. The original stays in the table that is drained now, and is truncated at the end
//!   of a window in which it was not due.
//!
//! And it cancels what has fired: a delivered row is still there to be deleted.
//!
//! What differs from the draft: windows are a second long, not a day; ids are the event's; rotation waits for the drains
//! instead of draining itself, which makes no difference to what is lost; a drain's now is the clock's when it has the row.
//! Only messages, as in the draft: a queue of workflows keeps the engine's timers.

use crate::guard::Guard;
use crate::procedures::Db;
use crate::procedures::producer::{append_event, current_table};
use crate::procedures::timer::put;
use crate::schema::{DrainRow, QueueRow, Sequence, Timer, event_table, timer_table};
use crate::store::locks::{LockKey, Mode};
use crate::store::rows::RowLock;
use crate::store::statement::Policy;
use crate::store::transaction::Undo;
use alloc::vec::Vec;
use core::ops::Bound;
use tourbillon_models::history::PlainReply;
use tourbillon_models::name::{EventId, Micros, Queue, Tick};
use tourbillon_models::op::QueueKind;
use tourbillon_models::reply::{Event, Refusal, Reply};

/// How long a window is.
pub const WINDOW: Micros = Micros::from_secs(1);

/// Whether this queue's timers are the draft's.
pub fn is_used(db: &Db, queue: Queue) -> bool {
    !db.guards.on(Guard::TimersRideTicks)
        && db.tx.get::<QueueRow>(queue).is_some_and(|row| row.kind == QueueKind::Plain)
}

async fn lock_state(db: &Db, queue: Queue, lock: RowLock) -> Result<DrainRow, Refusal> {
    let locked = db.tx.select_for::<DrainRow>(queue, lock, Policy::Wait, |_| true).await?;
    locked.ok_or(Refusal::UndefinedObject)
}

pub async fn schedule(db: &Db, queue: Queue, due: Micros, event: Event) -> Result<PlainReply, Refusal> {
    let state = lock_state(db, queue, RowLock::Share).await?;
    let table = if due <= state.window_end { state.current_table } else { 1 - state.current_table };
    db.tx.lock(LockKey::Table(timer_table(queue, table)), Mode::RowExclusive).await?;
    let id = EventId(db.next_value(Sequence::EventId));
    let xid = db.tx.with(|store, slot| store.transactions.assign_xid(slot));
    put(db, queue, table, Timer { due, event: Event { id, xid, ..event } });
    Ok(Reply::Scheduled { event: id, due, table })
}

pub async fn drain(db: &Db, queue: Queue, limit: u32) -> Result<PlainReply, Refusal> {
    let state = lock_state(db, queue, RowLock::Update).await?;
    let now = db.clock();
    let drained = state.current_table;
    db.tx.lock(LockKey::Table(timer_table(queue, drained)), Mode::AccessShare).await?;
    let page = due(db, &state, now, limit.max(1) as usize);
    let table = current_table(db, queue)?;
    if !page.is_empty() {
        db.tx.lock(LockKey::Table(event_table(queue, table)), Mode::RowExclusive).await?;
        page.iter().try_for_each(|timer| append_event(db, queue, table, timer.event))?;
    }
    db.tx.update::<DrainRow>(queue, |_| true, |row, _| row.watermark = now).await?;
    let fired: Vec<u32> = page.iter().map(|timer| timer.event.id.0).collect();
    let table = if fired.is_empty() { 0 } else { table };
    Ok(Reply::Drained {
        tick: Tick(0),
        fired,
        dead: Vec::new(),
        resumed: Vec::new(),
        undeliverable: Vec::new(),
        table,
        is_done: true,
    })
}

/// What is due after the watermark and by now. The table must be locked.
fn due(db: &Db, state: &DrainRow, now: Micros, limit: usize) -> Vec<Timer> {
    let end_of = |due| (due, EventId(u32::MAX));
    let keys = (Bound::Excluded(end_of(state.watermark)), Bound::Included(end_of(now.max(state.watermark))));
    db.tx.with(|store, slot| {
        let timers = &store.tables.timers[state.queue.0 as usize][state.current_table as usize];
        timers.range(keys, &store.transactions, slot).take(limit).map(|(_, timer)| *timer).collect()
    })
}

pub async fn rotate(db: &Db, queue: Queue) -> Result<PlainReply, Refusal> {
    let state = lock_state(db, queue, RowLock::Update).await?;
    let now = db.clock();
    if now < state.window_end {
        return Ok(Reply::TimersKept);
    }
    let (drained, later) = (state.current_table, 1 - state.current_table);
    db.tx.lock(LockKey::Table(timer_table(queue, drained)), Mode::AccessShare).await?;
    if !due(db, &state, now, 1).is_empty() {
        return Ok(Reply::TimersKept);
    }
    let window_end = state.window_end + WINDOW;
    db.tx.lock(LockKey::Table(timer_table(queue, drained)), Mode::RowExclusive).await?;
    db.tx.lock(LockKey::Table(timer_table(queue, later)), Mode::AccessShare).await?;
    let far = (Bound::Excluded((window_end, EventId(u32::MAX))), Bound::Unbounded);
    let carried: Vec<Timer> = db.tx.with(|store, slot| {
        let timers = &store.tables.timers[queue.0 as usize][later as usize];
        timers.range(far, &store.transactions, slot).map(|(_, timer)| *timer).collect()
    });
    carried.iter().for_each(|timer| put(db, queue, drained, *timer));
    db.tx.lock(LockKey::Table(timer_table(queue, drained)), Mode::AccessExclusive).await?;
    db.tx.with(|store, slot| {
        store.transactions.assign_xid(slot);
        store.tables.timers[queue.0 as usize][drained as usize].truncate();
        store.transactions.of_mut(slot).undo.push(Undo::Truncate { table: timer_table(queue, drained) });
    });
    let swap = |row: &mut DrainRow, _| {
        (row.current_table, row.watermark, row.window_end) = (later, state.window_end, window_end);
    };
    db.tx.update::<DrainRow>(queue, |_| true, swap).await?;
    Ok(Reply::TimersRotated { table: drained, moved: carried.len() as u32 })
}
