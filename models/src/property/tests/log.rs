//! Q2, Q5, Q7, Q14, D2, D5: what is delivered, and when.

use super::tale::{Q, Tale};
use crate::name::{EventId, Micros, Step, Tick, WorkflowId, Xid};
use crate::op::Op;
use crate::property::Property;
use crate::reply::{Reply, SnapshotOf};
use alloc::vec;

#[test]
fn q2_an_event_that_nobody_appended() {
    let mut tale = Tale::messages();
    let worker = tale.register(0);
    let event = tale.append(1, 1);
    tale.tick();
    let token = tale.claim(0, worker, 1, 2);
    tale.remember(1, EventId(77), (WorkflowId(0), 0, Step(0), 9), 0);
    tale.event(EventId(77)).xid = Xid(11);
    tale.read(0, (worker, token), &[event, EventId(77)]);
    assert_eq!(tale.broken(), ["Q2"]);
    assert_eq!(tale.sentence(Property::Q2), "e77 (x11) was delivered at 0.000 s, and nobody appended it");
}

#[test]
fn q2_a_message_that_changed_on_its_way() {
    let mut tale = Tale::messages();
    let worker = tale.register(0);
    let event = tale.append(1, 41);
    tale.tick();
    let token = tale.claim(0, worker, 1, 2);
    tale.event(event).state = 42;
    tale.read(0, (worker, token), &[event]);
    assert_eq!(tale.broken(), ["Q2"]);
    assert_eq!(tale.sentence(Property::Q2), "e1 was appended with payload 41 and delivered at 0.000 s with 42");
}

#[test]
fn d2_an_event_of_a_transaction_that_rolled_back() {
    let mut tale = Tale::messages();
    let worker = tale.register(0);
    tale.begin(1);
    let event = tale.append(1, 1);
    tale.rollback(1);
    tale.tick();
    let token = tale.claim(0, worker, 1, 2);
    tale.read(0, (worker, token), &[event]);
    assert_eq!(tale.broken(), ["D2"]);
    let sentence = "e1 was delivered at 0.000 s, but the transaction in which b appended it at 0.000 s was rolled back";
    assert_eq!(tale.sentence(Property::D2), sentence);
}

#[test]
fn d2_an_event_of_a_transaction_that_is_still_open() {
    let mut tale = Tale::messages();
    let worker = tale.register(0);
    tale.begin(1);
    let event = tale.append(1, 1);
    tale.tick();
    let token = tale.claim(0, worker, 1, 2);
    tale.read(0, (worker, token), &[event]);
    tale.commit(1);
    assert_eq!(tale.broken(), ["D2"]);
}

#[test]
fn d5_an_event_id_twice() {
    let mut tale = Tale::messages();
    tale.append(1, 1);
    tale.wait(3_000);
    tale.say(2, Op::Append { queue: Q, payload: 2 }, Reply::Appended { event: EventId(1), table: 0 });
    assert_eq!(tale.broken(), ["D5"]);
    assert_eq!(tale.sentence(Property::D5), "e1 was given out again at 3.000 s, and both transactions committed");
}

#[test]
fn q5_an_event_that_was_in_progress_falls_between_two_windows() {
    let mut tale = Tale::messages();
    let worker = tale.register(0);
    tale.begin(1);
    let slow = tale.append(1, 1);
    tale.tick();
    tale.commit(1);
    let quick = tale.append(2, 2);
    tale.tick();
    let token = tale.claim(0, worker, 2, 3);
    tale.read(0, (worker, token), &[quick]);
    assert_eq!(tale.broken(), ["Q5"]);
    assert_eq!(
        tale.sentence(Property::Q5),
        "e1, committed by x13, is visible at k3 and not at k2, but lease-1 was given the window (k2,k3] at 0.000 s without it"
    );
    assert_eq!(slow, EventId(1));
}

#[test]
fn q5_an_event_that_is_not_visible_at_the_end_yet() {
    let mut tale = Tale::messages();
    let worker = tale.register(0);
    let first = tale.append(1, 1);
    tale.tick();
    let second = tale.append(1, 2);
    let token = tale.claim(0, worker, 1, 2);
    tale.read(0, (worker, token), &[first, second]);
    assert_eq!(tale.broken(), ["Q5"]);
    assert_eq!(
        tale.sentence(Property::Q5),
        "e2 was delivered at 0.000 s in the window (k1,k2], but is not visible at its end (x15)"
    );
}

#[test]
fn q5_an_event_that_was_visible_before() {
    let mut tale = Tale::messages();
    let worker = tale.register(0);
    let first = tale.append(1, 1);
    tale.tick();
    let second = tale.append(1, 2);
    tale.tick();
    let token = tale.claim(0, worker, 1, 2);
    tale.read(0, (worker, token), &[first]);
    tale.handoff(0, (worker, token), &[first]);
    let token = tale.claim(0, worker, 2, 3);
    tale.read(0, (worker, token), &[first, second]);
    assert_eq!(tale.broken(), ["Q5"]);
    assert_eq!(
        tale.sentence(Property::Q5),
        "e1 was delivered at 0.000 s in the window (k2,k3], but was visible at its start already (x13)"
    );
}

#[test]
fn q7_an_event_that_became_visible_after_one_that_follows_it() {
    let mut tale = Tale::messages();
    let cause = tale.append(1, 1);
    tale.wait(1_000);
    tale.append(2, 2);
    let mut snapshot = tale.snapshot();
    snapshot.in_progress = vec![tale.event(cause).xid.0];
    tale.tick_with(snapshot);
    tale.tick();
    assert_eq!(tale.broken(), ["Q7"]);
    assert_eq!(
        tale.sentence(Property::Q7),
        "e1 had committed at 0.000 s before the transaction of e2 began at 1.000 s, and yet e2 became visible at an \
         earlier tick than e1, which came with k3"
    );
}

#[test]
fn q14_a_snapshot_that_goes_back() {
    let mut tale = Tale::messages();
    let old = tale.snapshot();
    tale.append(1, 1);
    tale.tick();
    tale.tick_with(old);
    assert_eq!(tale.broken(), ["Q14"]);
    let sentence = "a snapshot of q0 went back: tick k2 sees x12, the later k3 does not";
    assert_eq!(tale.sentence(Property::Q14), sentence);
}

#[test]
fn q14_a_transaction_that_was_over_is_in_progress_again() {
    let mut tale = Tale::messages();
    let event = tale.append(1, 1);
    tale.tick();
    let mut snapshot = tale.snapshot();
    snapshot.in_progress = vec![tale.event(event).xid.0];
    tale.tick_with(snapshot);
    assert_eq!(tale.broken(), ["Q14"]);
}

#[test]
fn q14_a_clock_that_falls() {
    let mut tale = Tale::messages();
    tale.wait(2_000).tick();
    let snapshot = tale.snapshot();
    let reply = Reply::Ticked { tick: Tick(3), at: Micros(1_500_000), snapshot };
    tale.say(3, Op::Tick { queue: Q }, reply);
    assert_eq!(tale.broken(), ["Q14"]);
    let sentence = "the clock of q0 went back: tick k2 was taken at 2.000 s, the later k3 at 1.500 s";
    assert_eq!(tale.sentence(Property::Q14), sentence);
}

#[test]
fn q14_two_ticks_with_one_number() {
    let mut tale = Tale::messages();
    let snapshot = tale.snapshot();
    tale.tick_with(snapshot.clone());
    tale.wait(1_000);
    let at = tale.now;
    tale.say(2, Op::Tick { queue: Q }, Reply::Ticked { tick: Tick(2), at, snapshot });
    assert_eq!(tale.broken(), ["Q14"]);
    let sentence = "q0 has two ticks k2: one committed at 0.000 s, one at 1.000 s";
    assert_eq!(tale.sentence(Property::Q14), sentence);
}

#[test]
fn q14_a_tick_that_commits_behind_a_later_one() {
    let mut tale = Tale::messages();
    let xmax = tale.snapshot().xmax;
    let reply =
        |tick| Reply::Ticked { tick: Tick(tick), at: Micros(0), snapshot: SnapshotOf { xmax, in_progress: vec![] } };
    tale.begin(1);
    tale.say(1, Op::Tick { queue: Q }, reply(2));
    tale.say(2, Op::Tick { queue: Q }, reply(3));
    tale.wait(1_000);
    tale.commit(1);
    assert_eq!(tale.broken(), ["Q14"]);
    let sentence = "tick k2 of q0 committed at 1.000 s, after tick k3, which had committed at 0.000 s";
    assert_eq!(tale.sentence(Property::Q14), sentence);
}
