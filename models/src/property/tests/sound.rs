//! What looks odd and is right: a sound engine under lost replies, crashes, late replies and clients that behave badly.

use super::opening::first_step;
use super::tale::{C, DEAD, Q, Tale, claim};
use crate::name::{Consumer, EventId, Micros, Tick, WorkerId, WorkflowId};
use crate::op::{Isolation, Op, QueueKind};
use crate::property::{Kind, Property, Reach};
use crate::record::{Fault, Note};
use crate::reply::{Outcome, Refusal, Reply, SnapshotOf};
use crate::verdict::Judgement;
use alloc::vec;
use alloc::vec::Vec;

pub(super) fn assert_holds(tale: &Tale) {
    let verdict = tale.verdict();
    assert_eq!(verdict.ill_formed(), []);
    let told: Vec<_> = verdict.violations().collect();
    assert!(told.is_empty(), "{told:#?}");
    let unknown: Vec<_> = verdict.findings().iter().filter(|found| found.judgement != Judgement::Holds).collect();
    assert!(tale.history.state.is_none() || unknown.is_empty(), "{unknown:#?}");
}

/// Two workflows run through the chain on one worker, each step with its effect, to the end of the run.
pub(super) fn two_chains() -> Tale {
    let mut tale = Tale::workflows();
    let worker = tale.register(0);
    let mut live = Vec::from([tale.start(1), tale.start(2)]);
    let mut prev = 1;
    while !live.is_empty() {
        let next = tale.wait(1_000).tick().0;
        let token = tale.claim(0, worker, prev, next);
        tale.read(0, (worker, token), &live);
        tale.begin(0);
        tale.hold(0, (worker, token));
        live.iter().for_each(|event| tale.effect(0, *event));
        live = tale.handoff(0, (worker, token), &live.clone());
        tale.commit(0);
        prev = next;
    }
    for table in [1, 2, 0] {
        tale.wait(5_000).rotate(table, prev);
    }
    tale.end(200);
    tale
}

#[test]
fn a_clean_run_holds_everything() {
    assert_holds(&two_chains());
}

#[test]
fn a_history_that_is_cut_off_is_judged_for_safety_and_unknown_for_the_rest() {
    let mut tale = two_chains();
    tale.history.state = None;
    for property in Property::ALL {
        let expected = match property.kind() {
            Kind::End => Judgement::Unknown,
            Kind::Safety => Judgement::Holds,
        };
        assert_eq!(tale.judged(property), expected, "{property}");
    }
}

#[test]
fn a_window_may_span_ticks_and_skip_empty_ones() {
    let mut tale = Tale::messages();
    let worker = tale.register(0);
    let first = tale.append(1, 5);
    tale.tick();
    let second = tale.append(1, 6);
    tale.tick();
    let token = tale.claim(0, worker, 1, 3);
    tale.read(0, (worker, token), &[first, second]);
    tale.handoff(0, (worker, token), &[first, second]);
    tale.tick();
    let third = tale.append(1, 7);
    tale.tick();
    let token = tale.claim(0, worker, 4, 5);
    tale.read(0, (worker, token), &[third]);
    tale.handoff(0, (worker, token), &[third]);
    tale.end(200);
    assert_holds(&tale);
}

#[test]
fn an_event_in_progress_at_a_tick_comes_with_the_next() {
    let mut tale = Tale::messages();
    let worker = tale.register(0);
    tale.begin(1);
    let slow = tale.append(1, 1);
    let quick = tale.append(2, 2);
    tale.tick();
    tale.commit(1);
    tale.tick();
    let token = tale.claim(0, worker, 1, 2);
    tale.read(0, (worker, token), &[quick]);
    tale.handoff(0, (worker, token), &[quick]);
    let token = tale.claim(0, worker, 2, 3);
    tale.read(0, (worker, token), &[slow]);
    tale.handoff(0, (worker, token), &[slow]);
    tale.end(200);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::InProgressDelivered), 1);
    assert_eq!(tale.verdict().reach(Reach::TickInProgress), 1);
}

#[test]
fn what_is_rolled_back_leaves_no_trace() {
    let mut tale = Tale::messages();
    let rows = tale.state.clone();
    tale.begin(1);
    tale.append(1, 1);
    tale.rollback(1);
    tale.begin(1);
    tale.append(1, 2);
    tale.crash(1);
    tale.state = rows;
    tale.begin(1);
    tale.say(1, Op::Savepoint { level: 0 }, Reply::Done);
    let undone = tale.mint();
    tale.say(1, Op::Append { queue: Q, payload: 3 }, Reply::Appended { event: undone, table: 0 });
    tale.refuse(1, Op::Subscribe { queue: Q, consumer: Consumer(1) }, Refusal::OneConsumer);
    tale.say(1, Op::RollbackTo { level: 0 }, Reply::Done);
    let kept = tale.append(1, 4);
    tale.commit(1);
    let worker = tale.register(0);
    tale.tick();
    let token = tale.claim(0, worker, 1, 2);
    tale.read(0, (worker, token), &[kept]);
    tale.handoff(0, (worker, token), &[kept]);
    tale.end(200);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::SavepointUndone), 1);
    assert_eq!(tale.verdict().reach(Reach::CrashInTransaction), 1);
}

#[test]
fn an_id_that_only_an_aborted_transaction_saw_may_come_again() {
    let mut tale = Tale::messages();
    let worker = tale.register(0);
    tale.begin(1);
    tale.say(1, Op::Append { queue: Q, payload: 1 }, Reply::Appended { event: EventId(1), table: 0 });
    tale.fault(0, Fault::ServerCrash);
    tale.resolve(1, Outcome::Aborted);
    (0..4).for_each(|who| tale.reconnect(who));
    let event = tale.append(2, 2);
    assert_eq!(event, EventId(1));
    tale.tick();
    let token = tale.claim(0, worker, 1, 2);
    tale.read(0, (worker, token), &[event]);
    tale.handoff(0, (worker, token), &[event]);
    tale.end(200);
    assert_holds(&tale);
}

#[test]
fn a_takeover_after_the_dead_interval_and_the_zombies_return() {
    let mut tale = Tale::workflows();
    let (victim, thief) = (tale.register(0), tale.register(1));
    let event = tale.start(1);
    tale.tick();
    let dead = tale.claim(0, victim, 1, 2);
    tale.read(0, (victim, dead), &[event]);
    tale.note(0, Note::WorkStarted { event });
    tale.wait(10_000);
    let token = tale.take_over(1, thief, 1, 2, victim);
    tale.read(1, (thief, token), &[event]);
    tale.note(1, Note::WorkStarted { event });
    tale.begin(0);
    tale.refuse(0, Op::Hold { worker: victim, token: dead, at: Micros(0) }, Refusal::StaleToken);
    tale.refuse(
        0,
        Op::Effect { workflow: WorkflowId(51), sequence: 1, step: crate::name::Step(0) },
        Refusal::FailedTransaction,
    );
    tale.say(0, Op::Commit, Reply::RolledBack);
    tale.reconnect(0);
    tale.step(1, (thief, token), event);
    assert_holds(&tale);
    let verdict = tale.verdict();
    for reach in [Reach::Takeover, Reach::Redelivery, Reach::StaleTokenRefused, Reach::ExternalWorkRepeated] {
        assert_eq!(verdict.reach(reach), 1, "{}", reach.name());
    }
}

#[test]
fn a_transaction_that_holds_its_window_may_outlast_the_dead_interval() {
    let (mut tale, lease, event) = first_step();
    tale.begin(0);
    tale.hold(0, lease);
    tale.wait(60_000);
    tale.effect(0, event);
    tale.handoff(0, lease, &[event]);
    tale.commit(0);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::HandoffAfterDeadInterval), 1);
}

#[test]
fn a_commit_whose_answer_is_lost_counts_as_its_note_says() {
    for outcome in [Outcome::Committed, Outcome::Aborted] {
        let mut tale = Tale::workflows();
        let worker = tale.register(0);
        let event = tale.start(1);
        tale.tick();
        let token = tale.claim(0, worker, 1, 2);
        tale.read(0, (worker, token), &[event]);
        let rows = tale.state.clone();
        tale.begin(0);
        tale.hold(0, (worker, token));
        tale.effect(0, event);
        let next = tale.handoff(0, (worker, token), &[event]);
        tale.lose(0, Op::Commit, Some(outcome));
        let lease = match outcome {
            Outcome::Committed => {
                tale.refuse(0, Op::Hold { worker, token, at: Micros(0) }, Refusal::StaleToken);
                tale.tick();
                let token = tale.claim(0, worker, 2, 3);
                tale.read(0, (worker, token), &next);
                (worker, token)
            }
            _ => {
                tale.state = rows;
                tale.read(0, (worker, token), &[event]);
                (worker, token)
            }
        };
        let live = if outcome == Outcome::Committed { next[0] } else { event };
        tale.step(0, lease, live);
        assert_holds(&tale);
    }
}

#[test]
fn lost_appends_starts_claims_and_handoffs_are_found_again() {
    let mut tale = Tale::workflows();
    let (lost, finder) = (tale.register(0), tale.register(1));
    // The start's answer is lost; repeated, it tells the workflow, but not the event.
    let (step, state) = crate::workload::Program::start(&crate::workload::Chain, 1, 1);
    let start = Op::Start { queue: Q, key: crate::name::Key(1), step, state };
    tale.call(3, start.clone());
    tale.write(3);
    let event = tale.mint();
    tale.remember(3, event, (WorkflowId(51), 1, step, state), 0);
    tale.answer(3, Reply::Unknown);
    tale.resolve(3, Outcome::Committed);
    tale.reconnect(3);
    tale.say(3, start, Reply::Started { workflow: WorkflowId(51), event: EventId(0), table: 0 });
    tale.tick();
    // The claim's answer is lost; another worker takes over a window that nobody knew of.
    tale.lose(0, claim(lost), Some(Outcome::Committed));
    tale.wait(10_000);
    let token = tale.take_over(1, finder, 1, 2, lost);
    tale.read(1, (finder, token), &[event]);
    // The handoff's answer is lost; the successor turns up in a later window.
    let decision = tale.decision(event);
    tale.begin(1);
    tale.hold(1, (finder, token));
    tale.effect(1, event);
    tale.call(1, Op::Handoff { worker: finder, token, decisions: vec![decision] });
    let next = tale.mint();
    tale.remember(1, next, (decision.workflow, decision.sequence, decision.step, decision.state), 0);
    tale.answer(
        1,
        Reply::HandedOff {
            appended: vec![next.0],
            children: vec![],
            resumed: vec![],
            undeliverable: vec![],
            table: 0,
            timer_table: 0,
        },
    );
    tale.lose(1, Op::Commit, Some(Outcome::Committed));
    tale.tick();
    let token = tale.claim(1, finder, 2, 3);
    tale.read(1, (finder, token), &[next]);
    tale.step(1, (finder, token), next);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::TakeoverOfLostClaim), 1);
}

#[test]
fn a_lost_handoff_of_its_own_is_believed_when_its_successor_shows() {
    for outcome in [Some(Outcome::Committed), None] {
        let mut tale = Tale::workflows();
        tale.history.header.workload = "somebody's own".into();
        let worker = tale.register(0);
        let event = tale.start(1);
        tale.tick();
        let token = tale.claim(0, worker, 1, 2);
        tale.read(0, (worker, token), &[event]);
        let decision = tale.decision(event);
        tale.call(0, Op::Handoff { worker, token, decisions: vec![decision] });
        let next = tale.mint();
        tale.remember(0, next, (decision.workflow, decision.sequence, decision.step, decision.state), 0);
        tale.answer(0, Reply::Unknown);
        if let Some(outcome) = outcome {
            tale.resolve(0, outcome);
        }
        tale.reconnect(0);
        tale.tick();
        let token = tale.claim(0, worker, 2, 3);
        tale.read(0, (worker, token), &[next]);
        tale.handoff(0, (worker, token), &[next]);
        assert_holds(&tale);
        assert_eq!(tale.judged(Property::D3), Judgement::Holds, "what shows is not in doubt");
    }
}

#[test]
fn what_nobody_resolves_is_unknown() {
    let mut tale = Tale::messages();
    tale.lose(1, Op::Append { queue: Q, payload: 1 }, None);
    tale.end(200);
    assert_eq!(tale.broken(), [""; 0]);
    for property in [Property::D3, Property::D1, Property::Q1] {
        assert_eq!(tale.judged(property), Judgement::Unknown, "{property}");
    }
}

/// Replies that come late: what somebody has seen has happened, whatever was answered by then.
#[test]
fn late_replies_accuse_nobody() {
    let mut tale = Tale::messages();
    let worker = tale.register(0);
    // The append has no answer yet, the tick neither, and the event is delivered and dealt with already.
    tale.call(1, Op::Append { queue: Q, payload: 1 });
    let event = tale.mint();
    tale.remember(1, event, (WorkflowId(0), 0, crate::name::Step(0), 1), 0);
    tale.call(2, Op::Tick { queue: Q });
    tale.write(2);
    let snapshot = tale.snapshot();
    let token = tale.mint_token();
    tale.call(0, claim(worker));
    tale.answer(0, Reply::Claimed { token, prev: Tick(1), next: Tick(2), victim: WorkerId(0), isolated: false });
    tale.read(0, (worker, token), &[event]);
    tale.handoff(0, (worker, token), &[event]);
    let at = tale.now;
    tale.answer(2, Reply::Ticked { tick: Tick(2), at, snapshot });
    tale.answer(1, Reply::Appended { event, table: 0 });
    tale.end(200);
    assert_holds(&tale);
}

#[test]
fn a_victims_claim_may_be_answered_after_its_takeover() {
    let mut tale = Tale::messages();
    let (victim, thief) = (tale.register(0), tale.register(1));
    let event = tale.append(2, 1);
    tale.tick();
    let dead = tale.mint_token();
    tale.call(0, claim(victim));
    tale.wait(10_000);
    let token = tale.take_over(1, thief, 1, 2, victim);
    tale.answer(0, Reply::Claimed { token: dead, prev: Tick(1), next: Tick(2), victim: WorkerId(0), isolated: false });
    tale.refuse(0, Op::Read { worker: victim, token: dead, after: EventId(0), limit: 10 }, Refusal::StaleToken);
    tale.read(1, (thief, token), &[event]);
    tale.handoff(1, (thief, token), &[event]);
    tale.end(200);
    assert_holds(&tale);
}

#[test]
fn misbehaving_clients_are_refused_and_not_accused() {
    let mut tale = Tale::workflows();
    let worker = tale.register(0);
    let event = tale.start(1);
    tale.tick();
    let token = tale.claim(0, worker, 1, 2);
    tale.read(0, (worker, token), &[event]);
    tale.refuse(1, Op::Subscribe { queue: Q, consumer: Consumer(1) }, Refusal::OneConsumer);
    tale.refuse(0, Op::Handoff { worker, token, decisions: vec![] }, Refusal::WindowMismatch);
    tale.refuse(0, claim(worker), Refusal::WindowOpen);
    tale.call(2, Op::Begin { isolation: Isolation::RepeatableRead });
    tale.answer(2, Reply::Done);
    tale.refuse(2, Op::Tick { queue: Q }, Refusal::IsolationLevel);
    tale.say(2, Op::Commit, Reply::RolledBack);
    tale.step(0, (worker, token), event);
    assert_holds(&tale);
}

/// A client that swallows the failure of its hold is outside the contract: its effect is its own business.
#[test]
fn an_effect_without_a_lease_is_nobodys() {
    let mut tale = Tale::workflows();
    let event = tale.start(1);
    tale.begin(1);
    tale.effect(1, event);
    tale.commit(1);
    assert_holds(&tale);
}

#[test]
fn ticks_and_claims_inside_transactions_count_from_their_commit() {
    let mut tale = Tale::messages();
    let worker = tale.register(0);
    let event = tale.append(2, 1);
    tale.begin(3);
    tale.tick_with(SnapshotOf { xmax: crate::name::Xid(50), in_progress: vec![] });
    tale.commit(3);
    tale.begin(0);
    let token = tale.claim(0, worker, 1, 2);
    tale.read(0, (worker, token), &[event]);
    tale.handoff(0, (worker, token), &[event]);
    tale.commit(0);
    tale.end(200);
    assert_holds(&tale);
    assert_eq!(tale.verdict().reach(Reach::TickInTransaction), 1);
}

#[test]
fn several_consumers_of_a_plain_queue_each_have_every_event() {
    let mut tale = Tale::messages();
    let other = Consumer(1);
    tale.say(3, Op::Subscribe { queue: Q, consumer: other }, Reply::Subscribed { cursor: Tick(1) });
    let worker = tale.register(0);
    tale.say(1, Op::Register { consumer: other }, Reply::Registered { worker: WorkerId(9) });
    let first = tale.append(2, 1);
    tale.tick();
    let second = tale.append(2, 2);
    tale.tick();
    for (prev, event) in [(1, first), (2, second)] {
        let token = tale.claim(0, worker, prev, prev + 1);
        tale.read(0, (worker, token), &[event]);
        tale.note(0, Note::WorkStarted { event });
        tale.handoff(0, (worker, token), &[event]);
    }
    let token = tale.claim(1, WorkerId(9), 1, 3);
    tale.read(1, (WorkerId(9), token), &[first, second]);
    tale.note(1, Note::WorkStarted { event: first });
    tale.handoff(1, (WorkerId(9), token), &[first, second]);
    tale.end(200);
    assert_holds(&tale);
}

#[test]
fn an_old_heartbeat_excuses_from_when_it_ran() {
    let mut tale = Tale::messages();
    let (victim, thief) = (tale.register(0), tale.register(1));
    let event = tale.append(2, 1);
    tale.tick();
    let dead = tale.claim(0, victim, 1, 2);
    tale.wait(5_000);
    tale.say(0, Op::Heartbeat { worker: victim, token: dead, at: Micros(0) }, Reply::Done);
    tale.wait(DEAD.0 / 1_000);
    let token = tale.take_over(1, thief, 1, 2, victim);
    tale.read(1, (thief, token), &[event]);
    tale.handoff(1, (thief, token), &[event]);
    tale.end(200);
    assert_holds(&tale);
}

#[test]
fn the_kind_of_a_queue_is_told_once() {
    let tale = Tale::of(QueueKind::Plain);
    assert_eq!(tale.broken(), [""; 0]);
    assert_eq!(C, Consumer(0));
}
