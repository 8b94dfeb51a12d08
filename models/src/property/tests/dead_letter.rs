//! Q12 and W10: dead letters and their replays.

use super::flaky::GONE;
use super::sound::assert_holds;
use super::tale::{Q, Tale};
use crate::name::{EventId, Key, WorkerId, WorkflowId};
use crate::property::{Property, Reach};
use crate::state::DeadReason;

/// w13 was rejected at its first step: e1 is a dead letter.
fn dead() -> (Tale, WorkerId, EventId) {
    let mut tale = Tale::flaky();
    let worker = tale.register(0);
    let event = tale.start(10 + GONE);
    let lease = tale.window(0, worker, 1, &[event]);
    tale.handoff(0, lease, &[event]);
    (tale, worker, event)
}

#[test]
fn a_dead_letter_lives_on_as_a_workflow_of_its_own() {
    let (mut tale, worker, event) = dead();
    let new = tale.replay(1, event, WorkflowId(99));
    let workflow = WorkflowId(99);
    tale.state.start_keys.push(crate::state::StartKeyRow { queue: Q, key: Key(1 << 31), workflow });
    let lease = tale.window(0, worker, 2, &[new]);
    tale.handoff(0, lease, &[new]);
    tale.end(200);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::DeadLetterReplayed), 1);
}

#[test]
fn q12_a_dead_letter_is_replayed_twice() {
    let (mut tale, _, event) = dead();
    tale.replay(1, event, WorkflowId(98));
    tale.wait(1_000);
    tale.replay(1, event, WorkflowId(99));
    assert_eq!(tale.broken(), ["Q12"]);
    let sentence = "the dead letter e1 was replayed twice: as e2 at 0.000 s, and as e3 at 1.000 s";
    assert_eq!(tale.sentence(Property::Q12), sentence);
}

#[test]
fn q12_what_is_no_dead_letter_is_replayed() {
    let mut tale = Tale::flaky();
    let event = tale.start(10);
    tale.replay(1, event, WorkflowId(99));
    assert_eq!(tale.broken(), ["Q12"]);
    let sentence = "e1 was replayed at 0.000 s, and had not become a dead letter of c0";
    assert_eq!(tale.sentence(Property::Q12), sentence);
}

#[test]
fn q12_the_row_of_a_dead_letter_is_gone() {
    let (mut tale, _, _) = dead();
    tale.state.dead_letters.clear();
    tale.end(200);
    assert_eq!(tale.broken(), ["Q12"]);
    let sentence = "e1 became a dead letter of c0 at 0.000 s, and has no row at the end";
    assert_eq!(tale.sentence(Property::Q12), sentence);
}

#[test]
fn q12_a_replay_that_leaves_the_original_as_it_was() {
    let (mut tale, worker, event) = dead();
    let new = tale.replay(1, event, WorkflowId(99));
    let lease = tale.window(0, worker, 2, &[new]);
    tale.handoff(0, lease, &[new]);
    tale.state.dead_letters[0].replayed_as = EventId(0);
    tale.end(200);
    assert_eq!(tale.broken(), ["Q12"]);
    let sentence = "the dead letter e1 was replayed as e2, and is kept as not replayed";
    assert_eq!(tale.sentence(Property::Q12), sentence);
}

#[test]
fn q12_a_dead_letter_is_kept_with_another_state() {
    let (mut tale, _, _) = dead();
    tale.state.dead_letters[0].state = 1;
    tale.end(200);
    assert_eq!(tale.broken(), ["Q12"]);
}

#[test]
fn w10_a_dead_letter_for_no_reason() {
    let (mut tale, _, _) = dead();
    let mut row = tale.state.dead_letters[0];
    row.event = EventId(9);
    row.reason = DeadReason::Undeliverable;
    tale.state.dead_letters.push(row);
    tale.end(200);
    assert_eq!(tale.broken(), ["W10"]);
    assert_eq!(
        tale.sentence(Property::W10),
        "e9 is a dead letter of c0 at the end (Undeliverable), and nothing tells how it became one"
    );
}

#[test]
fn w10_a_dead_letter_is_kept_with_another_reason() {
    let (mut tale, _, _) = dead();
    tale.state.dead_letters[0].reason = DeadReason::Tries;
    tale.end(200);
    assert_eq!(tale.broken(), ["W10"]);
}
