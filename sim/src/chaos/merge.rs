//! The journals of a round as one history.
//!
//! All were written by one clock, so their order by time is the order in which calls were made and answers heard. Between a
//! call and its answer lies what the server did, at a time that nobody here knows: the checker is told both ends and
//! nothing else. Workflows get numbers that all agree on, sessions numbers of their own, and transactions are counted
//! from the round's first.

use super::clock::Epoch;
use super::journal::{Line, lines};
use anyhow::{Context, Result, ensure};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::path::{Path, PathBuf};
use tourbillon_engine::sql::ids::Ids;
use tourbillon_models::history::{History, PlainHappening, PlainOp, PlainRecord, PlainReply};
use tourbillon_models::name::{Session, WorkflowId, Xid};
use tourbillon_models::op::Op;
use tourbillon_models::record::{Fault, Happening, Note};
use tourbillon_models::reply::{Event, Outcome, Reply};
use tourbillon_models::state::State;

/// What the ids in journals, and on the server, stand for.
#[derive(Clone)]
pub struct Names {
    pub epoch: Epoch,
    /// Those up to here are older than the round.
    pub first_xid: u32,
    pub ids: Ids,
}

struct Journal {
    path: PathBuf,
    lines: Box<dyn Iterator<Item = std::io::Result<Line>>>,
    /// What the process calls a workflow, by its number there.
    workflows: Vec<WorkflowId>,
}

impl Journal {
    fn open(path: &Path) -> Result<Journal> {
        let lines = lines(path).with_context(|| format!("the history {} cannot be read", path.display()))?;
        Ok(Journal { path: path.to_owned(), lines: Box::new(lines), workflows: vec![WorkflowId(0)] })
    }

    fn next(&mut self, names: &mut Names) -> Result<Option<(u64, PlainRecord)>> {
        for line in self.lines.by_ref() {
            let line = line.with_context(|| format!("the history {} cannot be read", self.path.display()))?;
            match line {
                Line::Record(ns, _, record) => return Ok(Some((ns, record))),
                Line::Workflow(number, uuid) => {
                    ensure!(
                        number as usize == self.workflows.len(),
                        "{} names no workflow {number}",
                        self.path.display()
                    );
                    let uuid = u128::from_str_radix(&uuid, 16).context("a workflow's id is no uuid")?;
                    self.workflows.push(names.ids.workflow(uuid));
                }
            }
        }
        Ok(None)
    }
}

/// Adds all records to the history, in the order of their times.
///
/// # Panics
/// If a journal names a workflow before it says which that is.
pub fn merge(paths: &[PathBuf], names: &mut Names, history: &mut History) -> Result<()> {
    let mut journals = paths.iter().map(|path| Journal::open(path)).collect::<Result<Vec<_>>>()?;
    let mut sessions: HashMap<(u8, u8, u16), Session> = HashMap::new();
    let mut numbers = Numbers::default();
    let mut heads: Vec<Option<PlainRecord>> = journals.iter().map(|_| None).collect();
    let mut order = BinaryHeap::new();
    for index in 0..journals.len() {
        if let Some((ns, record)) = journals[index].next(names)? {
            heads[index] = Some(record);
            order.push(Reverse((ns, index)));
        }
    }
    while let Some(Reverse((_, index))) = order.pop() {
        let mut record = heads[index].take().expect("its time is in the queue");
        // The line that names what an answer showed comes before it.
        rename(&mut record, &journals[index].workflows, names);
        let next = u16::try_from(sessions.len() + 1).context("a round has had more than 65,535 connections")?;
        let own = (record.process.0, record.incarnation, record.session.0);
        record.session = match own.2 {
            0 => Session(0),
            _ => *sessions.entry(own).or_insert(Session(next)),
        };
        numbers.look(&mut record);
        history.push_plain(&record);
        if let Some((ns, record)) = journals[index].next(names)? {
            heads[index] = Some(record);
            order.push(Reverse((ns, index)));
        }
    }
    Ok(())
}

/// Numbers of transactions, which a server that was killed gives again.
#[derive(Default)]
struct Numbers {
    restarts: u32,
    /// By session: before how many restarts its transaction was begun.
    begun: HashMap<Session, u32>,
}

impl Numbers {
    /// The end of a transaction that the server did not live to see is told without its number.
    fn look(&mut self, record: &mut PlainRecord) {
        match &record.what {
            Happening::Fault(Fault::ServerRestart) => self.restarts += 1,
            Happening::Call(Op::Begin { .. }) => _ = self.begun.insert(record.session, self.restarts),
            Happening::Note(Note::Resolved { outcome: Outcome::Aborted })
                if self.begun.get(&record.session).is_none_or(|begun| *begun < self.restarts) =>
            {
                record.xid = Xid(0);
            }
            _ => {}
        }
    }
}

fn rename(record: &mut PlainRecord, workflows: &[WorkflowId], names: &Names) {
    record.xid = names.xid(record.xid);
    match &mut record.what {
        PlainHappening::Call(op) => rename_op(op, workflows, names),
        Happening::Return(reply) => rename_reply(reply, workflows, names),
        _ => {}
    }
}

fn rename_op(op: &mut PlainOp, workflows: &[WorkflowId], names: &Names) {
    match op {
        Op::Emit { workflow, .. } | Op::Effect { workflow, .. } => *workflow = workflows[workflow.0 as usize],
        Op::Handoff { decisions, .. } => {
            decisions.iter_mut().for_each(|it| it.workflow = workflows[it.workflow.0 as usize]);
        }
        Op::Resolve { xid } => *xid = names.xid(*xid),
        _ => {}
    }
}

fn rename_reply(reply: &mut PlainReply, workflows: &[WorkflowId], names: &Names) {
    let event = |event: &mut Event| {
        event.workflow = workflows[event.workflow.0 as usize];
        event.xid = names.xid(event.xid);
    };
    match reply {
        Reply::Started { workflow, .. } | Reply::Replayed { workflow, .. } => {
            *workflow = workflows[workflow.0 as usize];
        }
        Reply::Events(events) | Reply::HandedOut { events, .. } => events.iter_mut().for_each(event),
        Reply::HandedOff { children, .. } => {
            children.iter_mut().for_each(|child| *child = workflows[*child as usize].0);
        }
        Reply::Ticked { at, snapshot, .. } => {
            *at = names.epoch.round_time(*at);
            snapshot.xmax = names.xid(snapshot.xmax);
            names.in_progress(&mut snapshot.in_progress);
        }
        Reply::Scheduled { due, .. } => *due = names.epoch.round_time(*due),
        _ => {}
    }
}

impl Names {
    fn xid(&self, xid: Xid) -> Xid {
        Xid(xid.0.saturating_sub(self.first_xid))
    }

    /// Others on this server may have been in progress since before the round.
    fn in_progress(&self, xids: &mut Vec<u32>) {
        xids.retain(|xid| *xid > self.first_xid);
        xids.iter_mut().for_each(|xid| *xid -= self.first_xid);
    }

    /// A state with the server's numbers, in those of the history.
    pub fn rename_state(&self, state: &mut State) {
        let time = |time: &mut _| *time = self.epoch.round_time(*time);
        for row in &mut state.ticks {
            time(&mut row.at);
            row.snapshot.xmax = self.xid(row.snapshot.xmax);
            self.in_progress(&mut row.snapshot.in_progress);
        }
        state.workers.iter_mut().for_each(|row| time(&mut row.heartbeat));
        state.events.iter_mut().for_each(|row| row.event.xid = self.xid(row.event.xid));
        state.ledger.iter_mut().for_each(|row| row.xid = self.xid(row.xid));
        for row in &mut state.timers {
            time(&mut row.due);
            row.event.xid = self.xid(row.event.xid);
        }
        for row in &mut state.drains {
            row.position.iter_mut().for_each(|(due, _)| time(due));
        }
        for row in &mut state.boxes {
            time(&mut row.since);
            if let tourbillon_models::state::BoxContent::Wait { deadline: Some(deadline), .. } = &mut row.content {
                time(deadline);
            }
        }
        state.joins.iter_mut().for_each(|row| time(&mut row.since));
        state.audit.iter_mut().for_each(|row| time(&mut row.at));
    }
}
