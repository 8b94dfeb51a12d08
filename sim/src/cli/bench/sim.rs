//! `bench sim`: whole runs, from plan to verdict, on one thread.

use super::{Repeated, Stopwatch, median};
use crate::bench::{Load, Scale, loaded};
use crate::cli::figures::count;
use crate::cli::{Console, Exit};
use crate::plan::Plan;
use crate::simulate::{Simulator, Work};
use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::json;
use std::time::Duration;
use tourbillon_engine::guard::Guards;
use tourbillon_models::verdict::Judgement;

/// One measurement takes about so long.
const MEASURED_FOR: Duration = Duration::from_secs(1);

/// What a run of one size costs.
#[derive(Serialize)]
struct Measured {
    workflows: u32,
    workers: u32,
    seconds: u64,
    runs_per_second: f64,
    /// The same by this thread's processor time.
    runs_per_cpu_second: f64,
    times_real_time: f64,
    records_per_second: f64,
    calls_per_run: f64,
    records_per_run: f64,
}

pub fn run(arguments: &Repeated, console: &mut Console) -> Result<Exit> {
    let standard = measure(Load::Chain, Scale::STANDARD, arguments.repetitions)?;
    let growth = grown().into_iter().map(|(what, factor, scale)| {
        console.say(&format!("measuring {what} × {factor} …"));
        measure(Load::Chain, scale, arguments.repetitions.min(3))
            .map(|measured| Growth::of(what, factor, &standard, measured))
    });
    let growth: Vec<Growth> = growth.collect::<Result<_>>()?;
    let others = [Load::Zombie, Load::LongSleep, Load::EmitRace, Load::ChildrenFail].map(|load| {
        console.say(&format!("measuring {} …", load.workload()));
        Ok((load.workload(), measure(load, load.scale(), arguments.repetitions.min(3))?))
    });
    let others = others.into_iter().collect::<Result<Vec<_>>>()?;
    match arguments.json {
        true => {
            let mut json = serde_json::to_value(&standard)?;
            json["configuration"] = CONFIGURATION.into();
            json["growth"] = json!(growth);
            for (name, measured) in &others {
                json[*name] = json!(measured);
            }
            console.print_json(&json);
        }
        false => console.print(&text(&standard, &growth, &others)),
    }
    Ok(Exit::Clean)
}

const CONFIGURATION: &str = "chain on one queue, 4 workers polling every 200 ms, a tick every 100 ms, rotation every 5 s, \
     dead interval 3 s, 40 workflows of 4 steps started over the first 20 s, 60 simulated seconds; in every run one crash, \
     one pause, one lost reply, one server crash and one held transaction; all properties checked; one thread";

const ZOMBIE: &str = "the same, and in every run six pauses longer than the dead interval, one at each call of a step";

const LONG_SLEEP: &str = "40 workflows that sleep for minutes, over a day; polls, ticks and drains every 30 s, rotations every \
     5 min, dead interval 3 min; the same faults";

const EMIT_RACE: &str = "40 auctions that wait twice, half of the time with a deadline; whatever they hear is emitted three times by one \
     emitter over the first 20 s, each time after the start is repeated; deadlines are looked at every 100 ms; as the first otherwise";

const CHILDREN_FAIL: &str = "40 families of up to five children, one in six of them with a child that kills its worker, over 120 simulated \
     seconds; drains every 100 ms, timer rotations every 5 s; as the first otherwise";

fn grown() -> Vec<(&'static str, u32, Scale)> {
    let Scale { workflows, workers, seconds } = Scale::STANDARD;
    let by = |factor: u32| {
        [
            ("workflows", factor, Scale { workflows: factor * workflows, ..Scale::STANDARD }),
            ("workers", factor, Scale { workers: factor * workers, ..Scale::STANDARD }),
            ("horizon", factor, Scale { seconds: u64::from(factor) * seconds, ..Scale::STANDARD }),
        ]
    };
    let mut grown = [by(2), by(4)].concat();
    grown.sort_by_key(|(what, factor, _)| (std::cmp::Reverse(*what), *factor));
    grown
}

/// How the cost grows when one thing does.
#[derive(Serialize)]
struct Growth {
    what: &'static str,
    factor: u32,
    /// Processor time a run, against the standard one.
    time_ratio: f64,
    /// Records a run, against the standard one.
    records_ratio: f64,
    /// The first by the second: 1 is linear in what happens.
    ratio_per_record: f64,
    measured: Measured,
}

impl Growth {
    fn of(what: &'static str, factor: u32, standard: &Measured, measured: Measured) -> Growth {
        let time_ratio = standard.runs_per_cpu_second / measured.runs_per_cpu_second;
        let records_ratio = measured.records_per_run / standard.records_per_run;
        Growth { what, factor, time_ratio, records_ratio, ratio_per_record: time_ratio / records_ratio, measured }
    }
}

fn measure(load: Load, scale: Scale, repetitions: u32) -> Result<Measured> {
    let work = Work::named(load.workload()).expect("it is a workload");
    let plans: Vec<Plan> = (0..64).map(|seed| loaded(seed, load, scale)).collect();
    let mut simulator = Simulator::default();
    let (mut calls, mut records) = (0, 0);
    // Once over all plans: memory is warm, and the figures of a run are known.
    for plan in &plans {
        let (summary, verdict) = simulator.run(plan, &work, Guards::ALL);
        let judgement = verdict.judgement();
        ensure!(judgement == Judgement::Holds, "the benchmark's seed {} is {}", plan.seed, judgement.name());
        calls += summary.calls;
        records += verdict.record_count();
    }
    let per_run = |sum: u64| sum as f64 / plans.len() as f64;
    let times = (0..repetitions).map(|_| seconds_per_run(&mut simulator, &plans, &work));
    let (wall, cpu) = times.unzip();
    let (runs_per_second, runs_per_cpu_second) = (1.0 / median(wall), 1.0 / median(cpu));
    Ok(Measured {
        workflows: scale.workflows,
        workers: scale.workers,
        seconds: scale.seconds,
        runs_per_second,
        runs_per_cpu_second,
        times_real_time: runs_per_second * scale.seconds as f64,
        records_per_second: runs_per_second * per_run(records),
        calls_per_run: per_run(calls),
        records_per_run: per_run(records),
    })
}

/// On the clock, and on the processor.
fn seconds_per_run(simulator: &mut Simulator, plans: &[Plan], work: &Work) -> (f64, f64) {
    let (begun, mut runs) = (Stopwatch::start(), 0);
    while begun.cpu() < MEASURED_FOR {
        for plan in plans {
            simulator.run(plan, work, Guards::ALL);
        }
        runs += plans.len();
    }
    let per_run = |time: Duration| time.as_secs_f64() / runs as f64;
    (per_run(begun.wall()), per_run(begun.cpu()))
}

fn text(standard: &Measured, growth: &[Growth], others: &[(&str, Measured)]) -> String {
    let Measured { runs_per_second, runs_per_cpu_second, times_real_time, records_per_second, .. } = standard;
    let mut text = format!(
        "{CONFIGURATION}\n\n{} runs a second, {} times real time, {} records a second; {:.0} calls and {:.0} records a \
         run\n{} runs a second of processor time\n\n",
        count(*runs_per_second as u64),
        count(*times_real_time as u64),
        count(*records_per_second as u64),
        standard.calls_per_run,
        standard.records_per_run,
        count(*runs_per_cpu_second as u64),
    );
    text += "growth           time a run   records a run   time a record\n";
    for Growth { what, factor, time_ratio, records_ratio, ratio_per_record, .. } in growth {
        let times = |ratio: &f64| format!("× {ratio:.2}");
        let (name, per_record) = (format!("{what} × {factor}"), times(ratio_per_record));
        text += &format!("{name:<15}  {:>10}   {:>13}   {per_record:>13}\n", times(time_ratio), times(records_ratio));
    }
    text += &format!(
        "\nzombie: {ZOMBIE}\nlong-sleep: {LONG_SLEEP}\nemit-race: {EMIT_RACE}\nchildren-fail: {CHILDREN_FAIL}\n\n"
    );
    for (name, measured) in others {
        text += &format!(
            "{name:<13}  {:.2} ms a run of {} simulated seconds, {} runs a second, {} records a second\n",
            1_000.0 / measured.runs_per_second,
            count(measured.seconds),
            count(measured.runs_per_second as u64),
            count(measured.records_per_second as u64),
        );
    }
    text
}
