//! Tiny histories, told by hand: for each property one that is clean and one that breaks it, with its sentence.

mod tale;

use self::tale::{C, Q, Tale};
use super::Property;
use alloc::vec::Vec;

/// Two workflows run through the chain on one worker, each step with its effect, to the end of the run.
fn two_chains() -> Tale {
    let mut tale = Tale::workflows();
    let worker = tale.register(0);
    let mut live = Vec::from([tale.start(1), tale.start(2)]);
    let mut prev = 1;
    while !live.is_empty() {
        let next = tale.wait(1_000).tick().0;
        let token = tale.claim(0, worker, prev, next);
        tale.read(0, (worker, token), &live);
        tale.begin(0);
        tale.hold(0, (worker, token));
        live.iter().for_each(|event| tale.effect(0, *event));
        live = tale.handoff(0, (worker, token), &live.clone());
        tale.commit(0);
        prev = next;
    }
    for table in [1, 2, 0] {
        tale.wait(5_000).rotate(table, prev);
    }
    tale.end(200);
    tale
}

#[test]
fn a_clean_run_holds_everything() {
    let tale = two_chains();
    let verdict = tale.verdict();
    let told: Vec<_> = verdict.violations().collect();
    assert!(told.is_empty(), "{told:#?}");
    let unknown: Vec<_> =
        verdict.findings().iter().filter(|f| f.judgement != crate::verdict::Judgement::Holds).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}
