//! `check`: a history from anywhere, judged.

use super::figures::{count, counted};
use super::saved::quoted;
use super::{Console, Exit};
use anyhow::{Context, Result};
use clap::Args;
use std::io::Read;
use std::path::{Path, PathBuf};
use tourbillon_models::history::History;
use tourbillon_models::property::Checker;
use tourbillon_models::verdict::{Judgement, Verdict, Violation};
use tourbillon_models::workload::Workload;

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// A file of JSON Lines, or - for standard input
    #[arg(value_name = "HISTORY")]
    history: PathBuf,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    let (name, text) = text(&arguments.history)?;
    let history = read(&name, &text)?;
    let verdict = Checker::new().check(&history);
    let exit = exit(&verdict);
    if arguments.json {
        console.print_json(&verdict);
        return Ok(exit);
    }
    if Workload::by_name(&history.header.workload).is_none() {
        let name = &history.header.workload;
        console.say(&format!("{name:?} is not a workload of ours: what its program would do is not asked"));
    }
    console.print(&format!("{}\n{}", tally(&history, &verdict), story(&history, &verdict, None)));
    if exit == Exit::Broken {
        console
            .print(&(console.command(&format!("check {}", quoted(&arguments.history.display().to_string()))) + "\n"));
    }
    Ok(exit)
}

/// What a file, or standard input, holds, and what to call it.
pub fn text(path: &Path) -> Result<(String, String)> {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let mut bytes = Vec::new();
    let read = match is_stdin {
        true => std::io::stdin().lock().read_to_end(&mut bytes).map(|_| ()),
        false => std::fs::read(path).map(|content| bytes = content),
    };
    read.with_context(|| format!("{name} cannot be read"))?;
    let text = String::from_utf8(bytes).with_context(|| format!("{name} is no history, which is text in UTF-8"))?;
    Ok((name, text))
}

pub fn read(name: &str, text: &str) -> Result<History> {
    History::read(text).with_context(|| {
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

/// One line for each property that does not simply hold, then how many do.
pub fn tally(history: &History, verdict: &Verdict) -> String {
    let mut lines = vec![format!("{} records, workload {}", count(verdict.record_count()), history.header.workload)];
    for finding in verdict.findings() {
        let (property, times) = (finding.property, count(finding.violation_count));
        match finding.judgement {
            Judgement::Holds => {}
            Judgement::Violated => lines.push(format!("{property} {} is violated, {times} ×", property.name())),
            Judgement::Unknown => lines.push(format!("{property} {} is unknown", property.name())),
        }
    }
    let held = verdict.findings().iter().filter(|finding| finding.judgement == Judgement::Holds);
    let idle = held.clone().filter(|finding| finding.exercised == 0).count();
    lines.push(format!("{} properties hold, {idle} of them for want of an occasion", held.count()));
    let ill_formed = verdict.ill_formed().iter();
    lines.extend(ill_formed.map(|(index, reason)| format!("record {index} is not well formed: {reason}")));
    if !verdict.doubts().is_empty() {
        lines.push(format!("it is not known what became of {}:", counted(verdict.doubts().len() as u64, "call")));
        lines.push(verdict.doubt_slice(history).trim_end().to_owned());
    }
    lines.join("\n") + "\n"
}

/// How many properties are told with their slices; the others in a sentence.
const TOLD: usize = 3;

/// The first violation of each property; the one that is meant, or else that shows first in the history, comes last, where
/// people look.
pub fn story(history: &History, verdict: &Verdict, meant: Option<&Violation>) -> String {
    let Some(first) = meant.or(verdict.first_violation()) else { return String::new() };
    let firsts = verdict.findings().iter().filter_map(|finding| finding.violations.first());
    let others: Vec<_> = firsts.filter(|violation| violation.property != first.property).collect();
    let (told, named) = others.split_at(others.len().min(TOLD - 1));
    let named = named.iter().map(|violation| format!("also: {violation}\n\n"));
    let told = told.iter().rev().copied().chain([first]);
    let told = told.map(|violation| format!("{violation}\n\n{}\n\n", violation.slice(history).trim_end()));
    named.chain(told).collect()
}
