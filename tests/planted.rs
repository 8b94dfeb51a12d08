//! Anomalies planted in clean histories: each is found, under its property, in a sentence that names what was touched.
//!
//! A mutator takes a clean history of the simulator and makes one lie of it: something is lost, repeated, out of order,
//! resurrected, under another token, too early or too late. It says which property that breaks and what the sentence must
//! name. Nothing here knows how the checker finds it.

mod awaits;
mod log;
mod records;
mod rows;
mod workflows;

use crate::stage::all_faults;
use tourbillon::faults::FaultKind;
use tourbillon::fuzz::edit::Draft;
use tourbillon::generate::Limits;
use tourbillon::plan::{End, Plan};
use tourbillon::simulate::{Simulator, Work};
use tourbillon_engine::guard::Guards;
use tourbillon_models::name::Micros;
use tourbillon_models::property::{Checker, Property};
use tourbillon_models::verdict::Judgement;

/// What a mutator did: the property that it broke, and what must be named.
pub struct Planted {
    property: Property,
    names: Vec<String>,
}

pub fn planted<const N: usize>(property: Property, names: [String; N]) -> Option<Planted> {
    Some(Planted { property, names: names.to_vec() })
}

/// Something that can be done to a history.
#[derive(Clone, Copy)]
pub struct Mutator {
    name: &'static str,
    workload: &'static str,
    /// The kinds of fault that the history may have, and where it ends.
    soil: Soil,
    /// None if the history has no place for it.
    plant: fn(&mut Draft) -> Option<Planted>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Soil {
    /// No fault, to the end.
    Calm,
    /// Any fault, to the end.
    Any,
    /// No fault, and the state as it is in the middle.
    Middle,
    /// A server that loses acknowledged commits.
    Forgetful,
}

pub const fn mutator(
    name: &'static str,
    workload: &'static str,
    soil: Soil,
    plant: fn(&mut Draft) -> Option<Planted>,
) -> Mutator {
    Mutator { name, workload, soil, plant }
}

/// So many histories are looked at for a place, and so many are planted.
const SEEDS: u64 = 400;
const PLANTED: usize = 3;

fn plan(mutator: &Mutator, work: &Work, seed: u64) -> Plan {
    let limits = match mutator.soil {
        Soil::Calm | Soil::Middle => Limits { faults: Vec::new() },
        Soil::Any => all_faults(),
        Soil::Forgetful => Limits { faults: vec![FaultKind::AsyncCommitLoss] },
    };
    let mut plan = work.plan(seed, &limits);
    if mutator.soil == Soil::Middle {
        plan.end = End::At(Micros(plan.faults_end.0 / 3 * (1 + seed % 3) / 2));
    }
    plan
}

/// Plants it in a few histories, and gives the first sentence.
fn check(mutator: &Mutator) -> String {
    let work = Work::named(mutator.workload).expect("the workload");
    let (mut simulator, mut sentence, mut count) = (Simulator::default(), None, 0);
    for seed in 0..SEEDS {
        let (_, verdict) = simulator.run(&plan(mutator, &work, seed), &work, Guards::ALL);
        assert_ne!(verdict.judgement(), Judgement::Violated, "{}: seed {seed} is clean", mutator.name);
        let mut draft = Draft::of(simulator.history());
        let Some(Planted { property, names }) = (mutator.plant)(&mut draft) else { continue };
        let history = draft.history();
        let verdict = Checker::new().check(&history);
        assert_eq!(verdict.ill_formed(), [], "{}: seed {seed} is a history", mutator.name);
        let told = || verdict.violations().map(ToString::to_string).collect::<Vec<_>>().join("\n  ");
        let found = verdict
            .of(property)
            .violations
            .iter()
            .find(|violation| names.iter().all(|name| violation.sentence.contains(name.as_str())));
        let found = found
            .unwrap_or_else(|| panic!("{}, seed {seed}: {property} must name {names:?}\n  {}", mutator.name, told()));
        sentence.get_or_insert_with(|| found.to_string());
        count += 1;
        if count == PLANTED {
            break;
        }
    }
    sentence.unwrap_or_else(|| panic!("{}: none of {SEEDS} histories has a place for it", mutator.name))
}

fn all() -> Vec<Mutator> {
    [log::MUTATORS, workflows::MUTATORS, awaits::MUTATORS, rows::MUTATORS, records::MUTATORS].concat()
}

#[test]
fn each_anomaly_is_found_and_named() {
    let mut table = String::new();
    let mut missed = Vec::new();
    for mutator in all() {
        match std::panic::catch_unwind(|| check(&mutator)) {
            Ok(sentence) => table += &format!("{}\n    {sentence}\n", mutator.name),
            Err(_) => missed.push(mutator.name),
        }
    }
    assert_eq!(missed, [""; 0]);
    insta::assert_snapshot!(table);
}
