//! `bench`: the published measurements, each with a fixed configuration that it prints.

use super::Console;
use super::Exit;
use anyhow::Result;
use clap::Subcommand;

mod checker;
mod parity;
mod replay;
mod sim;

#[derive(Subcommand)]
pub enum Command {
    /// Runs a second in the simulator, on one thread, and how that grows with the size of a run
    Sim(sim::Arguments),
    /// Checking a history of 10 million records
    Checker(checker::Arguments),
    /// Statements a second of a replay in lockstep where nothing blocks
    Replay(replay::Arguments),
    /// Random schedules of primitive statements on the store and on a real server
    Parity(parity::Arguments),
}

pub fn run(command: &Command, console: &mut Console) -> Result<Exit> {
    match command {
        Command::Sim(arguments) => sim::run(arguments, console),
        Command::Checker(arguments) => checker::run(arguments, console),
        Command::Replay(arguments) => replay::run(arguments, console),
        Command::Parity(arguments) => parity::run(arguments, console),
    }
}

/// The middle one of several measurements.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
