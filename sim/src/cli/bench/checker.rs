//! `bench checker`: one long history in memory, judged.
//!
//! The history is that of one run of the simulator's benchmark, long enough: nothing in it is made up.

use super::{Stopwatch, median};
use crate::bench::{Scale, plan};
use crate::cli::figures::count;
use crate::cli::{Console, Exit};
use crate::simulate::{Work, header, run_on};
use crate::target::{Chooser, Direct};
use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;
use tourbillon_engine::guard::Guards;
use tourbillon_models::history::History;
use tourbillon_models::property::Checker;
use tourbillon_models::verdict::Judgement;

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// About how many records
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1000..=100_000_000))]
    records: u64,
    /// How many measurements the median is of
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// What checking a long history takes.
#[derive(Serialize)]
struct Measured {
    workflows: u32,
    workers: u32,
    simulated_seconds: u64,
    records: u64,
    seconds: f64,
    cpu_seconds: f64,
    records_per_second: f64,
    /// With the history in memory, and the engine that made it.
    bytes_before: Option<u64>,
    bytes_after: Option<u64>,
    peak_bytes: Option<u64>,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    console.say("making the history …");
    let (scale, history) = history_of(arguments.records);
    let measured = measure(scale, &history, arguments.repetitions)?;
    match arguments.json {
        true => console.print_json(&measured),
        false => console.print(&text(&measured)),
    }
    Ok(if measured.is_within_bounds() { Exit::Clean } else { Exit::Broken })
}

/// So many records a second at least.
pub const FLOOR: f64 = 1_000_000.0;

/// So much memory at most for the checker, beside the history: a part for each record, and what it always takes.
const BYTES_PER_RECORD: u64 = 40;
const BYTES_ALWAYS: u64 = 64 << 20;

impl Measured {
    fn added_bytes(&self) -> Option<u64> {
        self.bytes_after.zip(self.bytes_before).map(|(after, before)| after.saturating_sub(before))
    }

    fn is_within_bounds(&self) -> bool {
        let most = BYTES_ALWAYS + BYTES_PER_RECORD * self.records;
        self.records_per_second >= FLOOR && self.added_bytes().is_none_or(|bytes| bytes <= most)
    }
}

fn measure(scale: Scale, history: &History, repetitions: u32) -> Result<Measured> {
    let bytes_before = memory("VmRSS:");
    let mut checker = Checker::new();
    let times = (0..repetitions).map(|_| {
        let begun = Stopwatch::start();
        let judgement = checker.check(history).judgement();
        ensure!(judgement == Judgement::Holds, "the benchmark's history is {}", judgement.name());
        Ok((begun.wall().as_secs_f64(), begun.cpu().as_secs_f64()))
    });
    let (wall, cpu) = times.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    let (seconds, records) = (median(wall), history.records.len() as u64);
    Ok(Measured {
        workflows: scale.workflows,
        workers: scale.workers,
        simulated_seconds: scale.seconds,
        records,
        seconds,
        cpu_seconds: median(cpu),
        records_per_second: records as f64 / seconds,
        bytes_before,
        bytes_after: memory("VmRSS:"),
        peak_bytes: memory("VmHWM:"),
    })
}

fn text(measured: &Measured) -> String {
    let Measured { workflows, workers, simulated_seconds, records, seconds, cpu_seconds, .. } = measured;
    let mib = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    format!(
        "chain on one queue, {} workflows, {workers} workers, {} simulated seconds, in one history\n\n{} records checked \
         in {seconds:.2} s ({cpu_seconds:.2} s of processor time), {} a second (floor {})\nmemory: {} with the history, {} more \
         for the checker (at most {}); {} at most, as the history was made\n",
        count((*workflows).into()),
        count(*simulated_seconds),
        count(*records),
        count(measured.records_per_second as u64),
        count(FLOOR as u64),
        mib(measured.bytes_before),
        mib(measured.added_bytes()),
        mib(Some(BYTES_ALWAYS + BYTES_PER_RECORD * records)),
        mib(measured.peak_bytes),
    )
}

/// A run of the benchmark, as many times longer as it takes.
fn history_of(records: u64) -> (Scale, History) {
    // What one more time adds; the first and the last have their own beginning and end.
    let (few, more) = (records_of(&history(times(8))), records_of(&history(times(16))));
    let scale = times(16 + records.saturating_sub(more).div_ceil((more - few) / 8));
    (scale, history(scale))
}

fn times(factor: u64) -> Scale {
    let Scale { workflows, workers, seconds } = Scale::STANDARD;
    Scale { workflows: workflows * factor as u32, workers, seconds: seconds * factor }
}

fn records_of(history: &History) -> u64 {
    history.records.len() as u64
}

fn history(scale: Scale) -> History {
    let (plan, work) = (plan(0, scale), Work::named("chain").expect("chain is a workload"));
    let mut target = Direct::new(Guards::ALL, Chooser::seeded(0));
    let header = header(&plan, &work, Guards::ALL, "direct", None);
    let Ok((_, mut history)) = run_on(&plan, &work, header, &mut target);
    history.records.shrink_to_fit();
    history
}

/// This process's memory, where the system tells.
fn memory(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}
