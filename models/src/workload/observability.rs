//! Sleeping, waiting, joining, in any order, while somebody counts.

use super::{Child, Expected, Next, Program, StepInput, StepOutcome, millis_of, stir};
use crate::name::{Name, Step};
use alloc::vec::Vec;

/// The state's low byte counts the phases that are left, and what each is follows from the rest.
pub struct Observability;

const STEPS: [&str; 3] = ["pass", "nap", "leave"];
const PASS: Step = Step(0);
const NAP: Step = Step(1);
const LEAVE: Step = Step(2);

const NAMES: [&str; 1] = ["signal"];
const SIGNAL: Name = Name(0);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Walk,
    Sleep,
    /// For a signal, or for a second at the most.
    Listen,
    Wait,
    Join,
}

const PHASES: [Phase; 5] = [Phase::Walk, Phase::Sleep, Phase::Listen, Phase::Wait, Phase::Join];

const fn phase(state: u64) -> Phase {
    PHASES[(stir(state) % PHASES.len() as u64) as usize]
}

const fn left(state: u64) -> u64 {
    state & 0xff
}

impl Program for Observability {
    fn name(&self) -> &'static str {
        "observability"
    }

    fn summary(&self) -> &'static str {
        "workflows that sleep, wait and join in any order, while somebody counts them all the time"
    }

    fn steps(&self) -> &[&str] {
        &STEPS
    }

    fn names(&self) -> &[&str] {
        &NAMES
    }

    fn emits(&self, index: u32, size: u64) -> Vec<Expected> {
        let (_, state) = self.start(index, size);
        let states = (0..left(state)).map(|passed| state - passed);
        let signals = states.filter(|state| matches!(phase(*state), Phase::Listen | Phase::Wait));
        signals.map(|state| Expected { name: SIGNAL, payload: state, token: None }).collect()
    }

    /// `size` is the number of phases.
    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        (PASS, stir(u64::from(index) << 32 ^ size) & !0xff | size.min(0xff))
    }

    fn decide(&self, StepInput { step, state, .. }: StepInput) -> StepOutcome {
        let on = state.wrapping_sub(1);
        let next = match (step, phase(state)) {
            (PASS, _) if left(state) == 0 => Next::Goto { step: LEAVE, state },
            (PASS, Phase::Walk) => Next::Goto { step, state: on },
            (PASS, Phase::Sleep) => Next::Sleep { step, state: on, delay: millis_of(state, 20, 1_000) },
            (PASS, Phase::Listen) => {
                let deadline = Some(millis_of(state, 50, 1_000));
                Next::Await { name: SIGNAL, step, state: on, deadline, token: None }
            }
            (PASS, Phase::Wait) => Next::Await { name: SIGNAL, step, state: on, deadline: None, token: None },
            (PASS, Phase::Join) => {
                let nap = |place| Child { step: NAP, state: stir(state ^ place) & !0xff | 1 };
                Next::Spawn { step, state: on, children: (1..=1 + (state >> 8 & 1)).map(nap).collect() }
            }
            (NAP, _) if left(state) > 0 => Next::Sleep { step, state: on, delay: millis_of(state, 20, 400) },
            (NAP, _) => Next::Complete { result: state },
            (LEAVE, _) => Next::Complete { result: state },
            _ => Next::Complete { result: 0 },
        };
        StepOutcome { effect: step == LEAVE, next }
    }
}

#[cfg(test)]
mod tests {
    use super::super::walk::{Answers, walk};
    use super::*;

    #[test]
    fn workflows_pass_through_every_phase() {
        let states = (0..60).flat_map(|index| {
            let (_, state) = Observability.start(index, 3);
            (0..3).map(move |passed| state - passed)
        });
        let phases: Vec<Phase> = states.map(phase).collect();
        assert!(PHASES.iter().all(|phase| phases.iter().filter(|other| *other == phase).count() > 10));
    }

    #[test]
    fn as_many_are_told_as_wait() {
        for index in 0..60 {
            let walked = walk(&Observability, index, 4, Answers::Expected);
            assert_eq!(walked.waits.len(), Observability.emits(index, 4).len());
            assert_eq!(walked.steps.last(), Some(&"leave"));
        }
    }
}
