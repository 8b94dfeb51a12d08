//! Ids that committed acts gave out: of an event, or of what will be one. And when it became one, and when it ended.
//!
//! A timer, a wait and a join are the event that they will be, under one id. So a *mint* is a continuation of its workflow
//! (or a message) from its birth to its end, whatever it is in between; it *appears* in the log once, as of the act that
//! appended it, fired it, or resumed it.

use super::act::{Account, Act};
use crate::name::{Consumer, EventId, Key, Micros, Queue, Step, WorkerId, WorkflowId, Xid};
use crate::op::{Decision, Op, Verb};
use crate::record::Span;
use crate::reply::{Arrival, EmitAnswer, Reply};
use crate::state::Parent;
use alloc::vec::Vec;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Event,
    /// Due after so long; the server may have said when.
    Timer(Micros, Option<Micros>),
    Wait,
    Join,
}

#[derive(Clone)]
pub(crate) struct Mint {
    pub(crate) id: EventId,
    pub(crate) act: Act,
    pub(crate) kind: Kind,
    pub(crate) queue: Option<Queue>,
    pub(crate) workflow: WorkflowId,
    /// None of a start, which does not say it.
    pub(crate) sequence: Option<u32>,
    pub(crate) step: Step,
    pub(crate) attempt: u16,
    pub(crate) state: u64,
    pub(crate) arrival: Arrival,
    /// The decision that it follows on.
    pub(crate) decision: Option<Decision>,
    /// Of a join: its children, and their first decisions.
    pub(crate) children: Vec<(WorkflowId, Decision)>,
    pub(crate) parent: Option<Parent>,
    pub(crate) key: Option<Key>,
    /// It begins a workflow.
    pub(crate) begins: bool,
}

/// A mint in the log.
#[derive(Clone, Copy)]
pub(crate) struct Appearance {
    pub(crate) id: EventId,
    pub(crate) act: Act,
    pub(crate) xid: Xid,
    pub(crate) queue: Option<Queue>,
    pub(crate) arrival: Arrival,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    /// By that decision, with what follows on it, if the reply says so.
    Decided(Verb, Option<EventId>),
    /// A hand-out, a drain or whoever ended its wait or join called it dead.
    Dead,
    Cancelled,
}

#[derive(Clone, Copy)]
pub(crate) struct Ending {
    pub(crate) id: EventId,
    pub(crate) act: Act,
    pub(crate) how: How,
    pub(crate) decision: Option<Decision>,
    /// For whom; none of a timer.
    pub(crate) consumer: Option<Consumer>,
}

impl Ending {
    /// Whether its workflow is over with it, and the event a dead letter.
    pub(crate) const fn is_dead(&self) -> bool {
        match self.how {
            How::Dead | How::Decided(Verb::Reject, _) => true,
            How::Decided(verb, Some(EventId(0))) => verb.continues(),
            How::Decided(..) | How::Cancelled => false,
        }
    }

    pub(crate) const fn ends_workflow(&self) -> bool {
        self.is_dead() || matches!(self.how, How::Decided(Verb::Complete | Verb::Fail, _))
    }
}

/// One decision with what the reply says about it.
pub(crate) struct Decided<'h> {
    pub(crate) decision: Decision,
    pub(crate) id: Option<EventId>,
    pub(crate) children: Vec<(&'h Decision, Option<EventId>, Option<WorkflowId>)>,
}

impl<'h> Account<'h> {
    /// What a handoff says, decision by decision, children with their spawn.
    pub(crate) fn decided(&self, act: &Act) -> Vec<Decided<'h>> {
        let Op::Handoff { decisions, .. } = act.op else { return Vec::new() };
        let (mut ids, mut started) = match act.reply {
            Some(Reply::HandedOff { appended, children, .. }) => {
                (self.history.ids(appended).iter(), self.history.ids(children).iter())
            }
            _ => ([].iter(), [].iter()),
        };
        let mut told: Vec<Decided<'h>> = Vec::new();
        for decision in self.history.decisions(decisions) {
            let id = if decision.verb.has_id() { ids.next().map(|id| EventId(*id)) } else { None };
            if decision.verb != Verb::Child {
                told.push(Decided { decision: *decision, id, children: Vec::new() });
                continue;
            }
            let workflow = started.next().map(|id| WorkflowId(*id));
            let spawn = told.last_mut().filter(|it| it.decision.event == decision.event);
            spawn.into_iter().for_each(|spawn| spawn.children.push((decision, id, workflow)));
        }
        told
    }

    pub(crate) fn consumer_of(&self, worker: WorkerId) -> Option<Consumer> {
        self.committed().find_map(|act| match (act.op, act.reply) {
            (Op::Register { consumer }, Some(Reply::Registered { worker: other })) if other == worker => Some(consumer),
            _ => None,
        })
    }

    pub(crate) fn queue_of(&self, consumer: Consumer) -> Option<Queue> {
        self.committed().find_map(|act| match act.op {
            Op::Subscribe { queue, consumer: other } if other == consumer => Some(queue),
            _ => None,
        })
    }

    /// The consumers of a queue, in the order in which they subscribed.
    pub(crate) fn consumers_of(&self, queue: Queue) -> Vec<Consumer> {
        let mut consumers = Vec::new();
        for act in self.committed() {
            if let Op::Subscribe { queue: other, consumer } = act.op
                && other == queue
                && !consumers.contains(&consumer)
            {
                consumers.push(consumer);
            }
        }
        consumers
    }

    /// All ids that committed acts minted, twins included.
    pub(crate) fn mints(&self) -> Vec<Mint> {
        let mut mints: Vec<Mint> = Vec::new();
        for act in self.acts.iter().filter(|act| act.is_committed()) {
            self.mints_of(act, &mut mints);
        }
        mints
    }

    pub(crate) fn mints_of(&self, act: &Act, mints: &mut Vec<Mint>) {
        let plain = |id: EventId, kind: Kind, queue: Option<Queue>, state: u64| Mint {
            id,
            act: *act,
            kind,
            queue,
            workflow: WorkflowId(0),
            sequence: Some(0),
            step: Step(0),
            attempt: 1,
            state,
            arrival: Arrival::Direct,
            decision: None,
            children: Vec::new(),
            parent: None,
            key: None,
            begins: false,
        };
        match (act.op, act.reply) {
            (Op::Append { queue, payload }, Some(Reply::Appended { event, .. })) => {
                mints.push(plain(event, Kind::Event, Some(queue), payload));
            }
            (Op::Schedule { queue, payload, delay }, Some(Reply::Scheduled { event, due, .. })) => {
                mints.push(plain(event, Kind::Timer(delay, Some(due)), Some(queue), payload));
            }
            (Op::Start { queue, key, step, state }, Some(Reply::Started { workflow, event, .. })) if event.0 != 0 => {
                let (sequence, begins) = (None, true);
                let it = plain(event, Kind::Event, Some(queue), state);
                mints.push(Mint { workflow, sequence, step, begins, key: Some(key), ..it });
            }
            (Op::ReplayDeadLetter { consumer, event: dead }, Some(Reply::Replayed { workflow, event, .. })) => {
                let of = mints.iter().find(|it| it.id == dead).cloned();
                let queue = of.as_ref().and_then(|it| it.queue).or_else(|| self.queue_of(consumer));
                let it = plain(event, Kind::Event, queue, of.as_ref().map_or(0, |it| it.state));
                let (sequence, begins) = (Some(u32::from(workflow.0 != 0)), workflow.0 != 0);
                let (step, parent) = of.as_ref().map_or((Step(0), None), |it| (it.step, it.parent));
                let arrival = of.map_or(Arrival::Direct, |it| self.arrival_of(&it));
                mints.push(Mint { workflow, sequence, step, begins, parent, arrival, ..it });
            }
            (Op::Handoff { worker, .. }, Some(Reply::HandedOff { .. })) => {
                let own = self.consumer_of(worker).and_then(|consumer| self.queue_of(consumer));
                for Decided { decision, id, children } in self.decided(act) {
                    let Some(id) = id.filter(|id| id.0 != 0) else { continue };
                    let Decision { workflow, sequence, step, attempt, state, .. } = decision;
                    let of = mints.iter().find(|it| it.id == decision.event);
                    let (queue, parent) = (of.and_then(|it| it.queue).or(own), of.and_then(|it| it.parent));
                    let kind = match decision.verb {
                        Verb::Await => Kind::Wait,
                        Verb::Spawn => Kind::Join,
                        Verb::Sleep => Kind::Timer(decision.delay, None),
                        Verb::Retry if decision.delay.0 > 0 => Kind::Timer(decision.delay, None),
                        _ => Kind::Event,
                    };
                    let is_joined = kind == Kind::Join;
                    let arrival = match decision.verb {
                        Verb::Retry => decision.arrival,
                        _ if is_joined => Arrival::Joined { join: id },
                        _ => Arrival::Direct,
                    };
                    let own_children = children.iter().filter_map(|(child, _, id)| Some(((*id)?, **child)));
                    let own_children: Vec<_> = own_children.collect();
                    let it = plain(id, kind, queue, state);
                    let (sequence, decision) = (Some(sequence), Some(decision));
                    mints.push(Mint {
                        workflow,
                        sequence,
                        step,
                        attempt,
                        arrival,
                        decision,
                        parent,
                        children: own_children,
                        ..it
                    });
                    for ((child, event, workflow), index) in children.into_iter().zip(0u16..) {
                        let (Some(event), Some(workflow)) = (event, workflow) else { continue };
                        let it = plain(event, Kind::Event, queue, child.state);
                        let (sequence, step, parent) = (Some(1), child.step, Some(Parent { join: id, index }));
                        mints.push(Mint { workflow, sequence, step, parent, begins: true, ..it });
                    }
                }
            }
            _ => {}
        }
    }

    /// What its step is told, once it is in the log.
    pub(crate) fn arrival_of(&self, mint: &Mint) -> Arrival {
        if mint.kind != Kind::Wait {
            return mint.arrival;
        }
        self.appearances_of(mint).first().map_or(Arrival::Direct, |it| it.arrival)
    }

    /// Each time that something put it in the log.
    pub(crate) fn appearances_of(&self, mint: &Mint) -> Vec<Appearance> {
        let appearance = |act: &Act, arrival: Arrival| Appearance {
            id: mint.id,
            act: *act,
            xid: act.xid,
            queue: mint.queue,
            arrival,
        };
        if mint.kind == Kind::Event {
            return Vec::from([appearance(&mint.act, mint.arrival)]);
        }
        let mut appearances = Vec::new();
        for act in self.committed() {
            let has = |ids: Span| self.history.ids(ids).iter().filter(|id| **id == mint.id.0).count();
            let (count, arrival) = match (act.op, act.reply) {
                (Op::Drain { .. }, Some(Reply::Drained { fired, .. })) if matches!(mint.kind, Kind::Timer(..)) => {
                    (has(fired), mint.arrival)
                }
                (Op::Emit { payload, .. }, Some(Reply::Emitted { answer, repeated, event, .. }))
                    if mint.kind == Kind::Wait =>
                {
                    let is_it = answer == EmitAnswer::Resumed && !repeated && event == mint.id;
                    (usize::from(is_it), Arrival::Emitted { payload })
                }
                (Op::ExpireWaits { .. }, Some(Reply::Expired { resumed, .. })) if mint.kind == Kind::Wait => {
                    (has(resumed), Arrival::TimedOut)
                }
                (Op::Handoff { .. }, Some(Reply::HandedOff { resumed, .. })) if mint.kind == Kind::Wait => {
                    let payload = self.promise_taken(mint, act).map_or(u64::MAX, |(_, payload)| payload);
                    (has(resumed), Arrival::Emitted { payload })
                }
                (_, Some(reply)) if mint.kind == Kind::Join => match resumed_by(&reply) {
                    Some(resumed) => (has(resumed), mint.arrival),
                    None => (0, mint.arrival),
                },
                _ => (0, mint.arrival),
            };
            appearances.extend((0..count).map(|_| appearance(act, arrival)));
        }
        appearances
    }

    /// Everything that ended something: decisions, dead letters, cancellations.
    pub(crate) fn endings(&self) -> Vec<Ending> {
        let mut endings = Vec::new();
        for act in self.committed() {
            let consumer = match act.op {
                Op::Handoff { worker, .. } | Op::HandOut { worker, .. } => self.consumer_of(worker),
                _ => None,
            };
            for Decided { decision, id, .. } in self.decided(act) {
                let how = How::Decided(decision.verb, id);
                endings.push(Ending { id: decision.event, act: *act, how, decision: Some(decision), consumer });
            }
            let dead = match act.reply {
                Some(Reply::HandedOut { dead, .. } | Reply::Drained { dead, .. }) => dead,
                _ => Span::default(),
            };
            let undeliverable = match act.reply {
                Some(
                    Reply::HandedOut { undeliverable, .. }
                    | Reply::Drained { undeliverable, .. }
                    | Reply::HandedOff { undeliverable, .. }
                    | Reply::Expired { undeliverable, .. },
                ) => undeliverable,
                _ => Span::default(),
            };
            let how = How::Dead;
            for id in self.history.ids(dead) {
                endings.push(Ending { id: EventId(*id), act: *act, how, decision: None, consumer });
            }
            for id in self.history.ids(undeliverable) {
                endings.push(Ending { id: EventId(*id), act: *act, how, decision: None, consumer: None });
            }
            if let (Op::Cancel { event, .. }, Some(Reply::Cancelled)) = (act.op, act.reply) {
                endings.push(Ending { id: event, act: *act, how: How::Cancelled, decision: None, consumer: None });
            }
        }
        endings
    }
}

/// The joins (and, of handoffs and duties, waits) that a reply says to have gone on.
pub(crate) const fn resumed_by(reply: &Reply<Span, Span, Span>) -> Option<Span> {
    match *reply {
        Reply::HandedOff { resumed, .. }
        | Reply::HandedOut { resumed, .. }
        | Reply::Drained { resumed, .. }
        | Reply::Expired { resumed, .. } => Some(resumed),
        _ => None,
    }
}
