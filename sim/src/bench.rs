//! The published measurements: fixed, printed configurations.

use crate::generate::{CONSUMER, QUEUE, duty, setup};
use crate::plan::{CallKind, End, Phase, Plan, PlannedEffect, PlannedFault, ProcessPlan, Role, When};
use crate::random::Stream;
use tourbillon_engine::actors::script::{OnLostReply, OnRefusal, Round, ScriptOptions};
use tourbillon_engine::actors::worker::{ClaimHabit, HandoffHabit, WorkerOptions};
use tourbillon_engine::store::WalLevel;
use tourbillon_models::name::{Key, Micros, Process};
use tourbillon_models::op::{Isolation, Op, QueueKind};
use tourbillon_models::workload::{Chain, Program};

/// How large one benchmark run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    pub workflows: u32,
    pub workers: u32,
    pub seconds: u64,
}

impl Scale {
    /// What floors and figures refer to.
    pub const STANDARD: Scale = Scale { workflows: 40, workers: 4, seconds: 60 };
}

/// `chain` on one queue: workers poll every 200 ms, a tick every 100 ms, rotation every 5 s, dead interval 3 s, the
/// workflows started over the first third; in every run one crash, one pause, one lost reply, one server crash and one
/// held transaction, placed by the seed.
pub fn plan(seed: u64, scale: Scale) -> Plan {
    let mut stream = Stream::new(seed, "bench", 0);
    let third = Micros::from_secs(scale.seconds / 3);
    let dead_interval = Micros::from_secs(3);
    let rotation_period = Micros::from_secs(5);
    let mut processes = vec![
        process("setup", Role::Script(setup(QueueKind::Workflow, 1))),
        process("ticker", duty(Op::Tick { queue: QUEUE }, Micros::from_millis(100))),
        process("rotation", duty(Op::Rotate { queue: QUEUE, lock_timeout: Micros::from_millis(200) }, rotation_period)),
        process("holder", Role::Script(holder(&mut stream, third))),
        process("client", Role::Script(client(&mut stream, third, scale.workflows))),
    ];
    let first_worker = processes.len() as u64;
    processes.extend((0..scale.workers).map(|index| process(&format!("worker-{index}"), worker(index, dead_interval))));
    let any_worker = |stream: &mut Stream| Process((first_worker + stream.below(scale.workers.into())) as u8);
    let faults = vec![
        PlannedFault {
            when: point(any_worker(&mut stream), CallKind::Any, stream.below(100)),
            what: PlannedEffect::Crash { restart_after: Micros::from_secs(1) },
        },
        PlannedFault {
            when: point(any_worker(&mut stream), CallKind::Handoff, stream.below(6)),
            what: PlannedEffect::Pause { duration: Micros::from_secs(5) },
        },
        PlannedFault {
            when: point(any_worker(&mut stream), CallKind::Commit, stream.below(6)),
            what: PlannedEffect::LostReply,
        },
        PlannedFault {
            when: When::Time { at: stream.span(Micros::from_secs(5), third), process: Process(0) },
            what: PlannedEffect::ServerCrash { down_for: Micros::from_millis(500) },
        },
    ];
    Plan {
        seed,
        workload: "chain".to_owned(),
        options: vec![
            ("workflows".to_owned(), scale.workflows.to_string()),
            ("workers".to_owned(), scale.workers.to_string()),
            ("seconds".to_owned(), scale.seconds.to_string()),
        ],
        processes,
        faults,
        dead_interval,
        rotation_period,
        latency: (Micros(100), Micros(600)),
        faults_end: Micros::from_secs(scale.seconds / 2),
        liveness_bound: Micros::from_secs(scale.seconds / 2),
        end: End::At(Micros::from_secs(scale.seconds)),
        wal_level: WalLevel::default(),
    }
}

fn process(name: &str, role: Role) -> ProcessPlan {
    ProcessPlan { name: name.to_owned(), role }
}

fn point(process: Process, call: CallKind, nth: u64) -> When {
    When::Point { process, call, nth: nth as u32, phase: Phase::After }
}

fn holder(stream: &mut Stream, until: Micros) -> ScriptOptions {
    let statements = vec![
        (Micros(0), Op::Begin { isolation: Isolation::RepeatableRead }),
        (Micros(0), Op::Peek { queue: QUEUE, table: 0 }),
        (Micros::from_secs(2), Op::Commit),
    ];
    let at = stream.span(Micros::from_secs(1), until);
    ScriptOptions::Once {
        rounds: vec![Round { at, on_lost_reply: OnLostReply::GiveUp, on_refusal: OnRefusal::RollBack, statements }],
    }
}

fn client(stream: &mut Stream, until: Micros, workflows: u32) -> ScriptOptions {
    let mut rounds: Vec<Round> = (0..workflows)
        .map(|index| {
            let (step, state) = Chain.start(index, 1);
            let start = Op::Start { queue: QUEUE, key: Key(index), step, state };
            let at = stream.span(Micros::from_millis(10), until);
            Round {
                at,
                on_lost_reply: OnLostReply::Repeat,
                on_refusal: OnRefusal::RollBack,
                statements: vec![(Micros(0), start)],
            }
        })
        .collect();
    rounds.sort_by_key(|round| round.at);
    ScriptOptions::Once { rounds }
}

/// Workers begin one after the other, so that their polls do not fall together.
fn worker(index: u32, dead_interval: Micros) -> Role {
    Role::Worker(WorkerOptions {
        consumer: CONSUMER,
        subscribe_to: None,
        start_at: Micros::from_millis(10 + 47 * u64::from(index)),
        poll_interval: Micros::from_millis(200),
        dead_interval,
        heartbeat_interval: Micros::from_secs(1),
        work_duration: Micros::from_millis(5),
        slowness: None,
        page_limit: 1000,
        claim: ClaimHabit::Alone,
        handoff: HandoffHabit::Whole,
    })
}
