//! `export`: a history, or that of a capsule, as Jepsen and Elle read it.

use super::{Console, Exit, check, name};
use crate::capsule::Capsule;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;
use tourbillon_models::export::{Format, lines};
use tourbillon_models::history::History;

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// A file of JSON Lines, a capsule, or - for a history on standard input
    #[arg(value_name = "HISTORY|CAPSULE")]
    history: PathBuf,
    /// elle: transactions over lists, for its list-append checker; jepsen: a queue, for its total-queue checker
    #[arg(long, value_name = "FORMAT", value_parser = name::format)]
    format: Format,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    let history = read(arguments)?;
    let lines = lines(&history, arguments.format);
    console.print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    Ok(Exit::Clean)
}

/// A capsule is one JSON value that holds a plan; anything else is to be a history.
fn read(arguments: &Arguments) -> Result<History> {
    let (name, text) = check::text(&arguments.history)?;
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(value) if value.get("plan").is_some() => Capsule::read(&arguments.history)?.history(),
        _ => check::read(&name, &text),
    }
}
