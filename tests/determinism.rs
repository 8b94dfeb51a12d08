//! The same plan gives the same history, byte for byte: twice, on reused memory, in any build, until somebody changes
//! what a seed means.

use crate::stage::{all_faults, works};
use tourbillon::plan::Plan;
use tourbillon::simulate::{Simulator, Work};
use tourbillon_engine::guard::Guards;

fn hash(simulator: &mut Simulator, plan: &Plan, work: &Work) -> u64 {
    simulator.run(plan, work, Guards::ALL);
    simulator.history().hash()
}

#[test]
fn a_plan_gives_the_same_history_on_fresh_and_on_reused_memory() {
    let mut reused = Simulator::default();
    for seed in 0..60 {
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
