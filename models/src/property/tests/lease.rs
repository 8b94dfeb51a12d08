//! Q8, Q9, Q10, D5: tokens.

use super::opening::two_workers;
use super::tale::{DEAD, claim};
use crate::name::{EventId, Micros, Tick, Token, WorkerId};
use crate::op::Op;
use crate::property::Property;
use crate::record::Note;
use crate::reply::{Refusal, Reply};

#[test]
fn q8_a_dead_token_is_accepted() {
    let (mut tale, lease, thief, _) = two_workers();
    tale.wait(20_000);
    tale.take_over(1, thief, 1, 2, lease.0);
    tale.wait(1_000);
    tale.say(0, Op::Heartbeat { worker: lease.0, token: lease.1, at: Micros(0) }, Reply::Done);
    assert_eq!(tale.broken(), ["Q8"]);
    assert_eq!(
        tale.sentence(Property::Q8),
        "a call of a as lease-1 under token t000001 was accepted at 21.000 s, although lease-2 had taken its window \
         over at 20.000 s"
    );
}

#[test]
fn q8_a_token_that_was_never_committed() {
    let (mut tale, lease, other, _) = two_workers();
    tale.begin(1);
    tale.append(2, 2);
    tale.tick();
    let token = tale.claim(1, other, 2, 3);
    tale.rollback(1);
    tale.say(1, Op::Heartbeat { worker: other, token, at: Micros(0) }, Reply::Done);
    assert_eq!(tale.broken(), ["Q8"]);
    assert_eq!(lease.1, Token(1 << 40));
}

#[test]
fn q8_a_window_is_taken_over_twice_from_one_victim() {
    let (mut tale, lease, thief, _) = two_workers();
    let other = tale.register(2);
    tale.wait(20_000);
    tale.take_over(1, thief, 1, 2, lease.0);
    tale.wait(1_000);
    tale.take_over_isolated(2, other, 1, 2, lease.0);
    assert_eq!(tale.broken(), ["Q8"]);
    assert_eq!(
        tale.sentence(Property::Q8),
        "lease-3 took the window (k1,k2] over from lease-1 at 21.000 s, but lease-2 had taken it over at 20.000 s"
    );
}

#[test]
fn q9_a_zombies_handoff_commits() {
    let (mut tale, lease, thief, event) = two_workers();
    tale.wait(20_000);
    tale.take_over(1, thief, 1, 2, lease.0);
    tale.wait(1_000);
    tale.handoff(0, lease, &[event]);
    assert_eq!(tale.broken(), ["Q9"]);
    assert_eq!(
        tale.sentence(Property::Q9),
        "a handoff of a as lease-1 under token t000001 committed at 21.000 s, although lease-2 had taken its window \
         over at 20.000 s"
    );
}

#[test]
fn q9_a_window_is_handed_off_twice() {
    let (mut tale, lease, _, event) = two_workers();
    tale.handoff(0, lease, &[event]);
    tale.wait(1_000);
    tale.handoff(0, lease, &[]);
    assert_eq!(tale.broken(), ["Q9"]);
}

#[test]
fn q10_a_takeover_that_comes_early() {
    let (mut tale, lease, thief, _) = two_workers();
    tale.wait(8_000);
    tale.say(0, Op::Heartbeat { worker: lease.0, token: lease.1, at: Micros(0) }, Reply::Done);
    tale.wait(9_999);
    tale.take_over(1, thief, 1, 2, lease.0);
    assert_eq!(tale.broken(), ["Q10"]);
    assert_eq!(
        tale.sentence(Property::Q10),
        "b took the window of lease-1 over at 17.999 s, although lease-1 had shown itself at 8.000 s, 9.999 s earlier, \
         and the dead interval is 10.000 s"
    );
}

#[test]
fn q10_an_answer_that_is_heard_late_proves_nothing() {
    let (mut tale, lease, thief, event) = two_workers();
    tale.begin(0);
    tale.hold(0, lease);
    let (worker, token) = lease;
    tale.call(0, Op::Read { worker, token, after: EventId(0), limit: 9 });
    tale.wait(20_000);
    tale.take_over(1, thief, 1, 2, lease.0);
    tale.wait(1_000);
    let read = *tale.event(event);
    tale.answer(0, Reply::Events(alloc::vec![read]));
    assert_eq!(tale.broken(), [""; 0], "it was given before the server ended the session, perhaps");
    tale.rollback(0);
    assert_eq!(tale.broken(), ["Q10"]);
}

#[test]
fn q10_a_takeover_from_an_open_transaction() {
    let (mut tale, lease, thief, _) = two_workers();
    tale.begin(0);
    tale.hold(0, lease);
    tale.wait(20_000);
    tale.take_over(1, thief, 1, 2, lease.0);
    assert_eq!(tale.broken(), [""; 0], "the server may have ended the session");
    tale.wait(1_000);
    tale.rollback(0);
    assert_eq!(tale.broken(), ["Q10"]);
    assert_eq!(
        tale.sentence(Property::Q10),
        "b took the window of lease-1 over at 20.000 s, although a transaction of lease-1 held it since 0.000 s and was \
         still open at 21.000 s"
    );
}

#[test]
fn q10_a_hold_that_was_undone_holds_nothing() {
    let (mut tale, lease, thief, _) = two_workers();
    tale.begin(0);
    tale.say(0, Op::Savepoint { level: 1 }, Reply::Done);
    tale.hold(0, lease);
    tale.say(0, Op::RollbackTo { level: 1 }, Reply::Done);
    tale.wait(20_000);
    tale.take_over(1, thief, 1, 2, lease.0);
    tale.rollback(0);
    assert_eq!(tale.broken(), [""; 0]);
}

#[test]
fn d5_a_token_is_given_out_again() {
    let (mut tale, lease, thief, _) = two_workers();
    tale.wait(20_000);
    let reply = Reply::Claimed { token: lease.1, prev: Tick(1), next: Tick(2), victim: lease.0, isolated: false };
    tale.say(1, claim(thief), reply);
    assert_eq!(tale.broken(), ["D5"]);
    let sentence = "token t000001, given out at 0.000 s, was given out again at 20.000 s";
    assert_eq!(tale.sentence(Property::D5), sentence);
}

#[test]
fn w6_work_is_repeated_without_a_reason() {
    let (mut tale, lease, _, event) = two_workers();
    tale.note(0, Note::WorkStarted { event });
    tale.note(0, Note::WorkEnded { event, version: 0 });
    tale.wait(1_000);
    tale.note(0, Note::WorkStarted { event });
    assert_eq!(tale.broken(), ["W6"]);
    assert_eq!(
        tale.sentence(Property::W6),
        "external work of a message (e1) was started for the second time at 1.000 s, and 0 failures of those who held \
         it explain 1 at most"
    );
    assert_eq!((lease.0, DEAD), (WorkerId(1), Micros(10_000_000)));
}

#[test]
fn w6_one_failure_is_one_excuse_however_often_it_is_told() {
    let (mut tale, lease, thief, event) = two_workers();
    tale.note(0, Note::WorkStarted { event });
    tale.begin(0);
    tale.hold(0, lease);
    tale.crash(0);
    tale.wait(20_000);
    tale.take_over(1, thief, 1, 2, lease.0);
    tale.note(1, Note::WorkStarted { event });
    assert_eq!(tale.broken(), [""; 0]);
    tale.note(1, Note::WorkStarted { event });
    assert_eq!(tale.broken(), ["W6"]);
}

#[test]
fn w6_a_victim_that_failed_before_may_be_alive_and_repeat_too() {
    let (mut tale, lease, thief, event) = two_workers();
    tale.note(0, Note::WorkStarted { event });
    tale.refuse(0, Op::Hold { worker: lease.0, token: lease.1, at: Micros(0) }, Refusal::LockNotAvailable);
    tale.wait(20_000);
    tale.take_over(1, thief, 1, 2, lease.0);
    tale.note(0, Note::WorkStarted { event });
    tale.note(1, Note::WorkStarted { event });
    assert_eq!(tale.broken(), [""; 0]);
    tale.note(1, Note::WorkStarted { event });
    assert_eq!(tale.broken(), ["W6"]);
}

/// The victim has gone on before the thief hears of the window that was its own.
#[test]
fn a_thief_may_hear_of_it_late() {
    let (mut tale, lease, thief, event) = two_workers();
    tale.append(2, 2);
    tale.tick();
    tale.wait(20_000);
    let token = tale.mint_token();
    tale.call(1, claim(thief));
    let own = tale.claim(0, lease.0, 2, 3);
    tale.say(0, Op::Heartbeat { worker: lease.0, token: own, at: Micros(0) }, Reply::Done);
    let (prev, next) = (Tick(1), Tick(2));
    tale.answer(1, Reply::Claimed { token, prev, next, victim: lease.0, isolated: false });
    tale.handoff(1, (thief, token), &[event]);
    assert_eq!(tale.broken(), [""; 0]);
    // The window that it had been given anew is nobody else's.
    tale.say(0, Op::Heartbeat { worker: lease.0, token: lease.1, at: Micros(0) }, Reply::Done);
    assert_eq!(tale.broken(), ["Q8"]);
}

/// Where a hand-out was lost, a poll in vain is taken for the end of its window; not for a theft of the next one.
#[test]
fn a_theft_that_is_yet_to_come_explains_nothing() {
    let (mut tale, lease, thief, event) = two_workers();
    let third = tale.register(2);
    tale.lose(2, Op::HandOut { worker: third, token: Token(9), max_tries: 3 }, None);
    tale.append(2, 2);
    tale.tick();
    tale.call(1, claim(thief));
    tale.handoff(0, lease, &[event]);
    tale.say(0, claim(lease.0), Reply::Idle);
    let own = tale.claim(0, lease.0, 2, 3);
    tale.say(0, Op::Heartbeat { worker: lease.0, token: own, at: Micros(0) }, Reply::Done);
    tale.wait(20_000);
    let token = tale.mint_token();
    let (prev, next) = (Tick(2), Tick(3));
    tale.answer(1, Reply::Claimed { token, prev, next, victim: lease.0, isolated: false });
    assert_eq!(tale.broken(), [""; 0]);
}
