//! `check`: a history from anywhere, judged.

use super::figures::count;
use super::{Console, Exit};
use anyhow::{Context, Result};
use clap::Args;
use std::io::Read;
use std::path::Path;
use tourbillon_models::history::History;
use tourbillon_models::property::Checker;
use tourbillon_models::verdict::{Judgement, Verdict};

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// A file of JSON Lines, or - for standard input
    #[arg(value_name = "HISTORY")]
    history: std::path::PathBuf,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    let history = read(&arguments.history)?;
    let verdict = Checker::new().check(&history);
    match arguments.json {
        true => console.print_json(&verdict),
        false => console.print(&text(&history, &verdict)),
    }
    Ok(exit(&verdict))
}

fn read(path: &Path) -> Result<History> {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let mut bytes = Vec::new();
    let read = match is_stdin {
        true => std::io::stdin().lock().read_to_end(&mut bytes).map(|_| ()),
        false => std::fs::read(path).map(|content| bytes = content),
    };
    read.with_context(|| format!("{name} cannot be read"))?;
    let text = String::from_utf8(bytes).with_context(|| format!("{name} is no history, which is text in UTF-8"))?;
    History::read(&text).with_context(|| {
        format!("{name} is no history (JSON Lines: a header, records, a state, as `replay --history` prints them)")
    })
}

/// What a verdict means for the exit code.
pub fn exit(verdict: &Verdict) -> Exit {
    match verdict.judgement() {
        Judgement::Holds => Exit::Clean,
        Judgement::Violated => Exit::Broken,
        Judgement::Unknown => Exit::Unknown,
    }
}

pub fn text(history: &History, verdict: &Verdict) -> String {
    let mut text = format!("{}\n", tally(history, verdict));
    for (index, reason) in verdict.ill_formed() {
        text += &format!("record {index} is not well formed: {reason}\n");
    }
    for violation in verdict.violations() {
        text += &format!("\n{violation}\n\n{}\n", violation.slice(history).trim_end());
    }
    text
}

/// One line for each property that does not simply hold, then how many do.
fn tally(history: &History, verdict: &Verdict) -> String {
    let mut lines = vec![format!("{} records, workload {}", count(verdict.record_count()), history.header.workload)];
    for finding in verdict.findings() {
        let (property, told) = (finding.property, finding.violations.len());
        match finding.judgement {
            Judgement::Holds => {}
            Judgement::Violated => lines.push(format!(
                "{property} {} is violated {} times, {told} told below",
                property.name(),
                count(finding.violation_count)
            )),
            Judgement::Unknown => lines.push(format!("{property} {} is unknown", property.name())),
        }
    }
    let held = verdict.findings().iter().filter(|finding| finding.judgement == Judgement::Holds);
    let idle = held.clone().filter(|finding| finding.exercised == 0).count();
    lines.push(format!("{} properties hold, {idle} of them for want of an occasion", held.count()));
    lines.join("\n")
}
