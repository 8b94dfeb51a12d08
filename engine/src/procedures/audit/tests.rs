//! What the audit keeps, and for how long.

use crate::procedures::flows::{BEGIN, Flows, QUEUE, REPEATABLE, answer, refused};
use alloc::vec::Vec;
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::Micros;
use tourbillon_models::op::Op;
use tourbillon_models::reply::{EmitAnswer, Refusal, Reply};
use tourbillon_models::state::Act;

/// Keeps lines for 10 seconds.
const ROTATE: PlainOp = Op::RotateAudit { keep: Micros::from_secs(10), lock_timeout: Micros::from_secs(1) };

/// The table of each line, and when it was written, in seconds.
fn lines(flows: &Flows) -> Vec<(u8, u64)> {
    flows.state().audit.iter().map(|row| (row.table, row.at.0 / 1_000_000)).collect()
}

#[test]
fn a_line_is_kept_until_it_is_old_enough_and_goes_with_its_table() {
    let mut flows = Flows::new(&[]);
    let slot = flows.session();
    let workflow = flows.start(slot);
    flows.emit(slot, workflow, 40);
    assert_eq!(flows.call(slot, ROTATE), Reply::AuditRotated { table: 1 });
    flows.pass(9);
    flows.emit(slot, workflow, 41);
    assert_eq!(lines(&flows), [(0, 100), (1, 109)]);
    assert_eq!(flows.call(slot, ROTATE), Reply::AuditKept);
    flows.pass(1);
    assert_eq!(flows.call(slot, ROTATE), Reply::AuditRotated { table: 0 });
    assert_eq!(lines(&flows), [(1, 109)]);
    assert_eq!(flows.state().audit[0].act, Act::Emit(EmitAnswer::Second));
    flows.pass(8);
    assert_eq!(flows.call(slot, ROTATE), Reply::AuditKept);
    flows.pass(1);
    assert_eq!(flows.call(slot, ROTATE), Reply::AuditRotated { table: 1 });
    assert!(lines(&flows).is_empty());
}

/// 1. A client at REPEATABLE READ sees the old pointer, and writes into what is now the older table.
/// 2. A rotation looks, sees nothing of that, and waits for the table.
/// 3. The client commits.
#[test]
fn a_line_that_comes_while_the_lock_is_waited_for_is_seen() {
    let mut flows = Flows::new(&[]);
    let (client, duty) = (flows.session(), flows.session());
    let workflow = flows.start(client);
    flows.call(client, REPEATABLE);
    flows.call(client, Op::Observe { queue: QUEUE });
    assert_eq!(flows.call(duty, ROTATE), Reply::AuditRotated { table: 1 });
    assert_eq!(flows.emit(client, workflow, 40), EmitAnswer::Promised);
    assert_eq!(flows.try_call(duty, ROTATE), None);
    flows.call(client, Op::Commit);
    assert_eq!(flows.resume(duty), Reply::AuditKept);
    assert_eq!(lines(&flows), [(0, 100)]);
}

#[test]
fn a_rotation_that_is_rolled_back_has_taken_nothing() {
    let mut flows = Flows::new(&[]);
    let (client, duty) = (flows.session(), flows.session());
    let workflow = flows.start(client);
    flows.emit(client, workflow, 40);
    assert_eq!(flows.call(duty, ROTATE), Reply::AuditRotated { table: 1 });
    flows.pass(11);
    flows.call(duty, BEGIN);
    assert_eq!(flows.call(duty, ROTATE), Reply::AuditRotated { table: 0 });
    // The pointer that others see is the old one: whoever writes does not wait.
    let emit = flows.emit_op(workflow, 41, 0);
    assert_eq!(answer(flows.call(client, emit)), EmitAnswer::Second);
    flows.call(duty, Op::Rollback);
    assert_eq!(lines(&flows), [(0, 100), (1, 111)]);
    flows.call(duty, REPEATABLE);
    assert_eq!(refused(flows.call(duty, ROTATE)), Some(Refusal::IsolationLevel));
}
