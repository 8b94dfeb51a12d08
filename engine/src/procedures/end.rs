//! The end of workflows: what goes with them, and whom it concerns: `sql/end.sql`.

use super::Db;
use super::dead_letter::{bury_undeliverable, is_about_row};
use super::join::report_ends;
use super::producer::{append_to, current_table};
use crate::guard::Guard;
use crate::schema::{BoxRow, EmittedRow, OpenJoinRow, WorkflowRow};
use crate::store::rows::{Row, RowLock};
use crate::store::statement::{Has, Policy};
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use tourbillon_models::name::{EmitId, EventId, Name, Queue, WorkflowId};
use tourbillon_models::reply::{ChildOutcome, Event, Refusal};
use tourbillon_models::state::Parent;

/// A workflow that ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    pub workflow: WorkflowId,
    pub outcome: ChildOutcome,
    pub result: u64,
}

impl Ended {
    pub const fn dead(workflow: WorkflowId) -> Self {
        Ended { workflow, outcome: ChildOutcome::Dead, result: 0 }
    }
}

/// What the end of a child says to its parent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    pub parent: Parent,
    pub outcome: ChildOutcome,
    pub result: u64,
}

/// Live rows are locked in the order of their ids; then all goes that was kept for their workflows. Gives back what parents are
/// to be told, in the order of the ends. Workflow 0, that of a message, has no live row.
pub async fn end_workflows(db: &Db, ended: &[Ended]) -> Result<Vec<Report>, Refusal> {
    let mut workflows: Vec<WorkflowId> = ended.iter().map(|ended| ended.workflow).collect();
    workflows.sort_unstable();
    workflows.dedup();
    for workflow in &workflows {
        db.tx.select_for::<WorkflowRow>(*workflow, RowLock::Update, Policy::Wait, |_| true).await?;
    }
    for workflow in &workflows {
        delete_range::<EmittedRow>(db, (*workflow, EmitId(0))..=(*workflow, EmitId(u32::MAX))).await?;
    }
    for workflow in &workflows {
        delete_range::<BoxRow>(db, (*workflow, Name(0), false)..=(*workflow, Name(u16::MAX), true)).await?;
    }
    let mut reports: Vec<(WorkflowId, Report)> = Vec::new();
    for workflow in workflows {
        let parent = db.tx.get::<WorkflowRow>(workflow).and_then(|row| row.parent);
        let is_here = db.tx.delete::<WorkflowRow>(workflow, |_| true).await?;
        let Some(&Ended { outcome, result, .. }) = ended.iter().find(|ended| ended.workflow == workflow) else {
            continue;
        };
        let reports_dead = outcome != ChildOutcome::Dead || db.guards.on(Guard::DeadLetterReports);
        if let (true, Some(parent)) = (is_here && reports_dead, parent) {
            reports.push((workflow, Report { parent, outcome, result }));
        }
    }
    if reports.len() > 1 {
        let place = |workflow| ended.iter().position(|ended| ended.workflow == workflow);
        reports.sort_by_key(|(workflow, _)| place(*workflow));
    }
    Ok(reports.into_iter().map(|(_, report)| report).collect())
}

async fn delete_range<R: Row>(db: &Db, keys: RangeInclusive<R::Key>) -> Result<(), Refusal>
where
    crate::schema::Schema: Has<R>,
{
    let found: Vec<R::Key> = db.tx.with(|store, slot| {
        let rows = Has::<R>::rows(&store.tables).range(keys, &store.transactions, slot);
        rows.map(|(_, row)| row.key()).collect()
    });
    for key in found {
        db.tx.delete::<R>(key, |_| true).await?;
    }
    Ok(())
}

/// What became of continuations, in the order in which it did.
#[derive(Default)]
pub struct Resumed {
    pub resumed: Vec<u32>,
    pub undeliverable: Vec<u32>,
}

/// What was waited for is here: appends the continuations. Those that cannot become events because of what they are, are dead
/// letters, end their workflows and keep nobody: it may be that by this the parents go on, or cannot either. A workflow
/// whose live row somebody else has is waited for, or, if locked rows are skipped, left as it was: it is in neither list.
pub async fn resume(
    db: &Db,
    queue: Queue,
    table: u8,
    mut events: Vec<Event>,
    locked: Policy,
) -> Result<Resumed, Refusal> {
    let mut told = Resumed::default();
    while !events.is_empty() {
        let whole = match db.guards.on(Guard::DrainPoison) {
            true => db.tx.attempt(append_to(db, queue, table, &events)).await,
            false => Ok(append_to(db, queue, table, &events).await?),
        };
        let ended = match whole {
            Ok(()) => {
                told.resumed.extend(events.iter().map(|event| event.id.0));
                return Ok(told);
            }
            Err(refusal) if is_about_row(refusal) => resume_each(db, queue, table, &events, locked, &mut told).await?,
            Err(refusal) => return Err(refusal),
        };
        if ended.is_empty() {
            return Ok(told);
        }
        let reports = end_workflows(db, &ended).await?;
        if db.guards.on(Guard::JoinLock) {
            lock_joins_at_once(db, &reports).await?;
        }
        events = report_ends(db, &reports).await?;
    }
    Ok(told)
}

/// Gives back what ends.
async fn resume_each(
    db: &Db,
    queue: Queue,
    table: u8,
    events: &[Event],
    locked: Policy,
    told: &mut Resumed,
) -> Result<Vec<Ended>, Refusal> {
    let mut ended = Vec::new();
    for event in events {
        match db.tx.attempt(append_to(db, queue, table, core::slice::from_ref(event))).await {
            Ok(()) => told.resumed.push(event.id.0),
            Err(refusal) if is_about_row(refusal) => {
                if locked == Policy::Wait || is_free_to_end(db, event.workflow).await? {
                    ended.extend(bury_undeliverable(db, queue, *event).await?);
                    told.undeliverable.push(event.id.0);
                }
            }
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(ended)
}

/// Whether a workflow can be ended now without waiting: nobody else has its live row, or there is none.
async fn is_free_to_end(db: &Db, workflow: WorkflowId) -> Result<bool, Refusal> {
    let own = db.tx.select_for::<WorkflowRow>(workflow, RowLock::Update, Policy::SkipLocked, |_| true).await?;
    Ok(own.is_some() || db.tx.get::<WorkflowRow>(workflow).is_none())
}

/// Others are locked already, so in no order that everybody keeps: whoever would have to wait begins anew.
async fn lock_joins_at_once(db: &Db, reports: &[Report]) -> Result<(), Refusal> {
    let mut joins: Vec<EventId> = reports.iter().map(|report| report.parent.join).collect();
    joins.sort_unstable();
    joins.dedup();
    for join in joins {
        db.tx.select_for::<OpenJoinRow>(join, RowLock::Update, Policy::NoWait, |_| true).await?;
    }
    Ok(())
}

/// As [`end_workflows`], where nothing else is to be appended: parents go on at once. Gives back also the table that they
/// went to.
pub async fn end_and_resume(db: &Db, queue: Queue, ended: &[Ended]) -> Result<(Resumed, u8), Refusal> {
    let reports = end_workflows(db, ended).await?;
    let joined = report_ends(db, &reports).await?;
    if joined.is_empty() {
        return Ok((Resumed::default(), 0));
    }
    let table = current_table(db, queue)?;
    Ok((resume(db, queue, table, joined, Policy::Wait).await?, table))
}
