//! The command line: arguments in, text out, an exit code.
//!
//! Each command is a file: arguments become values, the library does the work, and what comes of it is written once, as
//! text or as one JSON value. Nothing is computed here that a test could not ask the library for. Invariant: bad input is
//! one sentence on standard error that says what would have been accepted, and exit code 2.
//!
//! It can be driven in process: [`main`] takes its arguments and a [`Console`].

mod bench;
mod chaos;
mod check;
mod console;
mod explore;
mod export;
mod figures;
mod guards;
mod list;
mod merge;
mod name;
mod replay;
mod replayed;
mod run;
mod saved;
mod scope;
mod server;
mod shrink;
mod sql;
mod summary;

pub use console::Console;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// What a command came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    Clean = 0,
    /// A violation, a divergence, or a large sweep that did not see all that it should have seen.
    Broken = 1,
    CouldNotRun = 2,
    /// Neither holds nor violated.
    Unknown = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

#[derive(Parser)]
#[command(
    name = "tourbillon",
    version,
    about = "Finds the schedule that makes a durable layer on PostgreSQL lose, repeat or strand work, and proves it on a real \
             server. Without a command: run.",
    after_help = "Exit codes: 0 clean; 1 a violation or divergence, or a run of 10,000 seeds or more with every workload, fault \
                  and guard that never reached a fault or a goal or never exercised a property; 2 could not run; 3 \
                  unknown.",
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::Arguments,
}

#[derive(Subcommand)]
enum Command {
    /// Sweep seeds in the simulator, with faults, then replay a sample of the histories on a real server
    Run(run::Arguments),
    /// Run one seed or one capsule again, and print everything about it
    Replay(replay::Arguments),
    /// Make a saved failure smaller: the same property, broken by as little as possible
    Shrink(shrink::Arguments),
    /// Check a history from anywhere
    Check(check::Arguments),
    /// Print a history as Jepsen or Elle reads it
    Export(export::Arguments),
    /// Remove each guard in turn and show which property catches it, and after how many seeds
    Guards(guards::Arguments),
    /// Run all schedules of a small configuration, up to bounds, and say what was covered
    Explore(explore::Arguments),
    /// The same actors as real processes on a real server, with real crashes
    Chaos(chaos::Arguments),
    /// One process of `chaos`, which starts it
    #[command(hide = true, name = crate::chaos::COMMAND)]
    ChaosProcess,
    /// What `run --shard k/n --json` printed on many machines, as one run
    Merge(merge::Arguments),
    /// Workloads, faults, properties, guards and designs, each with one sentence
    List(list::Arguments),
    /// Print the script that installs the engine
    Sql(sql::Arguments),
    /// The published measurements: all of them as one table, or one by name
    Bench(bench::Arguments),
}

/// Runs a command. The first argument is the program's name, as it should be called again.
pub fn main<A: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = A>, console: &mut Console) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    console.set_program(arguments.first().map(|name| name.to_string_lossy().into_owned()));
    let exit = answer(&arguments, console);
    match console.lost().map(ToString::to_string) {
        None => exit,
        Some(reason) => {
            console.say(&format!("error: standard output cannot be written: {reason}"));
            Exit::CouldNotRun
        }
    }
}

fn answer(arguments: &[OsString], console: &mut Console) -> Exit {
    match parse(arguments) {
        Ok(arguments) => dispatch(arguments, console).unwrap_or_else(|error| {
            console.say(&format!("error: {error:#}"));
            Exit::CouldNotRun
        }),
        Err(error) if error.use_stderr() => {
            console.say(&sentence(&error, arguments));
            Exit::CouldNotRun
        }
        Err(asked) => {
            console.print(&asked.render().to_string());
            Exit::Clean
        }
    }
}

fn parse(arguments: &[OsString]) -> Result<Arguments, clap::Error> {
    let matches = Arguments::command().try_get_matches_from(arguments)?;
    Arguments::from_arg_matches(&matches)
}

fn dispatch(arguments: Arguments, console: &mut Console) -> anyhow::Result<Exit> {
    match arguments.command {
        None => run::run(&arguments.run, console),
        Some(Command::Run(arguments)) => run::run(&arguments, console),
        Some(Command::Replay(arguments)) => replay::run(&arguments, console),
        Some(Command::Shrink(arguments)) => shrink::run(&arguments, console),
        Some(Command::Check(arguments)) => check::run(&arguments, console),
        Some(Command::Export(arguments)) => export::run(&arguments, console),
        Some(Command::Guards(arguments)) => guards::run(&arguments, console),
        Some(Command::Explore(arguments)) => explore::run(&arguments, console),
        Some(Command::Chaos(arguments)) => chaos::run(&arguments, console),
        Some(Command::ChaosProcess) => chaos::process(),
        Some(Command::Merge(arguments)) => merge::run(&arguments, console),
        Some(Command::List(arguments)) => list::run(&arguments, console),
        Some(Command::Sql(arguments)) => sql::run(&arguments, console),
        Some(Command::Bench(arguments)) => bench::run(&arguments, console),
    }
}

/// What clap says in a paragraph, in a sentence.
fn sentence(error: &clap::Error, arguments: &[OsString]) -> String {
    let is_bench = arguments.get(1).is_some_and(|first| first == "bench");
    let text = error.render().to_string();
    let said = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let said: Vec<&str> = said.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
    let said = possible_values(&said.join("; ").replace(":;", ":"));
    match error.kind() {
        ErrorKind::InvalidSubcommand => format!("{said}; there are {}", commands(is_bench).join(", ")),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            format!("error: bench takes one of {}", commands(is_bench).join(", "))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => said,
        _ => format!("{said} (--help shows what is accepted)"),
    }
}

/// In a sentence, too.
fn possible_values(said: &str) -> String {
    let split = said.split_once("; [possible values: ");
    let split = split.and_then(|(before, after)| Some((before, after.split_once(']')?)));
    split.map_or(said.to_owned(), |(before, (values, after))| format!("{before}, which can be {values}{after}"))
}

fn commands(of_bench: bool) -> Vec<String> {
    let all = Arguments::command();
    let parent = if of_bench { all.find_subcommand("bench").expect("bench is a command") } else { &all };
    parent
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| command.get_name().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
