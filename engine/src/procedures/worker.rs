//! Workers and their leases on windows: `sql/worker.sql`.

use super::Db;
use super::dead_letter::bury;
use super::end::end_workflows;
use super::handoff::window_event_ids;
use super::isolation::is_isolated;
use super::queue::{Database, lock_window, tick_after, tick_at, window_events};
use crate::guard::Guard;
use crate::schema::{Sequence, SubscriptionRow, Window, WorkerRow};
use crate::store::rows::RowLock;
use crate::store::statement::{Has, Policy};
use alloc::vec::Vec;
use tourbillon_models::history::PlainReply;
use tourbillon_models::name::{Consumer, EventId, Micros, Queue, Tick, Token, WorkerId};
use tourbillon_models::reply::{Event, Refusal, Reply};
use tourbillon_models::state::DeadReason;

pub async fn register(db: Db, consumer: Consumer) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    db.tx.get::<SubscriptionRow>(consumer).ok_or(Refusal::UndefinedObject)?;
    let worker = WorkerId(db.next_value(Sequence::WorkerId));
    let heartbeat = db.clock();
    db.tx.insert(WorkerRow { worker, consumer, window: None, heartbeat, crashes: 0, held: None }).await?;
    Ok(Reply::Registered { worker })
}

pub async fn heartbeat(db: Db, worker: WorkerId, token: Token) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    let at = heartbeat_time(&db);
    let change = |row: &mut WorkerRow, now| row.heartbeat = at(now);
    let beaten = db.tx.update::<WorkerRow>(worker, |row| has_token(row, token), change).await?;
    note_heartbeat(&db, worker);
    if beaten { Ok(Reply::Done) } else { Err(Refusal::StaleToken) }
}

/// What a heartbeat says, given the clock when it is written.
fn heartbeat_time(db: &Db) -> impl Fn(Micros) -> Micros {
    let begun = (!db.guards.on(Guard::WallClockHeartbeat)).then(|| db.transaction_clock());
    move |now| begun.unwrap_or_else(|| db.lease_clock(now))
}

/// No heartbeat is earlier than the earliest known: one that had to wait for its row may be, or one after the clock was
/// set back.
pub fn note_heartbeat(db: &Db, worker: WorkerId) {
    let Some(row) = db.tx.get::<WorkerRow>(worker) else { return };
    db.tx.with(|store, _| store.tables.no_heartbeat_before = store.tables.no_heartbeat_before.min(row.heartbeat));
}

/// The row is locked until the transaction ends: nobody takes the window over meanwhile. And it is marked, so that the
/// transaction cannot commit before it has handed the window off. Who falls silent in it loses its session.
pub async fn hold(db: Db, worker: WorkerId, token: Token) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    let held = match db.guards.on(Guard::HoldLock) {
        true => {
            let marks = db.guards.on(Guard::HeldMustFinish);
            let tx = marks.then(|| db.tx.with(|store, slot| store.transactions.current(slot)));
            let change = |row: &mut WorkerRow, now| {
                row.heartbeat = db.lease_clock(now);
                row.held = tx;
            };
            db.tx.update(worker, |row| has_token(row, token), change).await?
        }
        false => db.tx.get::<WorkerRow>(worker).is_some_and(|row| has_token(&row, token)),
    };
    note_heartbeat(&db, worker);
    if !held {
        return Err(Refusal::StaleToken);
    }
    db.tx.with(|store, slot| store.transactions.of_mut(slot).ends_when_idle = true);
    Ok(Reply::Done)
}

pub fn has_token(row: &WorkerRow, token: Token) -> bool {
    row.window.is_some_and(|window| window.token == token)
}

/// The first half of `claim`: a cheap look, without locks. Idle workers must not queue for the subscription.
pub fn is_claim_idle(db: &Db, worker: WorkerId, dead_interval: Micros) -> Result<bool, Refusal> {
    db.require_read_committed()?;
    let subscription = free_worker(db, worker)?;
    let has_stale = has_stale_worker(db, subscription.consumer, dead_before(db, dead_interval));
    Ok(!has_stale && !has_tick_after(db, &subscription))
}

/// The second half of `claim`, where the first has found something to do.
pub async fn claim_window(db: Db, worker: WorkerId, dead_interval: Micros) -> Result<PlainReply, Refusal> {
    let consumer = free_worker(&db, worker)?.consumer;
    let subscription = lock_subscription(&db, consumer).await?;
    match take_over_stale(&db, worker, consumer, dead_interval).await? {
        Some(claimed) => Ok(claimed),
        None => claim_next(&db, worker, &subscription, dead_interval).await,
    }
}

/// The first half of a claim, as a duty of its own.
pub async fn take_over(db: Db, worker: WorkerId, dead_interval: Micros) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    let consumer = free_worker(&db, worker)?.consumer;
    if !has_stale_worker(&db, consumer, dead_before(&db, dead_interval)) {
        return Ok(Reply::Idle);
    }
    lock_subscription(&db, consumer).await?;
    Ok(take_over_stale(&db, worker, consumer, dead_interval).await?.unwrap_or(Reply::Idle))
}

/// The subscription of a worker that has no window open.
fn free_worker(db: &Db, worker: WorkerId) -> Result<SubscriptionRow, Refusal> {
    let own = db.tx.get::<WorkerRow>(worker).ok_or(Refusal::UndefinedObject)?;
    let subscription = db.tx.get::<SubscriptionRow>(own.consumer).ok_or(Refusal::UndefinedObject)?;
    if own.window.is_none() { Ok(subscription) } else { Err(Refusal::WindowOpen) }
}

async fn lock_subscription(db: &Db, consumer: Consumer) -> Result<SubscriptionRow, Refusal> {
    let subscription = match db.guards.on(Guard::ClaimLock) {
        true => db.tx.select_for(consumer, RowLock::Update, Policy::Wait, |_| true).await?,
        false => db.tx.get::<SubscriptionRow>(consumer),
    };
    subscription.ok_or(Refusal::UndefinedObject)
}

/// A lease whose last heartbeat lies before this time may be taken over.
fn dead_before(db: &Db, dead_interval: Micros) -> Micros {
    match db.guards.on(Guard::TakeoverNotEarly) {
        true => db.lease_clock(db.clock()) - dead_interval,
        false => db.lease_clock(db.clock()) - Micros(dead_interval.0 / 2),
    }
}

fn is_stale(row: &WorkerRow, consumer: Consumer, dead_before: Micros) -> bool {
    row.consumer == consumer && row.window.is_some() && row.heartbeat < dead_before
}

fn has_stale_worker(db: &Db, consumer: Consumer, dead_before: Micros) -> bool {
    db.tx.with(|store, slot| {
        let looks_back = store.transactions.of(slot).snapshot.is_some();
        if dead_before <= store.tables.no_heartbeat_before && !looks_back {
            // Nothing is noted as read: what others do at this time changes nothing here. Every lease that is there or may
            // be has a later heartbeat, whichever of their transactions commit, and one that is written now has this time.
            return false;
        }
        store.tables.no_heartbeat_before = earliest_heartbeat(store);
        let mut workers = Has::<WorkerRow>::rows(&store.tables).all(&store.transactions, slot);
        workers.any(|(_, row)| is_stale(row, consumer, dead_before))
    })
}

fn fresh_token(db: &Db) -> Token {
    match db.guards.on(Guard::TokenRandom) {
        true => Token(db.random),
        false => Token(db.next_value(Sequence::Token).into()),
    }
}

/// Of every lease that may be or become visible; what is written later has a later heartbeat, or is noted.
fn earliest_heartbeat(store: &Database) -> Micros {
    let current = Has::<WorkerRow>::rows(&store.tables).every_current(&store.transactions);
    let open = current.filter(|row| row.window.is_some()).map(|row| row.heartbeat);
    open.fold(store.clock, Micros::min)
}

fn has_tick_after(db: &Db, subscription: &SubscriptionRow) -> bool {
    db.tx.with(|store, slot| tick_after(store, slot, subscription.queue, subscription.cursor).is_some())
}

/// A locked lease is alive, however old its heartbeat.
async fn take_over_stale(
    db: &Db,
    worker: WorkerId,
    consumer: Consumer,
    dead_interval: Micros,
) -> Result<Option<PlainReply>, Refusal> {
    let dead_before = dead_before(db, dead_interval);
    if !has_stale_worker(db, consumer, dead_before) {
        return Ok(None);
    }
    let stale = |row: &WorkerRow| is_stale(row, consumer, dead_before);
    let locked = db.tx.select_range_for::<WorkerRow>(.., RowLock::Update, Policy::SkipLocked, 1, stale).await?;
    let Some(victim) = locked.first() else { return Ok(None) };
    let stolen = victim.window.expect("a stale lease has a window");
    let token = if db.guards.on(Guard::TakeoverFreshToken) { fresh_token(db) } else { stolen.token };
    let window = Window { token, ..stolen };
    let crashes = if db.guards.on(Guard::CrashCounted) { victim.crashes + 1 } else { 0 };
    open_window(db, worker, window, crashes).await?;
    if db.guards.on(Guard::TakeoverClearsVictim) {
        db.tx.update::<WorkerRow>(victim.worker, |_| true, |row, _| row.window = None).await?;
    }
    let isolated = is_isolated(db, crashes);
    Ok(Some(Reply::Claimed { token, prev: window.prev, next: window.next, victim: victim.worker, isolated }))
}

/// Walks to the next window that holds an event; those that hold none are closed here.
async fn claim_next(
    db: &Db,
    worker: WorkerId,
    subscription: &SubscriptionRow,
    dead_interval: Micros,
) -> Result<PlainReply, Refusal> {
    let &SubscriptionRow { consumer, queue, cursor } = subscription;
    let mut prev = cursor;
    loop {
        let Some(next) = db.tx.with(|store, slot| tick_after(store, slot, queue, prev)) else {
            if prev != cursor {
                move_cursor(db, consumer, prev).await?;
            }
            return Ok(Reply::Idle);
        };
        if !db.guards.on(Guard::NoStalenessGate) && bury_stale(db, subscription, prev, next, dead_interval).await? {
            prev = next;
            continue;
        }
        if !db.guards.on(Guard::EmptyWindow) || window_has_events(db, queue, prev, next).await? {
            move_cursor(db, consumer, next).await?;
            let token = fresh_token(db);
            open_window(db, worker, Window { token, prev, next }, 0).await?;
            return Ok(Reply::Claimed { token, prev, next, victim: WorkerId(0), isolated: false });
        }
        prev = next;
    }
}

/// What a gate for stale events would do: buries a whole window that is old, undelivered.
async fn bury_stale(
    db: &Db,
    subscription: &SubscriptionRow,
    prev: Tick,
    next: Tick,
    dead_interval: Micros,
) -> Result<bool, Refusal> {
    let &SubscriptionRow { consumer, queue, .. } = subscription;
    let horizon = db.clock() - Micros(4 * dead_interval.0);
    let is_old = db.tx.with(|store, slot| tick_at(store, slot, queue, next).is_some_and(|tick| tick.at < horizon));
    if is_old {
        let window = Window { token: Token(0), prev, next };
        let events = window_event_ids(db, queue, window).await?;
        let stale: Vec<_> = events.into_iter().map(|event| (event, DeadReason::Attempts)).collect();
        let ended = bury(db, queue, consumer, window, &stale).await?;
        end_workflows(db, &ended).await?;
    }
    Ok(is_old)
}

async fn window_has_events(db: &Db, queue: Queue, prev: Tick, next: Tick) -> Result<bool, Refusal> {
    lock_window(db, queue).await?;
    let mut found = false;
    window_events(db, queue, prev, next, |_| {
        found = true;
        false
    });
    Ok(found)
}

async fn move_cursor(db: &Db, consumer: Consumer, cursor: Tick) -> Result<(), Refusal> {
    db.tx.update::<SubscriptionRow>(consumer, |_| true, |row, _| row.cursor = cursor).await?;
    Ok(())
}

/// The worker may have been given a window by another of its sessions while this one waited for the subscription.
async fn open_window(db: &Db, worker: WorkerId, window: Window, crashes: u32) -> Result<(), Refusal> {
    let at = heartbeat_time(db);
    let change = |row: &mut WorkerRow, now| {
        row.window = Some(window);
        row.heartbeat = at(now);
        row.crashes = crashes;
    };
    let opened = db.tx.update::<WorkerRow>(worker, |row| row.window.is_none(), change).await?;
    note_heartbeat(db, worker);
    if opened { Ok(()) } else { Err(Refusal::WindowOpen) }
}

pub async fn read(db: Db, worker: WorkerId, token: Token, after: EventId, limit: u32) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    let row = db.tx.get::<WorkerRow>(worker).filter(|row| has_token(row, token)).ok_or(Refusal::StaleToken)?;
    let (queue, window) = (queue_of(&db, row.consumer)?, row.window.ok_or(Refusal::StaleToken)?);
    lock_window(&db, queue).await?;
    let mut events: Vec<Event> = Vec::new();
    window_events(&db, queue, window.prev, window.next, |event| {
        if event.id > after {
            events.push(*event);
        }
        true
    });
    events.sort_unstable_by_key(|event| event.id);
    events.truncate(limit as usize);
    Ok(Reply::Events(events))
}

pub fn queue_of(db: &Db, consumer: Consumer) -> Result<Queue, Refusal> {
    Ok(db.tx.get::<SubscriptionRow>(consumer).ok_or(Refusal::UndefinedObject)?.queue)
}

#[cfg(test)]
mod tests;
