//! Operations as statements, rows as replies.
//!
//! What it is not: it opens no connection and keeps no transaction. Every statement on the engine gives back, as its
//! last column, the transaction's id if it has one by then (a page of a window apart, which assigns none), so that a
//! driver knows which transaction to ask for when a commit is never answered.

use super::ids::Ids;
use super::texts::Texts;
use super::value::{Columns, DecodeError, Value};
use crate::guard::{Guard, Guards};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::str::FromStr;
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{EventId, Micros, Step, Tick, WorkerId, WorkflowId, Xid};
use tourbillon_models::op::{Decision, Isolation, Op, QueueKind, TableLock, Verb};
use tourbillon_models::reply::{Event, Outcome, Reply, SnapshotOf};

/// One statement with its parameters, in the order of `$1`, `$2`, …
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statement<'a> {
    /// The same text for every call of one kind, so a driver can prepare it once.
    pub text: Cow<'a, str>,
    pub params: Vec<Value>,
}

/// The statements for one schema, with these guards, and the step names of one workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    pub(super) steps: Vec<String>,
    pub(super) schema: String,
    guards: Guards,
    texts: Texts,
}

impl Mapping {
    /// `steps` are the step names of the workload, in the order of their indexes.
    pub fn new(schema: &str, guards: Guards, steps: &[&str]) -> Mapping {
        Mapping {
            steps: steps.iter().map(|step| step.to_string()).collect(),
            schema: schema.to_string(),
            guards,
            texts: Texts::new(schema, guards),
        }
    }

    /// The statement that asks for this.
    ///
    /// # Panics
    /// If the operation names a step that the workload does not have.
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

    /// Decisions as parallel arrays: event, verb, workflow, sequence, step, attempt, max_attempts, delay, state. What a
    /// verb does not use is null where it is text.
    fn arrays(&self, decisions: &[Decision], ids: &Ids) -> [Value; 9] {
        let if_continues =
            |it: &Decision, value: &dyn Fn() -> String| if it.verb.continues() { Some(value()) } else { None };
        let step = |it: &Decision| if_continues(it, &|| self.step_name(it.step).to_string());
        [
            Value::Int8Array(decisions.iter().map(|it| Some(it.event.0.into())).collect()),
            Value::TextArray(decisions.iter().map(|it| Some(verb_name(it.verb).to_string())).collect()),
            Value::UuidArray(decisions.iter().map(|it| ids.workflow_uuid(it.workflow)).collect()),
            Value::Int4Array(decisions.iter().map(|it| Some(it.sequence as i32)).collect()),
            Value::TextArray(decisions.iter().map(step).collect()),
            Value::Int4Array(decisions.iter().map(|it| Some(it.attempt.into())).collect()),
            Value::Int4Array(decisions.iter().map(|it| Some(it.max_attempts.into())).collect()),
            Value::Int8Array(decisions.iter().map(|it| Some(it.delay.0 as i64)).collect()),
            Value::TextArray(decisions.iter().map(|it| if_continues(it, &|| it.state.to_string())).collect()),
        ]
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
        let event = columns.if_not_null(EVENT_COLUMNS, |columns| self.event(columns, ids))?;
        Ok(Reply::HandedOut { events: event.into_iter().collect(), tries, dead })
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
        })
    }

    /// An event of a plain queue has none, which is step 0.
    pub(super) fn step(&self, name: Option<&str>) -> Result<Step, DecodeError> {
        let Some(name) = name else { return Ok(Step(0)) };
        let index = self.steps.iter().position(|step| step == name);
        let unknown = || DecodeError::new(format!("{name:?} is no step of the workload"));
        Ok(Step(index.ok_or_else(unknown)? as u16))
    }
}

/// So many columns has an event.
const EVENT_COLUMNS: usize = 7;

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
        Op::Handoff { .. } => {
            Reply::HandedOff { appended: columns.ids()?, table: columns.table()?, timer_table: columns.table()? }
        }
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
                table: columns.table()?,
                is_done: columns.bool()?,
            },
            None => {
                columns.skip(4)?;
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

fn outcome(text: Option<&str>) -> Result<Outcome, DecodeError> {
    match text {
        Some("committed") => Ok(Outcome::Committed),
        Some("aborted") => Ok(Outcome::Aborted),
        Some("in progress") => Ok(Outcome::InProgress),
        other => Err(DecodeError::new(format!("the server does not know the transaction any more: {other:?}"))),
    }
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

pub(super) const fn kind_name(kind: QueueKind) -> &'static str {
    match kind {
        QueueKind::Plain => "plain",
        QueueKind::Workflow => "workflow",
    }
}

const fn verb_name(verb: Verb) -> &'static str {
    match verb {
        Verb::Acknowledge => "acknowledge",
        Verb::Goto => "goto",
        Verb::Sleep => "sleep",
        Verb::Retry => "retry",
        Verb::Complete => "complete",
        Verb::Fail => "fail",
        Verb::Reject => "reject",
    }
}

const fn mode_name(mode: TableLock) -> &'static str {
    match mode {
        TableLock::AccessShare => "access share",
        TableLock::RowShare => "row share",
        TableLock::RowExclusive => "row exclusive",
        TableLock::Share => "share",
        TableLock::AccessExclusive => "access exclusive",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tourbillon_models::name::{Key, Queue, Token};

    const FLOW: u128 = 0x0123_4567_89ab_4def_8123_4567_89ab_cdef;

    fn mapping() -> Mapping {
        Mapping::new("other", Guards::ALL, &["first", "second"])
    }

    fn decoded(op: PlainOp, row: Vec<Value>, ids: &mut Ids) -> (PlainReply, Option<Xid>) {
        mapping().decode(&op, &[row], ids).expect("the row is of the statement's form")
    }

    #[test]
    fn a_statement_is_of_its_schema_and_has_its_parameters() {
        let mapping = mapping();
        let start = Op::Start { queue: Queue(0), key: Key(7), step: Step(1), state: u64::MAX };
        let statement = mapping.encode(&start, &Ids::new());
        assert_eq!(
            statement.text,
            "select workflow_id, event_id, event_table, pg_current_xact_id_if_assigned()::text::int8 as transaction \
             from other.start($1, $2, $3, $4)"
        );
        assert_eq!(statement.params, ["q0", "w7", "second", "18446744073709551615"].map(Value::from));
        let claim = Op::Claim { worker: WorkerId(3), dead_interval: Micros::from_secs(5), at: Micros(0) };
        assert_eq!(mapping.encode(&claim, &Ids::new()).params, [Value::Int8(3), Value::Int8(5_000_000)]);
        let savepoint = Op::Savepoint { level: 2 };
        assert_eq!(mapping.encode(&savepoint, &Ids::new()).text, "savepoint level_2");
    }

    #[test]
    fn decisions_are_parallel_arrays() {
        let mut ids = Ids::new();
        let workflow = ids.workflow(FLOW);
        let decision = |event, verb| Decision {
            event: EventId(event),
            verb,
            workflow: if verb == Verb::Acknowledge { WorkflowId(0) } else { workflow },
            sequence: 2,
            step: Step(1),
            attempt: if verb == Verb::Retry { 3 } else { 1 },
            max_attempts: if verb == Verb::Retry { 5 } else { 0 },
            delay: if verb == Verb::Retry { Micros(7) } else { Micros(0) },
            state: 9,
        };
        let decisions = vec![decision(4, Verb::Retry), decision(5, Verb::Complete), decision(6, Verb::Acknowledge)];
        let op = Op::Handoff { worker: WorkerId(1), token: Token(8), decisions };
        let mapping = mapping();
        let retry = |value: &str| Value::TextArray(vec![Some(value.to_string()), None, None]);
        let verbs = ["retry", "complete", "acknowledge"].map(|verb| Some(verb.to_string()));
        assert_eq!(
            mapping.encode(&op, &ids).params,
            [
                Value::Int8(1),
                Value::Uuid(8),
                Value::Int8Array(vec![Some(4), Some(5), Some(6)]),
                Value::TextArray(verbs.to_vec()),
                Value::UuidArray(vec![Some(FLOW), Some(FLOW), None]),
                Value::Int4Array(vec![Some(2); 3]),
                retry("second"),
                Value::Int4Array(vec![Some(3), Some(1), Some(1)]),
                Value::Int4Array(vec![Some(5), Some(0), Some(0)]),
                Value::Int8Array(vec![Some(7), Some(0), Some(0)]),
                retry("9"),
            ]
        );
    }

    #[test]
    fn workflows_are_numbered_and_tokens_remembered() {
        let mut ids = Ids::new();
        let start = Op::Start { queue: Queue(0), key: Key(1), step: Step(0), state: 0 };
        let row = vec![Value::Uuid(FLOW), Value::Null, Value::Null, Value::Null];
        let known = Reply::Started { workflow: WorkflowId(1), event: EventId(0), table: 0 };
        assert_eq!(decoded(start, row, &mut ids), (known, None));
        assert_eq!(ids.workflow_uuid(WorkflowId(1)), Some(FLOW));
        assert_eq!(ids.workflow_uuid(WorkflowId(0)), None);

        let claim = Op::Claim { worker: WorkerId(3), dead_interval: Micros(0), at: Micros(0) };
        let row =
            vec![Value::Uuid(FLOW), Value::Int8(1), Value::Int8(2), Value::Null, Value::Bool(false), Value::Int8(700)];
        let token = Token(FLOW as u64);
        let claimed = Reply::Claimed { token, prev: Tick(1), next: Tick(2), victim: WorkerId(0), isolated: false };
        assert_eq!(decoded(claim, row, &mut ids), (claimed, Some(Xid(700))));
        assert_eq!(ids.token_uuid(token), FLOW);
    }

    #[test]
    fn what_is_handed_out_is_an_event_or_the_end_of_the_window() {
        let hand_out = Op::HandOut { worker: WorkerId(1), token: Token(1), max_tries: 3 };
        let mut row = vec![Value::Null, Value::Int8Array(vec![Some(4)])];
        row.extend(vec![Value::Null; EVENT_COLUMNS]);
        row.push(Value::Int8(700));
        let finished = Reply::HandedOut { events: vec![], tries: 0, dead: vec![4] };
        assert_eq!(decoded(hand_out.clone(), row, &mut Ids::new()), (finished, Some(Xid(700))));
        let event = [
            Value::Int8(5),
            Value::Int8(9),
            Value::Null,
            Value::Int4(0),
            Value::Null,
            Value::Int4(1),
            Value::Text("3".to_string()),
        ];
        let mut row = vec![Value::Int4(2), Value::Int8Array(vec![])];
        row.extend(event);
        row.push(Value::Int8(701));
        let (reply, xid) = decoded(hand_out, row, &mut Ids::new());
        assert_eq!(xid, Some(Xid(701)));
        let Reply::HandedOut { events, tries: 2, dead } = reply else { panic!("{reply:?}") };
        assert_eq!((events[0].id, events[0].state, dead), (EventId(5), 3, vec![]));
    }

    #[test]
    fn timers_are_drained_to_a_tick_or_there_is_nothing_to_drain() {
        let drain = Op::Drain { queue: Queue(0), limit: u32::MAX };
        assert_eq!(mapping().encode(&drain, &Ids::new()).params, ["q0".into(), Value::Int4(i32::MAX)]);
        let ids = |ids: &[i64]| Value::Int8Array(ids.iter().map(|id| Some(*id)).collect());
        let row = vec![Value::Int8(4), ids(&[7, 9]), ids(&[8]), Value::Int2(2), Value::Bool(false), Value::Int8(12)];
        let drained = Reply::Drained { tick: Tick(4), fired: vec![7, 9], dead: vec![8], table: 2, is_done: false };
        assert_eq!(decoded(drain.clone(), row, &mut Ids::new()), (drained, Some(Xid(12))));
        let row = [vec![Value::Null; 5], vec![Value::Int8(13)]].concat();
        assert_eq!(decoded(drain, row, &mut Ids::new()), (Reply::Idle, Some(Xid(13))));

        let cancel = Op::Cancel { queue: Queue(0), event: EventId(7), due: Micros(5) };
        assert_eq!(mapping().encode(&cancel, &Ids::new()).params, ["q0".into(), Value::Int8(7), Value::Int8(5)]);
        let row = |cancelled| vec![Value::Bool(cancelled), Value::Null];
        assert_eq!(decoded(cancel.clone(), row(true), &mut Ids::new()), (Reply::Cancelled, None));
        assert_eq!(decoded(cancel, row(false), &mut Ids::new()), (Reply::TooLate, None));

        let rotate = Op::RotateTimers { queue: Queue(0), lock_timeout: Micros(5) };
        let row = |rotated, moved| vec![Value::Bool(rotated), Value::Int2(1), moved, Value::Int8(3)];
        let rotated = Reply::TimersRotated { table: 1, moved: 6 };
        assert_eq!(decoded(rotate.clone(), row(true, Value::Int8(6)), &mut Ids::new()), (rotated, Some(Xid(3))));
        assert_eq!(decoded(rotate, row(false, Value::Null), &mut Ids::new()), (Reply::TimersKept, Some(Xid(3))));
    }

    #[test]
    fn a_tick_tells_its_snapshot() {
        let tick = Op::Tick { queue: Queue(0) };
        let snapshot =
            |text: &str| vec![Value::Int8(5), Value::Int8(1_000), Value::Text(text.to_string()), Value::Int8(12)];
        let ticked = Reply::Ticked {
            tick: Tick(5),
            at: Micros(1_000),
            snapshot: SnapshotOf { xmax: Xid(11), in_progress: vec![7, 9] },
        };
        assert_eq!(decoded(tick.clone(), snapshot("7:11:7,9"), &mut Ids::new()), (ticked, Some(Xid(12))));
        assert!(mapping().decode(&tick, &[snapshot("7")], &mut Ids::new()).is_err());
        assert!(mapping().decode(&tick, &[], &mut Ids::new()).is_err());
    }

    #[test]
    fn events_are_read_without_a_transaction_column() {
        let read = Op::Read { worker: WorkerId(1), token: Token(1), after: EventId(0), limit: 10 };
        let plain = vec![
            Value::Int8(1),
            Value::Int8(9),
            Value::Null,
            Value::Int4(0),
            Value::Null,
            Value::Int4(1),
            Value::Text("3".to_string()),
        ];
        let event = Event {
            id: EventId(1),
            xid: Xid(9),
            workflow: WorkflowId(0),
            sequence: 0,
            step: Step(0),
            attempt: 1,
            state: 3,
        };
        assert_eq!(decoded(read.clone(), plain.clone(), &mut Ids::new()), (Reply::Events(vec![event]), None));
        let mut too_large = plain;
        too_large[1] = Value::Int8(1 << 40);
        let error = mapping().decode(&read, &[too_large], &mut Ids::new()).unwrap_err();
        assert_eq!(error.to_string(), "column 2 holds 1099511627776, which is out of range");
    }
}
