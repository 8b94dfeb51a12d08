//! Workers and their leases on windows: `sql/worker.sql`.

use super::Db;
use super::producer::{blank_event, current_table, insert_event};
use super::queue::{Database, lock_window, tick_after, window_events};
use crate::guard::Guard;
use crate::schema::{Sequence, SubscriptionRow, Window, WorkerRow, WorkflowRow};
use crate::store::rows::RowLock;
use crate::store::statement::{Has, Policy};
use alloc::vec::Vec;
use tourbillon_models::history::PlainReply;
use tourbillon_models::name::{Consumer, EventId, Micros, Queue, Tick, Token, WorkerId, WorkflowId};
use tourbillon_models::op::{Decision, Verb};
use tourbillon_models::reply::{Event, Refusal, Reply};

pub async fn register(db: Db, consumer: Consumer) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    db.tx.get::<SubscriptionRow>(consumer).ok_or(Refusal::UndefinedObject)?;
    let worker = WorkerId(db.next_value(Sequence::WorkerId));
    let heartbeat = db.clock();
    db.tx.insert(WorkerRow { worker, consumer, window: None, heartbeat, crashes: 0 }).await?;
    Ok(Reply::Registered { worker })
}

pub async fn heartbeat(db: Db, worker: WorkerId, token: Token) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    touch(&db, worker, token).await
}

/// The row is locked until the transaction ends: nobody takes the window over meanwhile.
pub async fn hold(db: Db, worker: WorkerId, token: Token) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    touch(&db, worker, token).await
}

async fn touch(db: &Db, worker: WorkerId, token: Token) -> Result<PlainReply, Refusal> {
    let holds = |row: &WorkerRow| has_token(row, token);
    match db.tx.update(worker, holds, |row, now| row.heartbeat = now).await? {
        true => Ok(Reply::Done),
        false => Err(Refusal::StaleToken),
    }
}

fn has_token(row: &WorkerRow, token: Token) -> bool {
    row.window.is_some_and(|window| window.token == token)
}

pub async fn claim(db: Db, worker: WorkerId, dead_interval: Micros) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    let own = db.tx.get::<WorkerRow>(worker).ok_or(Refusal::UndefinedObject)?;
    let subscription = db.tx.get::<SubscriptionRow>(own.consumer).ok_or(Refusal::UndefinedObject)?;
    if own.window.is_some() {
        return Err(Refusal::WindowOpen);
    }
    // A cheap look, without locks: idle workers must not queue for the subscription.
    let dead_before = db.clock() - dead_interval;
    if !has_stale_worker(&db, own.consumer, dead_before) && !has_tick_after(&db, &subscription) {
        return Ok(Reply::Idle);
    }
    let subscription = match db.guards.on(Guard::ClaimLock) {
        true => db.tx.select_for(own.consumer, RowLock::Update, Policy::Wait, |_| true).await?,
        false => db.tx.get::<SubscriptionRow>(own.consumer),
    };
    let subscription = subscription.ok_or(Refusal::UndefinedObject)?;
    match take_over(&db, worker, own.consumer, dead_interval).await? {
        Some(claimed) => Ok(claimed),
        None => claim_next(&db, worker, &subscription).await,
    }
}

fn is_stale(row: &WorkerRow, consumer: Consumer, dead_before: Micros) -> bool {
    row.consumer == consumer && row.window.is_some() && row.heartbeat < dead_before
}

fn has_stale_worker(db: &Db, consumer: Consumer, dead_before: Micros) -> bool {
    db.tx.with(|store, slot| {
        let looks_back = store.transactions.of(slot).snapshot.is_some();
        if dead_before <= store.tables.no_heartbeat_before && !looks_back {
            return false;
        }
        store.tables.no_heartbeat_before = earliest_heartbeat(store);
        let mut workers = Has::<WorkerRow>::rows(&store.tables).all(&store.transactions, slot);
        workers.any(|(_, row)| is_stale(row, consumer, dead_before))
    })
}

/// Of every lease that may be or become visible; what is written later has a later heartbeat.
fn earliest_heartbeat(store: &Database) -> Micros {
    let current = Has::<WorkerRow>::rows(&store.tables).every_current(&store.transactions);
    let open = current.filter(|row| row.window.is_some()).map(|row| row.heartbeat);
    open.fold(store.clock, Micros::min)
}

fn has_tick_after(db: &Db, subscription: &SubscriptionRow) -> bool {
    db.tx.with(|store, slot| tick_after(store, slot, subscription.queue, subscription.cursor).is_some())
}

/// A locked lease is alive, however old its heartbeat.
async fn take_over(
    db: &Db,
    worker: WorkerId,
    consumer: Consumer,
    dead_interval: Micros,
) -> Result<Option<PlainReply>, Refusal> {
    let dead_before = db.clock() - dead_interval;
    if !has_stale_worker(db, consumer, dead_before) {
        return Ok(None);
    }
    let stale = |row: &WorkerRow| is_stale(row, consumer, dead_before);
    let locked = db.tx.select_range_for::<WorkerRow>(.., RowLock::Update, Policy::SkipLocked, 1, stale).await?;
    let Some(victim) = locked.first() else { return Ok(None) };
    let stolen = victim.window.expect("a stale lease has a window");
    let token = if db.guards.on(Guard::TakeoverFreshToken) { Token(db.random) } else { stolen.token };
    let window = Window { token, ..stolen };
    open_window(db, worker, window, victim.crashes + 1).await?;
    if db.guards.on(Guard::TakeoverClearsVictim) {
        db.tx.update::<WorkerRow>(victim.worker, |_| true, |row, _| row.window = None).await?;
    }
    Ok(Some(Reply::Claimed { token, prev: window.prev, next: window.next, victim: victim.worker }))
}

/// Walks to the next window that holds an event; those that hold none are closed here.
async fn claim_next(db: &Db, worker: WorkerId, subscription: &SubscriptionRow) -> Result<PlainReply, Refusal> {
    let &SubscriptionRow { consumer, queue, cursor } = subscription;
    let mut prev = cursor;
    loop {
        let Some(next) = db.tx.with(|store, slot| tick_after(store, slot, queue, prev)) else {
            if prev != cursor {
                move_cursor(db, consumer, prev).await?;
            }
            return Ok(Reply::Idle);
        };
        if !db.guards.on(Guard::EmptyWindow) || window_has_events(db, queue, prev, next).await? {
            move_cursor(db, consumer, next).await?;
            let token = Token(db.random);
            open_window(db, worker, Window { token, prev, next }, 0).await?;
            return Ok(Reply::Claimed { token, prev, next, victim: WorkerId(0) });
        }
        prev = next;
    }
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
    let change = |row: &mut WorkerRow, now| {
        row.window = Some(window);
        row.heartbeat = now;
        row.crashes = crashes;
    };
    match db.tx.update::<WorkerRow>(worker, |row| row.window.is_none(), change).await? {
        true => Ok(()),
        false => Err(Refusal::WindowOpen),
    }
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

fn queue_of(db: &Db, consumer: Consumer) -> Result<Queue, Refusal> {
    Ok(db.tx.get::<SubscriptionRow>(consumer).ok_or(Refusal::UndefinedObject)?.queue)
}

pub async fn handoff(db: Db, worker: WorkerId, token: Token, decisions: Vec<Decision>) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    let consumer = db.tx.get::<WorkerRow>(worker).ok_or(Refusal::UndefinedObject)?.consumer;
    let queue = queue_of(&db, consumer)?;
    let holds = |row: &WorkerRow| has_token(row, token);
    let locked = db.tx.select_for::<WorkerRow>(worker, RowLock::Update, Policy::Wait, holds).await?;
    if db.guards.on(Guard::FenceChecked) && locked.is_none() {
        return Err(Refusal::StaleToken);
    }
    if let Some(window) = locked.and_then(|row| row.window)
        && db.guards.on(Guard::AckWhatWasRead)
    {
        lock_window(&db, queue).await?;
        require_match(&db, queue, window, &decisions)?;
    }
    end_workflows(&db, &decisions).await?;
    let reply = append_successors(&db, queue, &decisions).await?;
    let finish = |row: &mut WorkerRow, _| {
        row.window = None;
        row.crashes = 0;
    };
    db.tx.update(worker, holds, finish).await?;
    Ok(reply)
}

/// Each event of the window is decided exactly once, and nothing else is.
fn require_match(db: &Db, queue: Queue, window: Window, decisions: &[Decision]) -> Result<(), Refusal> {
    let mut decided: Vec<EventId> = decisions.iter().map(|decision| decision.event).collect();
    decided.sort_unstable();
    let mut events: Vec<EventId> = Vec::with_capacity(decided.len());
    window_events(db, queue, window.prev, window.next, |event| {
        events.push(event.id);
        true
    });
    events.sort_unstable();
    if events == decided { Ok(()) } else { Err(Refusal::WindowMismatch) }
}

/// Live rows are locked in the order of their ids, then deleted.
async fn end_workflows(db: &Db, decisions: &[Decision]) -> Result<(), Refusal> {
    let ended = decisions.iter().filter(|decision| decision.verb == Verb::Complete);
    let mut ended: Vec<WorkflowId> = ended.map(|decision| decision.workflow).collect();
    ended.sort_unstable();
    for workflow in &ended {
        db.tx.select_for::<WorkflowRow>(*workflow, RowLock::Update, Policy::Wait, |_| true).await?;
    }
    for workflow in ended {
        db.tx.delete::<WorkflowRow>(workflow, |_| true).await?;
    }
    Ok(())
}

async fn append_successors(db: &Db, queue: Queue, decisions: &[Decision]) -> Result<PlainReply, Refusal> {
    let mut appended = Vec::new();
    let mut table = 0;
    let successors = decisions.iter().filter(|decision| decision.verb == Verb::Goto);
    for (index, decision) in successors.enumerate() {
        if index == 0 {
            table = current_table(db, queue)?;
        }
        let &Decision { workflow, sequence, step, state, .. } = decision;
        let event = Event { workflow, sequence, step, ..blank_event(state) };
        appended.push(insert_event(db, queue, table, event).await?.0);
    }
    Ok(Reply::HandedOff { appended, table })
}
