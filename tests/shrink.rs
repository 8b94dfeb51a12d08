//! Failures as they are found become small, break the same property, and are sound with the guard in its place.

use crate::stage::{all_faults, works};
use tourbillon::hunt::hunt;
use tourbillon::shrink::budget::Budget;
use tourbillon::shrink::subject::Subject;
use tourbillon::simulate::Simulator;
use tourbillon::sweep::{Seeds, Shard, processors, work_of};
use tourbillon_engine::guard::{Guard, Guards};
use tourbillon_models::verdict::{Judgement, TOLD_LINES};

/// A few that differ in what it takes: a window, a transaction, a timer, a box, a bound.
const GUARDS: [Guard; 5] =
    [Guard::ClaimLock, Guard::HoldLock, Guard::DrainLatePath, Guard::WaitDeleteReturning, Guard::IdleTick];

#[test]
fn the_first_failure_of_a_guard_shrinks_to_what_a_person_reads() {
    let works = works();
    for guard in GUARDS {
        let guards = Guards::without(&[guard]);
        let seeds = Seeds { first: 0, count: 1_500, shard: Shard::WHOLE };
        let hunt = hunt(seeds, processors(), &all_faults(), guards, crate::stage::works, 1);
        let found = hunt.catches.first().unwrap_or_else(|| panic!("nothing catches {}", guard.name()));
        let (work, property) = (work_of(&works, found.seed), found.broken[0]);
        let plan = work.plan(found.seed, &all_faults());
        let subject = Subject { work, guards, property };
        let shrunk = subject.shrink(&plan, &Budget::usual()).expect("what was found is there");
        assert!(shrunk.lines() <= TOLD_LINES, "{}: {} lines", guard.name(), shrunk.lines());
        assert!(shrunk.lines() < shrunk.lines_before / 5, "{}", guard.name());
        let (work, mut simulator) = (work.of(&shrunk.plan), Simulator::default());
        let (_, verdict) = simulator.run(&shrunk.plan, &work, guards);
        assert!(verdict.broken().any(|broken| broken == property), "{}", guard.name());
        assert_eq!(simulator.history().hash(), shrunk.history.hash(), "{}", guard.name());
        let (_, sound) = simulator.run(&shrunk.plan, &work, Guards::ALL);
        assert_ne!(sound.judgement(), Judgement::Violated, "{}", guard.name());
    }
}
