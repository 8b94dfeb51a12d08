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
}

/// Makes a failing run again on the direct target, and saves it. `property` is the one to tell of, or else the first.
pub fn save_seed(
    seed: u64,
    work: &Work,
    guards: Guards,
    property: Option<Property>,
    with: &Circumstances<'_>,
) -> Result<Saved> {
    let plan = work.plan(seed, with.limits);
    let mut simulator = Simulator::default();
    let (summary, verdict) = simulator.run(&plan, work, guards);
    let (counts, history) = (Counts::default(), simulator.history().clone());
    let saved = save(&plan, &Replay { counts, history, end: End::Agreed { summary, verdict } }, property, with)?;
    saved.with_context(|| format!("seed {seed} broke something, and made again it does not"))
}

/// Saves what a run broke, or where it diverged; none if it did neither.
pub fn save(
    plan: &Plan,
    replay: &Replay,
    property: Option<Property>,
    with: &Circumstances<'_>,
) -> Result<Option<Saved>> {
    let Replay { history, end, .. } = replay;
    let (choices, violations, divergence) = match end {
        End::Diverged(difference) => (None, Vec::new(), Some(difference.as_str())),
        End::Agreed { summary, verdict } => {
            let of_property = |property: Property| verdict.of(property).violations.first();
            let Some(told) = property.and_then(of_property).or_else(|| verdict.first_violation()) else {
                return Ok(None);
            };
            let others = verdict.violations().filter(|violation| *violation != told);
            (Some(summary.choices.clone()), std::iter::once(told).chain(others).collect(), None)
        }
    };
    let (sentence, slice) = match violations.first() {
        Some(told) => (told.to_string(), told.slice(history)),
        None => (format!("the server differs from the model: {}", divergence.unwrap_or_default()), end_of(history)),
    };
    let broken = violations.iter().map(|violation| violation.property).collect::<BTreeSet<_>>();
    let Circumstances { limits, design, directory } = *with;
    let path =
        Capsule::of(Failure { plan, limits, design, history, choices, violations, divergence }).save(directory)?;
    let (seed, workload, broken) = (plan.seed, plan.workload.clone(), broken.into_iter().collect());
    Ok(Some(Saved { seed, workload, broken, sentence, slice, path }))
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
        let on = if self.broken.is_empty() { " --on lockstep" } else { "" };
        let again = console.command(&format!("replay {}{on}", quoted(&self.path)));
        format!("saved as {}; to see it again:\n{again}", self.path.display())
    }
}

/// A path that a shell reads as one word.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |letter: char| letter.is_alphanumeric() || "/._-+=:@".contains(letter);
    match text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
