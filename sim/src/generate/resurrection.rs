//! A zombie whose claim a crash has lost, and another who is given the same numbers again.
//!
//! 1. The first worker registers, claims the first window and has read it when the server dies: nothing since the setup was
//!    flushed. 2. It stands still. 3. The second one registers and claims what has come since; where numbers are issued in
//!    order, as whom and under what the first one did. It stands still in its turn, its window open. 4. The first one goes
//!    on. What it is not: the rest of the plan, which is drawn as ever and may get in the way.

use super::START;
use super::options::Options;
use super::shape::{Arrivals, Interruption, Shape};
use crate::faults::FaultKind;
use crate::plan::{CallKind, Phase, Plan, PlannedEffect, PlannedFault, Role, When};
use crate::random::Stream;
use tourbillon_engine::actors::script::ScriptOptions;
use tourbillon_models::name::{Micros, Process};

/// For some seeds. In a burst windows hardly ever look alike, and other interruptions are about something else.
pub fn befalls(seed: u64, shape: &Shape) -> bool {
    let is_plain = shape.interruption == Interruption::None && shape.arrivals == Arrivals::Spread;
    is_plain && Stream::new(seed, "resurrection", 0).chance(1, 9)
}

/// Two workers, who each read a window at once; and little else goes wrong.
pub fn prepare(seed: u64, options: &mut Options) {
    (options.workers, options.standbys, options.consumers) = (2, 0, 1);
    options.page_limit = 100;
    let mut stream = Stream::new(seed, "resurrection", 1);
    let forced = options.shape.forced;
    let stays = |kind: &FaultKind| *kind == FaultKind::AsyncCommitLoss || forced.contains(kind);
    options.faults.retain(|kind| stays(kind) || stream.chance(1, 5));
}

pub fn add_to(plan: &mut Plan, options: &Options) {
    let mut stream = Stream::new(plan.seed, "resurrection", 2);
    let named = |plan: &Plan, name| {
        let place = plan.processes.iter().position(|process| process.name == name);
        Process(place.expect("a plan has two workers and every duty") as u8)
    };
    let (first, second) = (named(plan, "worker-0"), named(plan, "worker-1"));
    let (arrival, next_arrival) = first_arrivals(plan);
    if let Role::Worker(worker) = &mut plan.processes[second.0 as usize].role {
        let from = arrival + stream.span(Micros::from_millis(300), Micros::from_millis(700));
        worker.start_at = worker.start_at.max(from);
    }
    let mut add = |when, what| plan.faults.push(PlannedFault { when, what, kind: None });
    let point = |process, call, phase| When::Point { process, call, nth: 0, phase, from: Micros(0) };

    let down_for = stream.span(Micros::from_millis(20), Micros::from_millis(100));
    add(point(first, CallKind::Read, Phase::After), PlannedEffect::ServerCrash { down_for });
    let standstill = next_arrival - arrival + stream.span(Micros::from_millis(500), Micros::from_millis(1500));
    let overlap = stream.span(Micros::from_millis(100), Micros::from_millis(1000));
    for (process, duration) in [(first, standstill), (second, standstill + overlap)] {
        // A handoff without effects has no transaction.
        for call in [CallKind::Begin, CallKind::Handoff] {
            add(point(process, call, Phase::Before), PlannedEffect::Pause { duration });
        }
    }
    // What the zombie does is not lost in its turn.
    for call in [CallKind::Handoff, CallKind::Commit] {
        add(point(first, call, Phase::After), PlannedEffect::Flush);
    }
    // A truncation would flush.
    for name in ["rotation", "timer-rotation"] {
        let when = When::Time { at: START - Micros::from_millis(1), process: named(plan, name) };
        let what = PlannedEffect::Pause { duration: options.faults_end };
        plan.faults.push(PlannedFault { when, what, kind: None });
    }
}

/// When clients first do something, and when next.
fn first_arrivals(plan: &Plan) -> (Micros, Micros) {
    let clients = plan.processes.iter().filter(|process| process.name.starts_with("client-"));
    let rounds = clients.filter_map(|process| match &process.role {
        Role::Script(ScriptOptions::Once { rounds }) => Some(rounds),
        _ => None,
    });
    let mut at: Vec<Micros> = rounds.flatten().map(|round| round.at).collect();
    at.sort_unstable();
    let first = at.first().copied().unwrap_or(START);
    (first, at.get(1).copied().unwrap_or(first))
}
