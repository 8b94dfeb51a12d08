//! One seed, from plan to verdict: the pipeline on one screen.
//!
//! seed → plan → run → history → check → verdict. A [`Simulator`] keeps the memory of the engine, the history and the
//! checker between seeds.

use crate::generate::{Limits, generate};
use crate::net;
use crate::net::failing::Failing;
use crate::plan::{Plan, PlannedEffect, PlannedFault, When};
use crate::run::{Director, Summary, run, run_with};
use crate::target::{Chooser, Direct, Target};
use std::collections::HashSet;
use std::ops::Deref;
use std::rc::Rc;
use tourbillon_engine::guard::Guards;
use tourbillon_engine::schema::FORBIDDEN_STATE;
use tourbillon_engine::store::unflushed::Durability;
use tourbillon_models::history::{FORMAT, Header, History};
use tourbillon_models::name::{Micros, Process, Step};
use tourbillon_models::property::{ASYNCHRONOUS_COMMIT, Checker, UNDELIVERABLE_STATE};
use tourbillon_models::verdict::Verdict;
use tourbillon_models::workload::{Expected, Program, StepInput, StepOutcome};

/// A program and its name, as a plan refers to it; no program is a plain queue of messages. And how its plans are ordered.
#[derive(Clone)]
pub struct Work {
    pub name: String,
    pub program: Option<Rc<dyn Program>>,
    is_own: bool,
    leaks: bool,
    on: On,
    network: Failing,
    /// The depth of priorities; none where time decides.
    depth: Option<u32>,
}

impl Work {
    /// A workload of the project's, by name.
    pub fn named(name: &str) -> Option<Work> {
        let workload = tourbillon_models::workload::Workload::by_name(name)?;
        let program = workload.program().map(|program| Rc::new(Held(program)) as Rc<dyn Program>);
        Some(Work {
            name: name.to_owned(),
            program,
            is_own: false,
            leaks: false,
            on: On::Direct,
            network: Failing::ANYHOW,
            depth: None,
        })
    }

    /// A program of one's own.
    pub fn own(program: impl Program + 'static) -> Work {
        let (name, program) = (program.name().to_owned(), Some(Rc::new(program) as Rc<dyn Program>));
        Work { name, program, is_own: true, leaks: false, on: On::Direct, network: Failing::ANYHOW, depth: None }
    }

    /// What a plan runs that was made of one of this workload: shrinking may have put a briefer program in its place.
    pub fn of(&self, plan: &Plan) -> Work {
        let other = if self.is_own || plan.workload == self.name { None } else { Work::named(&plan.workload) };
        other.unwrap_or_else(|| self.clone())
    }

    /// Whether the program is somebody's own, whatever it is called.
    pub fn is_own(&self) -> bool {
        self.is_own
    }

    /// Its plans go by priorities of this depth, or else by time.
    pub fn ordered(self, depth: Option<u32>) -> Work {
        Work { depth, ..self }
    }

    /// Its plans run there.
    #[must_use]
    pub fn on(self, on: On) -> Work {
        Work { on, ..self }
    }

    /// So does the network, where there is one.
    #[must_use]
    pub fn network(self, network: Failing) -> Work {
        Work { network, ..self }
    }

    pub fn steps(&self) -> Vec<&str> {
        self.program.as_ref().map_or_else(Vec::new, |program| program.steps().to_vec())
    }

    pub fn names(&self) -> Vec<&str> {
        self.program.as_ref().map_or_else(Vec::new, |program| program.names().to_vec())
    }

    pub fn plan(&self, seed: u64, limits: &Limits) -> Plan {
        let mut plan = generate(seed, &self.name, self.program.as_deref(), limits);
        if self.leaks {
            plant_leak(&mut plan);
        }
        if let Some(depth) = self.depth {
            plan.rank(depth);
        } else if self.on.is_net(seed) {
            plan.spread(self.network);
        }
        plan
    }

    /// The same, and its plans are not the same twice: a leak planted on purpose, so that a sweep can show that it would
    /// notice one.
    #[doc(hidden)]
    #[must_use]
    pub fn leaking(self) -> Work {
        Work { leaks: true, ..self }
    }
}

/// Where plans run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum On {
    Direct,
    Net,
    /// One seed in [`NET_SHARE`] over a network, the others directly.
    Both,
}

/// A prime, so that no rotation of workloads keeps in step with it.
pub const NET_SHARE: u64 = 499;

impl On {
    /// By the seed alone. The first seeds run directly.
    pub const fn is_net(self, seed: u64) -> bool {
        match self {
            On::Direct => false,
            On::Net => true,
            On::Both => seed % NET_SHARE == NET_SHARE - 1,
        }
    }
}

/// One process stands still for a moment, for as long as the order of a hash map says.
fn plant_leak(plan: &mut Plan) {
    let order: HashSet<u64> = (1..=1_000).collect();
    let duration = Micros(order.into_iter().next().unwrap_or_default());
    let when = When::Time { at: Micros(plan.faults_end.0 / 2), process: Process(0) };
    plan.faults.push(PlannedFault { when, what: PlannedEffect::Pause { duration }, kind: None });
}

/// A program that somebody else holds as well.
#[derive(Clone)]
pub(crate) struct Held<D>(pub(crate) D);

impl<D> Program for Held<D>
where
    D: Deref,
    D::Target: Program,
{
    fn name(&self) -> &str {
        self.0.name()
    }

    fn summary(&self) -> &str {
        self.0.summary()
    }

    fn steps(&self) -> &[&str] {
        self.0.steps()
    }

    fn names(&self) -> &[&str] {
        self.0.names()
    }

    fn emits(&self, index: u32, size: u64) -> Vec<Expected> {
        self.0.emits(index, size)
    }

    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        self.0.start(index, size)
    }

    fn decide(&self, input: StepInput) -> StepOutcome {
        self.0.decide(input)
    }
}

/// What a history's reader must know of a plan.
pub fn header(plan: &Plan, work: &Work, guards: Guards, target: &str, server: Option<String>) -> Header {
    let mut options = plan.options.clone();
    options.push((UNDELIVERABLE_STATE.to_owned(), FORBIDDEN_STATE.to_string()));
    if plan.durability == Durability::Asynchronous {
        options.push((ASYNCHRONOUS_COMMIT.to_owned(), true.to_string()));
    }
    Header {
        format: FORMAT,
        seed: plan.seed,
        workload: work.name.clone(),
        steps: work.steps().into_iter().map(str::to_owned).collect(),
        names: work.names().into_iter().map(str::to_owned).collect(),
        target: target.to_owned(),
        server,
        without: guards.removed().map(|guard| guard.name().to_owned()).collect(),
        processes: plan.processes.iter().map(|process| process.name.clone()).collect(),
        dead_interval: plan.dead_interval,
        faults_end: plan.faults_end,
        liveness_bound: plan.liveness_bound,
        rotation_period: plan.rotation_period,
        drain_interval: plan.drain_interval,
        options,
    }
}

/// Runs plans on the direct target and checks their histories.
pub struct Simulator {
    target: Direct,
    checker: Checker,
    history: Option<History>,
}

impl Default for Simulator {
    fn default() -> Self {
        let target = Direct::new(Guards::ALL, Chooser::seeded(0));
        Simulator { target, checker: Checker::new(), history: None }
    }
}

impl Simulator {
    /// Runs a plan with choices drawn from its seed.
    pub fn run(&mut self, plan: &Plan, work: &Work, guards: Guards) -> (Summary, Verdict) {
        self.run_with(plan, work, guards, Chooser::seeded(plan.seed))
    }

    pub fn run_with(&mut self, plan: &Plan, work: &Work, guards: Guards, chooser: Chooser) -> (Summary, Verdict) {
        self.restart(plan, work, guards, chooser);
        let summary = match plan.network {
            None => {
                let history = self.history.as_mut().expect("it was begun");
                let Ok(summary) = run(plan, work.program.clone(), &mut self.target, history);
                summary
            }
            Some(_) => {
                let spare = Direct::new(Guards::ALL, Chooser::seeded(0));
                let target = std::mem::replace(&mut self.target, spare);
                let history = self.history.take().expect("it was begun");
                let ran = net::run(plan, work.program.clone(), target, history);
                (self.target, self.history) = (ran.target, Some(ran.history));
                ran.summary
            }
        };
        (summary, self.judge(work))
    }

    /// Runs a plan that somebody else directs. What comes of it is to be judged by [`Simulator::judge`].
    pub fn run_directed(
        &mut self,
        plan: &Plan,
        work: &Work,
        guards: Guards,
        chooser: Chooser,
        director: &mut dyn Director,
    ) -> Summary {
        self.restart(plan, work, guards, chooser);
        let history = self.history.as_mut().expect("it was begun");
        let Ok(summary) = run_with(plan, work.program.clone(), &mut self.target, history, director);
        summary
    }

    fn restart(&mut self, plan: &Plan, work: &Work, guards: Guards, chooser: Chooser) {
        self.target.restart(guards, plan.wal_level, plan.durability, chooser);
        let on = if plan.network.is_some() { "net" } else { "direct" };
        let header = header(plan, work, guards, on, None);
        match &mut self.history {
            Some(history) => history.restart(header),
            none => _ = none.insert(History::new(header)),
        }
    }

    /// The verdict on the last run.
    pub fn judge(&mut self, work: &Work) -> Verdict {
        let history = self.history.as_ref().expect("nothing has been run yet");
        self.checker.check_program(history, work.program.as_deref())
    }

    /// From now on the engine notes what calls read and write.
    pub fn record_footprints(&mut self) {
        self.target.record_footprints();
    }

    /// The history of the last run.
    pub fn history(&self) -> &History {
        self.history.as_ref().expect("nothing has been run yet")
    }
}

/// Runs a plan on any target. The verdict of what comes of it is the caller's to ask for.
pub fn run_on<T: Target>(
    plan: &Plan,
    work: &Work,
    header: Header,
    target: &mut T,
) -> Result<(Summary, History), T::Stop> {
    let mut history = History::new(header);
    let summary = run(plan, work.program.clone(), target, &mut history)?;
    Ok((summary, history))
}
