//! A secret that passes through everything that a workflow can put something into.

use super::{Child, Expected, Next, Program, StepInput, StepOutcome, millis_of, stir};
use crate::name::{Name, Step, WaitToken};
use crate::reply::Arrival;
use alloc::vec;
use alloc::vec::Vec;

/// State, payload, result: each is a secret, and written out each begins with the digits of [`SECRET`]. So whoever looks
/// for those digits where no secret belongs finds any of them.
pub struct Secrets;

/// What every secret begins with: seven sevens, and twelve digits after them.
pub const SECRET: u64 = 7_777_777_000_000_000_000;
const DIGITS: u64 = 1_000_000_000_000;

const STEPS: [&str; 6] = ["keep", "hear", "whisper", "lose", "take", "forget"];
const KEEP: Step = Step(0);
const HEAR: Step = Step(1);
const WHISPER: Step = Step(2);
const LOSE: Step = Step(3);
const TAKE: Step = Step(4);
const FORGET: Step = Step(5);

const NAMES: [&str; 1] = ["key"];
const KEY: Name = Name(0);

/// A secret of its own that follows from another value.
const fn secret(value: u64) -> u64 {
    SECRET + stir(value) % DIGITS
}

const fn token(state: u64) -> WaitToken {
    WaitToken(stir(!state) | 1)
}

impl Program for Secrets {
    fn name(&self) -> &'static str {
        "secrets"
    }

    fn summary(&self) -> &'static str {
        "a secret passes through a workflow's state, an emit, a timer, a child's result and a dead letter"
    }

    fn steps(&self) -> &[&str] {
        &STEPS
    }

    fn names(&self) -> &[&str] {
        &NAMES
    }

    fn emits(&self, index: u32, size: u64) -> Vec<Expected> {
        let (_, state) = self.start(index, size);
        vec![Expected { name: KEY, payload: secret(state), token: Some(token(state)) }]
    }

    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        (KEEP, secret(u64::from(index) << 32 ^ size))
    }

    fn decide(&self, StepInput { step, state, arrival, results, .. }: StepInput) -> StepOutcome {
        let next = match (step, arrival) {
            (KEEP, _) => Next::Await { name: KEY, step: HEAR, state, deadline: None, token: Some(token(state)) },
            (HEAR, Arrival::Emitted { payload }) => {
                let children = [WHISPER, LOSE].map(|step| Child { step, state: secret(payload) });
                Next::Spawn { step: TAKE, state: payload, children: children.into() }
            }
            (HEAR, _) => Next::Fail { result: state },
            (WHISPER, _) => Next::Complete { result: secret(state) },
            (LOSE, _) => Next::Reject,
            (TAKE, _) => {
                let told = results.first().map_or(state, |child| child.result);
                Next::Sleep { step: FORGET, state: told, delay: millis_of(state, 10, 200) }
            }
            (FORGET, _) => Next::Complete { result: secret(state) },
            _ => Next::Complete { result: 0 },
        };
        StepOutcome { effect: matches!(step, KEEP | TAKE | FORGET), next }
    }
}

#[cfg(test)]
mod tests {
    use super::super::walk::{Answers, walk};
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn whatever_is_passed_on_is_a_secret() {
        for index in 0..20 {
            let (_, state) = Secrets.start(index, 1);
            let told = Secrets.emits(index, 1)[0].payload;
            let walked = walk(&Secrets, index, 1, Answers::Expected);
            let Next::Complete { result } = walked.end else { panic!("it ends as {:?}", walked.end) };
            for secret in [state, told, result] {
                assert!(secret.to_string().starts_with("7777777") && secret.to_string().len() == 19);
            }
            assert_eq!(walked.steps, ["keep", "hear", "whisper", "lose", "take", "forget"]);
        }
    }
}
