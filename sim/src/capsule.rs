//! A capsule: one failure in one file, from which it can be made again.
//!
//! JSON, a field a line and the history a record a line. It holds the plan and the choices that were made, so it replays
//! after the generator that drew the plan has changed. What it does not hold is the program: a capsule of a workload
//! that this version does not have by name is refused. Invariant: under its name a file is whole or not there.

use crate::faults::FaultKind;
use crate::generate::Limits;
use crate::plan::Plan;
use crate::simulate::Work;
use crate::target::Chooser;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fs;
use std::path::{Path, PathBuf};
use tourbillon_engine::guard::{Design, Guard, Guards};
use tourbillon_models::history::History;
use tourbillon_models::verdict::Violation;
use tourbillon_models::workload::Workload;
use xxhash_rust::xxh3::xxh3_64;

/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// Where capsules go unless the user says otherwise.
pub const DIRECTORY: &str = "target/tourbillon";

/// A file's name may have 255 bytes.
const GUARDS_IN_NAME: usize = 4;

#[derive(Debug, Serialize, Deserialize)]
pub struct Capsule {
    pub format: u32,
    pub tool: Tool,
    pub workload: String,
    pub design: Option<String>,
    /// Every guard that was removed, also by the design.
    pub without: Vec<String>,
    /// The kinds of fault that the seed was allowed to draw.
    pub faults: Vec<String>,
    pub seed: u64,
    pub target: String,
    pub server: Option<String>,
    /// Property and sentence.
    pub violations: Vec<String>,
    /// Where the model and the server disagree, if they do.
    pub divergence: Option<String>,
    /// What PostgreSQL left open; none if it is drawn from the seed.
    pub choices: Option<Vec<u8>>,
    pub plan: Plan,
    #[serde(skip_serializing)]
    history: Vec<Box<RawValue>>,
}

/// Who wrote a capsule.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tool {
    pub version: String,
    pub commit: String,
}

impl Tool {
    pub fn this() -> Tool {
        Tool { version: env!("CARGO_PKG_VERSION").to_owned(), commit: env!("TOURBILLON_COMMIT").to_owned() }
    }
}

/// What a failure consists of.
pub struct Failure<'a> {
    pub plan: &'a Plan,
    pub limits: &'a Limits,
    pub design: Option<&'a Design>,
    pub history: &'a History,
    pub choices: Option<Vec<u8>>,
    pub violations: Vec<&'a Violation>,
    pub divergence: Option<&'a str>,
}

impl Capsule {
    pub fn of(failure: Failure<'_>) -> Capsule {
        let Failure { plan, limits, design, history, choices, violations, divergence } = failure;
        let raw = |line| RawValue::from_string(line).expect("a history's lines are JSON");
        Capsule {
            format: FORMAT,
            tool: Tool::this(),
            workload: plan.workload.clone(),
            design: design.map(|design| design.name.to_owned()),
            without: history.header.without.clone(),
            faults: limits.faults.iter().map(|kind| kind.name().to_owned()).collect(),
            seed: plan.found_under.unwrap_or(plan.seed),
            target: history.header.target.clone(),
            server: history.header.server.clone(),
            violations: violations.into_iter().map(Violation::to_string).collect(),
            divergence: divergence.map(str::to_owned),
            choices,
            plan: plan.clone(),
            history: history.lines().map(raw).collect(),
        }
    }

    /// The name of its file: what was removed, the workload, the seed, what broke, and a hash of all that makes the run,
    /// as other faults draw another plan from the same seed.
    pub fn file_name(&self) -> String {
        let what = match &self.divergence {
            Some(_) => "divergence",
            None => self.violations.first().and_then(|text| text.split(' ').next()).unwrap_or("sound"),
        };
        let (seed, hash) = (self.seed.to_string(), self.short_hash());
        let parts = [self.removed_in_name(), vec![self.workload.clone(), seed, what.to_owned(), hash]].concat();
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
        parts.join("-").replace(|letter| !is_plain(letter), "_") + ".capsule.json"
    }

    /// The design, and the guards that it does not itself remove.
    fn removed_in_name(&self) -> Vec<String> {
        let design = self.design.as_deref().and_then(Design::by_name);
        let of_design = design.map_or(&[][..], |design| design.removed);
        let is_extra = |name: &&String| !of_design.iter().any(|guard| guard.name() == *name);
        let extra: Vec<&String> = self.without.iter().filter(is_extra).collect();
        let extra = match extra.len() {
            0..=GUARDS_IN_NAME => extra.iter().map(|guard| format!("without-{guard}")).collect(),
            many => vec![format!("without-{many}-guards")],
        };
        self.design.iter().cloned().chain(extra).collect()
    }

    fn short_hash(&self) -> String {
        let run = serde_json::to_string(&(&self.without, &self.plan, &self.choices));
        let hash = xxh3_64(run.expect("a plan has no maps with keys that are not strings").as_bytes());
        format!("{:08x}", hash >> 32)
    }

    /// Writes the capsule into a directory, which is made if need be.
    pub fn save(&self, directory: &Path) -> Result<PathBuf> {
        let path = directory.join(self.file_name());
        let unfinished = directory.join(format!("{}.{}.tmp", self.file_name(), std::process::id()));
        let write = || {
            fs::create_dir_all(directory)?;
            fs::write(&unfinished, self.text())?;
            fs::rename(&unfinished, &path)
        };
        write().with_context(|| format!("the capsule {} cannot be written", path.display())).inspect_err(|_| {
            let _ = fs::remove_file(&unfinished);
        })?;
        Ok(path)
    }

    /// For people, too; but a record is a line.
    fn text(&self) -> String {
        let fields = serde_json::to_string_pretty(self).expect("a capsule has no maps with keys that are not strings");
        let fields = fields.strip_suffix("\n}").expect("a capsule is an object");
        let history: Vec<&str> = self.history.iter().map(|line| line.get()).collect();
        format!("{fields},\n  \"history\": [\n{}\n  ]\n}}\n", history.join(",\n"))
    }

    pub fn read(path: &Path) -> Result<Capsule> {
        let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        Capsule::parse(&bytes).with_context(|| format!("{} is not a capsule that can be replayed", path.display()))
    }

    fn parse(bytes: &[u8]) -> Result<Capsule> {
        /// Enough to tell a newer capsule from a broken one.
        #[derive(Deserialize)]
        struct Envelope {
            format: u32,
        }
        let envelope: Envelope = serde_json::from_slice(bytes).map_err(json_error)?;
        let found = envelope.format;
        ensure!(found <= FORMAT, "its format {found} is newer than {FORMAT}, the newest that this version reads");
        let capsule: Capsule = serde_json::from_slice(bytes).map_err(json_error)?;
        match capsule.plan.objection() {
            Some(objection) => bail!("its plan cannot be run: {objection}"),
            None => Ok(capsule),
        }
    }

    /// The workload, if this version has it.
    pub fn work(&self) -> Result<Work> {
        let known = || Workload::ALL.map(|workload| workload.name()).join(", ");
        Work::named(&self.workload).with_context(|| {
            format!(
                "the capsule's workload {:?} is not one that this tool has ({}): replay a program of your own from the \
                 test that runs it",
                self.workload,
                known()
            )
        })
    }

    pub fn guards(&self) -> Result<Guards> {
        let find = |name: &String| {
            Guard::by_name(name).with_context(|| format!("the capsule removes a guard {name:?} that does not exist"))
        };
        let removed: Vec<Guard> = self.without.iter().map(find).collect::<Result<_>>()?;
        Ok(Guards::without(&removed))
    }

    pub fn limits(&self) -> Result<Limits> {
        let find = |name: &String| {
            FaultKind::by_name(name).with_context(|| format!("the capsule names a fault {name:?} that does not exist"))
        };
        Ok(Limits { faults: self.faults.iter().map(find).collect::<Result<_>>()? })
    }

    pub fn design(&self) -> Result<Option<&'static Design>> {
        let find = |name: &String| {
            Design::by_name(name).with_context(|| format!("the capsule names a design {name:?} that does not exist"))
        };
        self.design.as_ref().map(find).transpose()
    }

    /// The choices as they were made.
    pub fn chooser(&self) -> Chooser {
        match &self.choices {
            Some(choices) => Chooser::Recorded(choices.clone().into_iter()),
            None => Chooser::seeded(self.plan.seed),
        }
    }

    /// The history as it was.
    pub fn history(&self) -> Result<History> {
        let lines: Vec<&str> = self.history.iter().map(|line| line.get()).collect();
        History::read(&lines.join("\n")).context("the capsule's history cannot be read")
    }
}

fn json_error(error: serde_json::Error) -> anyhow::Error {
    match error.classify() {
        serde_json::error::Category::Eof => anyhow::anyhow!("it ends in the middle ({error})"),
        _ => anyhow::anyhow!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::Simulator;
    use tourbillon_models::verdict::Judgement;

    /// A run that breaks something, and its capsule.
    fn broken() -> (Capsule, History) {
        let limits = Limits { faults: FaultKind::ALL.to_vec() };
        let (work, guards) = (Work::named("messages").unwrap(), Guards::without(&[Guard::InProgressSet]));
        let mut simulator = Simulator::default();
        for seed in 0.. {
            let plan = work.plan(seed, &limits);
            let (summary, verdict) = simulator.run(&plan, &work, guards);
            if verdict.judgement() == Judgement::Violated {
                let (plan, limits, history) = (&plan, &limits, simulator.history());
                let (choices, violations) = (Some(summary.choices), verdict.violations().collect());
                let failure = Failure { plan, limits, design: None, history, choices, violations, divergence: None };
                return (Capsule::of(failure), history.clone());
            }
        }
        unreachable!("without in_progress_set nothing is lost")
    }

    #[test]
    fn a_capsule_read_back_is_the_same_and_replays_to_the_same_history() {
        let (capsule, history) = broken();
        let directory = tempfile::tempdir().unwrap();
        let path = capsule.save(&directory.path().join("new")).unwrap();
        let read = Capsule::read(&path).unwrap();
        assert_eq!(read.text(), capsule.text());
        assert_eq!(read.history().unwrap(), history);
        let mut simulator = Simulator::default();
        simulator.run_with(&read.plan, &read.work().unwrap(), read.guards().unwrap(), read.chooser());
        assert_eq!(simulator.history().hash(), history.hash());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing unfinished is left behind");
    }

    #[test]
    fn a_name_tells_what_was_removed_and_no_two_runs_share_one() {
        let (mut capsule, _) = broken();
        let named = capsule.file_name();
        assert!(named.starts_with("without-in_progress_set-messages-"), "{named}");
        capsule.plan.options.push(("other".to_owned(), "plan".to_owned()));
        assert_ne!(capsule.file_name(), named);
        capsule.design = Some("pgq-rotation".to_owned());
        capsule.without = vec!["read_all_tables".to_owned(), "claim_lock".to_owned()];
        let named = capsule.file_name();
        assert!(named.starts_with("pgq-rotation-without-claim_lock-messages-"), "{named}");
        capsule.without = Guard::ALL.map(|guard| guard.name().to_owned()).to_vec();
        let named = capsule.file_name();
        let rest = format!("pgq-rotation-without-{}-guards-messages-", Guard::ALL.len() - 1);
        assert!(named.starts_with(&rest), "{named}");
    }

    #[test]
    fn what_is_no_capsule_is_refused_in_a_sentence() {
        let (capsule, _) = broken();
        let text = capsule.text();
        let refusal = |text: &str| format!("{:#}", Capsule::parse(text.as_bytes()).unwrap_err());
        assert!(refusal(&text[..text.len() / 2]).starts_with("it ends in the middle"));
        assert!(refusal("").starts_with("it ends in the middle"));
        assert!(refusal("{}").contains("missing field `format`"));
        let newer = text.replacen("\"format\": 1", "\"format\": 2", 1);
        assert_eq!(refusal(&newer), "its format 2 is newer than 1, the newest that this version reads");
    }

    #[test]
    fn a_plan_that_cannot_be_run_is_refused() {
        let (mut capsule, _) = broken();
        capsule.plan.processes.truncate(1);
        assert!(capsule.plan.objection().is_some_and(|text| text.contains("there are 1 processes")));
        capsule.plan.processes.clear();
        assert!(capsule.plan.objection().is_some());
    }

    #[test]
    fn a_program_that_the_tool_does_not_have_is_named() {
        let (mut capsule, _) = broken();
        capsule.workload = "checkout".to_owned();
        let Err(error) = capsule.work() else { panic!("there is no such workload") };
        assert!(
            error.to_string().contains("\"checkout\" is not one that this tool has (chain, agent-loop, messages, ")
        );
    }
}
