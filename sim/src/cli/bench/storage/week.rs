//! A week of a steady workload: a round of everything every two minutes.

use super::{Course, Sample, Unit};
use anyhow::{Result, bail, ensure};
use std::time::Instant;
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{Consumer, EventId, Key, Micros, Queue, Step, WorkerId};
use tourbillon_models::op::{Decision, Isolation, Op, QueueKind, Verb};
use tourbillon_models::reply::{Event, Reply};

pub const LENGTH: Micros = Micros::from_secs(7 * 24 * 60 * 60);

pub const CONFIGURATION: &str = "two queues; every two minutes of a simulated week: 10 messages; 5 more due in 10 minutes; 5 due \
     in an hour, cancelled two minutes later; 5 workflows begun, of 4 steps with sleeps of up to an hour between them; a \
     tick, a drain, and all windows handed off, those of workflows in a transaction that holds them; every 10 minutes all \
     rotations; 300 timers due next year lie there from the beginning, and every four hours the server's small tables are \
     vacuumed, as autovacuum would; nothing fails: there is no retry, no crash and no takeover, so no dead letter";

pub const STEPS: [&str; 1] = ["act"];
const STEPS_OF_WORKFLOW: u32 = 4;
const MESSAGES: Queue = Queue(0);
const FLOWS: Queue = Queue(1);
const QUEUES: [Queue; 2] = [MESSAGES, FLOWS];

const ROUND: Micros = Micros::from_secs(120);
const ROUNDS: u64 = LENGTH.0 / ROUND.0;
const ROTATE_EVERY: u64 = 5;
const VACUUM_EVERY: u64 = 120;
const SAMPLE_EVERY: u64 = 28;

/// Where a week is spent.
pub trait Place {
    fn set_clock(&mut self, now: Micros) -> Result<()>;
    fn call(&mut self, op: &PlainOp) -> Result<PlainReply>;
    fn vacuum(&mut self) -> Result<()>;
    fn sample(&mut self) -> Result<Sample>;
}

pub fn course(place: &mut impl Place, name: String, unit: Unit) -> Result<Course> {
    let begun = Instant::now();
    let samples = week(place)?;
    Ok(Course::of(name, unit, begun.elapsed().as_secs_f64(), &samples))
}

fn week(place: &mut impl Place) -> Result<Vec<Sample>> {
    place.set_clock(ROUND)?;
    let workers = set_up(place)?;
    let (mut samples, mut timeouts) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        place.set_clock(Micros(ROUND.0 * (round + 1)))?;
        for (event, due) in std::mem::take(&mut timeouts) {
            let reply = place.call(&Op::Cancel { queue: MESSAGES, event, due })?;
            ensure!(reply == Reply::Cancelled, "a timer of an hour is cancelled after two minutes: {reply:?}");
        }
        timeouts = produce(place, round)?;
        for (queue, worker) in QUEUES.into_iter().zip(workers) {
            place.call(&Op::Tick { queue })?;
            while matches!(place.call(&Op::Drain { queue, limit: 1_000 })?, Reply::Drained { is_done: false, .. }) {}
            consume(place, queue, worker)?;
        }
        if round % ROTATE_EVERY == 0 {
            rotate(place)?;
        }
        if round % VACUUM_EVERY == 0 {
            place.vacuum()?;
        }
        if round % SAMPLE_EVERY == 0 {
            samples.push(place.sample()?);
        }
    }
    Ok(samples)
}

fn set_up(place: &mut impl Place) -> Result<[WorkerId; 2]> {
    let mut workers = [WorkerId(0); 2];
    for (queue, kind) in QUEUES.into_iter().zip([QueueKind::Plain, QueueKind::Workflow]) {
        let consumer = Consumer(queue.0);
        place.call(&Op::CreateQueue { queue, kind })?;
        place.call(&Op::Subscribe { queue, consumer })?;
        let Reply::Registered { worker } = place.call(&Op::Register { consumer })? else {
            bail!("a worker is not registered")
        };
        workers[queue.0 as usize] = worker;
    }
    for _ in 0..300 {
        schedule(place, Micros::from_secs(365 * 24 * 60 * 60))?;
    }
    Ok(workers)
}

fn schedule(place: &mut impl Place, delay: Micros) -> Result<(EventId, Micros)> {
    match place.call(&Op::Schedule { queue: MESSAGES, payload: 0, delay })? {
        Reply::Scheduled { event, due, .. } => Ok((event, due)),
        other => bail!("a timer is not scheduled: {other:?}"),
    }
}

/// The timers that are to be cancelled.
fn produce(place: &mut impl Place, round: u64) -> Result<Vec<(EventId, Micros)>> {
    for _ in 0..10 {
        place.call(&Op::Append { queue: MESSAGES, payload: round })?;
    }
    for index in 0..5 {
        schedule(place, Micros::from_secs(600))?;
        let key = Key((round * 5 + index) as u32);
        place.call(&Op::Start { queue: FLOWS, key, step: Step(0), state: round })?;
    }
    (0..5).map(|_| schedule(place, Micros::from_secs(3600))).collect()
}

fn consume(place: &mut impl Place, queue: Queue, worker: WorkerId) -> Result<()> {
    let claim = Op::Claim { worker, dead_interval: Micros::from_secs(3600), at: Micros(0) };
    while let Reply::Claimed { token, .. } = place.call(&claim)? {
        let read = Op::Read { worker, token, after: EventId(0), limit: 100_000 };
        let Reply::Events(events) = place.call(&read)? else { bail!("a window is read") };
        let decisions = events.iter().map(decision).collect();
        let handoff = Op::Handoff { worker, token, decisions };
        if queue == MESSAGES {
            handed_off(place.call(&handoff)?)?;
            continue;
        }
        place.call(&Op::Begin { isolation: Isolation::ReadCommitted })?;
        place.call(&Op::Hold { worker, token, at: Micros(0) })?;
        handed_off(place.call(&handoff)?)?;
        place.call(&Op::Commit)?;
    }
    Ok(())
}

fn handed_off(reply: PlainReply) -> Result<()> {
    ensure!(matches!(reply, Reply::HandedOff { .. }), "a window is not handed off: {reply:?}");
    Ok(())
}

/// A message is dealt with; a workflow sleeps until its last step. How long is told by its event.
fn decision(event: &Event) -> Decision {
    let is_message = event.workflow.0 == 0;
    let verb = match event.sequence {
        _ if is_message => Verb::Acknowledge,
        STEPS_OF_WORKFLOW.. => Verb::Complete,
        _ => Verb::Sleep,
    };
    let minutes = 1 + u64::from(event.id.0) * 7_919 % 60;
    let delay = if verb == Verb::Sleep { Micros::from_secs(60 * minutes) } else { Micros(0) };
    let &Event { id, workflow, sequence, state, .. } = event;
    Decision { workflow, sequence: sequence + 1, delay, state, ..Decision::new(id, verb) }
}

fn rotate(place: &mut impl Place) -> Result<()> {
    let lock_timeout = Micros::from_millis(200);
    for queue in QUEUES {
        place.call(&Op::Rotate { queue, lock_timeout })?;
        place.call(&Op::RotateTimers { queue, lock_timeout })?;
    }
    Ok(())
}
