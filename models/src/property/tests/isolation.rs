//! L3, Q11 and W10 for tries: isolated windows.

use super::flaky::{GONE, LAST, POISON};
use super::sound::assert_holds;
use super::tale::Tale;
use crate::name::{EventId, Micros, Token, WorkerId};
use crate::op::Op;
use crate::property::{Property, Reach};
use crate::reply::{Outcome, Reply};

type Lease = (WorkerId, Token);

/// (1,2] has a step that kills its process (e1) and one that ends (e2). Two workers have died of it, and the third has
/// it, isolated.
fn isolated() -> (Tale, Lease, [EventId; 2]) {
    let mut tale = Tale::flaky();
    let workers = [0, 1, 2].map(|who| tale.register(who));
    let events = [tale.start(10 + POISON), tale.start(20 + LAST)];
    tale.window(0, workers[0], 1, &events);
    tale.crash(0);
    tale.wait(20_000);
    let token = tale.take_over(1, workers[1], 1, 2, workers[0]);
    tale.read(1, (workers[1], token), &events);
    tale.crash(1);
    tale.wait(20_000);
    let token = tale.take_over_isolated(2, workers[2], 1, 2, workers[1]);
    (tale, (workers[2], token), events)
}

#[test]
fn a_poisoned_window_is_finished_event_by_event() {
    let (mut tale, lease, [poison, innocent]) = isolated();
    for tries in 1..=3 {
        tale.hand_out(2, lease, Some((poison, tries)), &[]);
    }
    tale.hand_out(2, lease, Some((innocent, 1)), &[poison]);
    tale.handoff(2, lease, &[innocent]);
    tale.hand_out(2, lease, None, &[]);
    tale.end(200);
    assert_holds(&tale);
    let verdict = tale.verdict();
    let goals = [Reach::TakeoverDuty, Reach::Isolation, Reach::IsolatedHandoff, Reach::DeadLetterTries];
    for reach in goals {
        assert_eq!(verdict.reach(reach), 1, "{}", reach.name());
    }
}

#[test]
fn l3_a_window_is_taken_over_again_and_again_as_a_whole() {
    let mut tale = Tale::flaky();
    let workers = [0, 1, 2].map(|who| tale.register(who));
    let event = tale.start(10 + POISON);
    tale.window(0, workers[0], 1, &[event]);
    tale.wait(20_000);
    tale.take_over(1, workers[1], 1, 2, workers[0]);
    assert_eq!(tale.broken(), [""; 0]);
    tale.wait(20_000);
    tale.take_over(2, workers[2], 1, 2, workers[1]);
    assert_eq!(tale.broken(), ["L3"]);
    assert_eq!(
        tale.sentence(Property::L3),
        "the window (k1,k2] of c0 was given out as a whole at 40.000 s, to lease-3, although it had been taken over 2 times \
         by then: it should have been isolated"
    );
}

#[test]
fn l3_an_isolated_window_that_nobody_finishes() {
    let (mut tale, lease, [poison, innocent]) = isolated();
    tale.hand_out(2, lease, Some((innocent, 1)), &[]);
    tale.handoff(2, lease, &[innocent]);
    tale.hand_out(2, lease, Some((poison, 1)), &[]);
    tale.wait(70_000);
    tale.say(2, Op::Heartbeat { worker: lease.0, token: lease.1, at: Micros(0) }, Reply::Done);
    tale.end(200);
    assert_eq!(tale.broken(), ["L1", "L3"]);
    assert_eq!(
        tale.sentence(Property::L3),
        "the window (k1,k2], isolated, is open at 200.000 s, with lease-3 since 40.000 s: e1 was handed out 1 times, and has \
         no end"
    );
}

#[test]
fn q1_an_isolated_window_is_finished_without_one_of_its_events() {
    let (mut tale, lease, [_, innocent]) = isolated();
    tale.hand_out(2, lease, Some((innocent, 1)), &[]);
    tale.handoff(2, lease, &[innocent]);
    tale.hand_out(2, lease, None, &[]);
    assert_eq!(tale.broken(), ["Q1", "W1"]);
}

#[test]
fn q3_and_w3_an_event_in_isolation_is_handed_off_twice() {
    let (mut tale, lease, [_, innocent]) = isolated();
    tale.hand_out(2, lease, Some((innocent, 1)), &[]);
    tale.handoff(2, lease, &[innocent]);
    tale.handoff(2, lease, &[innocent]);
    assert_eq!(tale.broken(), ["Q3", "W3", "W8"]);
}

#[test]
fn q11_a_try_that_nobody_counts() {
    let (mut tale, lease, [poison, _]) = isolated();
    tale.hand_out(2, lease, Some((poison, 1)), &[]);
    tale.wait(1_000);
    tale.hand_out(2, lease, Some((poison, 1)), &[]);
    assert_eq!(tale.broken(), ["Q11"]);
    assert_eq!(
        tale.sentence(Property::Q11),
        "e1 was handed out alone to lease-3 at 41.000 s as try 1, after 1 that had been counted"
    );
}

#[test]
fn q11_a_try_too_many() {
    let (mut tale, lease, [poison, _]) = isolated();
    for tries in 1..=4 {
        tale.hand_out(2, lease, Some((poison, tries)), &[]);
    }
    assert_eq!(tale.broken(), ["Q11"]);
}

#[test]
fn w10_an_innocent_is_given_up() {
    let (mut tale, lease, [poison, innocent]) = isolated();
    tale.hand_out(2, lease, Some((poison, 1)), &[innocent]);
    assert_eq!(tale.broken(), ["W10"]);
    assert_eq!(
        tale.sentence(Property::W10),
        "e2 became a dead letter at 40.000 s for 3 tries that did not end, and was handed out alone 0 times"
    );
}

#[test]
fn q12_an_event_that_was_handed_off_is_given_up() {
    let (mut tale, lease, [poison, innocent]) = isolated();
    for tries in 1..=3 {
        tale.hand_out(2, lease, Some((innocent, tries)), &[]);
    }
    tale.handoff(2, lease, &[innocent]);
    tale.hand_out(2, lease, Some((poison, 1)), &[innocent]);
    assert_eq!(tale.broken(), ["Q3", "Q12"]);
}

/// A hand-out whose reply was lost may have counted a try, given an event up, and ended the window.
#[test]
fn lost_hand_outs_accuse_nobody() {
    let (mut tale, lease, [poison, innocent]) = isolated();
    let hand_out = Op::HandOut { worker: lease.0, token: lease.1, max_tries: 3 };
    tale.lose(2, hand_out.clone(), Some(Outcome::Committed));
    tale.hand_out(2, lease, Some((poison, 2)), &[]);
    tale.hand_out(2, lease, Some((innocent, 1)), &[]);
    tale.handoff(2, lease, &[innocent]);
    tale.hand_out(2, lease, Some((poison, 3)), &[]);
    tale.die(poison, crate::state::DeadReason::Tries);
    tale.lose(2, hand_out, Some(Outcome::Committed));
    tale.say(2, super::tale::claim(lease.0), Reply::Idle);
    tale.end(200);
    assert_holds(&tale);
}

#[test]
fn a_step_without_code_is_rejected() {
    let mut tale = Tale::flaky();
    let worker = tale.register(0);
    let event = tale.start(10 + GONE);
    let lease = tale.window(0, worker, 1, &[event]);
    tale.handoff(0, lease, &[event]);
    tale.end(200);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::DeadLetterRejected), 1);
}
