//! `bench parity`: the engine's store against a real server, over many random schedules.

use crate::cli::figures::{count, counted, rate, wall};
use crate::cli::{Console, Exit, name, server};
use crate::parity::{Report, sweep};
use crate::postgres::one_cpu::OneCpu;
use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use std::time::{Duration, Instant};

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    #[command(flatten)]
    server: server::Arguments,
    /// How many schedules
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = name::at_least_one)]
    schedules: u64,
    /// The first seed: a number, or a git commit hash
    #[arg(long, value_name = "S", default_value = "0", value_parser = name::seed)]
    seed: u64,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    let _one = OneCpu::claim();
    let server = arguments.server.choice().open()?;
    let mut server = server.context("bench parity needs a server: --postgres auto, or the address of yours")?;
    let seeds = arguments.seed..arguments.seed.saturating_add(arguments.schedules);
    let bar = console.bar(arguments.schedules, "compared");
    let begun = Instant::now();
    let report = sweep(&mut server, seeds, |done| bar.set_position(done))?;
    let time = begun.elapsed();
    bar.finish_and_clear();
    match arguments.json {
        true => console.print_json(&json(&report, time, server.version())),
        false => console.print(&text(&report, time, server.version(), console)),
    }
    Ok(if report.divergences.is_empty() { Exit::Clean } else { Exit::Broken })
}

fn json(report: &Report, time: Duration, version: &str) -> serde_json::Value {
    let Report { schedules, counts, divergences } = report;
    let divergences: Vec<String> = divergences.iter().map(ToString::to_string).collect();
    json!({
        "schedules": schedules,
        "statements": counts.statements,
        "blocked": counts.blocked,
        "deadlocks": counts.deadlocks,
        "choices": counts.choices,
        "refusals": counts.refusals,
        "divergences": divergences,
        "seconds": time.as_secs_f64(),
        "server_version": version,
    })
}

fn text(report: &Report, time: Duration, version: &str, console: &Console) -> String {
    let Report { schedules, counts, divergences } = report;
    let mut text = format!(
        "{} on the store and on PostgreSQL {version} in {} ({} a second): {} statements, {} blocked, {} deadlocks, {} \
         refusals, {} open choices\n",
        counted(*schedules, "schedule"),
        wall(time),
        count(rate(*schedules as f64, time) as u64),
        count(counts.statements),
        count(counts.blocked),
        count(counts.deadlocks),
        count(counts.refusals),
        count(counts.choices),
    );
    match divergences.first() {
        None => text += "no difference\n",
        Some(first) => {
            divergences.iter().for_each(|divergence| text += &format!("\n{divergence}\n"));
            let again = format!("bench parity --seed {} --schedules 1", first.seed);
            text += &format!("\n{}\n", console.command(&again));
        }
    }
    text
}
