//! Whatever the answers are, shrinking ends; and what is given back is what was accepted last.

use super::budget::Budget;
use super::candidates::Candidates;
use super::cut::{self, Seen};
use super::{Freedom, lines, shrink};
use crate::faults::FaultKind;
use crate::generate::Limits;
use crate::plan::{Plan, Role};
use crate::random::Stream;
use crate::simulate::{On, Simulator, Work};
use std::convert::Infallible;
use tourbillon_engine::guard::Guards;
use tourbillon_models::history::History;

/// A plan of a workload's, and its history.
fn drawn(workload: &str, seed: u64) -> (Plan, History) {
    let work = Work::named(workload).expect("it is one of the project's");
    let plan = work.plan(seed, &Limits { faults: FaultKind::ALL.to_vec() });
    let history = ran(&plan);
    (plan, history)
}

fn ran(plan: &Plan) -> History {
    let mut simulator = Simulator::default();
    simulator.run(plan, &Work::named(&plan.workload).expect("it is one of the project's"), Guards::ALL);
    simulator.history().clone()
}

/// Answers until there is nothing left to ask; so many were asked.
fn answer(candidates: &mut Candidates, mut is_good: impl FnMut() -> bool) -> u64 {
    let mut asked = 0;
    while let Some(candidate) = candidates.next() {
        let candidate = candidate.clone();
        asked += 1;
        assert!(asked < 1_000_000, "it does not end");
        if is_good() { candidates.accept(candidate, None) } else { candidates.reject() }
    }
    asked
}

#[test]
fn what_is_always_refused_stays_as_it_is() {
    for freedom in [Freedom::Full, Freedom::WorkAndFaults] {
        let (plan, history) = drawn("emit-race", 3);
        let mut candidates = Candidates::new(plan.clone(), freedom, Some(&history));
        assert!(answer(&mut candidates, || false) > 100);
        assert_eq!(*candidates.plan(), plan);
    }
}

#[test]
fn what_is_always_welcome_leaves_next_to_nothing() {
    let (plan, history) = drawn("children-fail", 5);
    let mut candidates = Candidates::new(plan.clone(), Freedom::Full, Some(&history));
    answer(&mut candidates, || true);
    let least = candidates.into_plan();
    assert_eq!((least.processes.len(), least.faults.len()), (1, 0), "{least:#?}");

    let mut candidates = Candidates::new(plan.clone(), Freedom::WorkAndFaults, Some(&history));
    answer(&mut candidates, || true);
    let least = candidates.into_plan();
    let is_endless = |role: &Role| match role {
        Role::Worker(_) => false,
        Role::Script(script) => !script.is_once(),
    };
    let duties = |plan: &Plan| plan.processes.iter().filter(|process| is_endless(&process.role)).count();
    let workers = least.processes.iter().filter(|process| matches!(process.role, Role::Worker(_))).count();
    assert_eq!((duties(&least), workers, least.faults.len()), (duties(&plan), 1, 0), "{least:#?}");
    assert_eq!(least.liveness_bound, plan.liveness_bound);
}

#[test]
fn whatever_is_answered_it_ends() {
    for seed in 0..20 {
        let (plan, history) = drawn(["chain", "messages", "approval", "fan-out"][seed as usize % 4], seed);
        let mut stream = Stream::new(seed, "answers", 0);
        let mut candidates = Candidates::new(plan, Freedom::Full, Some(&history));
        answer(&mut candidates, || stream.chance(1, 3));
    }
}

/// Two calls of a client's are to stay.
#[test]
fn nothing_is_left_that_could_go() {
    let (plan, history) = drawn("messages", 2);
    let appends = |history: &History| history.lines().filter(|line| line.contains("\"append\"")).count();
    assert!(appends(&history) > 1, "there is nothing to shrink");
    let run = |plan: &Plan| -> Result<_, Infallible> {
        let history = ran(plan);
        Ok((appends(&history) > 1).then(|| (plan.clone(), history)))
    };
    let Ok(shrunk) = shrink((plan, history), Freedom::Full, &Budget::usual(), run);
    assert_eq!(shrunk.stopped, None);
    assert_eq!(appends(&shrunk.history), 2);
    // Without a setup there is no queue to append to, but an append is one all the same.
    assert_eq!(shrunk.lines(), lines(&ran(&shrunk.plan)));
    assert!(shrunk.lines() <= 12, "{}", shrunk.lines());
}

/// Polls are pinned in a plan after it was seen to go wrong: that must not be another run.
#[test]
fn pinned_polls_are_the_same_run_directly_and_over_a_network() {
    for on in [On::Direct, On::Net] {
        let work = Work::named("chain").expect("it is one of the project's").on(on);
        let mut plan = work.plan(2, &Limits { faults: FaultKind::ALL.to_vec() });
        let seen = Seen::of(&ran(&plan));
        for place in 0..plan.processes.len() {
            let unrolled = cut::unrolled(&plan, Freedom::Full, &seen, place).expect("there is a process");
            plan = unrolled.into_iter().next().unwrap_or(plan);
        }
        assert!(cut::poll_count(&plan, Freedom::Full) > 10);
        let history = ran(&plan);
        assert_eq!(ran(&cut::pinned(&plan, &Seen::of(&history))).hash(), history.hash(), "{on:?}");
    }
}
