//! Rounds and their pages, and what cannot be delivered, by hand.

use super::*;

#[test]
fn equal_due_times_are_told_apart_by_id_across_pages() {
    let mut stage = Stage::new(&[]);
    let slot = stage.session();
    let timers: Vec<u32> = (0..6).map(|_| stage.schedule(slot, 1)).collect();
    stage.pass(1);
    stage.tick(slot);
    assert_eq!(stage.drain(slot, 2), (timers[..2].to_vec(), false));
    assert_eq!(stage.drain(slot, 2), (timers[2..4].to_vec(), false));
    assert_eq!(stage.drain(slot, 2), (timers[4..].to_vec(), false));
    assert_eq!(stage.drain(slot, 2), (vec![], true), "a full page does not tell that it is the last");
    assert_eq!(stage.call(slot, drain(2)), Reply::Idle);
}

#[test]
fn nobody_enters_a_round_behind_its_position() {
    let mut stage = Stage::new(&[]);
    let (slot, other) = (stage.session(), stage.session());
    stage.call(other, BEGIN);
    let late = stage.schedule(other, 1);
    let first = stage.schedule(slot, 2);
    let second = stage.schedule(slot, 2);
    stage.pass(2);
    stage.tick(slot);
    assert_eq!(stage.drain(slot, 1), (vec![first], false));
    stage.call(other, Op::Commit);
    stage.tick(slot);
    assert_eq!(stage.drain(slot, 1), (vec![second], false));
    assert_eq!(stage.drain(slot, 1), (vec![], true));
    assert_eq!(stage.drain(slot, 2), (vec![late], true));
}

#[test]
fn late_ones_go_through_pages_as_others_do() {
    let mut stage = Stage::new(&[]);
    let (slot, other) = (stage.session(), stage.session());
    stage.call(other, BEGIN);
    let mut timers: Vec<u32> = (0..3).map(|_| stage.schedule(other, 1)).collect();
    stage.pass(1);
    stage.tick(slot);
    assert_eq!(stage.drain(slot, 10), (vec![], true));
    timers.push(stage.schedule(slot, 1));
    stage.call(other, Op::Commit);
    stage.pass(1);
    stage.tick(slot);
    assert_eq!(stage.drain(slot, 2), (timers[..2].to_vec(), false));
    assert_eq!(stage.drain(slot, 2), (timers[2..].to_vec(), false));
    assert_eq!(stage.drain(slot, 2), (vec![], true));
}

#[test]
fn while_the_clock_is_before_a_tick_nothing_is_delivered() {
    let mut stage = Stage::new(&[]);
    let slot = stage.session();
    let timers = [stage.schedule(slot, 2), stage.schedule(slot, 2)];
    stage.pass(3);
    stage.tick(slot);
    stage.now = stage.now - Micros::from_secs(2);
    assert_eq!(stage.call(slot, drain(1)), Reply::Idle, "no round opens");
    stage.pass(2);
    assert_eq!(stage.drain(slot, 1), (vec![timers[0]], false));
    stage.now = stage.now - Micros::from_secs(2);
    assert_eq!(stage.call(slot, drain(1)), Reply::Idle, "the open one waits");
    stage.pass(2);
    assert_eq!(stage.drain(slot, 2), (vec![timers[1]], true));
}

#[test]
fn a_timer_that_cannot_be_delivered_is_a_dead_letter_and_keeps_nobody() {
    let mut stage = Stage::new(&[]);
    let slot = stage.session();
    let timers = [1, FORBIDDEN_STATE, 3].map(|state| stage.schedule_state(slot, 1, state));
    stage.pass(1);
    stage.tick(slot);
    let reply = stage.call(slot, drain(10));
    let Reply::Drained { fired, dead, is_done, .. } = reply else { panic!("{reply:?}") };
    assert_eq!((fired, dead, is_done), (vec![timers[0], timers[2]], vec![timers[1]], true));
    let state = stage.state();
    assert_eq!(state.events.iter().map(|row| row.event.id.0).collect::<Vec<_>>(), [timers[0], timers[2]]);
    assert!(stage.engine.is_drained());
    let mut stage = Stage::new(&[Guard::DrainPoison]);
    let slot = stage.session();
    stage.schedule_state(slot, 1, FORBIDDEN_STATE);
    stage.pass(1);
    stage.tick(slot);
    for _ in 0..2 {
        assert_eq!(stage.call(slot, drain(10)), Reply::Refused(Refusal::CheckViolation));
    }
}

#[test]
fn what_is_done_after_a_failed_page_is_of_one_transaction() {
    let mut stage = Stage::new(&[]);
    let (slot, other) = (stage.session(), stage.session());
    let timers = [1, FORBIDDEN_STATE].map(|state| stage.schedule_state(slot, 1, state));
    stage.pass(1);
    stage.tick(slot);
    let before = stage.state();
    stage.call(slot, BEGIN);
    stage.call(slot, Op::Savepoint { level: 1 });
    assert_eq!(stage.drain(slot, 10), (vec![timers[0]], true));
    assert_eq!(stage.state(), before, "nobody sees it before it commits");
    assert_eq!(stage.try_call(other, drain(10)), None);
    stage.call(slot, Op::RollbackTo { level: 1 });
    let reply = stage.resume(other);
    assert!(matches!(reply, Reply::Drained { is_done: true, .. }), "{reply:?}");
    stage.call(slot, Op::Commit);
    assert_eq!(stage.state().events.len(), 1);
}

#[test]
fn a_drain_waits_for_the_event_table_inside_its_block() {
    let mut stage = Stage::new(&[]);
    let (slot, other) = (stage.session(), stage.session());
    let timer = stage.schedule(slot, 1);
    stage.pass(1);
    stage.tick(slot);
    stage.call(other, BEGIN);
    stage.call(other, Op::LockTable { queue: PLAIN, table: 0, mode: TableLock::AccessExclusive });
    assert_eq!(stage.try_call(slot, drain(10)), None);
    stage.call(other, Op::Commit);
    let reply = stage.resume(slot);
    assert!(matches!(reply, Reply::Drained { ref fired, .. } if *fired == [timer]), "{reply:?}");
}
