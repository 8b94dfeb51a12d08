//! `bench`: the published measurements, each with a fixed configuration that it prints.

use super::Console;
use super::Exit;
use anyhow::Result;
use clap::{Args, Subcommand};
use nix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

mod all;
mod checker;
mod connected;
mod handoff;
mod joins;
mod net;
mod parity;
mod replay;
mod sim;
mod storage;
mod timers;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
#[group(skip)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    all: all::Arguments,
}

#[derive(Subcommand)]
pub enum Command {
    /// Every measurement, as one table, each with its floor; also without a name
    All(all::Arguments),
    /// Runs a second in the simulator, on one thread, and how that grows with the size of a run
    Sim(Repeated),
    /// The same over a network that fails, between six hosts
    Net(Repeated),
    /// Checking a history of 10 million records
    Checker(checker::Arguments),
    /// Statements a second of a replay in lockstep where nothing blocks
    Replay(replay::Arguments),
    /// Claim and handoff of windows on a real server, beside a plain insert of the same rows
    Handoff(handoff::Arguments),
    /// Spawns, ends and joins of many children in one call each, on a real server
    Joins(joins::Arguments),
    /// Scheduling and draining, with a thousand and a million other timers pending, in the store and on a real server
    Timers(timers::Arguments),
    /// What a simulated week leaves behind, in the store and on a real server
    Storage(storage::Arguments),
    /// Random schedules of primitive statements on the store and on a real server
    Parity(parity::Arguments),
}

#[derive(Args)]
#[group(skip)]
pub struct Repeated {
    /// How many measurements the median is of
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    match &arguments.command {
        None => all::run(&arguments.all, console),
        Some(command) => run_one(command, console),
    }
}

fn run_one(command: &Command, console: &mut Console) -> Result<Exit> {
    match command {
        Command::All(arguments) => all::run(arguments, console),
        Command::Sim(arguments) => sim::run(arguments, console),
        Command::Net(arguments) => net::run(arguments, console),
        Command::Checker(arguments) => checker::run(arguments, console),
        Command::Replay(arguments) => replay::run(arguments, console),
        Command::Handoff(arguments) => handoff::run(arguments, console),
        Command::Joins(arguments) => joins::run(arguments, console),
        Command::Timers(arguments) => timers::run(arguments, console),
        Command::Storage(arguments) => storage::run(arguments, console),
        Command::Parity(arguments) => parity::run(arguments, console),
    }
}

/// Time on the clock, and on this thread's processor: on a busy machine only the second says what something costs.
#[derive(Clone, Copy)]
struct Stopwatch {
    wall: Instant,
    cpu: Duration,
}

impl Stopwatch {
    fn start() -> Stopwatch {
        Stopwatch { wall: Instant::now(), cpu: cpu_time() }
    }

    fn wall(&self) -> Duration {
        self.wall.elapsed()
    }

    fn cpu(&self) -> Duration {
        cpu_time().saturating_sub(self.cpu)
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.expect("a thread may read its own clock").into()
}

/// One of several measurements that a quarter of them is below: what something costs on a machine that does other things too.
fn lower_quartile(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 4]
}

/// The middle one of several measurements.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
