//! Goals of *fault × place*: a process is struck in each place of a step, and the history alone says where it stood.

use super::tale::{Tale, claim};
use crate::name::{EventId, Micros, Token, WorkerId};
use crate::op::Op;
use crate::property::Reach;
use crate::record::Fault;
use crate::reply::{Outcome, Refusal};
use alloc::format;
use alloc::vec::Vec;

/// Worker-1 (process a) has claimed a window with one step in it.
fn claimed() -> (Tale, (WorkerId, Token), EventId) {
    let mut tale = Tale::workflows();
    let worker = tale.register(0);
    let event = tale.start(1);
    tale.tick();
    let token = tale.claim(0, worker, 1, 2);
    (tale, (worker, token), event)
}

/// The goals of the matrix that a history reached, among those that begin so.
fn struck(tale: &Tale, blow: &str) -> Vec<&'static str> {
    let verdict = tale.verdict();
    // They are older, and tell less of where.
    const COARSE: [&str; 4] = ["crash-in-transaction", "crash-while-holding", "lost-reply", "lost-reply-aborted"];
    let is_meant = |goal: &Reach| goal.name().starts_with(blow) && !COARSE.contains(&goal.name());
    let reached = Reach::ALL.into_iter().filter(|goal| verdict.reach(*goal) > 0);
    reached.filter(is_meant).map(Reach::name).collect()
}

#[test]
fn a_worker_is_struck_in_each_place_of_its_step() {
    type Way = fn(&mut Tale, (WorkerId, Token), EventId);
    let read: Way = |tale, lease, event| tale.read(0, lease, &[event]);
    let begun: Way = |tale, lease, event| {
        tale.read(0, lease, &[event]);
        tale.begin(0);
    };
    let held: Way = |tale, lease, event| {
        tale.read(0, lease, &[event]);
        tale.begin(0);
        tale.hold(0, lease);
    };
    let effect: Way = |tale, lease, event| {
        tale.read(0, lease, &[event]);
        tale.begin(0);
        tale.hold(0, lease);
        tale.effect(0, event);
    };
    let failed: Way = |tale, lease, _| {
        tale.begin(0);
        tale.refuse(0, Op::Hold { worker: lease.0, token: lease.1, at: Micros(0) }, Refusal::StaleToken);
    };
    let committed: Way = |tale, lease, event| {
        tale.read(0, lease, &[event]);
        tale.step(0, lease, event);
    };
    let ways: [(Way, &str); 7] = [
        (|_, _, _| {}, "claimed"),
        (read, "working"),
        (begun, "begun"),
        (held, "held"),
        (effect, "effect-made"),
        (failed, "failed"),
        (committed, "commit-unheard"),
    ];
    for (way, place) in ways {
        let (mut tale, lease, event) = claimed();
        way(&mut tale, lease, event);
        let goals = |fault: Fault, blow| {
            let mut tale = tale.clone();
            tale.fault(0, fault);
            struck(&tale, blow)
        };
        let named = |blow: &str| Reach::by_name(&format!("{blow}{place}")).map(Reach::name);
        assert_eq!(goals(Fault::Crash, "crash-"), named("crash-").into_iter().collect::<Vec<_>>(), "{place}");
        let long = Fault::Pause { until: Micros::from_secs(3_000) };
        assert_eq!(goals(long, "pause-"), named("pause-").into_iter().collect::<Vec<_>>(), "{place}");
        assert_eq!(goals(Fault::Pause { until: Micros(1) }, "pause-"), [""; 0], "shorter than the dead interval");
        let struck = goals(Fault::ServerCrash, "server-crash-");
        assert!(named("server-crash-").is_none_or(|goal| struck.contains(&goal)), "{place}: {struck:?}");
    }
}

#[test]
fn a_request_and_a_reply_are_lost_in_different_places() {
    let (mut tale, lease, event) = claimed();
    tale.read(0, lease, &[event]);
    tale.begin(0);
    let hold = Op::Hold { worker: lease.0, token: lease.1, at: Micros(0) };
    let mut request = tale.clone();
    request.call(0, hold);
    request.fault(0, Fault::LostReply);
    assert_eq!(struck(&request, "lost-re"), ["lost-request-begun"]);
    tale.hold(0, lease);
    tale.fault(0, Fault::LostReply);
    assert_eq!(struck(&tale, "lost-re"), ["lost-reply-held"]);
}

#[test]
fn whoever_is_taken_over_stands_somewhere_and_hears_of_it() {
    let (mut tale, lease, event) = claimed();
    tale.read(0, lease, &[event]);
    tale.begin(0);
    let thief = tale.register(1);
    tale.wait(20_000);
    tale.take_over(1, thief, 1, 2, lease.0);
    tale.refuse(0, Op::Hold { worker: lease.0, token: lease.1, at: Micros(0) }, Refusal::StaleToken);
    assert_eq!(struck(&tale, "takeover-"), ["takeover-begun"]);
    assert_eq!(struck(&tale, "zombie-"), ["zombie-hold-refused"]);
}

#[test]
fn a_wait_is_a_place_of_its_own() {
    let (mut tale, ..) = claimed();
    let other = tale.register(1);
    tale.call(1, claim(other));
    tale.blocked(1);
    let mut crashed = tale.clone();
    crashed.fault(1, Fault::Crash);
    assert_eq!(struck(&tale, "wait-"), ["wait-claim"]);
    assert_eq!(struck(&crashed, "crash-"), ["crash-blocked-claim"]);
}

#[test]
fn a_repeated_handoff_is_told_from_a_zombies() {
    let (mut tale, lease, event) = claimed();
    tale.read(0, lease, &[event]);
    tale.step(0, lease, event);
    tale.lose(0, Op::Commit, Some(Outcome::Aborted));
    tale.reconnect(0);
    tale.begin(0);
    tale.refuse(0, Op::Hold { worker: lease.0, token: lease.1, at: Micros(0) }, Refusal::StaleToken);
    assert_eq!(tale.verdict().reach(Reach::RepetitionRefused), 1);
    assert_eq!(struck(&tale, "zombie-"), [""; 0]);
}
