//! Waits, emits and joins, for tales.

use super::tale::{Q, Tale, Who};
use crate::history::{PlainOp, PlainReply};
use crate::name::{ActorId, EmitId, EventId, Micros, Name, Step, Token, WaitToken, WorkerId, WorkflowId};
use crate::op::{Decision, Op, Verb};
use crate::reply::{Arrival, ChildOutcome, ChildResult, EmitAnswer, Event, Outcome, Reply};
use crate::state::{BoxContent, BoxRow, EmitRow, JoinRow, Parent, WorkflowRow};
use crate::workload::{Child, Next, Program, StepInput, StepOutcome};
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

/// Waits for others; the workflow's key says where it starts, and with how many children.
pub(super) struct Meeting;

/// Awaits `go` for as long as it takes, then goes on with [`HEARD`].
pub(super) const ASK: u32 = 0;
/// Awaits `go` for two seconds.
pub(super) const HURRY: u32 = 1;
/// Awaits `go` from whoever shows [`PASS`].
pub(super) const GUARD: u32 = 2;
/// Completes with what it was told.
pub(super) const HEARD: u32 = 3;
/// Starts as many children as its state says, at [`LEAF`], then goes on with [`SUM`].
pub(super) const SPLIT: u32 = 4;
/// Completes with the sum of what its children left.
pub(super) const SUM: u32 = 5;
/// Completes with its state.
pub(super) const LEAF: u32 = 6;
/// Awaits `go` twice, one after the other.
pub(super) const TWICE: u32 = 7;
/// As [`SPLIT`], then [`SUM`] only at the second attempt.
pub(super) const UNSURE: u32 = 8;
/// As [`SPLIT`], and each child is what no version has code for.
pub(super) const DOOM: u32 = 9;

pub(super) const GO: Name = Name(0);
pub(super) const PASS: WaitToken = WaitToken(7 << 40);

const STEPS: [&str; 12] =
    ["ask", "hurry", "guard", "heard", "split", "sum", "leaf", "twice", "unsure", "doom", "gone", "sum again"];

impl Program for Meeting {
    fn name(&self) -> &str {
        "meeting"
    }

    fn summary(&self) -> &str {
        "waits for others"
    }

    fn steps(&self) -> &[&str] {
        &STEPS
    }

    fn names(&self) -> &[&str] {
        &["go"]
    }

    fn start(&self, index: u32, _: u64) -> (Step, u64) {
        (Step((index % 10) as u16), u64::from(index / 10))
    }

    fn decide(&self, StepInput { step, state, arrival, results, attempt, .. }: StepInput) -> StepOutcome {
        let heard = Step(HEARD as u16);
        let spawn = |then: u16, at: u32| Next::Spawn {
            step: Step(then),
            state,
            children: (0..state).map(|place| Child { step: Step(at as u16), state: 100 + place }).collect(),
        };
        let wait = |step, deadline, token| Next::Await { name: GO, step, state, deadline, token };
        let next = match u32::from(step.0) {
            ASK => wait(heard, None, None),
            HURRY => wait(heard, Some(Micros::from_secs(2)), None),
            GUARD => wait(heard, None, Some(PASS)),
            TWICE => wait(Step(ASK as u16), None, None),
            HEARD => match arrival {
                Arrival::Emitted { payload } => Next::Complete { result: payload },
                _ => Next::Fail { result: 0 },
            },
            SPLIT => spawn(SUM as u16, LEAF),
            DOOM => spawn(SUM as u16, 10),
            UNSURE => spawn(11, LEAF),
            11 if attempt == 1 => Next::Retry { delay: Micros(0), max_attempts: 2 },
            SUM | 11 => Next::Complete { result: results.iter().map(|left| left.result).sum() },
            LEAF => Next::Complete { result: state },
            _ => Next::Reject,
        };
        StepOutcome { effect: false, next }
    }
}

/// What goes on at once in a handoff, beside what follows on its decisions.
#[derive(Default)]
pub(super) struct Resumes<'a> {
    /// Events whose await found a promise, and what that says.
    pub(super) found: &'a [(EventId, u64)],
    /// Joins that it completes.
    pub(super) joined: &'a [EventId],
}

pub(super) fn emit(workflow: WorkflowId, payload: u64, id: u32) -> PlainOp {
    emit_showing(workflow, payload, id, WaitToken::NONE)
}

pub(super) fn emit_showing(workflow: WorkflowId, payload: u64, id: u32, token: WaitToken) -> PlainOp {
    Op::Emit { workflow, name: GO, payload, emit: EmitId(id), token, actor: ActorId(1) }
}

pub(super) fn answered(answer: EmitAnswer) -> PlainReply {
    Reply::Emitted { answer, repeated: false, event: EventId(0), table: 0 }
}

pub(super) fn resumed(event: EventId) -> PlainReply {
    Reply::Emitted { answer: EmitAnswer::Resumed, repeated: false, event, table: 0 }
}

impl Tale {
    /// Workflows that take the steps of [`Meeting`].
    pub(super) fn meeting() -> Self {
        let mut tale = Tale::workflows();
        tale.program = &Meeting;
        tale.history.header.workload = Meeting.name().to_string();
        tale.history.header.steps = STEPS.map(|step| step.to_string()).to_vec();
        tale.history.header.names = vec!["go".into()];
        tale
    }

    /// A workflow of its own key, and its first event, in a window of process a's worker that starts at that tick.
    pub(super) fn at(&mut self, key: u32, prev: u32) -> (WorkflowId, (WorkerId, Token), EventId) {
        let worker = self.register(0);
        let event = self.start(key);
        let lease = self.window(0, worker, prev, &[event]);
        (WorkflowId(key + 50), lease, event)
    }

    /// What children left of whom this says that they have ended.
    pub(super) fn results_of(&self, arrival: Arrival) -> Vec<ChildResult> {
        let Arrival::Joined { join: own } = arrival else { return vec![] };
        self.state.results.iter().copied().filter(|left| left.join == own).collect()
    }

    /// What the program says about an event, its children included.
    pub(super) fn decisions(&self, event: EventId) -> Vec<Decision> {
        let spawn = self.decision(event);
        let Event { step, state, arrival, attempt, .. } = self.events[&event].0;
        let results = self.results_of(arrival);
        let input = StepInput { step, state, arrival, results: &results, attempt, version: 0 };
        let children = match self.program.decide(input).next {
            Next::Spawn { children, .. } if spawn.workflow.0 != 0 => children,
            _ => vec![],
        };
        let child = |(Child { step, state }, place)| Decision {
            verb: Verb::Child,
            workflow: WorkflowId(0),
            sequence: place,
            step,
            state,
            ..spawn
        };
        core::iter::once(spawn).chain(children.into_iter().zip(0..).map(child)).collect()
    }

    pub(super) fn handoff(&mut self, who: Who, lease: (WorkerId, Token), events: &[EventId]) -> Vec<EventId> {
        self.hand_on(who, lease, events, Resumes::default())
    }

    pub(super) fn hand_on(
        &mut self,
        who: Who,
        lease: (WorkerId, Token),
        events: &[EventId],
        resumes: Resumes<'_>,
    ) -> Vec<EventId> {
        let decisions = events.iter().flat_map(|event| self.decisions(*event)).collect();
        self.hand_resuming(who, lease, decisions, resumes)
    }

    pub(super) fn hand(&mut self, who: Who, lease: (WorkerId, Token), decisions: Vec<Decision>) -> Vec<EventId> {
        self.hand_resuming(who, lease, decisions, Resumes::default())
    }

    pub(super) fn hand_resuming(
        &mut self,
        who: Who,
        (worker, token): (WorkerId, Token),
        decisions: Vec<Decision>,
        resumes: Resumes<'_>,
    ) -> Vec<EventId> {
        let kept: Vec<Decision> = decisions.iter().copied().filter(|decision| decision.verb.has_id()).collect();
        decisions.iter().for_each(|decision| self.end_by(decision));
        let ids = kept.iter().map(|decision| if is_exhausted(decision) { EventId(0) } else { self.mint() });
        let appended: Vec<EventId> = ids.collect();
        let born = || kept.iter().copied().zip(appended.iter().copied()).filter(|(_, id)| id.0 != 0);
        let children: Vec<u32> =
            born().filter(|(decision, _)| decision.verb == Verb::Child).map(|(_, id)| id.0 + 500).collect();
        let has_children =
            |event: EventId| decisions.iter().any(|other| other.event == event && other.verb == Verb::Child);
        let is_here = |decision: &Decision| match decision.verb {
            Verb::Spawn => !has_children(decision.event),
            Verb::Await => resumes.found.iter().any(|(event, _)| *event == decision.event),
            _ => false,
        };
        let here = born().filter(|(decision, _)| is_here(decision)).map(|(_, id)| id.0);
        let reply = Reply::HandedOff {
            appended: appended.iter().map(|id| id.0).collect(),
            children,
            resumed: here.chain(resumes.joined.iter().map(|join| join.0)).collect(),
            undeliverable: vec![],
            table: 0,
            timer_table: 0,
        };
        self.say(who, Op::Handoff { worker, token, decisions: decisions.clone() }, reply);
        let mut join = EventId(0);
        for (decision, id) in born() {
            let Decision { workflow, sequence, step, state, attempt, delay, .. } = decision;
            let content = (workflow, sequence, step, state);
            match decision.verb {
                Verb::Goto => self.remember(who, id, content, 0),
                Verb::Retry if delay.0 == 0 => self.go_on(who, id, content, attempt, decision.arrival),
                Verb::Await => {
                    let found = resumes.found.iter().find(|(event, _)| *event == decision.event);
                    match found {
                        Some((_, payload)) => {
                            self.go_on(who, id, content, 1, Arrival::Emitted { payload: *payload });
                            self.state.boxes.retain(|row| row.workflow != workflow);
                        }
                        None => self.waits(id, &decision),
                    }
                }
                Verb::Spawn if is_here(&decision) => {
                    self.go_on(who, id, content, 1, Arrival::Joined { join: id });
                }
                Verb::Spawn => {
                    join = id;
                    let total =
                        decisions.iter().filter(|other| other.verb == Verb::Child && other.event == decision.event);
                    let total = total.count() as u32;
                    let event = Event { id, ..self.events[&decision.event].0 };
                    self.events.insert(id, (Event { workflow, sequence, step, state, ..event }, 0));
                    let since = self.now;
                    self.state.joins.push(JoinRow { join, workflow, since, sequence, step, state, total, ended: 0 });
                }
                Verb::Child => {
                    let (parent, workflow) = (Some(Parent { join, index: sequence as u16 }), WorkflowId(id.0 + 500));
                    self.remember(who, id, (workflow, 1, step, state), 0);
                    self.state.workflows.push(WorkflowRow { workflow, queue: Q, key: None, parent });
                }
                _ => self.sleeps(who, id, content, attempt, delay),
            }
        }
        resumes.joined.iter().for_each(|join| self.joins(who, *join));
        self.state.workflows.sort_by_key(|row| row.workflow);
        appended
    }

    /// A handoff whose reply is lost.
    pub(super) fn lose_handoff(
        &mut self,
        who: Who,
        lease: (WorkerId, Token),
        events: &[EventId],
        resumes: Resumes<'_>,
        outcome: Option<Outcome>,
    ) -> Vec<EventId> {
        let ids = self.hand_on(who, lease, events, resumes);
        self.history.records.pop();
        self.answer(who, Reply::Unknown);
        outcome.into_iter().for_each(|outcome| self.resolve(who, outcome));
        self.reconnect(who);
        ids
    }

    fn end_by(&mut self, decision: &Decision) {
        use crate::state::DeadReason;
        let arrival = self.events.get(&decision.event).map(|(event, _)| event.arrival);
        if let (Some(Arrival::Joined { join }), false) = (arrival, matches!(decision.verb, Verb::Retry | Verb::Reject))
        {
            self.state.results.retain(|left| left.join != join);
        }
        match decision.verb {
            Verb::Complete => self.end_workflow(decision.workflow, ChildOutcome::Completed, decision.state),
            Verb::Fail => self.end_workflow(decision.workflow, ChildOutcome::Failed, decision.state),
            Verb::Reject => self.die(decision.event, DeadReason::Rejected),
            Verb::Retry if is_exhausted(decision) => self.die(decision.event, DeadReason::Attempts),
            _ => {}
        }
    }

    /// The rows of a workflow that has ended, as they should be.
    pub(super) fn end_workflow(&mut self, workflow: WorkflowId, outcome: ChildOutcome, result: u64) {
        let row = self.state.workflows.iter().find(|row| row.workflow == workflow);
        if let Some(Parent { join, index }) = row.and_then(|row| row.parent)
            && let Some(row) = self.state.joins.iter_mut().find(|row| row.join == join)
        {
            row.ended += 1;
            self.state.results.push(ChildResult { join, index, outcome, result });
        }
        self.state.workflows.retain(|row| row.workflow != workflow);
        self.state.boxes.retain(|row| row.workflow != workflow);
        self.state.emits.retain(|row| row.workflow != workflow);
    }

    /// The step of a retry, or after a wait: an event that says what came of it.
    fn go_on(&mut self, who: Who, id: EventId, content: (WorkflowId, u32, Step, u64), attempt: u16, arrival: Arrival) {
        self.remember(who, id, content, 0);
        let event = Event { attempt, arrival, ..self.events[&id].0 };
        self.events.insert(id, (event, 0));
        self.state.events.last_mut().expect("just remembered").event = event;
    }

    fn waits(&mut self, event: EventId, decision: &Decision) {
        let Decision { workflow, name, token, sequence, step, state, delay, .. } = *decision;
        let deadline = (delay != Micros(0)).then_some(self.now + delay);
        let token_hash = (token != WaitToken::NONE).then_some(token.0 ^ 1);
        let content = BoxContent::Wait { event, sequence, step, state, deadline };
        let known = Event { id: event, ..self.events[&decision.event].0 };
        self.events.insert(event, (Event { workflow, sequence, step, state, ..known }, 0));
        self.state.boxes.retain(|row| row.workflow != workflow);
        self.state.boxes.push(BoxRow { workflow, name, since: self.now, token_hash, content });
    }

    /// A wait, or a join, is an event of the actor's transaction from now on.
    pub(super) fn comes(&mut self, who: Who, id: EventId, arrival: Arrival) {
        let Event { workflow, sequence, step, state, .. } = self.events[&id].0;
        self.go_on(who, id, (workflow, sequence, step, state), 1, arrival);
        self.state.boxes.retain(|row| row.workflow != workflow);
    }

    fn joins(&mut self, who: Who, join: EventId) {
        self.comes(who, join, Arrival::Joined { join });
        self.state.joins.retain(|row| row.join != join);
    }

    /// An emit that resumes a wait, with the rows that it should leave.
    pub(super) fn emit_to(&mut self, who: Who, workflow: WorkflowId, payload: u64, id: u32, wait: EventId) {
        self.say(who, emit(workflow, payload, id), resumed(wait));
        self.comes(who, wait, Arrival::Emitted { payload });
        self.took(workflow, id, EmitAnswer::Resumed);
    }

    /// An emit that nobody waits for.
    pub(super) fn promise_to(&mut self, who: Who, workflow: WorkflowId, payload: u64, id: u32, token: WaitToken) {
        self.say(who, emit_showing(workflow, payload, id, token), answered(EmitAnswer::Promised));
        self.promised(workflow, payload, token);
        self.took(workflow, id, EmitAnswer::Promised);
    }

    pub(super) fn promised(&mut self, workflow: WorkflowId, payload: u64, token: WaitToken) {
        let token_hash = (token != WaitToken::NONE).then_some(token.0 ^ 1);
        let content = BoxContent::Promise { payload };
        self.state.boxes.push(BoxRow { workflow, name: GO, since: self.now, token_hash, content });
    }

    pub(super) fn took(&mut self, workflow: WorkflowId, id: u32, answer: EmitAnswer) {
        self.state.emits.push(EmitRow { workflow, emit: EmitId(id), answer });
    }

    pub(super) fn expire(&mut self, waits: &[EventId]) {
        let ids = waits.iter().map(|id| id.0).collect();
        self.say(
            3,
            Op::ExpireWaits { queue: Q, limit: 10 },
            Reply::Expired { resumed: ids, undeliverable: vec![], table: 0 },
        );
        waits.iter().for_each(|wait| self.comes(3, *wait, Arrival::TimedOut));
    }

    pub(super) fn read_results(&mut self, who: Who, (worker, token): (WorkerId, Token), results: Vec<ChildResult>) {
        self.say(who, Op::ReadResults { worker, token }, Reply::Results(results));
    }
}

fn is_exhausted(decision: &Decision) -> bool {
    decision.verb == Verb::Retry && decision.attempt > decision.max_attempts
}
