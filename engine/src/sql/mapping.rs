//! Operations as statements, rows as replies.
//!
//! What it is not: it opens no connection and keeps no transaction. Every statement on the engine gives back, as its
//! last column, the transaction's id if it has one by then (a page of a window apart, which assigns none), so that a
//! driver knows which transaction to ask for when a commit is never answered.

use super::ids::Ids;
use super::texts::Texts;
use super::value::{Columns, DecodeError, Value};
use super::words::{
    arrival, arrival_name, arrival_payload, child_outcome, emit_answer, kind_name, mode_name, outcome, verb_name,
};
use crate::guard::{Guard, Guards};
use crate::wait_token;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::str::FromStr;
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{EventId, Micros, Name, Step, Tick, WaitToken, WorkerId, WorkflowId, Xid};
use tourbillon_models::op::{Decision, Isolation, Op, Verb};
use tourbillon_models::reply::{ChildResult, Event, LiveCounts, Reply, SnapshotOf};

/// One statement with its parameters, in the order of `$1`, `$2`, …
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statement<'a> {
    /// The same text for every call of one kind, so a driver can prepare it once.
    pub text: Cow<'a, str>,
    pub params: Vec<Value>,
}

/// The statements for one schema, with these guards, and the names of one workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    pub(super) steps: Vec<String>,
    pub(super) names: Vec<String>,
    pub(super) schema: String,
    guards: Guards,
    texts: Texts,
}

impl Mapping {
    /// `steps` are the step names of the workload, and `names` what its workflows await, in the order of their indexes.
    pub fn new(schema: &str, guards: Guards, steps: &[&str], names: &[&str]) -> Mapping {
        Mapping {
            steps: steps.iter().map(|step| step.to_string()).collect(),
            names: names.iter().map(|name| name.to_string()).collect(),
            schema: schema.to_string(),
            guards,
            texts: Texts::new(schema, guards),
        }
    }

    /// The statement that asks for this.
    ///
    /// # Panics
    /// If the operation has a step or a name that the workload does not have.
    pub fn encode(&self, op: &PlainOp, ids: &Ids) -> Statement<'_> {
        let texts = &self.texts;
        match op {
            Op::Begin { isolation } => control(begin(*isolation)),
            Op::Savepoint { level } => Statement { text: format!("savepoint level_{level}").into(), params: vec![] },
            Op::RollbackTo { level } => {
                Statement { text: format!("rollback to savepoint level_{level}").into(), params: vec![] }
            }
            Op::Commit => control("commit"),
            Op::Rollback => control("rollback"),
            Op::CreateQueue { queue, kind } => engine(&texts.create_queue, vec![text(queue), kind_name(*kind).into()]),
            Op::Subscribe { queue, consumer } => engine(&texts.subscribe, vec![text(queue), text(consumer)]),
            Op::Append { queue, payload } => engine(&texts.append, vec![text(queue), text(payload)]),
            Op::Start { queue, key, step, state } => {
                engine(&texts.start, vec![text(queue), text(key), self.step_name(*step).into(), text(state)])
            }
            Op::Emit { workflow, name, payload, emit, token, actor } => engine(
                &texts.emit,
                vec![
                    ids.workflow_uuid(*workflow).into(),
                    self.awaited(*name).into(),
                    text(payload),
                    text(emit),
                    match *token {
                        WaitToken::NONE => Value::Null,
                        token => Value::Text(wait_token::text(token)),
                    },
                    text(actor),
                ],
            ),
            Op::Effect { workflow, sequence, step } => engine(
                &texts.effect,
                vec![ids.workflow_uuid(*workflow).into(), Value::Int4(*sequence as i32), self.step_name(*step).into()],
            ),
            Op::Register { consumer } => engine(&texts.register, vec![text(consumer)]),
            Op::Heartbeat { worker, token, at } => {
                let params = vec![number(worker.0), Value::Uuid(ids.token_uuid(*token))];
                engine(&texts.heartbeat, self.with_clock(params, *at))
            }
            Op::Claim { worker, dead_interval, at } => {
                engine(&texts.claim, self.with_clock(vec![number(worker.0), micros(*dead_interval)], *at))
            }
            Op::TakeOver { worker, dead_interval, at } => {
                engine(&texts.take_over, self.with_clock(vec![number(worker.0), micros(*dead_interval)], *at))
            }
            Op::HandOut { worker, token, max_tries } => engine(
                &texts.hand_out,
                vec![number(worker.0), Value::Uuid(ids.token_uuid(*token)), Value::Int4((*max_tries).into())],
            ),
            Op::Read { worker, token, after, limit } => engine(
                &texts.read,
                vec![number(worker.0), Value::Uuid(ids.token_uuid(*token)), number(after.0), limit_of(*limit)],
            ),
            Op::ReadResults { worker, token } => {
                engine(&texts.read_results, vec![number(worker.0), Value::Uuid(ids.token_uuid(*token))])
            }
            Op::Hold { worker, token, at } => {
                let params = vec![number(worker.0), Value::Uuid(ids.token_uuid(*token))];
                engine(&texts.hold, self.with_clock(params, *at))
            }
            Op::Handoff { worker, token, decisions } => {
                let mut params = vec![number(worker.0), Value::Uuid(ids.token_uuid(*token))];
                params.extend(self.arrays(decisions, ids));
                engine(&texts.handoff, params)
            }
            Op::Tick { queue } => engine(&texts.tick, vec![text(queue)]),
            Op::Rotate { queue, lock_timeout } => engine(&texts.rotate, vec![text(queue), micros(*lock_timeout)]),
            Op::Schedule { queue, payload, delay } => {
                engine(&texts.schedule, vec![text(queue), text(payload), micros(*delay)])
            }
            Op::Cancel { queue, event, due } => engine(&texts.cancel, vec![text(queue), number(event.0), micros(*due)]),
            Op::Drain { queue, limit } => engine(&texts.drain, vec![text(queue), limit_of(*limit)]),
            Op::RotateTimers { queue, lock_timeout } => {
                engine(&texts.rotate_timers, vec![text(queue), micros(*lock_timeout)])
            }
            Op::ExpireWaits { queue, limit } => engine(&texts.expire_waits, vec![text(queue), limit_of(*limit)]),
            Op::RotateAudit { keep, lock_timeout } => {
                engine(&texts.rotate_audit, vec![micros(*keep), micros(*lock_timeout)])
            }
            Op::Observe { queue } => engine(&texts.observe, vec![text(queue)]),
            Op::ReplayDeadLetter { consumer, event } => {
                engine(&texts.replay_dead_letter, vec![text(consumer), number(event.0)])
            }
            Op::Peek { queue, table } => engine(&texts.peek, vec![text(queue), Value::Int4((*table).into())]),
            Op::LockTable { queue, table, mode } => {
                engine(&texts.lock_table, vec![text(queue), Value::Int4((*table).into()), mode_name(*mode).into()])
            }
            Op::Resolve { xid } => engine(&texts.resolve, vec![number(xid.0)]),
        }
    }

    /// Only an engine that goes by its callers' clocks asks for them.
    fn with_clock(&self, mut params: Vec<Value>, at: Micros) -> Vec<Value> {
        if !self.guards.on(Guard::ServerClock) {
            params.push(micros(at));
        }
        params
    }

    /// Decisions as parallel arrays: event, verb, workflow, sequence, step, attempt, max_attempts, delay, state; then, each
    /// null where no decision uses it, arrival, payload, name, token hash. What a verb does not use is null where it is text.
    fn arrays(&self, decisions: &[Decision], ids: &Ids) -> [Value; 13] {
        let step = |it: &Decision| it.verb.has_id().then(|| self.step_name(it.step).to_string());
        let leaves = |verb| matches!(verb, Verb::Complete | Verb::Fail);
        let state = |it: &Decision| (it.verb.has_id() || leaves(it.verb)).then(|| it.state.to_string());
        let awaited = |it: &Decision| (it.verb == Verb::Await).then(|| self.awaited(it.name).to_string());
        [
            Value::Int8Array(decisions.iter().map(|it| Some(it.event.0.into())).collect()),
            Value::TextArray(decisions.iter().map(|it| Some(verb_name(it.verb).to_string())).collect()),
            Value::UuidArray(decisions.iter().map(|it| ids.workflow_uuid(it.workflow)).collect()),
            Value::Int4Array(decisions.iter().map(|it| Some(it.sequence as i32)).collect()),
            Value::TextArray(decisions.iter().map(step).collect()),
            Value::Int4Array(decisions.iter().map(|it| Some(it.attempt.into())).collect()),
            Value::Int4Array(decisions.iter().map(|it| Some(it.max_attempts.into())).collect()),
            Value::Int8Array(decisions.iter().map(|it| Some(it.delay.0 as i64)).collect()),
            Value::TextArray(decisions.iter().map(state).collect()),
            texts_if_any(decisions, |it| arrival_name(it.arrival).map(str::to_string)),
            texts_if_any(decisions, |it| arrival_payload(it.arrival)),
            texts_if_any(decisions, awaited),
            texts_if_any(decisions, |it| wait_token::hash(it.token).map(hexadecimal)),
        ]
    }

    fn awaited(&self, name: Name) -> &str {
        let awaited = self.names.get(usize::from(name.0));
        awaited.unwrap_or_else(|| panic!("the workload has {} names, {name} is none of them", self.names.len()))
    }

    fn step_name(&self, step: Step) -> &str {
        let name = self.steps.get(usize::from(step.0));
        name.unwrap_or_else(|| panic!("the workload has {} steps, {step} is none of them", self.steps.len()))
    }

    /// What the server answered, and the id of the transaction as far as this statement told.
    ///
    /// A commit is taken for one of a transaction that had not failed: see [`commit_reply`](super::ending::commit_reply).
    /// An error of the server's goes to [`refusal`](super::ending::refusal) instead.
    pub fn decode(
        &self,
        op: &PlainOp,
        rows: &[Vec<Value>],
        ids: &mut Ids,
    ) -> Result<(PlainReply, Option<Xid>), DecodeError> {
        match op {
            Op::Begin { .. } | Op::Savepoint { .. } | Op::RollbackTo { .. } => Ok((Reply::Done, None)),
            Op::Commit => Ok((Reply::Committed, None)),
            Op::Rollback => Ok((Reply::RolledBack, None)),
            Op::Read { .. } => {
                let events = rows.iter().map(|row| self.event(&mut Columns::of(row), ids));
                Ok((Reply::Events(events.collect::<Result<_, _>>()?), None))
            }
            Op::ReadResults { .. } => {
                let results = rows.iter().map(|row| child_result(&mut Columns::of(row)));
                Ok((Reply::Results(results.collect::<Result<_, _>>()?), None))
            }
            _ => {
                let [row] = rows else {
                    return Err(DecodeError::new(format!("the reply should be one row, and is {}", rows.len())));
                };
                let mut columns = Columns::of(row);
                let reply = match op {
                    Op::HandOut { .. } => self.handed_out(&mut columns, ids)?,
                    _ => reply_of(op, &mut columns, ids)?,
                };
                Ok((reply, columns.id_or_null()?.map(Xid)))
            }
        }
    }

    /// The columns of `hand_out`; those of the event are null if there is none.
    fn handed_out(&self, columns: &mut Columns<'_>, ids: &mut Ids) -> Result<PlainReply, DecodeError> {
        let (tries, dead) = (columns.small()?, columns.ids()?);
        let (resumed, undeliverable, table) = (columns.ids()?, columns.ids()?, columns.table()?);
        let event = columns.if_not_null(EVENT_COLUMNS, |columns| self.event(columns, ids))?;
        Ok(Reply::HandedOut { events: event.into_iter().collect(), tries, dead, resumed, undeliverable, table })
    }

    /// The columns of `read`.
    pub(super) fn event(&self, columns: &mut Columns<'_>, ids: &mut Ids) -> Result<Event, DecodeError> {
        Ok(Event {
            id: EventId(columns.id()?),
            xid: Xid(columns.id()?),
            workflow: columns.uuid()?.map_or(WorkflowId(0), |uuid| ids.workflow(uuid)),
            sequence: columns.id()?,
            step: self.step(columns.text()?)?,
            attempt: columns.small()?,
            state: columns.text()?.map_or(Ok(0), decimal)?,
            arrival: arrival(columns)?,
        })
    }

    /// An event of a plain queue has none, which is step 0.
    pub(super) fn step(&self, name: Option<&str>) -> Result<Step, DecodeError> {
        let Some(name) = name else { return Ok(Step(0)) };
        let index = self.steps.iter().position(|step| step == name);
        let unknown = || DecodeError::new(format!("{name:?} is no step of the workload"));
        Ok(Step(index.ok_or_else(unknown)? as u16))
    }

    pub(super) fn name(&self, name: Option<&str>) -> Result<Name, DecodeError> {
        let index = self.names.iter().position(|known| Some(known.as_str()) == name);
        let unknown = || DecodeError::new(format!("{name:?} is nothing that the workload awaits"));
        Ok(Name(index.ok_or_else(unknown)? as u16))
    }
}

/// So many columns has an event.
const EVENT_COLUMNS: usize = 9;

fn reply_of(op: &PlainOp, columns: &mut Columns<'_>, ids: &mut Ids) -> Result<PlainReply, DecodeError> {
    Ok(match op {
        Op::Subscribe { .. } => Reply::Subscribed { cursor: Tick(columns.id()?) },
        Op::Append { .. } => Reply::Appended { event: EventId(columns.id()?), table: columns.table()? },
        Op::Start { .. } => {
            let workflow = columns.uuid()?.ok_or_else(|| DecodeError::new("start gave no workflow".to_string()))?;
            Reply::Started {
                workflow: ids.workflow(workflow),
                event: EventId(columns.id_or_null()?.unwrap_or(0)),
                table: columns.table()?,
            }
        }
        Op::Register { .. } => Reply::Registered { worker: WorkerId(columns.id()?) },
        Op::Claim { .. } | Op::TakeOver { .. } => {
            let token = columns.uuid()?;
            let (prev, next, victim) = (columns.id_or_null()?, columns.id_or_null()?, columns.id_or_null()?);
            let isolated = columns.bool()?;
            match (token, prev, next) {
                (Some(token), Some(prev), Some(next)) => Reply::Claimed {
                    token: ids.token(token),
                    prev: Tick(prev),
                    next: Tick(next),
                    victim: WorkerId(victim.unwrap_or(0)),
                    isolated,
                },
                (None, None, None) => Reply::Idle,
                _ => return Err(DecodeError::new("a window has a token and two ends, or none of them".to_string())),
            }
        }
        Op::Handoff { .. } => Reply::HandedOff {
            appended: columns.ids()?,
            children: columns.uuids()?.into_iter().map(|uuid| ids.workflow(uuid).0).collect(),
            resumed: columns.ids()?,
            undeliverable: columns.ids()?,
            table: columns.table()?,
            timer_table: columns.table()?,
        },
        Op::Emit { .. } => Reply::Emitted {
            answer: emit_answer(columns.text()?)?,
            repeated: columns.bool()?,
            event: EventId(columns.id_or_null()?.unwrap_or(0)),
            table: columns.table()?,
        },
        Op::ExpireWaits { .. } => {
            Reply::Expired { resumed: columns.ids()?, undeliverable: columns.ids()?, table: columns.table()? }
        }
        Op::Observe { .. } => Reply::Observed(LiveCounts {
            ready: columns.id()?,
            sleeping: columns.id()?,
            waiting: columns.id()?,
            joining: columns.id()?,
        }),
        Op::ReplayDeadLetter { .. } => Reply::Replayed {
            workflow: columns.uuid()?.map_or(WorkflowId(0), |uuid| ids.workflow(uuid)),
            event: EventId(columns.id()?),
            table: columns.table()?,
        },
        Op::Tick { .. } => {
            let (tick, at, ends) = (columns.id_or_null()?, columns.micros_or_null()?, columns.text()?);
            match (tick, at, ends) {
                (Some(tick), Some(at), Some(_)) => {
                    Reply::Ticked { tick: Tick(tick), at: Micros(at), snapshot: snapshot(ends)? }
                }
                (None, None, None) => Reply::Idle,
                _ => return Err(DecodeError::new("a tick has a number, a time and a snapshot, or none".to_string())),
            }
        }
        Op::Rotate { .. } => {
            let (rotated, table, horizon) = (columns.bool()?, columns.table()?, Tick(columns.id()?));
            if rotated { Reply::Rotated { table, horizon } } else { Reply::NotRotated { horizon } }
        }
        Op::Schedule { .. } => {
            Reply::Scheduled { event: EventId(columns.id()?), due: Micros(columns.micros()?), table: columns.table()? }
        }
        Op::Cancel { .. } => match columns.bool()? {
            true => Reply::Cancelled,
            false => Reply::TooLate,
        },
        Op::Drain { .. } => match columns.id_or_null()? {
            Some(tick) => Reply::Drained {
                tick: Tick(tick),
                fired: columns.ids()?,
                dead: columns.ids()?,
                resumed: columns.ids()?,
                undeliverable: columns.ids()?,
                table: columns.table()?,
                is_done: columns.bool()?,
            },
            None => {
                columns.skip(6)?;
                Reply::Idle
            }
        },
        Op::RotateTimers { .. } => {
            let (rotated, table, moved) = (columns.bool()?, columns.table()?, columns.id_or_null()?);
            match rotated {
                true => Reply::TimersRotated { table, moved: moved.unwrap_or(0) },
                false => Reply::TimersKept,
            }
        }
        Op::RotateAudit { .. } => match (columns.bool()?, columns.table()?) {
            (true, table) => Reply::AuditRotated { table },
            (false, _) => Reply::AuditKept,
        },
        Op::Peek { .. } => Reply::Counted { rows: columns.id()? },
        Op::Resolve { .. } => Reply::Resolved(outcome(columns.text()?)?),
        _ => {
            columns.text()?;
            Reply::Done
        }
    })
}

/// `xmin:xmax:xid,xid,…`; `xmin` says nothing that the rest does not.
pub(super) fn snapshot(text: Option<&str>) -> Result<SnapshotOf<Vec<u32>>, DecodeError> {
    let text = text.unwrap_or("");
    let mut parts = text.split(':').skip(1);
    let (Some(xmax), Some(in_progress)) = (parts.next(), parts.next()) else {
        return Err(DecodeError::new(format!("{text:?} is not a snapshot")));
    };
    let in_progress = in_progress.split(',').filter(|xid| !xid.is_empty()).map(decimal);
    Ok(SnapshotOf { xmax: Xid(decimal(xmax)?), in_progress: in_progress.collect::<Result<_, _>>()? })
}

pub(super) fn decimal<N>(text: &str) -> Result<N, DecodeError>
where
    N: FromStr,
{
    text.parse().map_err(|_| DecodeError::new(format!("{text:?} is not a number, or too large a one")))
}

fn texts_if_any(decisions: &[Decision], text: impl Fn(&Decision) -> Option<String>) -> Value {
    match decisions.iter().all(|it| text(it).is_none()) {
        true => Value::Null,
        false => Value::TextArray(decisions.iter().map(text).collect()),
    }
}

pub(super) fn hexadecimal(bytes: impl IntoIterator<Item = u8>) -> String {
    bytes.into_iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The columns of `read_results`.
pub(super) fn child_result(columns: &mut Columns<'_>) -> Result<ChildResult, DecodeError> {
    Ok(ChildResult {
        join: EventId(columns.id()?),
        index: columns.small()?,
        outcome: child_outcome(columns.text()?)?,
        result: columns.text()?.map_or(Ok(0), decimal)?,
    })
}

fn control(text: &'static str) -> Statement<'static> {
    Statement { text: text.into(), params: vec![] }
}

fn engine(text: &str, params: Vec<Value>) -> Statement<'_> {
    Statement { text: text.into(), params }
}

fn text(name: &impl ToString) -> Value {
    Value::Text(name.to_string())
}

fn number(id: u32) -> Value {
    Value::Int8(id.into())
}

fn limit_of(limit: u32) -> Value {
    Value::Int4(limit.min(i32::MAX as u32) as i32)
}

fn micros(span: Micros) -> Value {
    Value::Int8(span.0 as i64)
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_string())
    }
}

impl From<Option<u128>> for Value {
    fn from(uuid: Option<u128>) -> Value {
        uuid.map_or(Value::Null, Value::Uuid)
    }
}

const fn begin(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::ReadCommitted => "begin isolation level read committed",
        Isolation::RepeatableRead => "begin isolation level repeatable read",
    }
}

#[cfg(test)]
mod tests;
