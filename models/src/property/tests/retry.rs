//! Q11 for attempts, L4, L7, and W7 with attempts and versions.

use super::flaky::{HOPELESS, LAST, POISON, TRY};
use super::sound::assert_holds;
use super::tale::Tale;
use crate::name::{EventId, Token, WorkerId};
use crate::op::Verb;
use crate::property::{Property, Reach};
use crate::record::Note;
use alloc::vec;

/// A workflow at that step (event 1), in the window (1,2] that lease-1 (process a) has read.
fn at(step: u32) -> (Tale, (WorkerId, Token), EventId) {
    let mut tale = Tale::flaky();
    let worker = tale.register(0);
    let event = tale.start(10 + step);
    let lease = tale.window(0, worker, 1, &[event]);
    (tale, lease, event)
}

#[test]
fn a_step_that_never_succeeds_is_a_dead_letter_after_its_attempts() {
    let (mut tale, lease, event) = at(HOPELESS);
    let again = tale.handoff(0, lease, &[event]);
    let lease = tale.window(0, lease.0, 2, &again);
    assert_eq!(tale.handoff(0, lease, &again), [EventId(0)]);
    tale.end(200);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::RetryExhausted), 1);
    assert_eq!(tale.verdict().of(Property::W10).exercised, 1);
}

#[test]
fn q11_an_attempt_is_skipped() {
    let (mut tale, lease, event) = at(TRY);
    let mut decision = tale.decision(event);
    decision.attempt = 3;
    tale.hand(0, lease, vec![decision]);
    assert_eq!(tale.broken(), ["Q11"]);
    let sentence = "w11 at `try` (e1) was retried at 0.000 s as attempt 3, after attempt 1";
    assert_eq!(tale.sentence(Property::Q11), sentence);
}

#[test]
fn q11_an_attempt_too_many() {
    let (mut tale, lease, event) = at(HOPELESS);
    let again = tale.handoff(0, lease, &[event]);
    let (worker, token) = tale.window(0, lease.0, 2, &again);
    let decisions = vec![tale.decision(again[0])];
    let appended = vec![tale.mint().0];
    let reply = crate::reply::Reply::HandedOff {
        appended,
        children: vec![],
        resumed: vec![],
        undeliverable: vec![],
        table: 0,
        timer_table: 0,
    };
    tale.say(0, crate::op::Op::Handoff { worker, token, decisions }, reply);
    assert_eq!(tale.broken(), ["Q11"]);
    assert_eq!(
        tale.sentence(Property::Q11),
        "w14 at `hopeless` (e2) was retried at 0.000 s as attempt 3 of 2 at most, and became e3"
    );
}

#[test]
fn q11_and_w10_a_dead_letter_with_attempts_left() {
    let (mut tale, (worker, token), event) = at(HOPELESS);
    let decisions = vec![tale.decision(event)];
    let reply = crate::reply::Reply::HandedOff {
        appended: vec![0],
        children: vec![],
        resumed: vec![],
        undeliverable: vec![],
        table: 0,
        timer_table: 0,
    };
    tale.say(0, crate::op::Op::Handoff { worker, token, decisions }, reply);
    assert_eq!(tale.broken(), ["Q11", "W10"]);
    assert_eq!(
        tale.sentence(Property::W10),
        "w14 at `hopeless` (e1) became a dead letter at 0.000 s, and attempt 2 of 2 was still allowed"
    );
}

#[test]
fn q11_an_attempt_that_changes_on_its_way() {
    let (mut tale, lease, event) = at(HOPELESS);
    let again = tale.handoff(0, lease, &[event]);
    tale.event(again[0]).attempt = 1;
    tale.window(0, lease.0, 2, &again);
    assert_eq!(tale.broken(), ["Q11"]);
    let sentence = "e2 was appended as attempt 2, and arrived at 0.000 s as attempt 1";
    assert_eq!(tale.sentence(Property::Q11), sentence);
}

#[test]
fn w4_a_retry_under_its_old_sequence() {
    let (mut tale, lease, event) = at(HOPELESS);
    let mut decision = tale.decision(event);
    decision.sequence = 1;
    tale.hand(0, lease, vec![decision]);
    assert_eq!(tale.broken(), ["W4"]);
}

#[test]
fn w7_the_program_is_asked_in_the_version_that_did_the_work() {
    for version in [0, 2] {
        let (mut tale, lease, event) = at(LAST);
        tale.note(0, Note::WorkStarted { event });
        tale.note(0, Note::WorkEnded { event, version });
        let mut decision = tale.decision(event);
        decision.verb = Verb::Fail;
        tale.hand(0, lease, vec![decision]);
        tale.end(200);
        match version {
            2 => assert_holds(&tale),
            _ => assert_eq!(
                tale.sentence(Property::W7),
                "w12 was handed off at `last` (state 13) with Fail { result: 0 }, and the program says Complete { result: 0 }"
            ),
        }
    }
}

#[test]
fn w7_of_two_that_did_the_work_the_one_counts_that_hands_off() {
    let (mut tale, lease, event) = at(LAST);
    let thief = tale.register(1);
    tale.wait(20_000);
    let token = tale.take_over(1, thief, 1, 2, lease.0);
    tale.read(1, (thief, token), &[event]);
    tale.note(1, Note::WorkEnded { event, version: 2 });
    tale.note(0, Note::WorkEnded { event, version: 0 });
    let mut decision = tale.decision(event);
    decision.verb = Verb::Fail;
    tale.hand(1, (thief, token), vec![decision]);
    assert_eq!(tale.broken(), [""; 0]);
}

#[test]
fn w7_a_step_that_kills_its_process_has_no_decision() {
    let (mut tale, lease, event) = at(POISON);
    tale.handoff(0, lease, &[event]);
    assert_eq!(tale.broken(), ["W7"]);
}

#[test]
fn l4_a_retry_waits_for_longer_than_the_bound() {
    let (mut tale, lease, event) = at(HOPELESS);
    let again = tale.handoff(0, lease, &[event]);
    let mut stuck = at(HOPELESS).0;
    stuck.handoff(0, lease, &[event]);
    stuck.end(200);
    assert_eq!(stuck.broken(), ["L1", "L4"]);
    assert_eq!(
        stuck.sentence(Property::L4),
        "attempt 2 of w14 at `hopeless` (e2) is there since 100.000 s and has not ended at 200.000 s: it waits for a tick \
         that sees it"
    );
    tale.wait(170_000);
    let lease = tale.window(0, lease.0, 2, &again);
    tale.handoff(0, lease, &again);
    assert_eq!(tale.broken(), ["L4"]);
    assert_eq!(
        tale.sentence(Property::L4),
        "attempt 2 of w14 at `hopeless` (e2) was there at 100.000 s, and ended only at 170.000 s, 70.000 s later"
    );
}

#[test]
fn l7_later_ones_pass_by() {
    let mut tale = Tale::messages();
    let (slow, quick) = (tale.register(0), tale.register(1));
    let first = tale.append(2, 1);
    let lease = tale.window(0, slow, 1, &[first]);
    tale.wait(110_000);
    let second = tale.append(2, 2);
    let other = tale.window(1, quick, 2, &[second]);
    tale.wait(10_000);
    tale.handoff(1, other, &[second]);
    tale.wait(50_000);
    assert_eq!(tale.broken(), [""; 0]);
    tale.handoff(0, lease, &[first]);
    assert_eq!(tale.broken(), ["L7"]);
    assert_eq!(
        tale.sentence(Property::L7),
        "e1 of a message waited from 100.000 s to 170.000 s, while e2, which came later, was handed off at 120.000 s"
    );
}
