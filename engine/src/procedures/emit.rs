//! Emits: what clients tell workflows, in their own transactions, at any isolation level: `sql/emit.sql`.

use super::Db;
use super::audit::{Deed, write_audit};
use super::producer::append_events;
use super::wait::{continuation, is_shown};
use crate::guard::Guard;
use crate::schema::{BoxRow, EmittedRow, WorkflowRow};
use crate::store::rows::RowLock;
use crate::store::statement::{Has, Inserted, Policy};
use crate::wait_token;
use tourbillon_models::history::PlainReply;
use tourbillon_models::name::{ActorId, EmitId, EventId, Micros, Name, Queue, WaitToken, WorkflowId};
use tourbillon_models::op::Isolation;
use tourbillon_models::reply::{Arrival, EmitAnswer, Event, Refusal, Reply};
use tourbillon_models::state::{Act, BoxContent};

/// So many promises are kept for one workflow.
const MAX_PROMISES: usize = 64;
/// How long an engine keeps a promise that keeps none until the end.
const PROMISE_AGE: Micros = Micros::from_secs(1);

/// What somebody tells a workflow.
#[derive(Clone, Copy, Debug)]
pub struct Emit {
    pub workflow: WorkflowId,
    pub name: Name,
    pub payload: u64,
    pub emit: EmitId,
    pub token: WaitToken,
    pub actor: ActorId,
}

pub async fn emit(db: Db, it: Emit) -> Result<PlainReply, Refusal> {
    let Some(queue) = live_queue(&db, it.workflow).await? else {
        note(&db, &it, EmitAnswer::Dead).await?;
        return Ok(answered(EmitAnswer::Dead, None, 0));
    };
    let Emit { workflow, emit, .. } = it;
    if db.guards.on(Guard::EmitId)
        && db.tx.insert_or_nothing(EmittedRow { workflow, emit, answer: None }).await? == Inserted::Nothing
    {
        let known = db.tx.get::<EmittedRow>((workflow, emit)).and_then(|row| row.answer);
        let answer = known.ok_or(Refusal::UndefinedObject)?;
        return Ok(Reply::Emitted { answer, repeated: true, event: EventId(0), table: 0 });
    }
    let (answer, event) = put(&db, queue, &it).await?;
    let table = append_events(&db, queue, event.as_slice()).await?;
    if answer == EmitAnswer::Forged {
        // Or whoever forges an emit could use up the id of a true one.
        db.tx.delete::<EmittedRow>((workflow, emit), |_| true).await?;
    } else {
        db.tx.update::<EmittedRow>((workflow, emit), |_| true, |row, _| row.answer = Some(answer)).await?;
    }
    note(&db, &it, answer).await?;
    Ok(answered(answer, event.map(|event| event.id), table))
}

fn answered(answer: EmitAnswer, event: Option<EventId>, table: u8) -> PlainReply {
    Reply::Emitted { answer, repeated: false, event: event.unwrap_or(EventId(0)), table }
}

async fn note(db: &Db, it: &Emit, answer: EmitAnswer) -> Result<(), Refusal> {
    let &Emit { workflow, name, actor, .. } = it;
    write_audit(db, Deed { actor: Some(actor), act: Act::Emit(answer), workflow, name }).await
}

/// The queue of a workflow that lives, and will until this transaction ends.
async fn live_queue(db: &Db, workflow: WorkflowId) -> Result<Option<Queue>, Refusal> {
    if !db.guards.on(Guard::EmitLive) {
        return Ok(Some(db.tx.get::<WorkflowRow>(workflow).map_or(Queue(0), |row| row.queue)));
    }
    let live = db.tx.select_for::<WorkflowRow>(workflow, RowLock::KeyShare, Policy::Wait, |_| true).await?;
    if live.is_none() && db.tx.isolation() == Isolation::RepeatableRead && db.guards.on(Guard::EmitUnseen) {
        // What the snapshot does not see may be alive all the same: then its key is taken (40001).
        let probe = WorkflowRow { workflow, queue: Queue(0), key: None, parent: None };
        if db.tx.insert_or_nothing(probe).await? == Inserted::Inserted {
            db.tx.delete::<WorkflowRow>(workflow, |_| true).await?;
        }
    }
    Ok(live.map(|row| row.queue))
}

/// Takes the wait out of the box, or puts a promise into it.
async fn put(db: &Db, queue: Queue, it: &Emit) -> Result<(EmitAnswer, Option<Event>), Refusal> {
    let shown = wait_token::hash(it.token).map(wait_token::abbreviated);
    let content = BoxContent::Promise { payload: it.payload };
    let (promise_key, wait_key) = ((it.workflow, it.name, false), (it.workflow, it.name, is_apart(db)));
    loop {
        if let Some(wait) = take_wait(db, wait_key, shown).await? {
            return Ok((EmitAnswer::Resumed, continuation(&wait, Arrival::Emitted { payload: it.payload })));
        }
        let promise = BoxRow {
            workflow: it.workflow,
            name: it.name,
            queue,
            since: db.clock(),
            token_hash: shown,
            content,
            is_apart: false,
            dropped_at: (!db.guards.on(Guard::PromiseUntilEnd)).then(|| db.clock() + PROMISE_AGE),
        };
        if db.tx.insert_or_nothing(promise).await? == Inserted::Inserted {
            require_promises_left(db, it.workflow)?;
            return Ok((EmitAnswer::Promised, None));
        }
        let there = db.tx.get::<BoxRow>(promise_key);
        match there.as_ref().map(|row| row.content) {
            Some(BoxContent::Promise { .. }) if db.guards.on(Guard::FirstWriteWins) => {
                return Ok((EmitAnswer::Second, None));
            }
            Some(BoxContent::Promise { .. }) => {
                let overwrite = |row: &mut BoxRow, _| (row.content, row.token_hash) = (content, shown);
                db.tx.update::<BoxRow>(promise_key, |_| true, overwrite).await?;
                return Ok((EmitAnswer::Promised, None));
            }
            Some(BoxContent::Wait { .. }) if !is_shown(db, there.and_then(|row| row.token_hash), shown) => {
                return Ok((EmitAnswer::Forged, None));
            }
            // It has come, or gone, since: once more.
            Some(BoxContent::Wait { .. }) | None => {}
        }
    }
}

/// Whether waits are rows of their own, beside promises.
pub fn is_apart(db: &Db) -> bool {
    !db.guards.on(Guard::BoxUnique)
}

/// The promise that was just made may be one too many.
fn require_promises_left(db: &Db, workflow: WorkflowId) -> Result<(), Refusal> {
    let keys = (workflow, Name(0), false)..=(workflow, Name(u16::MAX), true);
    let count = db.tx.with(|store, slot| {
        let rows = Has::<BoxRow>::rows(&store.tables).range(keys, &store.transactions, slot);
        rows.filter(|(_, row)| matches!(row.content, BoxContent::Promise { .. })).count()
    });
    if count <= MAX_PROMISES { Ok(()) } else { Err(Refusal::LimitExceeded) }
}

/// Deletes a wait that this token is_shown for; whoever deletes it resumes it.
async fn take_wait(db: &Db, key: (WorkflowId, Name, bool), shown: Option<u64>) -> Result<Option<BoxRow>, Refusal> {
    let matches = |row: &BoxRow| matches!(row.content, BoxContent::Wait { .. }) && is_shown(db, row.token_hash, shown);
    let Some(wait) = db.tx.get::<BoxRow>(key).filter(|row| matches(row)) else { return Ok(None) };
    let is_deleted = db.tx.delete::<BoxRow>(key, matches).await?;
    Ok((is_deleted || !db.guards.on(Guard::WaitDeleteReturning)).then_some(wait))
}
