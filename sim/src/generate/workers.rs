//! Workers, with their habits, their clocks and their deployments.

use super::options::Options;
use super::shape::Interruption;
use super::{CONSUMER, QUEUE, START};
use crate::clock::{Clock, Drift};
use crate::faults::FaultKind;
use crate::plan::{Plan, Role};
use crate::random::Stream;
use tourbillon_engine::actors::worker::options::{
    BurialHabit, ClaimHabit, ErrorHabit, HandoffHabit, IdentityHabit, Slowness, WorkerOptions,
};
use tourbillon_models::name::{Consumer, Micros};

fn worker_options(options: &Options, consumer: Consumer) -> WorkerOptions {
    WorkerOptions {
        start_at: START,
        poll_interval: options.poll_interval,
        dead_interval: options.dead_interval,
        heartbeat_interval: Micros(options.dead_interval.0 / 4),
        work_duration: options.work_duration,
        page_limit: options.page_limit,
        max_tries: options.max_tries,
        identity: if options.has(FaultKind::AsyncCommitLoss) { IdentityHabit::Renewed } else { IdentityHabit::Kept },
        ..WorkerOptions::plain(consumer)
    }
}

pub fn add_workers(plan: &mut Plan, options: &Options) {
    let mut stream = Stream::new(plan.seed, "worker", 0);
    let first = plan.processes.len();
    let count = options.workers.max(options.consumers);
    // Where one consumer is to stand still, nobody else works for it.
    let count = if options.shape.interruption == Interruption::Standstill { options.consumers } else { count };
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
            worker.slowness = Some(slowness(&mut stream, options));
        }
        add_habits(&mut worker, &mut stream, options, (index, count));
        if options.shape.interruption == Interruption::Deployment {
            worker.deploy_at = Some(stream.span(START, options.faults_end));
        }
        plan.add(format!("worker-{index}"), Role::Worker(worker));
    }
    for index in 0..options.standbys {
        let consumer = Consumer(stream.below(options.consumers) as u8);
        let worker = WorkerOptions { claim: ClaimHabit::Standby, ..worker_options(options, consumer) };
        plan.add(format!("standby-{index}"), Role::Worker(worker));
    }
    if options.has(FaultKind::ClockDrift) {
        add_drift(plan, options, first);
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

fn slowness(stream: &mut Stream, options: &Options) -> Slowness {
    let poll_interval = match options.shape.interruption {
        Interruption::Standstill => options.faults_end,
        _ => stream.span(Micros::from_millis(400), Micros::from_millis(2500)),
    };
    let work_duration = stream.span(Micros::from_millis(20), options.dead_interval);
    Slowness { until: options.faults_end, poll_interval, work_duration }
}

/// Habits of the transaction in which a step ends. There are errors to be swallowed where a page is taken for the window.
fn add_habits(worker: &mut WorkerOptions, stream: &mut Stream, options: &Options, (index, count): (u64, u64)) {
    if options.has(FaultKind::SwallowedError) && index == count / 2 {
        worker.errors = ErrorHabit::Swallowed;
        worker.handoff = HandoffHabit::FirstPage;
        worker.page_limit = 1;
    }
    if options.has(FaultKind::ForgottenHandoff) && stream.chance(1, count) {
        worker.handoff = HandoffHabit::Forgotten;
    }
    if options.has(FaultKind::ReplayTwice) {
        worker.burial = BurialHabit::ReplayedTwice { until: options.faults_end };
    }
}

/// Clocks that are far off, until somebody sets them: the engine must not care, and heartbeats come when they come.
fn add_drift(plan: &mut Plan, options: &Options, first: usize) {
    let mut stream = Stream::new(plan.seed, "clock", 0);
    for (index, process) in plan.processes.iter_mut().enumerate().skip(first) {
        let is_wrong = index == first || stream.chance(1, 2);
        let (shown, passed) = *stream.choose(&[(1, 4), (1, 2), (9, 10), (1, 1), (11, 10), (2, 1), (4, 1)]);
        let ahead = stream.span(Micros(0), Micros::from_secs(3));
        let until = stream.span(Micros(options.faults_end.0 / 3), options.faults_end);
        if let (true, Role::Worker(worker)) = (is_wrong, &mut process.role) {
            // Not before the setup is done, however fast the clock runs.
            worker.start_at = ahead + Micros(4 * START.0);
            process.clock = Clock::Wrong(Drift { ahead, shown, passed, until });
        }
    }
}
