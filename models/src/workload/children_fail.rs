//! Children that end in every way there is, and a parent that looks how.

use super::{Child, Next, Program, StepInput, StepOutcome, millis_of, stir};
use crate::name::{Micros, Step};
use crate::reply::{ChildOutcome, ChildResult};
use alloc::vec::Vec;

/// A child's state names its family, its place and its lot, so that its parent knows what to expect of it.
pub struct ChildrenFail;

const STEPS: [&str; 5] = ["plan", "live", "wake", "gather", "settle"];
const PLAN: Step = Step(0);
const LIVE: Step = Step(1);
const WAKE: Step = Step(2);
const GATHER: Step = Step(3);
const SETTLE: Step = Step(4);

/// No event may carry this: a rule of the application's.
const FORBIDDEN: u64 = u64::MAX;

/// Of a family with a child that takes its process down. It costs everyone a lot of time.
const HAS_POISON: u64 = 0x100;
/// Of a family with eight children, most of whom sleep twice: they end at times of their own, in no order.
const IS_LARGE: u64 = 0x200;
/// Of grandchildren, who are told from children by it.
const IS_GRANDCHILD: u64 = 0x80;

/// What becomes of a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lot {
    Complete,
    Fail,
    /// Fails once, and then does not.
    Recover,
    /// Fails as often as it may.
    Exhaust,
    /// Nobody has code for it.
    Reject,
    Die,
    Sleep,
    /// And again: it was woken too early.
    SleepTwice,
    /// It sleeps, and nobody can say before it is due that it cannot be woken.
    Oversleep,
    /// It has children of its own, or none; perhaps it cannot go on from them.
    Parent,
}

const LOTS: [Lot; 10] = [
    Lot::Complete,
    Lot::Fail,
    Lot::Recover,
    Lot::Exhaust,
    Lot::Reject,
    Lot::Sleep,
    Lot::Oversleep,
    Lot::Parent,
    Lot::SleepTwice,
    Lot::Die,
];

const fn lot(state: u64) -> Lot {
    LOTS[(state & 0xf) as usize % LOTS.len()]
}

/// The place of that lot among all.
const SLEEPS_TWICE: u64 = 8;

/// None in one family out of six.
fn children(state: u64) -> Vec<Child> {
    let family = state & !0xff;
    let child = |place: u64| {
        let is_poison = place == 0 && family & HAS_POISON != 0;
        let lot = if is_poison { LOTS.len() as u64 - 1 } else { stir(family + place) % (LOTS.len() as u64 - 1) };
        Child { step: LIVE, state: family | place << 4 | lot }
    };
    if family & IS_LARGE != 0 {
        let sleeper = |place: u64| Child { step: LIVE, state: family | place << 4 | SLEEPS_TWICE };
        return (0..8)
            .map(|place| if stir(family + place).is_multiple_of(5) { child(place) } else { sleeper(place) })
            .collect();
    }
    let at_least = u64::from(family & HAS_POISON != 0);
    (0..at_least.max(stir(family) % 6)).map(child).collect()
}

/// Up to two, who complete or fail.
fn grandchildren(state: u64) -> Vec<Child> {
    let place = |place: u64| Child { step: LIVE, state: state & !0xff | IS_GRANDCHILD | place << 4 | place };
    (0..stir(state) % 3).map(place).collect()
}

/// One parent out of eight cannot go on when its children have ended, and nobody can say so before.
fn is_doomed_family(state: u64) -> bool {
    (stir(state) >> 40).is_multiple_of(8) && !children(state).is_empty()
}

/// One out of three, of children.
fn is_doomed_child(state: u64) -> bool {
    (stir(state) >> 40).is_multiple_of(3) && !grandchildren(state).is_empty()
}

/// What a parent goes on with.
const fn kept(state: u64, is_doomed: bool) -> u64 {
    if is_doomed { FORBIDDEN } else { state }
}

/// How a child ends, unless it is unlucky.
fn end(state: u64) -> (ChildOutcome, u64) {
    match lot(state) {
        Lot::Complete | Lot::Recover | Lot::Sleep | Lot::SleepTwice => (ChildOutcome::Completed, stir(state)),
        Lot::Parent if is_doomed_child(state) => (ChildOutcome::Dead, 0),
        Lot::Parent => (ChildOutcome::Completed, grandchildren(state).len() as u64),
        Lot::Fail => (ChildOutcome::Failed, stir(state)),
        Lot::Exhaust | Lot::Reject | Lot::Oversleep | Lot::Die => (ChildOutcome::Dead, 0),
    }
}

fn are_as_told(children: &[Child], results: &[ChildResult]) -> bool {
    let ends = results.iter().map(|child| (child.outcome, child.result));
    ends.eq(children.iter().map(|child| end(child.state)))
}

fn live(state: u64, attempt: u16) -> Next {
    let (_, result) = end(state);
    match lot(state) {
        Lot::Fail => Next::Fail { result },
        Lot::Recover if attempt == 1 => Next::Retry { delay: Micros(0), max_attempts: 2 },
        Lot::Complete | Lot::Recover => Next::Complete { result },
        Lot::Exhaust => Next::Retry { delay: millis_of(state, 0, 60), max_attempts: 2 },
        Lot::Reject => Next::Reject,
        Lot::Die => Next::Die,
        Lot::Sleep | Lot::SleepTwice => Next::Sleep { step: WAKE, state, delay: millis_of(state, 20, 900) },
        Lot::Oversleep => Next::Sleep { step: WAKE, state: FORBIDDEN, delay: millis_of(state, 20, 300) },
        Lot::Parent => {
            let (kept, children) = (kept(state, is_doomed_child(state)), grandchildren(state));
            Next::Spawn { step: GATHER, state: kept, children }
        }
    }
}

impl Program for ChildrenFail {
    fn name(&self) -> &'static str {
        "children-fail"
    }

    fn summary(&self) -> &'static str {
        "up to eight children that complete, fail, sleep, become dead letters or have children; their parent looks how they ended, if it can go on"
    }

    fn steps(&self) -> &[&str] {
        &STEPS
    }

    /// Of size 1 families are small, and of any other large.
    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        let family = stir(u64::from(index) << 32 ^ size) & !(IS_LARGE | HAS_POISON | 0xff);
        let kind = match size {
            0 | 1 if index % 6 == 1 => HAS_POISON,
            0 | 1 => 0,
            _ => IS_LARGE,
        };
        (PLAN, family | kind)
    }

    fn decide(&self, StepInput { step, state, results, attempt, .. }: StepInput) -> StepOutcome {
        let next = match step {
            PLAN => {
                let (kept, children) = (kept(state, is_doomed_family(state)), children(state));
                Next::Spawn { step: SETTLE, state: kept, children }
            }
            LIVE => live(state, attempt),
            WAKE if lot(state) == Lot::SleepTwice && attempt == 1 => {
                Next::Retry { delay: millis_of(!state, 20, 500), max_attempts: 2 }
            }
            WAKE => Next::Complete { result: stir(state) },
            GATHER => {
                let count = grandchildren(state).len();
                match are_as_told(&grandchildren(state), results) {
                    true => Next::Complete { result: count as u64 },
                    false => Next::Fail { result: count as u64 },
                }
            }
            SETTLE if are_as_told(&children(state), results) => Next::Complete { result: results.len() as u64 },
            // A dead letter of an innocent child, perhaps: who dies with it is not its fault.
            SETTLE => Next::Fail { result: results.len() as u64 },
            _ => Next::Complete { result: 0 },
        };
        let ends = matches!(next, Next::Complete { .. } | Next::Fail { .. });
        StepOutcome { effect: step <= SETTLE && ends, next }
    }
}

#[cfg(test)]
mod tests {
    use super::super::walk::{Answers, walk};
    use super::*;

    #[test]
    fn children_end_as_their_parents_expect() {
        let mut families = [0; 6];
        for index in 0..120 {
            let (_, state) = ChildrenFail.start(index, 1);
            let count = children(state).len();
            families[count] += 1;
            let walked = walk(&ChildrenFail, index, 1, Answers::Expected);
            if is_doomed_family(state) {
                assert!(matches!(walked.end, Next::Spawn { state: FORBIDDEN, .. }), "{:?}", walked.end);
                continue;
            }
            assert_eq!(walked.end, Next::Complete { result: count as u64 }, "{:?}", walked.steps);
        }
        assert!(families.iter().all(|count| *count > 5), "{families:?}");
    }

    #[test]
    fn there_are_children_of_every_lot_and_few_of_them_die() {
        let lots: Vec<Lot> =
            (0..60).flat_map(|index| children(ChildrenFail.start(index, 1).1)).map(|child| lot(child.state)).collect();
        assert!(LOTS.iter().all(|lot| lots.contains(lot)));
        assert_eq!(lots.iter().filter(|lot| **lot == Lot::Die).count(), 10);
    }

    #[test]
    fn some_parents_cannot_go_on_and_some_of_their_parents_neither() {
        let families: Vec<u64> = (0..1_000).map(|index| ChildrenFail.start(index, 1).1).collect();
        let doomed: Vec<u64> = families.into_iter().filter(|state| is_doomed_family(*state)).collect();
        assert!((60..160).contains(&doomed.len()), "{}", doomed.len());
        let is_doomed = |child: &Child| lot(child.state) == Lot::Parent && is_doomed_child(child.state);
        assert!(doomed.iter().any(|state| children(*state).iter().any(is_doomed)));
    }

    #[test]
    fn a_parent_that_is_told_otherwise_fails() {
        let (_, state) = ChildrenFail.start(1, 1);
        let settled = StepInput { step: SETTLE, state, ..StepInput::first(PLAN, 0) };
        assert!(matches!(ChildrenFail.decide(settled).next, Next::Fail { .. }));
    }
}
