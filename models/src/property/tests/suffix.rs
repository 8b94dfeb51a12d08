//! D4: what asynchronous commits lose.

use super::tale::{Q, Tale};
use crate::name::EventId;
use crate::op::Op;
use crate::property::Property;
use crate::record::Fault;
use crate::reply::{Outcome, Reply};

/// Two messages are appended by two processes, one after the other; then the server dies.
fn crashed() -> Tale {
    let mut tale = Tale::messages();
    tale.history.header.options.push(("asynchronous_commit".into(), "true".into()));
    tale.append(1, 1);
    tale.wait(1_000);
    tale.append(2, 2);
    tale.wait(1_000);
    tale.fault(0, Fault::ServerCrash);
    tale
}

#[test]
fn d4_a_suffix_may_be_lost() {
    let mut tale = crashed();
    tale.resolve(2, Outcome::Aborted);
    (0..4).for_each(|who| tale.reconnect(who));
    let event = EventId(2);
    tale.say(2, Op::Append { queue: Q, payload: 3 }, Reply::Appended { event, table: 0 });
    assert_eq!(tale.broken(), [""; 0], "its id may come again, too");
    assert_eq!(tale.verdict().of(Property::D4).exercised, 5);
}

#[test]
fn d4_one_in_the_middle_is_lost() {
    let mut tale = crashed();
    tale.resolve(1, Outcome::Aborted);
    assert_eq!(tale.broken(), ["D4"]);
    assert_eq!(
        tale.sentence(Property::D4),
        "the crash at 2.000 s lost x12, acknowledged at 0.000 s, and kept x13, whose commit was called only at 1.000 s"
    );
}

#[test]
fn what_was_shown_before_the_crash_is_nobodys_fault() {
    let mut tale = Tale::messages();
    tale.history.header.options.push(("asynchronous_commit".into(), "true".into()));
    let worker = tale.register(0);
    let event = tale.append(1, 1);
    tale.tick();
    tale.begin(0);
    let token = tale.claim(0, worker, 1, 2);
    tale.read(0, (worker, token), &[event]);
    tale.handoff(0, (worker, token), &[event]);
    tale.commit(0);
    tale.fault(0, Fault::ServerCrash);
    for who in [1, 3, 0] {
        tale.resolve(who, Outcome::Aborted);
    }
    assert_eq!(tale.broken(), [""; 0]);
}
