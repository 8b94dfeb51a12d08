//! Where two histories of one plan part: the first line that is not the same, found by bisection over the hashes of what
//! comes before each line, with both sides and a few lines before them.
//!
//! Which target made a history is no difference. What it is not: an explanation. Everything up to there is the same, so
//! whatever leaked in did so at that line or before it, without a trace.

use serde::{Deserialize, Serialize};
use std::fmt;
use tourbillon_models::history::History;
use xxhash_rust::xxh3::Xxh3;

/// Two histories that are not the same.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// Of the first record that differs, or of the final state; none if already the headers do.
    pub record: Option<usize>,
    /// The last lines that both have, with their numbers.
    pub before: Vec<(usize, String)>,
    /// What stands there in one, and in the other; none where that has ended.
    pub sides: [Option<String>; 2],
}

/// So many lines are told before the first that differs.
const BEFORE: usize = 4;

/// Where two histories first differ, if they do.
pub fn difference(one: &History, other: &History) -> Option<Difference> {
    if one.hash() == other.hash() {
        return None;
    }
    let lines = [one, other].map(lines);
    let prefixes = [&lines[0], &lines[1]].map(|lines| prefixes(lines));
    let shorter = lines[0].len().min(lines[1].len());
    // Prefixes that differ are followed by none that agree, so the first of them can be bisected for.
    let (mut same, mut different) = (0, shorter + 1);
    while same + 1 < different {
        let middle = (same + different) / 2;
        match prefixes[0][middle] == prefixes[1][middle] {
            true => same = middle,
            false => different = middle,
        }
    }
    let before = (same.saturating_sub(BEFORE).max(1)..same).map(|line| (line - 1, lines[0][line].clone())).collect();
    Some(Difference { record: same.checked_sub(1), before, sides: lines.map(|lines| lines.get(same).cloned()) })
}

/// The header first, without what a target says of itself.
fn lines(history: &History) -> Vec<String> {
    let mut header = history.header.clone();
    (header.target, header.server) = (String::new(), None);
    History::new(header).lines().chain(history.lines().skip(1)).collect()
}

/// The hash of the first so many lines, from none to all.
fn prefixes(lines: &[String]) -> Vec<u64> {
    let mut hasher = Xxh3::new();
    let hashes = lines.iter().map(|line| {
        hasher.update(line.as_bytes());
        hasher.update(b"\n");
        hasher.digest()
    });
    std::iter::once(0).chain(hashes).collect()
}

/// One sentence.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, other] = self.sides.each_ref().map(|side| side.as_deref().unwrap_or("nothing"));
        match self.record {
            Some(index) => write!(f, "record {index} is {one} in one and {other} in the other"),
            None => write!(f, "the header is {one} in one and {other} in the other"),
        }
    }
}

impl Difference {
    /// Both sides below what they have in common.
    pub fn story(&self) -> String {
        let number = |index: usize| format!("{index:>7}");
        let here = self.record.map_or_else(|| " header".to_owned(), number);
        let before = self.before.iter().map(|(index, line)| format!("  {} {line}\n", number(*index)));
        let side = |mark: char, side: &Option<String>| {
            format!("{mark} {here} {}\n", side.as_deref().unwrap_or("(the history has ended)"))
        };
        before.chain([side('1', &self.sides[0]), side('2', &self.sides[1])]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Limits;
    use crate::simulate::{Simulator, Work};
    use tourbillon_engine::guard::Guards;
    use tourbillon_models::name::Micros;

    fn history() -> History {
        let work = Work::named("chain").unwrap();
        let mut simulator = Simulator::default();
        simulator.run(&work.plan(5, &Limits { faults: Vec::new() }), &work, Guards::ALL);
        simulator.history().clone()
    }

    #[test]
    fn the_first_differing_record_is_found_wherever_it_is() {
        let one = history();
        assert_eq!(difference(&one, &one), None);
        let last = one.records.len() - 1;
        for index in [0, 1, 2, last / 3, last - 1, last] {
            let mut other = one.clone();
            for record in &mut other.records[index..] {
                record.at = record.at + Micros(1);
            }
            let found = difference(&one, &other).expect("they differ");
            assert_eq!((found.record, found.before.len()), (Some(index), index.min(BEFORE)));
            assert_eq!(found.sides[0].as_deref(), one.lines().nth(index + 1).as_deref());
            assert_eq!(found.sides[1].as_deref(), other.lines().nth(index + 1).as_deref());
            assert!(found.story().lines().count() == index.min(BEFORE) + 2, "{}", found.story());
        }
    }

    #[test]
    fn a_header_a_missing_end_and_a_missing_state_are_differences_too() {
        let one = history();
        let mut header = one.clone();
        header.header.seed += 1;
        assert_eq!(difference(&one, &header).expect("they differ").record, None);
        let mut target = one.clone();
        target.header.target = "elsewhere".to_owned();
        assert_eq!(difference(&one, &target), None);
        let mut stateless = one.clone();
        stateless.state = None;
        let found = difference(&one, &stateless).expect("they differ");
        assert_eq!((found.record, &found.sides[1]), (Some(one.records.len()), &None));
    }
}
