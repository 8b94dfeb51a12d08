//! Order: whose turn it is, as a plan says it.
//!
//! In the usual one every call takes its time, and time decides. In the others calls take no time: a process that has a
//! call to make is *ready*, and somebody who directs the run says who goes next, or that time passes. A schedule that was
//! chosen turn by turn is data like the rest of a plan: turns that are not possible (somebody cut the plan) are passed
//! over, and where they run out the first that is ready goes on, or else time does.

use serde::{Deserialize, Serialize};
use std::fmt;
use tourbillon_models::name::Micros;

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    #[default]
    Timed,
    Chosen(Chosen),
    Priorities(Priorities),
}

/// A schedule in full.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Chosen {
    pub turns: Turns,
    /// Who was crashed comes back after so long.
    pub restart_after: Micros,
    /// So does the server.
    pub down_for: Micros,
}

/// Priorities drawn from the seed (Burckhardt et al., "A randomized scheduler with probabilistic guarantees of finding
/// bugs"): whoever is ready and comes first goes on, but for `depth - 1` turns out of every `turns`, after which he comes
/// last, behind the clock too for a while. Then all is drawn anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Priorities {
    pub depth: u32,
    pub turns: u32,
    /// Who sleeps for longer than this wakes at a multiple of it, so that many wake together.
    pub grid: Micros,
    /// The longest that somebody comes behind the clock.
    pub longest_delay: Micros,
}

/// What happens next. Processes are told by their places in the plan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Turn {
    /// It makes its call.
    Step(u8),
    /// Time passes to the next appointment, whoever is ready.
    Pass,
    Crash(u8),
    /// It makes its call, and the connection breaks before the server sees it.
    LoseCall(u8),
    /// It makes its call, and the connection breaks before it hears the answer.
    LoseReply(u8),
    ServerCrash,
}

impl Turns {
    /// Without those of some processes; the others move up.
    pub fn without_processes(&self, gone: &[usize]) -> Turns {
        let place = |process: u8| -> Option<u8> {
            let before = gone.iter().filter(|other| **other < usize::from(process)).count() as u8;
            (!gone.contains(&usize::from(process))).then(|| process - before)
        };
        let turn = |turn: &Turn| match *turn {
            Turn::Step(process) => place(process).map(Turn::Step),
            Turn::Crash(process) => place(process).map(Turn::Crash),
            Turn::LoseCall(process) => place(process).map(Turn::LoseCall),
            Turn::LoseReply(process) => place(process).map(Turn::LoseReply),
            Turn::Pass | Turn::ServerCrash => Some(*turn),
        };
        Turns(self.0.iter().filter_map(turn).collect())
    }
}

/// Written as words: `3` makes its call, `.` time passes, `3!` crashes, `3<` loses its call and `3>` its reply, `!` the
/// server crashes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Turns(pub Vec<Turn>);

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Turn::Step(process) => write!(f, "{process}"),
            Turn::Pass => write!(f, "."),
            Turn::Crash(process) => write!(f, "{process}!"),
            Turn::LoseCall(process) => write!(f, "{process}<"),
            Turn::LoseReply(process) => write!(f, "{process}>"),
            Turn::ServerCrash => write!(f, "!"),
        }
    }
}

impl From<Turns> for String {
    fn from(turns: Turns) -> String {
        turns.0.iter().map(Turn::to_string).collect::<Vec<_>>().join(" ")
    }
}

impl TryFrom<String> for Turns {
    type Error = String;

    fn try_from(text: String) -> Result<Turns, String> {
        text.split_whitespace().map(turn).collect::<Result<_, _>>().map(Turns)
    }
}

fn turn(word: &str) -> Result<Turn, String> {
    match word {
        "." => return Ok(Turn::Pass),
        "!" => return Ok(Turn::ServerCrash),
        _ => {}
    }
    let (number, kind): (&str, fn(u8) -> Turn) = match word.char_indices().last() {
        Some((end, '!')) => (&word[..end], Turn::Crash),
        Some((end, '<')) => (&word[..end], Turn::LoseCall),
        Some((end, '>')) => (&word[..end], Turn::LoseReply),
        _ => (word, Turn::Step),
    };
    number.parse().map(kind).map_err(|_| format!("{word:?} is no turn (3, 3!, 3<, 3>, . or !)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_left_has_the_turns_that_he_had() {
        let turns = Turns::try_from("0 1 2! . 3> !".to_owned()).unwrap();
        assert_eq!(String::from(turns.without_processes(&[1, 2])), "0 . 1> !");
    }

    #[test]
    fn turns_are_read_as_they_are_written() {
        let turns = Turns(vec![
            Turn::Step(0),
            Turn::Pass,
            Turn::Crash(12),
            Turn::LoseCall(3),
            Turn::LoseReply(4),
            Turn::ServerCrash,
        ]);
        let text = String::from(turns.clone());
        assert_eq!(text, "0 . 12! 3< 4> !");
        assert_eq!(Turns::try_from(text), Ok(turns));
        assert_eq!(Turns::try_from("x!".to_owned()), Err("\"x!\" is no turn (3, 3!, 3<, 3>, . or !)".to_owned()));
    }
}
