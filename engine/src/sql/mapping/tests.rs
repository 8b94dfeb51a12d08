//! Statements and rows by hand.

use super::*;
use tourbillon_models::name::{ActorId, EmitId, Key, Queue, Token};
use tourbillon_models::reply::{Arrival, ChildOutcome, EmitAnswer};

const FLOW: u128 = 0x0123_4567_89ab_4def_8123_4567_89ab_cdef;

fn mapping() -> Mapping {
    Mapping::new("other", Guards::ALL, &["first", "second"], &["paid", "approved"])
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
        workflow: if verb == Verb::Acknowledge { WorkflowId(0) } else { workflow },
        sequence: 2,
        step: Step(1),
        attempt: if verb == Verb::Retry { 3 } else { 1 },
        max_attempts: if verb == Verb::Retry { 5 } else { 0 },
        delay: if verb == Verb::Retry { Micros(7) } else { Micros(0) },
        state: 9,
        arrival: if verb == Verb::Retry { Arrival::Joined { join: EventId(3) } } else { Arrival::Direct },
        ..Decision::new(EventId(event), verb)
    };
    let decisions = vec![decision(4, Verb::Retry), decision(5, Verb::Complete), decision(6, Verb::Acknowledge)];
    let op = Op::Handoff { worker: WorkerId(1), token: Token(8), decisions };
    let mapping = mapping();
    let texts = |texts: &[Option<&str>]| Value::TextArray(texts.iter().map(|it| it.map(str::to_string)).collect());
    let retry = |value: &str| texts(&[Some(value), None, None]);
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
            texts(&[Some("9"), Some("9"), None]),
            retry("joined"),
            retry("3"),
            Value::Null,
            Value::Null,
        ]
    );

    let awaits = Decision { name: Name(1), token: WaitToken(1), ..decision(4, Verb::Await) };
    let decisions = vec![awaits, decision(5, Verb::Spawn), Decision::new(EventId(5), Verb::Child)];
    let params = mapping.encode(&Op::Handoff { worker: WorkerId(1), token: Token(8), decisions }, &ids).params;
    assert_eq!(params[3], texts(&["await", "spawn", "child"].map(Some)));
    assert_eq!(params[10..13], [texts(&["9", "9", "0"].map(Some)), Value::Null, Value::Null]);
    // Of 0000000000000001.
    let hash = "665e994827f6b03167e80c1513eb356e0d4f013f2e03a3b345e1e5e3c24dfca6";
    assert_eq!(params[13..], [texts(&[Some("approved"), None, None]), texts(&[Some(hash), None, None])]);
}

#[test]
fn an_emit_shows_the_token_itself() {
    let mut ids = Ids::new();
    let workflow = ids.workflow(FLOW);
    let emit = |token| Op::Emit {
        workflow,
        name: Name(0),
        payload: 9,
        emit: EmitId(7),
        token: WaitToken(token),
        actor: ActorId(2),
    };
    let text = |text: &str| Value::Text(text.to_string());
    let expected = [Value::Uuid(FLOW), text("paid"), text("9"), text("m7"), text("000000000000000a"), text("actor-2")];
    assert_eq!(mapping().encode(&emit(10), &ids).params, expected);
    assert_eq!(mapping().encode(&emit(0), &ids).params[4], Value::Null);
    let row = vec![text("forged"), Value::Bool(false), Value::Null, Value::Null, Value::Int8(700)];
    let forged = Reply::Emitted { answer: EmitAnswer::Forged, repeated: false, event: EventId(0), table: 0 };
    assert_eq!(decoded(emit(10), row, &mut ids), (forged, Some(Xid(700))));
}

#[test]
fn children_are_workflows_that_appear_first_in_a_handoff() {
    let handoff = Op::Handoff { worker: WorkerId(1), token: Token(8), decisions: vec![] };
    let numbers = |ids: &[i64]| Value::Int8Array(ids.iter().map(|id| Some(*id)).collect());
    let children = Value::UuidArray(vec![Some(FLOW), Some(FLOW + 1)]);
    let row =
        vec![numbers(&[4, 5, 6]), children, numbers(&[3]), numbers(&[2]), Value::Int2(1), Value::Null, Value::Null];
    let handed_off = Reply::HandedOff {
        appended: vec![4, 5, 6],
        children: vec![1, 2],
        resumed: vec![3],
        undeliverable: vec![2],
        table: 1,
        timer_table: 0,
    };
    assert_eq!(decoded(handoff, row, &mut Ids::new()), (handed_off, None));

    let read = Op::ReadResults { worker: WorkerId(1), token: Token(8) };
    let result = |index, outcome: &str, result: Option<&str>| {
        let result = result.map_or(Value::Null, |it| Value::Text(it.to_string()));
        vec![Value::Int8(3), Value::Int4(index), Value::Text(outcome.to_string()), result]
    };
    let rows = [result(0, "completed", Some("8")), result(1, "dead", None)];
    let (reply, _) = mapping().decode(&read, &rows, &mut Ids::new()).unwrap();
    let child = |index, outcome, result| ChildResult { join: EventId(3), index, outcome, result };
    let expected = vec![child(0, ChildOutcome::Completed, 8), child(1, ChildOutcome::Dead, 0)];
    assert_eq!(reply, Reply::Results(expected));
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
    let mut row = vec![Value::Null, Value::Int8Array(vec![Some(4)]), Value::Int8Array(vec![Some(3)])];
    row.extend([Value::Int8Array(vec![Some(2)]), Value::Int2(2)]);
    row.extend(vec![Value::Null; EVENT_COLUMNS]);
    row.push(Value::Int8(700));
    let finished = Reply::HandedOut {
        events: vec![],
        tries: 0,
        dead: vec![4],
        resumed: vec![3],
        undeliverable: vec![2],
        table: 2,
    };
    assert_eq!(decoded(hand_out.clone(), row, &mut Ids::new()), (finished, Some(Xid(700))));
    let event = [
        Value::Int8(5),
        Value::Int8(9),
        Value::Null,
        Value::Int4(0),
        Value::Null,
        Value::Int4(1),
        Value::Text("3".to_string()),
        Value::Text("emitted".to_string()),
        Value::Text("8".to_string()),
    ];
    let mut row =
        vec![Value::Int4(2), Value::Int8Array(vec![]), Value::Int8Array(vec![]), Value::Int8Array(vec![]), Value::Null];
    row.extend(event);
    row.push(Value::Int8(701));
    let (reply, xid) = decoded(hand_out, row, &mut Ids::new());
    assert_eq!(xid, Some(Xid(701)));
    let Reply::HandedOut { events, tries: 2, dead, .. } = reply else { panic!("{reply:?}") };
    assert_eq!((events[0].id, events[0].state, dead), (EventId(5), 3, vec![]));
    assert_eq!(events[0].arrival, Arrival::Emitted { payload: 8 });
}

#[test]
fn timers_are_drained_to_a_tick_or_there_is_nothing_to_drain() {
    let drain = Op::Drain { queue: Queue(0), limit: u32::MAX };
    assert_eq!(mapping().encode(&drain, &Ids::new()).params, ["q0".into(), Value::Int4(i32::MAX)]);
    let ids = |ids: &[i64]| Value::Int8Array(ids.iter().map(|id| Some(*id)).collect());
    let row = vec![
        Value::Int8(4),
        ids(&[7, 9]),
        ids(&[8]),
        ids(&[3]),
        ids(&[2]),
        Value::Int2(2),
        Value::Bool(false),
        Value::Int8(12),
    ];
    let (fired, dead, resumed) = (vec![7, 9], vec![8], vec![3]);
    let drained =
        Reply::Drained { tick: Tick(4), fired, dead, resumed, undeliverable: vec![2], table: 2, is_done: false };
    assert_eq!(decoded(drain.clone(), row, &mut Ids::new()), (drained, Some(Xid(12))));
    let row = [vec![Value::Null; 7], vec![Value::Int8(13)]].concat();
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

    let rotate = Op::RotateAudit { keep: Micros(7), lock_timeout: Micros(5) };
    assert_eq!(mapping().encode(&rotate, &Ids::new()).params, [Value::Int8(7), Value::Int8(5)]);
    let row = |rotated| vec![Value::Bool(rotated), Value::Int2(1), Value::Int8(3)];
    let rotated = Reply::AuditRotated { table: 1 };
    assert_eq!(decoded(rotate.clone(), row(true), &mut Ids::new()), (rotated, Some(Xid(3))));
    assert_eq!(decoded(rotate, row(false), &mut Ids::new()), (Reply::AuditKept, Some(Xid(3))));
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
        Value::Null,
        Value::Null,
    ];
    let event = Event {
        id: EventId(1),
        xid: Xid(9),
        workflow: WorkflowId(0),
        sequence: 0,
        step: Step(0),
        attempt: 1,
        state: 3,
        arrival: Arrival::Direct,
    };
    assert_eq!(decoded(read.clone(), plain.clone(), &mut Ids::new()), (Reply::Events(vec![event]), None));
    let mut too_large = plain;
    too_large[1] = Value::Int8(1 << 40);
    let error = mapping().decode(&read, &[too_large], &mut Ids::new()).unwrap_err();
    assert_eq!(error.to_string(), "column 2 holds 1099511627776, which is out of range");
}
