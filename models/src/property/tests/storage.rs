//! Q13, Q15, L5: rotation.

use super::tale::{Q, Tale};
use crate::name::{EventId, Micros, Tick, Token, WorkerId};
use crate::op::{Isolation, Op};
use crate::property::Property;
use crate::reply::{Refusal, Reply};
use crate::verdict::Judgement;
use alloc::vec::Vec;

fn read() -> (Tale, (WorkerId, Token), EventId) {
    let mut tale = Tale::messages();
    let worker = tale.register(0);
    let event = tale.append(1, 1);
    tale.tick();
    let token = tale.claim(0, worker, 1, 2);
    tale.read(0, (worker, token), &[event]);
    (tale, (worker, token), event)
}

#[test]
fn q13_a_table_is_truncated_under_an_open_window() {
    let (mut tale, lease, event) = read();
    tale.wait(1_000).rotate(0, 2);
    tale.wait(1_000);
    tale.handoff(0, lease, &[event]);
    assert_eq!(tale.broken(), ["Q13"]);
    assert_eq!(
        tale.sentence(Property::Q13),
        "table 0 of q0 was truncated at 1.000 s (horizon k2) with e1 in it, appended at 0.000 s: it was dealt with only at \
         2.000 s"
    );
}

#[test]
fn q13_what_rotation_waited_for_is_truncated_unread() {
    let mut tale = Tale::messages();
    tale.begin(1);
    tale.append(1, 1);
    tale.call(2, Op::Rotate { queue: Q, lock_timeout: Micros(1_000_000) });
    tale.blocked(2);
    tale.commit(1);
    tale.answer(2, Reply::Rotated { table: 0, horizon: Tick(1) });
    assert_eq!(tale.broken(), ["Q13"]);
    assert_eq!(
        tale.sentence(Property::Q13),
        "table 0 of q0 was truncated at 0.000 s (horizon k1) with e1 in it, appended at 0.000 s: nobody had dealt with it"
    );
}

#[test]
fn a_row_that_may_have_come_after_the_truncation_is_not_counted() {
    let mut tale = Tale::messages();
    tale.call(2, Op::Rotate { queue: Q, lock_timeout: Micros(1_000_000) });
    tale.append(1, 1);
    tale.answer(2, Reply::Rotated { table: 0, horizon: Tick(1) });
    assert_eq!(tale.broken(), [""; 0]);
}

#[test]
fn a_handoff_under_way_counts_if_it_commits() {
    let (mut tale, (worker, token), event) = read();
    let decisions = alloc::vec![tale.decision(event)];
    tale.call(0, Op::Handoff { worker, token, decisions });
    tale.rotate(0, 2);
    tale.answer(
        0,
        Reply::HandedOff {
            appended: alloc::vec![],
            children: Vec::new(),
            resumed: Vec::new(),
            undeliverable: Vec::new(),
            table: 1,
            timer_table: 0,
        },
    );
    assert_eq!(tale.broken(), [""; 0]);
}

/// One message, appended and dealt with long before the end, and rotation tried every five seconds.
fn tried(reply: impl Fn(u64) -> crate::history::PlainReply) -> Tale {
    let (mut tale, lease, event) = read();
    tale.handoff(0, lease, &[event]);
    tale.wait(100_000);
    for round in 0..8 {
        tale.wait(5_000);
        tale.say(3, Op::Rotate { queue: Q, lock_timeout: Micros(1_000) }, reply(round));
    }
    tale
}

#[test]
fn q15_and_l5_rotation_that_never_succeeds() {
    let mut tale = tried(|_| Reply::NotRotated { horizon: Tick(2) });
    tale.end(200);
    assert_eq!(tale.broken(), ["Q15", "L5"]);
    assert_eq!(
        tale.sentence(Property::Q15),
        "e1, appended at 0.000 s, still lies in table 0 of q0 at the end: rotation was tried 6 times since 115.000 s, and \
         nothing there was waited for"
    );
    assert_eq!(
        tale.sentence(Property::L5),
        "rotation of q0 failed 4 times in a row since 125.000 s, and nothing there was waited for"
    );
}

#[test]
fn rotation_that_succeeds_leaves_nothing() {
    let mut tale = tried(|round| Reply::Rotated { table: ((round + 1) % 3) as u8, horizon: Tick(2) });
    tale.state.events.clear();
    tale.end(200);
    assert_eq!(tale.broken(), [""; 0]);
    assert_eq!(tale.verdict().of(Property::Q15).exercised, 1);
    assert_eq!(tale.judged(Property::Q15), Judgement::Holds);
}

#[test]
fn q15_a_row_that_survives_every_rotation() {
    let mut tale = tried(|round| Reply::Rotated { table: (round % 2 + 1) as u8, horizon: Tick(2) });
    tale.end(200);
    assert_eq!(tale.broken(), ["Q15"]);
}

#[test]
fn a_long_transaction_explains_that_rotation_times_out() {
    let (mut tale, lease, event) = read();
    tale.handoff(0, lease, &[event]);
    tale.wait(100_000);
    tale.call(2, Op::Begin { isolation: Isolation::RepeatableRead });
    tale.answer(2, Reply::Done);
    for _ in 0..8 {
        tale.wait(5_000);
        tale.refuse(3, Op::Rotate { queue: Q, lock_timeout: Micros(1_000) }, Refusal::LockNotAvailable);
    }
    tale.end(200);
    assert_eq!(tale.broken(), [""; 0]);
}

#[test]
fn rotation_waits_for_a_handoff_that_waits_itself() {
    let (mut tale, (worker, token), event) = read();
    tale.wait(100_000);
    let decisions = alloc::vec![tale.decision(event)];
    tale.call(0, Op::Handoff { worker, token, decisions });
    tale.blocked(0);
    for _ in 0..5 {
        tale.wait(5_000);
        tale.say(3, Op::Rotate { queue: Q, lock_timeout: Micros(1_000) }, Reply::NotRotated { horizon: Tick(1) });
    }
    tale.answer(
        0,
        Reply::HandedOff {
            appended: alloc::vec![],
            children: Vec::new(),
            resumed: Vec::new(),
            undeliverable: Vec::new(),
            table: 0,
            timer_table: 0,
        },
    );
    tale.end(200);
    assert_eq!(tale.broken(), [""; 0]);
}
