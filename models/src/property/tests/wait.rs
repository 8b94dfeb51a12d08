//! A1, A3, A4, A7, and A2 for deadlines.

use super::meeting::{ASK, GO, GUARD, HURRY, PASS, Resumes, TWICE, answered, emit, emit_showing, resumed};
use super::sound::assert_holds;
use super::tale::{C, Q, Tale};
use crate::name::{EventId, Token, WaitToken, WorkerId, WorkflowId};
use crate::op::{Isolation, Op};
use crate::property::{Property, Reach};
use crate::reply::{Arrival, EmitAnswer, Outcome, Reply};
use crate::state::{BoxContent, BoxRow};
use crate::verdict::Judgement;
use alloc::vec;

/// w10 (f60) waits for `go` as event 2.
fn asking() -> (Tale, WorkflowId, (WorkerId, Token), EventId) {
    waiting_at(10 + ASK)
}

fn waiting_at(key: u32) -> (Tale, WorkflowId, (WorkerId, Token), EventId) {
    let mut tale = Tale::meeting();
    let (workflow, lease, event) = tale.at(key, 1);
    let wait = tale.handoff(0, lease, &[event])[0];
    (tale, workflow, lease, wait)
}

/// The workflow's last step, and the end of the run.
fn finish(tale: &mut Tale, (worker, _): (WorkerId, Token), prev: u32, event: EventId) {
    let lease = tale.window(0, worker, prev, &[event]);
    tale.handoff(0, lease, &[event]);
    tale.end(200);
}

#[test]
fn an_emit_resumes_a_wait() {
    let (mut tale, workflow, lease, wait) = asking();
    tale.wait(1_000).emit_to(1, workflow, 7, 1, wait);
    finish(&mut tale, lease, 2, wait);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::EmitAfterAwait), 1);
    for property in [Property::A1, Property::A2, Property::A3, Property::A6] {
        assert!(tale.verdict().of(property).exercised > 0, "{property}");
    }
}

#[test]
fn an_await_finds_a_promise() {
    let mut tale = Tale::meeting();
    let (workflow, lease, event) = tale.at(10 + ASK, 1);
    tale.promise_to(1, workflow, 7, 1, WaitToken::NONE);
    let next = tale.hand_on(0, lease, &[event], Resumes { found: &[(event, 7)], joined: &[] });
    finish(&mut tale, lease, 2, next[0]);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::EmitBeforeAwait), 1);
}

#[test]
fn a_deadline_resumes_a_wait_and_the_emit_comes_too_late() {
    let (mut tale, workflow, lease, wait) = waiting_at(10 + HURRY);
    tale.wait(2_000).expire(&[wait]);
    tale.promise_to(1, workflow, 7, 1, WaitToken::NONE);
    finish(&mut tale, lease, 2, wait);
    assert_holds(&tale);
    for reach in [Reach::WaitTimedOut, Reach::DeadlineWonRace] {
        assert_eq!(tale.verdict().reach(reach), 1, "{}", reach.name());
    }
}

#[test]
fn an_emit_may_come_after_the_deadline_and_before_the_duty() {
    let (mut tale, workflow, lease, wait) = waiting_at(10 + HURRY);
    tale.wait(3_000).emit_to(1, workflow, 7, 1, wait);
    finish(&mut tale, lease, 2, wait);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::EmitWonRace), 1);
}

#[test]
fn who_shows_the_token_resumes_and_who_does_not_is_a_forger() {
    let (mut tale, workflow, lease, wait) = waiting_at(10 + GUARD);
    tale.say(1, emit(workflow, 7, 1), answered(EmitAnswer::Forged));
    tale.say(1, emit_showing(workflow, 8, 1, PASS), resumed(wait));
    tale.comes(1, wait, Arrival::Emitted { payload: 8 });
    tale.took(workflow, 1, EmitAnswer::Resumed);
    finish(&mut tale, lease, 2, wait);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::EmitForged), 1);
}

#[test]
fn a_promise_without_the_token_is_discarded() {
    let mut tale = Tale::meeting();
    let (workflow, lease, event) = tale.at(10 + GUARD, 1);
    tale.promise_to(1, workflow, 7, 1, WaitToken::NONE);
    let wait = tale.handoff(0, lease, &[event])[0];
    tale.say(1, emit_showing(workflow, 8, 2, PASS), resumed(wait));
    tale.comes(1, wait, Arrival::Emitted { payload: 8 });
    tale.took(workflow, 2, EmitAnswer::Resumed);
    finish(&mut tale, lease, 2, wait);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::PromiseDiscarded), 1);
}

#[test]
fn emit_and_await_may_wait_for_each_other() {
    let (mut tale, workflow, lease, event) = {
        let mut tale = Tale::meeting();
        let (workflow, lease, event) = tale.at(10 + ASK, 1);
        (tale, workflow, lease, event)
    };
    tale.begin(0);
    tale.hold(0, lease);
    let wait = tale.handoff(0, lease, &[event])[0];
    tale.call(1, emit(workflow, 7, 1));
    tale.blocked(1);
    tale.commit(0);
    tale.answer(1, resumed(wait));
    tale.comes(1, wait, Arrival::Emitted { payload: 7 });
    tale.took(workflow, 1, EmitAnswer::Resumed);
    finish(&mut tale, lease, 2, wait);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::EmitBlockedByAwait), 1);
}

/// Replies that come late: the emit's first, then those of the handoff that had registered the wait.
#[test]
fn late_replies_accuse_nobody() {
    let mut tale = Tale::meeting();
    let (workflow, lease, event) = tale.at(10 + ASK, 1);
    let decisions = tale.decisions(event);
    tale.call(0, Op::Handoff { worker: lease.0, token: lease.1, decisions });
    tale.write(0);
    let wait = tale.mint();
    tale.say(1, emit(workflow, 7, 1), resumed(wait));
    tale.answer(
        0,
        Reply::HandedOff {
            appended: vec![wait.0],
            children: vec![],
            resumed: vec![],
            undeliverable: vec![],
            table: 0,
            timer_table: 0,
        },
    );
    assert_eq!(tale.broken(), [""; 0]);
}

#[test]
fn a1_event_and_deadline_both_resume() {
    let (mut tale, workflow, _, wait) = waiting_at(10 + HURRY);
    tale.wait(2_000).emit_to(1, workflow, 7, 1, wait);
    tale.wait(1_000).expire(&[wait]);
    assert_eq!(tale.broken(), ["A1"]);
    let sentence = "w11 was resumed twice as e2: at 2.000 s, and by d at 3.000 s";
    assert_eq!(tale.sentence(Property::A1), sentence);
}

#[test]
fn a2_a_deadline_that_has_not_passed() {
    let (mut tale, _, _, wait) = waiting_at(10 + HURRY);
    tale.wait(1_000).expire(&[wait]);
    assert_eq!(tale.broken(), ["A2"]);
    let sentence =
        "w11 waited for `go` from 0.000 s on, not before 2.000 s, and e2 was resumed at 1.000 s as timed out";
    assert_eq!(tale.sentence(Property::A2), sentence);
}

#[test]
fn a2_a_wait_without_a_deadline_times_out() {
    let (mut tale, _, _, wait) = asking();
    tale.wait(1_000).expire(&[wait]);
    assert_eq!(tale.broken(), ["A2"]);
}

#[test]
fn a2_an_await_finds_what_nobody_left() {
    let mut tale = Tale::meeting();
    let (_, lease, event) = tale.at(10 + ASK, 1);
    tale.hand_on(0, lease, &[event], Resumes { found: &[(event, 7)], joined: &[] });
    assert_eq!(tale.broken(), ["A2"]);
    let sentence = "w10 awaited `go` at 0.000 s and went on at once as e2, and no emit had left it a promise";
    assert_eq!(tale.sentence(Property::A2), sentence);
}

#[test]
fn a2_what_arrives_is_not_what_was_emitted() {
    let (mut tale, workflow, lease, wait) = asking();
    tale.emit_to(1, workflow, 7, 1, wait);
    tale.event(wait).arrival = Arrival::Emitted { payload: 8 };
    tale.window(0, lease.0, 2, &[wait]);
    assert_eq!(tale.broken(), ["A2"]);
    let sentence = "e2 of w10 was to arrive with 7, emitted, and arrived at 0.000 s with 8, emitted";
    assert_eq!(tale.sentence(Property::A2), sentence);
}

#[test]
fn a3_an_await_does_not_see_a_promise() {
    let mut tale = Tale::meeting();
    let (workflow, lease, event) = tale.at(10 + ASK, 1);
    tale.promise_to(1, workflow, 7, 1, WaitToken::NONE);
    tale.wait(1_000).handoff(0, lease, &[event]);
    assert_eq!(tale.broken(), ["A3"]);
    let sentence = "w10 waits for `go` since 1.000 s, and 7, which b emitted and committed at 0.000 s, lies beside it as a promise";
    assert_eq!(tale.sentence(Property::A3), sentence);
}

#[test]
fn a3_an_emit_does_not_see_a_wait() {
    let (mut tale, workflow, ..) = asking();
    tale.wait(1_000).promise_to(1, workflow, 7, 1, WaitToken::NONE);
    assert_eq!(tale.broken(), ["A3"]);
}

/// Both look while the other has not committed.
#[test]
fn a3_neither_sees_the_other() {
    for is_timed in [false, true] {
        let mut tale = Tale::meeting();
        let (workflow, lease, event) = tale.at(10 + HURRY, 1);
        tale.begin(1);
        tale.promise_to(1, workflow, 7, 1, WaitToken::NONE);
        let promise = tale.state.boxes.clone();
        let wait = tale.handoff(0, lease, &[event])[0];
        tale.state.boxes.extend(promise);
        tale.commit(1);
        assert_eq!(tale.broken(), [""; 0], "so far the wait may have been resumed, and the reply be under way");
        if is_timed {
            tale.wait(2_000).expire(&[wait]);
        } else {
            tale.end(1);
        }
        assert_eq!(tale.broken(), ["A3"]);
    }
}

#[test]
fn a3_a_promise_is_dropped() {
    let mut tale = Tale::meeting();
    let (workflow, ..) = tale.at(10 + ASK, 1);
    tale.promise_to(1, workflow, 7, 1, WaitToken::NONE);
    tale.state.boxes.clear();
    tale.end(1);
    assert_eq!(tale.broken(), ["A3"]);
    let sentence = "7 was promised to w10 as `go` at 0.000 s (m1), nobody has consumed it, and it is gone at the end";
    assert_eq!(tale.sentence(Property::A3), sentence);
}

#[test]
fn a3_an_emit_comes_second_to_none() {
    let mut tale = Tale::meeting();
    let (workflow, ..) = tale.at(10 + ASK, 1);
    tale.say(1, emit(workflow, 7, 1), answered(EmitAnswer::Second));
    assert_eq!(tale.broken(), ["A3"]);
}

#[test]
fn a4_a_wait_without_its_row() {
    let (mut tale, ..) = asking();
    tale.state.boxes.clear();
    tale.end(1);
    assert_eq!(tale.broken(), ["A4"]);
    let sentence = "w10 waits for `go` as e2 since 0.000 s, and has no row in a box at the end";
    assert_eq!(tale.sentence(Property::A4), sentence);
}

#[test]
fn a4_a_row_of_a_wait_that_nobody_has() {
    let (mut tale, workflow, lease, wait) = asking();
    tale.emit_to(1, workflow, 7, 1, wait);
    let content = BoxContent::Wait { event: wait, sequence: 2, step: crate::name::Step(3), state: 1, deadline: None };
    let row = BoxRow { workflow, name: GO, since: tale.now, token_hash: None, content };
    tale.state.boxes.push(row);
    tale.end(1);
    assert_eq!(tale.broken(), ["A4"]);
    tale.state.boxes.clear();
    tale.now = crate::name::Micros(0);
    let lease = tale.window(0, lease.0, 2, &[wait]);
    tale.handoff(0, lease, &[wait]);
    tale.state.boxes.push(row);
    tale.end(200);
    assert_eq!(tale.sentence(Property::A4), "w10 has ended, and a wait of its for `go` is kept at the end");
}

#[test]
fn a7_nothing_compares_as_a_match() {
    let (mut tale, workflow, _, wait) = waiting_at(10 + GUARD);
    tale.emit_to(1, workflow, 7, 1, wait);
    assert_eq!(tale.broken(), ["A7"]);
    let sentence =
        "w12 waited for `go` with a000007, and was resumed by m1, which b had emitted at 0.000 s with no token";
    assert_eq!(tale.sentence(Property::A7), sentence);
}

#[test]
fn a7_a_promise_without_the_token_is_consumed() {
    let mut tale = Tale::meeting();
    let (workflow, lease, event) = tale.at(10 + GUARD, 1);
    tale.promise_to(1, workflow, 7, 1, WaitToken::NONE);
    tale.hand_on(0, lease, &[event], Resumes { found: &[(event, 7)], joined: &[] });
    assert_eq!(tale.broken(), ["A7"]);
}

/// The lost handoff registered a wait that nobody was told of; an emit, a deadline, or its row tells it.
#[test]
fn a_wait_of_a_lost_handoff_is_found() {
    for by_emit in [true, false] {
        for outcome in [Some(Outcome::Committed), None] {
            let mut tale = Tale::meeting();
            let (workflow, lease, event) = tale.at(10 + HURRY, 1);
            let wait = tale.lose_handoff(0, lease, &[event], Resumes::default(), outcome)[0];
            match by_emit {
                true => tale.emit_to(1, workflow, 7, 1, wait),
                false => tale.wait(2_000).expire(&[wait]),
            }
            finish(&mut tale, lease, 2, wait);
            assert_holds(&tale);
        }
    }
}

#[test]
fn a_wait_of_a_lost_handoff_that_nobody_resumes_is_found_by_its_row() {
    let mut tale = Tale::meeting();
    let (_, lease, event) = tale.at(10 + ASK, 1);
    tale.lose_handoff(0, lease, &[event], Resumes::default(), Some(Outcome::Committed));
    tale.end(200);
    assert_eq!(tale.broken(), [""; 0]);
    assert_eq!(tale.judged(Property::A4), Judgement::Holds);
    assert_eq!(tale.judged(Property::L1), Judgement::Unknown, "nobody has emitted what it awaits");
}

#[test]
fn a_lost_duty_explains_who_was_resumed() {
    let (mut tale, _, lease, wait) = waiting_at(10 + HURRY);
    tale.wait(2_000).lose(3, Op::ExpireWaits { queue: Q, limit: 10 }, Some(Outcome::Committed));
    tale.comes(3, wait, Arrival::TimedOut);
    finish(&mut tale, lease, 2, wait);
    assert_holds(&tale);
}

/// A savepoint takes the emit back, and a promise that was rolled back is none.
#[test]
fn what_is_rolled_back_was_not_promised() {
    let mut tale = Tale::meeting();
    let (workflow, lease, event) = tale.at(10 + TWICE, 1);
    tale.begin(1);
    tale.say(1, emit(workflow, 7, 1), answered(EmitAnswer::Promised));
    tale.rollback(1);
    tale.call(2, Op::Begin { isolation: Isolation::RepeatableRead });
    tale.answer(2, Reply::Done);
    let wait = tale.handoff(0, lease, &[event])[0];
    tale.refuse(2, emit(workflow, 8, 2), crate::reply::Refusal::SerializationFailure);
    tale.say(2, Op::Commit, Reply::RolledBack);
    tale.emit_to(1, workflow, 7, 1, wait);
    let lease = tale.window(0, lease.0, 2, &[wait]);
    tale.promise_to(1, workflow, 9, 3, WaitToken::NONE);
    let next = tale.hand_on(0, lease, &[wait], Resumes { found: &[(wait, 9)], joined: &[] });
    finish(&mut tale, lease, 3, next[0]);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::EmitSerializationFailure), 1);
    assert_eq!(C.0, 0);
}

/// To judge the emit the handoff is applied, in the middle of another transaction; its effect is its own.
#[test]
fn an_effect_belongs_to_its_transaction_also_if_somebody_hears_of_that_before_its_end() {
    let mut tale = Tale::meeting();
    let (workflow, lease, event) = tale.at(10 + ASK, 1);
    tale.begin(0);
    tale.hold(0, lease);
    tale.effect(0, event);
    let wait = tale.handoff(0, lease, &[event])[0];
    tale.call(0, Op::Commit);
    tale.begin(1);
    tale.emit_to(1, workflow, 7, 1, wait);
    tale.commit(1);
    tale.answer(0, Reply::Committed);
    assert_eq!(tale.broken(), [""; 0]);
    // The emitter's own, which nobody hands off, is not forgotten over it.
    let mut tale = Tale::meeting();
    let (workflow, lease, event) = tale.at(10 + ASK, 1);
    let other = tale.start(20 + ASK);
    let other_lease = {
        let worker = tale.register(2);
        tale.window(2, worker, 2, &[other])
    };
    tale.begin(0);
    tale.hold(0, lease);
    let wait = tale.handoff(0, lease, &[event])[0];
    tale.call(0, Op::Commit);
    tale.begin(2);
    tale.hold(2, other_lease);
    tale.effect(2, other);
    tale.emit_to(2, workflow, 7, 1, wait);
    tale.commit(2);
    tale.answer(0, Reply::Committed);
    assert!(tale.broken().contains(&"W2"), "{:?}", tale.broken());
}
