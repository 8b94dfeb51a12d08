//! Onlookers: how many workflows live, and what they wait for: `sql/observe.sql`.

use super::Db;
use super::timer::is_delivered;
use crate::schema::{BoxRow, DrainRow, OpenJoinRow, QueueRow, TIMER_TABLES, WorkflowRow, timer_table};
use crate::store::locks::{LockKey, Mode};
use crate::store::statement::Has;
use tourbillon_models::history::PlainReply;
use tourbillon_models::name::{Queue, WorkflowId};
use tourbillon_models::reply::{LiveCounts, Refusal, Reply};
use tourbillon_models::state::BoxContent;

/// A workflow that waits for nothing else is for a worker.
pub async fn observe(db: Db, queue: Queue) -> Result<PlainReply, Refusal> {
    db.tx.get::<QueueRow>(queue).ok_or(Refusal::UndefinedObject)?;
    let tables = (0..TIMER_TABLES as u8).map(|table| LockKey::Table(timer_table(queue, table)));
    db.tx.lock_each(tables, Mode::AccessShare).await?;
    let cursor = db.tx.get::<DrainRow>(queue).ok_or(Refusal::UndefinedObject)?;
    let counts = db.tx.with(|store, slot| {
        let (tables, transactions) = (&store.tables, &store.transactions);
        let timers = tables.timers[queue.0 as usize].iter().flat_map(|timers| timers.range(.., transactions, slot));
        let is_asleep =
            |timer: &crate::schema::Timer| timer.event.workflow != WorkflowId(0) && !is_delivered(&cursor, timer);
        let sleeping = timers.filter(|(_, timer)| is_asleep(timer)).count();
        let boxes = Has::<BoxRow>::rows(tables).all(transactions, slot);
        let is_wait = |row: &BoxRow| row.queue == queue && matches!(row.content, BoxContent::Wait { .. });
        let waiting = boxes.filter(|(_, row)| is_wait(row)).count();
        let joins = Has::<OpenJoinRow>::rows(tables).all(transactions, slot);
        let joining = joins.filter(|(_, row)| row.queue == queue).count();
        let live = Has::<WorkflowRow>::rows(tables).all(transactions, slot);
        let live = live.filter(|(_, row)| row.queue == queue).count();
        LiveCounts {
            ready: live.saturating_sub(sleeping + waiting + joining) as u32,
            sleeping: sleeping as u32,
            waiting: waiting as u32,
            joining: joining as u32,
        }
    });
    Ok(Reply::Observed(counts))
}
