//! The end of workflows: what goes with them, and whom it concerns: `sql/end.sql`.

use super::Db;
use super::join::report_ends;
use super::producer::append_events;
use crate::guard::Guard;
use crate::schema::{BoxRow, EmittedRow, WorkflowRow};
use crate::store::rows::{Row, RowLock};
use crate::store::statement::{Has, Policy};
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use tourbillon_models::history::Parent;
use tourbillon_models::name::{EmitId, EventId, Name, Queue, WorkflowId};
use tourbillon_models::reply::{ChildOutcome, Refusal};

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

/// As [`end_workflows`], where nothing else is to be appended: parents go on at once. Gives back the joins that are complete,
/// and the table that they went to.
pub async fn end_and_resume(db: &Db, queue: Queue, ended: &[Ended]) -> Result<(Vec<EventId>, u8), Refusal> {
    let reports = end_workflows(db, ended).await?;
    let resumed = report_ends(db, &reports).await?;
    let table = append_events(db, queue, &resumed).await?;
    Ok((resumed.iter().map(|event| event.id).collect(), table))
}
