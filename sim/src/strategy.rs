//! proptest strategies for plans and for workflow programs, to compose in tests of one's own. With the feature `proptest`.
//!
//! A plan is drawn as a sweep draws it, from a seed that proptest chooses; it shrinks as every failure here does, through
//! [`Candidates`]: faults, clients, workers and rounds that can go, earlier times, smaller numbers. What it is not: a way
//! around [`check()`](crate::check()), which sweeps faster and tells more; but here plans and programs are values that meet others.
//!
//! ```
//! use proptest::prelude::*;
//! use tourbillon::strategy::{plans, programs};
//!
//! proptest!(ProptestConfig::with_cases(20), |(case in programs().prop_flat_map(plans))| {
//!     let verdict = case.run();
//!     prop_assert!(verdict.violations().next().is_none(), "{}", verdict.violations().next().unwrap());
//! });
//! ```

use crate::faults::FaultKind;
use crate::generate::Limits;
use crate::plan::Plan;
use crate::shrink::Freedom;
use crate::shrink::candidates::Candidates;
use crate::simulate::{Simulator, Work};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::{NewTree, ValueTree};
use proptest::test_runner::TestRunner;
use std::fmt;
use tourbillon_engine::guard::Guards;
use tourbillon_models::name::{Micros, Step};
use tourbillon_models::verdict::Verdict;
use tourbillon_models::workload::{Child, Next, Program, StepInput, StepOutcome};

/// A program and one of its plans.
#[derive(Clone)]
pub struct Case<P> {
    pub program: P,
    pub plan: Plan,
}

impl<P: Program + Clone + 'static> Case<P> {
    /// On the sound engine.
    pub fn run(&self) -> Verdict {
        self.run_without(Guards::ALL)
    }

    pub fn run_without(&self, guards: Guards) -> Verdict {
        Simulator::default().run(&self.plan, &Work::own(self.program.clone()), guards).1
    }
}

/// A plan takes pages; what a person needs of it is short.
impl<P: Program> fmt::Debug for Case<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { seed, processes, faults, .. } = &self.plan;
        let names: Vec<&str> = processes.iter().map(|process| process.name.as_str()).collect();
        write!(f, "{} under seed {seed}: {}, with {faults:?}", self.program.name(), names.join(", "))
    }
}

/// Plans for a program, under every kind of fault.
pub fn plans<P: Program + Clone + 'static>(program: P) -> Plans<P> {
    Plans { program, limits: Limits { faults: FaultKind::ALL.to_vec() } }
}

/// See [`plans`].
#[derive(Clone)]
pub struct Plans<P> {
    program: P,
    limits: Limits,
}

impl<P> Plans<P> {
    /// Only these kinds of fault.
    pub fn faults(mut self, kinds: &[FaultKind]) -> Self {
        self.limits.faults = kinds.to_vec();
        self
    }
}

impl<P> fmt::Debug for Plans<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plans with {:?}", self.limits.faults)
    }
}

impl<P: Program + Clone + 'static> Strategy for Plans<P> {
    type Tree = PlanTree<P>;
    type Value = Case<P>;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        let plan = Work::own(self.program.clone()).plan(runner.rng().random(), &self.limits);
        let candidates = Candidates::new(plan.clone(), Freedom::WorkAndFaults, None);
        Ok(PlanTree { program: self.program.clone(), candidates, current: plan, is_candidate: false })
    }
}

/// A plan on its way to a smaller one.
pub struct PlanTree<P> {
    program: P,
    candidates: Candidates,
    current: Plan,
    /// Whether the current plan has yet to be accepted.
    is_candidate: bool,
}

impl<P> PlanTree<P> {
    /// The next candidate; where there is none, back to what was accepted last.
    fn advance(&mut self) -> bool {
        match self.candidates.next() {
            Some(candidate) => {
                self.current = candidate.clone();
                self.is_candidate = true;
                true
            }
            None => {
                self.current = self.candidates.plan().clone();
                self.is_candidate = false;
                false
            }
        }
    }
}

impl<P: Program + Clone + 'static> ValueTree for PlanTree<P> {
    type Value = Case<P>;

    fn current(&self) -> Case<P> {
        Case { program: self.program.clone(), plan: self.current.clone() }
    }

    fn simplify(&mut self) -> bool {
        if std::mem::take(&mut self.is_candidate) {
            self.candidates.accept(self.current.clone(), None);
        }
        self.advance()
    }

    fn complicate(&mut self) -> bool {
        if !std::mem::take(&mut self.is_candidate) {
            return false;
        }
        self.candidates.reject();
        self.advance()
    }
}

/// A program that was drawn: its steps one after the other, to the last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Drawn {
    steps: Vec<DrawnStep>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct DrawnStep {
    has_effect: bool,
    then: Then,
}

/// How a drawn step is followed by the next one; the last ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    GoOn,
    /// Fails at first.
    Recover,
    Sleep {
        millis: u64,
    },
    /// So many children, each of which is the last step.
    Join {
        children: usize,
    },
    Fail,
}

const NAMES: [&str; 6] = ["first", "second", "third", "fourth", "fifth", "sixth"];

/// Programs of up to six steps, with rows, retries, sleeps and joins.
pub fn programs() -> impl Strategy<Value = Drawn> + Clone {
    let then = prop_oneof![
        4 => Just(Then::GoOn),
        1 => Just(Then::Fail),
        2 => Just(Then::Recover),
        2 => (1..500u64).prop_map(|millis| Then::Sleep { millis }),
        2 => (1..4usize).prop_map(|children| Then::Join { children }),
    ];
    let step = (any::<bool>(), then).prop_map(|(has_effect, then)| DrawnStep { has_effect, then });
    vec(step, 1..=NAMES.len()).prop_map(|steps| Drawn { steps })
}

impl Program for Drawn {
    fn name(&self) -> &str {
        "drawn"
    }

    fn summary(&self) -> &str {
        "what a strategy has drawn"
    }

    fn steps(&self) -> &[&str] {
        &NAMES[..self.steps.len()]
    }

    fn start(&self, index: u32, _size: u64) -> (Step, u64) {
        (Step(0), index.into())
    }

    fn decide(&self, StepInput { step, state, attempt, .. }: StepInput) -> StepOutcome {
        let DrawnStep { has_effect, then } = self.steps[usize::from(step.0)];
        let (next, last) = (Step(step.0 + 1), Step(self.steps.len() as u16 - 1));
        let next = match then {
            Then::Fail => Next::Fail { result: state },
            _ if step == last => Next::Complete { result: state },
            Then::GoOn => Next::Goto { step: next, state },
            Then::Recover if attempt == 1 => Next::Retry { delay: Micros(0), max_attempts: 3 },
            Then::Recover => Next::Goto { step: next, state },
            Then::Sleep { millis } => Next::Sleep { step: next, state, delay: Micros::from_millis(millis) },
            Then::Join { children } => {
                Next::Spawn { step: next, state, children: std::vec![Child { step: last, state }; children] }
            }
        };
        StepOutcome { effect: has_effect, next }
    }
}
