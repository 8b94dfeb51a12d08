//! The sound engine under fixed seeds: every workload under all faults, and under each fault alone.

use crate::stage::{all_faults, clean_sweep, works};
use tourbillon::faults::FaultKind;
use tourbillon::generate::Limits;
use tourbillon::simulate::Work;
use tourbillon_models::property::{Property, Reach};

fn only(name: &str) -> Vec<Work> {
    vec![Work::named(name).expect("there is such a workload")]
}

#[test]
fn chain_survives_all_faults() {
    clean_sweep(0..700, all_faults(), || only("chain"));
}

#[test]
fn agent_loop_survives_all_faults() {
    clean_sweep(0..700, all_faults(), || only("agent-loop"));
}

#[test]
fn messages_survive_all_faults() {
    clean_sweep(0..700, all_faults(), || only("messages"));
}

#[test]
fn every_other_workload_survives_all_faults() {
    for work in works().into_iter().skip(3) {
        clean_sweep(0..300, all_faults(), || only(&work.name));
    }
}

#[test]
fn nothing_is_wrong_where_nothing_goes_wrong() {
    clean_sweep(0..150, Limits { faults: Vec::new() }, works);
}

/// A seed draws each fault that it is allowed half of the time, or more rarely.
#[test]
fn each_fault_alone_comes_about_and_breaks_nothing() {
    for kind in FaultKind::ALL {
        let swept = clean_sweep(0..90, Limits { faults: vec![kind] }, works);
        assert!(swept.activations.count(kind) > 0, "{} never came about", kind.name());
    }
}

/// A check that could not fail is not a check, and a goal that is never reached proves less than it seems to.
#[test]
fn every_property_has_its_occasion_and_every_goal_is_reached() {
    let swept = clean_sweep(0..4_000, all_faults(), works);
    let never: Vec<&str> = swept.sums.never_exercised().map(Property::id).collect();
    assert_eq!(never, [""; 0], "properties that could not have failed");
    let never: Vec<&str> = swept.sums.never_reached(Reach::ANYWHERE).map(Reach::name).collect();
    assert_eq!(never, [""; 0], "goals that were not reached");
    for kind in FaultKind::ALL {
        assert!(swept.activations.count(kind) > 0, "{} never came about", kind.name());
    }
}
