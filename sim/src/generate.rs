//! The generator: a seed becomes a plan.
//!
//! Swarm: each seed draws which kinds of fault are on at all, how often, and every size and interval. Each part of a
//! plan draws from a stream of its own. Intervals are drawn short, so that many rotations, takeovers and held
//! snapshots meet in a few simulated seconds.

use crate::faults::FaultKind;
use crate::plan::{CallKind, End, Phase, Plan, PlannedEffect, PlannedFault, ProcessPlan, Role, When};
use crate::random::Stream;
use tourbillon_engine::actors::script::{OnLostReply, OnRefusal, Round, ScriptOptions};
use tourbillon_engine::actors::worker::{ClaimHabit, HandoffHabit, Slowness, WorkerOptions};
use tourbillon_engine::store::WalLevel;
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::{Consumer, Key, Micros, Process, Queue};
use tourbillon_models::op::{Isolation, Op, QueueKind, TableLock};
use tourbillon_models::workload::Program;

/// The one queue of a plan.
pub const QUEUE: Queue = Queue(0);
/// Where a workflow queue's one consumer stands; a plain queue has more after it.
pub const CONSUMER: Consumer = Consumer(0);

/// What a sweep allows a seed to draw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    pub faults: Vec<FaultKind>,
}

/// Every drawn option of one plan.
struct Options {
    workload: String,
    workers: u64,
    consumers: u64,
    items: u64,
    size: u64,
    clients: u64,
    poll_interval: Micros,
    tick_interval: Micros,
    rotation_period: Micros,
    lock_timeout: Micros,
    dead_interval: Micros,
    work_duration: Micros,
    page_limit: u32,
    faults_end: Micros,
    faults: Vec<FaultKind>,
}

impl Options {
    fn draw(seed: u64, workload: &str, has_program: bool, limits: &Limits) -> Self {
        let mut stream = Stream::new(seed, "option", 0);
        let millis = |stream: &mut Stream, low, high| stream.span(Micros::from_millis(low), Micros::from_millis(high));
        let is_loop = workload == "agent-loop";
        Options {
            workload: workload.to_owned(),
            workers: stream.between(1, 4),
            consumers: if has_program { 1 } else { stream.between(1, 3) },
            items: if is_loop { stream.between(1, 3) } else { stream.between(3, 14) },
            size: if is_loop { stream.between(3, 12) } else { 1 },
            clients: stream.between(1, 3),
            poll_interval: millis(&mut stream, 15, 200),
            tick_interval: millis(&mut stream, 15, 150),
            rotation_period: millis(&mut stream, 150, 1500),
            lock_timeout: millis(&mut stream, 10, 600),
            dead_interval: millis(&mut stream, 250, 1500),
            work_duration: millis(&mut stream, 0, 60),
            page_limit: *stream.choose(&[1, 2, 3, 100]),
            faults_end: millis(&mut stream, 2500, 9000),
            faults: limits.faults.iter().copied().filter(|_| stream.chance(1, 2)).collect(),
        }
    }

    /// Time for everyone to be found dead and taken over, and then for the longest workflow to take its steps one by
    /// one, each behind all the others, a tick, a poll and a claim that lingers.
    fn liveness_bound(&self) -> Micros {
        let steps = 2 * self.size + 4;
        let step = self.tick_interval.0 + 2 * self.poll_interval.0 + self.items * self.work_duration.0 + 300_000;
        Micros(Micros::from_secs(10).0 + 10 * self.dead_interval.0 + 2 * steps * step)
    }

    fn has(&self, kind: FaultKind) -> bool {
        self.faults.contains(&kind)
    }

    fn named(&self) -> Vec<(String, String)> {
        let faults: Vec<&str> = self.faults.iter().map(|kind| kind.name()).collect();
        let named = [
            ("workers", self.workers.to_string()),
            ("consumers", self.consumers.to_string()),
            ("items", self.items.to_string()),
            ("size", self.size.to_string()),
            ("clients", self.clients.to_string()),
            ("poll_interval", self.poll_interval.to_string()),
            ("tick_interval", self.tick_interval.to_string()),
            ("rotation_period", self.rotation_period.to_string()),
            ("lock_timeout", self.lock_timeout.to_string()),
            ("dead_interval", self.dead_interval.to_string()),
            ("work_duration", self.work_duration.to_string()),
            ("page_limit", self.page_limit.to_string()),
            ("faults_end", self.faults_end.to_string()),
            ("faults", faults.join(",")),
        ];
        named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Draws a plan. Cost: a few microseconds.
pub fn generate(seed: u64, workload: &str, program: Option<&dyn Program>, limits: &Limits) -> Plan {
    let options = Options::draw(seed, workload, program.is_some(), limits);
    let mut plan = Plan {
        seed,
        workload: options.workload.clone(),
        options: options.named(),
        processes: Vec::new(),
        faults: Vec::new(),
        dead_interval: options.dead_interval,
        rotation_period: options.rotation_period,
        latency: (Micros(100), Micros(600)),
        faults_end: options.faults_end,
        liveness_bound: options.liveness_bound(),
        end: End::Drained,
        wal_level: WalLevel::default(),
    };
    add_setup(&mut plan, &options, program.is_some());
    add_duties(&mut plan, &options, program);
    add_workers(&mut plan, &options);
    add_clients(&mut plan, &options, program);
    add_late_producers(&mut plan, &options, program);
    add_holders(&mut plan, &options);
    add_faults(&mut plan, &options);
    plan
}

impl Plan {
    fn add(&mut self, name: String, role: Role) {
        self.processes.push(ProcessPlan { name, role });
    }

    fn add_script(&mut self, name: String, rounds: Vec<Round>) {
        self.add(name, Role::Script(ScriptOptions::Once { rounds }));
    }
}

/// Actors begin once the setup is done.
const START: Micros = Micros::from_millis(10);

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

/// A duty that calls one procedure over and over, each time in a transaction of its own.
pub fn duty(op: PlainOp, every: Micros) -> Role {
    let round = Round {
        at: START,
        on_lost_reply: OnLostReply::GiveUp,
        on_refusal: OnRefusal::RollBack,
        statements: vec![statement(op)],
    };
    Role::Script(ScriptOptions::Periodic { every, round })
}

fn add_duties(plan: &mut Plan, options: &Options, program: Option<&dyn Program>) {
    let rotate = Op::Rotate { queue: QUEUE, lock_timeout: options.lock_timeout };
    plan.add("ticker".to_owned(), duty(Op::Tick { queue: QUEUE }, options.tick_interval));
    plan.add("rotation".to_owned(), duty(rotate.clone(), options.rotation_period));
    let mut stream = Stream::new(plan.seed, "duty", 0);
    if options.has(FaultKind::DutyInTransaction) {
        let rounds = (0..stream.between(2, 6)).map(|_| {
            let op = if stream.chance(3, 4) { Op::Tick { queue: QUEUE } } else { rotate.clone() };
            let open_for = stream.span(Micros::from_millis(5), Micros::from_millis(600));
            if stream.chance(1, 4) {
                return tick_after_a_write(&mut stream, options, program);
            }
            bracketed(&mut stream, options, Isolation::ReadCommitted, vec![statement(op)], open_for)
        });
        plan.add_script("duty-in-transaction".to_owned(), in_order(rounds.collect()));
    }
    if options.has(FaultKind::DutyRepeatableRead) {
        let rounds = (0..stream.between(2, 6)).map(|_| {
            let peek = Op::Peek { queue: QUEUE, table: stream.below(3) as u8 };
            let op = if stream.chance(3, 4) { Op::Tick { queue: QUEUE } } else { rotate.clone() };
            let later = stream.span(Micros::from_millis(5), Micros::from_millis(1200));
            let statements = vec![statement(peek), (later, op)];
            bracketed(&mut stream, options, Isolation::RepeatableRead, statements, Micros(0))
        });
        plan.add_script("duty-repeatable-read".to_owned(), in_order(rounds.collect()));
    }
}

/// A client that ticks in a transaction that has written, and does not notice that it is refused.
fn tick_after_a_write(stream: &mut Stream, options: &Options, program: Option<&dyn Program>) -> Round {
    let write = arrival(NEVER_COMMITTED + stream.below(1000), options, program);
    let peek = Op::Peek { queue: QUEUE, table: 0 };
    let statements = [write, Op::Tick { queue: QUEUE }, peek].map(statement).to_vec();
    let round = bracketed(stream, options, Isolation::ReadCommitted, statements, Micros(0));
    Round { on_refusal: OnRefusal::CarryOn, ..round }
}

/// Items from here on are written only where a refusal takes them back.
const NEVER_COMMITTED: u64 = 1_000_000;

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

fn worker_options(options: &Options, consumer: Consumer) -> WorkerOptions {
    WorkerOptions {
        consumer,
        subscribe_to: None,
        start_at: START,
        poll_interval: options.poll_interval,
        dead_interval: options.dead_interval,
        heartbeat_interval: Micros(options.dead_interval.0 / 4),
        work_duration: options.work_duration,
        slowness: None,
        page_limit: options.page_limit,
        claim: ClaimHabit::Alone,
        handoff: HandoffHabit::Whole,
    }
}

fn add_workers(plan: &mut Plan, options: &Options) {
    let mut stream = Stream::new(plan.seed, "worker", 0);
    let count = options.workers.max(options.consumers);
    for index in 0..count {
        let consumer = Consumer((index % options.consumers) as u8);
        let mut worker = worker_options(options, consumer);
        if options.has(FaultKind::ClaimInTransaction) && stream.chance(1, 2) {
            let open_for = stream.span(Micros::from_millis(1), Micros::from_millis(250));
            worker.claim = ClaimHabit::InTransaction { open_for };
        }
        if options.has(FaultKind::PartialHandoff) && index == 0 {
            worker.handoff = HandoffHabit::FirstPage;
            worker.page_limit = stream.between(1, 2) as u32;
        }
        if options.has(FaultKind::SlowConsumer) && index + 1 == count {
            worker.slowness = Some(Slowness {
                until: options.faults_end,
                poll_interval: stream.span(Micros::from_millis(400), Micros::from_millis(2500)),
                work_duration: stream.span(Micros::from_millis(20), options.dead_interval),
            });
        }
        plan.add(format!("worker-{index}"), Role::Worker(worker));
    }
    if options.has(FaultKind::SecondConsumer) {
        // On a plain queue a second one is welcome, unless its name is taken.
        let taken = options.consumers > 1 && stream.chance(1, 2);
        let consumer = if taken { CONSUMER } else { Consumer(options.consumers as u8) };
        let start_at = stream.span(START, options.faults_end);
        let worker = WorkerOptions { subscribe_to: Some(QUEUE), start_at, ..worker_options(options, consumer) };
        plan.add("second-consumer".to_owned(), Role::Worker(worker));
    }
}

/// What brings one item of work: a start or a message.
fn arrival(item: u64, options: &Options, program: Option<&dyn Program>) -> PlainOp {
    match program {
        Some(program) => {
            let (step, state) = program.start(item as u32, options.size);
            Op::Start { queue: QUEUE, key: Key(item as u32), step, state }
        }
        None => Op::Append { queue: QUEUE, payload: item },
    }
}

/// A start is idempotent by its key; a message is not, and its client asks what became of it.
fn on_lost_reply(program: Option<&dyn Program>) -> OnLostReply {
    if program.is_some() { OnLostReply::Repeat } else { OnLostReply::Resolve }
}

fn add_clients(plan: &mut Plan, options: &Options, program: Option<&dyn Program>) {
    let mut stream = Stream::new(plan.seed, "client", 0);
    let mut rounds: Vec<Vec<Round>> = (0..options.clients).map(|_| Vec::new()).collect();
    for item in 0..options.items {
        let client = stream.below(options.clients) as usize;
        let at = stream.span(START, options.faults_end);
        let op = arrival(item, options, program);
        let round = Round {
            at,
            on_lost_reply: on_lost_reply(program),
            on_refusal: OnRefusal::RollBack,
            statements: client_statements(&mut stream, op, program.is_some()),
        };
        rounds[client].push(round);
    }
    for (index, rounds) in rounds.into_iter().enumerate() {
        plan.add_script(format!("client-{index}"), in_order(rounds));
    }
}

/// One item, alone or in a transaction that stays open for a while; now and then it is rolled back first.
fn client_statements(stream: &mut Stream, op: PlainOp, may_stand_alone: bool) -> Vec<(Micros, PlainOp)> {
    if may_stand_alone && stream.chance(1, 3) {
        return vec![statement(op)];
    }
    let isolation = if stream.chance(1, 3) { Isolation::RepeatableRead } else { Isolation::ReadCommitted };
    let open_for = if stream.chance(1, 2) { stream.span(Micros(0), Micros::from_millis(400)) } else { Micros(0) };
    let mut statements = Vec::new();
    if stream.chance(1, 6) {
        statements.extend([statement(Op::Begin { isolation }), statement(op.clone()), (open_for, Op::Rollback)]);
    }
    statements.push(statement(Op::Begin { isolation }));
    if stream.chance(1, 6) {
        let undone = [Op::Savepoint { level: 1 }, op.clone(), Op::RollbackTo { level: 1 }];
        statements.extend(undone.map(statement));
    }
    statements.extend([statement(op), (open_for, Op::Commit)]);
    statements
}

/// Producers whose snapshot is older than the log's pointer by the time they append.
fn add_late_producers(plan: &mut Plan, options: &Options, program: Option<&dyn Program>) {
    if !options.has(FaultKind::LateProducer) {
        return;
    }
    let mut stream = Stream::new(plan.seed, "late", 0);
    for index in 0..stream.between(1, 4) {
        // Now and then what it starts has been started already, unseen by its snapshot.
        let known = program.is_some() && stream.chance(1, 3);
        let item = if known { stream.below(options.items) } else { options.items + index };
        let peek = Op::Peek { queue: QUEUE, table: stream.below(3) as u8 };
        let wait = stream.span(Micros(0), Micros(3 * options.rotation_period.0));
        let statements = vec![
            statement(Op::Begin { isolation: Isolation::RepeatableRead }),
            statement(peek),
            (wait, arrival(item, options, program)),
            (stream.span(Micros(0), options.lock_timeout), Op::Commit),
        ];
        let at = stream.span(START, options.faults_end);
        let round = Round { at, on_lost_reply: on_lost_reply(program), on_refusal: OnRefusal::RollBack, statements };
        plan.add_script(format!("late-producer-{index}"), vec![round]);
    }
}

fn add_holders(plan: &mut Plan, options: &Options) {
    if !options.has(FaultKind::HeldTransaction) {
        return;
    }
    let mut stream = Stream::new(plan.seed, "holder", 0);
    for index in 0..stream.between(1, 2) {
        let rounds = (0..stream.between(1, 3)).map(|_| {
            let isolation = if stream.chance(1, 2) { Isolation::RepeatableRead } else { Isolation::ReadCommitted };
            let mut statements = vec![statement(hold_of(&mut stream))];
            // A second hold, in whatever order: two holders may wait for each other.
            if stream.chance(1, 2) {
                let later = stream.span(Micros::from_millis(5), Micros::from_millis(300));
                statements.push((later, hold_of(&mut stream)));
            }
            let open_for = stream.span(Micros::from_millis(50), Micros::from_millis(2000));
            bracketed(&mut stream, options, isolation, statements, open_for)
        });
        plan.add_script(format!("holder-{index}"), in_order(rounds.collect()));
    }
}

/// A look at an event table, or maintenance's lock on it.
fn hold_of(stream: &mut Stream) -> PlainOp {
    let table = stream.below(3) as u8;
    let modes = [TableLock::AccessShare, TableLock::RowExclusive, TableLock::Share, TableLock::AccessExclusive];
    let mode = *stream.choose(&modes);
    if stream.chance(1, 2) { Op::Peek { queue: QUEUE, table } } else { Op::LockTable { queue: QUEUE, table, mode } }
}

fn add_faults(plan: &mut Plan, options: &Options) {
    let mut stream = Stream::new(plan.seed, "fault", 0);
    let named = |prefix: &str| -> Vec<Process> {
        let processes = plan.processes.iter().enumerate();
        processes
            .filter(|(_, process)| process.name.starts_with(prefix))
            .map(|(index, _)| Process(index as u8))
            .collect()
    };
    let (workers, clients, late) = (named("worker-"), named("client-"), named("late-producer-"));
    let duties = [named("ticker"), named("rotation")].concat();
    let callers = [workers.clone(), workers.clone(), clients, late].concat();
    let mut faults = Vec::new();
    let mut add = |kind: FaultKind, stream: &mut Stream, make: &dyn Fn(&mut Stream) -> PlannedFault| {
        if options.has(kind) {
            faults.extend((0..stream.between(1, 4)).map(|_| make(stream)));
        }
    };
    let dead = options.dead_interval.0;
    add(FaultKind::WorkerCrash, &mut stream, &|stream| {
        let restart_after = stream.span(Micros::from_millis(10), Micros(2 * dead));
        let when = somewhere(stream, options, &workers);
        PlannedFault { when, what: PlannedEffect::Crash { restart_after } }
    });
    add(FaultKind::WorkerPause, &mut stream, &|stream| {
        let duration = Micros(dead + stream.between(dead / 10, 2 * dead));
        PlannedFault { when: somewhere(stream, options, &workers), what: PlannedEffect::Pause { duration } }
    });
    add(FaultKind::LostReply, &mut stream, &|stream| {
        let process = *stream.choose(&callers);
        PlannedFault { when: point(stream, process), what: PlannedEffect::LostReply }
    });
    add(FaultKind::DutyStop, &mut stream, &|stream| {
        let at = stream.span(START, options.faults_end);
        let duration = stream.span(Micros::from_millis(300), Micros::from_secs(4));
        let when = When::Time { at, process: *stream.choose(&duties) };
        PlannedFault { when, what: PlannedEffect::Pause { duration } }
    });
    if options.has(FaultKind::ServerCrash) {
        faults.extend((0..stream.between(1, 2)).map(|_| {
            let down_for = stream.span(Micros::from_millis(20), Micros::from_millis(800));
            PlannedFault {
                when: somewhere(&mut stream, options, &callers),
                what: PlannedEffect::ServerCrash { down_for },
            }
        }));
    }
    plan.faults = faults;
}

fn somewhere(stream: &mut Stream, options: &Options, processes: &[Process]) -> When {
    let process = *stream.choose(processes);
    match stream.chance(1, 3) {
        true => When::Time { at: stream.span(START, options.faults_end), process },
        false => point(stream, process),
    }
}

/// The calls of a transaction are few among many idle claims, so they are aimed at by kind.
fn point(stream: &mut Stream, process: Process) -> When {
    use CallKind::{Any, Append, Begin, Claim, Commit, Effect, Handoff, Hold, Read, Start};
    let call =
        *stream.choose(&[Any, Begin, Claim, Read, Hold, Effect, Handoff, Handoff, Commit, Commit, Start, Append]);
    let nth = stream.below(if call == Any { 150 } else { 10 }) as u32;
    let phase = if stream.chance(1, 2) { Phase::Before } else { Phase::After };
    When::Point { process, call, nth, phase }
}
