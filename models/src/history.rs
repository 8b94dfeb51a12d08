//! The history of one run: header, records, and the final state. In memory compact; as text, JSON Lines.
//!
//! Text and memory hold the same: `read(write(h)) == h`, byte for byte. The first line is the header, then one
//! record a line, then the state. A history that stops before its state line is cut off: judged for safety, unknown for the rest.

use crate::name::Micros;
use crate::op::{Decision, Op};
use crate::record::{Happening, Record, RecordOf, Span};
use crate::reply::{ChildResult, Event, Reply};
use crate::state::State;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// What a reader must know before the first record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Header {
    pub format: u32,
    pub seed: u64,
    pub workload: String,
    /// The step names of the workload's program; a [`Step`] is an index into them.
    pub steps: Vec<String>,
    /// What its workflows await; a [`Name`] is an index into them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// `direct`, `lockstep`, …
    pub target: String,
    /// The server's version, where there is one.
    pub server: Option<String>,
    /// Guards that were removed.
    pub without: Vec<String>,
    /// The names of the processes; a [`Process`](crate::name::Process) is an index into them.
    pub processes: Vec<String>,
    /// A lease without a heartbeat for so long may be taken over, and not before.
    pub dead_interval: Micros,
    /// After this time nothing is injected any more.
    pub faults_end: Micros,
    /// So long after `faults_end` everything must have finished.
    pub liveness_bound: Micros,
    /// How often rotation is tried; bounds storage.
    pub rotation_period: Micros,
    /// How often timers are drained; bounds how late they fire.
    #[serde(default)]
    pub drain_interval: Micros,
    /// Every option of the run, printed, in a fixed order.
    pub options: Vec<(String, String)>,
}

impl Header {
    /// What an option of the run was set to.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// A run, as it happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    pub header: Header,
    pub records: Vec<Record>,
    pub state: Option<State>,
    arenas: Arenas,
}

/// Where the lists lie that records name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Arenas {
    decisions: Vec<Decision>,
    events: Vec<Event>,
    ids: Vec<u32>,
    results: Vec<ChildResult>,
}

/// A record with its lists in it: the form in which it is written and read.
pub type PlainRecord = RecordOf<Vec<Decision>, Vec<Event>, Vec<u32>, Vec<ChildResult>>;
/// What a record with its lists in it says.
pub type PlainHappening = Happening<Vec<Decision>, Vec<Event>, Vec<u32>, Vec<ChildResult>>;
/// An operation with its lists in it: the form in which actors and targets exchange it.
pub type PlainOp = Op<Vec<Decision>>;
/// A reply with its lists in it: the form in which actors and targets exchange it.
pub type PlainReply = Reply<Vec<Event>, Vec<u32>, Vec<ChildResult>>;

fn span<T>(arena: &mut Vec<T>, items: &[T]) -> Span
where
    T: Copy,
{
    let start = arena.len() as u32;
    arena.extend_from_slice(items);
    Span { start, len: items.len() as u32 }
}

fn slice<T>(arena: &[T], span: Span) -> &[T] {
    &arena[span.start as usize..(span.start + span.len) as usize]
}

impl History {
    pub fn new(header: Header) -> Self {
        History { header, records: Vec::new(), state: None, arenas: Arenas::default() }
    }

    /// Empties the history for another run, and keeps the memory.
    pub fn restart(&mut self, header: Header) {
        self.header = header;
        self.records.clear();
        self.state = None;
        self.arenas.decisions.clear();
        self.arenas.events.clear();
        self.arenas.ids.clear();
        self.arenas.results.clear();
    }

    pub fn decisions(&self, span: Span) -> &[Decision] {
        slice(&self.arenas.decisions, span)
    }

    pub fn events(&self, span: Span) -> &[Event] {
        slice(&self.arenas.events, span)
    }

    pub fn ids(&self, span: Span) -> &[u32] {
        slice(&self.arenas.ids, span)
    }

    pub fn results(&self, span: Span) -> &[ChildResult] {
        slice(&self.arenas.results, span)
    }

    /// Appends one record whose lists this history keeps: see [`History::keep_op`].
    #[inline]
    pub fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Keeps an operation's list, for a record.
    #[inline]
    pub fn keep_op(&mut self, op: &PlainOp) -> Op<Span> {
        op.map(|items| span(&mut self.arenas.decisions, items))
    }

    /// Keeps a reply's lists, for a record.
    #[inline]
    pub fn keep_reply(&mut self, reply: &PlainReply) -> Reply<Span, Span, Span> {
        let Arenas { events, ids, results, .. } = &mut self.arenas;
        reply.map(|items| span(events, items), |items| span(ids, items), |items| span(results, items))
    }

    /// Appends one record with its lists in it.
    pub fn push_plain(&mut self, record: &PlainRecord) {
        let Arenas { decisions, events, ids, results } = &mut self.arenas;
        let record = record.map(
            |items| span(decisions, items),
            |items| span(events, items),
            |items| span(ids, items),
            |items| span(results, items),
        );
        self.records.push(record);
    }

    /// The record with its lists in it.
    pub fn plain(&self, record: &Record) -> PlainRecord {
        record.map(
            |span| self.decisions(*span).to_vec(),
            |span| self.events(*span).to_vec(),
            |span| self.ids(*span).to_vec(),
            |span| self.results(*span).to_vec(),
        )
    }

    /// Writes the history as JSON Lines, a line at a time.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let header = core::iter::once_with(|| to_json(&Line::Header(self.header.clone())));
        let records = self.records.iter().map(|record| to_json(&Line::Record(self.plain(record))));
        let state = self.state.iter().map(|state| to_json(&Line::State(state.clone())));
        header.chain(records).chain(state)
    }

    /// Reads JSON Lines. A line that is no record, or one after the state, is an error that names the line; an
    /// empty last line is nothing.
    pub fn read(text: &str) -> Result<History, ReadError> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (_, first) = lines.next().ok_or_else(|| ReadError::new(1, "the history is empty"))?;
        let mut history = History::new(read_header(first)?);
        for (index, line) in lines {
            if history.state.is_some() {
                return Err(ReadError::new(index + 1, "nothing may follow the state line"));
            }
            match serde_json::from_str::<Line>(line) {
                Ok(Line::Record(record)) => history.push_plain(&record),
                Ok(Line::State(state)) => history.state = Some(state),
                Ok(Line::Header(_)) => return Err(ReadError::new(index + 1, "a second header")),
                Err(error) => return Err(ReadError::new(index + 1, &format!("{error}"))),
            }
        }
        Ok(history)
    }

    /// The hash of the text form, without the header's target and server: two targets that agree have one hash.
    pub fn hash(&self) -> u64 {
        let mut hasher = Xxh3::new();
        let mut header = self.header.clone();
        header.target = String::new();
        header.server = None;
        hasher.update(to_json(&Line::Header(header)).as_bytes());
        for line in self.lines().skip(1) {
            hasher.update(b"\n");
            hasher.update(line.as_bytes());
        }
        hasher.digest()
    }
}

/// Why a text is not a history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadError {
    /// Counted from 1.
    pub line: usize,
    pub reason: String,
}

impl ReadError {
    fn new(line: usize, reason: &str) -> Self {
        ReadError { line, reason: String::from(reason) }
    }
}

impl core::fmt::Display for ReadError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl core::error::Error for ReadError {}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Header(Header),
    State(State),
    #[serde(untagged)]
    Record(PlainRecord),
}

fn to_json(line: &Line) -> String {
    serde_json::to_string(line).expect("a history has no maps with keys that are not strings")
}

/// Reads the format's number before anything else, so that a newer history is refused as newer, not as malformed.
fn read_header(line: &str) -> Result<Header, ReadError> {
    let value: serde_json::Value =
        serde_json::from_str(line).map_err(|error| ReadError::new(1, &format!("{error}")))?;
    let header = value.get("header").ok_or_else(|| ReadError::new(1, "a history begins with its header"))?;
    let format = header.get("format").and_then(serde_json::Value::as_u64);
    if format.is_some_and(|format| format > u64::from(FORMAT)) {
        let found = format.unwrap_or_default();
        return Err(ReadError::new(
            1,
            &format!("format {found} is newer than {FORMAT}, the newest this version reads"),
        ));
    }
    serde_json::from_value(header.clone()).map_err(|error| ReadError::new(1, &format!("{error}")))
}
