//! A2 for emit ids, A5, A6, A7 for those who are called forgers.

use super::meeting::{ASK, GUARD, HEARD, PASS, Resumes, TWICE, answered, emit, emit_showing, resumed};
use super::sound::assert_holds;
use super::tale::{Tale, Who};
use crate::name::{EventId, Token, WaitToken, WorkerId, WorkflowId};
use crate::op::{Isolation, Op};
use crate::property::{Property, Reach};
use crate::reply::{Arrival, EmitAnswer, Outcome, Reply};

fn waiting_at(key: u32) -> (Tale, WorkflowId, (WorkerId, Token), EventId) {
    let mut tale = Tale::meeting();
    let (workflow, lease, event) = tale.at(key, 1);
    let wait = tale.handoff(0, lease, &[event])[0];
    (tale, workflow, lease, wait)
}

fn again(answer: EmitAnswer) -> crate::history::PlainReply {
    Reply::Emitted { answer, repeated: true, event: EventId(0), table: 0 }
}

/// w13 ends at once, in the window that starts at that tick.
fn end(tale: &mut Tale, who: Who, prev: u32) -> WorkflowId {
    let (workflow, lease, event) = tale.at(10 + HEARD, prev);
    tale.handoff(who, lease, &[event]);
    workflow
}

#[test]
fn a_repetition_answers_as_the_first_time() {
    let (mut tale, workflow, lease, wait) = waiting_at(10 + TWICE);
    tale.emit_to(1, workflow, 7, 1, wait);
    tale.say(1, emit(workflow, 7, 1), again(EmitAnswer::Resumed));
    let lease = tale.window(0, lease.0, 2, &[wait]);
    let wait = tale.handoff(0, lease, &[wait])[0];
    tale.say(1, emit(workflow, 7, 1), again(EmitAnswer::Resumed));
    tale.emit_to(2, workflow, 8, 2, wait);
    tale.say(2, emit(workflow, 9, 3), answered(EmitAnswer::Promised));
    tale.say(2, emit(workflow, 9, 4), answered(EmitAnswer::Second));
    tale.say(2, emit(workflow, 9, 4), again(EmitAnswer::Second));
    let lease = tale.window(0, lease.0, 3, &[wait]);
    tale.handoff(0, lease, &[wait]);
    tale.say(2, emit(workflow, 9, 4), answered(EmitAnswer::Dead));
    tale.end(200);
    assert_holds(&tale);
    for (reach, count) in [(Reach::EmitRepeated, 3), (Reach::EmitSecond, 1), (Reach::EmitDead, 1)] {
        assert_eq!(tale.verdict().reach(reach), count, "{}", reach.name());
    }
}

#[test]
fn a2_an_emit_is_taken_twice() {
    let (mut tale, workflow, lease, wait) = waiting_at(10 + TWICE);
    tale.emit_to(1, workflow, 7, 1, wait);
    let lease = tale.window(0, lease.0, 2, &[wait]);
    let wait = tale.handoff(0, lease, &[wait])[0];
    tale.wait(1_000).say(1, emit(workflow, 7, 1), resumed(wait));
    assert_eq!(tale.broken(), ["A2"]);
    assert_eq!(tale.sentence(Property::A2), "m1 to w17 was taken twice: at 0.000 s, and, resumed, at 1.000 s");
}

#[test]
fn a2_a_lost_emit_is_taken_again() {
    let (mut tale, workflow, lease, wait) = waiting_at(10 + TWICE);
    tale.lose(1, emit(workflow, 7, 1), Some(Outcome::Committed));
    tale.comes(1, wait, Arrival::Emitted { payload: 7 });
    let lease = tale.window(0, lease.0, 2, &[wait]);
    let wait = tale.handoff(0, lease, &[wait])[0];
    tale.wait(1_000).say(1, emit(workflow, 7, 1), resumed(wait));
    assert_eq!(tale.broken(), ["A2"]);
}

#[test]
fn a2_a_repetition_answers_otherwise() {
    let (mut tale, workflow, _, wait) = waiting_at(10 + ASK);
    tale.emit_to(1, workflow, 7, 1, wait);
    tale.wait(1_000).say(1, emit(workflow, 7, 1), again(EmitAnswer::Promised));
    assert_eq!(tale.broken(), ["A2"]);
    let sentence = "m1 to w10 was answered promised at 1.000 s, as a repetition, and was answered resumed at 0.000 s";
    assert_eq!(tale.sentence(Property::A2), sentence);
}

#[test]
fn a2_a_repetition_of_nothing() {
    let (mut tale, workflow, ..) = waiting_at(10 + ASK);
    tale.say(1, emit(workflow, 7, 1), again(EmitAnswer::Resumed));
    assert_eq!(tale.broken(), ["A2"]);
}

#[test]
fn a2_an_emit_resumes_another_workflow() {
    let (mut tale, _, lease, wait) = waiting_at(10 + ASK);
    let event = tale.start(20 + HEARD);
    tale.window(0, lease.0, 2, &[event]);
    tale.say(1, emit(WorkflowId(73), 7, 1), resumed(wait));
    assert_eq!(tale.broken(), ["A2"]);
    let sentence = "m1 of `go` to w23 resumed e2, as which w10 waits for `go`";
    assert_eq!(tale.sentence(Property::A2), sentence);
}

#[test]
fn a2_an_emit_that_was_taken_is_not_kept() {
    let (mut tale, workflow, _, wait) = waiting_at(10 + ASK);
    tale.emit_to(1, workflow, 7, 1, wait);
    tale.state.emits.clear();
    tale.end(1);
    assert_eq!(tale.broken(), ["A2"]);
}

#[test]
fn a5_a_second_emit_overwrites_the_first() {
    let mut tale = Tale::meeting();
    let (workflow, ..) = tale.at(10 + ASK, 1);
    tale.say(1, emit(workflow, 7, 1), answered(EmitAnswer::Promised));
    tale.wait(1_000).say(1, emit(workflow, 8, 2), answered(EmitAnswer::Promised));
    assert_eq!(tale.broken(), ["A5"]);
    let sentence = "m2 of `go` to w10 was promised at 1.000 s, and m1, promised at 0.000 s, had not been consumed";
    assert_eq!(tale.sentence(Property::A5), sentence);
}

/// That it had committed is heard when the await has registered its wait, or when even that is over.
#[test]
fn a_promise_that_an_await_beside_it_discards_is_none() {
    for is_heard_last in [false, true] {
        let mut tale = Tale::meeting();
        let (workflow, lease, event) = tale.at(10 + GUARD, 1);
        tale.begin(1);
        tale.say(1, emit(workflow, 7, 1), answered(EmitAnswer::Promised));
        tale.call(1, Op::Commit);
        let wait = tale.handoff(0, lease, &[event])[0];
        if !is_heard_last {
            tale.answer(1, Reply::Committed);
        }
        tale.say(2, emit_showing(workflow, 8, 2, PASS), resumed(wait));
        tale.comes(2, wait, Arrival::Emitted { payload: 8 });
        if is_heard_last {
            tale.answer(1, Reply::Committed);
        }
        tale.say(2, emit(workflow, 9, 3), answered(EmitAnswer::Promised));
        let lease = tale.window(0, lease.0, 2, &[wait]);
        tale.handoff(0, lease, &[wait]);
        tale.end(200);
        assert_holds(&tale);
    }
    // Who comes when the wait is there, and is not called a forger, is not excused.
    let (mut tale, workflow, ..) = waiting_at(10 + GUARD);
    tale.say(1, emit(workflow, 7, 1), answered(EmitAnswer::Promised));
    tale.say(2, emit(workflow, 8, 2), answered(EmitAnswer::Promised));
    assert_eq!(tale.broken(), ["A5"]);
}

#[test]
fn a6_an_emit_to_the_dead_is_kept() {
    let mut tale = Tale::meeting();
    let workflow = end(&mut tale, 0, 1);
    tale.wait(1_000).say(1, emit(workflow, 7, 1), answered(EmitAnswer::Promised));
    assert_eq!(tale.broken(), ["A6"]);
    assert_eq!(tale.sentence(Property::A6), "w13 had ended at 0.000 s, and m1 to it was answered promised at 1.000 s");
    let mut tale = Tale::meeting();
    let workflow = end(&mut tale, 0, 1);
    tale.promised(workflow, 7, WaitToken::NONE);
    tale.end(200);
    assert_eq!(tale.broken(), ["A6"]);
}

#[test]
fn a6_an_emit_to_the_living_is_refused() {
    let (mut tale, workflow, ..) = waiting_at(10 + ASK);
    tale.wait(1_000).say(1, emit(workflow, 7, 1), answered(EmitAnswer::Dead));
    assert_eq!(tale.broken(), ["A6"]);
    let sentence = "w10 lived, since 0.000 s as e2, and m1 to it was answered dead at 1.000 s";
    assert_eq!(tale.sentence(Property::A6), sentence);
}

#[test]
fn an_end_that_is_under_way_explains_that_a_workflow_is_dead() {
    let mut tale = Tale::meeting();
    let (workflow, lease, event) = tale.at(10 + HEARD, 1);
    let decisions = tale.decisions(event);
    tale.call(0, Op::Handoff { worker: lease.0, token: lease.1, decisions });
    tale.say(1, emit(workflow, 7, 1), answered(EmitAnswer::Dead));
    let (appended, children, resumed) = Default::default();
    tale.answer(
        0,
        Reply::HandedOff { appended, children, resumed, undeliverable: alloc::vec![], table: 0, timer_table: 0 },
    );
    tale.state.workflows.clear();
    tale.end(200);
    assert_holds(&tale);
}

#[test]
fn a7_who_shows_the_token_is_called_a_forger() {
    let (mut tale, workflow, ..) = waiting_at(10 + GUARD);
    tale.say(1, emit_showing(workflow, 7, 1, PASS), answered(EmitAnswer::Forged));
    assert_eq!(tale.broken(), ["A7"]);
    let sentence = "m1 of `go` to w12 was answered forged at 0.000 s, although it shows a000007, as its wait asks";
    assert_eq!(tale.sentence(Property::A7), sentence);
    let (mut tale, workflow, ..) = waiting_at(10 + ASK);
    tale.say(1, emit(workflow, 7, 1), answered(EmitAnswer::Forged));
    assert_eq!(tale.broken(), ["A7"]);
}

#[test]
fn a_lost_emit_is_found_by_its_repetition_or_by_what_it_did() {
    for is_repeated in [true, false] {
        for outcome in [Some(Outcome::Committed), None] {
            let (mut tale, workflow, lease, wait) = waiting_at(10 + ASK);
            tale.call(1, emit(workflow, 7, 1));
            tale.write(1);
            tale.answer(1, Reply::Unknown);
            outcome.into_iter().for_each(|outcome| tale.resolve(1, outcome));
            tale.comes(1, wait, Arrival::Emitted { payload: 7 });
            tale.took(workflow, 1, EmitAnswer::Resumed);
            tale.reconnect(1);
            if is_repeated {
                tale.say(1, emit(workflow, 7, 1), again(EmitAnswer::Resumed));
            }
            let lease = tale.window(0, lease.0, 2, &[wait]);
            if is_repeated {
                tale.say(1, emit(workflow, 7, 1), again(EmitAnswer::Resumed));
            }
            tale.handoff(0, lease, &[wait]);
            tale.end(200);
            assert_holds(&tale);
        }
    }
}

#[test]
fn a_lost_promise_is_found_by_its_await_and_by_who_comes_second() {
    let mut tale = Tale::meeting();
    let (workflow, lease, event) = tale.at(10 + ASK, 1);
    tale.lose(1, emit(workflow, 7, 1), Some(Outcome::Committed));
    tale.promised(workflow, 7, WaitToken::NONE);
    tale.took(workflow, 1, EmitAnswer::Promised);
    tale.say(2, emit(workflow, 8, 2), answered(EmitAnswer::Second));
    tale.took(workflow, 2, EmitAnswer::Second);
    let next = tale.hand_on(0, lease, &[event], Resumes { found: &[(event, 7)], joined: &[] });
    tale.say(1, emit(workflow, 7, 1), again(EmitAnswer::Promised));
    let lease = tale.window(0, lease.0, 2, &next);
    tale.handoff(0, lease, &next);
    tale.end(200);
    assert_holds(&tale);
}

#[test]
fn an_emit_counts_from_its_commit_at_every_level() {
    let (mut tale, workflow, lease, wait) = waiting_at(10 + ASK);
    tale.begin(1);
    tale.call(1, Op::Savepoint { level: 0 });
    tale.answer(1, Reply::Done);
    tale.say(1, emit(workflow, 6, 1), resumed(wait));
    tale.say(1, Op::RollbackTo { level: 0 }, Reply::Done);
    tale.emit_to(1, workflow, 7, 1, wait);
    tale.commit(1);
    tale.call(2, Op::Begin { isolation: Isolation::RepeatableRead });
    tale.answer(2, Reply::Done);
    let mut isolated = tale;
    let _ = lease;
    isolated.history.header.workload = "somebody's own".into();
    assert_eq!(isolated.broken(), [""; 0]);
}

/// Which of two promises the first await has found, nobody knows; a third one, under way while the second has found the other,
/// is neither.
#[test]
fn what_an_await_found_is_not_what_is_promised_next() {
    let mut tale = Tale::meeting();
    let (workflow, lease, event) = tale.at(10 + TWICE, 1);
    tale.say(1, emit(workflow, 7, 1), answered(EmitAnswer::Promised));
    let found = Resumes { found: &[(event, 7)], ..Resumes::default() };
    let next = tale.hand_on(0, lease, &[event], found)[0];
    let answer = tale.history.records.pop().expect("it was answered");
    tale.say(2, emit(workflow, 8, 2), answered(EmitAnswer::Promised));
    tale.history.records.push(answer);
    let lease = tale.window(0, lease.0, 2, &[next]);
    tale.call(1, emit(workflow, 9, 3));
    let found = Resumes { found: &[(next, 8)], ..Resumes::default() };
    let last = tale.hand_on(0, lease, &[next], found)[0];
    tale.answer(1, answered(EmitAnswer::Promised));
    let lease = tale.window(0, lease.0, 3, &[last]);
    tale.handoff(0, lease, &[last]);
    tale.end(200);
    assert_holds(&tale);
}
