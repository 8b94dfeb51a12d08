//! J1 to J6, and what a workflow is told of its children.

use super::meeting::{DOOM, HEARD, LEAF, Resumes, SPLIT, UNSURE};
use super::sound::assert_holds;
use super::tale::Tale;
use crate::name::{EventId, Step, Token, WorkerId, WorkflowId};
use crate::op::{Decision, Verb};
use crate::property::{Property, Reach};
use crate::record::Fault;
use crate::reply::{Arrival, Outcome};
use alloc::vec;
use alloc::vec::Vec;

/// w24 has two children, e3 and e4, in the window (2,3] that lease-1 has read; its join is e2.
fn split() -> (Tale, (WorkerId, Token), [EventId; 3]) {
    split_at(20 + SPLIT)
}

fn split_at(key: u32) -> (Tale, (WorkerId, Token), [EventId; 3]) {
    let mut tale = Tale::meeting();
    let (_, lease, event) = tale.at(key, 1);
    let ids = tale.handoff(0, lease, &[event]);
    let lease = tale.window(0, lease.0, 2, &ids[1..]);
    (tale, lease, [ids[0], ids[1], ids[2]])
}

fn joined(join: &EventId) -> Resumes<'_> {
    Resumes { found: &[], joined: core::slice::from_ref(join) }
}

/// Reads what the children left, hands the step off, and ends the run.
fn finish(tale: &mut Tale, (worker, _): (WorkerId, Token), prev: u32, join: EventId) {
    let lease = tale.window(0, worker, prev, &[join]);
    let results = tale.results_of(Arrival::Joined { join });
    tale.read_results(0, lease, results);
    tale.handoff(0, lease, &[join]);
    tale.end(200);
}

#[test]
fn children_end_and_their_parent_goes_on() {
    let (mut tale, lease, [join, one, two]) = split();
    tale.hand_on(0, lease, &[one, two], joined(&join));
    finish(&mut tale, lease, 3, join);
    assert_holds(&tale);
    for (reach, count) in [(Reach::ChildCompleted, 2), (Reach::ResultsRead, 1), (Reach::ResultsReadAgain, 0)] {
        assert_eq!(tale.verdict().reach(reach), count, "{}", reach.name());
    }
    for property in [Property::J1, Property::J2, Property::J3, Property::J4, Property::J5] {
        assert!(tale.verdict().of(property).exercised > 0, "{property}");
    }
}

#[test]
fn a_spawn_without_children_goes_on_at_once() {
    let mut tale = Tale::meeting();
    let (_, lease, event) = tale.at(SPLIT, 1);
    let join = tale.handoff(0, lease, &[event])[0];
    finish(&mut tale, lease, 2, join);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::ChildlessSpawn), 1);
}

#[test]
fn results_are_read_again_after_a_retry() {
    let (mut tale, lease, [join, one, two]) = split_at(20 + UNSURE);
    tale.hand_on(0, lease, &[one, two], joined(&join));
    let lease = tale.window(0, lease.0, 3, &[join]);
    let results = tale.results_of(Arrival::Joined { join });
    tale.read_results(0, lease, results.clone());
    let retry = tale.handoff(0, lease, &[join])[0];
    let lease = tale.window(0, lease.0, 4, &[retry]);
    tale.read_results(0, lease, results);
    tale.handoff(0, lease, &[retry]);
    tale.end(200);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::ResultsReadAgain), 1);
}

#[test]
fn dead_children_count_and_their_replays_count_for_nothing() {
    let (mut tale, lease, [join, one, two]) = split_at(20 + DOOM);
    tale.hand_on(0, lease, &[one, two], joined(&join));
    let replay = tale.replay(3, one, WorkflowId(900));
    let parent = tale.state.dead_letters[0].parent;
    let row = crate::state::WorkflowRow { workflow: WorkflowId(900), queue: super::tale::Q, key: None, parent };
    tale.state.workflows.push(row);
    let lease = tale.window(0, lease.0, 3, &[join, replay]);
    let results = tale.results_of(Arrival::Joined { join });
    tale.read_results(0, lease, results);
    let decisions: Vec<_> = [join, replay].iter().flat_map(|event| tale.decisions(*event)).collect();
    tale.hand(0, lease, decisions);
    tale.end(200);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::ChildRejected), 3, "and the replay, which counts for nothing");
}

/// One waits for an emit, and so comes in a later window: then both are handed off at the same time.
#[test]
fn the_last_two_children_may_end_at_once() {
    let (mut tale, lease, [join, one, two]) = split();
    tale.history.header.workload = "somebody's own".into();
    let wait = Decision { verb: Verb::Await, sequence: 2, step: Step(HEARD as u16), ..tale.decision(one) };
    let goto = Decision { verb: Verb::Goto, sequence: 2, step: Step(LEAF as u16), ..tale.decision(two) };
    let ids = tale.hand(0, lease, vec![wait, goto]);
    let first = tale.window(0, lease.0, 3, &ids[1..]);
    tale.emit_to(3, WorkflowId(503), 7, 1, ids[0]);
    let other = tale.register(1);
    let second = tale.window(1, other, 4, &ids[..1]);
    tale.begin(0);
    tale.hold(0, first);
    tale.handoff(0, first, &ids[1..]);
    tale.begin(1);
    tale.hold(1, second);
    tale.commit(0);
    tale.hand_on(1, second, &ids[..1], joined(&join));
    tale.commit(1);
    finish(&mut tale, lease, 5, join);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::LastChildrenConcurrent), 1);
}

#[test]
fn a_join_outlives_a_crash_of_the_server() {
    let (mut tale, lease, [join, one, two]) = split();
    tale.fault(3, Fault::ServerCrash);
    (0..4).for_each(|who| tale.reconnect(who));
    tale.hand_on(0, lease, &[one, two], joined(&join));
    finish(&mut tale, lease, 3, join);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::JoinAcrossCrash), 1);
}

#[test]
fn j1_a_join_goes_on_twice() {
    let (mut tale, lease, [join, one, two]) = split();
    tale.hand_on(0, lease, &[one, two], joined(&join));
    let other = tale.start(30 + LEAF);
    let lease = tale.window(0, lease.0, 3, &[join, other]);
    tale.wait(1_000);
    let decisions: Vec<_> = [join, other].iter().flat_map(|event| tale.decisions(*event)).collect();
    tale.hand_resuming(0, lease, decisions, joined(&join));
    assert_eq!(tale.broken(), ["J1"]);
    assert_eq!(tale.sentence(Property::J1), "w24 went on from its join e2 twice: at 0.000 s, and by a at 1.000 s");
}

#[test]
fn j2_a_parent_goes_on_early() {
    let (mut tale, _, [join, ..]) = split();
    let (_, lease, other) = tale.at(30 + LEAF, 3);
    tale.hand_on(0, lease, &[other], joined(&join));
    assert_eq!(tale.broken(), ["J2"]);
    let sentence = "w24 went on from its join e2 at 0.000 s, and 0 of its 2 children had ended";
    assert_eq!(tale.sentence(Property::J2), sentence);
}

#[test]
fn j3_the_last_child_resumes_nobody() {
    let (mut tale, lease, [_, one, two]) = split();
    tale.wait(1_000).handoff(0, lease, &[one, two]);
    tale.wait(1_000).tick();
    assert_eq!(tale.broken(), ["J3"]);
    let sentence = "all 2 children of w24 have ended, the last by a at 1.000 s, and its join e2 was not resumed";
    assert_eq!(tale.sentence(Property::J3), sentence);
    tale.end(200);
    assert_eq!(tale.broken(), ["J3", "L1"]);
}

#[test]
fn j4_results_are_gone() {
    let (mut tale, lease, [join, one, two]) = split();
    tale.hand_on(0, lease, &[one, two], joined(&join));
    let lease = tale.window(0, lease.0, 3, &[join]);
    tale.read_results(0, lease, vec![]);
    assert_eq!(tale.broken(), ["J4"]);
    assert_eq!(tale.sentence(Property::J4), "w24 (join e2) has 2 children, and at 0.000 s 0 results were read");
}

#[test]
fn j4_results_are_others() {
    let (mut tale, lease, [join, one, two]) = split();
    tale.hand_on(0, lease, &[one, two], joined(&join));
    let lease = tale.window(0, lease.0, 3, &[join]);
    let mut results = tale.results_of(Arrival::Joined { join });
    results[1].result = 17;
    tale.read_results(0, lease, results);
    assert_eq!(tale.broken(), ["J4"]);
    let sentence = "child 1 of w24 (join e2) ended Completed with 101, and at 0.000 s was read as Completed with 17";
    assert_eq!(tale.sentence(Property::J4), sentence);
}

#[test]
fn j4_results_of_another_window() {
    let (mut tale, lease, [join, one, two]) = split();
    tale.hand_on(0, lease, &[one, two], joined(&join));
    let other = tale.at(30 + LEAF, 3).1;
    let results = tale.results_of(Arrival::Joined { join });
    tale.history.records.pop();
    tale.history.records.pop();
    let _ = other;
    let event = tale.start(40 + LEAF);
    let lease = tale.window(1, lease.0, 4, &[event]);
    tale.read_results(1, lease, results);
    assert!(tale.broken().contains(&"J4"));
}

#[test]
fn j5_a_dead_child_tells_nobody() {
    let (mut tale, lease, [join, one, two]) = split_at(20 + DOOM);
    let decisions = [one, two].iter().flat_map(|event| tale.decisions(*event)).collect();
    tale.hand(0, lease, decisions);
    tale.state.joins[0].ended = 0;
    tale.state.results.clear();
    tale.end(1);
    assert_eq!(tale.broken(), ["J3", "J5"]);
    let sentence = "2 children of w29 have ended, and its join e2 has counted 0 at the end";
    assert_eq!(tale.sentence(Property::J5), sentence);
    assert_eq!(join, EventId(2));
}

#[test]
fn j5_a_result_is_not_kept() {
    let (mut tale, lease, [join, one, two]) = split();
    tale.hand_on(0, lease, &[one, two], joined(&join));
    tale.state.results.pop();
    tale.end(1);
    assert_eq!(tale.broken(), ["J5"]);
    let sentence = "child 1 of w24 (join e2) ended completed with 101, and is kept without a result at the end";
    assert_eq!(tale.sentence(Property::J5), sentence);
}

#[test]
fn j6_a_join_has_another_total() {
    let (mut tale, ..) = split();
    tale.state.joins[0].total = 3;
    tale.end(1);
    assert_eq!(tale.broken(), ["J6"]);
    let sentence = "the join e2 was opened as w24, 2 children, then step 2 `sum` (2), and is kept at the end as w24, \
                    3 children, then step 2 `sum` (2)";
    assert_eq!(tale.sentence(Property::J6), sentence);
}

#[test]
fn w7_a_parent_goes_on_with_another_sum() {
    let (mut tale, lease, [join, one, two]) = split();
    tale.hand_on(0, lease, &[one, two], joined(&join));
    let lease = tale.window(0, lease.0, 3, &[join]);
    let mut decision = tale.decision(join);
    decision.state += 1;
    tale.hand(0, lease, vec![decision]);
    assert_eq!(tale.broken(), ["W7"]);
}

#[test]
fn w7_a_spawn_with_other_children() {
    let mut tale = Tale::meeting();
    let (_, lease, event) = tale.at(20 + SPLIT, 1);
    let mut decisions = tale.decisions(event);
    decisions[2].state = 17;
    tale.hand(0, lease, decisions);
    assert_eq!(tale.broken(), ["W7"]);
}

/// The handoff that ended the last child was lost, and so was who it resumed.
#[test]
fn a_lost_last_end_explains_that_the_parent_goes_on() {
    for outcome in [Some(Outcome::Committed), None] {
        let (mut tale, lease, [join, one, two]) = split();
        tale.lose_handoff(0, lease, &[one, two], joined(&join), outcome);
        finish(&mut tale, lease, 3, join);
        assert_holds(&tale);
    }
}

/// Nobody was told the ids of the children, nor of the join.
#[test]
fn a_lost_spawn_is_found_by_its_children() {
    for outcome in [Some(Outcome::Committed), None] {
        let mut tale = Tale::meeting();
        let (_, lease, event) = tale.at(20 + SPLIT, 1);
        let ids = tale.lose_handoff(0, lease, &[event], Resumes::default(), outcome);
        let lease = tale.window(0, lease.0, 2, &ids[1..]);
        tale.hand_on(0, lease, &ids[1..], joined(&ids[0]));
        finish(&mut tale, lease, 3, ids[0]);
        assert_holds(&tale);
    }
}
