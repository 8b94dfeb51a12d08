//! A schedule: which session does what, in which order, as data with a text form.
//!
//! It is complete before it runs, and says nothing of replies. A line that does not apply when its turn comes (its
//! session waits, or is not in a transaction) is passed over, so any part of a schedule is a schedule: that is what
//! shrinking needs.
//!
//! ```text
//! s1: begin
//! s1: update cells set v = v + 1 where id = 1
//! s2: update cells set v = v + 1 where id = 1
//! s3: delete from cells where id = 1
//! s1: commit -- then 1
//! ```
//!
//! `then 1` says who goes on first where a step lets several waiters go: see [`Line::then`].

use std::fmt;

use super::statement::Statement;

pub type SessionIndex = usize;

/// At most so many sessions.
pub const SESSIONS: usize = 4;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schedule {
    pub lines: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    pub step: Step,
    /// Decides who goes on first among those that this step lets go, and those that they let go: of n sessions the
    /// (then mod n)-th, and so on with then / n.
    pub then: u32,
}

/// One thing that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Statement(SessionIndex, Statement),
    /// A wait for a lock has lasted for the session's `lock_timeout`.
    TimesOut(SessionIndex),
    /// The session's backend is terminated; its client comes back with a new one.
    Dies(SessionIndex),
    /// All processes are killed; all clients come back.
    ServerDies,
    /// A look from outside: which sessions have a transaction id, in the order of the ids.
    Xids,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.step.fmt(f)?;
        if self.then == 0 { Ok(()) } else { write!(f, " -- then {}", self.then) }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Statement(session, statement) => write!(f, "s{}: {statement}", session + 1),
            Step::TimesOut(session) => write!(f, "s{} times out", session + 1),
            Step::Dies(session) => write!(f, "s{} dies", session + 1),
            Step::ServerDies => f.write_str("the server dies"),
            Step::Xids => f.write_str("xids"),
        }
    }
}

impl Schedule {
    /// Reads the text form. Empty lines, and lines that begin with `#`, mean nothing.
    pub fn parse(text: &str) -> Result<Schedule, String> {
        let meaningful = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let lines: Result<Vec<Line>, String> = meaningful.map(parse_line).collect();
        Ok(Schedule { lines: lines? })
    }

    /// How many sessions it takes.
    pub fn session_count(&self) -> usize {
        self.lines.iter().filter_map(|line| line.step.session()).max().map_or(0, |last| last + 1)
    }
}

impl Step {
    pub fn session(self) -> Option<SessionIndex> {
        match self {
            Step::Statement(session, _) | Step::TimesOut(session) | Step::Dies(session) => Some(session),
            Step::ServerDies | Step::Xids => None,
        }
    }
}

fn parse_line(text: &str) -> Result<Line, String> {
    let (step, then) = text.split_once(" -- then ").unwrap_or((text, "0"));
    let then = then.parse().map_err(|_| format!("{text:?} does not end in a number"))?;
    let step = parse_step(step).ok_or_else(|| {
        format!(
            "{text:?} is none of \"s1: STATEMENT\", \"s1 times out\", \"s1 dies\", \"the server dies\" and \"xids\", \
             for sessions s1 to s{SESSIONS} and a statement of the alphabet"
        )
    })?;
    Ok(Line { step, then })
}

fn parse_step(text: &str) -> Option<Step> {
    match text {
        "the server dies" => return Some(Step::ServerDies),
        "xids" => return Some(Step::Xids),
        _ => {}
    }
    let rest = text.strip_prefix('s')?;
    let (number, rest) = rest.split_at_checked(1)?;
    let session = number.parse::<usize>().ok().filter(|number| (1..=SESSIONS).contains(number))? - 1;
    match rest {
        " times out" => Some(Step::TimesOut(session)),
        " dies" => Some(Step::Dies(session)),
        _ => Some(Step::Statement(session, Statement::named(rest.strip_prefix(": ")?)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_reads_back_as_it_is_written() {
        let statements = Statement::all().map(|statement| Step::Statement(3, statement));
        let others = [Step::TimesOut(0), Step::Dies(1), Step::ServerDies, Step::Xids];
        let lines =
            statements.chain(others).map(|step| Line { step, then: 0 }).chain([Line { step: Step::Xids, then: 5 }]);
        let schedule = Schedule { lines: lines.collect() };
        assert_eq!(Schedule::parse(&schedule.to_string()).unwrap(), schedule);
    }

    #[test]
    fn what_is_no_step_is_refused_with_what_would_be_one() {
        for text in ["s5: commit", "s1: select 1", "s1 lives", "commit", "s", "s1: commit -- then x"] {
            let error = Schedule::parse(text).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
