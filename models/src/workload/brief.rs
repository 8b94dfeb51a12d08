//! A program that is data: what a workflow does is in its state, four bits a step, so a shrinker can write it down.
//!
//! No seed draws it. Of the lowest four bits, the rest is what comes after them; where children are born, it begins with
//! their programs, eight bits each.

use super::{Child, Next, Program, StepInput, StepOutcome};
use crate::name::{Micros, Step};
use alloc::vec::Vec;

pub struct Brief;

const GO: Step = Step(0);

/// No event may carry this: a rule of the application's.
const FORBIDDEN: u64 = u64::MAX;

/// What a step does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verb {
    Complete,
    CompleteWithRow,
    GoOn,
    GoOnWithRow,
    Fail,
    Reject,
    Die,
    /// Fails once.
    Recover,
    /// Fails as often as it may.
    Exhaust,
    Doze,
    Sleep,
    /// Nobody can say before it is due that it cannot be woken.
    Oversleep,
    /// Children that all do the same.
    One,
    Two,
    Three,
    /// Two that differ.
    Mixed,
}

const VERBS: [Verb; 16] = [
    Verb::Complete,
    Verb::CompleteWithRow,
    Verb::GoOn,
    Verb::GoOnWithRow,
    Verb::Fail,
    Verb::Reject,
    Verb::Die,
    Verb::Recover,
    Verb::Exhaust,
    Verb::Doze,
    Verb::Sleep,
    Verb::Oversleep,
    Verb::One,
    Verb::Two,
    Verb::Three,
    Verb::Mixed,
];

/// Programs of one kind each, and a few of several.
const SAMPLES: [u64; 36] = [
    0x1e, 0x19d, 0x19e, 0x1901f, 0x1219f, 0x1319f, 0x13e, 0x1912f, 0x0, 0x1, 0x2, 0x3, 0x9, 0xa, 0x7, 0x8, 0x4, 0x5,
    0x6, 0xb, 0x0c, 0x1d, 0x2d, 0x0e, 0x4d, 0x5d, 0x8d, 0x9d, 0x7d, 0xbd, 0x0dd, 0x900f, 0x090f, 0x500f, 0xa09f, 0x9d3,
];

impl Brief {
    /// States to begin with: whatever a workload does, one of these does something like it.
    pub const fn samples() -> &'static [u64] {
        &SAMPLES
    }
}

impl Program for Brief {
    fn name(&self) -> &'static str {
        "brief"
    }

    fn summary(&self) -> &'static str {
        "does what its state says, four bits a step: what a failure is shrunk to where its own steps are too many"
    }

    fn steps(&self) -> &[&str] {
        &["go"]
    }

    fn start(&self, index: u32, _size: u64) -> (Step, u64) {
        (GO, SAMPLES[index as usize % SAMPLES.len()])
    }

    fn decide(&self, StepInput { step, state, attempt, .. }: StepInput) -> StepOutcome {
        if step != GO {
            return StepOutcome { effect: false, next: Next::Complete { result: 0 } };
        }
        let (verb, rest) = (VERBS[(state & 0xf) as usize], state >> 4);
        let go_on = Next::Goto { step: GO, state: rest };
        let sleep = |delay, state| Next::Sleep { step: GO, state, delay };
        let next = match verb {
            Verb::Complete | Verb::CompleteWithRow => Next::Complete { result: 1 },
            Verb::GoOn | Verb::GoOnWithRow => go_on,
            Verb::Recover if attempt > 1 => go_on,
            Verb::Fail => Next::Fail { result: 2 },
            Verb::Reject => Next::Reject,
            Verb::Die => Next::Die,
            Verb::Recover | Verb::Exhaust => Next::Retry { delay: Micros(0), max_attempts: 2 },
            Verb::Doze => sleep(Micros::from_millis(100), rest),
            Verb::Sleep => sleep(Micros::from_secs(1), rest),
            Verb::Oversleep => sleep(Micros::from_millis(100), FORBIDDEN),
            Verb::One => family(rest, 1, 8),
            Verb::Two => family(rest, 2, 8),
            Verb::Three => family(rest, 3, 8),
            Verb::Mixed => family(rest, 2, 16),
        };
        StepOutcome { effect: matches!(verb, Verb::CompleteWithRow | Verb::GoOnWithRow), next }
    }
}

/// So many children, whose programs are the lowest `bits`, over and over; what the parent does then is above those.
fn family(programs: u64, count: u32, bits: u32) -> Next {
    let program = |index: u32| programs >> (8 * index % bits) & 0xff;
    let children: Vec<Child> = (0..count).map(|index| Child { step: GO, state: program(index) }).collect();
    Next::Spawn { step: GO, state: programs >> bits, children }
}
