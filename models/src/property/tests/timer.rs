//! T1 to T5: timers.

use super::flaky::NAP;
use super::sound::assert_holds;
use super::tale::{Q, Tale};
use crate::name::{EventId, Micros, Tick, WorkerId};
use crate::op::Op;
use crate::property::{Property, Reach};
use crate::reply::{Outcome, Refusal, Reply};
use crate::verdict::Judgement;
use alloc::vec;

/// w10 sleeps from 0.000 s to 2.000 s, as event 2; its first window, (1,2], is finished.
fn asleep() -> (Tale, WorkerId, EventId) {
    let mut tale = Tale::flaky();
    let worker = tale.register(0);
    let event = tale.start(10 + NAP);
    let lease = tale.window(0, worker, 1, &[event]);
    let timer = tale.handoff(0, lease, &[event])[0];
    (tale, worker, timer)
}

/// The timer fires at the tick that follows.
fn fire(tale: &mut Tale, timer: EventId) -> Tick {
    let tick = tale.tick();
    tale.drain(tick, &[timer], true);
    tick
}

#[test]
fn a_workflow_sleeps_retries_and_ends() {
    let (mut tale, worker, timer) = asleep();
    tale.wait(2_000);
    fire(&mut tale, timer);
    let lease = tale.window(0, worker, 2, &[timer]);
    let retry = tale.handoff(0, lease, &[timer])[0];
    tale.wait(1_000);
    fire(&mut tale, retry);
    let lease = tale.window(0, worker, 4, &[retry]);
    let last = tale.handoff(0, lease, &[retry]);
    let lease = tale.window(0, worker, 6, &last);
    tale.handoff(0, lease, &last);
    tale.end(200);
    assert_holds(&tale);
    let verdict = tale.verdict();
    for reach in [Reach::TimerScheduled, Reach::TimerFired] {
        assert_eq!(verdict.reach(reach), 2, "{}", reach.name());
    }
    assert_eq!(verdict.reach(Reach::Retry), 1);
    assert!(verdict.of(Property::T5).exercised > 0);
}

#[test]
fn t1_a_timer_fires_before_it_is_due() {
    let (mut tale, _, timer) = asleep();
    tale.wait(1_500);
    fire(&mut tale, timer);
    assert_eq!(tale.broken(), ["T1"]);
    let sentence = "e2, scheduled at 0.000 s, fired at 1.500 s, and was not due before 2.000 s";
    assert_eq!(tale.sentence(Property::T1), sentence);
}

#[test]
fn t1_a_round_delivers_what_is_due_only_at_a_later_tick() {
    let mut tale = Tale::messages();
    let timer = tale.schedule(1, 7, 2_000);
    tale.wait(1_000);
    let tick = tale.tick();
    tale.wait(2_000).drain(tick, &[timer], true);
    assert_eq!(tale.broken(), ["T1"]);
    let sentence = "e1 was due at 2.000 s, and was delivered at 3.000 s as due at k2, which was taken at 1.000 s";
    assert_eq!(tale.sentence(Property::T1), sentence);
}

#[test]
fn t2_a_round_is_done_and_leaves_one_behind() {
    let (mut tale, _, timer) = asleep();
    tale.wait(2_000);
    let tick = tale.tick();
    tale.wait(500).drain(tick, &[], false);
    assert_eq!(tale.broken(), [""; 0], "there is more");
    tale.drain(tick, &[], true);
    assert_eq!(tale.broken(), ["T2"]);
    assert_eq!(
        tale.sentence(Property::T2),
        "e2 (w10 at `try`), scheduled at 0.000 s and due at 2.000 s, is lost: the round of q0 at k3 sees it, and was done at \
         2.500 s without it"
    );
    assert_eq!((timer.0, tale.verdict().reach(Reach::TimerPageFull)), (2, 1));
}

#[test]
fn t2_one_that_commits_behind_the_tick_comes_with_the_next_round() {
    let mut tale = Tale::messages();
    let worker = tale.register(0);
    tale.begin(1);
    let timer = tale.schedule(1, 7, 1_000);
    tale.wait(2_000);
    let early = tale.tick();
    tale.drain(early, &[], true);
    tale.wait(1_000).commit(1);
    assert_eq!(tale.broken(), [""; 0], "that tick did not see it");
    fire(&mut tale, timer);
    let lease = tale.window(0, worker, 3, &[timer]);
    tale.handoff(0, lease, &[timer]);
    tale.end(200);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::TimerFiredLatePath), 1);
}

#[test]
fn t2_the_row_of_a_timer_is_gone() {
    let (mut tale, _, _) = asleep();
    tale.state.timers.clear();
    tale.end(1);
    assert_eq!(tale.broken(), ["T2"]);
    assert_eq!(
        tale.sentence(Property::T2),
        "e2 (w10 at `try`), scheduled at 0.000 s and due at 2.000 s, has not fired, and its row is gone from q0 at the end"
    );
}

#[test]
fn t3_a_timer_fires_twice() {
    let (mut tale, _, timer) = asleep();
    tale.wait(2_000);
    fire(&mut tale, timer);
    tale.wait(1_000);
    fire(&mut tale, timer);
    assert_eq!(tale.broken(), ["T3"]);
    assert_eq!(tale.sentence(Property::T3), "e2 fired twice: at 2.000 s, and at 3.000 s");
}

#[test]
fn t3_a_timer_is_cancelled_and_fires() {
    for is_first in [true, false] {
        let mut tale = Tale::messages();
        let timer = tale.schedule(1, 7, 1_000);
        let cancel = Op::Cancel { queue: Q, event: timer, due: Micros::from_secs(1) };
        tale.wait(1_000);
        if is_first {
            tale.say(1, cancel.clone(), Reply::Cancelled);
        }
        fire(&mut tale, timer);
        if !is_first {
            tale.say(1, cancel, Reply::Cancelled);
        }
        assert_eq!(tale.broken(), ["T3"]);
        assert_eq!(tale.sentence(Property::T3), "e1 was cancelled by b at 1.000 s, and fired at 1.000 s");
    }
}

#[test]
fn a_timer_is_cancelled_or_it_is_too_late() {
    let mut tale = Tale::messages();
    let worker = tale.register(0);
    let (early, late) = (tale.schedule(1, 7, 1_000), tale.schedule(1, 8, 1_000));
    let cancel = |event| Op::Cancel { queue: Q, event, due: Micros::from_secs(1) };
    tale.say(1, cancel(early), Reply::Cancelled);
    tale.state.timers.remove(0);
    tale.wait(1_000);
    fire(&mut tale, late);
    tale.say(1, cancel(late), Reply::TooLate);
    let lease = tale.window(0, worker, 1, &[late]);
    tale.handoff(0, lease, &[late]);
    tale.end(200);
    assert_holds(&tale);
    let verdict = tale.verdict();
    assert_eq!((verdict.reach(Reach::TimerCancelled), verdict.reach(Reach::TimerCancelTooLate)), (1, 1));
}

#[test]
fn t4_a_timer_that_no_drain_delivers() {
    let (mut tale, _, _) = asleep();
    tale.wait(150_000).tick();
    tale.refuse(3, Op::Drain { queue: Q, limit: 10 }, Refusal::CheckViolation);
    tale.end(200);
    assert_eq!(tale.broken(), ["T4", "L1"]);
    assert_eq!(
        tale.sentence(Property::T4),
        "e2 (w10 at `try`) is due since 2.000 s and has not fired at 200.000 s: it waits for a drain of q0, of which 1 were \
         called since then, the last at 150.000 s: refused with CheckViolation"
    );
    assert_eq!(
        tale.sentence(Property::L1),
        "w10 is not done at 200.000 s, 100.000 s after the last fault: e2 is due since 2.000 s and waits for a drain of q0, \
         of which 1 were called since then, the last at 150.000 s: refused with CheckViolation"
    );
}

#[test]
fn t4_a_timer_that_fires_very_late() {
    let (mut tale, _, timer) = asleep();
    tale.wait(170_000);
    fire(&mut tale, timer);
    assert_eq!(tale.broken(), ["T4"]);
    let sentence = "e2, due at 2.000 s, fired only at 170.000 s, 70.000 s after it could have";
    assert_eq!(tale.sentence(Property::T4), sentence);
}

#[test]
fn l1_a_sleep_that_outlasts_the_run_says_nothing() {
    let mut tale = Tale::messages();
    tale.schedule(1, 7, 1_000_000);
    tale.end(200);
    assert_eq!(tale.broken(), [""; 0]);
    assert_eq!(tale.judged(Property::L1), Judgement::Unknown);
}

#[test]
fn t5_a_timer_forgets_its_workflow() {
    let (mut tale, worker, timer) = asleep();
    tale.wait(2_000);
    fire(&mut tale, timer);
    tale.event(timer).attempt = 2;
    tale.window(0, worker, 2, &[timer]);
    assert_eq!(tale.broken(), ["T5"]);
    assert_eq!(
        tale.sentence(Property::T5),
        "e2 was scheduled as w10 step 2 `try`, attempt 1, with state 12, and arrived as w10 step 2 `try`, attempt 2, with \
         state 12"
    );
}

#[test]
fn t5_the_row_of_a_timer_is_another() {
    let (mut tale, _, _) = asleep();
    tale.state.timers[0].event.state = 1;
    tale.end(1);
    assert_eq!(tale.broken(), ["T5"]);
}

#[test]
fn d2_a_timer_that_nobody_scheduled() {
    let (mut tale, _, _) = asleep();
    let mut row = tale.state.timers[0];
    row.event.id = EventId(99);
    tale.state.timers.push(row);
    tale.end(1);
    assert_eq!(tale.broken(), ["D2"]);
}

#[test]
fn d5_a_timer_takes_the_id_of_an_event() {
    let mut tale = Tale::messages();
    tale.append(1, 1);
    let (delay, due) = (Micros(1), Micros(1));
    tale.say(1, Op::Schedule { queue: Q, payload: 2, delay }, Reply::Scheduled { event: EventId(1), due, table: 0 });
    assert_eq!(tale.broken(), ["D5"]);
}

/// What a drain did whose reply was lost shows when somebody is handed the event.
#[test]
fn a_lost_drain_is_found_again() {
    for outcome in [Some(Outcome::Committed), None] {
        let (mut tale, worker, timer) = asleep();
        tale.wait(2_000);
        let tick = tale.tick();
        tale.call(3, Op::Drain { queue: Q, limit: 10 });
        tale.appear(timer);
        tale.answer(3, Reply::Unknown);
        outcome.into_iter().for_each(|outcome| tale.resolve(3, outcome));
        tale.reconnect(3);
        tale.drain(tick, &[], true);
        let lease = tale.window(0, worker, 2, &[timer]);
        tale.handoff(0, lease, &[timer]);
        assert_holds(&tale);
        assert_eq!(tale.judged(Property::D3), Judgement::Holds);
    }
}

/// The handoff's reply is lost; its timer fires, and is met in a window.
#[test]
fn a_lost_sleep_is_found_again() {
    let mut tale = Tale::flaky();
    let worker = tale.register(0);
    let event = tale.start(10 + NAP);
    let (worker, token) = tale.window(0, worker, 1, &[event]);
    let decision = tale.decision(event);
    let before = tale.history.records.len();
    let timer = tale.hand(0, (worker, token), vec![decision])[0];
    tale.history.records.truncate(before + 1);
    tale.answer(0, Reply::Unknown);
    tale.resolve(0, Outcome::Committed);
    tale.reconnect(0);
    tale.wait(2_000);
    fire(&mut tale, timer);
    let lease = tale.window(0, worker, 2, &[timer]);
    tale.handoff(0, lease, &[timer]);
    assert_holds(&tale);
}

#[test]
fn a_timer_that_cannot_be_delivered_is_a_dead_letter() {
    for state in [12, 13] {
        let (mut tale, _, timer) = asleep();
        tale.history.header.options.push(("undeliverable_state".into(), alloc::format!("{state}")));
        tale.wait(2_000);
        let tick = tale.tick();
        let reply = Reply::Drained {
            tick,
            fired: vec![],
            dead: vec![timer.0],
            resumed: vec![],
            undeliverable: vec![],
            table: 0,
            is_done: true,
        };
        tale.say(3, Op::Drain { queue: Q, limit: 10 }, reply);
        tale.die(timer, crate::state::DeadReason::Undeliverable);
        tale.end(200);
        match state {
            12 => assert_holds(&tale),
            _ => assert_eq!(
                tale.sentence(Property::W10),
                "e2 became a dead letter at 2.000 s as undeliverable, with state 12, and only 13 cannot be delivered"
            ),
        }
    }
}
