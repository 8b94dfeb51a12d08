//! Exploration: every schedule of a small configuration, up to bounds, and what came of them.
//!
//! Each schedule is a run from the beginning, judged at its end like any other. Schedules that differ only in the order of
//! turns that do not depend on each other are one ([`trace`]), and a state that was reached is not entered again. A claim
//! that this makes is about the configuration and the bounds, and nothing else: it is *complete*, or it was cut off.

mod configuration;
mod mixed;
mod search;
mod trace;
mod tree;
mod walk;

pub use configuration::{Configuration, HABITS, TURNS};
pub use search::{Limit, Pruning};
pub use walk::Ended;

use crate::order::{Chosen, Order, Turns};
use crate::plan::{Plan, Role};
use crate::simulate::{Simulator, Work};
use crate::sweep::catch;
use crate::target::Chooser;
use search::Search;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use tourbillon_engine::actors::script::ScriptOptions;
use tourbillon_engine::guard::Guards;
use tourbillon_models::property::Property;
use tourbillon_models::state::State;
use tourbillon_models::verdict::{Judgement, Verdict};
use trace::Trace;
use walk::Walk;
use xxhash_rust::xxh3::xxh3_64;

/// Whether a violation ends the search.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    AtViolation,
    AtTheEnd,
}

/// A schedule that broke something; or under which something panicked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// With the schedule in full.
    pub plan: Plan,
    pub choices: Vec<u8>,
    /// The one that the history shows first, then the others; none for a panic.
    pub broken: Vec<Property>,
    pub sentence: String,
}

/// What was covered, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Covered {
    /// Runs that came to an end by themselves, and were judged.
    pub schedules: u64,
    /// Runs that ended in a state that was known.
    pub pruned: u64,
    pub states: u64,
    /// Turns of the longest schedule.
    pub deepest: u32,
    /// Branches that were left when the search was cut off.
    pub left: u64,
    pub is_complete: bool,
    /// Rows at the end of a schedule, as hashes.
    pub final_states: BTreeSet<u64>,
    /// Those that differ in more than ids, times and positions in the log.
    pub outcomes: BTreeSet<u64>,
    /// In how many schedules a property was broken.
    pub broken: BTreeMap<Property, u64>,
    /// Schedules of which a property does not know whether it holds.
    pub unknown: u64,
    pub failed: u64,
    pub first: Option<Failure>,
    pub time: Duration,
}

/// What is explored, and how.
pub struct Exploration<'a> {
    pub configuration: &'a Configuration,
    pub work: &'a Work,
    pub guards: Guards,
    pub pruning: Pruning,
    pub limit: Limit,
    pub stop: Stop,
}

/// Explores. `each` is told of the progress now and then, and may end it.
pub fn explore(exploration: &Exploration<'_>, mut each: impl FnMut(&Covered) -> ControlFlow<()>) -> Covered {
    let began = Instant::now();
    let Exploration { configuration, work, guards, pruning, limit, stop } = *exploration;
    let plan = configuration.plan(work);
    let mortal = mortal(&plan);
    let (mut search, mut trace) = (Search::new(pruning, limit), Trace::new(&plan));
    let (mut simulator, mut covered) = (recording(), Covered::default());
    let mut branch = None;
    let mut runs = 0u64;
    loop {
        let mut walk = Walk::new(&mut search, configuration, &mut trace, mortal, branch.as_ref());
        let chooser = Chooser::Recorded(walk.picks().into_iter());
        let ran = catch(|| simulator.run_directed(&plan, work, guards, chooser, &mut walk));
        let (ended, end, depth) = (walk.ended, walk.end(), walk.depth);
        covered.deepest = covered.deepest.max(depth);
        match (ran, ended) {
            (Ok(summary), Ended::Whole) => {
                let verdict = simulator.judge(work);
                covered.schedules += 1;
                covered.judge(&verdict, simulator.history().state.as_ref());
                if let Some(violation) = verdict.first_violation() {
                    covered.failed += 1;
                    let (sentence, first) = (violation.to_string(), violation.property);
                    let others = verdict.broken().filter(|property| *property != first);
                    let broken = std::iter::once(first).chain(others).collect();
                    let turns = search.tree.turns(end);
                    covered.fail(&plan, turns, summary.choices, broken, sentence);
                }
            }
            (Ok(_), Ended::Known) => covered.pruned += 1,
            (Ok(_), Ended::CutOff) => break,
            (Err(sentence), _) => {
                simulator = recording();
                covered.failed += 1;
                let turns = search.tree.turns(end);
                covered.fail(&plan, turns, Vec::new(), Vec::new(), sentence);
            }
        }
        covered.states = search.states;
        if stop == Stop::AtViolation && covered.first.is_some() {
            break;
        }
        runs += 1;
        if runs.is_multiple_of(1024) {
            covered.time = began.elapsed();
            covered.left = search.left_count() as u64;
            if each(&covered).is_break() {
                break;
            }
        }
        branch = search.next();
        if branch.is_none() {
            covered.is_complete = true;
            break;
        }
    }
    covered.states = search.states;
    covered.left = search.left_count() as u64;
    covered.time = began.elapsed();
    covered
}

fn recording() -> Simulator {
    let mut simulator = Simulator::default();
    simulator.record_footprints();
    simulator
}

/// Faults befall workers, and those who come once: duties come again anyhow.
fn mortal(plan: &Plan) -> u64 {
    let is_mortal = |role: &Role| match role {
        Role::Worker(_) => true,
        Role::Script(options) => matches!(options, ScriptOptions::Once { .. }),
    };
    let processes = plan.processes.iter().enumerate().skip(1);
    processes.filter(|(_, process)| is_mortal(&process.role)).fold(0, |bits, (index, _)| bits | 1 << index)
}

impl Covered {
    fn judge(&mut self, verdict: &Verdict, state: Option<&State>) {
        verdict.broken().for_each(|property| *self.broken.entry(property).or_default() += 1);
        self.unknown += u64::from(verdict.judgement() == Judgement::Unknown);
        if let Some(state) = state {
            self.final_states.insert(hash_of(&whole(state)));
            self.outcomes.insert(hash_of(&outcome(state)));
        }
    }

    fn fail(
        &mut self,
        plan: &Plan,
        turns: Vec<crate::order::Turn>,
        choices: Vec<u8>,
        broken: Vec<Property>,
        sentence: String,
    ) {
        if self.first.is_some() {
            return;
        }
        let mut plan = plan.clone();
        let Order::Chosen(chosen) = plan.order else { unreachable!("what is explored is chosen") };
        plan.order = Order::Chosen(Chosen { turns: Turns(turns), ..chosen });
        self.first = Some(Failure { plan, choices, broken, sentence });
    }
}

fn hash_of(value: &impl serde::Serialize) -> u64 {
    xxh3_64(&serde_json::to_vec(value).expect("rows have a text form"))
}

/// The ledger has no order but that of its rows' positions, which nobody sees.
fn whole(state: &State) -> State {
    let mut state = state.clone();
    state.ledger.sort_unstable_by_key(|row| (row.workflow, row.sequence, row.step, row.xid));
    state
}

/// What the application sees: its own rows, what is left of workflows, and what was given up.
fn outcome(state: &State) -> impl serde::Serialize {
    let key_of = |workflow| state.start_keys.iter().find(|row| row.workflow == workflow).map(|row| row.key);
    let mut ledger: Vec<_> = state.ledger.iter().map(|row| (key_of(row.workflow), row.sequence, row.step)).collect();
    ledger.sort_unstable();
    let mut live: Vec<_> = state.workflows.iter().map(|row| row.key).collect();
    live.sort_unstable();
    let dead: Vec<_> = state.dead_letters.iter().map(|row| (row.step, row.attempt)).collect();
    (ledger, live, dead, state.boxes.len(), state.joins.len(), state.timers.len(), state.workers.len())
}
