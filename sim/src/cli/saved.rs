//! Failures as the user sees them: a sentence, the slice of the history, the capsule's path, the command.

use super::Console;
use crate::capsule::{Capsule, DIRECTORY, Failure};
use crate::generate::Limits;
use crate::lockstep::Counts;
use crate::plan::Plan;
use crate::replay::{End, Replay};
use crate::simulate::{Simulator, Work};
use anyhow::{Context, Result};
use clap::Args;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tourbillon_engine::guard::{Design, Guards};
use tourbillon_models::history::History;
use tourbillon_models::property::Property;
use tourbillon_models::verdict::Violation;

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// Where failures are saved
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    capsules: PathBuf,
}

/// What failing runs were made with, and where they go.
pub struct Circumstances<'a> {
    pub limits: &'a Limits,
    pub design: Option<&'static Design>,
    pub directory: &'a Path,
    /// The option that names the server.
    pub server: String,
}

impl Arguments {
    pub fn directory(&self) -> &Path {
        &self.capsules
    }
}

/// A failure that was saved, and what to print of it.
pub struct Saved {
    pub seed: u64,
    pub workload: String,
    /// In the order of the properties; none for a divergence.
    pub broken: Vec<Property>,
    pub sentence: String,
    pub slice: String,
    pub path: PathBuf,
    /// What the command that shows it again needs beside the path.
    options: String,
}

/// Makes a failing run again on the direct target, and saves it. Told is what its history shows first, among these
/// properties or, if there are none, all.
pub fn save_seed(
    seed: u64,
    work: &Work,
    guards: Guards,
    among: &[Property],
    with: &Circumstances<'_>,
) -> Result<Saved> {
    let plan = work.plan(seed, with.limits);
    let mut simulator = Simulator::default();
    let (summary, verdict) = simulator.run(&plan, work, guards);
    let (counts, history) = (Counts::default(), simulator.history().clone());
    let saved = save(&plan, &Replay { counts, history, end: End::Agreed { summary, verdict } }, among, with)?;
    saved.with_context(|| format!("seed {seed} broke something, and made again it does not"))
}

/// Saves what a run broke, or where it diverged; none if it did neither.
pub fn save(plan: &Plan, replay: &Replay, among: &[Property], with: &Circumstances<'_>) -> Result<Option<Saved>> {
    let Replay { history, end, .. } = replay;
    let (choices, violations, divergence) = match end {
        End::Diverged(difference) => (None, Vec::new(), Some(difference.as_str())),
        End::Agreed { summary, verdict } => {
            let is_meant = |violation: &&Violation| among.is_empty() || among.contains(&violation.property);
            let place = |violation: &&Violation| violation.records.last().copied();
            let Some(told) = verdict.violations().filter(is_meant).min_by_key(place) else { return Ok(None) };
            let others = verdict.violations().filter(|violation| *violation != told);
            (Some(summary.choices.clone()), std::iter::once(told).chain(others).collect(), None)
        }
    };
    let (sentence, slice) = match violations.first() {
        Some(told) => (told.to_string(), told.slice(history)),
        None => (format!("the server differs from the model: {}", divergence.unwrap_or_default()), end_of(history)),
    };
    let broken = violations.iter().map(|violation| violation.property).collect::<BTreeSet<_>>();
    let is_divergence = divergence.is_some();
    let Circumstances { limits, design, directory, ref server } = *with;
    let path =
        Capsule::of(Failure { plan, limits, design, history, choices, violations, divergence }).save(directory)?;
    let (seed, workload, broken) = (plan.seed, plan.workload.clone(), broken.into_iter().collect());
    let options = if is_divergence { format!(" --on lockstep{server}") } else { String::new() };
    Ok(Some(Saved { seed, workload, broken, sentence, slice, path, options }))
}

/// The last records of a history, told like those that a violation speaks of.
pub fn end_of(history: &History) -> String {
    const LAST: u32 = 12;
    let count = history.records.len() as u32;
    let records = (count.saturating_sub(LAST)..count).collect();
    Violation { property: Property::ALL[0], sentence: String::new(), records }.slice(history)
}

impl Saved {
    /// Ends with the command that reproduces it.
    pub fn text(&self, console: &Console) -> String {
        let slice = self.slice.trim_end();
        format!("\n{}\n\n{slice}\n\n{}\n", self.sentence, self.pointer(console))
    }

    /// Where it is, and the command.
    pub fn pointer(&self, console: &Console) -> String {
        let path = quoted(&self.path.display().to_string());
        let again = console.command(&format!("replay {path}{}", self.options));
        format!("saved as {}; to see it again:\n{again}", self.path.display())
    }
}

/// As a shell reads it as one word.
pub fn quoted(text: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "/._-+=:@".contains(letter);
    match text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
