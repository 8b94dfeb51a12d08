//! Spawns and joins: children, what they left, and the parent that waits for them: `sql/join.sql`.

use super::Db;
use super::end::Report;
use super::producer::blank_event;
use super::queue::{lock_window, window_events};
use super::worker::{has_token, queue_of};
use crate::guard::Guard;
use crate::schema::{OpenJoinRow, ResultRow, WorkerRow};
use crate::store::rows::RowLock;
use crate::store::statement::{Has, Inserted, Policy};
use alloc::vec::Vec;
use tourbillon_models::history::PlainReply;
use tourbillon_models::name::{EventId, Token, WorkerId};
use tourbillon_models::op::{Decision, Verb};
use tourbillon_models::reply::{Arrival, ChildResult, Event, Refusal, Reply};

/// At most so many children has a spawn.
pub const MAX_CHILDREN: usize = 1_024;

/// Tells the joins of ended children. Gives back what parents go on with: one event for each join that is complete, by its id.
///
/// 1. The rows of all joins are locked, in the order of their ids.
/// 2. What a child of an open one left is kept, once.
/// 3. As many are counted as were really kept.
/// 4. Who reaches the total takes the row away.
pub async fn report_ends(db: &Db, reports: &[Report]) -> Result<Vec<Event>, Refusal> {
    let mut joins: Vec<EventId> = Vec::new();
    for report in reports {
        if !joins.contains(&report.parent.join) {
            joins.push(report.parent.join);
        }
    }
    if db.guards.on(Guard::SortedLocks) {
        joins.sort_unstable();
    }
    let mut open: Vec<OpenJoinRow> = Vec::new();
    for join in joins {
        open.extend(match db.guards.on(Guard::JoinLock) {
            true => db.tx.select_for::<OpenJoinRow>(join, RowLock::Update, Policy::Wait, |_| true).await?,
            false => db.tx.get::<OpenJoinRow>(join),
        });
    }
    open.sort_unstable_by_key(|row| row.join);

    let mut resumed = Vec::new();
    let counts = keep_results(db, &open, reports).await?;
    if !db.guards.on(Guard::JoinLock) {
        for join in &open {
            db.tx.select_for::<OpenJoinRow>(join.join, RowLock::Update, Policy::Wait, |_| true).await?;
        }
    }
    for (join, count) in open.into_iter().zip(counts) {
        let ended = join.ended + count;
        if ended < join.total {
            db.tx.update::<OpenJoinRow>(join.join, |_| true, |row, _| row.ended = ended).await?;
        } else {
            db.tx.delete::<OpenJoinRow>(join.join, |_| true).await?;
            if !db.guards.on(Guard::ResultsUntilRead) {
                delete_results(db, &[join.join]).await?;
            }
            resumed.push(continuation(&join));
        }
    }
    Ok(resumed)
}

/// How many more children of each open join have ended.
async fn keep_results(db: &Db, open: &[OpenJoinRow], reports: &[Report]) -> Result<Vec<u32>, Refusal> {
    let mut sorted: Vec<&Report> = reports.iter().collect();
    sorted.sort_by_key(|report| (report.parent.join, report.parent.index));
    let mut counts = alloc::vec![0; open.len()];
    for Report { parent, outcome, result } in sorted {
        let Ok(place) = open.binary_search_by_key(&parent.join, |row| row.join) else { continue };
        let row = ResultRow(ChildResult { join: parent.join, index: parent.index, outcome: *outcome, result: *result });
        let is_kept = db.tx.insert_or_nothing(row).await? == Inserted::Inserted;
        counts[place] += u32::from(is_kept || !db.guards.on(Guard::JoinDistinct));
    }
    Ok(counts)
}

fn continuation(join: &OpenJoinRow) -> Event {
    let &OpenJoinRow { join: id, workflow, sequence, step, state, .. } = join;
    Event { id, workflow, sequence, step, arrival: Arrival::Joined { join: id }, ..blank_event(state) }
}

/// The parents have read what their children left, unless the step is retried or a dead letter: then it is read again. `joined`
/// are events with their joins.
pub async fn drop_results(db: &Db, joined: &[(EventId, EventId)], decisions: &[Decision]) -> Result<(), Refusal> {
    let is_read = |event: EventId| {
        let of_event = decisions.iter().filter(|decision| decision.event == event);
        of_event.map(|decision| decision.verb).any(|verb| !matches!(verb, Verb::Retry | Verb::Reject | Verb::Child))
    };
    let joins: Vec<EventId> = joined.iter().filter(|(event, _)| is_read(*event)).map(|(_, join)| *join).collect();
    delete_results(db, &joins).await
}

async fn delete_results(db: &Db, joins: &[EventId]) -> Result<(), Refusal> {
    for result in results_of(db, joins) {
        db.tx.delete::<ResultRow>((result.join, result.index), |_| true).await?;
    }
    Ok(())
}

fn results_of(db: &Db, joins: &[EventId]) -> Vec<ChildResult> {
    let mut found = Vec::new();
    db.tx.with(|store, slot| {
        for join in joins {
            let keys = (*join, 0)..=(*join, u16::MAX);
            let rows = Has::<ResultRow>::rows(&store.tables).range(keys, &store.transactions, slot);
            found.extend(rows.map(|(_, row)| row.0));
        }
    });
    found
}

/// What the children left whose joins the events of the open window come from.
pub async fn read_results(db: Db, worker: WorkerId, token: Token) -> Result<PlainReply, Refusal> {
    db.require_read_committed()?;
    let row = db.tx.get::<WorkerRow>(worker).filter(|row| has_token(row, token)).ok_or(Refusal::StaleToken)?;
    let (queue, window) = (queue_of(&db, row.consumer)?, row.window.ok_or(Refusal::StaleToken)?);
    lock_window(&db, queue).await?;
    let mut joins: Vec<EventId> = Vec::new();
    window_events(&db, queue, window.prev, window.next, |event| {
        if let Arrival::Joined { join } = event.arrival {
            joins.push(join);
        }
        true
    });
    joins.sort_unstable();
    joins.dedup();
    Ok(Reply::Results(results_of(&db, &joins)))
}

#[cfg(test)]
mod tests;
