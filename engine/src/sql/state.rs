//! All rows of a server as a [`State`], to be compared with another's.
//!
//! The ids are the server's own; each kind is in the order of its key.

use super::ids::Ids;
use super::install::in_schema;
use super::mapping::{Mapping, child_result, decimal, snapshot};
use super::value::{Columns, DecodeError, Value};
use super::words::{act, arrival, emit_answer, kind_name, reason};
use crate::wait_token;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use tourbillon_models::name::{
    ActorId, Consumer, EmitId, EventId, Key, Micros, Queue, Tick, WorkerId, WorkflowId, Xid,
};
use tourbillon_models::op::QueueKind;
use tourbillon_models::state::{
    AuditRow, BoxContent, BoxRow, CancelledRow, DeadLetterRow, DrainRow, EmitRow, EventRow, JoinRow, LedgerRow, Parent,
    QueueRow, StartKeyRow, State, SubscriptionRow, TickRow, TimerRow, TriesRow, WorkerRow, WorkflowRow,
};

/// The kinds of rows, in the order of [`State`]'s fields.
pub const KINDS: usize = 18;

/// Orders are those of names, not of random ids, so that workflows which appear first in a dump are numbered alike
/// in every run.
const QUERIES: [&str; KINDS] = [
    "select name, kind, current_table from tourbillon.queue",
    "select q.name, t.tick, (extract(epoch from t.at) * 1000000)::int8, t.snapshot::text \
     from tourbillon.tick t join tourbillon.queue q using (queue_id)",
    "select q.name, s.name, s.cursor from tourbillon.subscription s join tourbillon.queue q using (queue_id)",
    "select w.worker_id, s.name, w.token, w.prev_tick, w.next_tick, \
     (extract(epoch from w.heartbeat) * 1000000)::int8, w.crashes \
     from tourbillon.worker w join tourbillon.subscription s using (subscription_id)",
    "select q.name, k.key, k.workflow_id from tourbillon.start_key k join tourbillon.queue q using (queue_id) \
     order by q.name, length(k.key), k.key",
    "select f.workflow_id, q.name, f.key, f.join_id, f.child_index \
     from tourbillon.workflow f join tourbillon.queue q using (queue_id) \
     order by q.name, length(f.key), f.key, f.join_id, f.child_index, f.xmin::text::int8",
    "select queue, event_table, event_id, xid::text::int8, workflow_id, sequence, step, attempt, state, arrival, payload \
     from tourbillon.events()",
    "select workflow_id, sequence, step, xid::text::int8 from tourbillon.ledger order by xid, sequence",
    "select queue, timer_table, (extract(epoch from due) * 1000000)::int8, event_id, xid::text::int8, workflow_id, \
     sequence, step, attempt, state, arrival, payload from tourbillon.timers()",
    "select q.name, d.current_table, d.done_tick, d.open_tick, \
     (extract(epoch from d.position_due) * 1000000)::int8, d.position_event \
     from tourbillon.drain d join tourbillon.queue q using (queue_id)",
    "select s.name, t.event_id, t.tries, t.is_done \
     from tourbillon.tries t join tourbillon.subscription s using (subscription_id)",
    "select q.name, s.name, d.event_id, d.reason, d.sequence, d.step, d.attempt, c.state, d.replayed_as, \
     d.arrival, c.payload, d.join_id, d.child_index \
     from tourbillon.dead_letter d join tourbillon.queue q using (queue_id) \
     left join tourbillon.dead_letter_content c using (subscription_id, event_id) \
     left join tourbillon.subscription s using (subscription_id)",
    "select q.name, c.timer_table, c.event_id \
     from tourbillon.cancelled c join tourbillon.queue q using (queue_id)",
    "select b.workflow_id, b.name, (extract(epoch from b.since) * 1000000)::int8, encode(b.token_hash, 'hex'), b.kind, b.payload, b.event_id, b.sequence, b.step, \
     b.state, (extract(epoch from case b.kind when 'wait' then b.deadline end) * 1000000)::int8 from tourbillon.box b",
    "select e.workflow_id, e.emit_id, e.answer from tourbillon.emitted e",
    "select j.join_id, j.workflow_id, (extract(epoch from j.since) * 1000000)::int8, j.sequence, j.step, j.state, j.total, \
     j.ended from tourbillon.open_join j",
    "select r.join_id, r.child_index, r.outcome, r.result from tourbillon.result r",
    "select a.audit_table, (extract(epoch from a.at) * 1000000)::int8, a.actor, a.act, a.workflow_hash, a.name \
     from (select 0::int2 audit_table, ctid place, * from tourbillon.audit_0 \
     union all select 1::int2, ctid, * from tourbillon.audit_1) a order by a.audit_table, a.place",
];

impl Mapping {
    /// What to ask, in this order. For one consistent state, ask in a transaction at REPEATABLE READ, or while nobody
    /// else is connected. Needs the workload's script.
    pub fn state_queries(&self) -> [String; KINDS] {
        QUERIES.map(|query| in_schema(query, &self.schema))
    }

    /// The state from the rows that the queries gave, one list for each query.
    pub fn decode_state(&self, rows: &[Vec<Vec<Value>>; KINDS], ids: &mut Ids) -> Result<State, DecodeError> {
        let [
            queues,
            ticks,
            subscriptions,
            workers,
            start_keys,
            workflows,
            events,
            ledger,
            timers,
            drains,
            tries,
            dead_letters,
            cancelled,
            boxes,
            emits,
            joins,
            results,
            audit,
        ] = rows;
        let mut state = State {
            queues: each(queues, queue)?,
            ticks: each(ticks, tick)?,
            subscriptions: each(subscriptions, subscription)?,
            workers: each(workers, |columns| worker(columns, ids))?,
            start_keys: each(start_keys, |columns| start_key(columns, ids))?,
            workflows: each(workflows, |columns| workflow(columns, ids))?,
            events: each(events, |columns| self.event_row(columns, ids))?,
            ledger: each(ledger, |columns| self.ledger_row(columns, ids))?,
            timers: each(timers, |columns| self.timer_row(columns, ids))?,
            drains: each(drains, drain)?,
            tries: each(tries, tries_row)?,
            dead_letters: each(dead_letters, |columns| self.dead_letter(columns))?,
            cancelled: each(cancelled, cancelled_row)?,
            boxes: each(boxes, |columns| self.box_row(columns, ids))?,
            emits: each(emits, |columns| emit_row(columns, ids))?,
            joins: each(joins, |columns| self.join_row(columns, ids))?,
            results: each(results, child_result)?,
            audit: Vec::new(),
        };
        // Only now are all workflows known that somebody was told of.
        let workflows = ids.workflow_of_hash();
        state.audit = each(audit, |columns| self.audit_row(columns, &workflows))?;
        state.queues.sort_by_key(|row| row.queue);
        state.ticks.sort_by_key(|row| (row.queue, row.tick));
        state.subscriptions.sort_by_key(|row| (row.queue, row.consumer));
        state.workers.sort_by_key(|row| row.worker);
        state.start_keys.sort_by_key(|row| (row.queue, row.key));
        state.workflows.sort_by_key(|row| row.workflow);
        state.events.sort_by_key(|row| (row.queue, row.table, row.event.id));
        state.ledger.sort_by_key(|row| (row.workflow, row.sequence, row.step, row.xid));
        state.timers.sort_by_key(|row| (row.queue, row.table, row.due, row.event.id));
        state.drains.sort_by_key(|row| row.queue);
        state.tries.sort_by_key(|row| (row.consumer, row.event));
        state.dead_letters.sort_by_key(|row| (row.consumer, row.event));
        state.cancelled.sort_by_key(|row| (row.queue, row.event));
        state.boxes.sort_by_key(|row| (row.workflow, row.name));
        state.emits.sort_by_key(|row| (row.workflow, row.emit));
        state.joins.sort_by_key(|row| row.join);
        state.results.sort_by_key(|row| (row.join, row.index));
        Ok(state)
    }

    fn timer_row(&self, columns: &mut Columns<'_>, ids: &mut Ids) -> Result<TimerRow, DecodeError> {
        let (queue, table, due) = (queue_name(columns)?, columns.table()?, Micros(columns.micros()?));
        Ok(TimerRow { queue, table, due, event: self.event(columns, ids)? })
    }

    fn event_row(&self, columns: &mut Columns<'_>, ids: &mut Ids) -> Result<EventRow, DecodeError> {
        let (queue, table) = (queue_name(columns)?, columns.table()?);
        Ok(EventRow { queue, table, event: self.event(columns, ids)? })
    }

    fn dead_letter(&self, columns: &mut Columns<'_>) -> Result<DeadLetterRow, DecodeError> {
        Ok(DeadLetterRow {
            queue: queue_name(columns)?,
            consumer: Consumer(columns.if_not_null(1, |columns| columns.name('c'))?.unwrap_or(0)),
            event: EventId(columns.id()?),
            reason: reason(columns.text()?)?,
            sequence: columns.id()?,
            step: self.step(columns.text()?)?,
            attempt: columns.small()?,
            state: columns.text()?.map_or(Ok(0), decimal)?,
            replayed_as: EventId(columns.id_or_null()?.unwrap_or(0)),
            arrival: arrival(columns)?,
            parent: parent(columns)?,
        })
    }

    fn box_row(&self, columns: &mut Columns<'_>, ids: &mut Ids) -> Result<BoxRow, DecodeError> {
        let (workflow, name) = (workflow_id(columns, ids)?, self.name(columns.text()?)?);
        let since = Micros(columns.micros()?);
        let token_hash = columns.text()?.map(token_hash).transpose()?;
        let content = match columns.text()? {
            Some("promise") => BoxContent::Promise { payload: columns.text()?.map_or(Ok(0), decimal)? },
            _ => {
                columns.skip(1)?;
                BoxContent::Wait {
                    event: EventId(columns.id()?),
                    sequence: columns.id()?,
                    step: self.step(columns.text()?)?,
                    state: columns.text()?.map_or(Ok(0), decimal)?,
                    deadline: columns.micros_or_null()?.map(Micros),
                }
            }
        };
        Ok(BoxRow { workflow, name, since, token_hash, content })
    }

    fn join_row(&self, columns: &mut Columns<'_>, ids: &mut Ids) -> Result<JoinRow, DecodeError> {
        Ok(JoinRow {
            join: EventId(columns.id()?),
            workflow: workflow_id(columns, ids)?,
            since: Micros(columns.micros()?),
            sequence: columns.id()?,
            step: self.step(columns.text()?)?,
            state: columns.text()?.map_or(Ok(0), decimal)?,
            total: columns.id()?,
            ended: columns.id()?,
        })
    }

    /// Workflow 0 is one that never appeared: somebody emitted to what was not there.
    fn audit_row(
        &self,
        columns: &mut Columns<'_>,
        workflows: &BTreeMap<String, WorkflowId>,
    ) -> Result<AuditRow, DecodeError> {
        Ok(AuditRow {
            table: columns.table()?,
            at: Micros(columns.micros()?),
            actor: columns.if_not_null(1, |columns| actor(columns))?,
            act: act(columns.text()?)?,
            workflow: columns.text()?.and_then(|hash| workflows.get(hash)).copied().unwrap_or(WorkflowId(0)),
            name: self.name(columns.text()?)?,
        })
    }

    fn ledger_row(&self, columns: &mut Columns<'_>, ids: &mut Ids) -> Result<LedgerRow, DecodeError> {
        Ok(LedgerRow {
            // None: that of a timer which has lost its workflow.
            workflow: columns.uuid()?.map_or(WorkflowId(0), |uuid| ids.workflow(uuid)),
            sequence: columns.id()?,
            step: self.step(columns.text()?)?,
            xid: Xid(columns.id()?),
        })
    }
}

fn each<T>(
    rows: &[Vec<Value>],
    mut decode: impl FnMut(&mut Columns<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    rows.iter().map(|row| decode(&mut Columns::of(row))).collect()
}

fn queue(columns: &mut Columns<'_>) -> Result<QueueRow, DecodeError> {
    let (queue, kind) = (queue_name(columns)?, columns.text()?.unwrap_or(""));
    let known = [QueueKind::Plain, QueueKind::Workflow].into_iter().find(|known| kind_name(*known) == kind);
    let kind = known.ok_or_else(|| DecodeError::new(format!("{kind:?} is no kind of queue")))?;
    Ok(QueueRow { queue, kind, current_table: columns.table()? })
}

fn tick(columns: &mut Columns<'_>) -> Result<TickRow, DecodeError> {
    Ok(TickRow {
        queue: queue_name(columns)?,
        tick: Tick(columns.id()?),
        at: Micros(columns.micros()?),
        snapshot: snapshot(columns.text()?)?,
    })
}

fn subscription(columns: &mut Columns<'_>) -> Result<SubscriptionRow, DecodeError> {
    Ok(SubscriptionRow {
        queue: queue_name(columns)?,
        consumer: Consumer(columns.name('c')?),
        cursor: Tick(columns.id()?),
    })
}

fn worker(columns: &mut Columns<'_>, ids: &mut Ids) -> Result<WorkerRow, DecodeError> {
    let (worker, consumer) = (WorkerId(columns.id()?), Consumer(columns.name('c')?));
    let (token, prev, next) = (columns.uuid()?, columns.id_or_null()?, columns.id_or_null()?);
    let window = match (token, prev, next) {
        (Some(token), Some(prev), Some(next)) => Some((ids.token(token), Tick(prev), Tick(next))),
        (None, None, None) => None,
        _ => return Err(DecodeError::new(format!("{worker} has half a window"))),
    };
    Ok(WorkerRow { worker, consumer, window, heartbeat: Micros(columns.micros()?), crashes: columns.id()? })
}

fn start_key(columns: &mut Columns<'_>, ids: &mut Ids) -> Result<StartKeyRow, DecodeError> {
    Ok(StartKeyRow { queue: queue_name(columns)?, key: Key(columns.name('w')?), workflow: workflow_id(columns, ids)? })
}

fn workflow(columns: &mut Columns<'_>, ids: &mut Ids) -> Result<WorkflowRow, DecodeError> {
    let (workflow, queue) = (workflow_id(columns, ids)?, queue_name(columns)?);
    let key = columns.if_not_null(1, |columns| columns.name('w'))?.map(Key);
    Ok(WorkflowRow { workflow, queue, key, parent: parent(columns)? })
}

fn parent(columns: &mut Columns<'_>) -> Result<Option<Parent>, DecodeError> {
    columns.if_not_null(2, |columns| Ok(Parent { join: EventId(columns.id()?), index: columns.small()? }))
}

fn emit_row(columns: &mut Columns<'_>, ids: &mut Ids) -> Result<EmitRow, DecodeError> {
    Ok(EmitRow {
        workflow: workflow_id(columns, ids)?,
        emit: EmitId(columns.name('m')?),
        answer: emit_answer(columns.text()?)?,
    })
}

fn actor(columns: &mut Columns<'_>) -> Result<ActorId, DecodeError> {
    let text = columns.text()?.unwrap_or("");
    decimal(text.strip_prefix("actor-").unwrap_or(text)).map(ActorId)
}

/// Of a hash in hexadecimal, what tells two apart.
fn token_hash(text: &str) -> Result<u64, DecodeError> {
    let mut hash = [0; 32];
    let is_whole = text.len() == 2 * hash.len();
    let byte = |place: usize| text.get(2 * place..2 * place + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    for (place, value) in hash.iter_mut().enumerate() {
        let byte = byte(place).filter(|_| is_whole);
        *value = byte.ok_or_else(|| DecodeError::new(format!("{text:?} is no SHA-256")))?;
    }
    Ok(wait_token::abbreviated(hash))
}

fn tries_row(columns: &mut Columns<'_>) -> Result<TriesRow, DecodeError> {
    Ok(TriesRow {
        consumer: Consumer(columns.name('c')?),
        event: EventId(columns.id()?),
        tries: columns.small()?,
        is_done: columns.bool()?,
    })
}

fn cancelled_row(columns: &mut Columns<'_>) -> Result<CancelledRow, DecodeError> {
    Ok(CancelledRow { queue: queue_name(columns)?, table: columns.table()?, event: EventId(columns.id()?) })
}

fn drain(columns: &mut Columns<'_>) -> Result<DrainRow, DecodeError> {
    let (queue, current_table, done) = (queue_name(columns)?, columns.table()?, Tick(columns.id()?));
    let open = columns.id_or_null()?.map(Tick);
    let position = match (columns.micros_or_null()?, columns.id_or_null()?) {
        (Some(due), Some(event)) => Some((Micros(due), EventId(event))),
        (None, None) => None,
        _ => return Err(DecodeError::new(format!("the position of the timers of {queue} is half a position"))),
    };
    Ok(DrainRow { queue, current_table, done, open, position })
}

fn queue_name(columns: &mut Columns<'_>) -> Result<Queue, DecodeError> {
    Ok(Queue(columns.name('q')?))
}

fn workflow_id(columns: &mut Columns<'_>, ids: &mut Ids) -> Result<WorkflowId, DecodeError> {
    let uuid = columns.uuid()?;
    uuid.map(|uuid| ids.workflow(uuid)).ok_or_else(|| DecodeError::new("a row without a workflow".to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Guards;
    use alloc::vec;

    fn text(value: &str) -> Value {
        Value::Text(value.to_string())
    }

    #[test]
    fn rows_are_in_the_order_of_their_keys() {
        let mapping = Mapping::new("other", Guards::ALL, &[], &[]);
        assert!(mapping.state_queries().iter().all(|query| query.contains("other.") && !query.contains("tourbillon")));
        let mut rows: [Vec<Vec<Value>>; KINDS] = Default::default();
        rows[0] =
            vec![vec![text("q10"), text("plain"), Value::Int2(2)], vec![text("q2"), text("workflow"), Value::Int2(0)]];
        rows[3] = vec![vec![
            Value::Int8(1),
            text("c4"),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Int8(5),
            Value::Int4(0),
        ]];
        let state = mapping.decode_state(&rows, &mut Ids::new()).unwrap();
        assert_eq!(state.queues.iter().map(|row| row.queue.0).collect::<Vec<_>>(), [2, 10]);
        assert_eq!(state.workers[0].consumer, Consumer(4));
        assert_eq!(state.workers[0].window, None);
        rows[3][0][2] = Value::Uuid(1);
        let error = mapping.decode_state(&rows, &mut Ids::new()).unwrap_err();
        assert_eq!(error.reason, "lease-1 has half a window");
    }
}
