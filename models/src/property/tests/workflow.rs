//! W1 to W9, but for W6, which needs no workflow.

use super::opening::first_step;
use super::tale::{Q, Tale};
use crate::name::{Consumer, EventId, Tick, WorkerId, WorkflowId};
use crate::op::{Op, Verb};
use crate::property::Property;
use crate::reply::{Outcome, Reply};
use crate::verdict::TOLD_LINES;
use alloc::vec;

#[test]
fn w1_a_workflow_loses_its_continuation() {
    let (mut tale, lease, _) = first_step();
    tale.wait(1_000);
    tale.hand(0, lease, vec![]);
    assert_eq!(tale.broken(), ["Q1", "W1"]);
    assert_eq!(tale.sentence(Property::W1), "w1 is live and has had no continuation since 1.000 s");
}

#[test]
fn w2_an_effect_without_its_handoff() {
    let (mut tale, lease, event) = first_step();
    tale.wait(1_000);
    tale.begin(0);
    tale.hold(0, lease);
    tale.effect(0, event);
    tale.commit(0);
    assert_eq!(tale.broken(), ["W2"]);
    let sentence = "a committed the effect of w1 at `charge` (step 1) at 1.000 s without its handoff";
    assert_eq!(tale.sentence(Property::W2), sentence);
}

#[test]
fn w2_a_successor_of_another_transaction() {
    let (mut tale, lease, event) = first_step();
    let next = tale.step(0, lease, event);
    tale.tick();
    let token = tale.claim(0, lease.0, 2, 3);
    let appended = tale.event(next[0]).xid;
    tale.event(next[0]).xid = crate::name::Xid(appended.0 + 1);
    tale.read(0, (lease.0, token), &next);
    assert_eq!(tale.broken(), ["W2"]);
    let sentence = "e2 was appended by x16, and delivered at 0.000 s as one of x17";
    assert_eq!(tale.sentence(Property::W2), sentence);
}

#[test]
fn w3_a_zombie_and_its_thief_both_go_on() {
    let (mut tale, zombie, event) = first_step();
    let thief = tale.register(1);
    tale.wait(4_210 + 10_000);
    let token = tale.take_over(1, thief, 1, 2, zombie.0);
    tale.read(1, (thief, token), &[event]);
    tale.wait(1_000);
    tale.step(1, (thief, token), event);
    tale.wait(1_000);
    tale.handoff(0, zombie, &[event]);
    // Of a long history a part is told.
    for _ in 0..TOLD_LINES {
        tale.tick();
    }
    assert_eq!(tale.broken(), ["Q3", "Q9", "W1", "W3"]);
    assert_eq!(
        tale.sentence(Property::W3),
        "w1 step 1 has two successors: e2, committed by lease-2 under token t000002 at 15.210 s, and e3, committed by \
         lease-1 under token t000001 at 16.210 s; token t000001 had died at 14.210 s when lease-2 took its window over"
    );
    let verdict = tale.verdict();
    let slice = verdict.of(Property::W3).violations[0].slice(&tale.history);
    let expected = [
        ">     6    0.000 s d              s3    x13    start w1 on q0 at `charge` (1183903208821451105) → f51, e1 in table 0",
        "     20   15.210 s b              s1           begin ReadCommitted → done",
        "     22   15.210 s b              s1    x18    hold lease-2 t000002 → done",
        "     24   15.210 s b              s1    x18    effect of w1 step 1 `charge` → done",
        ">    26   15.210 s b              s1    x18    handoff lease-2 t000002 [e1: w1 step 2 `pack` (1771383489415245059)] → [e2] in table 0",
        "     28   15.210 s b              s1    x18    commit → committed",
        ">    30   16.210 s a              s0    x19    handoff lease-1 t000001 [e1: w1 step 2 `pack` (1771383489415245059)] → [e3] in table 0",
        "",
    ];
    assert_eq!(slice.split('\n').collect::<alloc::vec::Vec<_>>(), expected, "{slice}");
}

#[test]
fn w3_a_second_consumer_goes_on_as_well() {
    let (mut tale, lease, event) = first_step();
    tale.say(3, Op::Subscribe { queue: Q, consumer: Consumer(1) }, Reply::Subscribed { cursor: Tick(1) });
    tale.say(1, Op::Register { consumer: Consumer(1) }, Reply::Registered { worker: WorkerId(9) });
    let token = tale.claim(1, WorkerId(9), 1, 2);
    tale.read(1, (WorkerId(9), token), &[event]);
    tale.step(0, lease, event);
    tale.handoff(1, (WorkerId(9), token), &[event]);
    assert_eq!(tale.broken(), ["W1", "W3"]);
}

#[test]
fn w4_a_sequence_that_does_not_rise() {
    let (mut tale, lease, event) = first_step();
    tale.history.header.workload = "somebody's own".into();
    let mut decision = tale.decision(event);
    decision.sequence = 1;
    tale.hand(0, lease, vec![decision]);
    assert_eq!(tale.broken(), ["W4"]);
    assert_eq!(tale.sentence(Property::W4), "w1 went from step 1 to step 1 at 0.000 s");
}

#[test]
fn w5_a_step_without_its_effect() {
    let (mut tale, lease, event) = first_step();
    tale.handoff(0, lease, &[event]);
    assert_eq!(tale.broken(), ["W5"]);
    assert_eq!(
        tale.sentence(Property::W5),
        "w1 left `charge` (step 1) without its effect, by lease-1 under token t000001 at 0.000 s"
    );
}

#[test]
fn w5_a_step_with_two_effects() {
    let (mut tale, lease, event) = first_step();
    tale.begin(0);
    tale.hold(0, lease);
    tale.effect(0, event);
    tale.effect(0, event);
    tale.handoff(0, lease, &[event]);
    tale.commit(0);
    assert_eq!(tale.broken(), ["W5"]);
}

#[test]
fn w5_an_effect_of_a_step_that_was_handed_off() {
    let (mut tale, lease, event) = first_step();
    tale.step(0, lease, event);
    tale.tick();
    let token = tale.claim(0, lease.0, 2, 3);
    tale.wait(1_000);
    tale.begin(0);
    tale.hold(0, (lease.0, token));
    tale.effect(0, event);
    tale.commit(0);
    assert_eq!(tale.broken(), ["W5"]);
    assert_eq!(
        tale.sentence(Property::W5),
        "w1 had gone on from step 1 (`charge`) by 0.000 s, and its effect was committed again by a at 1.000 s"
    );
}

#[test]
fn w7_a_state_that_changes_on_its_way() {
    let (mut tale, lease, event) = first_step();
    let next = tale.step(0, lease, event);
    tale.tick();
    let token = tale.claim(0, lease.0, 2, 3);
    tale.event(next[0]).state = 17;
    tale.read(0, (lease.0, token), &next);
    assert_eq!(tale.broken(), ["W7"]);
    assert_eq!(
        tale.sentence(Property::W7),
        "e2 was passed on to w1 `pack` with state 1771383489415245059, and arrived at 0.000 s as w1 `pack` with state 17"
    );
}

#[test]
fn w7_a_decision_that_is_not_the_programs() {
    let (mut tale, lease, event) = first_step();
    let mut decision = tale.decision(event);
    decision.verb = Verb::Complete;
    tale.begin(0);
    tale.hold(0, lease);
    tale.effect(0, event);
    tale.hand(0, lease, vec![decision]);
    tale.commit(0);
    assert_eq!(tale.broken(), ["W7"]);
}

#[test]
fn w8_a_workflow_that_had_ended() {
    let (mut tale, zombie, event) = first_step();
    tale.history.header.workload = "somebody's own".into();
    let thief = tale.register(1);
    tale.wait(20_000);
    let token = tale.take_over(1, thief, 1, 2, zombie.0);
    let mut decision = tale.decision(event);
    decision.verb = Verb::Complete;
    tale.hand(1, (thief, token), vec![decision]);
    tale.wait(1_000);
    tale.handoff(0, zombie, &[event]);
    assert_eq!(tale.broken(), ["Q3", "Q9", "W1", "W3", "W8"]);
    assert_eq!(
        tale.sentence(Property::W8),
        "w1 had ended at 20.000 s, and was committed to again by lease-1 under token t000001 at 21.000 s"
    );
}

#[test]
fn w9_one_key_two_workflows() {
    let (mut tale, _, _) = first_step();
    tale.wait(1_000);
    let event = tale.mint();
    tale.start_as(1, WorkflowId(99), event);
    assert_eq!(tale.broken(), ["W9"]);
    let sentence = "w1 of q0 was started twice: as f51 at 0.000 s, and as f99 at 1.000 s";
    assert_eq!(tale.sentence(Property::W9), sentence);
}

#[test]
fn w9_a_start_whose_reply_was_lost_is_repeated_and_starts_again() {
    let mut tale = Tale::workflows();
    let start = Op::Start { queue: Q, key: crate::name::Key(1), step: crate::name::Step(0), state: 1 };
    tale.lose(3, start, Some(Outcome::Committed));
    tale.wait(1_000);
    tale.start(1);
    assert_eq!(tale.broken(), ["W9"]);
    let sentence = "w1 of q0 was started twice: as a workflow whose id was lost at 0.000 s, and as f51 at 1.000 s";
    assert_eq!(tale.sentence(Property::W9), sentence);
}

#[test]
fn w9_a_repeated_start_is_told_another_workflow() {
    let (mut tale, _, _) = first_step();
    tale.start_as(1, WorkflowId(99), EventId(0));
    assert_eq!(tale.broken(), ["W9"]);
}
