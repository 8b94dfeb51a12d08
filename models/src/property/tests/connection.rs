//! Goals of a network: connections fail in each place of a step, and sessions outlive those who had them.

use super::opening::first_step;
use super::tale::{Tale, claim};
use crate::name::{EventId, Micros, Token, WorkerId, Xid};
use crate::op::Op;
use crate::property::Reach;
use crate::record::{Fault, Link, Side};
use crate::reply::{Outcome, Reply};
use alloc::vec::Vec;

/// The first step's window is held, in a transaction that is open.
fn held() -> (Tale, (WorkerId, Token), EventId) {
    let (mut tale, lease, event) = first_step();
    tale.begin(0);
    tale.hold(0, lease);
    (tale, lease, event)
}

fn reached(tale: &Tale) -> Vec<&'static str> {
    let verdict = tale.verdict();
    Reach::OF_NETWORK.iter().filter(|goal| verdict.reach(**goal) > 0).map(|goal| goal.name()).collect()
}

fn link(link: Link) -> Fault {
    Fault::Link { link, until: Micros::from_secs(2) }
}

#[test]
fn a_connection_fails_in_each_way_and_place() {
    let ways = [
        (link(Link::Cut), "partition"),
        (link(Link::CutToServer), "unheard"),
        (link(Link::CutToProcess), "deaf"),
        (link(Link::Held), "held-up"),
        (link(Link::Slow), "slow-link"),
        (link(Link::Late), "late"),
        (Fault::HalfOpen { gone_for: Side::Process }, "lost-to-process"),
        (Fault::HalfOpen { gone_for: Side::Server }, "lost-to-server"),
    ];
    for ((tale, ..), place) in [(first_step(), "working"), (held(), "held")] {
        assert_eq!(reached(&tale), [""; 0]);
        for (fault, way) in ways {
            let mut tale = tale.clone();
            tale.fault(0, fault);
            assert_eq!(reached(&tale), [alloc::format!("{way}-{place}")]);
        }
    }
}

#[test]
fn a_partition_is_noticed_or_not() {
    let (mut tale, lease, _) = first_step();
    tale.fault(0, link(Link::Cut));
    let mut noticed = tale.clone();
    tale.begin(0);
    assert_eq!(reached(&tale), ["partition-working"], "it lasts until 2 s");
    tale.wait(2_000).hold(0, lease);
    assert_eq!(reached(&tale), ["partition-unnoticed", "partition-working"]);
    noticed.reconnect(0);
    noticed.begin(0);
    assert_eq!(reached(&noticed), ["partition-noticed", "partition-working"]);
}

#[test]
fn a_commit_that_is_under_way_is_passed_by_the_question_what_became_of_it() {
    let (mut tale, lease, event) = held();
    tale.effect(0, event);
    tale.beside(0, |tale| {
        tale.say(0, Op::Resolve { xid: Xid(1) }, Reply::Resolved(Outcome::InProgress));
    });
    let mut early = tale.clone();
    early.hold(0, lease);
    assert_eq!(reached(&early), ["late-call", "beside-own-transaction", "asked-in-progress"]);
    tale.commit(0);
    assert_eq!(reached(&tale), ["late-call", "late-commit", "beside-own-transaction", "asked-in-progress"]);
}

#[test]
fn a_window_is_held_by_the_session_of_who_is_gone() {
    let (mut tale, ..) = held();
    let other = tale.register(1);
    tale.say(1, claim(other), Reply::Idle);
    assert_eq!(reached(&tale), [""; 0], "he is not gone");
    tale.fault(0, Fault::CrashUnseen);
    tale.say(1, claim(other), Reply::Idle);
    assert_eq!(reached(&tale), ["claim-while-gone-holds"]);
    tale.call(1, claim(other));
    tale.blocked(1);
    tale.fault(0, Fault::SessionLost);
    tale.resolve(0, Outcome::Aborted);
    let mut later = tale.clone();
    tale.answer(1, Reply::Idle);
    let goals = ["session-lost-holding", "claim-while-gone-holds", "waited-for-gone", "given-up-held"];
    assert_eq!(reached(&tale), goals);
    later.wait(1).answer(1, Reply::Idle);
    assert!(!reached(&later).contains(&"waited-for-gone"), "it waited for somebody else");
}

#[test]
fn a_call_waits_when_its_process_is_gone() {
    let (mut tale, ..) = first_step();
    let other = tale.register(1);
    tale.call(1, claim(other));
    tale.blocked(1);
    assert_eq!(reached(&tale), [""; 0]);
    tale.fault(1, Fault::CrashUnseen);
    assert_eq!(reached(&tale), ["gone-while-blocked"]);
}
