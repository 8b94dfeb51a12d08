//! The published measurements: fixed, printed configurations.

use crate::clock::Clock;
use crate::generate::duties::duty;
use crate::generate::{CONSUMER, QUEUE, setup};
use crate::net::failing::Failing;
use crate::order::Order;
use crate::plan::{CallKind, End, LatencyDraw, Phase, Plan, PlannedEffect, PlannedFault, ProcessPlan, Role, When};
use crate::random::Stream;
use tourbillon_engine::actors::script::{OnLostReply, OnRefusal, Round, ScriptOptions};
use tourbillon_engine::actors::worker::options::WorkerOptions;
use tourbillon_engine::store::WalLevel;
use tourbillon_engine::store::unflushed::Durability;
use tourbillon_models::name::{ActorId, EmitId, Key, Micros, Process, WaitToken, WorkflowId};
use tourbillon_models::op::{Isolation, Op, QueueKind};
use tourbillon_models::workload::{Chain, ChildrenFail, EmitRace, Expected, LongSleep, Program};

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Load {
    /// What floors refer to.
    Chain,
    /// The same, and six times a worker sleeps past the dead interval, in every place of a step.
    Zombie,
    /// A day of sleeping: whoever has something to do by the clock looks every half minute.
    LongSleep,
    /// Auctions, and everything that they hear told three times.
    EmitRace,
    /// Families whose children end in every way there is.
    ChildrenFail,
    /// The first one with nobody but two workers, a client, a ticker and a rotation, on a host each; the server is the sixth,
    /// and the network between them fails.
    Network,
}

impl Load {
    pub const fn workload(self) -> &'static str {
        match self {
            Load::Chain | Load::Network => "chain",
            Load::Zombie => "zombie",
            Load::LongSleep => "long-sleep",
            Load::EmitRace => "emit-race",
            Load::ChildrenFail => "children-fail",
        }
    }

    fn program(self) -> &'static dyn Program {
        match self {
            Load::Chain | Load::Zombie | Load::Network => &Chain,
            Load::LongSleep => &LongSleep,
            Load::EmitRace => &EmitRace,
            Load::ChildrenFail => &ChildrenFail,
        }
    }

    const fn pace(self) -> Pace {
        match self {
            Load::Chain | Load::Zombie | Load::EmitRace | Load::ChildrenFail | Load::Network => Pace {
                poll: Micros::from_millis(200),
                tick: Micros::from_millis(100),
                rotation: Micros::from_secs(5),
                dead: Micros::from_secs(3),
            },
            Load::LongSleep => Pace {
                poll: Micros::from_secs(30),
                tick: Micros::from_secs(30),
                rotation: Micros::from_secs(300),
                dead: Micros::from_secs(180),
            },
        }
    }

    pub const fn scale(self) -> Scale {
        match self {
            Load::Chain | Load::Zombie | Load::EmitRace => Scale::STANDARD,
            // Who dies of its own program holds everyone up for a while.
            Load::ChildrenFail => Scale { seconds: 120, ..Scale::STANDARD },
            Load::Network => Scale { workers: 2, ..Scale::STANDARD },
            Load::LongSleep => Scale { seconds: 24 * 60 * 60, ..Scale::STANDARD },
        }
    }
}

/// How often somebody does something.
#[derive(Clone, Copy)]
struct Pace {
    poll: Micros,
    /// Also of drains.
    tick: Micros,
    rotation: Micros,
    dead: Micros,
}

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
    loaded(seed, Load::Chain, scale)
}

/// Zombies' pauses come on top. A day's intervals are half a minute for polls, ticks and drains, five minutes for
/// rotations, and three for the dead interval.
pub fn loaded(seed: u64, load: Load, scale: Scale) -> Plan {
    let mut stream = Stream::new(seed, "bench", 0);
    let third = Micros::from_secs(scale.seconds / 3);
    let pace = load.pace();
    let lock_timeout = Micros::from_millis(200);
    let mut processes = vec![
        process("setup", Role::Script(setup(QueueKind::Workflow, 1))),
        process("ticker", duty(Op::Tick { queue: QUEUE }, pace.tick)),
        process("rotation", duty(Op::Rotate { queue: QUEUE, lock_timeout }, pace.rotation)),
    ];
    if load != Load::Network {
        processes.push(process("holder", Role::Script(holder(&mut stream, third))));
    }
    let client = client(&mut stream, third, scale.workflows, load.program());
    processes.push(process("client", Role::Script(client)));
    if load == Load::EmitRace {
        processes.push(process("expiry", duty(Op::ExpireWaits { queue: QUEUE, limit: 100 }, pace.tick)));
        let emitter = emitter(seed, third, scale.workflows, load.program());
        processes.push(process("emitter", Role::Script(emitter)));
    }
    if matches!(load, Load::LongSleep | Load::ChildrenFail) {
        processes.push(process("drain", duty(Op::Drain { queue: QUEUE, limit: 100 }, pace.tick)));
        processes.push(process("timer-rotation", duty(Op::RotateTimers { queue: QUEUE, lock_timeout }, pace.rotation)));
    }
    let first_worker = processes.len() as u64;
    processes.extend((0..scale.workers).map(|index| process(&format!("worker-{index}"), worker(index, pace))));
    let any_worker = |stream: &mut Stream| Process((first_worker + stream.below(scale.workers.into())) as u8);
    let mut faults = vec![
        PlannedFault {
            when: point(any_worker(&mut stream), CallKind::Any, stream.below(100)),
            what: PlannedEffect::Crash { restart_after: Micros::from_secs(1) },
            kind: None,
        },
        PlannedFault {
            when: point(any_worker(&mut stream), CallKind::Handoff, stream.below(6)),
            what: PlannedEffect::Pause { duration: Micros(pace.dead.0 * 5 / 3) },
            kind: None,
        },
        PlannedFault {
            when: point(any_worker(&mut stream), CallKind::Commit, stream.below(6)),
            what: PlannedEffect::LostReply,
            kind: None,
        },
        PlannedFault {
            when: When::Time { at: stream.span(Micros::from_secs(5), third), process: Process(0) },
            what: PlannedEffect::ServerCrash { down_for: Micros::from_millis(500) },
            kind: None,
        },
    ];
    if load == Load::Zombie {
        use CallKind::{Begin, Commit, Effect, Handoff, Hold, Read};
        faults.extend([Read, Begin, Hold, Effect, Handoff, Commit].map(|call| PlannedFault {
            when: point(any_worker(&mut stream), call, stream.below(6)),
            what: PlannedEffect::Pause { duration: pace.dead + Micros(stream.below(pace.dead.0)) },
            kind: None,
        }));
    }
    let mut plan = Plan {
        seed,
        workload: load.workload().to_owned(),
        options: vec![
            ("workflows".to_owned(), scale.workflows.to_string()),
            ("workers".to_owned(), scale.workers.to_string()),
            ("seconds".to_owned(), scale.seconds.to_string()),
        ],
        processes,
        faults,
        dead_interval: pace.dead,
        rotation_period: pace.rotation,
        drain_interval: pace.tick,
        latency: (Micros(100), Micros(600)),
        latency_draw: LatencyDraw::InTurn,
        found_under: None,
        faults_end: Micros::from_secs(scale.seconds / 2),
        liveness_bound: Micros::from_secs(scale.seconds / 2),
        end: End::At(Micros::from_secs(scale.seconds)),
        wal_level: WalLevel::default(),
        durability: Durability::default(),
        order: Order::default(),
        network: None,
    };
    if load == Load::Network {
        let bound = plan.liveness_bound;
        plan.spread(Failing::ANYHOW);
        plan.liveness_bound = bound;
    }
    plan
}

fn process(name: &str, role: Role) -> ProcessPlan {
    ProcessPlan { name: name.to_owned(), role, clock: Clock::Right, hears_of: None }
}

fn point(process: Process, call: CallKind, nth: u64) -> When {
    When::Point { process, call, nth: nth as u32, phase: Phase::After, from: Micros(0) }
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

fn client(stream: &mut Stream, until: Micros, workflows: u32, program: &dyn Program) -> ScriptOptions {
    let mut rounds: Vec<Round> = (0..workflows)
        .map(|index| {
            let (step, state) = program.start(index, 1);
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

/// Each expectation is told three times, each time at a moment of its own: twice as it is expected, under one id, the first
/// of them for certain; and once otherwise, under another.
fn emitter(seed: u64, until: Micros, workflows: u32, program: &dyn Program) -> ScriptOptions {
    let mut stream = Stream::new(seed, "emitter", 0);
    let mut rounds = Vec::new();
    for index in 0..workflows {
        let (step, state) = program.start(index, 1);
        let start = Op::Start { queue: QUEUE, key: Key(index), step, state };
        for Expected { name, payload, token } in program.emits(index, 1) {
            let first = EmitId(2 * rounds.len() as u32 + 1);
            let other = EmitId(first.0 + 1);
            for (emit, payload, on_lost_reply) in [
                (first, payload, OnLostReply::Insist),
                (first, payload, OnLostReply::Repeat),
                (other, payload ^ 1, OnLostReply::Repeat),
            ] {
                let token = token.unwrap_or(WaitToken::NONE);
                let emit = Op::Emit { workflow: WorkflowId(0), name, payload, emit, token, actor: ActorId(0) };
                rounds.push(Round {
                    at: stream.span(Micros::from_millis(10), until),
                    on_lost_reply,
                    on_refusal: OnRefusal::RollBack,
                    statements: vec![(Micros(0), start.clone()), (Micros(0), emit)],
                });
            }
        }
    }
    rounds.sort_by_key(|round| round.at);
    ScriptOptions::Once { rounds }
}

/// Workers begin one after the other, so that their polls do not fall together.
fn worker(index: u32, pace: Pace) -> Role {
    Role::Worker(WorkerOptions {
        start_at: Micros::from_millis(10 + 47 * u64::from(index)),
        poll_interval: pace.poll,
        dead_interval: pace.dead,
        heartbeat_interval: Micros(pace.dead.0 / 3),
        work_duration: Micros::from_millis(5),
        ..WorkerOptions::plain(CONSUMER)
    })
}
