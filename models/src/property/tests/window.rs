//! Q1, Q3, Q4, Q6: windows and acknowledgements.

use super::tale::{Q, Tale};
use crate::name::{Tick, Token, WorkerId};
use crate::op::Op;
use crate::property::Property;
use crate::reply::Reply;

/// One worker with the window (1,2], which has three events, read.
fn three() -> (Tale, (WorkerId, Token), [crate::name::EventId; 3]) {
    let mut tale = Tale::messages();
    let worker = tale.register(0);
    let events = [1, 2, 3].map(|payload| tale.append(1, payload));
    tale.tick();
    let token = tale.claim(0, worker, 1, 2);
    tale.read(0, (worker, token), &events);
    (tale, (worker, token), events)
}

#[test]
fn q1_a_handoff_for_a_part_finishes_the_window() {
    let (mut tale, lease, events) = three();
    tale.wait(1_000);
    tale.handoff(0, lease, &events[..2]);
    assert_eq!(tale.broken(), ["Q1"]);
    assert_eq!(
        tale.sentence(Property::Q1),
        "e3, appended at 0.000 s, is lost to c0: its window (k1,k2] was finished at 1.000 s without it"
    );
}

#[test]
fn q1_an_event_known_late_in_a_window_that_is_finished() {
    let mut tale = Tale::messages();
    let worker = tale.register(0);
    let event = tale.append(1, 1);
    tale.begin(2);
    let lost = tale.append(2, 2);
    let xmax = tale.snapshot().xmax;
    tale.call(2, Op::Commit);
    tale.tick_with(crate::reply::SnapshotOf { xmax, in_progress: alloc::vec![] });
    let token = tale.claim(0, worker, 1, 2);
    tale.read(0, (worker, token), &[event]);
    tale.handoff(0, (worker, token), &[event]);
    assert_eq!(tale.broken(), [""; 0], "as far as is known");
    tale.answer(2, Reply::Committed);
    assert_eq!(tale.broken(), ["Q1"]);
    assert_eq!(lost.0, 2);
}

#[test]
fn q3_an_event_is_acknowledged_under_two_tokens() {
    let (mut tale, lease, events) = three();
    let thief = tale.register(1);
    tale.wait(20_000);
    let token = tale.take_over(1, thief, 1, 2, lease.0);
    tale.read(1, (thief, token), &events);
    tale.handoff(1, (thief, token), &events);
    tale.wait(1_000);
    tale.handoff(0, lease, &events[..1]);
    assert_eq!(tale.broken(), ["Q3", "Q9"]);
    assert_eq!(
        tale.sentence(Property::Q3),
        "e1 was acknowledged twice for c0: by lease-2 under token t000002 at 20.000 s, and by lease-1 under token \
         t000001 at 21.000 s; token t000001 had died at 20.000 s when lease-2 took its window over"
    );
}

#[test]
fn q3_an_event_twice_in_one_handoff() {
    let (mut tale, lease, [one, two, three]) = three();
    tale.handoff(0, lease, &[one, two, three, one]);
    assert_eq!(tale.broken(), ["Q3"]);
}

#[test]
fn q4_two_workers_are_given_one_window() {
    let (mut tale, _, _) = three();
    let other = tale.register(1);
    tale.wait(1_000);
    tale.claim(1, other, 1, 2);
    assert_eq!(tale.broken(), ["Q4", "Q8"]);
    let sentence = "c0 gave out the window (k1,k2] at 1.000 s, and (k1,k2] to lease-1 at 0.000 s";
    assert_eq!(tale.sentence(Property::Q4), sentence);
}

#[test]
fn q4_a_finished_window_is_given_out_again() {
    let (mut tale, lease, events) = three();
    tale.handoff(0, lease, &events);
    tale.wait(1_000);
    tale.claim(0, lease.0, 1, 2);
    assert_eq!(tale.broken(), ["Q4"]);
    let sentence = "c0 was given the window (k1,k2] at 1.000 s, although all up to k2 was finished";
    assert_eq!(tale.sentence(Property::Q4), sentence);
}

#[test]
fn q4_a_window_that_skips_events() {
    let mut tale = Tale::messages();
    let worker = tale.register(0);
    tale.append(1, 1);
    tale.tick();
    let second = tale.append(1, 2);
    tale.tick();
    let token = tale.claim(0, worker, 2, 3);
    tale.read(0, (worker, token), &[second]);
    tale.handoff(0, (worker, token), &[second]);
    assert_eq!(tale.broken(), ["Q1", "Q4"]);
    let sentence = "c0 gave out (k2,k3] at 0.000 s after k1, and left out e1, which lies between";
    assert_eq!(tale.sentence(Property::Q4), sentence);
}

#[test]
fn q4_a_takeover_of_another_window() {
    let (mut tale, lease, _) = three();
    let thief = tale.register(1);
    tale.append(1, 4);
    tale.wait(20_000).tick();
    tale.take_over(1, thief, 2, 3, lease.0);
    assert_eq!(tale.broken(), ["Q4"]);
    let sentence = "lease-2 took over (k2,k3] at 20.000 s, but its victim had (k1,k2]";
    assert_eq!(tale.sentence(Property::Q4), sentence);
}

#[test]
fn q4_a_window_between_ticks_that_nobody_took() {
    let (mut tale, lease, events) = three();
    tale.handoff(0, lease, &events);
    tale.claim(0, lease.0, 2, 9);
    assert_eq!(tale.broken(), ["Q4"]);
    let sentence = "the window (k2,k9] was given out at 0.000 s, and nobody took tick k9";
    assert_eq!(tale.sentence(Property::Q4), sentence);
}

#[test]
fn q6_a_window_that_changes() {
    let (mut tale, lease, events) = three();
    let thief = tale.register(1);
    tale.wait(20_000);
    let token = tale.take_over(1, thief, 1, 2, lease.0);
    tale.read(1, (thief, token), &events[..2]);
    assert_eq!(tale.broken(), ["Q5", "Q6"]);
    let sentence = "the window (k1,k2] of c0 had other events at 20.000 s than at 0.000 s";
    assert_eq!(tale.sentence(Property::Q6), sentence);
}

#[test]
fn a_window_may_be_read_in_pages() {
    let (mut tale, (worker, token), events) = three();
    for (after, page) in [(0, &events[..2]), (2, &events[2..])] {
        let after = crate::name::EventId(after);
        let page = page.iter().map(|event| *tale.event(*event)).collect();
        tale.say(0, Op::Read { worker, token, after, limit: 2 }, Reply::Events(page));
    }
    assert_eq!(tale.broken(), [""; 0]);
    assert_eq!(tale.verdict().of(Property::Q6).exercised, 1);
    assert_eq!((Q.0, Tick(1).0), (0, 1));
}
