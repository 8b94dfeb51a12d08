//! `bench net`: whole runs over a network between six hosts, from plan to verdict, on one thread.

use super::{Repeated, Stopwatch, median};
use crate::bench::{Load, loaded};
use crate::cli::figures::count;
use crate::cli::{Console, Exit};
use crate::plan::Plan;
use crate::simulate::{Simulator, Work};
use anyhow::{Result, ensure};
use serde::Serialize;
use tourbillon_engine::guard::Guards;
use tourbillon_models::verdict::Judgement;

/// So many times as fast as real time at least, by processor time.
pub const FLOOR: f64 = 50.0;

/// A measurement is of so many runs.
const RUNS: u64 = 16;

const CONFIGURATION: &str = "chain on one queue; six hosts: the server, 2 workers polling every 200 ms, a client that starts 40 \
     workflows of 4 steps over the first 20 s, a tick every 100 ms and a rotation every 5 s (and a seventh, which installs the \
     engine and is gone); 60 simulated seconds in ticks of 8 ms; in every run a crash, a pause, a lost reply, a server crash, and \
     half of the kinds of fault of a network; all properties checked; one thread";

#[derive(Serialize)]
struct Measured {
    configuration: &'static str,
    times_real_time: f64,
    /// The same by this thread's processor time.
    times_real_time_by_cpu: f64,
    runs_per_second: f64,
    calls_per_run: f64,
    records_per_run: f64,
    network_faults_per_run: f64,
}

pub fn run(arguments: &Repeated, console: &mut Console) -> Result<Exit> {
    let measured = measure(arguments.repetitions)?;
    match arguments.json {
        true => console.print_json(&measured),
        false => console.print(&text(&measured)),
    }
    Ok(if measured.times_real_time_by_cpu >= FLOOR { Exit::Clean } else { Exit::Broken })
}

fn measure(repetitions: u32) -> Result<Measured> {
    let (load, work) = (Load::Network, Work::named(Load::Network.workload()).expect("it is a workload"));
    let plans: Vec<Plan> = (0..RUNS).map(|seed| loaded(seed, load, load.scale())).collect();
    let mut simulator = Simulator::default();
    let (mut calls, mut records, mut faults) = (0, 0, 0);
    // Once over all plans: memory is warm, and the figures of a run are known.
    for plan in &plans {
        let (summary, verdict) = simulator.run(plan, &work, Guards::ALL);
        let judgement = verdict.judgement();
        ensure!(judgement == Judgement::Holds, "the benchmark's seed {} is {}", plan.seed, judgement.name());
        calls += summary.calls;
        records += verdict.record_count();
        faults += summary.network_faults.len() as u64;
    }
    let times = (0..repetitions).map(|_| {
        let begun = Stopwatch::start();
        for plan in &plans {
            simulator.run(plan, &work, Guards::ALL);
        }
        (begun.wall().as_secs_f64(), begun.cpu().as_secs_f64())
    });
    let (wall, cpu) = times.unzip();
    let (runs, simulated) = (RUNS as f64, (RUNS * load.scale().seconds) as f64);
    let wall = median(wall);
    Ok(Measured {
        configuration: CONFIGURATION,
        times_real_time: simulated / wall,
        times_real_time_by_cpu: simulated / median(cpu),
        runs_per_second: runs / wall,
        calls_per_run: calls as f64 / runs,
        records_per_run: records as f64 / runs,
        network_faults_per_run: faults as f64 / runs,
    })
}

fn text(measured: &Measured) -> String {
    let Measured { times_real_time, times_real_time_by_cpu, runs_per_second, .. } = measured;
    format!(
        "{CONFIGURATION}\n\n{} times real time, {} by processor time (floor {FLOOR}); {runs_per_second:.1} runs a second, of \
         {:.0} calls, {:.0} records and {:.1} faults of the network\n",
        count(*times_real_time as u64),
        count(*times_real_time_by_cpu as u64),
        measured.calls_per_run,
        measured.records_per_run,
        measured.network_faults_per_run,
    )
}
