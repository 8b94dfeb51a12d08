//! `bench replay`: statements a second of a replay in lockstep where nothing blocks.

use super::median;
use crate::bench::{Scale, plan};
use crate::cli::figures::count;
use crate::cli::{Console, Exit, name, server};
use crate::postgres::one_cpu::OneCpu;
use crate::replay::{End, replay};
use crate::simulate::Work;
use crate::target::Chooser;
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use std::time::Instant;
use tourbillon_engine::guard::Guards;

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    #[command(flatten)]
    server: server::Arguments,
    /// How many histories
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = name::at_least_one)]
    histories: u64,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    let _one = OneCpu::claim();
    let server = arguments.server.choice().open()?;
    let mut server = server.context("bench replay needs a server: --postgres auto, or the address of yours")?;
    let work = Work::named("chain").expect("chain is a workload");
    let (mut rates, mut statements, mut blocked) = (Vec::new(), 0, 0);
    for seed in 0..arguments.histories {
        let mut plan = plan(seed, Scale::STANDARD);
        plan.faults.clear();
        let begun = Instant::now();
        let replay = replay(&mut server, &plan, &work, Guards::ALL, Chooser::seeded(seed))?;
        if let End::Diverged(difference) = replay.end {
            bail!("seed {seed} of the benchmark diverges: {difference}");
        }
        rates.push(replay.counts.statements as f64 / begun.elapsed().as_secs_f64());
        statements += replay.counts.statements;
        blocked += replay.counts.blocked;
    }
    let rate = median(rates);
    match arguments.json {
        true => console.print_json(&json!({
            "histories": arguments.histories,
            "statements": statements,
            "blocked": blocked,
            "statements_per_second": rate,
            "server_version": server.version(),
        })),
        false => console.print(&format!(
            "the simulator's benchmark without its faults, {} histories, installation and comparison of the final state \
             included, on PostgreSQL {}\n\n{} statements, {} blocked; {} statements a second (median)\n",
            arguments.histories,
            server.version(),
            count(statements),
            count(blocked),
            count(rate as u64),
        )),
    }
    Ok(Exit::Clean)
}
