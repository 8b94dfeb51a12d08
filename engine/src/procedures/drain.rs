//! What is due becomes events, a page at a time: `sql/drain.sql`. Why none is lost, fired twice or early: see
//! [`timer`](super::timer).

use super::Db;
use super::dead_letter::{bury_undeliverable, is_about_row};
use super::end::{Ended, Resumed, end_workflows, resume};
use super::join::report_ends;
use super::producer::{append_event, current_table};
use super::queue::latest_tick;
use super::timer::{end_of, lock_cursor, xids_not_seen};
use crate::designs::delayed_rotation;
use crate::guard::Guard;
use crate::schema::{DrainRow, Edge, QueueRow, TIMER_TABLES, Timer, event_table, timer_table};
use crate::store::locks::{LockKey, Mode};
use crate::store::ordered::Keyed;
use crate::store::statement::Policy;
use alloc::vec::Vec;
use core::ops::Bound;
use tourbillon_models::history::PlainReply;
use tourbillon_models::name::{EventId, Micros, Queue, WorkflowId};
use tourbillon_models::reply::{Event, Refusal, Reply};

pub async fn drain(db: Db, queue: Queue, limit: u32) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    db.tx.get::<QueueRow>(queue).ok_or(Refusal::UndefinedObject)?;
    if delayed_rotation::is_used(&db, queue) {
        return delayed_rotation::drain(&db, queue, limit).await;
    }
    // A cheap look, without the lock, which would take an xid.
    let cursor = db.tx.get::<DrainRow>(queue).ok_or(Refusal::UndefinedObject)?;
    if round(&db, &cursor).is_none() {
        return Ok(Reply::Idle);
    }
    let cursor = lock_cursor(&db, queue).await?;
    let Some(open) = round(&db, &cursor) else { return Ok(Reply::Idle) };

    let limit = limit.max(1);
    let page = page(&db, &cursor, &open, limit).await?;
    let tick = open.tick;
    let is_done = page.len() < limit as usize || !db.guards.on(Guard::DrainPosition);
    let last = page.last().map(Keyed::key);
    let Delivered { fired, dead, ended, table } = match page.is_empty() {
        true => Delivered::default(),
        false => deliver(&db, queue, &page).await?,
    };
    let mut told = Resumed::default();
    if !ended.is_empty() {
        let reports = end_workflows(&db, &ended).await?;
        let joined = report_ends(&db, &reports).await?;
        told = resume(&db, queue, table, joined, Policy::Wait).await?;
    }
    let Resumed { resumed, undeliverable } = told;
    let advance = |row: &mut DrainRow, _| match is_done {
        true => (row.done, row.open, row.position) = (open.clone(), None, None),
        false => (row.open, row.position) = (Some(open.clone()), last),
    };
    db.tx.update::<DrainRow>(queue, |_| true, advance).await?;
    Ok(Reply::Drained { tick, fired, dead, resumed, undeliverable, table, is_done })
}

/// What is to be delivered now: the open round, else one up to the latest tick, if that is newer than the done one. None
/// while the clock, having stepped back, is before that tick.
fn round(db: &Db, cursor: &DrainRow) -> Option<Edge> {
    let latest = || db.tx.with(|store, slot| latest_tick(store, slot, cursor.queue, |row| Edge::from(row)));
    let newer = || latest().filter(|latest| latest.tick > cursor.done.tick);
    cursor.open.clone().or_else(newer).filter(|open| open.at <= db.clock())
}

/// At most so many timers of the round, by (due, id), behind the position.
async fn page(db: &Db, cursor: &DrainRow, open: &Edge, limit: u32) -> Result<Vec<Timer>, Refusal> {
    let (queue, done, limit) = (cursor.queue, &cursor.done, limit as usize);
    let tables = (0..TIMER_TABLES as u8).map(|table| LockKey::Table(timer_table(queue, table)));
    db.tx.lock_each(tables, Mode::AccessShare).await?;

    let end_of_done = end_of(done.at);
    let position = cursor.position.unwrap_or((Micros(0), EventId(0)));
    let due = (Bound::Excluded(position.max(end_of_done)), Bound::Included(end_of(open.at)));
    let is_seen = |timer: &Timer| open.snapshot.sees(timer.event.xid);
    let mut page: Vec<Timer> = Vec::new();
    db.tx.with(|store, slot| {
        for timers in &store.tables.timers[queue.0 as usize] {
            let found = timers.range(due, &store.transactions, slot).map(|(_, timer)| *timer);
            page.extend(found.filter(is_seen).take(limit));
            // Those that are late come first, so behind the first that is not there are none.
            if position < end_of_done && db.guards.on(Guard::DrainLatePath) {
                for xids in xids_not_seen(&done.snapshot, open.snapshot.xmax) {
                    let found = timers.range_by_xid(xids, &store.transactions, slot).map(|(_, timer)| *timer);
                    let is_late = |timer: &Timer| timer.due <= done.at && timer.key() > position && is_seen(timer);
                    page.extend(found.filter(is_late));
                }
            }
        }
    });
    page.sort_unstable_by_key(Keyed::key);
    page.truncate(limit);
    Ok(page)
}

#[derive(Default)]
struct Delivered {
    fired: Vec<u32>,
    dead: Vec<u32>,
    /// With what is dead.
    ended: Vec<Ended>,
    table: u8,
}

async fn deliver(db: &Db, queue: Queue, page: &[Timer]) -> Result<Delivered, Refusal> {
    let table = current_table(db, queue)?;
    let whole = match db.guards.on(Guard::DrainPoison) {
        true => db.tx.attempt(append(db, queue, table, page)).await,
        false => return append(db, queue, table, page).await.map(|()| all_fired(page, table)),
    };
    match whole {
        Ok(()) => Ok(all_fired(page, table)),
        Err(refusal) if is_about_row(refusal) => deliver_each(db, queue, table, page).await,
        Err(refusal) => Err(refusal),
    }
}

fn all_fired(page: &[Timer], table: u8) -> Delivered {
    Delivered { fired: page.iter().map(|timer| timer.event.id.0).collect(), table, ..Delivered::default() }
}

async fn deliver_each(db: &Db, queue: Queue, table: u8, page: &[Timer]) -> Result<Delivered, Refusal> {
    let mut delivered = Delivered { table, ..Delivered::default() };
    for timer in page {
        match db.tx.attempt(append(db, queue, table, core::slice::from_ref(timer))).await {
            Ok(()) => delivered.fired.push(timer.event.id.0),
            Err(refusal) if is_about_row(refusal) => {
                delivered.ended.extend(bury_undeliverable(db, queue, timer.event).await?);
                delivered.dead.push(timer.event.id.0);
            }
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(delivered)
}

async fn append(db: &Db, queue: Queue, table: u8, timers: &[Timer]) -> Result<(), Refusal> {
    db.tx.lock(LockKey::Table(event_table(queue, table)), Mode::RowExclusive).await?;
    timers.iter().try_for_each(|timer| {
        let event = match db.guards.on(Guard::TimerKeepsFields) {
            true => timer.event,
            false => Event { workflow: WorkflowId(0), sequence: 0, ..timer.event },
        };
        append_event(db, queue, table, event)
    })
}
