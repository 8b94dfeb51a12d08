//! Edits of a history: the small lies that somebody's system, driver or file could tell.
//!
//! One edit changes a number in one record or row, takes a call out, repeats a call later, lets two change places, cuts the
//! end off, or hides an answer. What comes out is a history all the same: times do not fall, and each answer has its call.

use super::Bytes;
use serde_json::Value;
use tourbillon_models::history::{History, PlainRecord};
use tourbillon_models::name::Session;
use tourbillon_models::record::{Happening, Note};
use tourbillon_models::reply::Reply;
use tourbillon_models::state::State;

/// A history in pieces, to be edited.
#[derive(Clone)]
pub struct Draft {
    history: History,
    pub records: Vec<PlainRecord>,
    pub state: Option<State>,
}

impl Draft {
    pub fn of(history: &History) -> Draft {
        let records = history.records.iter().map(|record| history.plain(record)).collect();
        Draft { history: history.clone(), records, state: history.state.clone() }
    }

    /// The pieces as a history again.
    pub fn history(&self) -> History {
        let mut history = History::new(self.history.header.clone());
        self.records.iter().for_each(|record| history.push_plain(record));
        history.state = self.state.clone();
        history
    }

    /// Where the answer to a call stands.
    pub fn answer(&self, call: usize) -> Option<usize> {
        let session = self.records[call].session;
        let later = self.records.iter().enumerate().skip(call + 1).filter(|(_, it)| it.session == session);
        let mut said = later.filter(|(_, it)| matches!(it.what, Happening::Call(_) | Happening::Return(_)));
        said.next().filter(|(_, it)| matches!(it.what, Happening::Return(_))).map(|(place, _)| place)
    }

    /// Whether a transaction is open in the session of this record when it comes.
    pub fn is_in_transaction(&self, place: usize) -> bool {
        use tourbillon_models::op::Op;
        let session = self.records[place].session;
        let mut is_open = false;
        let mut asked = None;
        for record in self.records[..place].iter().filter(|it| it.session == session) {
            match &record.what {
                Happening::Call(op) => asked = Some(op),
                Happening::Return(reply) => {
                    is_open = match asked {
                        Some(Op::Begin { .. }) => is_open || !matches!(reply, Reply::Refused(_)),
                        Some(Op::Commit | Op::Rollback) => false,
                        _ => is_open,
                    }
                }
                _ => {}
            }
        }
        is_open
    }

    /// Takes a call and its answer out.
    pub fn lose(&mut self, call: usize) {
        if let Some(answer) = self.answer(call) {
            self.records.remove(answer);
        }
        self.records.remove(call);
    }

    /// Says the same call and answer once more, in a session of its own, at another record.
    pub fn repeat(&mut self, call: usize, at: usize) {
        let Some(answer) = self.answer(call) else { return };
        let at = at.clamp(answer + 1, self.records.len());
        let session = self.spare_session();
        let time = self.records[at - 1].at;
        let copies = [call, answer].map(|place| PlainRecord { session, at: time, ..self.records[place].clone() });
        self.records.splice(at..at, copies);
    }

    /// Nobody is told the answer: the session dies, and what it says later it says in another.
    pub fn hide(&mut self, answer: usize) {
        let (session, spare) = (self.records[answer].session, self.spare_session());
        self.records[answer].what = Happening::Return(Reply::Unknown);
        let later = self.records.iter_mut().skip(answer + 1).filter(|record| record.session == session);
        later.for_each(|record| record.session = spare);
        // Nor does a note say it.
        let is_note = |record: &PlainRecord| matches!(record.what, Happening::Note(Note::Resolved { .. }));
        let mut place = 0;
        self.records.retain(|record| {
            place += 1;
            place <= answer + 1 || record.session != spare || !is_note(record)
        });
    }

    pub fn spare_session(&self) -> Session {
        Session(self.records.iter().map(|record| record.session.0).max().unwrap_or(0).saturating_add(1))
    }

    /// Changes the n-th number of what a record says; nothing if it would not be a record any more.
    fn change(&mut self, place: usize, leaf: usize, by: u64) {
        let mut value = serde_json::to_value(&self.records[place].what).expect("a record has a text form");
        change_number(&mut value, leaf, by);
        if let Ok(what) = serde_json::from_value(value) {
            self.records[place].what = what;
        }
    }

    fn change_row(&mut self, leaf: usize, by: u64) {
        let Some(state) = &self.state else { return };
        let mut value = serde_json::to_value(state).expect("a state has a text form");
        change_number(&mut value, leaf, by);
        if let Ok(state) = serde_json::from_value(value) {
            self.state = Some(state);
        }
    }

    /// One edit.
    pub fn edit(&mut self, bytes: &mut Bytes<'_>) {
        let (kind, place) = (bytes.byte() % 16, bytes.below(self.records.len()));
        if self.records.is_empty() {
            return;
        }
        let is_call = |record: &PlainRecord| matches!(record.what, Happening::Call(_));
        let is_answer = |record: &PlainRecord| matches!(record.what, Happening::Return(_));
        match kind {
            0..6 if is_answer(&self.records[place]) || kind < 2 => {
                let (leaf, by) = (bytes.byte().into(), bytes.number());
                self.change(place, leaf, by);
            }
            6 | 7 if is_call(&self.records[place]) => self.lose(place),
            8 if is_call(&self.records[place]) && !self.is_in_transaction(place) => {
                let at = bytes.below(self.records.len() + 1);
                self.repeat(place, at);
            }
            9 if place > 0 && self.records[place - 1].session != self.records[place].session => {
                let (one, other) = (self.records[place - 1].at, self.records[place].at);
                self.records.swap(place - 1, place);
                (self.records[place - 1].at, self.records[place].at) = (one, other);
            }
            10 => {
                self.records.truncate(place);
                self.state = None;
            }
            11 | 12 if is_answer(&self.records[place]) => self.hide(place),
            _ => {
                let (leaf, by) = (bytes.pair().into(), bytes.number());
                self.change_row(leaf, by);
            }
        }
    }
}

/// The n-th number of a value, counted as they are written, goes up, or becomes a small one.
fn change_number(value: &mut Value, leaf: usize, by: u64) {
    let mut numbers = Vec::new();
    collect(value, &mut numbers);
    let count = numbers.len().max(1);
    let Some(number) = numbers.into_iter().nth(leaf % count) else { return };
    let was = number.as_u64().unwrap_or(0);
    *number = match by % 3 {
        0 => was.wrapping_add(1 + by / 3).into(),
        1 => was.saturating_sub(1 + by / 3).into(),
        _ => (by / 3).into(),
    };
}

fn collect<'v>(value: &'v mut Value, numbers: &mut Vec<&'v mut Value>) {
    match value {
        Value::Number(_) => numbers.push(value),
        Value::Array(items) => items.iter_mut().for_each(|item| collect(item, numbers)),
        Value::Object(fields) => fields.values_mut().for_each(|item| collect(item, numbers)),
        _ => {}
    }
}
