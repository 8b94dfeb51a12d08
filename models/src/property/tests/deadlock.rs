//! L6.

use super::tale::{Q, Tale};
use crate::name::Micros;
use crate::op::Op;
use crate::property::{Property, Reach};
use crate::reply::Refusal;
use alloc::vec;

/// The chain's first step is in process a's transaction, which has held its window; b's duty and a's handoff want the same.
fn meet(tale: &mut Tale, is_ordered: bool) {
    let worker = tale.register(0);
    let event = tale.start(1);
    let lease = tale.window(0, worker, 1, &[event]);
    tale.begin(0);
    if !is_ordered {
        tale.append(0, 1);
    }
    tale.hold(0, lease);
    tale.effect(0, event);
    tale.call(1, Op::ExpireWaits { queue: Q, limit: 10 });
    tale.blocked(1);
    let decisions = vec![tale.decision(event)];
    tale.wait(1_000);
    tale.refuse(0, Op::Handoff { worker: lease.0, token: lease.1, decisions }, Refusal::Deadlock);
    tale.rollback(0);
}

#[test]
fn l6_a_victim_although_all_take_their_locks_in_order() {
    let mut tale = Tale::workflows();
    meet(&mut tale, true);
    assert_eq!(tale.broken(), ["L6"]);
    let sentence = "a call of a was a deadlock's victim at 1.000 s, and every transaction that was in a call (of b) takes its \
                    locks in the engine's order";
    assert_eq!(tale.sentence(Property::L6), sentence);
}

#[test]
fn an_application_may_close_a_cycle() {
    let mut tale = Tale::workflows();
    meet(&mut tale, false);
    assert_eq!(tale.broken(), [""; 0]);
    assert_eq!(tale.verdict().reach(Reach::Deadlock), 1);
}

#[test]
fn l6_who_repeats_gets_through() {
    for times in [8, 9] {
        let mut tale = Tale::messages();
        tale.now = Micros::from_secs(101);
        tale.begin(1);
        tale.append(1, 1);
        tale.append(1, 2);
        for _ in 0..times {
            tale.begin(0);
            tale.append(0, 1);
            tale.refuse(0, Op::Append { queue: Q, payload: 1 }, Refusal::Deadlock);
            tale.rollback(0);
        }
        let expected: &[&str] = if times > 8 { &["L6"] } else { &[] };
        assert_eq!(tale.broken(), expected);
    }
}
