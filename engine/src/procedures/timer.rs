//! Timers ride the ticks: `sql/timer.sql`.
//!
//! A timer is the event that it will be: it has its id from the time when it is scheduled, and becomes an event under that
//! id in the transaction that drains it. Its row is written once. Firing neither updates nor deletes it; what is delivered
//! is told by a cursor, and goes when its table is truncated. Not here: what makes an idle queue tick (`queue::tick`).
//!
//! A timer is *due in tick k* if due ≤ `W_k`, the tick's clock, and `S_k`, its snapshot, sees the xid in its row. The cursor
//! names a tick that is done, perhaps one that is open, and a position (due, id). A timer is *delivered* if it was due in
//! the done tick, or is due in the open one and not behind the position.
//!
//! None is lost:
//! 1. A timer that was due in a tick is due in every later one: the row never changes, `W` never falls, and of the later of
//!    two snapshots of a queue the later tick has the one that sees more.
//! 2. Some tick has it due. The clock reaches its time; its transaction is over at some time; and an idle queue ticks
//!    while there is a timer which the latest tick does not have due, and a tick now would.
//! 3. A round is for what is due in the open tick and was not in the done one: a later due time than `W_done`, or an earlier
//!    one and a transaction that `S_done` did not see. The first are read by due time, the others, the late ones, by xid.
//! 4. Both are numbers in rows and in the cursor, so who belongs to a round is settled when it opens: nobody enters it behind
//!    the position. Only a page that is not full ends it. Then all of the round is delivered, and done is what was open.
//! 5. Rotation moves what is not delivered, with due time, id and xid, so it stays due in the same ticks. It looks in a
//!    statement that starts when it has the table for itself, and nobody has rows there that are not committed.
//!
//! None is fired twice:
//! 6. Whoever delivers, moves or cancels has the cursor's row locked, and reads it then.
//! 7. A page is what is due in the open tick and not delivered. Its events and the cursor behind it are one transaction.
//! 8. A timer is in one table at a time: it is moved and its old table truncated in one transaction.
//! 9. What is cancelled was not delivered, and is gone before anybody else has the cursor.
//!
//! None is early:
//! 10. It is due in the open tick, so at its due time or later by `W_open`; and while the clock, having stepped back, is
//!     before `W_open`, nothing is delivered.
//!
//! None keeps the others:
//! 11. A page that fails is taken back and goes timer by timer. One that cannot become an event because of what it is, is a
//!     dead letter in the same transaction.
//!
//! Cost: by the index on (due, id), what is due; by that on xid, what was scheduled since the done tick, at the beginning of
//! a round; nothing for what is pending. A rotation looks at what is over and moves at most as much, and what is over counts
//! in two rotations at most: so each timer is paid for twice in all, and what is over never outweighs what is pending by
//! more than comes to an end in a period.

use super::Db;
use super::producer::{blank_event, require_kind};
use super::queue::{set_lock_timeout, tick_at};
use crate::designs::delayed_rotation;
use crate::guard::Guard;
use crate::schema::{CancelledRow, DrainRow, Edge, QueueRow, Sequence, TIMER_TABLES, Timer, timer_table};
use crate::store::locks::{LockKey, Mode};
use crate::store::ordered::{Deletion, Keyed};
use crate::store::rows::{Row, RowLock};
use crate::store::snapshot::Snapshot;
use crate::store::statement::{Has, Policy};
use crate::store::transaction::{Target, Undo};
use alloc::vec::Vec;
use core::ops::{Bound, Range};
use tourbillon_models::history::PlainReply;
use tourbillon_models::name::{EventId, Micros, Queue, Tick, Xid};
use tourbillon_models::op::QueueKind;
use tourbillon_models::reply::{Event, Refusal, Reply};

/// At any isolation level.
pub async fn schedule(db: Db, queue: Queue, payload: u64, delay: Micros) -> Result<PlainReply, Refusal> {
    require_kind(&db, queue, QueueKind::Plain)?;
    let due = db.clock() + delay;
    if delayed_rotation::is_used(&db, queue) {
        return delayed_rotation::schedule(&db, queue, due, blank_event(payload)).await;
    }
    let (event, table) = insert_timer(&db, queue, due, blank_event(payload)).await?;
    Ok(Reply::Scheduled { event, due, table })
}

/// The event's id, which is drawn here, and the table that it waits in. The pointer is a hint: by the time of the insert
/// the table may have been rotated away, and is read all the same.
pub async fn insert_timer(db: &Db, queue: Queue, due: Micros, event: Event) -> Result<(EventId, u8), Refusal> {
    let table = db.tx.get::<DrainRow>(queue).ok_or(Refusal::UndefinedObject)?.current_table;
    db.tx.lock(LockKey::Table(timer_table(queue, table)), Mode::RowExclusive).await?;
    let id = EventId(db.next_value(Sequence::EventId));
    let xid = db.tx.with(|store, slot| store.transactions.assign_xid(slot));
    put(db, queue, table, Timer { due, event: Event { id, xid, ..event } });
    Ok((id, table))
}

/// The table must be locked.
pub fn put(db: &Db, queue: Queue, table: u8, timer: Timer) {
    db.tx.with(|store, slot| {
        store.transactions.assign_xid(slot);
        let timers = &mut store.tables.timers[queue.0 as usize][table as usize];
        let position = timers.append(timer, &store.transactions, slot).into();
        let undo = Undo::Append { table: timer_table(queue, table), position };
        store.transactions.of_mut(slot).undo.push(undo);
    });
}

/// Whether a tick taken now would have a timer due that this one has not: its time has come since, or its transaction was
/// in progress then.
pub async fn is_timer_due(db: &Db, queue: Queue, latest: Tick) -> Result<bool, Refusal> {
    let now = db.clock();
    let tables = (0..TIMER_TABLES as u8).map(|table| LockKey::Table(timer_table(queue, table)));
    db.tx.lock_each(tables, Mode::AccessShare).await?;
    Ok(db.tx.with(|store, slot| {
        let mut timers = store.tables.timers[queue.0 as usize]
            .iter()
            .filter(|timers| !timers.is_empty(&store.transactions))
            .peekable();
        let Some(latest) = timers.peek().and_then(|_| tick_at(store, slot, queue, latest)) else { return false };
        timers.any(|timers| {
            let since = (Bound::Excluded(end_of(latest.at)), Bound::Included(end_of(now.max(latest.at))));
            let is_late = |xids| {
                let mut found = timers.range_by_xid(xids, &store.transactions, slot);
                found.any(|(_, timer)| timer.due <= latest.at)
            };
            timers.range(since, &store.transactions, slot).next().is_some()
                || xids_not_seen(&latest.snapshot, Xid(u32::MAX)).any(is_late)
        })
    }))
}

/// The xids below an end that a snapshot does not see.
pub fn xids_not_seen(snapshot: &Snapshot, end: Xid) -> impl Iterator<Item = Range<Xid>> {
    let in_progress = snapshot.in_progress.iter().map(|xid| *xid..Xid(xid.0 + 1));
    core::iter::once(snapshot.xmax..end).chain(in_progress)
}

/// Behind every timer of that time.
pub const fn end_of(due: Micros) -> (Micros, EventId) {
    (due, EventId(u32::MAX))
}

pub async fn lock_cursor(db: &Db, queue: Queue) -> Result<DrainRow, Refusal> {
    let locked = db.tx.select_for::<DrainRow>(queue, RowLock::Update, Policy::Wait, |_| true).await?;
    locked.ok_or(Refusal::UndefinedObject)
}

/// What the cursor has behind it.
pub fn is_delivered(cursor: &DrainRow, timer: &Timer) -> bool {
    let xid = timer.event.xid;
    let in_open = |open: &Edge| cursor.position >= Some(timer.key()) && open.snapshot.sees(xid);
    timer.due <= cursor.done.at && cursor.done.snapshot.sees(xid) || cursor.open.as_ref().is_some_and(in_open)
}

/// A message that is not delivered is deleted under the cursor's lock. For a transaction of its own: until it ends nothing
/// of the queue is drained.
pub async fn cancel(db: Db, queue: Queue, event: EventId, due: Micros) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    require_kind(&db, queue, QueueKind::Plain)?;
    let cursor = match db.guards.on(Guard::CancelLock) && !delayed_rotation::is_used(&db, queue) {
        true => lock_cursor(&db, queue).await?,
        false => db.tx.get::<DrainRow>(queue).ok_or(Refusal::UndefinedObject)?,
    };
    for table in 0..TIMER_TABLES as u8 {
        db.tx.lock(LockKey::Table(timer_table(queue, table)), Mode::RowExclusive).await?;
        if delete(&db, &cursor, table, (due, event)).await? {
            if !delayed_rotation::is_used(&db, queue) {
                // A row of its own, not a number in the cursor: a snapshot held open would keep all versions of that.
                db.tx.insert_or_nothing(CancelledRow { queue, table, event }).await?;
            }
            return Ok(Reply::Cancelled);
        }
    }
    Ok(Reply::TooLate)
}

/// False if there is no such timer, or it is delivered, or whoever was deleting it did.
async fn delete(db: &Db, cursor: &DrainRow, table: u8, key: (Micros, EventId)) -> Result<bool, Refusal> {
    let queue = cursor.queue;
    loop {
        let deletion = db.tx.with(|store, slot| {
            let timers = &mut store.tables.timers[queue.0 as usize][table as usize];
            let mut found = timers.range(key..=key, &store.transactions, slot);
            let (place, _) = found.find(|(_, timer)| !is_delivered(cursor, timer))?;
            drop(found);
            store.transactions.assign_xid(slot);
            let deletion = timers.deletion(place, &store.transactions, slot);
            if deletion == Deletion::Free {
                timers.delete(place, &store.transactions, slot);
                let undo = Undo::Delete { table: timer_table(queue, table), row: place };
                store.transactions.of_mut(slot).undo.push(undo);
            }
            Some(deletion)
        });
        match deletion {
            None => return Ok(false),
            Some(Deletion::Free) => return Ok(true),
            Some(Deletion::Pending(tx)) => db.tx.wait(Target::Transaction(tx)).await?,
            Some(Deletion::Gone) => return Err(Refusal::SerializationFailure),
        }
    }
}

pub async fn rotate_timers(db: Db, queue: Queue, lock_timeout: Micros) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    db.tx.get::<QueueRow>(queue).ok_or(Refusal::UndefinedObject)?;
    // As in a rotation of event tables.
    set_lock_timeout(&db, lock_timeout.max(Micros::from_millis(1)));
    let rotated = match delayed_rotation::is_used(&db, queue) {
        true => delayed_rotation::rotate(&db, queue).await,
        false => rotate_older(&db, queue).await,
    };
    set_lock_timeout(&db, Micros(0));
    rotated
}

/// What rotate_timers does once it has the cursor's lock.
async fn rotate_older(db: &Db, queue: Queue) -> Result<PlainReply, Refusal> {
    let cursor = &lock_cursor(db, queue).await?;
    let current = cursor.current_table;
    let older = 1 - current;
    // A cheap look, so that a table in use is not locked for nothing.
    if is_mostly_pending(db, cursor, older).await? {
        return Ok(Reply::TimersKept);
    }
    db.tx.lock(LockKey::Table(timer_table(queue, older)), Mode::AccessExclusive).await?;
    db.tx.lock(LockKey::Table(timer_table(queue, current)), Mode::RowExclusive).await?;
    let moved: Vec<Timer> = db.tx.with(|store, slot| {
        let timers = store.tables.timers[queue.0 as usize][older as usize].range(.., &store.transactions, slot);
        timers.map(|(_, timer)| *timer).filter(|timer| is_to_move(db, cursor, timer)).collect()
    });
    moved.iter().for_each(|timer| put(db, queue, current, *timer));
    db.tx.with(|store, slot| {
        store.transactions.assign_xid(slot);
        store.tables.timers[queue.0 as usize][older as usize].truncate();
        store.transactions.of_mut(slot).undo.push(Undo::Truncate { table: timer_table(queue, older) });
    });
    for cancelled in cancelled(db, queue).into_iter().filter(|row| row.table == older) {
        db.tx.delete::<CancelledRow>(cancelled.key(), |_| true).await?;
    }
    db.tx.update::<DrainRow>(queue, |_| true, |row, _| row.current_table = older).await?;
    Ok(Reply::TimersRotated { table: older, moved: moved.len() as u32 })
}

fn is_to_move(db: &Db, cursor: &DrainRow, timer: &Timer) -> bool {
    match db.guards.on(Guard::TimerMoveWhole) {
        true => !is_delivered(cursor, timer),
        false => timer.due > cursor.open.as_ref().unwrap_or(&cursor.done).at,
    }
}

/// Whether more would have to be moved than is over, delivered or cancelled. What is over counts in whichever table it lies:
/// one timer that is due in a year would otherwise keep the older table, and all that ever came to the current one. It
/// counts in two rotations at most, as each table is truncated in every other. Costs what is over.
async fn is_mostly_pending(db: &Db, cursor: &DrainRow, older: u8) -> Result<bool, Refusal> {
    let queue = cursor.queue;
    let reached = cursor.position.map_or(cursor.done.at, |(due, _)| due.max(cursor.done.at));
    let is_to_move = |timer: &Timer| is_to_move(db, cursor, timer);
    let mut over = cancelled(db, queue).len();
    for table in 0..TIMER_TABLES as u8 {
        db.tx.lock(LockKey::Table(timer_table(queue, table)), Mode::AccessShare).await?;
        over += db.tx.with(|store, slot| {
            let timers = &store.tables.timers[queue.0 as usize][table as usize];
            let past = timers.range(..=end_of(reached), &store.transactions, slot);
            past.filter(|(_, timer)| !is_to_move(timer)).count()
        });
    }
    Ok(db.tx.with(|store, slot| {
        let timers = &store.tables.timers[queue.0 as usize][older as usize];
        let pending = timers.range(.., &store.transactions, slot).filter(|(_, timer)| is_to_move(timer));
        pending.take(over + 1).count() > over
    }))
}

fn cancelled(db: &Db, queue: Queue) -> Vec<CancelledRow> {
    let keys = (queue, EventId(0))..=(queue, EventId(u32::MAX));
    db.tx.with(|store, slot| {
        let rows = Has::<CancelledRow>::rows(&store.tables).range(keys, &store.transactions, slot);
        rows.map(|(_, row)| row.clone()).collect()
    })
}

#[cfg(test)]
mod tests;
