//! What one process has seen, written as it happens: a file of JSON lines, and what can be told from a torn one.
//!
//! A call is in the file before it is sent. So a process may be killed at any time: what it was told and did not write down,
//! nobody was told. A torn last line is dropped.

use super::clock::Epoch;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use tourbillon_models::history::{PlainHappening, PlainOp, PlainRecord};
use tourbillon_models::name::{Key, Micros, Process, Session, Xid};
use tourbillon_models::op::Op;
use tourbillon_models::record::{Happening, Note};
use tourbillon_models::reply::Reply;

/// One line.
#[derive(Serialize, Deserialize)]
pub enum Line {
    /// Nanoseconds since the round began; the mark that a call leaves, if it leaves one; the record, whose session is the number
    /// of the process's connection.
    #[serde(rename = "r")]
    Record(u64, Option<u64>, PlainRecord),
    /// This process calls that workflow so.
    #[serde(rename = "w")]
    Workflow(u32, String),
}

/// Which incarnation of which process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Life {
    pub process: Process,
    pub incarnation: u8,
}

pub struct Journal {
    file: File,
    pending: Vec<u8>,
    epoch: Epoch,
    life: Life,
}

impl Journal {
    pub fn create(path: &Path, epoch: Epoch, life: Life) -> io::Result<Journal> {
        let file = OpenOptions::new().create_new(true).append(true).open(path)?;
        Ok(Journal { file, pending: Vec::new(), epoch, life })
    }

    /// What happened now, in a connection of this process.
    pub fn record(&mut self, connection: u16, xid: Xid, what: PlainHappening, mark: Option<u64>) {
        self.record_of(self.life, connection, xid, what, mark);
    }

    /// What happened to another process, which cannot tell.
    pub fn record_of(&mut self, life: Life, connection: u16, xid: Xid, what: PlainHappening, mark: Option<u64>) {
        let ns = self.epoch.elapsed_ns();
        let Life { process, incarnation } = life;
        let at = Micros(ns / 1_000);
        let record = PlainRecord { at, process, incarnation, session: Session(connection), xid, what };
        self.line(&Line::Record(ns, mark, record));
    }

    pub fn workflow(&mut self, number: u32, uuid: u128) {
        self.line(&Line::Workflow(number, format!("{uuid:032x}")));
    }

    fn line(&mut self, line: &Line) {
        serde_json::to_writer(&mut self.pending, line).expect("a record has no maps with keys that are not strings");
        self.pending.push(b'\n');
    }

    /// From here on it outlives the process.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.pending)?;
        self.pending.clear();
        Ok(())
    }
}

/// The lines of a journal, from its first on; a torn last one is none.
pub fn lines(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Line>> + use<>> {
    let mut reader = BufReader::with_capacity(1 << 18, File::open(path)?);
    let mut text = Vec::new();
    Ok(std::iter::from_fn(move || {
        text.clear();
        match reader.read_until(b'\n', &mut text) {
            Ok(_) if text.last() != Some(&b'\n') => None,
            Ok(_) => Some(serde_json::from_slice(&text).map_err(io::Error::other)),
            Err(error) => Some(Err(error)),
        }
    }))
}

/// What a process was at, as far as its journal goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    pub connection: u16,
    pub xid: Xid,
    in_transaction: bool,
    /// By which its transaction, or the call under way, is known if it committed.
    mark: Option<u64>,
    /// The levels of its savepoints, and how many there were when the mark was left.
    savepoints: Vec<u8>,
    savepoints_before_mark: usize,
    is_calling: bool,
    /// What it started last, or tried to.
    pub last_key: Option<Key>,
}

impl Standing {
    pub const NEW: Standing = Standing {
        connection: 0,
        xid: Xid(0),
        in_transaction: false,
        mark: None,
        savepoints: Vec::new(),
        savepoints_before_mark: 0,
        is_calling: false,
        last_key: None,
    };

    pub fn take(&mut self, record: &PlainRecord, mark: Option<u64>) {
        match &record.what {
            Happening::Call(op) => {
                if record.session.0 != self.connection {
                    *self = Standing { connection: record.session.0, last_key: self.last_key, ..Standing::NEW };
                }
                self.is_calling = true;
                if !self.in_transaction {
                    (self.mark, self.xid) = (None, Xid(0));
                }
                if self.mark.is_none() && mark.is_some() {
                    (self.mark, self.savepoints_before_mark) = (mark, self.savepoints.len());
                }
                match op {
                    Op::Begin { .. } => {
                        self.in_transaction = true;
                        self.savepoints.clear();
                    }
                    Op::Commit | Op::Rollback => self.in_transaction = false,
                    Op::Savepoint { level } => self.savepoints.push(*level),
                    Op::RollbackTo { level } => self.roll_back_to(*level),
                    Op::Start { key, .. } => self.last_key = Some(*key),
                    _ => {}
                }
            }
            Happening::Return(Reply::Unknown) | Happening::Note(Note::Resolved { .. }) => self.forget(),
            Happening::Return(_) => {
                self.is_calling = false;
                if record.xid != Xid(0) {
                    self.xid = record.xid;
                }
            }
            _ => {}
        }
    }

    /// A mark that was left since that savepoint is gone.
    fn roll_back_to(&mut self, level: u8) {
        let Some(place) = self.savepoints.iter().rposition(|other| *other == level) else { return };
        self.savepoints.truncate(place + 1);
        if self.savepoints_before_mark > place {
            self.mark = None;
        }
    }

    /// Whatever it had begun is over.
    pub fn forget(&mut self) {
        *self = Standing { connection: self.connection, last_key: self.last_key, ..Standing::NEW };
    }

    /// Whether there is something to be found out if the process ends here.
    pub const fn is_open(&self) -> bool {
        self.is_calling || self.in_transaction
    }

    pub const fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    pub const fn mark(&self) -> Option<u64> {
        self.mark
    }
}

/// Where a process that is gone stood, and the call that it waited for.
pub fn standing(path: &Path) -> io::Result<(Standing, Option<PlainOp>)> {
    let (mut standing, mut called) = (Standing::NEW, None);
    for line in lines(path)? {
        let Line::Record(_, mark, record) = line? else { continue };
        standing.take(&record, mark);
        match record.what {
            Happening::Call(op) => called = Some(op),
            Happening::Return(_) => called = None,
            _ => {}
        }
    }
    Ok((standing, called))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tourbillon_models::op::Isolation;

    fn standing(calls: &[(PlainOp, Option<u64>)]) -> Standing {
        let mut standing = Standing::NEW;
        for (op, mark) in calls {
            let record = |what| PlainRecord {
                at: Micros(0),
                process: Process(1),
                incarnation: 0,
                session: Session(1),
                xid: Xid(0),
                what,
            };
            standing.take(&record(Happening::Call(op.clone())), *mark);
            standing.take(&record(Happening::Return(Reply::Done)), None);
        }
        standing
    }

    const BEGIN: PlainOp = Op::Begin { isolation: Isolation::ReadCommitted };

    /// Otherwise a transaction that committed would be known by a row that was taken back.
    #[test]
    fn a_mark_goes_with_the_savepoint_before_it() {
        let (set, back) = (|level| (Op::Savepoint { level }, None), |level| (Op::RollbackTo { level }, None));
        let left = |mark| (Op::Tick { queue: crate::generate::QUEUE }, Some(mark));
        let mark = |calls: &[_]| standing(&[&[(BEGIN, None)], calls].concat()).mark();
        assert_eq!(mark(&[left(1), set(1), left(2), back(1)]), Some(1));
        assert_eq!(mark(&[set(1), left(2), back(1)]), None);
        assert_eq!(mark(&[set(1), left(2), back(1), left(3)]), Some(3));
        assert_eq!(mark(&[set(1), left(2), set(2), back(2)]), Some(2));
        assert_eq!(mark(&[set(1), set(2), left(2), back(1)]), None);
        assert_eq!(mark(&[set(1), left(2), set(1), back(1)]), Some(2));
        assert_eq!(mark(&[set(1), back(1), left(4), back(1)]), None);
    }
}
