//! Timers on the engine as a whole: the subtle parts told by hand, then random schedules.

use crate::engine::{Engine, Environment};

use crate::guard::{Guard, Guards};
use crate::schema::FORBIDDEN_STATE;
use crate::store::executor::Progress;
use crate::store::locks::Slot;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use tourbillon_models::history::{PlainOp, PlainReply, State};
use tourbillon_models::name::{Consumer, EventId, Key, Micros, Queue, Step, WorkerId};
use tourbillon_models::op::{Decision, Isolation, Op, QueueKind, TableLock, Verb};
use tourbillon_models::reply::{Refusal, Reply};

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

/// Random numbers that are always the same.
struct Bits(u64);

impl Bits {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// What a random schedule knows of its timers.
#[derive(Default)]
struct Known {
    due: BTreeMap<u32, Micros>,
    pending: BTreeMap<Slot, Vec<u32>>,
    committed: Vec<u32>,
    cancelled: Vec<u32>,
    fired: Vec<u32>,
    dead: Vec<u32>,
}

impl Known {
    fn note_fired(&mut self, stage: &Stage, reply: PlainReply) {
        if let Reply::Drained { fired, dead, .. } = reply {
            for id in fired.iter().chain(&dead) {
                assert!(self.due[id] <= stage.now, "e{id} is early");
            }
            self.fired.extend(fired);
            self.dead.extend(dead);
        }
    }

    /// Whether each timer fired once, or became a dead letter, or was cancelled, or was never committed.
    fn is_sound(&self) -> bool {
        let mut ends: Vec<u32> = self.fired.iter().chain(&self.dead).chain(&self.cancelled).copied().collect();
        ends.sort_unstable();
        let mut committed = self.committed.clone();
        committed.sort_unstable();
        ends == committed
    }
}

/// Sessions 0 and 1 schedule in transactions of any length, the last one does all else; the clock goes on, or back.
fn random_schedule(seed: u64, removed: &[Guard]) -> bool {
    let (mut stage, mut bits, mut known) = (Stage::new(removed), Bits(seed), Known::default());
    let (clients, duty) = ([stage.session(), stage.session()], stage.session());
    for _ in 0..150 {
        let client = clients[bits.below(2) as usize];
        match bits.below(16) {
            0..5 => {
                if !stage.engine.is_in_transaction(client) {
                    stage.call(client, BEGIN);
                }
                let (delay, payload) = (bits.below(6), if bits.below(12) == 0 { FORBIDDEN_STATE } else { 1 });
                let id = stage.schedule_state(client, delay, payload);
                known.due.insert(id, stage.now + Micros::from_secs(delay));
                known.pending.entry(client).or_default().push(id);
            }
            5 | 6 if stage.engine.is_in_transaction(client) => {
                let ids = known.pending.remove(&client).unwrap_or_default();
                if bits.below(5) == 0 {
                    stage.call(client, Op::Rollback);
                } else {
                    stage.call(client, Op::Commit);
                    known.committed.extend(ids);
                }
            }
            7 | 8 => stage.pass(bits.below(3)),
            9 => stage.now = stage.now - Micros::from_secs(bits.below(2)),
            10 | 11 => drop(stage.call(duty, TICK)),
            12 | 13 => {
                let reply = stage.call(duty, drain(1 + bits.below(3) as u32));
                known.note_fired(&stage, reply);
            }
            14 => match stage.try_call(duty, rotate()) {
                Some(_) => {}
                // A client has the table: it may not wait for ever.
                None => {
                    stage.engine.time_out(duty);
                    stage.resume(duty);
                }
            },
            15 if !known.committed.is_empty() => {
                let id = known.committed[bits.below(known.committed.len() as u64) as usize];
                if stage.call(duty, cancel(id, known.due[&id])) == Reply::Cancelled {
                    known.cancelled.push(id);
                }
            }
            _ => {}
        }
    }
    for client in clients {
        if stage.engine.is_in_transaction(client) {
            stage.call(client, Op::Commit);
            known.committed.extend(known.pending.remove(&client).unwrap_or_default());
        }
    }
    for _ in 0..20 {
        stage.pass(1);
        stage.call(duty, TICK);
        let reply = stage.call(duty, drain(100));
        known.note_fired(&stage, reply);
    }
    let mut events: Vec<u32> = stage.state().events.iter().map(|row| row.event.id.0).collect();
    events.sort_unstable();
    known.fired.sort_unstable();
    known.is_sound() && stage.engine.is_drained() && events == known.fired
}

#[test]
fn every_committed_timer_comes_to_one_end() {
    for seed in 0..400 {
        assert!(random_schedule(seed, &[]), "seed {seed}");
    }
}

#[test]
fn without_a_guard_some_timer_does_not() {
    for guard in
        [Guard::DrainPosition, Guard::DrainLatePath, Guard::TimerMoveWhole, Guard::IdleTimer, Guard::DrainPoison]
    {
        let seed = (0..400).find(|seed| !random_schedule(*seed, &[guard]));
        assert!(seed.is_some(), "{} is not missed", guard.name());
    }
}
