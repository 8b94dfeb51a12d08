//! The end of a window, or of one event of an isolated one: `sql/handoff.sql`.

use super::Db;
use super::dead_letter::bury;
use super::end::{self, Ended, end_workflows};
use super::isolation::{end_try, is_isolated};
use super::join::{MAX_CHILDREN, drop_results, report_ends};
use super::producer::{append_to, blank_event, current_table, fresh_workflow_id};
use super::queue::{lock_window, window_events};
use super::timer::put;
use super::wait::{Awaited, register_waits};
use super::worker::{has_token, queue_of};
use crate::guard::Guard;
use crate::schema::{DrainRow, OpenJoinRow, Sequence, Timer, Window, WorkerRow, WorkflowRow, timer_table};
use crate::store::locks::{LockKey, Mode};
use crate::store::rows::RowLock;
use crate::store::statement::Policy;
use alloc::vec::Vec;
use tourbillon_models::history::PlainReply;
use tourbillon_models::name::{EventId, Micros, Queue, Token, WorkerId, WorkflowId};
use tourbillon_models::op::{Decision, Verb};
use tourbillon_models::reply::{Arrival, ChildOutcome, Event, Refusal, Reply};
use tourbillon_models::state::{DeadReason, Parent};

/// What a decision comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// The workflow goes on at once.
    Event,
    /// The workflow goes on when it is due.
    Timer,
    /// The workflow goes on when something is emitted, or the deadline passes.
    Wait,
    /// The workflow goes on when its children have ended.
    Join,
    /// One of them.
    Child,
    Dead(DeadReason),
    End(ChildOutcome),
    /// A message was dealt with.
    Nothing,
}

impl Fate {
    /// Whether something comes of it that has an id.
    const fn has_id(self) -> bool {
        matches!(self, Fate::Event | Fate::Timer | Fate::Wait | Fate::Join | Fate::Child)
    }
}

/// A decision, and the ids that were drawn for it: of what follows, and of a child's workflow.
struct Drafted<'a> {
    decision: &'a Decision,
    fate: Fate,
    id: EventId,
    child: WorkflowId,
}

pub async fn handoff(db: Db, worker: WorkerId, token: Token, decisions: Vec<Decision>) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    require_children(&decisions)?;
    let consumer = db.tx.get::<WorkerRow>(worker).ok_or(Refusal::UndefinedObject)?.consumer;
    let queue = queue_of(&db, consumer)?;
    let holds = |row: &WorkerRow| has_token(row, token);
    let locked = db.tx.select_for::<WorkerRow>(worker, RowLock::Update, Policy::Wait, holds).await?;
    if db.guards.on(Guard::FenceChecked) && locked.is_none() {
        return Err(Refusal::StaleToken);
    }
    let isolated = locked.as_ref().is_some_and(|row| is_isolated(&db, row.crashes));
    let window = locked.and_then(|row| row.window);
    let mut joined = Vec::new();
    if let Some(window) = window
        && db.guards.on(Guard::AckWhatWasRead)
    {
        joined = require_covered(&db, queue, window, isolated, &decisions).await?;
    }
    if isolated {
        end_try(&db, consumer, decisions.first().map(|decision| decision.event)).await?;
    }

    let mut ended: Vec<Ended> = Vec::new();
    let mut dead: Vec<(EventId, DeadReason)> = Vec::new();
    for decision in &decisions {
        match fate(decision) {
            Fate::End(outcome) => {
                ended.push(Ended { workflow: decision.workflow, outcome, result: decision.state });
            }
            Fate::Dead(reason) => dead.push((decision.event, reason)),
            _ => {}
        }
    }
    if let Some(window) = window
        && !dead.is_empty()
    {
        ended.append(&mut bury(&db, queue, consumer, window, &dead).await?);
    }
    let reports = if ended.is_empty() { Vec::new() } else { end_workflows(&db, &ended).await? };

    let now = db.clock();
    let drafts = draft(&db, &decisions);
    if db.guards.on(Guard::ResultsUntilRead) {
        drop_results(&db, &joined, &decisions).await?;
    }
    let waits = drafts.iter().filter(|draft| draft.fate == Fate::Wait);
    let waits: Vec<Awaited> = waits.map(|draft| Awaited { id: draft.id, decision: draft.decision }).collect();
    let resumed = if waits.is_empty() { Vec::new() } else { register_waits(&db, queue, now, waits).await? };
    spawn(&db, queue, now, &drafts).await?;
    let completed = if reports.is_empty() { Vec::new() } else { report_ends(&db, &reports).await? };
    let reply = append_successors(&db, queue, now, &drafts, Resumed { waits: resumed, joins: completed }).await?;

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

fn require_children(decisions: &[Decision]) -> Result<(), Refusal> {
    let children = decisions.iter().filter(|decision| decision.verb == Verb::Child);
    let mut parents: Vec<EventId> = children.map(|child| child.event).collect();
    parents.sort_unstable();
    let has_too_many = parents.chunk_by(EventId::eq).any(|siblings| siblings.len() > MAX_CHILDREN);
    if has_too_many { Err(Refusal::LimitExceeded) } else { Ok(()) }
}

fn fate(decision: &Decision) -> Fate {
    match decision.verb {
        Verb::Goto => Fate::Event,
        Verb::Sleep => Fate::Timer,
        Verb::Retry if decision.attempt > decision.max_attempts => Fate::Dead(DeadReason::Attempts),
        Verb::Retry if decision.delay > Micros(0) => Fate::Timer,
        Verb::Retry => Fate::Event,
        Verb::Await => Fate::Wait,
        Verb::Spawn => Fate::Join,
        Verb::Child => Fate::Child,
        Verb::Reject => Fate::Dead(DeadReason::Rejected),
        Verb::Complete => Fate::End(ChildOutcome::Completed),
        Verb::Fail => Fate::End(ChildOutcome::Failed),
        Verb::Acknowledge => Fate::Nothing,
    }
}

/// Each event of the window is decided exactly once, and nothing else is; of an isolated window it is one event. Gives back
/// which of the decided events come from joins.
async fn require_covered(
    db: &Db,
    queue: Queue,
    window: Window,
    isolated: bool,
    decisions: &[Decision],
) -> Result<Vec<(EventId, EventId)>, Refusal> {
    let mut joined: Vec<(EventId, EventId)> = Vec::new();
    lock_window(db, queue).await?;
    let mut events: Vec<EventId> = Vec::with_capacity(decisions.len());
    window_events(db, queue, window.prev, window.next, |event| {
        events.push(event.id);
        if let Arrival::Joined { join } = event.arrival {
            joined.push((event.id, join));
        }
        true
    });
    events.sort_unstable();
    let own = decisions.iter().filter(|decision| decision.verb != Verb::Child);
    let mut decided: Vec<EventId> = own.map(|decision| decision.event).collect();
    decided.sort_unstable();
    let covers = match isolated {
        true => decided.len() == 1 && events.contains(&decided[0]),
        false => decided == events,
    };
    joined.retain(|(event, _)| !isolated || decided.contains(event));
    if covers { Ok(joined) } else { Err(Refusal::WindowMismatch) }
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

/// Ids of what follows are drawn in the order of the decisions; then those of children's workflows.
fn draft<'a>(db: &Db, decisions: &'a [Decision]) -> Vec<Drafted<'a>> {
    let draw = |decision| {
        let fate = fate(decision);
        let id = if fate.has_id() { EventId(db.next_value(Sequence::EventId)) } else { EventId(0) };
        Drafted { decision, fate, id, child: WorkflowId(0) }
    };
    let mut drafts: Vec<Drafted> = decisions.iter().map(draw).collect();
    for draft in drafts.iter_mut().filter(|draft| draft.fate == Fate::Child) {
        draft.child = fresh_workflow_id(db);
    }
    drafts
}

/// A join for each spawn that has children, and their live rows.
async fn spawn(db: &Db, queue: Queue, now: Micros, drafts: &[Drafted<'_>]) -> Result<(), Refusal> {
    for spawn in drafts.iter().filter(|draft| draft.fate == Fate::Join) {
        let total = children_of(drafts, spawn).count() as u32;
        if total > 0 {
            let &Decision { workflow, sequence, step, state, .. } = spawn.decision;
            let since = now;
            let row = OpenJoinRow { join: spawn.id, workflow, queue, since, sequence, step, state, total, ended: 0 };
            db.tx.insert(row).await?;
        }
    }
    for spawn in drafts.iter().filter(|draft| draft.fate == Fate::Join) {
        for child in children_of(drafts, spawn) {
            let parent = Some(Parent { join: spawn.id, index: child.decision.sequence as u16 });
            db.tx.insert(WorkflowRow { workflow: child.child, queue, key: None, parent }).await?;
        }
    }
    Ok(())
}

fn children_of<'a, 'b>(drafts: &'a [Drafted<'b>], spawn: &'a Drafted<'b>) -> impl Iterator<Item = &'a Drafted<'b>> {
    drafts.iter().filter(|draft| draft.fate == Fate::Child && draft.decision.event == spawn.decision.event)
}

/// What had been waited for and is here: awaits of this handoff, and joins that it completed.
struct Resumed {
    waits: Vec<Event>,
    joins: Vec<Event>,
}

/// All events are appended, then all timers.
async fn append_successors(
    db: &Db,
    queue: Queue,
    now: Micros,
    drafts: &[Drafted<'_>],
    Resumed { waits, joins }: Resumed,
) -> Result<PlainReply, Refusal> {
    let (mut appended, mut children, mut resumed) = (Vec::with_capacity(drafts.len()), Vec::new(), Vec::new());
    let (mut events, mut timers) = (Vec::new(), Vec::new());
    for draft in drafts {
        let Drafted { decision, fate, id, child } = *draft;
        match fate {
            Fate::Event => events.push(successor(db, draft)),
            Fate::Timer => timers.push((now + decision.delay, successor(db, draft))),
            Fate::Wait => {
                let found = waits.iter().find(|event| event.id == id);
                resumed.extend(found.map(|event| event.id.0));
                events.extend(found);
            }
            Fate::Join if children_of(drafts, draft).next().is_none() => {
                resumed.push(id.0);
                events.push(Event { arrival: Arrival::Joined { join: id }, ..successor(db, draft) });
            }
            Fate::Join => {}
            Fate::Child => {
                children.push(child.0);
                events.push(Event { workflow: child, sequence: 1, ..successor(db, draft) });
            }
            Fate::Dead(_) if decision.verb == Verb::Retry => {}
            Fate::Dead(_) | Fate::End(_) | Fate::Nothing => continue,
        }
        appended.push(id.0);
    }
    let table = if events.is_empty() && joins.is_empty() { 0 } else { current_table(db, queue)? };
    if !events.is_empty() {
        append_to(db, queue, table, &events).await?;
    }
    let mut told = end::resume(db, queue, table, joins, Policy::Wait).await?;
    resumed.append(&mut told.resumed);
    let timer_table = append_timers(db, queue, timers).await?;
    Ok(Reply::HandedOff { appended, children, resumed, undeliverable: told.undeliverable, table, timer_table })
}

fn successor(db: &Db, draft: &Drafted<'_>) -> Event {
    let &Decision { workflow, verb, sequence, step, attempt, state, arrival, .. } = draft.decision;
    let is_fresh = verb != Verb::Retry || db.guards.on(Guard::RetryFreshSequence);
    let sequence = if is_fresh { sequence } else { sequence - 1 };
    Event { id: draft.id, workflow, sequence, step, attempt, arrival, ..blank_event(state) }
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
