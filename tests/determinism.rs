//! The same plan gives the same history, byte for byte: twice, on reused memory, in any build, until somebody changes
//! what a seed means.

use crate::cli::tourbillon;
use crate::stage::{all_faults, works};
use serde_json::Value;
use std::collections::HashSet;
use tourbillon::cli::Exit;
use tourbillon::plan::Plan;
use tourbillon::simulate::{Simulator, Work};
use tourbillon::{Next, Program, Step, StepInput, StepOutcome, check};
use tourbillon_engine::guard::Guards;

fn hash(simulator: &mut Simulator, plan: &Plan, work: &Work) -> u64 {
    simulator.run(plan, work, Guards::ALL);
    simulator.history().hash()
}

#[test]
fn a_plan_gives_the_same_history_on_fresh_and_on_reused_memory() {
    let mut reused = Simulator::default();
    for seed in 0..24 {
        for work in works() {
            let plan = work.plan(seed, &all_faults());
            let fresh = hash(&mut Simulator::default(), &plan, &work);
            assert_eq!(hash(&mut reused, &plan, &work), fresh, "seed {seed}, {}", work.name);
        }
    }
}

/// A change here is a change of what seeds mean: every seed that somebody wrote down is lost.
#[test]
fn seeds_mean_what_they_meant() {
    let mut simulator = Simulator::default();
    let mut table = String::new();
    for work in works() {
        for seed in [0, 1, 2, 17, 1_000_003, u64::MAX] {
            let plan = work.plan(seed, &all_faults());
            let hash = hash(&mut simulator, &plan, &work);
            table += &format!("{:<13} {seed:>20} {hash:016x}\n", work.name);
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn faults_that_are_not_drawn_move_no_other_draw() {
    // A plan's parts draw from streams of their own, so the arrivals stay where they were.
    let clients = |plan: &Plan| {
        let clients = plan.processes.iter().filter(|process| process.name.starts_with("client-"));
        clients.cloned().collect::<Vec<_>>()
    };
    for seed in 0..50 {
        for work in works() {
            let with = work.plan(seed, &all_faults());
            let mut limits = all_faults();
            limits.faults.pop();
            assert_eq!(clients(&work.plan(seed, &limits)), clients(&with), "seed {seed}, {}", work.name);
        }
    }
}

/// What a leak looks like to who runs a sweep: the first event that differs, with both sides, and exit 1.
#[test]
fn a_planted_leak_is_caught_and_its_first_differing_event_named() {
    let options = "--workload chain --seeds 20 --postgres off --plant-leak";
    let said = tourbillon(&format!("run {options} --json"));
    assert_eq!(said.exit, Exit::Broken, "{}{}", said.out, said.err);
    let value: Value = serde_json::from_str(&said.out).expect("one JSON value");
    assert_eq!(value["not_deterministic"], serde_json::json!([0]));
    let difference = &value["differences"][0];
    for side in [0, 1] {
        let side = difference["sides"][side].as_str().expect("both have a record there");
        assert!(side.contains("\"pause\":{\"until\""), "the leak is a pause, and not {side}");
    }
    let (record, before) = (difference["record"].as_u64(), difference["before"].as_array().expect("lines"));
    let last = before.last().expect("a pause in the middle has records before it");
    assert_eq!((before.len(), last[0].as_u64()), (4, record.map(|record| record - 1)));
    let text = tourbillon(&format!("run {options}"));
    assert_eq!(text.exit, Exit::Broken);
    assert!(text.out.contains("run twice   1 run, and another history for seeds [0]"), "{}", text.out);
    assert!(text.out.contains("seed 0 gave two histories, which first differ here:"), "{}", text.out);
    assert!(!tourbillon("run --help").out.contains("plant-leak"));
}

/// A user's own workflow that draws by itself is told the same.
#[test]
fn a_program_that_leaks_fails_its_check_with_both_sides() {
    let failure = check(Undecided).seeds(1).faults(&[]).outcome().expect_err("it begins by the order of a hash map");
    assert!(failure.evidence.contains("\n1 ") && failure.evidence.contains("\n2 "), "{failure}");
}

/// With what it begins, the order of a hash map says.
struct Undecided;

impl Program for Undecided {
    fn name(&self) -> &str {
        "undecided"
    }
    fn summary(&self) -> &str {
        "ends with what it began with"
    }
    fn steps(&self) -> &[&str] {
        &["end"]
    }
    fn start(&self, _index: u32, _size: u64) -> (Step, u64) {
        let order: HashSet<u64> = (1..=1_000).collect();
        (Step(0), order.into_iter().next().unwrap_or_default())
    }
    fn decide(&self, input: StepInput) -> StepOutcome {
        StepOutcome { effect: false, next: Next::Complete { result: input.state } }
    }
}
