//! A step calls a service outside the database, which does not always answer as one would like.

use super::{Next, Program, StepInput, StepOutcome, millis_of, stir};
use crate::name::{Micros, Step};

/// Any answer completes the call: it is the workflow that looks at it, and calls again. Only a call without an answer is
/// retried. The state's high part is the same from start to end, and that is the idempotency key which each call offers:
/// a worker that dies after the call, and before its handoff, calls once more under the same key.
pub struct ExternalCall;

const STEPS: [&str; 4] = ["call", "look", "record", "refuse"];
const CALL: Step = Step(0);
const LOOK: Step = Step(1);
const RECORD: Step = Step(2);
const REFUSE: Step = Step(3);

/// A call that has no answer so often is a dead letter.
const MAX_ATTEMPTS: u16 = 3;
/// Who was put off so often gives up.
const MAX_CALLS: u64 = 3;

/// The low half of a state: the calls before this one, and the last answer.
const fn with(state: u64, calls: u64, status: u64) -> u64 {
    key(state) << 32 | calls << 16 | status
}

const fn key(state: u64) -> u64 {
    state >> 32
}

const fn calls(state: u64) -> u64 {
    state >> 16 & 0xffff
}

const fn status(state: u64) -> u64 {
    state & 0xffff
}

/// What the service says to the key at its n-th call; none if it says nothing, now or for as long as one tries.
const fn answer(key: u64, call: u64, attempt: u16) -> Option<u64> {
    let is_down = stir(!key ^ call).is_multiple_of(12);
    match stir(key << 8 ^ call << 4 ^ attempt as u64) % 10 {
        _ if is_down => None,
        0 => None,
        1 | 2 => Some(503),
        3 => Some(429),
        4 => Some(404),
        5 => Some(201),
        _ => Some(200),
    }
}

impl Program for ExternalCall {
    fn name(&self) -> &'static str {
        "external-call"
    }

    fn summary(&self) -> &'static str {
        "a step calls a service under an idempotency key, and the next one looks at the answer and may call again"
    }

    fn steps(&self) -> &[&str] {
        &STEPS
    }

    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        (CALL, with(stir(u64::from(index) << 32 ^ size), 0, 0))
    }

    fn decide(&self, StepInput { step, state, attempt, .. }: StepInput) -> StepOutcome {
        let made = calls(state);
        let next = match (step, status(state)) {
            (CALL, _) => match answer(key(state), made, attempt) {
                Some(status) => Next::Goto { step: LOOK, state: with(state, made + 1, status) },
                None => {
                    let delay = if key(state).is_multiple_of(2) { Micros(0) } else { millis_of(state, 20, 300) };
                    Next::Retry { delay, max_attempts: MAX_ATTEMPTS }
                }
            },
            (LOOK, 200..300) => Next::Goto { step: RECORD, state },
            (LOOK, 429 | 500..600) if made < MAX_CALLS => {
                Next::Sleep { step: CALL, state, delay: millis_of(state, 20, 500) }
            }
            (LOOK, _) => Next::Goto { step: REFUSE, state },
            (RECORD, status) => Next::Complete { result: status },
            (REFUSE, status) => Next::Fail { result: status },
            _ => Next::Complete { result: 0 },
        };
        StepOutcome { effect: step == RECORD || step == REFUSE, next }
    }
}

#[cfg(test)]
mod tests {
    use super::super::walk::{Answers, walk};
    use super::*;

    #[test]
    fn answers_are_looked_at_and_calls_made_again() {
        let (mut ends, mut calls) = ([0; 3], [0; 4]);
        for index in 0..300 {
            let walked = walk(&ExternalCall, index, 1, Answers::Expected);
            let which = match walked.end {
                Next::Complete { result } => {
                    assert!((200..300).contains(&result));
                    0
                }
                Next::Fail { result } => {
                    assert!(!(200..300).contains(&result));
                    1
                }
                _ => 2,
            };
            ends[which] += 1;
            calls[walked.steps.iter().filter(|step| **step == "look").count()] += 1;
        }
        assert!(ends.iter().chain(&calls[1..]).all(|count| *count > 0), "{ends:?} {calls:?}");
    }

    #[test]
    fn a_key_is_the_same_at_every_call() {
        let (_, state) = ExternalCall.start(9, 1);
        assert_eq!(key(with(with(state, 1, 503), 2, 200)), key(state));
    }
}
