//! The generator: a seed becomes a plan.
//!
//! Swarm: each seed draws which kinds of fault are on at all, how often, and every size and interval. Each part of a
//! plan draws from a stream of its own. Intervals are drawn short, so that many rotations, takeovers and held
//! snapshots meet in a few simulated seconds.

mod clients;
mod course;
mod crowd;
pub mod duties;
mod emitters;
mod faults;
mod holders;
mod options;
mod resurrection;
mod shape;
pub mod telling;
mod workers;

use crate::clock::Clock;
use crate::faults::FaultKind;
use crate::order::{Order, Priorities};
use crate::plan::{End, LatencyDraw, Plan, ProcessPlan, Role};
use crate::random::Stream;
use course::Course;
use options::Options;
use tourbillon_engine::actors::script::{OnLostReply, OnRefusal, Round, ScriptOptions};
use tourbillon_engine::store::WalLevel;
use tourbillon_engine::store::unflushed::Durability;
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::{Consumer, Micros, Queue};
use tourbillon_models::op::{Isolation, Op, QueueKind};
use tourbillon_models::workload::Program;

/// The one queue of a plan.
pub const QUEUE: Queue = Queue(0);
/// Where a workflow queue's one consumer stands; a plain queue has more after it.
pub const CONSUMER: Consumer = Consumer(0);
/// Actors begin once the setup is done.
const START: Micros = Micros::from_millis(10);

/// What a sweep allows a seed to draw. What a workload is about comes on top of that: an outage without an outage would be
/// none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    pub faults: Vec<FaultKind>,
}

/// Draws a plan. Cost: a few microseconds, and a walk through each workflow.
pub fn generate(seed: u64, workload: &str, program: Option<&dyn Program>, limits: &Limits) -> Plan {
    let options = Options::draw(seed, workload, program, limits);
    let mut plan = Plan {
        seed,
        workload: workload.to_owned(),
        options: options.named(),
        processes: Vec::new(),
        faults: Vec::new(),
        dead_interval: options.dead_interval,
        rotation_period: options.rotation_period,
        drain_interval: options.drain_interval,
        latency: (Micros(100), Micros(600)),
        latency_draw: LatencyDraw::InTurn,
        found_under: None,
        faults_end: options.faults_end,
        liveness_bound: options.liveness_bound(),
        end: End::Drained,
        wal_level: WalLevel::default(),
        durability: Durability::default(),
        order: Order::default(),
        network: None,
    };
    add_setup(&mut plan, &options, program.is_some());
    duties::add_duties(&mut plan, &options, program);
    workers::add_workers(&mut plan, &options);
    clients::add_clients(&mut plan, &options, program);
    clients::add_late_producers(&mut plan, &options, program);
    if let Some(program) = program {
        emitters::add_emitters(&mut plan, &options, program);
    }
    holders::add_holders(&mut plan, &options);
    holders::add_readers(&mut plan, &options);
    faults::add_faults(&mut plan, &options);
    plan
}

/// How workflows of this program go, of so many.
pub fn course(program: &dyn Program, items: u64, size: u64) -> Course {
    Course::of(program, items, size)
}

impl Plan {
    /// Priorities decide whose turn it is. Nothing else about the plan changes.
    pub fn rank(&mut self, depth: u32) {
        let mut stream = Stream::new(self.seed, "order", 0);
        let turns = *stream.choose(&[20, 60, 200, 1_000]);
        let grid = Micros::from_millis(*stream.choose(&[1, 5, 20, 50]));
        let longest_delay = Micros(2 * self.dead_interval.0);
        let named = [("order", "priorities".to_owned()), ("depth", depth.to_string()), ("turns", turns.to_string())];
        let named = named.into_iter().chain([("grid", grid.to_string()), ("longest_delay", longest_delay.to_string())]);
        self.options.extend(named.map(|(name, value)| (name.to_owned(), value)));
        self.order = Order::Priorities(Priorities { depth, turns, grid, longest_delay });
    }

    fn add(&mut self, name: String, role: Role) {
        self.processes.push(ProcessPlan { name, role, clock: Clock::Right, hears_of: None });
    }

    fn add_script(&mut self, name: String, rounds: Vec<Round>) {
        self.add(name, Role::Script(ScriptOptions::Once { rounds }));
    }
}

fn statement(op: PlainOp) -> (Micros, PlainOp) {
    (Micros(0), op)
}

pub fn setup(kind: QueueKind, consumers: u64) -> ScriptOptions {
    let mut statements = vec![statement(Op::CreateQueue { queue: QUEUE, kind })];
    statements
        .extend((0..consumers as u8).map(|index| statement(Op::Subscribe { queue: QUEUE, consumer: Consumer(index) })));
    ScriptOptions::Once {
        rounds: vec![Round {
            at: Micros(1),
            on_lost_reply: OnLostReply::GiveUp,
            on_refusal: OnRefusal::RollBack,
            statements,
        }],
    }
}

fn add_setup(plan: &mut Plan, options: &Options, has_program: bool) {
    let kind = if has_program { QueueKind::Workflow } else { QueueKind::Plain };
    plan.add("setup".to_owned(), Role::Script(setup(kind, options.consumers)));
}

/// Statements in a transaction that stays open for a while before it commits, at some time before faults end.
fn bracketed(
    stream: &mut Stream,
    options: &Options,
    isolation: Isolation,
    statements: Vec<(Micros, PlainOp)>,
    open_for: Micros,
) -> Round {
    let mut all = vec![statement(Op::Begin { isolation })];
    all.extend(statements);
    all.push((open_for, Op::Commit));
    let at = stream.span(START, options.faults_end);
    Round { at, on_lost_reply: OnLostReply::GiveUp, on_refusal: OnRefusal::RollBack, statements: all }
}

fn in_order(mut rounds: Vec<Round>) -> Vec<Round> {
    rounds.sort_by_key(|round| round.at);
    rounds
}
