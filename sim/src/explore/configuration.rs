//! What is explored: a few workflows, a few workers, the duties that they need, and bounds.
//!
//! Nothing here is drawn. Time goes in epochs: workers look for work at the beginning of each, and there is a tick soon after
//! that, when clients come as well; if there are timers, they are drained then, and there is another tick. So nobody looks
//! at what cannot have changed, which would make many more schedules and no other outcome.

use crate::clock::Clock;
use crate::faults::FaultKind;
use crate::generate::duties::duty;
use crate::generate::{CONSUMER, QUEUE, setup};
use crate::order::{Chosen, Order, Turns};
use crate::plan::{End, LatencyDraw, Plan, ProcessPlan, Role};
use crate::simulate::Work;
use tourbillon_engine::actors::script::{OnLostReply, OnRefusal, Round, ScriptOptions};
use tourbillon_engine::actors::worker::options::{ClaimHabit, HandoffHabit, WorkerOptions};
use tourbillon_engine::store::WalLevel;
use tourbillon_engine::store::unflushed::Durability;
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::{ActorId, EmitId, Key, Micros, WaitToken, WorkflowId};
use tourbillon_models::op::{Isolation, Op, QueueKind};
use tourbillon_models::workload::{Expected, Program, shape};

/// A configuration whose schedules are explored, and how far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Configuration {
    pub workers: u8,
    pub workflows: u8,
    /// At most so many faults in one schedule.
    pub faults: u8,
    /// Of these kinds; habits of workers among them are there in every schedule.
    pub kinds: Vec<FaultKind>,
    /// At most so often does somebody else go on while the one who made the last call could. (That time passes over him is a
    /// fault.)
    pub preemptions: Option<u8>,
    /// Faults end after so many epochs.
    pub epochs: u32,
}

/// The kinds of fault that can be placed turn by turn.
pub const TURNS: [FaultKind; 4] =
    [FaultKind::WorkerCrash, FaultKind::WorkerPause, FaultKind::LostReply, FaultKind::ServerCrash];
/// Those that are habits of a worker, or of the ticker.
pub const HABITS: [FaultKind; 4] = [
    FaultKind::ClaimInTransaction,
    FaultKind::PartialHandoff,
    FaultKind::ForgottenHandoff,
    FaultKind::DutyRepeatableRead,
];

const EPOCH: Micros = Micros::from_millis(10);
const START: Micros = EPOCH;
/// A little more than an epoch.
const DEAD_INTERVAL: Micros = Micros::from_millis(12);
/// Epochs for whatever is left when faults end.
const EPOCHS_TO_DRAIN: u64 = 20;

impl Configuration {
    fn has(&self, kind: FaultKind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Longer than the dead interval.
    pub fn longest_pause(&self) -> Micros {
        DEAD_INTERVAL + EPOCH
    }

    pub fn can(&self, kind: FaultKind) -> bool {
        self.faults > 0 && self.has(kind)
    }

    pub fn plan(&self, work: &Work) -> Plan {
        let kind = if work.program.is_some() { QueueKind::Workflow } else { QueueKind::Plain };
        let mut plan = Plan {
            seed: 0,
            workload: work.name.clone(),
            options: self.named(),
            processes: vec![process("setup", Role::Script(setup(kind, 1)))],
            faults: Vec::new(),
            dead_interval: DEAD_INTERVAL,
            rotation_period: Micros::from_secs(1),
            drain_interval: EPOCH,
            latency: (Micros(1), Micros(1)),
            latency_draw: LatencyDraw::InTurn,
            found_under: None,
            faults_end: START + Micros(u64::from(self.epochs) * EPOCH.0),
            liveness_bound: Micros(EPOCHS_TO_DRAIN * EPOCH.0),
            end: End::Drained,
            wal_level: WalLevel::default(),
            durability: Durability::default(),
            order: Order::Chosen(Chosen { turns: Turns::default(), restart_after: EPOCH, down_for: Micros(1) }),
            network: None,
        };
        for index in 0..self.workers {
            plan.processes.push(process(&format!("worker-{index}"), Role::Worker(self.worker(index))));
        }
        for index in 0..self.workflows {
            plan.processes.push(client(index, work));
        }
        self.add_duties(&mut plan, work);
        add_emitters(&mut plan, work, self.workflows);
        plan
    }

    fn named(&self) -> Vec<(String, String)> {
        let kinds: Vec<&str> = self.kinds.iter().map(|kind| kind.name()).collect();
        let preemptions = self.preemptions.map_or("unbounded".to_owned(), |bound| bound.to_string());
        let named = [
            ("workers", self.workers.to_string()),
            ("workflows", self.workflows.to_string()),
            ("faults", self.faults.to_string()),
            ("fault_kinds", kinds.join(",")),
            ("preemptions", preemptions),
            ("epochs", self.epochs.to_string()),
            ("epoch", EPOCH.to_string()),
            ("dead_interval", DEAD_INTERVAL.to_string()),
        ];
        named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Bad habits are the first worker's, but that all claim in the same way.
    fn worker(&self, index: u8) -> WorkerOptions {
        let handoff = match index {
            0 if self.has(FaultKind::PartialHandoff) => HandoffHabit::FirstPage,
            0 if self.has(FaultKind::ForgottenHandoff) => HandoffHabit::Forgotten,
            _ => HandoffHabit::Whole,
        };
        let claim = match self.has(FaultKind::ClaimInTransaction) {
            true => ClaimHabit::InTransaction { open_for: Micros(0) },
            false => ClaimHabit::Alone,
        };
        WorkerOptions {
            start_at: START,
            poll_interval: EPOCH,
            dead_interval: DEAD_INTERVAL,
            heartbeat_interval: DEAD_INTERVAL,
            page_limit: if handoff == HandoffHabit::FirstPage { 1 } else { 100 },
            claim,
            handoff,
            ..WorkerOptions::plain(CONSUMER)
        }
    }

    fn add_duties(&self, plan: &mut Plan, work: &Work) {
        let shape = work.program.as_deref().and_then(|program| shape::explore(program).ok());
        let has = |words: &[&str]| shape.as_ref().is_some_and(|shape| words.iter().any(|word| shape.has(word)));
        let has_timers = has(&["sleep", "retry"]) || work.program.is_none();
        let mut ticker = duty(Op::Tick { queue: QUEUE }, if has_timers { Micros(EPOCH.0 / 2) } else { EPOCH });
        if self.has(FaultKind::DutyRepeatableRead) {
            let Role::Script(ScriptOptions::Periodic { round, .. }) = &mut ticker else { unreachable!("it is a duty") };
            let begin = Op::Begin { isolation: Isolation::RepeatableRead };
            let peek = Op::Peek { queue: QUEUE, table: 0 };
            round.statements = [begin, peek, Op::Tick { queue: QUEUE }, Op::Commit].map(statement).to_vec();
        }
        let drain = duty(Op::Drain { queue: QUEUE, limit: 100 }, EPOCH);
        let expiry = duty(Op::ExpireWaits { queue: QUEUE, limit: 100 }, EPOCH);
        let quarters = |quarters| Micros(START.0 + quarters * EPOCH.0 / 4);
        plan.processes.push(process("ticker", from(ticker, quarters(1))));
        if has_timers {
            plan.processes.push(process("drain", from(drain, quarters(2))));
        }
        if has(&["await"]) {
            plan.processes.push(process("expiry", from(expiry, quarters(2))));
        }
    }
}

fn process(name: &str, role: Role) -> ProcessPlan {
    ProcessPlan { name: name.to_owned(), role, clock: Clock::Right, hears_of: None }
}

fn from(mut role: Role, start: Micros) -> Role {
    if let Role::Script(ScriptOptions::Periodic { round, .. }) = &mut role {
        round.at = start;
    }
    role
}

fn statement(op: PlainOp) -> (Micros, PlainOp) {
    (Micros(0), op)
}

/// A transaction, at the time of the first tick.
fn in_transaction(on_lost_reply: OnLostReply, ops: impl IntoIterator<Item = PlainOp>) -> Role {
    let begin = Op::Begin { isolation: Isolation::ReadCommitted };
    let statements = [begin].into_iter().chain(ops).chain([Op::Commit]).map(statement).collect();
    let at = Micros(START.0 + EPOCH.0 / 4);
    let round = Round { at, on_lost_reply, on_refusal: OnRefusal::RollBack, statements };
    Role::Script(ScriptOptions::Once { rounds: vec![round] })
}

fn start(index: u8, program: &dyn Program) -> PlainOp {
    let (step, state) = program.start(index.into(), 1);
    Op::Start { queue: QUEUE, key: Key(index.into()), step, state }
}

fn client(index: u8, work: &Work) -> ProcessPlan {
    let role = match work.program.as_deref() {
        None => in_transaction(OnLostReply::Resolve, [Op::Append { queue: QUEUE, payload: index.into() }]),
        Some(program) => in_transaction(OnLostReply::Repeat, [start(index, program)]),
    };
    process(&format!("client-{index}"), role)
}

/// One for each thing that a workflow expects to be told. It starts the workflow, as the client does: so it knows which it
/// is, and it need not come second.
fn add_emitters(plan: &mut Plan, work: &Work, workflows: u8) {
    let Some(program) = work.program.as_deref() else { return };
    for index in 0..workflows {
        for (place, Expected { name, payload, token }) in program.emits(index.into(), 1).into_iter().enumerate() {
            let (emit, actor) = (EmitId(plan.processes.len() as u32), ActorId(0));
            let (workflow, token) = (WorkflowId(0), token.unwrap_or(WaitToken::NONE));
            let emit = Op::Emit { workflow, name, payload, emit, token, actor };
            let mut role = in_transaction(OnLostReply::Insist, [start(index, program), emit]);
            if let Role::Script(ScriptOptions::Once { rounds }) = &mut role {
                // When workers look for work that came with the first tick.
                rounds[0].at = START + EPOCH;
            }
            plan.processes.push(process(&format!("emitter-{index}-{place}"), role));
        }
    }
}
