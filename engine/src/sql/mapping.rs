//! Operations as statements, rows as replies.
//!
//! What it is not: it opens no connection and keeps no transaction. Every statement on the engine gives back, as its
//! last column, the transaction's id if it has one by then (a page of a window apart, which assigns none), so that a
//! driver knows which transaction to ask for when a commit is never answered.

use super::ids::Ids;
use super::texts::Texts;
use super::value::{Columns, DecodeError, Value};
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

/// The statements for one schema and the step names of one workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    pub(super) steps: Vec<String>,
    pub(super) schema: String,
    texts: Texts,
}

impl Mapping {
    /// `steps` are the step names of the workload, in the order of their indexes.
    pub fn new(schema: &str, steps: &[&str]) -> Mapping {
        Mapping {
            steps: steps.iter().map(|step| step.to_string()).collect(),
            schema: schema.to_string(),
            texts: Texts::new(schema),
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
            Op::Heartbeat { worker, token } => {
                engine(&texts.heartbeat, vec![number(worker.0), Value::Uuid(ids.token_uuid(*token))])
            }
            Op::Claim { worker, dead_interval } => engine(&texts.claim, vec![number(worker.0), micros(*dead_interval)]),
            Op::Read { worker, token, after, limit } => engine(
                &texts.read,
                vec![
                    number(worker.0),
                    Value::Uuid(ids.token_uuid(*token)),
                    number(after.0),
                    Value::Int4((*limit).min(i32::MAX as u32) as i32),
                ],
            ),
            Op::Hold { worker, token } => {
                engine(&texts.hold, vec![number(worker.0), Value::Uuid(ids.token_uuid(*token))])
            }
            Op::Handoff { worker, token, decisions } => {
                let mut params = vec![number(worker.0), Value::Uuid(ids.token_uuid(*token))];
                params.extend(self.arrays(decisions, ids));
                engine(&texts.handoff, params)
            }
            Op::Tick { queue } => engine(&texts.tick, vec![text(queue)]),
            Op::Rotate { queue, lock_timeout } => engine(&texts.rotate, vec![text(queue), micros(*lock_timeout)]),
            Op::Peek { queue, table } => engine(&texts.peek, vec![text(queue), Value::Int4((*table).into())]),
            Op::LockTable { queue, table, mode } => {
                engine(&texts.lock_table, vec![text(queue), Value::Int4((*table).into()), mode_name(*mode).into()])
            }
            Op::Resolve { xid } => engine(&texts.resolve, vec![number(xid.0)]),
        }
    }

    /// Decisions as parallel arrays: event, verb, workflow, sequence, step, state. What a verb does not use is null.
    fn arrays(&self, decisions: &[Decision], ids: &Ids) -> [Value; 6] {
        let goto = |decision: &&Decision| decision.verb == Verb::Goto;
        let if_goto = |decision: &Decision, value: &dyn Fn() -> String| Some(decision).filter(goto).map(|_| value());
        [
            Value::Int8Array(decisions.iter().map(|it| Some(it.event.0.into())).collect()),
            Value::TextArray(decisions.iter().map(|it| Some(verb_name(it.verb).to_string())).collect()),
            Value::UuidArray(decisions.iter().map(|it| ids.workflow_uuid(it.workflow)).collect()),
            Value::Int4Array(decisions.iter().map(|it| Some(it.sequence as i32)).collect()),
            Value::TextArray(decisions.iter().map(|it| if_goto(it, &|| self.step_name(it.step).to_string())).collect()),
            Value::TextArray(decisions.iter().map(|it| if_goto(it, &|| it.state.to_string())).collect()),
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
                let reply = reply_of(op, &mut columns, ids)?;
                Ok((reply, columns.id_or_null()?.map(Xid)))
            }
        }
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
        Op::Claim { .. } => {
            let token = columns.uuid()?;
            let (prev, next, victim) = (columns.id_or_null()?, columns.id_or_null()?, columns.id_or_null()?);
            match (token, prev, next) {
                (Some(token), Some(prev), Some(next)) => Reply::Claimed {
                    token: ids.token(token),
                    prev: Tick(prev),
                    next: Tick(next),
                    victim: WorkerId(victim.unwrap_or(0)),
                },
                (None, None, None) => Reply::Idle,
                _ => return Err(DecodeError::new("a window has a token and two ends, or none of them".to_string())),
            }
        }
        Op::Handoff { .. } => Reply::HandedOff { appended: columns.ids()?, table: columns.table()? },
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

fn decimal<N>(text: &str) -> Result<N, DecodeError>
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
        Verb::Complete => "complete",
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
        Mapping::new("other", &["first", "second"])
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
        let claim = Op::Claim { worker: WorkerId(3), dead_interval: Micros::from_secs(5) };
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
            state: 9,
        };
        let decisions = vec![decision(4, Verb::Goto), decision(5, Verb::Complete), decision(6, Verb::Acknowledge)];
        let op = Op::Handoff { worker: WorkerId(1), token: Token(8), decisions };
        let mapping = mapping();
        let goto = |value: &str| Value::TextArray(vec![Some(value.to_string()), None, None]);
        let verbs = ["goto", "complete", "acknowledge"].map(|verb| Some(verb.to_string()));
        assert_eq!(
            mapping.encode(&op, &ids).params,
            [
                Value::Int8(1),
                Value::Uuid(8),
                Value::Int8Array(vec![Some(4), Some(5), Some(6)]),
                Value::TextArray(verbs.to_vec()),
                Value::UuidArray(vec![Some(FLOW), Some(FLOW), None]),
                Value::Int4Array(vec![Some(2); 3]),
                goto("second"),
                goto("9"),
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

        let claim = Op::Claim { worker: WorkerId(3), dead_interval: Micros(0) };
        let row = vec![Value::Uuid(FLOW), Value::Int8(1), Value::Int8(2), Value::Null, Value::Int8(700)];
        let token = Token(FLOW as u64);
        let claimed = Reply::Claimed { token, prev: Tick(1), next: Tick(2), victim: WorkerId(0) };
        assert_eq!(decoded(claim, row, &mut ids), (claimed, Some(Xid(700))));
        assert_eq!(ids.token_uuid(token), FLOW);
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
