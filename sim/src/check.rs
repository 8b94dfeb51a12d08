//! Checks a workflow of one's own, from `cargo test`.
//!
//! First its shape is looked at: a program that names a step which it does not have is refused before anything runs. Then it
//! runs on the sound engine under every kind of fault, seed after seed; each history is checked, and some of the seeds are
//! run twice. What can be found is what a workflow can do wrong: it never ends, it panics, it looks at a
//! clock or draws at random, so that a step that is repeated after a crash comes out differently. What it is not: a
//! check of what a step does outside the database.

use crate::faults::FaultKind;
use crate::generate::Limits;
use crate::lockstep::Counts;
use crate::plan::Plan;
use crate::postgres::one_cpu::OneCpu;
use crate::postgres::server::Server;
use crate::replay::{End, Replay, Sample, replay_all};
use crate::shrink::budget::Budget;
use crate::shrink::subject::Subject;
use crate::simulate::{Held, Simulator, Work};
use crate::sweep::{Found, Seeds, Setting, Shard, Swept, catch, processors, sweep};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use tourbillon_engine::guard::{Guard, Guards};
use tourbillon_models::history::History;
use tourbillon_models::verdict::Violation;
use tourbillon_models::workload::Program;
use tourbillon_models::workload::shape::explore;

/// The variable that narrows every check to one seed: the one that a failure names.
pub const VARIABLE: &str = "TOURBILLON_SEED";

/// So many seeds, unless told otherwise: a second or two.
const SEEDS: u64 = 500;
/// What it may cost to shrink the first failure.
const SHRINKING: u64 = Budget::USUAL / 4;
/// So many of the histories are replayed on a server, if any are.
const REPLAYS: usize = 20;

/// A check of one program, before it is run.
#[must_use = "nothing is checked before `run`"]
#[derive(Clone)]
pub struct Check {
    program: Shared,
    seeds: Seeds,
    setting: Setting,
    on_postgres: bool,
}

/// Begins a check: all faults, every guard in its place, no server.
pub fn check(program: impl Program + Send + Sync + 'static) -> Check {
    Check {
        program: Held(Arc::new(program)),
        seeds: Seeds { first: 0, count: SEEDS, shard: Shard::WHOLE },
        setting: Setting { limits: Limits { faults: FaultKind::ALL.to_vec() }, guards: Guards::ALL },
        on_postgres: false,
    }
}

impl Check {
    /// How many seeds. A thousand take about a second in a release build, and some five in a debug build.
    pub fn seeds(mut self, count: u64) -> Self {
        assert!(count > 0, "a check of no seeds checks nothing");
        self.seeds.count = count;
        self
    }

    /// The first seed; the default is 0.
    pub fn first_seed(mut self, first: u64) -> Self {
        self.seeds.first = first;
        self
    }

    /// Only these kinds of fault.
    pub fn faults(mut self, kinds: &[FaultKind]) -> Self {
        self.setting.limits.faults = kinds.to_vec();
        self
    }

    /// Without these guards: to see what one's own workflow would suffer on an engine with that bug.
    pub fn without(mut self, guards: &[Guard]) -> Self {
        self.setting.guards = Guards::without(guards);
        self
    }

    /// Also replays some of the histories, statement by statement, on a throw-away PostgreSQL server.
    pub fn on_postgres(mut self) -> Self {
        self.on_postgres = true;
        self
    }

    /// Runs the check. `TOURBILLON_SEED` narrows it to one seed.
    ///
    /// # Panics
    ///
    /// At the first failure, with what contradicts what, the part of the history that proves it, and the command that
    /// shows it again. Also if there is no server, where one was asked for.
    #[track_caller]
    pub fn run(mut self) -> Checked {
        if let Ok(seed) = std::env::var(VARIABLE) {
            self.seeds.first =
                seed.parse().unwrap_or_else(|_| panic!("{VARIABLE} is {seed:?}, and a seed is a number"));
            self.seeds.count = 1;
        }
        match self.outcome() {
            Ok(checked) => checked,
            Err(failure) => panic!("{failure}\n{}", failure.command()),
        }
    }

    /// Runs the check, and returns what it found.
    pub fn outcome(&self) -> Result<Checked, Failure> {
        self.look_at_shape()?;
        let mut sample = Sample::new(REPLAYS, true);
        let swept = sweep(
            self.seeds,
            processors(),
            &self.setting,
            || vec![self.work()],
            |swept, ran| {
                ran.iter().for_each(|ran| sample.offer(ran));
                let is_good = swept.found.is_empty() && swept.sums.not_deterministic().is_empty();
                if is_good { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            },
        );
        self.judge(&swept)?;
        let replayed = if self.on_postgres { Some(self.replay(&sample.seeds())?) } else { None };
        let (runs, calls, records) = (swept.sums.run_count(), swept.calls, swept.sums.record_count());
        Ok(Checked { program: self.name(), runs, calls, records, simulated_us: swept.simulated_us, replayed })
    }

    /// A program that panics does so again when it runs, and is told then.
    fn look_at_shape(&self) -> Result<(), Failure> {
        let Ok(Err(malformed)) = catch(|| explore(&self.program)) else { return Ok(()) };
        Err(Failure { program: self.name(), seed: None, sentence: malformed.to_string(), evidence: String::new() })
    }

    fn judge(&self, swept: &Swept) -> Result<(), Failure> {
        if let Some(found) = swept.found.first() {
            return Err(self.broken(found));
        }
        let failure = |seed: u64, sentence: &str, evidence: String| Failure {
            program: self.name(),
            seed: Some(seed),
            sentence: sentence.to_owned(),
            evidence,
        };
        if let Some(seed) = swept.sums.not_deterministic().first() {
            return Err(failure(
                *seed,
                "run twice, the same plan gave two histories: a step's outcome must follow from its state alone",
                swept.differences.first().map(|(_, difference)| difference.story()).unwrap_or_default(),
            ));
        }
        match swept.first_unknown {
            Some(seed) => {
                Err(failure(seed, "the history is incomplete, so nobody knows whether it is sound", String::new()))
            }
            None => Ok(()),
        }
    }

    /// Runs a seed that failed again, for what a sweep does not keep.
    fn broken(&self, found: &Found) -> Failure {
        let failure = |sentence, evidence| Failure { program: self.name(), seed: Some(found.seed), sentence, evidence };
        let work = self.work();
        let plan = work.plan(found.seed, &self.setting.limits);
        if found.broken.is_empty() {
            return failure(found.sentence.clone(), options(&plan));
        }
        let mut simulator = Simulator::default();
        let (_, verdict) = simulator.run(&plan, &work, self.setting.guards);
        match verdict.first_violation() {
            Some(violation) => {
                let (sentence, evidence) = self.told_briefly(&plan, &work, violation, simulator.history());
                failure(sentence, format!("{evidence}\n{}", options(&plan)))
            }
            None => failure(format!("{}; run again, it is not so", found.sentence), options(&plan)),
        }
    }

    /// A violation of the same property under a plan that has nothing to spare, and what proves it.
    fn told_briefly(&self, plan: &Plan, work: &Work, found: &Violation, history: &History) -> (String, String) {
        let subject = Subject { work, guards: self.setting.guards, property: found.property };
        let told = subject.shrink(plan, &Budget::of(SHRINKING, Budget::LONGEST)).and_then(|shrunk| {
            let mut simulator = Simulator::default();
            let (_, verdict) = simulator.run(&shrunk.plan, work, self.setting.guards);
            let again = verdict.violations().find(|violation| violation.property == found.property)?;
            let (slice, before, left) = (again.slice(simulator.history()), shrunk.lines_before, shrunk.lines());
            Some((again.to_string(), format!("{slice}\nShrunk from {before} lines to {left}.")))
        });
        told.unwrap_or_else(|| (found.to_string(), found.slice(history)))
    }

    fn replay(&self, seeds: &[u64]) -> Result<Counts, Failure> {
        let no_server = |error: crate::postgres::Error| Failure {
            program: self.name(),
            seed: None,
            sentence: format!("nothing can be replayed on PostgreSQL: {error}"),
            evidence: String::new(),
        };
        // Before the server starts, so that it runs where this thread runs.
        let _one = OneCpu::claim();
        let mut server = Server::embedded().map_err(no_server)?;
        let replays = replay_all(&mut server, seeds, &self.setting, &[self.work()], |_| {}).map_err(no_server)?;
        match replays.failed.first() {
            Some((plan, replay)) => Err(self.not_replayed(plan, replay)),
            None => Ok(replays.counts),
        }
    }

    fn not_replayed(&self, plan: &Plan, replay: &Replay) -> Failure {
        let (sentence, slice) = match &replay.end {
            End::Diverged(difference) => (format!("the server differs from the model: {difference}"), String::new()),
            End::Agreed { verdict, .. } => {
                let violation = verdict.first_violation().expect("what agreed and failed broke a property");
                (format!("on PostgreSQL, {violation}"), violation.slice(&replay.history))
            }
        };
        let evidence = format!("{slice}\n{}", options(plan));
        Failure { program: self.name(), seed: Some(plan.seed), sentence, evidence }
    }

    fn work(&self) -> Work {
        Work::own(self.program.clone())
    }

    fn name(&self) -> String {
        self.program.0.name().to_owned()
    }
}

fn options(plan: &Plan) -> String {
    let named: Vec<String> = plan.options.iter().map(|(name, value)| format!("{name} {value}")).collect();
    format!("The seed drew: {}.", named.join(", "))
}

/// What a check that found nothing has done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    pub program: String,
    pub runs: u64,
    pub calls: u64,
    pub records: u64,
    pub simulated_us: u64,
    /// None if no server was asked for.
    pub replayed: Option<Counts>,
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Checked { program, runs, calls, simulated_us, .. } = self;
        let minutes = simulated_us / 60_000_000;
        write!(f, "{program}: {runs} runs, {calls} calls, {minutes} minutes of virtual time, nothing wrong")?;
        match &self.replayed {
            Some(counts) => write!(f, "; on PostgreSQL {} statements, the same", counts.statements),
            None => Ok(()),
        }
    }
}

/// What a check found. Printed, it is one sentence and what proves it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub program: String,
    /// None if it takes no run to see it, or if there was no server.
    pub seed: Option<u64>,
    pub sentence: String,
    pub evidence: String,
}

impl Failure {
    /// The command that shows it again. A test's thread bears its name.
    fn command(&self) -> String {
        let thread = std::thread::current();
        let test = thread.name().filter(|name| *name != "main").map_or(String::new(), |name| format!(" {name}"));
        match self.seed {
            Some(seed) => format!("To see it again:\n{VARIABLE}={seed} cargo test{test}"),
            None => format!("To try again:\ncargo test{test}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seed = self.seed.map_or(String::new(), |seed| format!(", seed {seed}"));
        writeln!(f, "{}{seed}: {}", self.program, self.sentence)?;
        if self.evidence.is_empty() { Ok(()) } else { write!(f, "\n{}\n", self.evidence.trim()) }
    }
}

impl std::error::Error for Failure {}

/// One program for all threads.
type Shared = Held<Arc<dyn Program + Send + Sync>>;
