//! Failures as the user sees them: a sentence, the slice of the history, the capsule's path, the command.

use super::Console;
use super::figures::count;
use crate::capsule::{Capsule, DIRECTORY, Failure};
use crate::generate::Limits;
use crate::plan::Plan;
use crate::replay::{End, Replay};
use crate::shrink::Shrunk;
use crate::shrink::budget::{Budget, Stopped};
use crate::shrink::subject::Subject;
use crate::simulate::Work;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use tourbillon_engine::guard::{Design, Guards};
use tourbillon_models::history::History;
use tourbillon_models::property::Property;
use tourbillon_models::verdict::Violation;

#[derive(Args)]
#[group(skip)]
pub struct Place {
    /// Where failures are saved
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    capsules: PathBuf,
}

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    #[command(flatten)]
    pub place: Place,
    /// Save and tell failures as they were found, not shrunk
    #[arg(long)]
    no_shrink: bool,
}

/// What failing runs were made with, and where they go.
pub struct Circumstances<'a> {
    pub limits: &'a Limits,
    pub design: Option<&'static Design>,
    pub directory: &'a Path,
    /// The option that names the server.
    pub server: String,
    /// The options that draw the same plan from a seed again, and remove the same guards.
    pub again: String,
    /// What it may cost to shrink all of them; none if they stay as they were found.
    pub shrinks: Option<Budget>,
}

impl Arguments {
    /// What it may cost to shrink failures, from now on.
    pub fn shrinks(&self) -> Option<Budget> {
        (!self.no_shrink).then(Budget::usual)
    }
}

impl Place {
    pub fn directory(&self) -> &Path {
        &self.capsules
    }

    /// Says before the work is done that what it finds could not be saved.
    pub fn look(&self, console: &mut Console) {
        if let Err(error) = try_to_write(&self.capsules) {
            console.say(&format!("warning: no failure can be saved in {}: {error}", self.capsules.display()));
        }
    }
}

/// In the directory, or where it would be made; nothing is left behind.
fn try_to_write(directory: &Path) -> io::Result<()> {
    let nearest = directory.ancestors().find(|ancestor| ancestor.exists());
    tempfile::tempfile_in(nearest.unwrap_or(Path::new("."))).map(drop)
}

/// A failure, saved if that could be, and what to print of it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Saved {
    pub seed: u64,
    pub workload: String,
    /// In the order of the properties; none for a divergence.
    pub broken: Vec<Property>,
    pub sentence: String,
    pub slice: String,
    /// Where it showed: `direct` or `lockstep`.
    pub target: String,
    /// The file, or why there is none.
    pub capsule: Result<PathBuf, String>,
    /// The command that shows it again, from the file if there is one.
    again: String,
    /// None if it is as it was found.
    size: Option<Size>,
}

/// How much shrinking a failure has brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Size {
    pub lines: u64,
    pub lines_before: u64,
    pub tries: u64,
    /// False if that came to its limit first.
    pub is_minimal: bool,
    /// Because of the clock: what is left then differs from machine to machine.
    #[serde(default)]
    pub by_the_clock: bool,
}

impl Size {
    pub fn of(shrunk: &Shrunk) -> Size {
        let Shrunk { lines_before, tries, stopped, .. } = *shrunk;
        let by_the_clock = stopped == Some(Stopped::ByTheClock);
        Size { lines: shrunk.lines(), lines_before, tries, is_minimal: stopped.is_none(), by_the_clock }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [lines, before, tries] = [self.lines, self.lines_before, self.tries].map(count);
        write!(f, "shrunk from {before} lines to {lines} in {tries} runs")?;
        match (self.is_minimal, self.by_the_clock) {
            (true, _) => Ok(()),
            (false, false) => f.write_str(", and more could go with more effort"),
            (false, true) => f.write_str(", and was stopped by the clock: a faster machine could leave out more"),
        }
    }
}

/// Makes a failing run again on the direct target, shrinks it, and saves it. Told is what its history shows first, among
/// these properties or, if there are none, all.
pub fn save_seed(seed: u64, work: &Work, guards: Guards, among: &[Property], with: &Circumstances<'_>) -> Saved {
    let plan = work.plan(seed, with.limits);
    let found = Replay::direct(&plan, work, guards);
    save_shrunk(&plan, &found, (work, guards), among, with).unwrap_or_else(|| Saved {
        seed,
        workload: plan.workload,
        broken: among.to_vec(),
        sentence: format!("seed {seed} broke something, and made again it does not"),
        slice: end_of(&found.history),
        target: found.history.header.target,
        capsule: Err("what it broke is not there any more".to_owned()),
        again: format!("replay --seed {seed}{}", with.again),
        size: None,
    })
}

/// Shrinks what a run in the simulator broke, if that is asked for and can be, and saves it; none if it broke nothing. Saved as
/// it was found is what shrinking has made a plan of that breaks nothing: that would be an error of ours, and nobody's loss.
pub fn save_shrunk(
    plan: &Plan,
    found: &Replay,
    (work, guards): (&Work, Guards),
    among: &[Property],
    with: &Circumstances<'_>,
) -> Option<Saved> {
    let property = found.told(among)?.property;
    let budget = with.shrinks.as_ref().filter(|budget| !budget.is_over());
    let shrunk = budget.and_then(|budget| Subject { work, guards, property }.shrink(plan, budget));
    let Some(shrunk) = shrunk else { return save(plan, found, &[property], with) };
    let replay = Replay::direct(&shrunk.plan, &work.of(&shrunk.plan), guards);
    match save(&shrunk.plan, &replay, &[property], with) {
        Some(saved) => Some(saved.with_size(Size::of(&shrunk))),
        None => save(plan, found, &[property], with),
    }
}

/// Saves what a run broke, or where it diverged; none if it did neither.
pub fn save(plan: &Plan, replay: &Replay, among: &[Property], with: &Circumstances<'_>) -> Option<Saved> {
    let Replay { history, end, .. } = replay;
    let (choices, violations, divergence) = match end {
        End::Diverged(difference) => (None, Vec::new(), Some(difference.as_str())),
        End::Agreed { summary, verdict } => {
            let told = replay.told(among)?;
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
    let Circumstances { limits, design, directory, .. } = *with;
    let capsule = Capsule::of(Failure { plan, limits, design, history, choices, violations, divergence });
    let capsule = capsule.save(directory).map_err(|error| format!("{error:#}"));
    let seed = plan.found_under.unwrap_or(plan.seed);
    let (workload, broken) = (plan.workload.clone(), broken.into_iter().collect());
    let target = history.header.target.clone();
    let lockstep = || format!(" --on lockstep{}", with.server);
    let again = match &capsule {
        Ok(path) if is_divergence => format!("replay {}{}", quoted_path(path), lockstep()),
        Ok(path) => format!("replay {}", quoted_path(path)),
        // The server's choices are in no file: only the server makes them again.
        Err(_) if target == "lockstep" => format!("replay --seed {seed}{}{}", with.again, lockstep()),
        Err(_) => format!("replay --seed {seed}{}", with.again),
    };
    Some(Saved { seed, workload, broken, sentence, slice, target, capsule, again, size: None })
}

impl Replay {
    /// The violation to tell: the one that the history shows first, among these properties or, if there are none, all.
    fn told(&self, among: &[Property]) -> Option<&Violation> {
        let End::Agreed { verdict, .. } = &self.end else { return None };
        let is_meant = |violation: &&Violation| among.is_empty() || among.contains(&violation.property);
        verdict.violations().filter(is_meant).min_by_key(|violation| violation.records.last().copied())
    }
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
        let shrunk = self.size.map_or(String::new(), |size| format!("{size}\n\n"));
        format!("\n{}\n\n{slice}\n\n{shrunk}{}\n", self.sentence, self.pointer(console))
    }

    /// Where it is, and the command.
    pub fn pointer(&self, console: &Console) -> String {
        let again = self.command(console);
        match &self.capsule {
            Ok(path) => format!("saved as {}; to see it again:\n{again}", path.display()),
            Err(reason) => format!("NOT SAVED: {reason}; to see it again:\n{again}"),
        }
    }

    /// The command that shows it again.
    pub fn command(&self, console: &Console) -> String {
        console.command(&self.again)
    }

    /// For those that are not told in full.
    pub fn brief(&self, console: &Console) -> String {
        match &self.capsule {
            Ok(path) => format!("{} ({})", self.sentence, path.display()),
            Err(_) => format!("{} (not saved: {})", self.sentence, self.command(console)),
        }
    }

    /// A replay's failure that another machine may have saved: what is not here is made again from its seed.
    pub fn seen_from_here(&self, options: &str) -> Saved {
        match &self.capsule {
            Ok(path) if !path.exists() => Saved {
                capsule: Err(format!("the machine that found it has it, as {}", path.display())),
                again: format!("replay --seed {}{options} --on lockstep", self.seed),
                ..self.clone()
            },
            _ => self.clone(),
        }
    }

    pub fn size(&self) -> Option<Size> {
        self.size
    }

    pub fn with_size(self, size: Size) -> Saved {
        Saved { size: Some(size), ..self }
    }

    pub fn path(&self) -> Option<&Path> {
        self.capsule.as_deref().ok()
    }
}

pub fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// As a shell reads it as one word.
pub fn quoted(text: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "/._-+=:@".contains(letter);
    match text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
