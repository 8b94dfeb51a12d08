//! What a run came to, without when and by whom: for each workflow the steps that it took, what each decided, and its end.
//!
//! Two runs of one plan, on whatever targets, come to the same if no program asks what time it is or who was faster; so
//! this is what targets can be compared by where their schedules differ. A workflow is called by the key that it was
//! started under, a child by its place among its parent's. Only what committed counts. What it is *not*: a verdict.

use crate::history::History;
use crate::name::{EventId, Key, Session, Step, WorkflowId, Xid};
use crate::op::{Op, Verb};
use crate::record::{Happening, Note, Span};
use crate::reply::{Event, Outcome, Reply};
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

/// The key, and then for a child its place among its siblings, for their children theirs.
pub type Label = (Key, Vec<u32>);

/// One step that a workflow took, and its decision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Taken {
    pub step: Step,
    pub state: u64,
    pub attempt: u16,
    pub verb: Verb,
    /// What follows.
    pub next: Step,
    /// What is passed on, or the result.
    pub passed: u64,
}

/// Every workflow that was started, with its steps in their order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcomes {
    pub workflows: BTreeMap<Label, Vec<Taken>>,
}

impl Outcomes {
    /// Of a history, in one pass. Where a reply that nobody heard is missing, what it would have told is missing here.
    pub fn of(history: &History) -> Outcomes {
        let mut reader = Reader { history, sessions: BTreeMap::new(), events: BTreeMap::new(), committed: Vec::new() };
        for record in &history.records {
            reader.read(record.session, record.xid, &record.what);
        }
        reader.outcomes()
    }

    /// Those that have come to their end.
    pub fn ended(&self) -> usize {
        let is_end = |taken: &Taken| matches!(taken.verb, Verb::Complete | Verb::Fail | Verb::Reject);
        self.workflows.values().filter(|steps| steps.last().is_some_and(is_end)).count()
    }
}

struct Reader<'a> {
    history: &'a History,
    sessions: BTreeMap<Session, Pending>,
    events: BTreeMap<EventId, Event>,
    committed: Vec<(Xid, Done)>,
}

/// What a session has under way.
#[derive(Default)]
struct Pending {
    call: Option<Op<Span>>,
    is_open: bool,
    done: Vec<Done>,
    savepoints: Vec<(u8, usize)>,
}

/// What counts once it is committed.
#[derive(Clone, Copy)]
enum Done {
    Started { key: Key, workflow: WorkflowId },
    HandedOff { decisions: Span, children: Span },
}

impl Reader<'_> {
    fn read(&mut self, session: Session, xid: Xid, what: &Happening<Span, Span, Span, Span>) {
        match what {
            Happening::Call(op) => self.sessions.entry(session).or_default().call = Some(*op),
            Happening::Return(reply) => {
                let call = self.sessions.entry(session).or_default().call.take();
                call.into_iter().for_each(|op| self.returned(session, xid, op, reply));
            }
            Happening::Note(Note::Resolved { outcome: Outcome::Committed }) => self.commit(session, xid),
            Happening::Note(Note::Resolved { outcome: Outcome::Aborted }) => {
                self.sessions.remove(&session);
                // A crash may take back what was acknowledged.
                self.committed.retain(|(other, _)| xid.0 == 0 || *other != xid);
            }
            _ => {}
        }
    }

    fn returned(&mut self, session: Session, xid: Xid, op: Op<Span>, reply: &Reply<Span, Span, Span>) {
        let pending = self.sessions.entry(session).or_default();
        let done = match (op, reply) {
            (Op::Begin { .. }, Reply::Done) => {
                *pending = Pending { is_open: true, ..Pending::default() };
                None
            }
            (Op::Commit, Reply::Committed) => return self.commit(session, xid),
            (Op::Commit | Op::Rollback, _) => {
                *pending = Pending::default();
                None
            }
            (Op::Savepoint { level }, Reply::Done) => {
                pending.savepoints.push((level, pending.done.len()));
                None
            }
            (Op::RollbackTo { level }, Reply::Done) => {
                if let Some((_, len)) = pending.savepoints.iter().rev().find(|(other, _)| *other == level) {
                    pending.done.truncate(*len);
                }
                None
            }
            (Op::Start { key, .. }, Reply::Started { workflow, event, .. }) if event.0 != 0 => {
                Some(Done::Started { key, workflow: *workflow })
            }
            (Op::Handoff { decisions, .. }, Reply::HandedOff { children, .. }) => {
                Some(Done::HandedOff { decisions, children: *children })
            }
            (_, Reply::Events(events) | Reply::HandedOut { events, .. }) => {
                let events = self.history.events(*events);
                self.events.extend(events.iter().map(|event| (event.id, *event)));
                None
            }
            _ => None,
        };
        let Some(done) = done else { return };
        match self.sessions.entry(session).or_default() {
            pending if pending.is_open => pending.done.push(done),
            _ => self.committed.push((xid, done)),
        }
    }

    fn commit(&mut self, session: Session, xid: Xid) {
        let pending = self.sessions.remove(&session).unwrap_or_default();
        self.committed.extend(pending.done.into_iter().map(|done| (xid, done)));
    }

    /// Names come first: a child may have been handed off before anybody heard of its start.
    fn outcomes(&self) -> Outcomes {
        let mut labels: BTreeMap<WorkflowId, Label> = BTreeMap::new();
        let mut steps: BTreeMap<WorkflowId, Vec<(u32, Taken)>> = BTreeMap::new();
        for (_, done) in &self.committed {
            match *done {
                Done::Started { key, workflow } => _ = labels.insert(workflow, (key, vec![])),
                Done::HandedOff { decisions, children } => {
                    self.handed_off(decisions, children, &mut labels, &mut steps);
                }
            }
        }
        let mut workflows = BTreeMap::new();
        for (workflow, label) in labels {
            let mut taken = steps.remove(&workflow).unwrap_or_default();
            taken.sort_unstable();
            workflows.insert(label, taken.into_iter().map(|(_, taken)| taken).collect());
        }
        Outcomes { workflows }
    }

    fn handed_off(
        &self,
        decisions: Span,
        children: Span,
        labels: &mut BTreeMap<WorkflowId, Label>,
        steps: &mut BTreeMap<WorkflowId, Vec<(u32, Taken)>>,
    ) {
        let mut children = self.history.ids(children).iter();
        let mut siblings: BTreeMap<EventId, u32> = BTreeMap::new();
        for decision in self.history.decisions(decisions) {
            let Some(event) = self.events.get(&decision.event) else { continue };
            if decision.verb == Verb::Child {
                let place = siblings.entry(decision.event).or_default();
                if let (Some(child), Some((key, path))) = (children.next(), labels.get(&event.workflow)) {
                    let path = path.iter().copied().chain([*place]).collect();
                    labels.insert(WorkflowId(*child), (*key, path));
                }
                *place += 1;
                continue;
            }
            let taken = Taken {
                step: event.step,
                state: event.state,
                attempt: event.attempt,
                verb: decision.verb,
                next: decision.step,
                passed: decision.state,
            };
            steps.entry(event.workflow).or_default().push((event.sequence, taken));
        }
    }
}
