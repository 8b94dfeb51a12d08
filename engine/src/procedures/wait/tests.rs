//! The race between a wait, those who emit to it, and its deadline: each row of it by hand.

use crate::guard::Guard;
use crate::procedures::flows::{
    BEGIN, EXPIRE, Flows, REPEATABLE, TICK, answer, awaits, doomed, ends, goes_to, handed_off, refused,
};
use alloc::vec;
use alloc::vec::Vec;
use tourbillon_models::name::{ActorId, EmitId, EventId, Name, WaitToken, WorkflowId};
use tourbillon_models::op::{Op, Verb};
use tourbillon_models::reply::{Arrival, EmitAnswer, Refusal, Reply};
use tourbillon_models::state::{Act, DeadReason};

const SHOWN: u64 = 77;

fn last_event(flows: &Flows) -> (u32, Arrival) {
    let event = flows.state().events.last().expect("something was appended").event;
    (event.id.0, event.arrival)
}

#[test]
fn an_emit_resumes_a_wait_under_the_id_that_it_was_given() {
    let mut flows = Flows::new(&[]);
    let slot = flows.session();
    let (workflow, wait) = flows.waiting(slot, 0, 0);
    assert_eq!(flows.emit(slot, workflow, 40), EmitAnswer::Resumed);
    assert_eq!(last_event(&flows), (wait, Arrival::Emitted { payload: 40 }));
    let window = flows.claim(slot, 1);
    let event = &window.events[0];
    assert_eq!((event.id.0, event.workflow, event.sequence, event.state, event.attempt), (wait, workflow, 2, 7, 1));
    flows.hand_off(&window, vec![ends(event, Verb::Complete, 0)]);
    let state = flows.state();
    assert!(state.boxes.is_empty() && state.emits.is_empty() && state.workflows.is_empty());
}

#[test]
fn what_was_emitted_before_is_found_at_once() {
    let mut flows = Flows::new(&[]);
    let slot = flows.session();
    let workflow = flows.start(slot);
    let window = flows.claim(slot, 1);
    assert_eq!(flows.emit(slot, workflow, 40), EmitAnswer::Promised);
    assert_eq!(flows.emit(slot, workflow, 41), EmitAnswer::Second);
    let told = flows.hand_off(&window, vec![awaits(&window.events[0], 5, 0)]);
    assert_eq!(told.resumed, told.appended);
    assert_eq!(last_event(&flows), (told.appended[0], Arrival::Emitted { payload: 40 }));
    assert!(flows.state().boxes.is_empty());
}

/// Either side's transaction is open while the other comes.
#[test]
fn whoever_comes_second_waits_for_the_first() {
    for emit_first in [true, false] {
        let mut flows = Flows::new(&[]);
        let (one, two) = (flows.session(), flows.session());
        let workflow = flows.start(one);
        let window = flows.claim(one, 1);
        let emit = flows.emit_op(workflow, 40, 0);
        let decisions = vec![awaits(&window.events[0], 0, 0)];
        if emit_first {
            flows.call(two, BEGIN);
            assert_eq!(answer(flows.call(two, emit)), EmitAnswer::Promised);
            assert_eq!(flows.try_hand_off(&window, decisions), None);
            flows.call(two, Op::Commit);
            let told = handed_off(flows.resume(one));
            assert_eq!(told.resumed, told.appended);
        } else {
            flows.call(one, BEGIN);
            flows.hand_off(&window, decisions);
            assert_eq!(flows.try_call(two, emit), None);
            flows.call(one, Op::Commit);
            assert_eq!(answer(flows.resume(two)), EmitAnswer::Resumed);
        }
        assert!(flows.state().boxes.is_empty());
    }
}

#[test]
fn without_one_box_they_miss_each_other() {
    let mut flows = Flows::new(&[Guard::BoxUnique]);
    let (one, two) = (flows.session(), flows.session());
    let workflow = flows.start(one);
    let window = flows.claim(one, 1);
    flows.call(one, BEGIN);
    flows.hand_off(&window, vec![awaits(&window.events[0], 0, 0)]);
    assert_eq!(flows.emit(two, workflow, 40), EmitAnswer::Promised);
    flows.call(one, Op::Commit);
    assert_eq!(flows.state().boxes.len(), 2);
}

#[test]
fn a_repeated_emit_answers_as_the_first_time_and_does_nothing() {
    for removed in [&[][..], &[Guard::EmitId]] {
        let mut flows = Flows::new(removed);
        let slot = flows.session();
        let (workflow, _) = flows.waiting(slot, 0, 0);
        let emit = flows.emit_op(workflow, 40, 0);
        assert_eq!(answer(flows.call(slot, emit.clone())), EmitAnswer::Resumed);
        let again = flows.call(slot, emit);
        let promises = flows.state().boxes.len();
        if removed.is_empty() {
            let expected = Reply::Emitted { answer: EmitAnswer::Resumed, repeated: true, event: EventId(0), table: 0 };
            assert_eq!((again, promises), (expected, 0));
        } else {
            assert_eq!((answer(again), promises), (EmitAnswer::Promised, 1), "it will wake the next wait");
        }
    }
}

#[test]
fn an_event_and_a_deadline_resume_a_wait_once() {
    for removed in [&[][..], &[Guard::WaitDeleteReturning]] {
        let mut flows = Flows::new(removed);
        let (one, two) = (flows.session(), flows.session());
        let (workflow, wait) = flows.waiting(one, 5, 0);
        assert_eq!(flows.call(one, EXPIRE), Reply::Expired { resumed: vec![], undeliverable: vec![], table: 0 });
        flows.pass(5);
        flows.call(one, BEGIN);
        assert_eq!(flows.call(one, EXPIRE), Reply::Expired { resumed: vec![wait], undeliverable: vec![], table: 0 });
        let emit = flows.emit_op(workflow, 40, 0);
        assert_eq!(flows.try_call(two, emit), None);
        flows.call(one, Op::Commit);
        let expected = if removed.is_empty() { EmitAnswer::Promised } else { EmitAnswer::Resumed };
        assert_eq!(answer(flows.resume(two)), expected);
        let events = flows.state().events;
        assert_eq!(events.iter().filter(|row| row.event.id.0 == wait).count(), 2 - usize::from(removed.is_empty()));
        assert_eq!(events[1].event.arrival, Arrival::TimedOut);
    }
}

#[test]
fn the_duty_leaves_to_others_what_they_are_about_to_resume() {
    let mut flows = Flows::new(&[]);
    let (one, two) = (flows.session(), flows.session());
    let (workflow, _) = flows.waiting(one, 5, 0);
    flows.pass(5);
    flows.call(two, BEGIN);
    assert_eq!(flows.emit(two, workflow, 40), EmitAnswer::Resumed);
    assert_eq!(flows.call(one, EXPIRE), Reply::Expired { resumed: vec![], undeliverable: vec![], table: 0 });
    flows.call(two, Op::Rollback);
    assert!(matches!(flows.call(one, EXPIRE), Reply::Expired { resumed, .. } if resumed.len() == 1));
}

#[test]
fn a_wait_that_asks_for_a_token_is_resumed_by_no_other() {
    for removed in [&[][..], &[Guard::EmitToken]] {
        let mut flows = Flows::new(removed);
        let slot = flows.session();
        let (workflow, _) = flows.waiting(slot, 0, SHOWN);
        let (wrong, without) = (flows.emit_op(workflow, 41, SHOWN + 1), flows.emit_op(workflow, 42, 0));
        assert_eq!(answer(flows.call(slot, wrong)), EmitAnswer::Forged);
        assert!(flows.state().emits.is_empty(), "a forged emit uses no id up");
        let expected = if removed.is_empty() { EmitAnswer::Forged } else { EmitAnswer::Resumed };
        assert_eq!(answer(flows.call(slot, without)), expected);
        if removed.is_empty() {
            let right = flows.emit_op(workflow, 40, SHOWN);
            assert_eq!(answer(flows.call(slot, right)), EmitAnswer::Resumed);
            assert_eq!(last_event(&flows).1, Arrival::Emitted { payload: 40 });
        }
    }
}

#[test]
fn a_promise_with_another_token_is_thrown_away_and_the_audit_says_so() {
    let mut flows = Flows::new(&[]);
    let slot = flows.session();
    let workflow = flows.start(slot);
    let window = flows.claim(slot, 1);
    assert_eq!(flows.emit(slot, workflow, 41), EmitAnswer::Promised);
    assert!(flows.hand_off(&window, vec![awaits(&window.events[0], 0, SHOWN)]).resumed.is_empty());
    let state = flows.state();
    let acts: Vec<_> = state.audit.iter().map(|row| (row.act, row.actor.is_some(), row.workflow)).collect();
    assert_eq!(acts, [(Act::Emit(EmitAnswer::Promised), true, workflow), (Act::Discard, false, workflow)]);
    assert_eq!(state.boxes.len(), 1);
}

#[test]
fn the_dead_are_told_nothing() {
    for removed in [&[][..], &[Guard::EmitLive]] {
        let mut flows = Flows::new(removed);
        let (one, two) = (flows.session(), flows.session());
        let workflow = flows.start(one);
        let window = flows.claim(one, 1);
        flows.call(one, BEGIN);
        flows.hand_off(&window, vec![ends(&window.events[0], Verb::Complete, 0)]);
        let emit = flows.emit_op(workflow, 40, 0);
        let waits = flows.try_call(two, emit).is_none();
        assert_eq!(waits, removed.is_empty(), "its end is not certain yet");
        flows.call(one, Op::Commit);
        if waits {
            assert_eq!(answer(flows.resume(two)), EmitAnswer::Dead);
        }
        assert_eq!(flows.state().boxes.is_empty(), removed.is_empty());
        assert_eq!(flows.emit(two, WorkflowId(9_999), 1) == EmitAnswer::Dead, removed.is_empty());
    }
}

#[test]
fn an_old_snapshot_is_told_nothing_wrong() {
    for removed in [&[][..], &[Guard::EmitUnseen]] {
        let mut flows = Flows::new(removed);
        let (one, two) = (flows.session(), flows.session());
        let (ended, _) = flows.waiting(one, 0, 0);
        flows.emit(one, ended, 1);
        let window = flows.claim(one, 1);
        flows.hand_off(&window, vec![ends(&window.events[0], Verb::Complete, 0)]);
        let (waiting, _) = flows.waiting(one, 0, 0);
        flows.call(two, REPEATABLE);
        assert_eq!(flows.emit(two, ended, 2), EmitAnswer::Dead);
        assert_eq!(flows.state().workflows.len(), 1, "the look left nothing");

        let unseen = flows.start(one);
        let emit = flows.emit_op(unseen, 3, 0);
        match flows.call(two, emit) {
            Reply::Refused(refusal) => assert_eq!((refusal, removed.len()), (Refusal::SerializationFailure, 0)),
            reply => assert_eq!((answer(reply), removed.len()), (EmitAnswer::Dead, 1)),
        }
        flows.call(two, Op::Rollback);

        // A box that has changed since.
        flows.call(two, REPEATABLE);
        flows.call(two, TICK);
        flows.call(two, Op::Observe { queue: crate::procedures::flows::QUEUE });
        flows.call(two, Op::Rollback);
        assert_eq!(flows.emit(one, waiting, 4), EmitAnswer::Resumed);
    }
}

/// An await that is registered after the emit's snapshot: nobody is lost, and the emit begins anew.
#[test]
fn an_emit_at_repeatable_read_fails_rather_than_miss_a_wait() {
    let mut flows = Flows::new(&[]);
    let (one, two) = (flows.session(), flows.session());
    let workflow = flows.start(one);
    let window = flows.claim(one, 1);
    flows.call(two, REPEATABLE);
    flows.call(two, Op::Peek { queue: crate::procedures::flows::QUEUE, table: 0 });
    flows.hand_off(&window, vec![awaits(&window.events[0], 0, 0)]);
    let emit = flows.emit_op(workflow, 40, 0);
    assert_eq!(refused(flows.call(two, emit.clone())), Some(Refusal::SerializationFailure));
    flows.call(two, Op::Rollback);
    assert_eq!(answer(flows.call(two, emit)), EmitAnswer::Resumed);
}

#[test]
fn promises_are_kept_until_the_end() {
    for removed in [&[][..], &[Guard::PromiseUntilEnd]] {
        let mut flows = Flows::new(removed);
        let slot = flows.session();
        let workflow = flows.start(slot);
        assert_eq!(flows.emit(slot, workflow, 40), EmitAnswer::Promised);
        flows.pass(1_000);
        flows.call(slot, EXPIRE);
        assert_eq!(flows.state().boxes.len(), usize::from(removed.is_empty()));
    }
}

#[test]
fn the_first_promise_is_kept() {
    for (removed, payload) in [(&[][..], 40), (&[Guard::FirstWriteWins], 41)] {
        let mut flows = Flows::new(removed);
        let slot = flows.session();
        let workflow = flows.start(slot);
        let window = flows.claim(slot, 1);
        flows.emit(slot, workflow, 40);
        flows.emit(slot, workflow, 41);
        flows.hand_off(&window, vec![awaits(&window.events[0], 0, 0)]);
        assert_eq!(last_event(&flows).1, Arrival::Emitted { payload });
    }
}

#[test]
fn no_more_than_so_many_promises_are_kept() {
    let mut flows = Flows::new(&[]);
    let slot = flows.session();
    let workflow = flows.start(slot);
    for name in 0..65 {
        let Op::Emit { payload, token, actor, .. } = flows.emit_op(workflow, 1, 0) else { unreachable!() };
        let name = tourbillon_models::name::Name(name);
        let emit = Op::Emit { workflow, name, payload, emit: EmitId(u32::from(name.0)), token, actor };
        let refusal = refused(flows.call(slot, emit));
        assert_eq!(refusal, (name.0 == 64).then_some(Refusal::LimitExceeded));
    }
    assert_eq!(flows.state().boxes.len(), 64);
}

/// A retry is told again what its step was told.
#[test]
fn a_retry_knows_what_the_step_had_waited_for() {
    let mut flows = Flows::new(&[]);
    let slot = flows.session();
    let (workflow, _) = flows.waiting(slot, 0, 0);
    flows.emit(slot, workflow, 40);
    let window = flows.claim(slot, 1);
    let event = window.events[0];
    let mut again = goes_to(&event, 1);
    (again.verb, again.attempt, again.max_attempts, again.arrival) = (Verb::Retry, 2, 3, event.arrival);
    flows.hand_off(&window, vec![again]);
    let event = flows.claim(slot, 1).events[0];
    assert_eq!((event.attempt, event.arrival), (2, Arrival::Emitted { payload: 40 }));
}

/// Two workflows whose waits have passed their deadlines; the first cannot go on.
fn good_and_doomed(removed: &[Guard]) -> (Flows, u8, WorkflowId, [u32; 2]) {
    let mut flows = Flows::new(removed);
    let slot = flows.session();
    let (workflow, _) = (flows.start(slot), flows.start(slot));
    let window = flows.claim(slot, 1);
    let [bad, good] = window.events[..] else { panic!("two have begun") };
    let told = flows.hand_off(&window, vec![doomed(awaits(&bad, 1, 0)), awaits(&good, 2, 0)]);
    flows.pass(3);
    (flows, slot, workflow, [told.appended[0], told.appended[1]])
}

#[test]
fn a_wait_that_cannot_go_on_is_a_dead_letter_and_keeps_nobody() {
    let (mut flows, slot, workflow, [bad, good]) = good_and_doomed(&[]);
    let reply = flows.call(slot, EXPIRE);
    assert_eq!(reply, Reply::Expired { resumed: vec![good], undeliverable: vec![bad], table: 0 });
    let state = flows.state();
    let letter = state.dead_letters[0];
    assert_eq!((letter.event.0, letter.reason), (bad, DeadReason::Undeliverable));
    assert_eq!(letter.arrival, Arrival::TimedOut);
    assert!(state.boxes.is_empty() && state.workflows.iter().all(|row| row.workflow != workflow));
    assert_eq!(last_event(&flows), (good, Arrival::TimedOut));
    assert_eq!(flows.call(slot, EXPIRE), Reply::Expired { resumed: vec![], undeliverable: vec![], table: 0 });

    let (mut flows, slot, _, _) = good_and_doomed(&[Guard::DrainPoison]);
    for _ in 0..2 {
        assert_eq!(refused(flows.call(slot, EXPIRE)), Some(Refusal::CheckViolation), "for ever");
    }
}

/// An emit has the workflow's row locked, and may be about to ask for the wait.
#[test]
fn a_wait_that_cannot_go_on_is_left_to_whoever_emits_to_it() {
    let (mut flows, slot, workflow, [bad, good]) = good_and_doomed(&[]);
    let other = flows.session();
    flows.call(other, BEGIN);
    let emit =
        Op::Emit { workflow, name: Name(1), payload: 40, emit: EmitId(900), token: WaitToken::NONE, actor: ActorId(3) };
    assert_eq!(answer(flows.call(other, emit)), EmitAnswer::Promised);
    let reply = flows.call(slot, EXPIRE);
    assert_eq!(reply, Reply::Expired { resumed: vec![good], undeliverable: vec![], table: 0 });
    flows.call(other, Op::Commit);
    let reply = flows.call(slot, EXPIRE);
    assert_eq!(reply, Reply::Expired { resumed: vec![], undeliverable: vec![bad], table: 0 });
    assert!(flows.state().boxes.is_empty());
}
