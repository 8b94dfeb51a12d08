//! Windows that have killed processes, handed out event by event: `sql/isolation.sql`.

use super::Db;
use super::dead_letter::bury;
use super::end::{Resumed, end_and_resume};
use super::handoff::window_event_ids;
use super::queue::window_events;
use super::worker::{has_token, note_heartbeat, queue_of};
use crate::guard::Guard;
use crate::schema::{TriesRow, Window, WorkerRow};
use alloc::vec::Vec;
use tourbillon_models::history::PlainReply;
use tourbillon_models::name::{Consumer, EventId, Queue, Token, WorkerId};
use tourbillon_models::reply::{Event, Refusal, Reply};
use tourbillon_models::state::DeadReason;

/// Two processes have died with the window, or were taken for dead: one may be chance.
pub const ISOLATED_FROM: u32 = 2;

pub fn is_isolated(db: &Db, crashes: u32) -> bool {
    crashes >= ISOLATED_FROM && db.guards.on(Guard::IsolateWindow)
}

/// What is handed out is counted before anybody runs it, in a transaction of its own: a handler that kills its process
/// counts nothing.
pub async fn hand_out(db: Db, worker: WorkerId, token: Token, max_tries: u16) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    let holds = |row: &WorkerRow| has_token(row, token);
    if !db.tx.update(worker, holds, |row: &mut WorkerRow, now| row.heartbeat = now).await? {
        return Err(Refusal::StaleToken);
    }
    note_heartbeat(&db, worker);
    let lease = db.tx.get::<WorkerRow>(worker).ok_or(Refusal::StaleToken)?;
    if !is_isolated(&db, lease.crashes) {
        return Err(Refusal::NotIsolated);
    }
    let (consumer, window) = (lease.consumer, lease.window.ok_or(Refusal::StaleToken)?);
    let queue = queue_of(&db, consumer)?;
    let events = window_event_ids(&db, queue, window).await?;
    for event in &events {
        db.tx.insert_or_nothing(TriesRow { consumer, event: *event, tries: 0, is_done: false }).await?;
    }

    let Buried { dead, told: Resumed { resumed, undeliverable }, table } =
        bury_tried(&db, queue, consumer, window, &events, max_tries).await?;
    let open = events.iter().filter_map(|event| db.tx.get::<TriesRow>((consumer, *event))).filter(|row| !row.is_done);
    let Some(next) = open.min_by_key(|row| (row.tries, row.event)) else {
        finish(&db, worker, consumer, &events).await?;
        return Ok(Reply::HandedOut { events: Vec::new(), tries: 0, dead, resumed, undeliverable, table });
    };
    if db.guards.on(Guard::TryBeforeRun) {
        db.tx.update::<TriesRow>((consumer, next.event), |_| true, |row, _| row.tries += 1).await?;
    }
    let events = find_event(&db, queue, window, next.event);
    Ok(Reply::HandedOut { events, tries: next.tries + 1, dead, resumed, undeliverable, table })
}

/// What has become a dead letter, what became of the parents, and the table that these went to.
#[derive(Default)]
struct Buried {
    dead: Vec<u32>,
    told: Resumed,
    table: u8,
}

/// Events that have no try left are dead letters, and done.
async fn bury_tried(
    db: &Db,
    queue: Queue,
    consumer: Consumer,
    window: Window,
    events: &[EventId],
    max_tries: u16,
) -> Result<Buried, Refusal> {
    let mut dead = Vec::new();
    for event in events {
        let is_tried = |row: &TriesRow| !row.is_done && row.tries >= max_tries;
        if db.tx.update((consumer, *event), is_tried, |row: &mut TriesRow, _| row.is_done = true).await? {
            dead.push(*event);
        }
    }
    if dead.is_empty() {
        return Ok(Buried::default());
    }
    let reasons: Vec<_> = dead.iter().map(|event| (*event, DeadReason::Tries)).collect();
    let ended = bury(db, queue, consumer, window, &reasons).await?;
    let (told, table) = end_and_resume(db, queue, &ended).await?;
    Ok(Buried { dead: dead.into_iter().map(|event| event.0).collect(), told, table })
}

/// All events of the window are done: nothing remembers their tries. A transaction that holds the window keeps its mark.
async fn finish(db: &Db, worker: WorkerId, consumer: Consumer, events: &[EventId]) -> Result<(), Refusal> {
    for event in events {
        db.tx.delete::<TriesRow>((consumer, *event), |_| true).await?;
    }
    let finish = |row: &mut WorkerRow, _| {
        row.window = None;
        row.crashes = 0;
    };
    db.tx.update(worker, |_| true, finish).await?;
    Ok(())
}

fn find_event(db: &Db, queue: Queue, window: Window, id: EventId) -> Vec<Event> {
    let mut found = Vec::new();
    window_events(db, queue, window.prev, window.next, |event| {
        if event.id == id {
            found.push(*event);
        }
        found.is_empty()
    });
    found
}

/// Flips an event that was handed out from not-done to done. The lease must be locked.
pub async fn end_try(db: &Db, consumer: Consumer, event: Option<EventId>) -> Result<(), Refusal> {
    let event = event.ok_or(Refusal::WindowMismatch)?;
    let row = db.tx.get::<TriesRow>((consumer, event)).ok_or(Refusal::WindowMismatch)?;
    if row.is_done && db.guards.on(Guard::IsolatedOnce) {
        return Err(Refusal::StaleToken);
    }
    let uncounted = u16::from(!db.guards.on(Guard::TryBeforeRun));
    let change = |row: &mut TriesRow, _| {
        row.is_done = true;
        row.tries += uncounted;
    };
    db.tx.update((consumer, event), |_| true, change).await?;
    Ok(())
}
