//! A process of a run: its actor, its session, and what is to befall it.

use super::faults::Blow;
use crate::clock::Clock;
use crate::plan::{CallKind, Phase};
use crate::random::Stream;
use tourbillon_engine::actors::script::Script;
use tourbillon_engine::actors::worker::Worker;
use tourbillon_engine::actors::{Action, Actor, Answered};
use tourbillon_engine::store::locks::Slot;
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::{Key, Micros, Session, WorkflowId, Xid};
use tourbillon_models::reply::Reply;

pub(crate) enum AnyActor {
    Worker(Box<Worker>),
    Script(Script),
}

impl AnyActor {
    /// Of a workflow that somebody has started.
    pub(crate) const fn hear_of(&mut self, workflow: WorkflowId) {
        if let AnyActor::Script(script) = self {
            script.hear_of(workflow);
        }
    }

    pub(crate) fn poll(&mut self, now: Micros, answered: Option<&mut Answered>) -> Action {
        match self {
            AnyActor::Worker(worker) => worker.poll(now, answered),
            AnyActor::Script(script) => script.poll(now, answered),
        }
    }

    pub(crate) fn restart(&mut self, now: Micros) {
        match self {
            AnyActor::Worker(worker) => worker.restart(now),
            AnyActor::Script(script) => script.restart(now),
        }
    }
}

/// A planned fault at a point, and how many calls of its kind are still to come before it.
pub(crate) struct Point {
    pub(crate) call: CallKind,
    pub(crate) left: u32,
    /// Calls before this time are not among them.
    pub(crate) from: Micros,
    pub(crate) phase: Phase,
    pub(crate) blow: Blow,
}

pub(crate) struct Running {
    pub(crate) actor: AnyActor,
    pub(crate) incarnation: u8,
    pub(crate) connection: Option<(Slot, Session)>,
    /// The session of the last call that could not even be made.
    pub(crate) refused_session: Session,
    /// The session was lost while the process was not looking: its next call fails.
    pub(crate) lost: bool,
    pub(crate) ticket: u32,
    /// What the next poll is told, if it has not been told yet. Replies are written here and nowhere else.
    pub(crate) answered: Answered,
    pub(crate) is_answered: bool,
    /// A call that a pause holds back.
    pub(crate) held: Option<PlainOp>,
    /// In a directed run: the call that it makes when its turn comes.
    pub(crate) pending: Option<PlainOp>,
    pub(crate) paused_until: Micros,
    /// Under this key it is starting a workflow.
    pub(crate) starting: Option<Key>,
    /// Waits for a lock.
    pub(crate) blocked: bool,
    /// When the wait gives up.
    pub(crate) lock_deadline: Option<Micros>,
    pub(crate) finished: bool,
    pub(crate) points: Vec<Point>,
    /// The fault that falls when the call under way is answered.
    pub(crate) after: Option<Blow>,
    pub(crate) latency: Stream,
    pub(crate) clock: Clock,
}

impl Running {
    pub(crate) fn new(actor: AnyActor, latency: Stream, clock: Clock) -> Self {
        Running {
            actor,
            incarnation: 0,
            connection: None,
            refused_session: Session(0),
            lost: false,
            ticket: 0,
            answered: Answered { reply: Reply::Done, xid: Xid(0) },
            is_answered: false,
            held: None,
            pending: None,
            paused_until: Micros(0),
            starting: None,
            blocked: false,
            lock_deadline: None,
            finished: false,
            points: Vec::new(),
            after: None,
            latency,
            clock,
        }
    }

    /// The fault that falls at this call, if one does. Every point counts the calls of its own kind.
    pub(crate) fn due_point(&mut self, op: &PlainOp, now: Micros) -> Option<(Phase, Blow)> {
        let mut due = None;
        self.points.retain_mut(|point| {
            let is_other = point.phase == Phase::Waiting || now < point.from;
            if is_other || !point.call.matches(op) {
                return true;
            }
            if point.left > 0 || due.is_some() {
                point.left = point.left.saturating_sub(1);
                return true;
            }
            due = Some((point.phase, point.blow));
            false
        });
        due
    }

    /// The fault that falls as this call waits, if one does.
    pub(crate) fn due_wait(&mut self, op: &PlainOp, now: Micros) -> Option<Blow> {
        let is_due = |point: &Point| point.phase == Phase::Waiting && now >= point.from && point.call.matches(op);
        let point = self.points.iter_mut().find(|point| is_due(point))?;
        if point.left > 0 {
            point.left -= 1;
            return None;
        }
        let blow = point.blow;
        let place = self.points.iter().position(is_due)?;
        self.points.remove(place);
        Some(blow)
    }
}
