//! `check`, as somebody who writes a workflow meets it.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use tourbillon::faults::FaultKind;
use tourbillon::generate::Limits;
use tourbillon::plan::Plan;
use tourbillon::simulate::Work;
use tourbillon::{Guard, Next, Program, Step, StepInput, StepOutcome, check};

/// Two steps; the second is whatever a test wants.
struct TwoSteps(fn(u64) -> StepOutcome);

/// A program of one's own that is called as one of the project's is.
struct Chain;

impl Program for Chain {
    fn name(&self) -> &str {
        "chain"
    }

    fn summary(&self) -> &str {
        SOUND.summary()
    }

    fn steps(&self) -> &[&str] {
        SOUND.steps()
    }

    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        SOUND.start(index, size)
    }

    fn decide(&self, input: StepInput) -> StepOutcome {
        SOUND.decide(input)
    }
}

impl Program for TwoSteps {
    fn name(&self) -> &str {
        "two-steps"
    }

    fn summary(&self) -> &str {
        "a step, and another"
    }

    fn steps(&self) -> &[&str] {
        &["first", "second"]
    }

    fn start(&self, index: u32, _size: u64) -> (Step, u64) {
        (Step(0), u64::from(index))
    }

    fn decide(&self, StepInput { step, state, .. }: StepInput) -> StepOutcome {
        match step {
            Step(0) => StepOutcome { effect: true, next: Next::Goto { step: Step(1), state } },
            _ => (self.0)(state),
        }
    }
}

const SOUND: TwoSteps = TwoSteps(|_| StepOutcome { effect: true, next: Next::Complete { result: 0 } });

#[test]
fn a_sound_workflow_passes_and_says_what_was_tried() {
    let checked = check(SOUND).seeds(120).run();
    assert_eq!((checked.program.as_str(), checked.runs, checked.replayed), ("two-steps", 120, None));
    assert!(checked.calls > 10_000 && checked.records > checked.calls);
}

#[test]
fn a_workflow_that_does_not_end_is_told() {
    let endless = TwoSteps(|state| StepOutcome { effect: false, next: Next::Goto { step: Step(1), state: state + 1 } });
    let failure = check(endless).seeds(5).outcome().expect_err("it never ends");
    assert!(failure.sentence.starts_with("L1 drain: "), "{failure}");
    assert_eq!(failure.seed, Some(0));
}

#[test]
fn a_program_that_is_malformed_is_refused_before_it_runs() {
    let round = TwoSteps(|state| StepOutcome { effect: false, next: Next::Goto { step: Step(1), state } });
    let failure = check(round).seeds(5).outcome().expect_err("it comes round to itself");
    let sentence = "second with state 0 comes round to itself without a wait, a sleep or a join in between";
    assert_eq!((failure.sentence.as_str(), failure.seed), (sentence, None));
    let lost = TwoSteps(|state| StepOutcome { effect: false, next: Next::Goto { step: Step(2), state } });
    let failure = check(lost).seeds(5).outcome().expect_err("there is no third step");
    assert_eq!(failure.to_string(), "two-steps: second goes on to step 2, and the program has 2, counted from 0\n");
}

#[test]
fn a_workflow_that_is_not_a_function_of_its_state_is_told() {
    static DRAWS: AtomicU64 = AtomicU64::new(0);
    let fickle = TwoSteps(|_| match DRAWS.fetch_add(1, Ordering::Relaxed) % 3 {
        0 => StepOutcome { effect: true, next: Next::Complete { result: 0 } },
        draw => StepOutcome { effect: true, next: Next::Goto { step: Step(1), state: draw } },
    });
    check(fickle).seeds(20).outcome().expect_err("a step's outcome depends on more than its state");
}

#[test]
fn a_workflow_that_panics_is_told_with_its_seed() {
    let clumsy = TwoSteps(|state| panic!("there is no order {state}"));
    let failure = check(clumsy).seeds(3).faults(&[]).outcome().expect_err("it panics");
    assert!(failure.sentence.starts_with("the run panicked: there is no order "), "{failure}");
    assert_eq!(failure.seed, Some(0));
}

#[test]
fn without_a_guard_a_failure_has_its_seed_its_slice_and_its_command() {
    let failing = || check(SOUND).seeds(100).without(&[Guard::ClaimLock]).faults(&FaultKind::ALL).run();
    let payload = std::panic::catch_unwind(failing).expect_err("two workers are given one window");
    let text = payload.downcast_ref::<String>().expect("a failure is text");
    let seed =
        text.strip_prefix("two-steps, seed ").and_then(|rest| rest.split(':').next()).expect("the seed is named");
    let last = text.lines().last().unwrap_or_default();
    assert_eq!(
        last,
        format!("TOURBILLON_SEED={seed} cargo test {}", std::thread::current().name().unwrap_or_default())
    );
    assert!(text.contains("The seed drew: workers "), "{text}");
    assert!(text.contains("handoff"), "the slice shows what was handed off:\n{text}");
}

#[test]
fn what_is_called_like_one_of_the_project_s_workloads_is_shrunk_as_what_it_is() {
    for guard in [Guard::ClaimLock, Guard::InProgressSet, Guard::HoldLock] {
        let failure = check(Chain).seeds(300).without(&[guard]).outcome().expect_err("a guard is missing");
        assert!(failure.evidence.contains("\nShrunk from "), "{failure}");
    }
    let work = Work::own(Chain);
    let plan = work.plan(1, &Limits { faults: Vec::new() });
    let brief = Plan { workload: "brief".to_owned(), ..plan };
    assert!(Work::named("brief").is_some_and(|named| !named.is_own()));
    assert!(work.of(&brief).is_own(), "nothing takes its place");
}

/// This test binary, once more, with a seed in the environment.
#[test]
fn a_failure_is_seen_again_with_its_seed_in_the_environment() {
    let run = |seed: &str| {
        let mut command = Command::new(std::env::current_exe().expect("this is a program"));
        command.args(["readme::checkout::checkout_survives_every_crash", "--exact", "--nocapture"]);
        let output = command.env("TOURBILLON_SEED", seed).output().expect("this program can be run");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(run("17").0);
    let (passed, said) = run("seventeen");
    assert!(!passed && said.contains("TOURBILLON_SEED is \"seventeen\", and a seed is a number"), "{said}");
}
