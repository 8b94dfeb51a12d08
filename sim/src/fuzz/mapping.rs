//! Bytes → operation → statement, and rows → reply. Neither panics; what the tool wrote itself it reads back.
//!
//! The operation is any, with numbers as large as they come; the row is any values, mostly of the types that some column
//! has. Errors are refused in words, and every word of a refusal's leads back to it.

use super::Bytes;
use tourbillon_engine::guard::{Guard, Guards};
use tourbillon_engine::sql::ending::refusal;
use tourbillon_engine::sql::ids::Ids;
use tourbillon_engine::sql::mapping::Mapping;
use tourbillon_engine::sql::state::KINDS;
use tourbillon_engine::sql::value::Value;
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{
    ActorId, Consumer, EmitId, EventId, Key, Micros, Name, Queue, Step, Token, WaitToken, WorkerId, WorkflowId, Xid,
};
use tourbillon_models::op::{Decision, Isolation, Op, QueueKind, TableLock, Verb};
use tourbillon_models::reply::{Arrival, Reply};

const STEPS: [&str; 3] = ["first", "second", "third"];
const NAMES: [&str; 2] = ["paid", "approved"];
const ROWS: usize = 4;

/// # Panics
/// If the mapping does, or reads otherwise than was written.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let guards = if bytes.flag() { Guards::without(&[Guard::ServerClock]) } else { Guards::ALL };
    let mapping = Mapping::new("other", guards, &STEPS, &NAMES);
    let mut ids = Ids::new();
    let op = op(&mut bytes);
    let statement = mapping.encode(&op, &ids);
    assert_eq!(statement.text.matches('$').count().min(1), statement.params.len().min(1), "{}", statement.text);
    for place in 1..=statement.params.len() {
        assert!(statement.text.contains(&format!("${place}")), "{} has no ${place}", statement.text);
    }
    arrays_agree(&op, &statement.params);
    let rows: Vec<Vec<Value>> = (0..bytes.below(ROWS)).map(|_| row(&mut bytes)).collect();
    if let Ok((reply, _)) = mapping.decode(&op, &rows, &mut ids) {
        fits(&op, &reply);
        // Read again, with what the ids stand for by now, it says the same.
        assert_eq!(mapping.decode(&op, &rows, &mut ids.clone()).map(|(reply, _)| reply), Ok(reply));
    }
    mapping.encode(&op, &ids);
    let text = text(&mut bytes);
    let known = refusal(["55000", "42704", "0A000", "54000", "40001"][bytes.below(5)], &text);
    assert!(known.is_none_or(|refusal| !refusal.sqlstate().is_empty()));
    let kinds: [Vec<Vec<Value>>; KINDS] =
        std::array::from_fn(|_| (0..bytes.below(2)).map(|_| row(&mut bytes)).collect());
    let state = mapping.decode_state(&kinds, &mut ids);
    assert_eq!(mapping.decode_state(&kinds, &mut ids), state);
}

/// The decisions of a handoff are as many in each array.
fn arrays_agree(op: &PlainOp, params: &[Value]) {
    let Op::Handoff { decisions, .. } = op else { return };
    for param in params {
        let len = match param {
            Value::Int4Array(items) => items.len(),
            Value::Int8Array(items) => items.len(),
            Value::TextArray(items) => items.len(),
            Value::UuidArray(items) => items.len(),
            _ => continue,
        };
        assert_eq!(len, decisions.len(), "{param:?}");
    }
}

/// A reply is of the kind that its operation has.
fn fits(op: &PlainOp, reply: &PlainReply) {
    let is_right = match op {
        Op::Read { .. } => matches!(reply, Reply::Events(_)),
        Op::ReadResults { .. } => matches!(reply, Reply::Results(_)),
        Op::Claim { .. } | Op::TakeOver { .. } => matches!(reply, Reply::Claimed { .. } | Reply::Idle),
        Op::Handoff { .. } => matches!(reply, Reply::HandedOff { .. }),
        Op::HandOut { .. } => matches!(reply, Reply::HandedOut { .. }),
        Op::Tick { .. } => matches!(reply, Reply::Ticked { .. } | Reply::Idle),
        Op::Emit { .. } => matches!(reply, Reply::Emitted { .. }),
        Op::Drain { .. } => matches!(reply, Reply::Drained { .. } | Reply::Idle),
        _ => !matches!(reply, Reply::Unknown | Reply::Refused(_)),
    };
    assert!(is_right, "{op:?} was answered {reply:?}");
}

fn text(bytes: &mut Bytes<'_>) -> String {
    const WORDS: [&str; 24] = [
        "",
        "q0",
        "c1",
        "w7",
        "first",
        "second",
        "paid",
        "0",
        "7",
        "18446744073709551616",
        "-1",
        "emitted",
        "joined",
        "timed_out",
        "committed",
        "aborted",
        "in progress",
        "resumed",
        "promised",
        "completed",
        "10:20:11,12",
        "10:20:",
        "stale_token",
        "attempts",
    ];
    match bytes.byte() {
        word @ 0..240 => WORDS[usize::from(word) % WORDS.len()].to_owned(),
        _ => (0..bytes.below(9)).map(|_| char::from(bytes.byte())).collect(),
    }
}

fn integer(bytes: &mut Bytes<'_>) -> i64 {
    if bytes.byte() < 16 { -(bytes.number() as i64) } else { bytes.number() as i64 }
}

fn row(bytes: &mut Bytes<'_>) -> Vec<Value> {
    let columns = bytes.below(15);
    (0..columns).map(|_| value(bytes)).collect()
}

fn value(bytes: &mut Bytes<'_>) -> Value {
    let kind = bytes.byte() % 12;
    let count = if kind > 7 { bytes.below(4) } else { 0 };
    let is_some = |bytes: &mut Bytes<'_>| bytes.byte() > 15;
    match kind {
        0 | 1 => Value::Null,
        2 => Value::Bool(bytes.flag()),
        3 => Value::Int2(integer(bytes) as i16),
        4 => Value::Int4(integer(bytes) as i32),
        5 => Value::Int8(integer(bytes)),
        6 => Value::Text(text(bytes)),
        7 => Value::Uuid(bytes.number().into()),
        8 => Value::Int4Array((0..count).map(|_| is_some(bytes).then(|| integer(bytes) as i32)).collect()),
        9 => Value::Int8Array((0..count).map(|_| is_some(bytes).then(|| integer(bytes))).collect()),
        10 => Value::TextArray((0..count).map(|_| is_some(bytes).then(|| text(bytes))).collect()),
        _ => Value::UuidArray((0..count).map(|_| is_some(bytes).then(|| bytes.number().into())).collect()),
    }
}

const VERBS: [Verb; 10] = [
    Verb::Acknowledge,
    Verb::Goto,
    Verb::Sleep,
    Verb::Retry,
    Verb::Await,
    Verb::Spawn,
    Verb::Child,
    Verb::Complete,
    Verb::Fail,
    Verb::Reject,
];

fn decision(bytes: &mut Bytes<'_>) -> Decision {
    let verb = VERBS[bytes.below(VERBS.len())];
    let arrival = match bytes.byte() % 4 {
        0 => Arrival::Direct,
        1 => Arrival::TimedOut,
        2 => Arrival::Emitted { payload: bytes.number() },
        _ => Arrival::Joined { join: EventId(bytes.number() as u32) },
    };
    Decision {
        workflow: WorkflowId(bytes.number() as u32),
        sequence: bytes.number() as u32,
        step: Step(bytes.below(STEPS.len()) as u16),
        attempt: bytes.number() as u16,
        max_attempts: bytes.number() as u16,
        delay: Micros(bytes.number()),
        state: bytes.number(),
        arrival,
        name: Name(bytes.below(NAMES.len()) as u16),
        token: WaitToken(bytes.number()),
        ..Decision::new(EventId(bytes.number() as u32), verb)
    }
}

fn op(bytes: &mut Bytes<'_>) -> PlainOp {
    let (queue, consumer) = (Queue(bytes.byte()), Consumer(bytes.byte()));
    let (worker, token) = (WorkerId(bytes.number() as u32), Token(bytes.number()));
    let event = EventId(bytes.number() as u32);
    let (at, span) = (Micros(bytes.number()), Micros(bytes.number()));
    let (workflow, limit) = (WorkflowId(bytes.number() as u32), bytes.number() as u32);
    let (payload, step) = (bytes.number(), Step(bytes.below(STEPS.len()) as u16));
    match bytes.byte() % 33 {
        0 => Op::Begin { isolation: Isolation::ReadCommitted },
        1 => Op::Begin { isolation: Isolation::RepeatableRead },
        2 => Op::Savepoint { level: queue.0 },
        3 => Op::RollbackTo { level: queue.0 },
        4 => Op::Commit,
        5 => Op::Rollback,
        6 => Op::CreateQueue { queue, kind: QueueKind::Plain },
        7 => Op::Subscribe { queue, consumer },
        8 => Op::Append { queue, payload },
        9 => Op::Start { queue, key: Key(limit), step, state: payload },
        10 => Op::Schedule { queue, payload, delay: span },
        11 => Op::Cancel { queue, event, due: at },
        12 => {
            let (name, emit) = (Name(bytes.below(NAMES.len()) as u16), EmitId(limit));
            Op::Emit { workflow, name, payload, emit, token: WaitToken(token.0), actor: ActorId(consumer.0) }
        }
        13 => Op::Effect { workflow, sequence: limit, step },
        14 => Op::Register { consumer },
        15 => Op::Heartbeat { worker, token, at },
        16 => Op::Claim { worker, dead_interval: span, at },
        17 => Op::TakeOver { worker, dead_interval: span, at },
        18 => Op::Read { worker, token, after: event, limit },
        19 => Op::HandOut { worker, token, max_tries: limit as u16 },
        20 => Op::ReadResults { worker, token },
        21 => Op::Hold { worker, token, at },
        22 => Op::Tick { queue },
        23 => Op::Rotate { queue, lock_timeout: span },
        24 => Op::Drain { queue, limit },
        25 => Op::RotateTimers { queue, lock_timeout: span },
        26 => Op::ExpireWaits { queue, limit },
        27 => Op::RotateAudit { keep: at, lock_timeout: span },
        28 => Op::Observe { queue },
        29 => Op::ReplayDeadLetter { consumer, event },
        30 => Op::LockTable { queue, table: consumer.0, mode: TableLock::Share },
        31 => Op::Resolve { xid: Xid(limit) },
        _ => {
            let count = bytes.below(5);
            Op::Handoff { worker, token, decisions: (0..count).map(|_| decision(bytes)).collect() }
        }
    }
}
