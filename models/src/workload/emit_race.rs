//! Awaits the same name several times in a row, and others in between, with and without deadlines.

use super::{Expected, Next, Program, StepInput, StepOutcome, millis_of, stir};
use crate::name::{Micros, Name, Step, WaitToken};
use crate::reply::Arrival;
use alloc::vec::Vec;

/// An auction that hears bids for its lots, and sometimes a question that somebody must sign. What is emitted early, late
/// or a second time meets another wait than it was meant for. After some, one waits a moment for a bid that nobody makes, and
/// cannot go on from there. The state's low byte counts what was heard, and what is to be heard.
pub struct EmitRace;

const STEPS: [&str; 3] = ["open", "hear", "close"];
const OPEN: Step = Step(0);
const HEAR: Step = Step(1);
const CLOSE: Step = Step(2);

/// A bid is for the lot that is called; who bids for all of them at once bids for more than are kept.
#[rustfmt::skip]
const NAMES: [&str; 67] = [
    "hammer", "question", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17",
    "18", "19", "20", "21", "22", "23", "24", "25", "26", "27", "28", "29", "30", "31", "32", "33", "34", "35", "36",
    "37", "38", "39", "40", "41", "42", "43", "44", "45", "46", "47", "48", "49", "50", "51", "52", "53", "54", "55",
    "56", "57", "58", "59", "60", "61", "62", "63", "64", "late",
];
const HAMMER: Name = Name(0);
const QUESTION: Name = Name(1);
const FIRST_LOT: u16 = 2;
/// Nobody emits it.
const LATE: Name = Name(NAMES.len() as u16 - 1);

/// No event may carry this: a rule of the application's.
const FORBIDDEN: u64 = u64::MAX;

/// Of those that there are, so few are sold at one auction.
const LOTS: u16 = 2;

/// So many can be counted.
const MOST: u64 = 15;

const fn heard(state: u64) -> u64 {
    state >> 4 & MOST
}

const fn in_all(state: u64) -> u64 {
    state & MOST
}

/// What follows from a state about what it awaits next; the last is always the hammer.
const fn bits(state: u64) -> u64 {
    stir(state & !MOST)
}

const fn name(state: u64) -> Name {
    let lot = Name(FIRST_LOT + (bits(state) >> 32) as u16 % LOTS);
    match bits(state) % 4 {
        _ if heard(state) >= in_all(state) => HAMMER,
        0 => QUESTION,
        _ => lot,
    }
}

/// A question shows a token that is the same for all of a workflow.
fn token(state: u64, name: Name) -> Option<WaitToken> {
    (name == QUESTION).then_some(WaitToken(stir(state >> 8) | 1))
}

/// Half of what is awaited must come; for the rest one waits for a moment or for seconds.
fn deadline(state: u64) -> Option<Micros> {
    match bits(state) >> 8 & 3 {
        _ if name(state) == HAMMER => None,
        0 => Some(millis_of(state, 1, 100)),
        1 => Some(millis_of(state, 100, 2_000)),
        _ => None,
    }
}

/// One auction out of twelve.
const fn is_doomed(state: u64) -> bool {
    (stir(state & !0xff) >> 40).is_multiple_of(12)
}

impl Program for EmitRace {
    fn name(&self) -> &'static str {
        "emit-race"
    }

    fn summary(&self) -> &'static str {
        "awaits one name several times in a row and others in between, some for a while and some for ever"
    }

    fn steps(&self) -> &[&str] {
        &STEPS
    }

    fn names(&self) -> &[&str] {
        &NAMES
    }

    /// One for each wait but that for a late bid: whatever takes another's place leaves its own.
    fn emits(&self, index: u32, size: u64) -> Vec<Expected> {
        let (_, state) = self.start(index, size);
        let waits = (0..=in_all(state)).map(|heard| state | heard << 4);
        let expected = |state| {
            let name = name(state);
            Expected { name, payload: stir(state) >> 1, token: token(state, name) }
        };
        waits.map(expected).collect()
    }

    /// `size` is how much is heard before the hammer falls.
    fn start(&self, index: u32, size: u64) -> (Step, u64) {
        (OPEN, stir(u64::from(index) << 32 ^ size) & !0xff | size.min(MOST - 1))
    }

    fn decide(&self, StepInput { step, state, arrival, attempt, .. }: StepInput) -> StepOutcome {
        let wait = |state| {
            let name = name(state);
            Next::Await { name, step: HEAR, state, deadline: deadline(state), token: token(state, name) }
        };
        let next = match step {
            OPEN => wait(state),
            // Now and then one did not quite catch it.
            HEAR if attempt == 1 && bits(state) >> 16 & 7 == 0 => Next::Retry { delay: Micros(0), max_attempts: 2 },
            HEAR if heard(state) < in_all(state) => wait(state + 0x10),
            HEAR if is_doomed(state) => {
                let deadline = Some(millis_of(state, 1, 100));
                Next::Await { name: LATE, step: CLOSE, state: FORBIDDEN, deadline, token: None }
            }
            HEAR => Next::Goto { step: CLOSE, state },
            CLOSE => Next::Complete { result: state },
            _ => Next::Complete { result: 0 },
        };
        let is_noted = step == HEAR && arrival != Arrival::TimedOut && bits(state) >> 24 & 1 == 0;
        StepOutcome { effect: is_noted || step == CLOSE, next }
    }
}

#[cfg(test)]
mod tests {
    use super::super::walk::{Answers, walk};
    use super::*;

    #[test]
    fn it_hears_as_much_as_it_is_asked_to() {
        for (index, size) in [(0, 0), (1, 1), (2, 3), (3, 14), (4, 40)] {
            let waits = size.min(MOST - 1) as usize + 1;
            assert_eq!(EmitRace.emits(index, size).len(), waits);
            for answers in [Answers::Expected, Answers::Late] {
                let walked = walk(&EmitRace, index, size, answers);
                let is_doomed = is_doomed(EmitRace.start(index, size).1);
                let last = if is_doomed { "hear" } else { "close" };
                let heard = walked.waits.len() - usize::from(is_doomed);
                assert_eq!((heard, walked.steps.last()), (waits, Some(&last)));
            }
        }
    }

    #[test]
    fn each_wait_has_an_emit_with_its_name_and_its_token() {
        for index in 0..50 {
            let awaited = walk(&EmitRace, index, 4, Answers::Expected).waits;
            let mut told: Vec<_> = EmitRace.emits(index, 4).iter().map(|told| (told.name, told.token)).collect();
            if is_doomed(EmitRace.start(index, 4).1) {
                told.push((LATE, None));
            }
            assert_eq!(awaited, told);
        }
    }

    #[test]
    fn some_end_waiting_for_what_nobody_emits() {
        let doomed = (0..600).filter(|index| is_doomed(EmitRace.start(*index, 4).1)).count();
        assert!((25..75).contains(&doomed), "{doomed}");
    }

    #[test]
    fn names_come_several_times_in_a_row() {
        let is_repeated = |index: &u32| EmitRace.emits(*index, 4).windows(2).any(|pair| pair[0].name == pair[1].name);
        assert!((0..50).filter(is_repeated).count() > 20);
    }
}
