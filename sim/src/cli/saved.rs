//! Failures as the user sees them: a sentence, the slice of the history, the capsule's path, the command.

use super::Console;
use crate::capsule::{Capsule, DIRECTORY, Failure};
use crate::generate::Limits;
use crate::plan::Plan;
use crate::replay::{End, Replay};
use crate::simulate::{Simulator, Work};
use anyhow::Result;
use clap::Args;
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

/// Makes a failing run again on the direct target, and saves it. `property` is the violation to tell, or else the first.
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
    let of_property = |property: Property| verdict.of(property).violations.first();
    let told = property.and_then(of_property).or_else(|| verdict.first_violation());
    let told = told.expect("the same seed breaks the same property");
    let broken = verdict.broken().collect();
    let violations = std::iter::once(told).chain(verdict.violations().filter(|violation| *violation != told));
    save(&plan, simulator.history(), Some(summary.choices), violations.collect(), broken, with)
}

/// Saves what a replay broke, or where it diverged; none if it did neither.
pub fn save_replay(plan: &Plan, replay: &Replay, with: &Circumstances<'_>) -> Result<Option<Saved>> {
    match &replay.end {
        End::Diverged(difference) => save_divergence(plan, &replay.history, difference, with).map(Some),
        End::Agreed { summary, verdict } => {
            let Some(first) = verdict.first_violation() else { return Ok(None) };
            let others = verdict.violations().filter(|violation| *violation != first);
            let violations = std::iter::once(first).chain(others).collect();
            let choices = Some(summary.choices.clone());
            save(plan, &replay.history, choices, violations, verdict.broken().collect(), with).map(Some)
        }
    }
}

fn save(
    plan: &Plan,
    history: &History,
    choices: Option<Vec<u8>>,
    violations: Vec<&Violation>,
    broken: Vec<Property>,
    with: &Circumstances<'_>,
) -> Result<Saved> {
    let (sentence, slice) = (violations[0].to_string(), violations[0].slice(history));
    let Circumstances { limits, design, directory, .. } = *with;
    let capsule = Capsule::of(Failure { plan, limits, design, history, choices, violations, divergence: None });
    let path = capsule.save(directory)?;
    Ok(Saved { seed: plan.seed, workload: plan.workload.clone(), broken, sentence, slice, path })
}

fn save_divergence(plan: &Plan, history: &History, difference: &str, with: &Circumstances<'_>) -> Result<Saved> {
    let Circumstances { limits, design, directory, .. } = *with;
    let divergence = Some(difference);
    let failure = Failure { plan, limits, design, history, choices: None, violations: Vec::new(), divergence };
    let path = Capsule::of(failure).save(directory)?;
    let sentence = format!("the server differs from the model: {difference}");
    let slice = last_records(history);
    Ok(Saved { seed: plan.seed, workload: plan.workload.clone(), broken: Vec::new(), sentence, slice, path })
}

/// What led up to the end of a history.
pub fn last_records(history: &History) -> String {
    const LAST: usize = 12;
    let lines: Vec<String> = history.lines().collect();
    let records = lines.len() - usize::from(history.state.is_some());
    lines[records.saturating_sub(LAST).max(1)..records].join("\n")
}

impl Saved {
    /// Ends with the command that reproduces it.
    pub fn text(&self, console: &Console) -> String {
        let slice = self.slice.trim_end();
        format!("\n{}\n\n{slice}\n\n{}\n", self.sentence, self.pointer(console))
    }

    /// Where it is, and the command.
    pub fn pointer(&self, console: &Console) -> String {
        let again = console.command(&format!("replay {}", quoted(&self.path)));
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
