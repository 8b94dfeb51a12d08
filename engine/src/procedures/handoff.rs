//! The end of a window, or of one event of an isolated one: `sql/handoff.sql`.

use super::Db;
use super::dead_letter::{bury, end_workflows};
use super::isolation::{end_try, is_isolated};
use super::producer::{append_event, blank_event, current_table};
use super::queue::{lock_window, window_events};
use super::timer::put;
use super::worker::{has_token, queue_of};
use crate::guard::Guard;
use crate::schema::{DrainRow, Sequence, Timer, Window, WorkerRow, event_table, timer_table};
use crate::store::locks::{LockKey, Mode};
use crate::store::rows::RowLock;
use crate::store::statement::Policy;
use alloc::vec::Vec;
use tourbillon_models::history::{DeadReason, PlainReply};
use tourbillon_models::name::{EventId, Micros, Queue, Token, WorkerId, WorkflowId};
use tourbillon_models::op::{Decision, Verb};
use tourbillon_models::reply::{Event, Refusal, Reply};

/// What a decision comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// The workflow goes on at once.
    Event,
    /// The workflow goes on when it is due.
    Timer,
    Dead(DeadReason),
    End,
    /// A message was dealt with.
    Nothing,
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
    let isolated = locked.as_ref().is_some_and(|row| is_isolated(&db, row.crashes));
    let window = locked.and_then(|row| row.window);
    if let Some(window) = window
        && db.guards.on(Guard::AckWhatWasRead)
    {
        require_covered(&db, queue, window, isolated, &decisions).await?;
    }
    if isolated {
        end_try(&db, consumer, decisions.first().map(|decision| decision.event)).await?;
    }

    let mut ended: Vec<WorkflowId> = Vec::new();
    let mut dead: Vec<(EventId, DeadReason)> = Vec::new();
    for decision in &decisions {
        match fate(decision) {
            Fate::End => ended.push(decision.workflow),
            Fate::Dead(reason) => dead.push((decision.event, reason)),
            Fate::Event | Fate::Timer | Fate::Nothing => {}
        }
    }
    if let Some(window) = window
        && !dead.is_empty()
    {
        ended.append(&mut bury(&db, queue, consumer, window, &dead).await?);
    }
    if !ended.is_empty() {
        end_workflows(&db, ended).await?;
    }
    let reply = append_successors(&db, queue, &decisions).await?;

    let finish = |row: &mut WorkerRow, _| {
        row.held = None;
        if !isolated {
            row.window = None;
            row.crashes = 0;
        }
    };
    db.tx.update(worker, holds, finish).await?;
    Ok(reply)
}

fn fate(decision: &Decision) -> Fate {
    match decision.verb {
        Verb::Goto => Fate::Event,
        Verb::Sleep => Fate::Timer,
        Verb::Retry if decision.attempt > decision.max_attempts => Fate::Dead(DeadReason::Attempts),
        Verb::Retry if decision.delay > Micros(0) => Fate::Timer,
        Verb::Retry => Fate::Event,
        Verb::Reject => Fate::Dead(DeadReason::Rejected),
        Verb::Complete | Verb::Fail => Fate::End,
        Verb::Acknowledge => Fate::Nothing,
    }
}

/// Each event of the window is decided exactly once, and nothing else is; of an isolated window it is one event.
async fn require_covered(
    db: &Db,
    queue: Queue,
    window: Window,
    isolated: bool,
    decisions: &[Decision],
) -> Result<(), Refusal> {
    let events = window_event_ids(db, queue, window).await?;
    let mut decided: Vec<EventId> = decisions.iter().map(|decision| decision.event).collect();
    decided.sort_unstable();
    let covers = match isolated {
        true => decided.len() == 1 && events.contains(&decided[0]),
        false => decided == events,
    };
    if covers { Ok(()) } else { Err(Refusal::WindowMismatch) }
}

/// The ids of the window's events, in order.
pub async fn window_event_ids(db: &Db, queue: Queue, window: Window) -> Result<Vec<EventId>, Refusal> {
    lock_window(db, queue).await?;
    let mut events: Vec<EventId> = Vec::new();
    window_events(db, queue, window.prev, window.next, |event| {
        events.push(event.id);
        true
    });
    events.sort_unstable();
    Ok(events)
}

/// Ids are drawn in the order of the decisions; then all events are appended, then all timers.
async fn append_successors(db: &Db, queue: Queue, decisions: &[Decision]) -> Result<PlainReply, Refusal> {
    let mut appended = Vec::with_capacity(decisions.len());
    let (mut events, mut timers) = (Vec::new(), Vec::new());
    let now = db.clock();
    for decision in decisions {
        appended.push(match fate(decision) {
            Fate::Event => {
                let event = successor(db, decision);
                events.push(event);
                event.id.0
            }
            Fate::Timer => {
                let event = successor(db, decision);
                timers.push((now + decision.delay, event));
                event.id.0
            }
            Fate::Dead(_) if decision.verb == Verb::Retry => 0,
            Fate::Dead(_) | Fate::End | Fate::Nothing => continue,
        });
    }
    let table = append_events(db, queue, events).await?;
    let timer_table = append_timers(db, queue, timers).await?;
    Ok(Reply::HandedOff { appended, table, timer_table })
}

fn successor(db: &Db, decision: &Decision) -> Event {
    let &Decision { workflow, verb, sequence, step, attempt, state, .. } = decision;
    let id = EventId(db.next_value(Sequence::EventId));
    let is_fresh = verb != Verb::Retry || db.guards.on(Guard::RetryFreshSequence);
    let sequence = if is_fresh { sequence } else { sequence - 1 };
    Event { id, workflow, sequence, step, attempt, ..blank_event(state) }
}

async fn append_events(db: &Db, queue: Queue, events: Vec<Event>) -> Result<u8, Refusal> {
    if events.is_empty() {
        return Ok(0);
    }
    let table = current_table(db, queue)?;
    db.tx.lock(LockKey::Table(event_table(queue, table)), Mode::RowExclusive).await?;
    for event in events {
        append_event(db, queue, table, event)?;
    }
    Ok(table)
}

async fn append_timers(db: &Db, queue: Queue, timers: Vec<(Micros, Event)>) -> Result<u8, Refusal> {
    if timers.is_empty() {
        return Ok(0);
    }
    let table = db.tx.get::<DrainRow>(queue).ok_or(Refusal::UndefinedObject)?.current_table;
    db.tx.lock(LockKey::Table(timer_table(queue, table)), Mode::RowExclusive).await?;
    let xid = db.tx.with(|store, slot| store.transactions.assign_xid(slot));
    for (due, event) in timers {
        put(db, queue, table, Timer { due, event: Event { xid, ..event } });
    }
    Ok(table)
}
