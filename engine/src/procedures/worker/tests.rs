//! Leases while the server's clock is set, and while the workers' own are wrong.

use crate::engine::{Engine, Environment};

use crate::guard::{Guard, Guards};
use crate::store::executor::Progress;
use crate::store::locks::Slot;
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{Consumer, Micros, Queue, Token, WorkerId};
use tourbillon_models::op::{Op, QueueKind};
use tourbillon_models::reply::Reply;

const QUEUE: Queue = Queue(0);
const DEAD: Micros = Micros::from_secs(1);
const NOBODY: WorkerId = WorkerId(0);

struct Stage {
    engine: Engine,
    slot: Slot,
    calls: u64,
}

impl Stage {
    /// Two workers, who are not counted dead before a second has passed; there is a window.
    fn new(removed: &[Guard]) -> Stage {
        let mut engine = Engine::new(Guards::without(removed));
        let slot = engine.connect().expect("there are enough");
        let mut stage = Stage { engine, slot, calls: 0 };
        let (queue, consumer) = (QUEUE, Consumer(0));
        let start = Micros::from_secs(10);
        stage.call(start, Op::CreateQueue { queue, kind: QueueKind::Plain });
        stage.call(start, Op::Subscribe { queue, consumer });
        for _ in 0..2 {
            stage.call(start, Op::Register { consumer });
        }
        stage.call(start, Op::Append { queue, payload: 1 });
        stage.call(start, Op::Tick { queue });
        stage
    }

    fn call(&mut self, now: Micros, op: PlainOp) -> PlainReply {
        self.calls += 1;
        let mut reply = Reply::Done;
        match self.engine.call(self.slot, &op, Environment { now, random: self.calls }, &mut reply) {
            Progress::Returned => reply,
            Progress::Blocked => panic!("{op:?} waits"),
        }
    }

    /// The token, and whose window it was.
    fn claim(&mut self, worker: u32, now: Micros, at: Micros) -> Option<(Token, WorkerId)> {
        match self.call(now, Op::Claim { worker: WorkerId(worker), dead_interval: DEAD, at }) {
            Reply::Claimed { token, victim, .. } => Some((token, victim)),
            reply => {
                assert_eq!(reply, Reply::Idle);
                None
            }
        }
    }
}

const fn secs(secs: u64) -> Micros {
    Micros::from_secs(secs)
}

#[test]
fn a_lease_of_before_the_clock_was_set_back_is_found_dead_by_the_new_time() {
    type Sign = fn(Token) -> PlainOp;
    const WORKER: WorkerId = WorkerId(1);
    let signs: [Sign; 2] = [
        |token| Op::Heartbeat { worker: WORKER, token, at: secs(0) },
        |token| Op::Hold { worker: WORKER, token, at: secs(0) },
    ];
    for sign in signs {
        // What a transaction holds and does not hand off could not commit.
        let mut stage = Stage::new(&[Guard::HeldMustFinish]);
        let (token, victim) = stage.claim(1, secs(20), secs(0)).expect("there is a window");
        assert_eq!(victim, NOBODY);
        assert_eq!(stage.claim(2, secs(20), secs(0)), None, "it has just been claimed");
        assert_eq!(stage.call(secs(12), sign(token)), Reply::Done);
        assert_eq!(stage.claim(2, secs(13), secs(0)), None, "a second is not over");
        let taken = stage.claim(2, secs(14), secs(0));
        assert_eq!(taken.map(|(_, victim)| victim), Some(WORKER));
    }
}

#[test]
fn what_a_worker_takes_for_the_time_decides_nothing() {
    let mut stage = Stage::new(&[]);
    stage.claim(1, secs(20), secs(90)).expect("there is a window");
    assert_eq!(stage.claim(2, secs(20), secs(99)), None);
    assert!(stage.claim(2, secs(22), secs(1)).is_some());
}

#[test]
fn without_the_guard_it_decides_all() {
    let mut stage = Stage::new(&[Guard::ServerClock]);
    stage.claim(1, secs(20), secs(90)).expect("there is a window");
    assert_eq!(stage.claim(2, secs(30), secs(91)), None, "ten seconds later");
    assert!(stage.claim(2, secs(20), secs(99)).is_some(), "at once");
}
