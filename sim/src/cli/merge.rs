//! `merge`: what `run --shard k/n --json` wrote on many machines, as one run would have told it.
//!
//! Results are added up, and judged as a whole: a goal that one share did not reach and another did is reached. Runs that
//! broke something are made again here, to be told and saved; so the shares must be of the commit that this is. What it is
//! not: a scheduler. Invariant: what does not belong together is refused, and nothing that is missing goes unsaid.

use super::replayed::Replayed;
use super::run::save_found;
use super::saved::{self, Saved};
use super::summary::Report;
use super::{Console, Exit, scope};
use crate::capsule::Tool;
use crate::sweep::Swept;
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser};
use serde::{Deserialize, Serialize};
use serde_json::Deserializer;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// What `run --json` printed for each share: files, or - for standard input
    #[arg(value_name = "RESULT", required = true)]
    results: Vec<PathBuf>,
    /// Also if shares are missing
    #[arg(long)]
    partial: bool,
    #[command(flatten)]
    saved: saved::Arguments,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// What a run's JSON holds for this command, under `part`.
#[derive(Clone, Serialize, Deserialize)]
pub struct Part {
    pub tool: Tool,
    /// What was run, as options.
    pub options: String,
    pub first_seed: u64,
    /// Of all shares together.
    pub seeds: u64,
    /// Which shares this is, from 1, and of how many; the whole is 1 of 1.
    pub shards: Vec<u64>,
    pub of: u64,
    pub swept: Swept,
    pub swept_in: Duration,
    pub wall: Duration,
    pub replayed: Replayed,
    /// What the replays on a server found: that cannot be made again without one.
    pub replay_failures: Vec<Saved>,
}

/// The part of a result that is read here.
#[derive(Deserialize)]
struct Outcome {
    part: Part,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    arguments.saved.place.look(console);
    let parts = arguments.results.iter().map(read).collect::<Result<Vec<_>>>()?.concat();
    let (whole, missing) = merge(parts)?;
    if !missing.is_empty() {
        let missing: Vec<String> = missing.iter().map(|shard| format!("{shard}/{}", whole.of)).collect();
        let sentence = format!("of {} shares {} is missing", whole.of, missing.join(", "))
            .replace(" is missing", if missing.len() == 1 { " is missing" } else { " are missing" });
        if !arguments.partial {
            console.say(&format!("error: {sentence} (--partial does without)"));
            return Ok(Exit::Unknown);
        }
        console.say(&format!("warning: {sentence}"));
    }
    let scope = scope(&whole.options)?;
    let mut failures = save_found(&scope, &arguments.saved, String::new(), &whole.swept);
    failures.extend(whole.replay_failures.iter().map(|saved| saved.seen_from_here(&whole.options)));
    Report { scope: &scope, part: &whole, failures: &failures }.tell(arguments.json, console)
}

/// Every result in a file: there may be several, one after the other.
fn read(path: &PathBuf) -> Result<Vec<Part>> {
    let (name, text) = match path.as_os_str() == "-" {
        true => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
            ("standard input".to_owned(), text)
        }
        false => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
            (name, text)
        }
    };
    let parts: Result<Vec<Part>, _> = Deserializer::from_str(&text)
        .into_iter::<Outcome>()
        .map(|outcome| outcome.map(|outcome| outcome.part))
        .collect();
    let parts = parts.with_context(|| format!("{name} is not what `run --json` of this version prints"))?;
    ensure!(!parts.is_empty(), "{name} is empty: there is no result to merge");
    Ok(parts)
}

/// All of them as one, and the shares that are missing.
fn merge(parts: Vec<Part>) -> Result<(Part, Vec<u64>)> {
    let mut shares: BTreeMap<u64, Part> = BTreeMap::new();
    let first = parts.first().expect("there is a result to merge").clone();
    belongs_to(&Tool::this(), &first.tool, "commit")?;
    for part in parts {
        belongs_together(&first, &part)?;
        for shard in &part.shards {
            ensure!(
                !shares.values().any(|known| known.shards.contains(shard)),
                "share {shard}/{} is there twice",
                part.of
            );
        }
        shares.insert(part.shards.first().copied().unwrap_or_default(), part);
    }
    let shards: Vec<u64> = shares.values().flat_map(|part| part.shards.clone()).collect();
    let missing: Vec<u64> = (1..=first.of).filter(|shard| !shards.contains(shard)).collect();
    let longest = |time: fn(&Part) -> Duration| shares.values().map(time).max().unwrap_or_default();
    let (swept_in, wall) = (longest(|part| part.swept_in), longest(|part| part.wall));
    let replayed = shares.values().map(|part| part.replayed.clone()).reduce(Replayed::and).unwrap_or(Replayed::Off);
    let replay_failures = shares.values().flat_map(|part| part.replay_failures.clone()).collect();
    let swept = Swept::merge(shares.into_values().map(|part| part.swept), first.first_seed);
    let (shards, of) = if missing.is_empty() { (vec![1], 1) } else { (shards, first.of) };
    Ok((Part { shards, of, swept, swept_in, wall, replayed, replay_failures, ..first }, missing))
}

fn belongs_together(first: &Part, part: &Part) -> Result<()> {
    let or_all = |options: &str| if options.is_empty() { "all there is".to_owned() } else { options.trim().to_owned() };
    belongs_to(&first.tool, &part.tool, "commit")?;
    match () {
        () if part.options != first.options => {
            bail!("one result is of {}, and another of {}", or_all(&first.options), or_all(&part.options))
        }
        () if (part.first_seed, part.seeds) != (first.first_seed, first.seeds) => bail!(
            "one result is of {} seeds from {}, and another of {} from {}",
            first.seeds,
            first.first_seed,
            part.seeds,
            part.first_seed
        ),
        () if part.of != first.of => bail!("one result is of {} shares, and another of {}", first.of, part.of),
        () => Ok(()),
    }
}

fn belongs_to(one: &Tool, other: &Tool, what: &str) -> Result<()> {
    let name = |tool: &Tool| format!("{} ({})", tool.version, tool.commit);
    ensure!(
        one == other,
        "results are merged where they are of one {what}: here is {}, and there {}",
        name(one),
        name(other)
    );
    Ok(())
}

/// Read back as the command line reads it.
pub fn scope(options: &str) -> Result<scope::Arguments> {
    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        scope: scope::Arguments,
    }
    let words = std::iter::once("run").chain(options.split_whitespace());
    let only =
        Only::try_parse_from(words).with_context(|| format!("{options:?} is nothing that could have been run"))?;
    Ok(only.scope)
}
