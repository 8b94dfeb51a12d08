//! Shrinking: of a plan whose run goes wrong, one that goes wrong in the same way and has nothing to spare.
//!
//! Fewer faults, processes, rounds and statements, duties that are called only where it matters, a shorter horizon, earlier
//! and rounder times, plainer workers, smaller numbers: [`candidates`] says what may be tried next, whoever asks decides whether it
//! still goes wrong, and only what makes the history no longer is kept. So the result is what one would draw on a board.
//! What it is not: a search for another failure. A [`Subject`](subject::Subject) breaks the property that it broke, and
//! where guards are removed the same plan must be sound with every guard in its place; so a plan that merely lacks a ticker
//! is no result.

pub mod budget;
pub mod candidates;
mod cut;
pub mod divergence;
mod prolong;
mod runs;
mod simplify;
pub mod subject;

use crate::order::Order;
use crate::plan::{Plan, Role};
use budget::{Budget, Stopped};
use candidates::Candidates;
use tourbillon_engine::actors::script::ScriptOptions;
use tourbillon_models::history::History;
use tourbillon_models::verdict::lines;

/// What a smaller plan may leave out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freedom {
    /// Anything: whoever asks has another way to see that the plan is a fair one.
    Full,
    /// Anything but the time that everything has to end: what is cut off in the middle would seem stuck.
    AllButBound,
    /// What brings work, and faults. The duties, the bounds and the pace of workers stay: without a ticker, or with less
    /// time, nothing is ever done, and that would be no bug.
    WorkAndFaults,
}

impl Freedom {
    const fn has_rhythm(self) -> bool {
        matches!(self, Freedom::Full | Freedom::AllButBound)
    }
}

/// What is left of a plan, and of its history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shrunk {
    pub plan: Plan,
    pub history: History,
    /// How many lines the history had before.
    pub lines_before: u64,
    pub tries: u64,
    /// Why there may be more to leave out; none if nothing is left to try.
    pub stopped: Option<Stopped>,
}

impl Shrunk {
    /// Of the history, told whole.
    pub fn lines(&self) -> u64 {
        lines(&self.history)
    }

    /// Of the same failure the one that is less to read; the tries of both.
    fn lighter(self, other: Shrunk) -> Shrunk {
        let tries = self.tries + other.tries;
        let is_heavier = weight(&other.plan, &other.history) < weight(&self.plan, &self.history);
        Shrunk { tries, ..if is_heavier { other } else { self } }
    }
}

/// A plan, and the history that it makes.
pub type Shown = (Plan, History);

/// Shrinks a plan. `run` gives back what it made of one that goes wrong in the same way, else none; it may end the run earlier or later
/// than it was asked, and spends what that costs. `shown` is the plan as it is. Cost: some hundred to some thousand runs.
pub fn shrink<E>(
    shown: Shown,
    freedom: Freedom,
    budget: &Budget,
    mut run: impl FnMut(&Plan) -> Result<Option<Shown>, E>,
) -> Result<Shrunk, E> {
    let (mut plan, mut history) = shown;
    let lines_before = lines(&history);
    // What the seed drew is not what is left.
    if plan.found_under.is_none() {
        plan.found_under = Some(plan.seed);
        let size = format!("{lines_before} lines, found under seed {}", plan.seed);
        plan.options = vec![("shrunk_from".to_owned(), size)];
    }
    let (mut best, mut tries, mut stopped) = (weight(&plan, &history), 0, None);
    let mut candidates = Candidates::new(plan, freedom, Some(&history));
    while let Some(candidate) = candidates.next() {
        stopped = budget.stopped();
        if stopped.is_some() {
            break;
        }
        tries += 1;
        let lighter = run(candidate)?.filter(|(plan, history)| weight(plan, history) <= best);
        match lighter {
            Some((plan, shown)) => {
                best = weight(&plan, &shown);
                history = shown;
                candidates.accept(plan, Some(&history));
            }
            None => candidates.reject(),
        }
    }
    Ok(Shrunk { plan: candidates.into_plan(), history, lines_before, tries, stopped })
}

/// How much there is to read, to say, and to follow from one process to the other.
fn weight(plan: &Plan, history: &History) -> u64 {
    let switches = history.records.windows(2).filter(|pair| pair[0].process != pair[1].process).count() as u64;
    4 * lines(history) + 2 * parts(plan) + switches
}

/// What is done without end counts for more than any number of times.
const ENDLESS: u64 = 10_000;

fn parts(plan: &Plan) -> u64 {
    let of_script = |script: &ScriptOptions| match script {
        ScriptOptions::Once { rounds } => rounds.iter().map(|round| 1 + round.statements.len() as u64).sum(),
        ScriptOptions::Periodic { .. } => ENDLESS,
    };
    let of_process = |role: &Role| match role {
        Role::Worker(worker) => worker.polls.as_ref().map_or(ENDLESS, |polls| 1 + polls.len() as u64),
        Role::Script(script) => 1 + of_script(script),
    };
    // Who directs a run by hand says something with each turn.
    let turns = match &plan.order {
        Order::Chosen(chosen) => chosen.turns.0.len() as u64,
        Order::Timed | Order::Priorities(_) => 0,
    };
    turns + plan.faults.len() as u64 + plan.processes.iter().map(|process| of_process(&process.role)).sum::<u64>()
}

#[cfg(test)]
mod tests;
