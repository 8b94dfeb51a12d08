//! S1 and S3: many verdicts together.

use super::sound::two_chains;
use super::tale::Tale;
use crate::property::sweep::Sweep;
use crate::property::{Property, Reach};
use crate::verdict::Judgement;

#[test]
fn s3_says_what_could_not_have_failed_and_what_was_never_reached() {
    let mut sweep = Sweep::new();
    sweep.add(1, &two_chains().verdict());
    assert!(sweep.never_exercised().any(|property| property == Property::Q10));
    assert!(!sweep.never_exercised().any(|property| property == Property::W3));
    assert!(sweep.never_reached(&Reach::ALL).any(|reach| reach == Reach::Takeover));
    assert!(!sweep.never_reached(&Reach::ALL).any(|reach| reach == Reach::RotationDone));
    assert_eq!(sweep.judged(Judgement::Holds), 1);
}

#[test]
fn s1_a_seed_that_gives_two_histories() {
    let mut sweep = Sweep::new();
    sweep.hashed(7, two_chains().history.hash());
    sweep.hashed(7, two_chains().history.hash());
    assert_eq!(sweep.not_deterministic(), [0; 0]);
    sweep.hashed(7, Tale::messages().history.hash());
    assert_eq!(sweep.not_deterministic(), [7]);
}

#[test]
fn shards_add_up() {
    let mut broken = Tale::messages();
    broken.append(1, 1);
    broken.end(200);
    let (clean, broken) = (two_chains().verdict(), broken.verdict());
    let mut whole = Sweep::new();
    let (mut left, mut right) = (Sweep::new(), Sweep::new());
    whole.add(3, &clean);
    whole.add(4, &broken);
    left.add(4, &broken);
    right.add(3, &clean);
    left.merge(&right);
    assert_eq!(left, whole);
    assert_eq!(whole.first(Property::L1).map(|first| first.seed), Some(4));
}

#[test]
fn a_checker_forgets_between_runs() {
    let mut checker = crate::property::Checker::new();
    let (tale, other) = (two_chains(), Tale::messages());
    let first = checker.check(&tale.history);
    checker.check(&other.history);
    assert_eq!(checker.check(&tale.history), first);
}
