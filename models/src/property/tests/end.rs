//! L1, L2, and what is left at the end.

use super::sound::two_chains;
use super::tale::Tale;
use crate::name::{Tick, Token, WorkflowId};
use crate::property::Property;
use crate::state::EventRow;
use crate::verdict::Judgement;

fn stuck() -> Tale {
    let mut tale = Tale::workflows();
    let worker = tale.register(0);
    let event = tale.start(7);
    tale.tick();
    let token = tale.claim(0, worker, 1, 2);
    tale.read(0, (worker, token), &[event]);
    tale
}

#[test]
fn l1_and_l2_a_window_stays_with_a_worker_that_is_silent() {
    let mut tale = stuck();
    tale.end(200);
    assert_eq!(tale.broken(), ["L1", "L2"]);
    assert_eq!(
        tale.sentence(Property::L1),
        "w7 is not done at 200.000 s, 100.000 s after the last fault: e1, seen since k2, is not acknowledged: \
         lease-1 has held its window since 0.000 s"
    );
    assert_eq!(
        tale.sentence(Property::L2),
        "lease-1 still holds the window (k1,k2] at 200.000 s, claimed at 0.000 s, and was silent since 0.000 s"
    );
}

#[test]
fn l1_an_end_that_comes_early_says_nothing() {
    let mut tale = stuck();
    tale.end(120);
    assert_eq!(tale.broken(), [""; 0]);
    assert_eq!(tale.judged(Property::L1), Judgement::Unknown);
}

#[test]
fn l1_an_event_that_no_tick_sees() {
    let mut tale = Tale::messages();
    tale.append(1, 1);
    tale.end(200);
    assert_eq!(tale.broken(), ["L1"]);
    assert_eq!(
        tale.sentence(Property::L1),
        "a message is not done at 200.000 s, 100.000 s after the last fault: e1 is seen by no tick"
    );
}

#[test]
fn q1_the_row_of_an_event_that_is_waited_for_is_gone() {
    let mut tale = stuck();
    tale.state.events.clear();
    tale.end(120);
    assert_eq!(tale.broken(), ["Q1"]);
    assert_eq!(
        tale.sentence(Property::Q1),
        "e1, appended at 0.000 s, is not finished, and its row is gone from q0 at the end"
    );
}

#[test]
fn d2_a_row_that_nobody_appended() {
    let mut tale = two_chains();
    let mut event = *tale.event(crate::name::EventId(1));
    event.id.0 = 99;
    let row = EventRow { queue: super::tale::Q, table: 1, event };
    tale.history.state.as_mut().expect("an end").events.push(row);
    assert_eq!(tale.broken(), ["D2"]);
}

#[test]
fn w1_and_w8_rows_of_workflows() {
    let mut tale = stuck();
    tale.state.workflows.clear();
    tale.end(120);
    assert_eq!(tale.broken(), ["W1"]);
    assert_eq!(tale.sentence(Property::W1), "w7 has not ended, and has no row at the end");

    let mut tale = two_chains();
    let row = crate::state::WorkflowRow {
        workflow: WorkflowId(51),
        queue: super::tale::Q,
        key: Some(crate::name::Key(1)),
        parent: None,
    };
    tale.history.state.as_mut().expect("an end").workflows.push(row);
    assert_eq!(tale.broken(), ["W8"]);
    assert_eq!(tale.sentence(Property::W8), "w1 has ended, and has a row of a live workflow at the end");
}

#[test]
fn w9_a_key_that_is_not_kept() {
    let mut tale = two_chains();
    tale.history.state.as_mut().expect("an end").start_keys.remove(0);
    assert_eq!(tale.broken(), ["W9"]);
    assert_eq!(
        tale.sentence(Property::W9),
        "w1 of q0 was started as f51 at 0.000 s, and its key is not kept: it could be started again"
    );
}

#[test]
fn q8_two_rows_hold_one_window() {
    let mut tale = stuck();
    for worker in [1, 2] {
        tale.state.workers.push(crate::state::WorkerRow {
            worker: crate::name::WorkerId(worker),
            consumer: super::tale::C,
            window: Some((Token(1 << 40), Tick(1), Tick(2))),
            heartbeat: crate::name::Micros(0),
            crashes: 0,
        });
    }
    tale.end(120);
    assert_eq!(tale.broken(), ["Q8"]);
    assert_eq!(
        tale.sentence(Property::Q8),
        "at the end two workers of c0 hold overlapping windows: lease-1 (k1,k2] and lease-2 (k1,k2]"
    );
}
