//! D4: what asynchronous commits lose; D1: what they must not. Q9: what becomes of a lost token.

use super::tale::{C, Q, Tale, claim};
use crate::name::{EventId, Micros, Tick, Token, WorkerId};
use crate::op::Op;
use crate::property::{Property, Reach};
use crate::record::{Fault, Note};
use crate::reply::{Outcome, Refusal, Reply};

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
    assert_eq!(tale.verdict().of(Property::D4).exercised, 1);
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
fn d1_without_a_crash_nothing_is_lost() {
    let mut tale = Tale::messages();
    tale.history.header.options.push(("asynchronous_commit".into(), "true".into()));
    tale.append(1, 1);
    tale.wait(1_000);
    tale.resolve(1, Outcome::Aborted);
    assert_eq!(tale.broken(), ["D1"]);
    assert_eq!(tale.sentence(Property::D1), "b was told at 0.000 s that x12 had committed; at 1.000 s it is Aborted");
    tale.fault(0, Fault::ServerCrash);
    assert_eq!(tale.broken(), ["D1"], "the crash came later");
}

/// Two messages are appended, the log reaches the disk, and a third is appended; then the server dies, and loses those
/// of these processes.
fn flushed(lost: &[u8]) -> Tale {
    let mut tale = Tale::messages();
    tale.history.header.options.push(("asynchronous_commit".into(), "true".into()));
    for who in 0..3 {
        tale.append(who, 1);
        tale.wait(1_000);
        if who == 1 {
            tale.fault(0, Fault::LogFlush);
        }
    }
    tale.fault(0, Fault::ServerCrash);
    lost.iter().for_each(|who| tale.resolve(*who, Outcome::Aborted));
    tale
}

#[test]
fn d1_a_flush_that_leaves_out_what_it_should_write() {
    assert_eq!(flushed(&[2]).broken(), [""; 0]);
    let tale = flushed(&[1, 2]);
    assert_eq!(tale.broken(), ["D1"], "it is a suffix all the same");
    assert_eq!(
        tale.sentence(Property::D1),
        "b was told at 1.000 s that x13 had committed, and the log reached the disk at 2.000 s; the crash at 3.000 s lost it"
    );
    let verdict = tale.verdict();
    let slice = verdict.of(Property::D1).violations[0].slice(&tale.history);
    assert!(slice.contains("the server's log reaches the disk"), "{slice}");
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

/// An event that was in progress at one tick is missing from the window up to the next, as what `before` tells is, and
/// then the server dies.
fn a_gap_before_a_crash(before: impl FnOnce(&mut Tale)) -> Tale {
    let mut tale = Tale::messages();
    tale.history.header.options.push(("asynchronous_commit".into(), "true".into()));
    before(&mut tale);
    let worker = tale.register(0);
    tale.begin(1);
    tale.append(1, 1);
    tale.tick();
    tale.commit(1);
    let quick = tale.append(2, 2);
    tale.tick();
    let token = tale.claim(0, worker, 2, 3);
    tale.read(0, (worker, token), &[quick]);
    tale.fault(0, Fault::ServerCrash);
    tale
}

#[test]
fn a_commit_that_never_was_is_no_loss() {
    let tale = a_gap_before_a_crash(|tale| {
        tale.begin(2);
        tale.append(2, 3);
        tale.lose(2, Op::Commit, Some(Outcome::Aborted));
    });
    assert_eq!(tale.broken(), ["Q5"]);
}

#[test]
fn a_call_that_waited_when_the_server_died_is_no_loss() {
    let tale = a_gap_before_a_crash(|tale| {
        tale.call(2, Op::Append { queue: Q, payload: 3 });
        tale.write(2);
        tale.blocked(2);
        tale.fault(0, Fault::ServerCrash);
        tale.answer(2, Reply::Unknown);
        tale.resolve(2, Outcome::Aborted);
        (0..4).for_each(|who| tale.reconnect(who));
    });
    assert_eq!(tale.broken(), ["Q5"]);
}

/// a has registered, and claimed the window with the event, when the server dies and loses both.
fn bereft() -> (Tale, (WorkerId, Token), EventId) {
    let mut tale = Tale::messages();
    tale.history.header.options.push(("asynchronous_commit".into(), "true".into()));
    let event = tale.append(2, 1);
    tale.tick();
    tale.begin(0);
    let worker = tale.register(0);
    let token = tale.claim(0, worker, 1, 2);
    tale.commit(0);
    tale.wait(1_000);
    tale.fault(0, Fault::ServerCrash);
    tale.resolve(0, Outcome::Aborted);
    (0..4).for_each(|who| tale.reconnect(who));
    tale.wait(1_000);
    (tale, (worker, token), event)
}

#[test]
fn q9_a_lost_token_is_given_to_another() {
    let (mut tale, lease, event) = bereft();
    let (worker, token) = lease;
    let (prev, next, victim) = (Tick(1), Tick(2), WorkerId(0));
    tale.say(1, Op::Register { consumer: C }, Reply::Registered { worker });
    tale.say(1, claim(worker), Reply::Claimed { token, prev, next, victim, isolated: false });
    tale.read(1, lease, &[event]);
    assert_eq!(tale.broken(), [""; 0], "what nobody who is left was given may be given out");
    tale.handoff(0, lease, &[event]);
    assert_eq!(tale.broken(), ["Q9"]);
    assert_eq!(
        tale.sentence(Property::Q9),
        "a handed off at 2.000 s as lease-1 under token t000001, which b had been given"
    );
}

#[test]
fn a_lost_token_is_refused() {
    let (mut tale, (worker, token), _) = bereft();
    tale.refuse(0, Op::Heartbeat { worker, token, at: Micros(0) }, Refusal::StaleToken);
    assert_eq!(tale.broken(), [""; 0]);
    let verdict = tale.verdict();
    assert_eq!([Reach::AsyncCommitLost, Reach::LostClaimRefused].map(|goal| verdict.reach(goal)), [1, 1]);
}

#[test]
fn w6_what_a_lost_claim_started_does_not_count() {
    let (mut tale, (worker, token), event) = bereft();
    let (prev, next, victim) = (Tick(1), Tick(2), WorkerId(0));
    tale.say(1, Op::Register { consumer: C }, Reply::Registered { worker });
    tale.say(1, claim(worker), Reply::Claimed { token, prev, next, victim, isolated: false });
    tale.note(0, Note::WorkStarted { event });
    tale.note(1, Note::WorkStarted { event });
    tale.note(0, Note::WorkStarted { event });
    assert_eq!(tale.broken(), [""; 0]);
    assert_eq!(tale.verdict().of(Property::W6).exercised, 0);
    tale.note(1, Note::WorkStarted { event });
    assert_eq!(tale.broken(), ["W6"], "b has no excuse");
}

#[test]
fn w6_a_loss_excuses_nobody_who_claims_after_it() {
    let (mut tale, _, event) = bereft();
    let worker = tale.register(0);
    tale.claim(0, worker, 1, 2);
    tale.note(0, Note::WorkStarted { event });
    assert_eq!(tale.broken(), [""; 0]);
    tale.note(0, Note::WorkStarted { event });
    assert_eq!(tale.broken(), ["W6"]);
}
