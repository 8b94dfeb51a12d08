//! How long a check takes, and how much memory: `cargo run --release -p tourbillon-models --example checker_bench [RECORDS]`.
//!
//! The history is a long run of agent loops, made up here without an engine: three workers poll, a ticker ticks, most
//! polls and ticks find nothing, a fifth of the rounds carries a step of each of eight workflows through a window, and
//! tables rotate. It must hold.

use std::time::Instant;
use tourbillon_models::history::{Header, History, PlainReply};
use tourbillon_models::name::{
    Consumer, EventId, Key, Micros, Name, Process, Queue, Session, Step, Tick, Token, WaitToken, WorkerId, WorkflowId,
    Xid,
};
use tourbillon_models::op::{Decision, Op, QueueKind, Verb};
use tourbillon_models::property::{Checker, Property};
use tourbillon_models::record::{Happening, RecordOf};
use tourbillon_models::reply::{Arrival, Event, Reply, SnapshotOf};
use tourbillon_models::verdict::Judgement;
use tourbillon_models::workload::{AgentLoop, Next, Program, StepInput};

const QUEUE: Queue = Queue(0);
const WORKFLOWS: u32 = 8;
const TICKER: u8 = 3;
/// One round in so many carries steps.
const IDLE_ROUNDS: u32 = 5;

fn main() {
    let record_count: usize = std::env::args().nth(1).map_or(10_000_000, |count| count.parse().expect("a number"));
    let history = Teller::new().tell(record_count);
    let before = resident_megabytes();
    let mut checker = Checker::new();
    for round in ["first", "again"] {
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        let verdict = checker.check(&history);
        let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let unsound = verdict.findings().iter().filter(|finding| finding.judgement == Judgement::Violated);
        assert_eq!(unsound.count(), 0, "{:?}", verdict.first_violation());
        println!(
            "{round}: {} records, {cpu:.3} s of processor ({wall:.3} s), {:.1} ns a record, {} handoffs",
            history.records.len(),
            cpu * 1e9 / history.records.len() as f64,
            verdict.of(Property::Q9).exercised,
        );
    }
    println!("memory: {before} MB for the history, {} MB with the checker's", resident_megabytes());
}

struct Teller {
    history: History,
    now: u64,
    xid: u32,
    event: u32,
    tick: u32,
    table: u8,
    live: Vec<Event>,
}

impl Teller {
    fn new() -> Self {
        let header = Header {
            format: 1,
            seed: 0,
            workload: "agent-loop".into(),
            steps: AgentLoop.steps().iter().map(|step| step.to_string()).collect(),
            names: vec![],
            target: "made up".into(),
            server: None,
            without: vec![],
            processes: ["a", "b", "c", "ticker"].map(String::from).to_vec(),
            dead_interval: Micros::from_secs(10),
            faults_end: Micros(0),
            liveness_bound: Micros(u64::MAX),
            rotation_period: Micros::from_secs(1),
            drain_interval: Micros::from_secs(1),
            options: vec![],
        };
        Teller { history: History::new(header), now: 0, xid: 1, event: 0, tick: 1, table: 0, live: vec![] }
    }

    fn tell(mut self, record_count: usize) -> History {
        self.say(TICKER, Op::CreateQueue { queue: QUEUE, kind: QueueKind::Workflow }, Reply::Done);
        let consumer = Consumer(0);
        self.say(TICKER, Op::Subscribe { queue: QUEUE, consumer }, Reply::Subscribed { cursor: Tick(1) });
        for worker in 0..3 {
            self.say(worker, Op::Register { consumer }, Reply::Registered { worker: WorkerId(u32::from(worker)) });
        }
        (0..WORKFLOWS).for_each(|key| self.start(key));
        let mut round = 0;
        let mut prev = 1;
        while self.history.records.len() < record_count {
            round += 1;
            self.now += 20_000;
            self.tick();
            if round % IDLE_ROUNDS == 0 {
                prev = self.step((round % 3) as u8, prev);
            }
            for worker in 0..3 {
                self.say(worker, claim(worker), Reply::Idle);
            }
            if round % 50 == 0 {
                self.table = (self.table + 1) % 3;
                let reply = Reply::Rotated { table: self.table, horizon: Tick(prev) };
                self.say(TICKER, Op::Rotate { queue: QUEUE, lock_timeout: Micros(1_000) }, reply);
            }
        }
        self.history
    }

    fn say(&mut self, process: u8, op: Op<Vec<Decision>>, reply: PlainReply) {
        let writes = !matches!(reply, Reply::Idle | Reply::Events(_));
        let after = if writes { Xid(self.xid) } else { Xid(0) };
        self.xid += u32::from(writes);
        for (xid, what) in [(Xid(0), Happening::Call(op)), (after, Happening::Return(reply))] {
            self.history.push_plain(&RecordOf {
                at: Micros(self.now),
                process: Process(process),
                incarnation: 0,
                session: Session(u16::from(process)),
                xid,
                what,
            });
        }
    }

    fn next_event(&mut self) -> EventId {
        self.event += 1;
        EventId(self.event)
    }

    fn start(&mut self, key: u32) {
        let (step, state) = AgentLoop.start(key, u64::from(u32::MAX));
        let (id, workflow, xid) = (self.next_event(), WorkflowId(key + 1), Xid(self.xid));
        let op = Op::Start { queue: QUEUE, key: Key(key), step, state };
        self.say(TICKER, op, Reply::Started { workflow, event: id, table: self.table });
        self.live.push(Event { id, xid, workflow, sequence: 1, step, attempt: 1, state, arrival: Arrival::Direct });
    }

    fn tick(&mut self) {
        self.tick += 1;
        let snapshot = SnapshotOf { xmax: Xid(self.xid), in_progress: vec![] };
        let reply = Reply::Ticked { tick: Tick(self.tick), at: Micros(self.now), snapshot };
        self.say(TICKER, Op::Tick { queue: QUEUE }, reply);
    }

    /// One step of every workflow, in one window.
    fn step(&mut self, process: u8, prev: u32) -> u32 {
        let (worker, token) = (WorkerId(u32::from(process)), Token(spread(self.now)));
        let reply =
            Reply::Claimed { token, prev: Tick(prev), next: Tick(self.tick), victim: WorkerId(0), isolated: false };
        self.say(process, claim(process), reply);
        let op = Op::Read { worker, token, after: EventId(0), limit: 100 };
        self.say(process, op, Reply::Events(self.live.clone()));
        let decisions: Vec<Decision> = self.live.iter().map(decide).collect();
        let xid = Xid(self.xid);
        let appended: Vec<EventId> = decisions.iter().map(|_| self.next_event()).collect();
        let ids = appended.iter().map(|id| id.0).collect();
        let reply = Reply::HandedOff {
            appended: ids,
            children: vec![],
            resumed: vec![],
            undeliverable: Vec::new(),
            table: self.table,
            timer_table: 0,
        };
        let successors = decisions.iter().zip(appended).map(|(decision, id)| {
            let Decision { workflow, sequence, step, state, .. } = *decision;
            Event { id, xid, workflow, sequence, step, attempt: 1, state, arrival: Arrival::Direct }
        });
        self.live = successors.collect();
        self.say(process, Op::Handoff { worker, token, decisions }, reply);
        self.tick
    }
}

fn claim(process: u8) -> Op<Vec<Decision>> {
    Op::Claim { worker: WorkerId(u32::from(process)), dead_interval: Micros::from_secs(10), at: Micros(0) }
}

fn decide(event: &Event) -> Decision {
    let end = Decision {
        event: event.id,
        verb: Verb::Complete,
        workflow: event.workflow,
        sequence: 0,
        step: Step(0),
        attempt: 1,
        max_attempts: 0,
        delay: Micros(0),
        state: 0,
        arrival: Arrival::Direct,
        name: Name(0),
        token: WaitToken::NONE,
    };
    let Event { step, state, arrival, attempt, .. } = *event;
    let input = StepInput { step, state, arrival, results: &[], attempt, version: 0 };
    let Next::Goto { step, state } = AgentLoop.decide(input).next else { return end };
    Decision { verb: Verb::Goto, sequence: event.sequence + 1, step, state, ..end }
}

/// A token that looks random.
fn spread(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.rotate_left(32)
}

/// The processor time of this thread; zero where the system does not tell.
fn cpu_seconds() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    told.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or_default() / 1e9
}

/// The most memory that the process has had so far.
fn resident_megabytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or_default() / 1_024
}
