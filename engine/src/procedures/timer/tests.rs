//! Timers on the engine as a whole: the subtle parts told by hand, then random schedules.

mod drain;
mod random;

use crate::engine::{Engine, Environment};

use crate::guard::{Guard, Guards};
use crate::schema::FORBIDDEN_STATE;
use crate::store::executor::Progress;
use crate::store::locks::Slot;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{Consumer, EventId, Key, Micros, Queue, Step, WorkerId};
use tourbillon_models::op::{Decision, Isolation, Op, QueueKind, TableLock, Verb};
use tourbillon_models::reply::{Refusal, Reply};
use tourbillon_models::state::State;

const PLAIN: Queue = Queue(0);
const FLOWS: Queue = Queue(1);
const TICK: PlainOp = Op::Tick { queue: PLAIN };
const BEGIN: PlainOp = Op::Begin { isolation: Isolation::ReadCommitted };

struct Stage {
    engine: Engine,
    now: Micros,
    calls: u64,
}

impl Stage {
    fn new(removed: &[Guard]) -> Stage {
        let mut stage = Stage { engine: Engine::new(Guards::without(removed)), now: Micros::from_secs(100), calls: 0 };
        let slot = stage.session();
        stage.call(slot, Op::CreateQueue { queue: PLAIN, kind: QueueKind::Plain });
        stage.call(slot, Op::CreateQueue { queue: FLOWS, kind: QueueKind::Workflow });
        stage.call(slot, Op::Subscribe { queue: FLOWS, consumer: Consumer(0) });
        stage
    }

    fn session(&mut self) -> Slot {
        self.engine.connect().expect("there are enough")
    }

    /// None if it waits.
    fn try_call(&mut self, slot: Slot, op: PlainOp) -> Option<PlainReply> {
        self.calls += 1;
        let mut reply = Reply::Done;
        let progress = self.engine.call(slot, &op, Environment { now: self.now, random: self.calls }, &mut reply);
        (progress == Progress::Returned).then_some(reply)
    }

    #[track_caller]
    fn call(&mut self, slot: Slot, op: PlainOp) -> PlainReply {
        self.try_call(slot, op.clone()).unwrap_or_else(|| panic!("{op:?} waits"))
    }

    /// What a call that waited says once it is let in.
    #[track_caller]
    fn resume(&mut self, slot: Slot) -> PlainReply {
        assert_eq!(self.engine.released(), [slot]);
        let mut reply = Reply::Done;
        assert_eq!(self.engine.resume(slot, self.now, &mut reply), Progress::Returned, "it waits again");
        reply
    }

    #[track_caller]
    fn schedule(&mut self, slot: Slot, delay: u64) -> u32 {
        self.schedule_state(slot, delay, 7)
    }

    #[track_caller]
    fn schedule_state(&mut self, slot: Slot, delay: u64, payload: u64) -> u32 {
        let delay = Micros::from_secs(delay);
        match self.call(slot, Op::Schedule { queue: PLAIN, payload, delay }) {
            Reply::Scheduled { event, due, .. } => {
                assert_eq!(due, self.now + delay);
                event.0
            }
            other => panic!("{other:?}"),
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Micros::from_secs(seconds);
    }

    /// What a drain of this many fires, and whether that ends its round.
    #[track_caller]
    fn drain(&mut self, slot: Slot, limit: u32) -> (Vec<u32>, bool) {
        match self.call(slot, drain(limit)) {
            Reply::Drained { fired, is_done, .. } => (fired, is_done),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn tick(&mut self, slot: Slot) {
        let reply = self.call(slot, TICK);
        assert!(matches!(reply, Reply::Ticked { .. }), "{reply:?}");
    }

    #[track_caller]
    fn rotate(&mut self, slot: Slot) -> u32 {
        match self.call(slot, rotate()) {
            Reply::TimersRotated { moved, .. } => moved,
            other => panic!("{other:?}"),
        }
    }

    fn state(&self) -> State {
        self.engine.state()
    }
}

fn drain(limit: u32) -> PlainOp {
    Op::Drain { queue: PLAIN, limit }
}

fn rotate() -> PlainOp {
    Op::RotateTimers { queue: PLAIN, lock_timeout: Micros::from_secs(1) }
}

fn cancel(event: u32, due: Micros) -> PlainOp {
    Op::Cancel { queue: PLAIN, event: EventId(event), due }
}

#[test]
fn a_timer_fires_under_its_own_id_once_its_time_has_come_and_a_tick_says_so() {
    let mut stage = Stage::new(&[]);
    let slot = stage.session();
    let timer = stage.schedule(slot, 5);
    stage.tick(slot);
    assert_eq!(stage.drain(slot, 10), (vec![], true));
    assert_eq!(stage.call(slot, TICK), Reply::Idle, "not due yet");
    assert!(!stage.engine.is_drained());
    stage.pass(5);
    assert_eq!(stage.call(slot, drain(10)), Reply::Idle, "no tick says so");
    stage.tick(slot);
    assert_eq!(stage.drain(slot, 10), (vec![timer], true));
    assert!(stage.engine.is_drained());
    let state = stage.state();
    assert_eq!(state.events.iter().map(|row| (row.event.id.0, row.event.state)).collect::<Vec<_>>(), [(timer, 7)]);
    assert_eq!(state.timers.len(), 1, "firing deletes nothing");
    stage.tick(slot);
    assert_eq!(stage.call(slot, TICK), Reply::Idle);
    assert_eq!(stage.drain(slot, 10), (vec![], true));
    assert_eq!(stage.call(slot, drain(10)), Reply::Idle);
}

#[test]
fn a_timer_that_commits_after_its_time_is_late_and_not_lost() {
    let mut stage = Stage::new(&[]);
    let (slot, other) = (stage.session(), stage.session());
    stage.call(other, BEGIN);
    let late = stage.schedule(other, 1);
    stage.pass(2);
    stage.tick(slot);
    assert_eq!(stage.drain(slot, 10), (vec![], true));
    assert_eq!(stage.call(slot, TICK), Reply::Idle);
    stage.call(other, Op::Commit);
    stage.tick(slot);
    assert_eq!(stage.drain(slot, 10), (vec![late], true));
}

#[test]
fn what_was_rolled_back_or_taken_back_never_fires() {
    let mut stage = Stage::new(&[]);
    let slot = stage.session();
    stage.call(slot, BEGIN);
    let first = stage.schedule(slot, 1);
    stage.call(slot, Op::Savepoint { level: 1 });
    stage.schedule(slot, 1);
    stage.call(slot, Op::RollbackTo { level: 1 });
    stage.call(slot, Op::Commit);
    stage.call(slot, BEGIN);
    stage.schedule(slot, 1);
    stage.call(slot, Op::Rollback);
    let due = stage.now + Micros::from_secs(1);
    let last = stage.schedule(slot, 1);
    assert_eq!(stage.call(slot, cancel(last, due + Micros(1))), Reply::TooLate, "there is no such timer");
    assert_eq!(stage.call(slot, cancel(last, due)), Reply::Cancelled);
    assert_eq!(stage.call(slot, cancel(last, due)), Reply::TooLate);
    stage.pass(2);
    stage.tick(slot);
    assert_eq!(stage.drain(slot, 10), (vec![first], true));
    assert_eq!(stage.call(slot, cancel(first, due)), Reply::TooLate);
}

#[test]
fn a_cancel_that_is_rolled_back_leaves_the_timer() {
    let mut stage = Stage::new(&[]);
    let slot = stage.session();
    let due = stage.now + Micros::from_secs(1);
    let timer = stage.schedule(slot, 1);
    stage.call(slot, BEGIN);
    assert_eq!(stage.call(slot, cancel(timer, due)), Reply::Cancelled);
    stage.call(slot, Op::Rollback);
    stage.pass(1);
    stage.tick(slot);
    assert_eq!(stage.drain(slot, 10), (vec![timer], true));
}

#[test]
fn a_rotation_in_the_middle_of_a_round_changes_nothing() {
    let mut stage = Stage::new(&[]);
    let slot = stage.session();
    let timers: Vec<u32> = (0..4).map(|_| stage.schedule(slot, 1)).collect();
    let far = stage.schedule(slot, 50);
    stage.pass(1);
    stage.tick(slot);
    assert_eq!(stage.drain(slot, 3), (timers[..3].to_vec(), false));
    assert_eq!(stage.rotate(slot), 0, "the other table was empty, and is current now");
    let before: Vec<_> = stage.state().timers.iter().map(|row| (row.due, row.event)).collect();
    assert_eq!(stage.rotate(slot), 2, "one of the round, one that is not due");
    let state = stage.state();
    assert_eq!(state.timers.iter().map(|row| (row.due, row.event)).collect::<Vec<_>>(), before[3..]);
    assert_eq!(state.timers[0].table, 1);
    assert_eq!(stage.drain(slot, 3), (timers[3..].to_vec(), true));
    stage.pass(50);
    stage.tick(slot);
    assert_eq!(stage.drain(slot, 3), (vec![far], true));
}

#[test]
fn a_rotation_that_is_rolled_back_leaves_the_timers_where_they_were() {
    let mut stage = Stage::new(&[]);
    let slot = stage.session();
    let timers = [stage.schedule(slot, 1), stage.schedule(slot, 5)];
    stage.pass(1);
    stage.tick(slot);
    assert_eq!(stage.drain(slot, 10), (timers[..1].to_vec(), true));
    stage.rotate(slot);
    let before = stage.state().timers;
    stage.call(slot, BEGIN);
    assert_eq!(stage.rotate(slot), 1);
    stage.call(slot, Op::Rollback);
    assert_eq!(stage.state().timers, before);
    stage.pass(4);
    stage.tick(slot);
    assert_eq!(stage.drain(slot, 10), (timers[1..].to_vec(), true));
}

#[test]
fn one_transaction_may_cancel_and_then_truncate_and_schedule() {
    let mut stage = Stage::new(&[]);
    let slot = stage.session();
    let due = stage.now + Micros::from_secs(1);
    let timer = stage.schedule(slot, 1);
    stage.rotate(slot);
    stage.call(slot, BEGIN);
    assert_eq!(stage.call(slot, cancel(timer, due)), Reply::Cancelled);
    assert_eq!(stage.rotate(slot), 0);
    let other = stage.schedule(slot, 1);
    stage.call(slot, Op::Commit);
    assert_eq!(stage.state().timers.iter().map(|row| row.event.id.0).collect::<Vec<_>>(), [other]);
    stage.pass(1);
    stage.tick(slot);
    assert_eq!(stage.drain(slot, 10), (vec![other], true));
}

#[test]
fn a_table_that_is_mostly_pending_is_kept() {
    let mut stage = Stage::new(&[]);
    let slot = stage.session();
    stage.schedule(slot, 1);
    stage.schedule(slot, 50);
    stage.schedule(slot, 50);
    stage.pass(1);
    stage.tick(slot);
    stage.drain(slot, 10);
    stage.rotate(slot);
    assert_eq!(stage.call(slot, rotate()), Reply::TimersKept);
}

#[test]
fn a_timer_of_next_year_keeps_neither_what_is_delivered_nor_what_is_cancelled() {
    let mut stage = Stage::new(&[]);
    let slot = stage.session();
    stage.schedule(slot, 31_536_000);
    stage.rotate(slot);
    assert_eq!(stage.call(slot, rotate()), Reply::TimersKept, "the older table holds what is not due");
    let taken_back = stage.schedule(slot, 3600);
    assert_eq!(stage.call(slot, rotate()), Reply::TimersKept);
    assert_eq!(stage.call(slot, cancel(taken_back, stage.now + Micros::from_secs(3600))), Reply::Cancelled);
    assert_eq!(stage.rotate(slot), 1, "one is over, and one must be moved");
    assert_eq!(stage.rotate(slot), 1, "it still lies in the table that is truncated now");
    assert_eq!(stage.call(slot, rotate()), Reply::TimersKept, "and counts no more");

    let delivered = stage.schedule(slot, 1);
    stage.pass(1);
    stage.tick(slot);
    assert_eq!(stage.drain(slot, 10), (vec![delivered], true));
    assert_eq!((stage.rotate(slot), stage.rotate(slot)), (1, 1));
    assert_eq!(stage.state().timers.len(), 1);
    assert_eq!(stage.call(slot, rotate()), Reply::TimersKept);
}

#[test]
fn a_cancel_that_is_rolled_back_counts_for_no_rotation() {
    let mut stage = Stage::new(&[]);
    let slot = stage.session();
    let due = stage.now + Micros::from_secs(50);
    stage.schedule(slot, 60);
    let timer = stage.schedule(slot, 50);
    stage.rotate(slot);
    stage.call(slot, BEGIN);
    assert_eq!(stage.call(slot, cancel(timer, due)), Reply::Cancelled);
    stage.call(slot, Op::Rollback);
    assert_eq!(stage.call(slot, rotate()), Reply::TimersKept);
    assert_eq!(stage.call(slot, cancel(timer, due)), Reply::Cancelled);
    assert_eq!(stage.rotate(slot), 1);
}

#[test]
fn who_believes_a_rotated_table_to_be_current_is_found_all_the_same() {
    let mut stage = Stage::new(&[]);
    let (slot, other) = (stage.session(), stage.session());
    stage.call(other, Op::Begin { isolation: Isolation::RepeatableRead });
    stage.call(other, Op::Peek { queue: PLAIN, table: 0 });
    stage.rotate(slot);
    let timer = stage.schedule(other, 1);
    assert_eq!(stage.try_call(slot, rotate()), None, "table 0 looked empty, and is in use");
    stage.call(other, Op::Commit);
    assert_eq!(stage.resume(slot), Reply::TimersRotated { table: 0, moved: 1 });
    stage.pass(1);
    stage.tick(slot);
    assert_eq!(stage.drain(slot, 10), (vec![timer], true));
}

#[test]
fn a_cancel_waits_for_a_drain_and_then_comes_too_late() {
    let mut stage = Stage::new(&[]);
    let (slot, other) = (stage.session(), stage.session());
    let due = stage.now + Micros::from_secs(1);
    let timer = stage.schedule(slot, 1);
    stage.pass(1);
    stage.tick(slot);
    stage.call(slot, BEGIN);
    assert_eq!(stage.drain(slot, 1), (vec![timer], false));
    assert_eq!(stage.try_call(other, cancel(timer, due)), None);
    stage.call(slot, Op::Commit);
    assert_eq!(stage.resume(other), Reply::TooLate);
    let mut stage = Stage::new(&[Guard::CancelLock]);
    let (slot, other) = (stage.session(), stage.session());
    let timer = stage.schedule(slot, 1);
    stage.pass(1);
    stage.tick(slot);
    stage.call(slot, BEGIN);
    assert_eq!(stage.drain(slot, 1), (vec![timer], false));
    assert_eq!(stage.call(other, cancel(timer, due)), Reply::Cancelled, "the bug");
}

#[test]
fn a_sleeping_workflow_wakes_as_what_it_was() {
    for removed in [&[][..], &[Guard::TimerKeepsFields]] {
        let mut stage = Stage::new(removed);
        let slot = stage.session();
        stage.call(slot, Op::Register { consumer: Consumer(0) });
        let reply = stage.call(slot, Op::Start { queue: FLOWS, key: Key(1), step: Step(0), state: 1 });
        let Reply::Started { workflow, event, .. } = reply else { panic!("{reply:?}") };
        stage.call(slot, Op::Tick { queue: FLOWS });
        let claim = Op::Claim { worker: WorkerId(1), dead_interval: Micros::from_secs(9), at: Micros(0) };
        let reply = stage.call(slot, claim);
        let Reply::Claimed { token, .. } = reply else { panic!("{reply:?}") };
        let decision = Decision {
            workflow,
            sequence: 2,
            step: Step(3),
            delay: Micros::from_secs(1),
            state: 9,
            ..Decision::new(event, Verb::Sleep)
        };
        let reply = stage.call(slot, Op::Handoff { worker: WorkerId(1), token, decisions: vec![decision] });
        let Reply::HandedOff { appended, .. } = reply else { panic!("{reply:?}") };
        stage.pass(1);
        stage.call(slot, Op::Tick { queue: FLOWS });
        let reply = stage.call(slot, Op::Drain { queue: FLOWS, limit: 10 });
        let Reply::Drained { fired, .. } = reply else { panic!("{reply:?}") };
        assert_eq!(fired, appended);
        let woken = stage.state().events.last().expect("it fired").event;
        let kept = (woken.workflow, woken.sequence) == (workflow, 2);
        assert_eq!(kept, removed.is_empty());
        assert_eq!((woken.step, woken.attempt, woken.state), (Step(3), 1, 9));
    }
}

#[test]
fn duties_refuse_repeatable_read_and_plain_calls_another_kind_of_queue() {
    let mut stage = Stage::new(&[]);
    let slot = stage.session();
    for op in [drain(1), rotate(), cancel(1, Micros(0))] {
        stage.call(slot, Op::Begin { isolation: Isolation::RepeatableRead });
        assert_eq!(stage.call(slot, op), Reply::Refused(Refusal::IsolationLevel));
        stage.call(slot, Op::Rollback);
    }
    let schedule = Op::Schedule { queue: FLOWS, payload: 1, delay: Micros(0) };
    assert_eq!(stage.call(slot, schedule), Reply::Refused(Refusal::WrongQueueKind));
    assert_eq!(stage.call(slot, Op::Drain { queue: Queue(3), limit: 1 }), Reply::Refused(Refusal::UndefinedObject));
}
