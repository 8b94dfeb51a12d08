//! Who takes part in a round: their roles as in plans, larger and faster.

use super::batch::{Batches, Part};
use super::blow::Kind;
use super::course::OF_BATCH;
use super::orders::{Task, Timeouts};
use crate::generate::duties::duty;
use crate::generate::{CONSUMER, QUEUE};
use crate::random::Stream;
use tourbillon_engine::actors::script::{OnLostReply, OnRefusal, Round, ScriptOptions};
use tourbillon_engine::actors::worker::options::{ClaimHabit, ErrorHabit, HandoffHabit, WorkerOptions};
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::Micros;
use tourbillon_models::op::{Isolation, Op, TableLock};
use tourbillon_models::workload::Program;

pub const DEAD_INTERVAL: Micros = Micros::from_millis(400);
pub const ROTATION_PERIOD: Micros = Micros::from_millis(400);
pub const DRAIN_INTERVAL: Micros = Micros::from_millis(20);
pub const LIVENESS_BOUND: Micros = Micros::from_secs(120);
const LOCK_TIMEOUT: Micros = Micros::from_millis(100);
/// Who holds transactions open.
pub const HOLDER: &str = "holder";
/// Keys of one client are below those of the next.
const KEYS: u32 = 10_000_000;

/// What a round's cast follows from.
pub struct Casting<'a> {
    pub workers: u64,
    pub clients: u32,
    /// Of each client, at most.
    pub workflows: u32,
    pub size: u64,
    pub kinds: &'a [Kind],
    pub faults_end: Micros,
    pub program: Option<&'a dyn Program>,
}

/// Everyone but the conductor, by name.
pub fn cast(stream: &mut Stream, casting: &Casting<'_>) -> Vec<(String, Task)> {
    let mut cast = Vec::new();
    let duty = |op: PlainOp, every| match duty(op, every) {
        crate::plan::Role::Script(options) => Task::Script(options),
        crate::plan::Role::Worker(options) => Task::Worker(options),
    };
    let lock_timeout = LOCK_TIMEOUT;
    // Two, who get into each other's way.
    for name in ["ticker-0", "ticker-1"] {
        cast.push((name.to_owned(), duty(Op::Tick { queue: QUEUE }, Micros::from_millis(30))));
    }
    cast.push(("rotation".to_owned(), duty(Op::Rotate { queue: QUEUE, lock_timeout }, ROTATION_PERIOD)));
    cast.push(("drain".to_owned(), duty(Op::Drain { queue: QUEUE, limit: 500 }, DRAIN_INTERVAL)));
    let rotate_timers = Op::RotateTimers { queue: QUEUE, lock_timeout };
    cast.push(("timer-rotation".to_owned(), duty(rotate_timers, ROTATION_PERIOD)));
    let has_waits = casting.program.is_some_and(|program| !program.names().is_empty());
    if has_waits {
        let expire = Op::ExpireWaits { queue: QUEUE, limit: 500 };
        cast.push(("expiry".to_owned(), duty(expire, DRAIN_INTERVAL)));
        let rotate = Op::RotateAudit { keep: Micros::from_millis(500), lock_timeout };
        cast.push(("audit-rotation".to_owned(), duty(rotate, ROTATION_PERIOD)));
    }
    let parts: &[_] =
        if has_waits { &[("client", Part::Client), ("rival", Part::Rival)] } else { &[("client", Part::Client)] };
    let seed = stream.bits();
    for index in 0..casting.clients {
        let of_batch = OF_BATCH.min(casting.workflows);
        for (name, part) in parts {
            let (batches, first_key) = (casting.workflows / of_batch, index * KEYS);
            let batches = Batches { part: *part, seed, first_key, batches, of_batch, size: casting.size, done: 0 };
            cast.push((format!("{name}-{index}"), Task::Batches(batches)));
        }
    }
    for index in 0..casting.workers {
        cast.push((format!("worker-{index}"), Task::Worker(worker())));
    }
    let holds: Vec<Kind> =
        [Kind::HeldSnapshot, Kind::MaintenanceLock].into_iter().filter(|kind| casting.kinds.contains(kind)).collect();
    if !holds.is_empty() {
        cast.push((HOLDER.to_owned(), Task::Script(holder(stream, &holds, casting.faults_end))));
    }
    cast
}

/// One without faults of its own.
pub fn worker() -> WorkerOptions {
    WorkerOptions {
        poll_interval: Micros::from_millis(5),
        dead_interval: DEAD_INTERVAL,
        heartbeat_interval: Micros(DEAD_INTERVAL.0 / 4),
        max_tries: 3,
        ..WorkerOptions::plain(CONSUMER)
    }
}

pub fn timeouts(stream: &mut Stream) -> Timeouts {
    let mut millis = |low, high| stream.span(Micros::from_millis(low), Micros::from_millis(high));
    Timeouts { lock: millis(2, 60), statement: millis(20, 400) }
}

/// One that applications have, and the engine must survive.
pub fn take_up_a_bad_habit(stream: &mut Stream, options: &mut WorkerOptions) {
    match stream.below(4) {
        0 => {
            options.handoff = HandoffHabit::FirstPage;
            options.page_limit = 20;
        }
        1 => options.handoff = HandoffHabit::Forgotten,
        2 => options.errors = ErrorHabit::Swallowed,
        _ => {
            let open_for = stream.span(Micros::from_millis(1), Micros(DEAD_INTERVAL.0 / 2));
            options.claim = ClaimHabit::InTransaction { open_for };
        }
    }
}

/// Transactions that stay open, one after the other.
fn holder(stream: &mut Stream, holds: &[Kind], faults_end: Micros) -> ScriptOptions {
    let mut rounds = Vec::new();
    let mut at = stream.span(Micros::from_millis(100), Micros::from_millis(600));
    while at.0 + 700_000 < faults_end.0 {
        let table = stream.below(3) as u8;
        let (isolation, op, open_for) = match *stream.choose(holds) {
            Kind::HeldSnapshot => {
                let open_for = stream.span(Micros::from_millis(50), Micros::from_millis(600));
                (Isolation::RepeatableRead, Op::Peek { queue: QUEUE, table }, open_for)
            }
            _ => {
                let mode = *stream.choose(&[TableLock::Share, TableLock::AccessExclusive]);
                let open_for = stream.span(Micros::from_millis(5), Micros::from_millis(150));
                (Isolation::ReadCommitted, Op::LockTable { queue: QUEUE, table, mode }, open_for)
            }
        };
        let statements = vec![(Micros(0), Op::Begin { isolation }), (Micros(0), op), (open_for, Op::Commit)];
        let (on_lost_reply, on_refusal) = (OnLostReply::GiveUp, OnRefusal::RollBack);
        rounds.push(Round { at, on_lost_reply, on_refusal, statements });
        at = at + open_for + stream.span(Micros::from_millis(200), Micros::from_millis(1_500));
    }
    ScriptOptions::Once { rounds }
}
