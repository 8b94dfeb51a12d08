//! What a sentence says about a record: found by looking through the history again.
//!
//! The pass keeps numbers, not stories; a story is needed only when something is wrong, and then a scan is cheap.
//! Nothing here judges.

use crate::history::History;
use crate::name::{EventId, Micros, Name, Queue, Step, Token, WorkerId, WorkflowId};
use crate::op::{Decision, Op, Verb};
use crate::record::{Happening, Record, Span};
use crate::reply::Reply;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A call and, if it came, its reply.
type Effect = (Op<Span>, Option<Reply<Span, Span, Span>>);

#[derive(Clone, Copy)]
pub(crate) struct Clue<'h>(pub(crate) &'h History);

impl<'h> Clue<'h> {
    pub(crate) fn record(self, index: u32) -> Option<&'h Record> {
        self.0.records.get(index as usize)
    }

    pub(crate) fn at(self, index: u32) -> Micros {
        self.record(index).map_or(Micros(0), |record| record.at)
    }

    pub(crate) fn process(self, index: u32) -> String {
        let Some(record) = self.record(index) else { return String::from("nobody") };
        match self.0.header.processes.get(record.process.0 as usize) {
            Some(name) => name.clone(),
            None => record.process.to_string(),
        }
    }

    /// The call that this return answers.
    pub(crate) fn call_of(self, index: u32) -> Option<u32> {
        let session = self.record(index)?.session;
        (0..index).rev().find(|earlier| {
            let record = &self.0.records[*earlier as usize];
            record.session == session && matches!(record.what, Happening::Call(_))
        })
    }

    /// The return that answers this call.
    pub(crate) fn return_of(self, index: u32) -> Option<u32> {
        let session = self.record(index)?.session;
        let later = self.0.records.get(index as usize + 1..)?;
        let distance = later
            .iter()
            .take_while(|record| record.session != session || !matches!(record.what, Happening::Call(_)))
            .position(|record| record.session == session && matches!(record.what, Happening::Return(_)))?;
        Some(index + 1 + distance as u32)
    }

    pub(crate) fn op(self, call: u32) -> Option<Op<Span>> {
        match self.record(call)?.what {
            Happening::Call(op) => Some(op),
            _ => None,
        }
    }

    pub(crate) fn reply(self, index: u32) -> Option<Reply<Span, Span, Span>> {
        match self.record(index)?.what {
            Happening::Return(reply) => Some(reply),
            _ => None,
        }
    }

    /// A call that took effect, as operation and reply, from either of its two records.
    pub(crate) fn effect(self, index: u32) -> Option<Effect> {
        match self.record(index)?.what {
            Happening::Call(op) => Some((op, self.return_of(index).and_then(|index| self.reply(index)))),
            Happening::Return(reply) => Some((self.op(self.call_of(index)?)?, Some(reply))),
            _ => None,
        }
    }

    /// The name under which a workflow was started, or its id if that is nowhere to be found.
    pub(crate) fn workflow(self, workflow: WorkflowId) -> String {
        let key = self.start_of(workflow).and_then(|index| match self.op(self.call_of(index)?)? {
            Op::Start { key, .. } => Some(key),
            _ => None,
        });
        key.map_or_else(|| workflow.to_string(), |key| key.to_string())
    }

    pub(crate) fn step(self, step: Step) -> String {
        self.0.header.steps.get(step.0 as usize).map_or_else(|| step.to_string(), |name| format!("`{name}`"))
    }

    pub(crate) fn name(self, name: Name) -> String {
        self.0.header.names.get(name.0 as usize).map_or_else(|| name.to_string(), |name| format!("`{name}`"))
    }

    /// "lease-2 under token t12ab34 at 3.100 s", of a handoff or another call under a token.
    pub(crate) fn under_token(self, index: u32) -> String {
        let at = self.at(index);
        match self.effect(index).and_then(|(op, _)| holder(op)) {
            Some((worker, token)) => format!("{worker} under token {token} at {at}"),
            None => format!("{} at {at}", self.process(index)),
        }
    }

    /// What a handoff made of one event: "e44", "its end", …
    pub(crate) fn successor(self, index: u32, event: EventId) -> String {
        let (decisions, reply) = match self.effect(index) {
            Some((Op::Handoff { decisions, .. }, reply)) => (decisions, reply),
            Some((Op::HandOut { .. } | Op::Drain { .. }, _)) => return String::from("a dead letter"),
            _ => return String::from("a decision"),
        };
        let appended = match reply {
            Some(Reply::HandedOff { appended, .. }) => self.0.ids(appended),
            _ => &[],
        };
        let mut appended = appended.iter();
        for Decision { event: decided, verb, .. } in self.0.decisions(decisions) {
            let id = if verb.has_id() { appended.next() } else { None };
            if *decided == event && *verb != Verb::Child {
                return match (verb, id) {
                    (_, Some(0)) | (Verb::Reject, _) => String::from("a dead letter"),
                    (_, Some(id)) => EventId(*id).to_string(),
                    (Verb::Goto | Verb::Sleep | Verb::Retry | Verb::Await | Verb::Spawn | Verb::Child, None) => {
                        String::from("an event whose id nobody was told")
                    }
                    (Verb::Complete | Verb::Fail, _) => String::from("the workflow's end"),
                    (Verb::Acknowledge, _) => String::from("an acknowledgement"),
                };
            }
        }
        String::from("nothing")
    }

    /// "; token t12ab34 had died at 4.210 s when lease-3 took its window over", if that is what happened to the token
    /// of this call.
    pub(crate) fn death_of_token(self, index: u32) -> String {
        let Some((worker, token)) = self.effect(index).and_then(|(op, _)| holder(op)) else { return String::new() };
        let Some(claimed) = self.claim_of(worker, token) else { return String::new() };
        let thief = self.takeover_from(worker, claimed, index);
        match thief.and_then(|thief| Some((thief, self.effect(thief)?.0))) {
            Some((thief, Op::Claim { worker, .. } | Op::TakeOver { worker, .. })) => {
                format!("; token {token} had died at {} when {worker} took its window over", self.at(thief))
            }
            _ => String::new(),
        }
    }

    /// "; lease-2 has waited for a lock since 6.882 s, …": the calls that were blocked to the end.
    pub(crate) fn waiting(self, end: Micros) -> String {
        const SHOWN: usize = 5;
        let blocked = (0u32..).zip(&self.0.records).filter(|(_, record)| record.what == Happening::Blocked);
        let waits = blocked.filter(|(index, record)| {
            record.at < end && self.return_of(*index).is_none_or(|answer| self.at(answer) >= end)
        });
        let told = waits.take(SHOWN).map(|(index, record)| format!("{} since {}", self.process(index), record.at));
        let told: Vec<String> = told.collect();
        if told.is_empty() { String::new() } else { format!("; still waiting for locks: {}", told.join(", ")) }
    }

    /// What became of the drains of a queue since then, for a sentence.
    pub(super) fn drains_since(self, queue: Queue, since: Micros) -> String {
        let is_drain = |index: &u32| matches!(self.op(*index), Some(Op::Drain { queue: other, .. }) if other == queue);
        let calls: Vec<u32> =
            (0..self.0.records.len() as u32).filter(is_drain).filter(|index| self.at(*index) >= since).collect();
        let Some(last) = calls.last() else {
            return String::from("and nobody has called one since it could have fired");
        };
        let (count, at) = (calls.len(), self.at(*last));
        match self.return_of(*last).and_then(|answer| self.reply(answer)) {
            Some(Reply::Refused(refusal)) => {
                format!("of which {count} were called since then, the last at {at}: refused with {refusal:?}")
            }
            Some(Reply::Idle) => format!("of which {count} were called since then, the last at {at}: no newer tick"),
            Some(_) => format!("of which {count} were called since then, the last at {at}, and none named it"),
            None => format!("of which {count} were called since then, the last at {at}, which has no answer"),
        }
    }

    /// The record by which a worker was given a token.
    pub(crate) fn claim_of(self, worker: WorkerId, token: Token) -> Option<u32> {
        (0..self.0.records.len() as u32).find(|index| match self.reply(*index) {
            Some(Reply::Claimed { token: given, .. }) if given == token => {
                let op = self.effect(*index).map(|(op, _)| op);
                matches!(op, Some(Op::Claim { worker: to, .. } | Op::TakeOver { worker: to, .. }) if to == worker)
            }
            _ => false,
        })
    }

    /// The record that told of a workflow first.
    pub(crate) fn start_of(self, workflow: WorkflowId) -> Option<u32> {
        (0..self.0.records.len() as u32).find(
            |index| matches!(self.reply(*index), Some(Reply::Started { workflow: started, .. }) if started == workflow),
        )
    }

    /// The first takeover from a worker between two records.
    pub(crate) fn takeover_from(self, worker: WorkerId, after: u32, before: u32) -> Option<u32> {
        (after.saturating_add(1)..before)
            .find(|index| matches!(self.reply(*index), Some(Reply::Claimed { victim, .. }) if victim == worker))
    }

    /// The record that told somebody of an event: of an append, a start, a handoff or a replay, or of what scheduled it.
    pub(crate) fn birth_of(self, event: EventId) -> Option<u32> {
        (0..self.0.records.len() as u32).find(|index| match self.reply(*index) {
            Some(
                Reply::Appended { event: told, .. }
                | Reply::Started { event: told, .. }
                | Reply::Scheduled { event: told, .. }
                | Reply::Replayed { event: told, .. },
            ) => told == event,
            Some(Reply::HandedOff { appended, .. }) => self.0.ids(appended).contains(&event.0),
            _ => false,
        })
    }
}

/// The worker and the token under which a call runs.
pub(crate) fn holder<D>(op: Op<D>) -> Option<(WorkerId, Token)> {
    match op {
        Op::Heartbeat { worker, token, .. }
        | Op::Read { worker, token, .. }
        | Op::ReadResults { worker, token }
        | Op::HandOut { worker, token, .. }
        | Op::Hold { worker, token, .. }
        | Op::Handoff { worker, token, .. } => Some((worker, token)),
        _ => None,
    }
}
