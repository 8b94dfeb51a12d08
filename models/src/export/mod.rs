//! A history as Jepsen and Elle read it: a second opinion from outside.
//!
//! EDN, one operation map a line: `:index`, `:time` in nanoseconds, `:process`, `:type`, `:f`, `:value`. What committed is
//! `:ok`, what aborted `:fail`, and what nobody told, or only in part, `:info`. A process is a session: it makes one call at
//! a time, and is never heard of after an `:info`.
//!
//! [`Format::Elle`] is a history of transactions for Elle's list-append checker, over two kinds of lists:
//!
//! - `:effects/f7`, the effects of a workflow: a transaction that writes one appends its step's sequence, and the state at
//!   the end is one last transaction that reads them all.
//! - `:steps/f7`, the continuations of a workflow: a start appends its first event; a handoff has read the list as far as
//!   the event that it was given, and appends what follows, or, at the end, that event's number below zero.
//!
//! *What a verdict means.* A list-append history without anomalies says that steps are taken as if one after the other, each
//! from the last one's end (W3, W1 in part), that no effect of what aborted is there (D2), and none of what committed is
//! missing (D1, W5). Two successors of one step are reads of one list that cannot both be prefixes of it
//! (`:incompatible-order`, or a lost update); a lost effect is missing from a read that came later in real time; a doubled
//! one is an element twice (`:duplicate-elements`, where Elle has not already refused a history that appends one element
//! twice). It says nothing about windows, tokens, time, or anything that is not a row or a successor.
//!
//! [`Format::Jepsen`] is a history of `:enqueue`, `:dequeue` and `:drain` for Jepsen's `total-queue`: an event, once for each
//! subscription of its queue, as `[:c0 5]`. Enqueued is what was appended, fired or resumed, dequeued what was acknowledged
//! or became a dead letter, drained what lies in a table at the end without an end of its own.
//!
//! *What a verdict means.* Valid is: no event that committed is lost (Q1, Q5), none that did not is acknowledged (D2), and none is
//! acknowledged that nobody appended (Q2). `:duplicated` are those acknowledged twice (Q3), which `total-queue` counts and
//! does not call invalid.

mod edn;
mod elle;
mod jepsen;

use crate::brute::act::{Act, Fate};
use crate::brute::facts::Facts;
use crate::history::History;
use crate::name::{Micros, Session};
use alloc::string::String;
use alloc::vec::Vec;
use edn::{Line, Type};

/// For whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Elle,
    Jepsen,
}

impl Format {
    pub const ALL: [Format; 2] = [Format::Elle, Format::Jepsen];

    pub const fn name(self) -> &'static str {
        match self {
            Format::Elle => "elle",
            Format::Jepsen => "jepsen",
        }
    }
}

/// The lines of the export. Cost: as of [`brute`](crate::brute), so for a history of some thousand records seconds.
pub fn lines(history: &History, format: Format) -> Vec<String> {
    let facts = Facts::of(history);
    let mut lines = match format {
        Format::Elle => elle::lines(&facts),
        Format::Jepsen => jepsen::lines(&facts),
    };
    lines.sort_by_key(|line| line.place);
    lines.iter().zip(0usize..).map(|(line, index)| line.text(index)).collect()
}

/// The two lines of one operation.
fn pair(facts: &Facts<'_>, act: &Act, order: u32, name: &'static str, (asked, told): (String, String)) -> [Line; 2] {
    // Of what was neither answered nor resolved, nobody knows when it was over.
    let end = if act.commit < u32::MAX { act.commit } else { act.record() };
    let answer = match act.fate {
        Fate::Committed if act.reply.is_some() => Type::Ok,
        Fate::Committed | Fate::Unknown => Type::Info,
        Fate::Undone | Fate::Lost => Type::Fail,
    };
    let line = |record: u32, step: u32, answer: Type, value: String| Line {
        place: (record, order, step),
        time: facts.account.at(record),
        process: act.session,
        answer,
        name,
        value,
    };
    let value = if answer == Type::Ok { told } else { asked.clone() };
    // What a session does at one record it does one after the other.
    let begun = if order == 0 { act.begun } else { end };
    [line(begun, 0, Type::Invoke, asked), line(end, 1, answer, value)]
}

/// After everything else, in a session of its own.
fn last(facts: &Facts<'_>, name: &'static str, (asked, told): (String, String)) -> [Line; 2] {
    let records = &facts.account.history.records;
    let time = records.last().map_or(Micros(0), |record| record.at);
    let process = Session(records.iter().map(|record| record.session.0).max().map_or(0, |last| last.saturating_add(1)));
    let line = |step: u32, answer: Type, value: String| {
        let place = (u32::MAX, u32::MAX, step);
        Line { place, time, process, answer, name, value }
    };
    [line(0, Type::Invoke, asked), line(1, Type::Ok, told)]
}
