//! The server's clock is set, forward and back: what goes by it is judged by it.

use super::flaky::NAP;
use super::opening::two_workers;
use super::sound::assert_holds;
use super::tale::Tale;
use crate::name::{EventId, Micros, Token, WorkerId};
use crate::op::Op;
use crate::property::server_clock::ServerClock;
use crate::property::{Property, Reach};
use crate::record::{ClockOffset, Fault};
use crate::reply::Reply;

const fn millis(millis: u64) -> Micros {
    Micros::from_millis(millis)
}

fn set(tale: &mut Tale, ahead: u64, behind: u64) {
    tale.fault(2, Fault::ClockStep(ClockOffset { ahead: millis(ahead), behind: millis(behind) }));
}

#[test]
fn what_it_shows_while_a_call_runs() {
    let (mut tale, mut clock) = (Tale::messages(), ServerClock::default());
    tale.wait(5_000).append(0, 1);
    let first = tale.history.records.len() as u32 - 1;
    set(tale.wait(1_000), 2_000, 0);
    set(tale.wait(1_000), 0, 3_000);
    tale.wait(1_000).append(0, 2);
    let last = tale.history.records.len() as u32 - 1;
    clock.read(&tale.history);
    let shown = [first, first + 1, first + 2, last].map(|record| clock.at(&tale.history, record));
    assert_eq!(shown, [5_000, 8_000, 4_000, 5_000].map(millis));
    assert_eq!(clock.earliest(&tale.history, first, last), millis(4_000), "right after it was set back");
    assert_eq!(clock.latest(&tale.history, first, last), millis(9_000), "right before it was set back");
    assert_eq!(clock.earliest(&tale.history, first, first + 1), millis(5_000));
    assert_eq!(clock.latest(&tale.history, first, first), millis(5_000));
    assert_eq!(clock.latest(&tale.history, first, u32::MAX), Micros(u64::MAX), "nobody knows when it was over");
}

/// lease-1 (process a) holds (1,2], claimed at 0 s; lease-2 (process b) has nothing.
fn leased() -> (Tale, (WorkerId, Token), WorkerId) {
    let (tale, lease, other, _) = two_workers();
    (tale, lease, other)
}

#[test]
fn q10_a_clock_that_was_set_forward_makes_no_takeover_early() {
    let (mut tale, lease, thief) = leased();
    set(tale.wait(8_000), 2_000, 0);
    tale.take_over(1, thief, 1, 2, lease.0);
    assert_eq!(tale.broken(), [""; 0]);
    assert_eq!(tale.verdict().reach(Reach::ServerClockStep), 1);
}

#[test]
fn q10_a_takeover_that_is_late_by_the_records_and_early_by_the_server() {
    let (mut tale, lease, thief) = leased();
    set(tale.wait(8_000), 0, 1_000);
    tale.wait(2_500).take_over(1, thief, 1, 2, lease.0);
    assert_eq!(tale.broken(), ["Q10"]);
    assert_eq!(
        tale.sentence(Property::Q10),
        "b took the window of lease-1 over at 9.500 s, although lease-1 had shown itself at 0.000 s, 9.500 s earlier, \
         and the dead interval is 10.000 s"
    );
}

#[test]
fn q10_the_last_sign_of_life_counts_also_if_it_shows_an_earlier_time() {
    let (mut tale, lease, thief) = leased();
    let beat = Op::Heartbeat { worker: lease.0, token: lease.1, at: Micros(0) };
    tale.wait(8_000).say(0, beat.clone(), Reply::Done);
    set(&mut tale, 0, 5_000);
    tale.say(0, beat, Reply::Done);
    tale.wait(10_000).take_over(1, thief, 1, 2, lease.0);
    assert_eq!(tale.broken(), [""; 0], "its lease says 3 s, and it is 13 s");
}

/// w10 sleeps from 0 s to 2 s, as the event that is given back.
fn asleep() -> (Tale, EventId) {
    let mut tale = Tale::flaky();
    let worker = tale.register(0);
    let event = tale.start(10 + NAP);
    let lease = tale.window(0, worker, 1, &[event]);
    let timer = tale.handoff(0, lease, &[event])[0];
    (tale, timer)
}

fn fire(tale: &mut Tale, timer: EventId) {
    let tick = tale.tick();
    tale.drain(tick, &[timer], true);
}

#[test]
fn t1_a_clock_that_was_set_forward_makes_no_timer_early() {
    let (mut tale, timer) = asleep();
    set(tale.wait(500), 1_500, 0);
    fire(&mut tale, timer);
    assert_holds(&tale);
}

#[test]
fn t1_a_timer_that_is_late_by_the_records_and_early_by_the_server() {
    let (mut tale, timer) = asleep();
    set(tale.wait(500), 0, 500);
    tale.wait(1_600);
    fire(&mut tale, timer);
    assert_eq!(tale.broken(), ["T1"]);
    let sentence = "e2, scheduled at 0.000 s, fired at 1.600 s, and was not due before 2.000 s";
    assert_eq!(tale.sentence(Property::T1), sentence);
}
