use super::*;
use alloc::vec::Vec;

/// The steps that a workflow takes, of code of one version; a step that is retried shows again.
fn run(program: &dyn Program, index: u32, size: u64, version: u16) -> (Vec<(&str, bool)>, Next) {
    let (mut step, mut state) = program.start(index, size);
    let (mut attempt, mut taken) = (1, Vec::new());
    loop {
        let outcome = program.decide(StepInput { attempt, version, ..StepInput::first(step, state) });
        taken.push((program.steps()[step.0 as usize], outcome.effect));
        match outcome.next {
            Next::Goto { step: to, state: with } | Next::Sleep { step: to, state: with, .. } => {
                (step, state, attempt) = (to, with, 1);
            }
            Next::Retry { max_attempts, .. } if attempt < max_attempts => attempt += 1,
            end => return (taken, end),
        }
    }
}

fn names(program: &dyn Program, index: u32, size: u64, version: u16) -> Vec<&str> {
    run(program, index, size, version).0.into_iter().map(|(name, _)| name).collect()
}

fn programs() -> impl Iterator<Item = &'static (dyn Program + Sync)> {
    Workload::ALL.into_iter().chain(Workload::SMALL).filter_map(|workload| workload.program())
}

#[test]
fn chain_takes_its_four_steps_with_an_effect_in_each() {
    let steps = [("charge", true), ("pack", true), ("ship", true), ("notify", true)];
    assert_eq!(run(&Chain, 7, 1, 0), (steps.to_vec(), Next::Complete { result: 0 }));
}

#[test]
fn agent_loop_takes_two_steps_a_round() {
    assert_eq!(names(&AgentLoop, 3, 2, 0), ["plan", "act", "observe", "act", "observe"]);
    assert_eq!(names(&AgentLoop, 3, 1_000, 0).len(), 2_001);
    assert_eq!(names(&AgentLoop, 3, 0, 0).len(), 3, "at least one round");
}

#[test]
fn dispatch_leaves_two_rows_for_each_job() {
    for jobs in [0, 1, 3] {
        let (taken, end) = run(&Dispatch, 2, jobs, 0);
        assert_eq!(taken.iter().filter(|(_, effect)| *effect).count() as u64, 2 * jobs);
        assert_eq!((taken.len() as u64, end), (3 * jobs + 1, Next::Complete { result: 0 }));
    }
}

#[test]
fn flaky_fails_until_it_succeeds_or_has_no_attempt_left() {
    let mut ends = [0; 3];
    for index in 0..100 {
        let (taken, end) = run(&Flaky, index, 1, 0);
        let calls = taken.iter().filter(|(name, _)| *name == "call").count();
        let which = match end {
            Next::Retry { max_attempts, .. } => {
                assert_eq!(calls, usize::from(max_attempts));
                0
            }
            Next::Fail { .. } => 1,
            _ => 2,
        };
        assert!(which == 0 || calls <= 3 && taken.last() == Some(&("report", true)));
        ends[which] += 1;
    }
    assert!(ends.iter().all(|count| *count > 5), "{ends:?}");
}

#[test]
fn poison_dies_in_the_first_of_every_five() {
    for index in 0..10 {
        let expected = if index % 5 == 0 { Next::Die } else { Next::Complete { result: 0 } };
        assert_eq!(run(&Poison, index, 1, 0).1, expected);
    }
}

#[test]
fn deploy_skips_a_step_that_the_second_version_has_no_code_for() {
    assert_eq!(names(&Deploy, 1, 1, 0), ["receive", "sort", "stamp", "deliver"]);
    assert_eq!(names(&Deploy, 1, 1, 1), ["receive", "sort", "deliver"]);
    let stamp = StepInput { version: 1, ..StepInput::first(Step(2), 1) };
    assert_eq!(Deploy.decide(stamp), StepOutcome { effect: false, next: Next::Reject });
}

#[test]
fn states_of_different_workflows_differ() {
    for program in programs() {
        assert_ne!(program.start(1, 5).1, program.start(2, 5).1);
    }
}

#[test]
fn a_step_that_is_not_the_programs_ends_the_workflow() {
    for program in programs() {
        let input = StepInput::first(Step(u16::MAX), 0);
        assert_eq!(program.decide(input), StepOutcome { effect: false, next: Next::Complete { result: 0 } });
    }
}

#[test]
fn workloads_are_found_by_name() {
    for workload in Workload::ALL.into_iter().chain(Workload::SMALL) {
        assert_eq!(Workload::by_name(workload.name()).map(|found| found.name()), Some(workload.name()));
    }
    assert!(Workload::by_name("chian").is_none());
}
