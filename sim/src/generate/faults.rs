//! The faults of a plan: what befalls its processes and its server, and where.

use super::duties::DUTIES;
use super::options::Options;
use super::{START, crowd, resurrection};
use crate::faults::FaultKind;
use crate::plan::{CallKind, Phase, Plan, PlannedEffect, PlannedFault, When};
use crate::random::Stream;
use std::collections::BTreeSet;
use tourbillon_engine::store::unflushed::Durability;
use tourbillon_models::name::{Micros, Process};
use tourbillon_models::record::ClockOffset;

pub fn add_faults(plan: &mut Plan, options: &Options) {
    let mut stream = Stream::new(plan.seed, "fault", 0);
    let named = |prefix: &str| -> Vec<Process> {
        let processes = plan.processes.iter().enumerate();
        processes
            .filter(|(_, process)| process.name.starts_with(prefix))
            .map(|(index, _)| Process(index as u8))
            .collect()
    };
    let workers = [named("worker-"), named("standby-")].concat();
    let (clients, late) = (named("client-"), named("late-producer-"));
    let duties: Vec<Process> = DUTIES.iter().flat_map(|name| named(name)).collect();
    let tellers = [named("emitter-"), named("hearer-")].concat();
    let waiters = [named("expiry"), named("observer-")].concat();
    let callers = [workers.clone(), workers.clone(), clients, late, tellers.clone(), waiters].concat();
    // Who emits may die and stand still like a worker.
    let mortals = [workers.clone(), tellers].concat();
    let places = Places::of(plan, options);
    let mut faults = Vec::new();
    let mut add = |kind: FaultKind, stream: &mut Stream, make: &dyn Fn(&mut Stream) -> (When, PlannedEffect)| {
        if options.has(kind) {
            faults.extend((0..stream.between(1, 4)).map(|_| {
                let (when, what) = make(stream);
                PlannedFault { when, what, kind: Some(kind) }
            }));
        }
    };
    let dead = options.dead_interval.0;
    add(FaultKind::WorkerCrash, &mut stream, &|stream| {
        let restart_after = stream.span(Micros::from_millis(10), Micros(2 * dead));
        let when = places.somewhere(stream, &mortals);
        (when, PlannedEffect::Crash { restart_after })
    });
    add(FaultKind::WorkerPause, &mut stream, &|stream| {
        let duration = Micros(dead + stream.between(dead / 10, 2 * dead));
        (places.somewhere(stream, &mortals), PlannedEffect::Pause { duration })
    });
    add(FaultKind::LostReply, &mut stream, &|stream| {
        let process = *stream.choose(&callers);
        (places.point(stream, process), PlannedEffect::LostReply)
    });
    add(FaultKind::DutyStop, &mut stream, &|stream| {
        let at = stream.span(START, options.faults_end);
        let duration = stream.span(Micros::from_millis(300), Micros::from_secs(4));
        let when = When::Time { at, process: *stream.choose(&duties) };
        (when, PlannedEffect::Pause { duration })
    });
    let loses = options.has(FaultKind::AsyncCommitLoss) && !options.is_resurrection;
    if options.has(FaultKind::ServerCrash) || loses {
        faults.extend((0..stream.between(1, 2)).map(|_| {
            let down_for = stream.span(Micros::from_millis(20), Micros::from_millis(800));
            PlannedFault {
                when: places.somewhere(&mut stream, &callers),
                what: PlannedEffect::ServerCrash { down_for },
                kind: options.has(FaultKind::ServerCrash).then_some(FaultKind::ServerCrash),
            }
        }));
    }
    if options.has(FaultKind::AsyncCommitLoss) {
        plan.durability = Durability::Asynchronous;
        faults.extend(flushes(plan.seed, options, &places, &callers));
    }
    let (fewest, most) = options.shape.more_pauses;
    faults.extend((0..stream.between(fewest, most)).map(|_| {
        let duration = Micros(dead + stream.between(dead / 10, 3 * dead));
        PlannedFault { when: in_a_step(&mut stream, &workers), what: PlannedEffect::Pause { duration }, kind: None }
    }));
    let (fewest, most) = options.shape.lost_commits;
    faults.extend((0..stream.between(fewest, most)).map(|_| {
        let (process, nth) = (*stream.choose(&workers), stream.below(8) as u32);
        let when = When::Point { process, call: CallKind::Commit, nth, phase: Phase::After, from: Micros(0) };
        PlannedFault { when, what: PlannedEffect::LostReply, kind: None }
    }));
    if options.is_crowd {
        faults.extend(crowd::standstills(plan.seed, &named("worker-")));
    }
    if let Some((at, duration)) = options.outage {
        let everyone = workers.iter().chain(&duties).copied();
        faults.extend(everyone.map(|process| PlannedFault {
            when: When::Time { at, process },
            what: PlannedEffect::Pause { duration },
            kind: None,
        }));
    }
    if options.has(FaultKind::ServerClockStep) {
        faults.extend(clock_steps(plan.seed, options));
    }
    if options.has(FaultKind::IdleTimeout) {
        faults.extend(idle_timeouts(plan.seed, options, &workers));
    }
    faults.extend(rarities(plan, options, &workers, &mortals, &callers));
    plan.faults = faults;
    if options.is_resurrection {
        resurrection::add_to(plan, options);
    }
}

/// When the log is flushed: seldom, or often. What the setup did is, before anybody can die.
fn flushes(seed: u64, options: &Options, places: &Places, callers: &[Process]) -> Vec<PlannedFault> {
    let mut stream = Stream::new(seed, "flush", 0);
    let setup = When::Time { at: START - Micros::from_millis(1), process: Process(0) };
    let most = if options.is_resurrection { 0 } else { *stream.choose(&[0, 2, 10, 40]) };
    let drawn = (0..stream.between(0, most)).map(|_| places.somewhere(&mut stream, callers));
    core::iter::once(setup)
        .chain(drawn)
        .map(|when| PlannedFault { when, what: PlannedEffect::Flush, kind: None })
        .collect()
}

/// Steps of the server's clock, forward and back; the last one, when faults end, sets it right.
fn clock_steps(seed: u64, options: &Options) -> Vec<PlannedFault> {
    let mut stream = Stream::new(seed, "server-clock", 0);
    let step = |stream: &mut Stream| {
        let at = stream.span(START, options.faults_end);
        let off = stream.span(Micros::from_millis(20), Micros::from_millis(2000));
        let offset = match stream.below(5) {
            0 => ClockOffset::NONE,
            1 | 2 => ClockOffset { ahead: off, ..ClockOffset::NONE },
            // The clock never shows less than when it all began.
            _ => ClockOffset { behind: off.min(Micros(at.0 / 2)), ..ClockOffset::NONE },
        };
        let when = When::Time { at, process: Process(0) };
        PlannedFault { when, what: PlannedEffect::ServerClockStep(offset), kind: Some(FaultKind::ServerClockStep) }
    };
    let when = When::Time { at: options.faults_end, process: Process(0) };
    let last = PlannedFault { when, what: PlannedEffect::ServerClockStep(ClockOffset::NONE), kind: None };
    (0..stream.between(1, 5)).map(|_| step(&mut stream)).chain([last]).collect()
}

/// Inside the step's transaction, for less than the dead interval and for more.
fn idle_timeouts(seed: u64, options: &Options, workers: &[Process]) -> Vec<PlannedFault> {
    use CallKind::{Commit, Effect, Handoff, Hold};
    let mut stream = Stream::new(seed, "idle-timeout", 0);
    let dead = options.dead_interval.0;
    let timeout = |stream: &mut Stream| {
        let (call, phase) = *stream.choose(&[
            (Hold, Phase::After),
            (Effect, Phase::Before),
            (Effect, Phase::After),
            (Handoff, Phase::Before),
            (Handoff, Phase::After),
            (Commit, Phase::Before),
        ]);
        let when =
            When::Point { process: *stream.choose(workers), call, nth: stream.below(6) as u32, phase, from: Micros(0) };
        let idle = Micros(stream.between(dead / 10, 2 * dead));
        let duration = idle + Micros(stream.between(1, 2 * dead));
        PlannedFault { when, what: PlannedEffect::IdleTimeout { idle, duration }, kind: Some(FaultKind::IdleTimeout) }
    };
    (0..stream.between(1, 4)).map(|_| timeout(&mut stream)).collect()
}

/// What would fall too rarely if nobody aimed at it: on who waits for a lock that few have to wait for, on a duty's open
/// transaction, on the moment between a wait's registration and its commit. Each falls only where there is such a moment.
fn rarities(
    plan: &Plan,
    options: &Options,
    workers: &[Process],
    mortals: &[Process],
    callers: &[Process],
) -> Vec<PlannedFault> {
    use CallKind::{Append, Emit, ExpireWaits, HandOut, Handoff, Hold, Start};
    let mut stream = Stream::new(plan.seed, "rarity", 0);
    let dead = options.dead_interval.0;
    let mut faults = Vec::new();
    let mut aim = |process: Process, call, (nth, phase), what, kind| {
        let when = When::Point { process, call, nth, phase, from: Micros(0) };
        faults.push(PlannedFault { when, what, kind: Some(kind) });
    };
    if options.has(FaultKind::WorkerCrash) {
        let restart_after = stream.span(Micros::from_millis(10), Micros(2 * dead));
        for process in mortals {
            for call in [Hold, HandOut, Emit, Start] {
                aim(
                    *process,
                    call,
                    (0, Phase::Waiting),
                    PlannedEffect::Crash { restart_after },
                    FaultKind::WorkerCrash,
                );
            }
        }
    }
    if options.has(FaultKind::ServerCrash) {
        let down_for = stream.span(Micros::from_millis(20), Micros::from_millis(800));
        let crash = PlannedEffect::ServerCrash { down_for };
        for call in [HandOut, Emit, Append] {
            let aimed = if stream.chance(1, 2) { callers.iter().collect() } else { BTreeSet::new() };
            for process in aimed {
                aim(*process, call, (0, Phase::Waiting), crash, FaultKind::ServerCrash);
            }
        }
        let in_transaction = plan.processes.iter().position(|process| process.name == "duty-in-transaction");
        if let Some(process) = in_transaction {
            aim(Process(process as u8), ExpireWaits, (0, Phase::After), crash, FaultKind::ServerCrash);
        }
    }
    if options.has(FaultKind::WorkerPause) && options.waits.is_some() {
        for process in workers {
            for _ in 0..2 {
                let (nth, duration) = (stream.below(6) as u32, Micros(stream.between(dead / 10, dead)));
                let pause = PlannedEffect::Pause { duration };
                aim(*process, Handoff, (nth, Phase::After), pause, FaultKind::WorkerPause);
            }
        }
    }
    faults
}

/// Outside the step's transaction and inside it.
fn in_a_step(stream: &mut Stream, workers: &[Process]) -> When {
    use CallKind::{Begin, Commit, Effect, Handoff, Hold, Read};
    let call = *stream.choose(&[Read, Begin, Hold, Effect, Handoff, Commit]);
    let phase = if stream.chance(1, 2) { Phase::Before } else { Phase::After };
    When::Point { process: *stream.choose(workers), call, nth: stream.below(6) as u32, phase, from: Micros(0) }
}

/// Where faults may fall: what each process calls.
struct Places {
    calls: Vec<Vec<CallKind>>,
    until: Micros,
}

impl Places {
    fn of(plan: &Plan, options: &Options) -> Places {
        let calls = plan.processes.iter().map(|process| calls(&process.name, options)).collect();
        Places { calls, until: options.faults_end }
    }

    fn somewhere(&self, stream: &mut Stream, processes: &[Process]) -> When {
        let process = *stream.choose(processes);
        match stream.chance(1, 3) {
            true => When::Time { at: stream.span(START, self.until), process },
            false => self.point(stream, process),
        }
    }

    fn point(&self, stream: &mut Stream, process: Process) -> When {
        let call = *stream.choose(&self.calls[process.0 as usize]);
        let nth = stream.below(if call == CallKind::Any { 150 } else { 10 }) as u32;
        let phase = if stream.chance(1, 2) { Phase::Before } else { Phase::After };
        When::Point { process, call, nth, phase, from: Micros(0) }
    }
}

/// The calls of a transaction are few among many idle claims, so they are aimed at by kind.
fn calls(process: &str, options: &Options) -> Vec<CallKind> {
    use CallKind::{
        Any, Append, Begin, Claim, Commit, Effect, Emit, ExpireWaits, HandOut, Handoff, Hold, Observe, Read,
        ReadResults, Schedule, Start,
    };
    match process.split('-').next() {
        Some("emitter" | "hearer") => vec![Begin, Start, Emit, Emit, Emit, Commit],
        Some("expiry") => vec![ExpireWaits],
        Some("observer") => vec![Observe],
        _ => {
            let usual = [
                Any, Begin, Claim, Read, HandOut, Hold, Effect, Handoff, Handoff, Commit, Commit, Start, Append,
                Schedule,
            ];
            let joins = if options.has_joins() { &[ReadResults, ReadResults][..] } else { &[] };
            [&usual, joins].concat()
        }
    }
}
