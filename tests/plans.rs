//! Plans nobody chose: any seed, any subset of faults, any workload.

use crate::stage::works;
use proptest::prelude::*;
use proptest::sample::subsequence;
use proptest::test_runner::RngSeed;
use tourbillon::faults::FaultKind;
use tourbillon::generate::Limits;
use tourbillon::plan::Plan;
use tourbillon::simulate::Simulator;
use tourbillon_engine::guard::Guards;
use tourbillon_models::history::History;
use tourbillon_models::verdict::Judgement;

/// Always the same cases, and no file of failed ones.
pub fn fixed(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(0x70_75_72),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

pub fn limits() -> impl Strategy<Value = Limits> {
    subsequence(FaultKind::ALL.to_vec(), 0..=FaultKind::ALL.len()).prop_map(|faults| Limits { faults })
}

proptest! {
    #![proptest_config(fixed(300))]

    #[test]
    fn any_plan_runs_quiesces_and_passes(seed: u64, limits in limits(), work in 0..works().len()) {
        let work = &works()[work];
        let plan = work.plan(seed, &limits);
        let mut simulator = Simulator::default();
        let (summary, verdict) = simulator.run(&plan, work, Guards::ALL);
        let told = verdict.first_violation().map(ToString::to_string);
        prop_assert_eq!(verdict.judgement(), Judgement::Holds, "{:?}", told);
        prop_assert!(simulator.history().state.is_some());
        prop_assert!(summary.ended_at < plan.faults_end + plan.liveness_bound, "it went on to the end");
    }

    #[test]
    fn any_history_is_the_same_after_writing_and_reading(seed: u64, limits in limits(), work in 0..works().len()) {
        let work = &works()[work];
        let mut simulator = Simulator::default();
        simulator.run(&work.plan(seed, &limits), work, Guards::ALL);
        let history = simulator.history();
        let text = history.lines().collect::<Vec<_>>().join("\n");
        let read = History::read(&text).expect("what was written can be read");
        prop_assert_eq!(&read, history);
        prop_assert_eq!(read.hash(), history.hash());
        prop_assert_eq!(read.lines().collect::<Vec<_>>().join("\n"), text);
    }

    #[test]
    fn any_plan_is_the_same_after_writing_and_reading(seed: u64, limits in limits(), work in 0..works().len()) {
        let plan = works()[work].plan(seed, &limits);
        // A capsule's plan, as text.
        let text = serde_json::to_string(&plan).expect("a plan has a text form");
        prop_assert_eq!(serde_json::from_str::<Plan>(&text).expect("what was written can be read"), plan);
    }
}
