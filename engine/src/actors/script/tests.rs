use super::*;
use alloc::vec;
use tourbillon_models::history::PlainReply;
use tourbillon_models::name::{ActorId, Key, Name, Queue, Step, WaitToken};

const QUEUE: Queue = Queue(0);

fn start(key: u32) -> PlainOp {
    Op::Start { queue: QUEUE, key: Key(key), step: Step(0), state: 0 }
}

fn emit(workflow: u32, emit: u32) -> PlainOp {
    let (workflow, emit) = (WorkflowId(workflow), EmitId(emit));
    Op::Emit { workflow, name: Name(0), payload: 0, emit, token: WaitToken::NONE, actor: ActorId(0) }
}

fn round(at_ms: u64, on_lost_reply: OnLostReply, statements: &[PlainOp]) -> Round {
    let statements = statements.iter().map(|op| (Micros(0), op.clone())).collect();
    Round { at: Micros::from_millis(at_ms), on_lost_reply, on_refusal: OnRefusal::RollBack, statements }
}

fn script(rounds: Vec<Round>) -> Script {
    Script::new(ScriptOptions::Once { rounds })
}

fn started(workflow: u32) -> PlainReply {
    Reply::Started { workflow: WorkflowId(workflow), event: EventId(1), table: 0 }
}

fn emitted(answer: EmitAnswer) -> PlainReply {
    Reply::Emitted { answer, repeated: false, event: EventId(0), table: 0 }
}

/// The next call, and when it is made; what was called before is answered.
fn next(script: &mut Script, now: &mut Micros, reply: Option<PlainReply>) -> Option<(u64, PlainOp)> {
    let mut answered = reply.map(|reply| Answered { reply, xid: Xid(0) });
    loop {
        match script.poll(*now, answered.take().as_mut()) {
            Action::Call(op) => return Some((now.0 / 1_000, op)),
            Action::Sleep(until) => *now = until,
            Action::Finished => return None,
            other => unreachable!("no script does {other:?}"),
        }
    }
}

#[test]
fn an_emit_is_for_the_workflow_that_was_started_last() {
    let rounds = vec![
        round(1, OnLostReply::Repeat, &[emit(0, 1), start(7), emit(0, 2)]),
        round(2, OnLostReply::Repeat, &[start(8), emit(0, 3), emit(5, 4)]),
    ];
    let (mut script, mut now) = (script(rounds), Micros(0));
    // As long as it has started none, there is nobody to tell.
    assert_eq!(next(&mut script, &mut now, None), Some((1, start(7))));
    assert_eq!(next(&mut script, &mut now, Some(started(31))), Some((1, emit(31, 2))));
    assert_eq!(next(&mut script, &mut now, Some(emitted(EmitAnswer::Promised))), Some((2, start(8))));
    assert_eq!(next(&mut script, &mut now, Some(started(32))), Some((2, emit(32, 3))));
    assert_eq!(next(&mut script, &mut now, Some(emitted(EmitAnswer::Dead))), Some((2, emit(5, 4))));
    assert_eq!(next(&mut script, &mut now, Some(emitted(EmitAnswer::Dead))), None);
}

#[test]
fn it_may_hear_of_a_workflow_from_somebody_else() {
    let mut script = script(vec![round(1, OnLostReply::Repeat, &[emit(0, 1)])]);
    script.hear_of(WorkflowId(9));
    assert_eq!(next(&mut script, &mut Micros(0), None), Some((1, emit(9, 1))));
}

#[test]
fn who_insists_emits_again_under_other_ids_until_he_is_heard() {
    let rounds = vec![
        round(100, OnLostReply::Insist, &[start(7), emit(0, 1)]),
        round(200, OnLostReply::Repeat, &[emit(0, 2)]),
        round(400, OnLostReply::Repeat, &[emit(0, 3)]),
    ];
    let (mut script, mut now) = (script(rounds), Micros(0));
    let mut calls = Vec::new();
    let mut reply = None;
    while let Some((at, call)) = next(&mut script, &mut now, reply.take()) {
        let is_heard = at > 600;
        reply = Some(match call {
            Op::Start { .. } => started(31),
            _ if is_heard => emitted(EmitAnswer::Resumed),
            _ => emitted(EmitAnswer::Second),
        });
        calls.push((at, call));
    }
    let told = |id| emit(31, id);
    let expected = [
        (100, start(7)),
        (100, told(1)),
        (200, told(2)),
        (350, start(7)),
        (350, told(10_001)),
        (400, told(3)),
        (600, start(7)),
        (600, told(20_001)),
        (850, start(7)),
        (850, told(30_001)),
    ];
    assert_eq!(calls, expected);
}

#[test]
fn a_lost_reply_is_met_with_the_same_id() {
    let (mut script, mut now) = (script(vec![round(1, OnLostReply::Insist, &[emit(4, 1)])]), Micros(0));
    assert_eq!(next(&mut script, &mut now, None), Some((1, emit(4, 1))));
    assert_eq!(next(&mut script, &mut now, Some(Reply::Unknown)), Some((1, emit(4, 1))));
    // It came second the first time, and the repetition is told so.
    assert_eq!(next(&mut script, &mut now, Some(emitted(EmitAnswer::Second))), Some((251, emit(4, 10_001))));
    script.restart(now);
    assert_eq!(next(&mut script, &mut now, None), Some((251, emit(4, 10_001))));
    assert_eq!(next(&mut script, &mut now, Some(emitted(EmitAnswer::Promised))), None);
}

#[test]
fn what_was_put_off_outlives_a_crash() {
    let rounds = vec![round(1, OnLostReply::Insist, &[emit(4, 1)]), round(9, OnLostReply::GiveUp, &[emit(4, 2)])];
    let (mut script, mut now) = (script(rounds), Micros(0));
    next(&mut script, &mut now, None);
    assert_eq!(next(&mut script, &mut now, Some(emitted(EmitAnswer::Second))), Some((9, emit(4, 2))));
    script.restart(now);
    assert_eq!(next(&mut script, &mut now, None), Some((251, emit(4, 10_001))));
}
