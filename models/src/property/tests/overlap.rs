//! Calls that overlap: what only seems to come too late or too early, and what is wrong all the same.

use super::opening::two_workers;
use super::tale::{C, Q, Tale, claim};
use crate::name::{EventId, Micros, Tick, Token, WorkerId};
use crate::op::Op;
use crate::record::Fault;
use crate::reply::{Outcome, Refusal, Reply};
use alloc::vec;
use alloc::vec::Vec;

type Lease = (WorkerId, Token);

fn handed_off() -> Reply<Vec<crate::reply::Event>, Vec<u32>, Vec<crate::reply::ChildResult>> {
    let (children, resumed) = (vec![], vec![]);
    Reply::HandedOff { appended: vec![], children, resumed, undeliverable: vec![], table: 1, timer_table: 0 }
}

/// Everything that was read and handed off is truncated, as far as that is allowed.
fn rotate_all(tale: &mut Tale, horizon: u32) {
    for table in [1, 2, 0] {
        tale.rotate(table, horizon);
    }
}

// Q5: the checker lets go of an event once it is dealt with and truncated.

#[test]
fn q5_a_read_that_was_under_way_when_its_events_were_truncated() {
    let (mut tale, lease, _, event) = two_workers();
    let (worker, token) = lease;
    let read = *tale.event(event);
    tale.call(1, Op::Read { worker, token, after: EventId(0), limit: 9 });
    tale.handoff(0, lease, &[event]);
    rotate_all(&mut tale, 2);
    tale.answer(1, Reply::Events(vec![read]));
    assert_eq!(tale.broken(), [""; 0]);
}

#[test]
fn q5_a_read_that_began_when_its_events_were_dealt_with() {
    let (mut tale, lease, other, event) = two_workers();
    let read = *tale.event(event);
    tale.handoff(0, lease, &[event]);
    rotate_all(&mut tale, 2);
    tale.append(2, 2);
    tale.tick();
    let token = tale.claim(1, other, 2, 3);
    tale.call(1, Op::Read { worker: other, token, after: EventId(0), limit: 9 });
    // Whoever handed it off commits something else meanwhile.
    tale.begin(0);
    tale.append(0, 3);
    tale.commit(0);
    tale.answer(1, Reply::Events(vec![read]));
    assert!(tale.broken().contains(&"Q5"), "{:?}", tale.broken());
}

#[test]
fn q5_what_waited_for_a_call_is_let_go_later() {
    let (mut tale, lease, _, event) = two_workers();
    let (worker, token) = lease;
    let read = *tale.event(event);
    tale.call(2, Op::Peek { queue: Q, table: 0 });
    tale.handoff(0, lease, &[event]);
    rotate_all(&mut tale, 2);
    tale.answer(2, Reply::Counted { rows: 0 });
    rotate_all(&mut tale, 2);
    tale.say(1, Op::Read { worker, token, after: EventId(0), limit: 9 }, Reply::Events(vec![read]));
    assert_eq!(tale.broken(), ["Q5", "Q8"]);
}

// Q13: a claim under way keeps only what lies behind it.

/// Worker-1 has dealt with (3,4], and then with (1,2]. Worker-3 was given (2,3], and is told so later, with that token.
fn gap() -> (Tale, Lease, EventId) {
    let mut tale = Tale::messages();
    let workers = [0, 1, 2].map(|who| tale.register(who));
    let early = tale.append(3, 1);
    tale.tick();
    let first = tale.claim(0, workers[0], 1, 2);
    tale.read(0, (workers[0], first), &[early]);
    let gap = tale.append_to(3, 2, 1);
    tale.tick();
    tale.call(2, claim(workers[2]));
    let token = tale.mint_token();
    let late = tale.append_to(3, 3, 1);
    tale.tick();
    let last = tale.claim(1, workers[1], 3, 4);
    tale.read(1, (workers[1], last), &[late]);
    tale.handoff(1, (workers[1], last), &[late]);
    tale.wait(1_000).handoff(0, (workers[0], first), &[early]);
    (tale, (workers[2], token), gap)
}

fn told(tale: &mut Tale, token: Token) {
    let (prev, next, victim) = (Tick(2), Tick(3), WorkerId(0));
    tale.answer(2, Reply::Claimed { token, prev, next, victim, isolated: false });
}

#[test]
fn q13_what_is_dealt_with_is_so_while_a_claim_behind_it_is_under_way() {
    let (mut tale, lease, gap) = gap();
    tale.wait(1_000).rotate(0, 2);
    told(&mut tale, lease.1);
    tale.read(2, lease, &[gap]);
    tale.wait(1_000).handoff(2, lease, &[gap]);
    assert_eq!(tale.broken(), [""; 0]);
}

#[test]
fn q13_what_a_claim_under_way_gives_out_is_needed() {
    let (mut tale, lease, gap) = gap();
    tale.wait(1_000).rotate(1, 4);
    told(&mut tale, lease.1);
    tale.wait(1_000).handoff(2, lease, &[gap]);
    assert_eq!(tale.broken(), ["Q13"]);
}

#[test]
fn q4_a_history_that_stops_while_a_claim_is_under_way() {
    let (tale, ..) = gap();
    assert_eq!(tale.broken(), [""; 0]);
}

// Q8 and Q10: leases.

#[test]
fn q8_a_heartbeat_under_way_while_its_worker_goes_on() {
    let (mut tale, lease, _, event) = two_workers();
    let (worker, token) = lease;
    tale.call(1, Op::Heartbeat { worker, token, at: Micros(0) });
    tale.handoff(0, lease, &[event]);
    tale.append(2, 2);
    tale.tick();
    tale.claim(0, worker, 2, 3);
    tale.answer(1, Reply::Done);
    assert_eq!(tale.broken(), [""; 0]);
    tale.say(1, Op::Heartbeat { worker, token, at: Micros(0) }, Reply::Done);
    assert_eq!(tale.broken(), ["Q8"]);
}

#[test]
fn q10_a_takeover_from_a_claim_whose_answer_is_under_way() {
    for (wait, broken) in [(9_000, vec!["Q10"]), (10_000, vec![])] {
        let mut tale = Tale::messages();
        let (victim, thief) = (tale.register(0), tale.register(1));
        tale.append(2, 1);
        tale.tick();
        tale.call(0, claim(victim));
        let token = tale.mint_token();
        tale.wait(wait).take_over(1, thief, 1, 2, victim);
        let (prev, next) = (Tick(1), Tick(2));
        tale.wait(5_000).answer(0, Reply::Claimed { token, prev, next, victim: WorkerId(0), isolated: false });
        assert_eq!(tale.broken(), broken);
    }
}

#[test]
fn q10_a_takeover_that_shows_before_its_answer() {
    for (wait, broken) in [(9_000, vec!["Q10"]), (15_000, vec![])] {
        let (mut tale, lease, thief, _) = two_workers();
        let other = tale.register(2);
        tale.wait(wait).call(1, claim(thief));
        let token = tale.mint_token();
        tale.wait(500).call(2, Op::Heartbeat { worker: thief, token, at: Micros(0) });
        let (prev, next) = (Tick(1), Tick(2));
        tale.wait(100).take_over_isolated(3, other, 1, 2, thief);
        tale.answer(1, Reply::Claimed { token, prev, next, victim: lease.0, isolated: false });
        tale.answer(2, Reply::Refused(Refusal::StaleToken));
        let told: Vec<_> = tale.broken();
        assert!(told.contains(&"Q10"), "taken from the thief at once");
        let of_first = tale.sentences("Q10").iter().any(|sentence| sentence.contains("took the window of lease-1"));
        assert_eq!(of_first, !broken.is_empty());
    }
}

#[test]
fn q10_a_refusal_under_way_lets_go_of_what_came_after_the_savepoint() {
    for (is_held_before, broken) in [(true, vec!["Q10"]), (false, vec![])] {
        let (mut tale, lease, thief, _) = two_workers();
        tale.begin(0);
        if is_held_before {
            tale.hold(0, lease);
        }
        tale.say(0, Op::Savepoint { level: 1 }, Reply::Done);
        if !is_held_before {
            tale.hold(0, lease);
        }
        tale.call(0, Op::Append { queue: Q, payload: 9 });
        tale.wait(20_000);
        tale.take_over(1, thief, 1, 2, lease.0);
        tale.answer(0, Reply::Refused(Refusal::LockNotAvailable));
        tale.say(0, Op::RollbackTo { level: 1 }, Reply::Done);
        tale.rollback(0);
        assert_eq!(tale.broken(), broken);
    }
}

#[test]
fn q8_a_takeover_from_a_claim_that_nobody_will_be_told_of() {
    let (mut tale, lease, thief, event) = two_workers();
    tale.handoff(0, lease, &[event]);
    tale.append(2, 2);
    tale.tick();
    tale.wait(1_000).call(0, claim(lease.0));
    tale.wait(20_000).take_over(1, thief, 2, 3, lease.0);
    tale.write(0);
    tale.answer(0, Reply::Unknown);
    tale.resolve(0, Outcome::Committed);
    assert_eq!(tale.broken(), [""; 0]);
}

// D2 and Q2: what is seen has happened, whatever its client will be told.

#[test]
fn d2_what_is_read_before_its_commit_is_lost() {
    let (mut tale, lease, other, event) = two_workers();
    tale.handoff(0, lease, &[event]);
    tale.begin(2);
    let lost = tale.append(2, 2);
    let xmax = tale.snapshot();
    tale.call(2, Op::Commit);
    tale.tick_with(xmax);
    let token = tale.claim(1, other, 2, 3);
    tale.read(1, (other, token), &[lost]);
    assert_eq!(tale.broken(), [""; 0], "the history may end here");
    for outcome in [Outcome::Committed, Outcome::Aborted] {
        let mut tale = tale.clone();
        tale.answer(2, Reply::Unknown);
        tale.resolve(2, outcome);
        let broken = if outcome == Outcome::Committed { vec![] } else { vec!["D2"] };
        assert_eq!(tale.broken(), broken);
    }
}

#[test]
fn q2_what_is_read_before_its_append_is_lost() {
    let (mut tale, lease, other, event) = two_workers();
    tale.handoff(0, lease, &[event]);
    tale.call(2, Op::Append { queue: Q, payload: 7 });
    let lost = tale.mint();
    tale.remember(2, lost, (crate::name::WorkflowId(0), 0, crate::name::Step(0), 7), 0);
    tale.tick();
    let token = tale.claim(1, other, 2, 3);
    tale.read(1, (other, token), &[lost]);
    assert_eq!(tale.broken(), [""; 0], "the history may end here");
    tale.fault(2, Fault::LostReply);
    tale.answer(2, Reply::Unknown);
    tale.resolve(2, Outcome::Committed);
    tale.handoff(1, (other, token), &[lost]);
    assert_eq!(tale.broken(), [""; 0]);
}

// Q4: a subscription is there when somebody uses it.

#[test]
fn q4_windows_of_a_subscription_whose_answer_is_under_way() {
    let mut tale = Tale::empty();
    tale.say(3, Op::CreateQueue { queue: Q, kind: crate::op::QueueKind::Plain }, Reply::Done);
    tale.call(2, Op::Subscribe { queue: Q, consumer: C });
    let worker = tale.register(0);
    for prev in 1..4 {
        let event = tale.append(3, 1);
        tale.tick();
        let token = tale.claim(0, worker, prev, prev + 1);
        tale.read(0, (worker, token), &[event]);
        tale.handoff(0, (worker, token), &[event]);
        if prev == 2 {
            tale.answer(2, Reply::Subscribed { cursor: Tick(1) });
        }
    }
    rotate_all(&mut tale, 4);
    assert_eq!(tale.broken(), [""; 0]);
}

// T2: a timer that is not there any more.

#[test]
fn t2_a_cancellation_under_way() {
    for (reply, broken) in [(Reply::Cancelled, vec![]), (Reply::TooLate, vec!["T2"])] {
        let mut tale = Tale::messages();
        let timer = tale.schedule(1, 7, 1_000);
        tale.wait(1_000);
        tale.call(2, Op::Cancel { queue: Q, event: timer, due: Micros::from_secs(1) });
        let tick = tale.tick();
        tale.drain(tick, &[], true);
        tale.answer(2, reply);
        assert_eq!(tale.broken(), broken);
    }
}

// W10 and Q11: tries.

#[test]
fn w10_a_try_whose_answer_is_under_way() {
    let mut tale = Tale::flaky();
    let workers = [0, 1, 2].map(|who| tale.register(who));
    let poison = tale.start(10 + super::flaky::POISON);
    tale.window(0, workers[0], 1, &[poison]);
    tale.wait(20_000).take_over(1, workers[1], 1, 2, workers[0]);
    tale.wait(20_000);
    let token = tale.take_over_isolated(2, workers[2], 1, 2, workers[1]);
    for tries in 1..=2 {
        tale.hand_out(2, (workers[2], token), Some((poison, tries)), &[]);
    }
    tale.call(2, Op::HandOut { worker: workers[2], token, max_tries: 3 });
    tale.wait(20_000);
    let thief = tale.register(1);
    let next = tale.take_over_isolated(1, thief, 1, 2, workers[2]);
    let mut without = tale.clone();
    tale.hand_out(1, (thief, next), None, &[poison]);
    let events = vec![tale.events[&poison].0];
    let last = Reply::HandedOut { events, tries: 3, dead: vec![], resumed: vec![], undeliverable: vec![], table: 0 };
    tale.answer(2, last);
    assert_eq!(tale.broken(), [""; 0]);
    without.answer(2, Reply::Refused(Refusal::StaleToken));
    without.hand_out(1, (thief, next), None, &[poison]);
    assert_eq!(without.broken(), ["W10"]);
}

// L5: what rotation waited for may be over when it says so.

#[test]
fn l5_a_reader_that_ends_as_rotation_gives_up() {
    for (is_long, broken) in [(true, vec![]), (false, vec!["L5"])] {
        let mut tale = Tale::messages();
        tale.wait(101_000);
        for _ in 0..6 {
            tale.wait(6_000);
            if is_long {
                tale.begin(1);
            }
            tale.call(3, Op::Rotate { queue: Q, lock_timeout: Micros(1_000_000) });
            tale.wait(1_000);
            if is_long {
                tale.rollback(1);
            } else {
                tale.begin(1);
                tale.rollback(1);
            }
            tale.answer(3, Reply::Refused(Refusal::LockNotAvailable));
        }
        tale.end(200);
        assert_eq!(tale.broken(), broken);
    }
}

#[test]
fn q9_a_handoff_under_way_when_its_worker_claims_again() {
    let (mut tale, (worker, token), _, event) = two_workers();
    let decisions = vec![tale.decision(event)];
    tale.call(1, Op::Handoff { worker, token, decisions });
    tale.append(2, 2);
    tale.tick();
    tale.claim(0, worker, 2, 3);
    tale.answer(1, handed_off());
    assert_eq!(tale.broken(), [""; 0]);
}
