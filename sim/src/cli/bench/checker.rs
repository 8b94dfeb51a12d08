//! `bench checker`: one long history in memory, judged.
//!
//! The history is that of one run of the simulator's benchmark, long enough: nothing in it is made up.

use super::median;
use crate::bench::{Scale, plan};
use crate::cli::figures::count;
use crate::cli::{Console, Exit};
use crate::simulate::{Work, header, run_on};
use crate::target::{Chooser, Direct};
use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use std::time::Instant;
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

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    console.say("making the history …");
    let (scale, history) = history_of(arguments.records);
    let records = history.records.len() as u64;
    let before = memory("VmRSS:");
    let mut checker = Checker::new();
    let times = (0..arguments.repetitions).map(|_| {
        let begun = Instant::now();
        let judgement = checker.check(&history).judgement();
        ensure!(judgement == Judgement::Holds, "the benchmark's history is {}", judgement.name());
        Ok(begun.elapsed().as_secs_f64())
    });
    let seconds = median(times.collect::<Result<_>>()?);
    let (after, peak) = (memory("VmRSS:"), memory("VmHWM:"));
    if arguments.json {
        console.print_json(&json!({
            "records": records,
            "workflows": scale.workflows,
            "workers": scale.workers,
            "simulated_seconds": scale.seconds,
            "seconds": seconds,
            "records_per_second": records as f64 / seconds,
            "history_bytes": before,
            "checker_bytes": after.zip(before).map(|(after, before)| after.saturating_sub(before)),
            "peak_bytes": peak,
        }));
    } else {
        let mib = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
        let added = after.zip(before).map(|(after, before)| after.saturating_sub(before));
        console.print(&format!(
            "chain on one queue, {} workflows, {} workers, {} simulated seconds, in one history\n\n{} records checked in \
             {seconds:.2} s, {} a second; {} with the history in memory, {} more for the checker, {} at most\n",
            count(scale.workflows.into()),
            scale.workers,
            count(scale.seconds),
            count(records),
            count((records as f64 / seconds) as u64),
            mib(before),
            mib(added),
            mib(peak),
        ));
    }
    Ok(Exit::Clean)
}

/// A run of the benchmark, as many times longer as it takes.
fn history_of(records: u64) -> (Scale, History) {
    let times = (records / records_of(&history(Scale::STANDARD))).max(1);
    let Scale { workflows, workers, seconds } = Scale::STANDARD;
    let scale = Scale { workflows: workflows * times as u32, workers, seconds: seconds * times };
    (scale, history(scale))
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
