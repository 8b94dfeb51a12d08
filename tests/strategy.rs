//! Plans and programs as values of property-based tests, and how they shrink.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tourbillon::faults::FaultKind;
use tourbillon::plan::{Plan, Role};
use tourbillon::strategy::{plans, programs};
use tourbillon_engine::actors::script::ScriptOptions;
use tourbillon_engine::guard::{Guard, Guards};
use tourbillon_models::verdict::Judgement;

fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

#[test]
fn drawn_programs_hold_under_every_fault() {
    let outcome = runner(150).run(&programs().prop_flat_map(plans), |case| {
        let verdict = case.run();
        let told = verdict.first_violation().map(ToString::to_string).unwrap_or_default();
        prop_assert_eq!(verdict.judgement(), Judgement::Holds, "{}", told);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

/// Rounds of clients and faults: what can go without making a plan unfair.
fn spare(plan: &Plan) -> (usize, usize) {
    let rounds = plan.processes.iter().skip(1).map(|process| match &process.role {
        Role::Script(ScriptOptions::Once { rounds }) => rounds.len(),
        Role::Script(ScriptOptions::Periodic { .. }) | Role::Worker(_) => 0,
    });
    (rounds.sum(), plan.faults.len())
}

#[test]
fn a_plan_shrinks_to_the_fault_that_it_is_about() {
    let has_crash = |plan: &Plan| plan.faults.iter().any(|fault| fault.kind == Some(FaultKind::WorkerCrash));
    let outcome = runner(50).run(&programs().prop_flat_map(plans), |case| match has_crash(&case.plan) {
        true => Err(TestCaseError::fail("somebody dies")),
        false => Ok(()),
    });
    let Err(TestError::Fail(_, least)) = outcome else { panic!("nobody dies: {outcome:?}") };
    assert_eq!(spare(&least.plan), (0, 1), "{least:?}");
    assert!(has_crash(&least.plan));
}

#[test]
fn a_bug_shrinks_to_a_short_plan_and_a_short_program() {
    let removed = Guards::without(&[Guard::FenceChecked]);
    let size = |plan: &Plan| plan.processes.len() + spare(plan).0 + spare(plan).1;
    let outcome = runner(300).run(&programs().prop_flat_map(plans), |case| {
        let verdict = case.run_without(removed);
        match verdict.first_violation() {
            Some(violation) => Err(TestCaseError::fail(violation.to_string())),
            None => Ok(()),
        }
    });
    let Err(TestError::Fail(_, least)) = outcome else { panic!("nothing breaks: {outcome:?}") };
    assert!(size(&least.plan) <= 16, "{} of {:?}: {least:?}", size(&least.plan), least.program);
}
