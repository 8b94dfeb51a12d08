//! Wait for a signed signal, branch on what it says; a deadline escalates.

use super::{Expected, Next, Program, StepInput, StepOutcome, millis_of, stir};
use crate::name::{Name, Step, WaitToken};
use crate::reply::Arrival;
use alloc::vec;
use alloc::vec::Vec;

/// Workflows of an odd index wait first; the others load a row before that. The state stays what it was at the start, and
/// tokens follow from it.
pub struct Approval;

const STEPS: [&str; 6] = ["load", "ask", "decide", "escalate", "order", "refuse"];
const LOAD: Step = Step(0);
const ASK: Step = Step(1);
const DECIDE: Step = Step(2);
const ESCALATE: Step = Step(3);
const ORDER: Step = Step(4);
const REFUSE: Step = Step(5);

const NAMES: [&str; 2] = ["approval", "escalation"];
const APPROVAL: Name = Name(0);
const ESCALATION: Name = Name(1);

/// What whoever signs must show.
const fn token(state: u64, name: Name) -> WaitToken {
    WaitToken(stir(stir(state) ^ name.0 as u64) | 1)
}

/// An odd one approves: two in three.
const fn signed(state: u64, name: Name) -> u64 {
    let says = stir(state ^ name.0 as u64);
    says << 1 | (!says.is_multiple_of(3)) as u64
}

impl Program for Approval {
    fn name(&self) -> &'static str {
        "approval"
    }

    fn summary(&self) -> &'static str {
        "waits for a signal with a token, at once or after a row is loaded, and branches on it; a deadline escalates"
    }

    fn steps(&self) -> &[&str] {
        &STEPS
    }

    fn names(&self) -> &[&str] {
        &NAMES
    }

    fn emits(&self, index: u32, size: u64) -> Vec<Expected> {
        let (_, state) = self.start(index, size);
        let expected = |name| Expected { name, payload: signed(state, name), token: Some(token(state, name)) };
        vec![expected(APPROVAL), expected(ESCALATION)]
    }

    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        let step = if index.is_multiple_of(2) { LOAD } else { ASK };
        (step, stir(u64::from(index) << 32 ^ size))
    }

    fn decide(&self, StepInput { step, state, arrival, .. }: StepInput) -> StepOutcome {
        let wait = |name, deadline| {
            let token = Some(token(state, name));
            Next::Await { name, step: DECIDE, state, deadline, token }
        };
        let next = match (step, arrival) {
            (LOAD, _) => Next::Goto { step: ASK, state },
            (ASK, _) => wait(APPROVAL, Some(millis_of(state, 100, 2_500))),
            (DECIDE, Arrival::Emitted { payload }) if payload % 2 == 1 => Next::Goto { step: ORDER, state },
            (DECIDE, Arrival::Emitted { .. }) => Next::Goto { step: REFUSE, state },
            (DECIDE, _) => Next::Goto { step: ESCALATE, state },
            // Somebody higher up has all the time in the world.
            (ESCALATE, _) => wait(ESCALATION, None),
            (ORDER, _) => Next::Complete { result: state },
            (REFUSE, _) => Next::Fail { result: state },
            _ => Next::Complete { result: 0 },
        };
        StepOutcome { effect: matches!(step, LOAD | ESCALATE | ORDER | REFUSE), next }
    }
}

#[cfg(test)]
mod tests {
    use super::super::walk::{Answers, walk};
    use super::*;

    #[test]
    fn every_other_workflow_waits_first() {
        assert_eq!(walk(&Approval, 0, 1, Answers::Expected).steps[..3], ["load", "ask", "decide"]);
        assert_eq!(walk(&Approval, 1, 1, Answers::Expected).steps[..2], ["ask", "decide"]);
    }

    #[test]
    fn it_branches_on_what_is_signed() {
        let ends = |index| walk(&Approval, index, 1, Answers::Expected).end;
        let approved = (0..60).filter(|index| matches!(ends(*index), Next::Complete { .. })).count();
        let refused = (0..60).filter(|index| matches!(ends(*index), Next::Fail { .. })).count();
        assert!(approved > 20 && refused > 10 && approved + refused == 60, "{approved} approved, {refused} refused");
    }

    #[test]
    fn a_deadline_escalates() {
        let walked = walk(&Approval, 1, 1, Answers::Late);
        assert_eq!(walked.steps[..4], ["ask", "decide", "escalate", "decide"]);
    }

    #[test]
    fn who_knows_the_start_knows_the_tokens() {
        let (_, state) = Approval.start(1, 1);
        let asked = Approval.decide(StepInput::first(ASK, state)).next;
        let told = Approval.emits(1, 1)[0];
        assert!(matches!(asked, Next::Await { name, token, .. } if name == told.name && token == told.token));
        assert_ne!(told.token, Approval.emits(1, 1)[1].token);
    }
}
