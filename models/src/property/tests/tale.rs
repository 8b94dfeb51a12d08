//! Histories told by hand: who called what, and what was answered.
//!
//! A tale fills in what would only be noise (numbers, snapshots, the content of events that it has seen appended) and
//! believes everything else, also what no engine would answer. It has no rules, so it can tell any bug.

use super::flaky::Flaky;
use crate::history::{Header, History, PlainHappening, PlainOp, PlainReply};
use crate::name::{
    Consumer, EventId, Key, Micros, Name, Process, Queue, Session, Step, Tick, Token, WaitToken, WorkerId, WorkflowId,
    Xid,
};
use crate::op::{Decision, Isolation, Op, QueueKind, Verb};
use crate::property::{Checker, Property};
use crate::record::{Fault, Happening, Note, RecordOf};
use crate::reply::{Arrival, ChildOutcome, Event, Outcome, Refusal, Reply, SnapshotOf};
use crate::state::{
    DeadLetterRow, DeadReason, EventRow, LedgerRow, QueueRow, StartKeyRow, State, TimerRow, WorkflowRow,
};
use crate::verdict::{Judgement, Verdict};
use crate::workload::{Chain, Next, Program, StepInput};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

pub(super) const Q: Queue = Queue(0);
pub(super) const C: Consumer = Consumer(0);
pub(super) const DEAD: Micros = Micros(10_000_000);

/// A process with its session.
pub(super) type Who = u8;

#[derive(Clone)]
pub(super) struct Tale {
    pub(super) history: History,
    pub(super) now: Micros,
    xid: u32,
    event: u32,
    tick: u32,
    token: u64,
    worker: u32,
    session: u16,
    actors: Vec<Actor>,
    /// What decides; the header names it, or nothing that this crate has.
    pub(super) program: &'static dyn Program,
    pub(super) events: BTreeMap<EventId, (Event, u8)>,
    /// Rows that would lie in the tables if all that was told as committed was.
    pub(super) state: State,
}

#[derive(Clone)]
struct Actor {
    session: Session,
    incarnation: u8,
    in_transaction: bool,
    xid: u32,
}

impl Tale {
    /// One queue with one consumer; processes `a`, `b`, `c`, and `d`, who ticks and starts.
    pub(super) fn of(kind: QueueKind) -> Self {
        let mut tale = Tale::empty();
        tale.say(3, Op::CreateQueue { queue: Q, kind }, Reply::Done);
        tale.say(3, Op::Subscribe { queue: Q, consumer: C }, Reply::Subscribed { cursor: Tick(1) });
        tale.state.queues.push(QueueRow { queue: Q, kind, current_table: 0 });
        tale
    }

    pub(super) fn messages() -> Self {
        Tale::of(QueueKind::Plain)
    }

    pub(super) fn workflows() -> Self {
        Tale::of(QueueKind::Workflow)
    }

    /// Workflows that take the steps of [`Flaky`].
    pub(super) fn flaky() -> Self {
        let mut tale = Tale::workflows();
        tale.program = &Flaky;
        tale.history.header.workload = Flaky.name().to_string();
        tale.history.header.steps = Flaky.steps().iter().map(|step| step.to_string()).collect();
        tale
    }

    /// Ticks, and lets a worker claim and read what came with that tick: its events, in a window from `prev`.
    pub(super) fn window(&mut self, who: Who, worker: WorkerId, prev: u32, events: &[EventId]) -> (WorkerId, Token) {
        let next = self.tick();
        let token = self.claim(who, worker, prev, next.0);
        self.read(who, (worker, token), events);
        (worker, token)
    }

    pub(super) fn empty() -> Self {
        let header = Header {
            format: 1,
            seed: 7,
            workload: "chain".into(),
            steps: Chain.steps().iter().map(|step| step.to_string()).collect(),
            names: vec![],
            target: "direct".into(),
            server: None,
            without: vec![],
            processes: ["a", "b", "c", "d"].map(String::from).to_vec(),
            dead_interval: DEAD,
            faults_end: Micros::from_secs(100),
            liveness_bound: Micros::from_secs(60),
            rotation_period: Micros::from_secs(5),
            drain_interval: Micros::from_secs(1),
            options: vec![],
        };
        let actor = |session| Actor { session: Session(session), incarnation: 0, in_transaction: false, xid: 0 };
        Tale {
            history: History::new(header),
            now: Micros(0),
            xid: 10,
            event: 0,
            tick: 1,
            token: 0,
            worker: 0,
            session: 3,
            actors: (0..4).map(actor).collect(),
            program: &Chain,
            events: BTreeMap::new(),
            state: State::default(),
        }
    }

    pub(super) fn wait(&mut self, millis: u64) -> &mut Self {
        self.now = Micros(self.now.0 + millis * 1_000);
        self
    }

    fn record(&mut self, who: Who, what: PlainHappening) {
        let actor = &self.actors[who as usize];
        let (session, incarnation, xid) = (actor.session, actor.incarnation, Xid(actor.xid));
        self.history.push_plain(&RecordOf { at: self.now, process: Process(who), incarnation, session, xid, what });
    }

    pub(super) fn call(&mut self, who: Who, op: PlainOp) {
        if !self.actors[who as usize].in_transaction {
            self.actors[who as usize].xid = 0;
        }
        self.record(who, Happening::Call(op));
    }

    /// The answer to the call that is under way.
    pub(super) fn answer(&mut self, who: Who, reply: PlainReply) {
        let writes = !matches!(
            reply,
            Reply::Idle | Reply::Events(_) | Reply::Committed | Reply::RolledBack | Reply::Refused(_) | Reply::Unknown
        );
        if writes {
            self.write(who);
        }
        self.record(who, Happening::Return(reply));
    }

    /// The transaction gets its number, if it has none.
    pub(super) fn write(&mut self, who: Who) -> Xid {
        if self.actors[who as usize].xid == 0 {
            self.actors[who as usize].xid = self.xid;
            self.xid += 1;
        }
        Xid(self.actors[who as usize].xid)
    }

    pub(super) fn say(&mut self, who: Who, op: PlainOp, reply: PlainReply) {
        self.call(who, op);
        self.answer(who, reply);
    }

    pub(super) fn begin(&mut self, who: Who) {
        self.call(who, Op::Begin { isolation: Isolation::ReadCommitted });
        self.record(who, Happening::Return(Reply::Done));
        self.actors[who as usize].in_transaction = true;
    }

    pub(super) fn commit(&mut self, who: Who) {
        self.say(who, Op::Commit, Reply::Committed);
        self.actors[who as usize].in_transaction = false;
    }

    pub(super) fn rollback(&mut self, who: Who) {
        self.say(who, Op::Rollback, Reply::RolledBack);
        self.actors[who as usize].in_transaction = false;
    }

    pub(super) fn refuse(&mut self, who: Who, op: PlainOp, refusal: Refusal) {
        self.say(who, op, Reply::Refused(refusal));
    }

    /// The call under way, or the next one, gets no answer; a note says what became of it, if it does.
    pub(super) fn lose(&mut self, who: Who, op: PlainOp, outcome: Option<Outcome>) {
        self.call(who, op);
        if outcome == Some(Outcome::Committed) {
            self.write(who);
        }
        self.record(who, Happening::Fault(Fault::LostReply));
        self.answer(who, Reply::Unknown);
        if let Some(outcome) = outcome {
            self.resolve(who, outcome);
        }
        self.reconnect(who);
    }

    pub(super) fn resolve(&mut self, who: Who, outcome: Outcome) {
        self.record(who, Happening::Note(Note::Resolved { outcome }));
    }

    pub(super) fn reconnect(&mut self, who: Who) {
        self.session += 1;
        let actor = &mut self.actors[who as usize];
        *actor =
            Actor { session: Session(self.session), incarnation: actor.incarnation, in_transaction: false, xid: 0 };
    }

    /// What it does in a fresh session, while the server keeps the one that it has.
    pub(super) fn beside(&mut self, who: Who, act: impl FnOnce(&mut Tale)) {
        let kept = self.actors[who as usize].clone();
        self.reconnect(who);
        act(self);
        self.actors[who as usize] = kept;
    }

    pub(super) fn crash(&mut self, who: Who) {
        self.record(who, Happening::Fault(Fault::Crash));
        if self.actors[who as usize].in_transaction {
            self.resolve(who, Outcome::Aborted);
        }
        self.reconnect(who);
        self.actors[who as usize].incarnation += 1;
    }

    pub(super) fn fault(&mut self, who: Who, fault: Fault) {
        self.record(who, Happening::Fault(fault));
    }

    pub(super) fn blocked(&mut self, who: Who) {
        self.record(who, Happening::Blocked);
    }

    pub(super) fn note(&mut self, who: Who, note: Note) {
        self.record(who, Happening::Note(note));
    }

    /// The id that the next event gets.
    pub(super) fn mint(&mut self) -> EventId {
        self.event += 1;
        EventId(self.event)
    }

    pub(super) fn append(&mut self, who: Who, payload: u64) -> EventId {
        self.append_to(who, payload, 0)
    }

    pub(super) fn append_to(&mut self, who: Who, payload: u64, table: u8) -> EventId {
        let event = self.mint();
        self.say(who, Op::Append { queue: Q, payload }, Reply::Appended { event, table });
        self.remember(who, event, (WorkflowId(0), 0, Step(0), payload), table);
        event
    }

    /// The tale knows an event from now on, as one of the actor's transaction.
    pub(super) fn remember(&mut self, who: Who, id: EventId, content: (WorkflowId, u32, Step, u64), table: u8) {
        let (workflow, sequence, step, state) = content;
        let xid = self.write(who);
        let event = Event { id, xid, workflow, sequence, step, attempt: 1, state, arrival: Arrival::Direct };
        self.events.insert(id, (event, table));
        self.state.events.push(EventRow { queue: Q, table, event });
    }

    pub(super) fn event(&mut self, id: EventId) -> &mut Event {
        &mut self.events.get_mut(&id).expect("an event of this tale").0
    }

    /// Starts `w<key>` of the chain, as workflow `f<key + 50>`.
    pub(super) fn start(&mut self, key: u32) -> EventId {
        let event = self.mint();
        self.start_as(key, WorkflowId(key + 50), event)
    }

    pub(super) fn start_as(&mut self, key: u32, workflow: WorkflowId, event: EventId) -> EventId {
        let (step, state) = self.program.start(key, 1);
        let op = Op::Start { queue: Q, key: Key(key), step, state };
        self.say(3, op, Reply::Started { workflow, event, table: 0 });
        if event.0 != 0 {
            self.remember(3, event, (workflow, 1, step, state), 0);
            self.state.start_keys.push(StartKeyRow { queue: Q, key: Key(key), workflow });
            self.state.workflows.push(WorkflowRow { workflow, queue: Q, key: Some(Key(key)), parent: None });
        }
        event
    }

    /// A tick whose snapshot is the present: open transactions are in progress.
    pub(super) fn tick(&mut self) -> Tick {
        let open = self.actors.iter().filter(|actor| actor.in_transaction && actor.xid != 0).map(|actor| actor.xid);
        let in_progress = open.collect();
        let snapshot = SnapshotOf { xmax: Xid(self.xid), in_progress };
        self.tick_with(snapshot)
    }

    pub(super) fn tick_with(&mut self, snapshot: SnapshotOf<Vec<u32>>) -> Tick {
        self.tick += 1;
        let reply = Reply::Ticked { tick: Tick(self.tick), at: self.now, snapshot };
        self.say(3, Op::Tick { queue: Q }, reply);
        Tick(self.tick)
    }

    pub(super) fn snapshot(&self) -> SnapshotOf<Vec<u32>> {
        SnapshotOf { xmax: Xid(self.xid), in_progress: vec![] }
    }

    pub(super) fn register(&mut self, who: Who) -> WorkerId {
        self.worker += 1;
        self.say(who, Op::Register { consumer: C }, Reply::Registered { worker: WorkerId(self.worker) });
        WorkerId(self.worker)
    }

    pub(super) fn mint_token(&mut self) -> Token {
        self.token += 1;
        Token(self.token << 40)
    }

    pub(super) fn claim(&mut self, who: Who, worker: WorkerId, prev: u32, next: u32) -> Token {
        self.take_over(who, worker, prev, next, WorkerId(0))
    }

    pub(super) fn take_over(&mut self, who: Who, worker: WorkerId, prev: u32, next: u32, victim: WorkerId) -> Token {
        let token = self.mint_token();
        let (prev, next) = (Tick(prev), Tick(next));
        self.say(who, claim(worker), Reply::Claimed { token, prev, next, victim, isolated: false });
        token
    }

    /// The duty finds a window that was taken over before.
    pub(super) fn take_over_isolated(
        &mut self,
        who: Who,
        worker: WorkerId,
        prev: u32,
        next: u32,
        victim: WorkerId,
    ) -> Token {
        let token = self.mint_token();
        let (prev, next) = (Tick(prev), Tick(next));
        let op = Op::TakeOver { worker, dead_interval: DEAD, at: Micros(0) };
        self.say(who, op, Reply::Claimed { token, prev, next, victim, isolated: true });
        token
    }

    /// One event of an isolated window, for that try; none ends the window.
    pub(super) fn hand_out(
        &mut self,
        who: Who,
        (worker, token): (WorkerId, Token),
        event: Option<(EventId, u16)>,
        dead: &[EventId],
    ) {
        let events = event.iter().map(|(event, _)| self.events[event].0).collect();
        let tries = event.map_or(0, |(_, tries)| tries);
        for event in dead {
            self.die(*event, DeadReason::Tries);
        }
        let dead = dead.iter().map(|event| event.0).collect();
        let reply = Reply::HandedOut { events, tries, dead, resumed: vec![], undeliverable: vec![], table: 0 };
        self.say(who, Op::HandOut { worker, token, max_tries: 3 }, reply);
    }

    /// The rows of a dead letter, and of its workflow, as they should be.
    pub(super) fn die(&mut self, event: EventId, reason: DeadReason) {
        let Event { workflow, sequence, step, attempt, state, arrival, .. } = self.events[&event].0;
        let parent = self.state.workflows.iter().find(|row| row.workflow == workflow).and_then(|row| row.parent);
        self.end_workflow(workflow, ChildOutcome::Dead, 0);
        let (queue, consumer, replayed_as) = (Q, C, EventId(0));
        self.state.dead_letters.push(DeadLetterRow {
            queue,
            consumer,
            event,
            reason,
            sequence,
            step,
            attempt,
            state,
            replayed_as,
            arrival,
            parent,
        });
    }

    pub(super) fn replay(&mut self, who: Who, event: EventId, workflow: WorkflowId) -> EventId {
        let new = self.mint();
        let op = Op::ReplayDeadLetter { consumer: C, event };
        self.say(who, op, Reply::Replayed { workflow, event: new, table: 0 });
        let Event { step, state, .. } = self.events[&event].0;
        self.remember(who, new, (workflow, u32::from(workflow.0 != 0), step, state), 0);
        self.state.dead_letters.iter_mut().filter(|row| row.event == event).for_each(|row| row.replayed_as = new);
        new
    }

    /// A message that is due so many milliseconds from now.
    pub(super) fn schedule(&mut self, who: Who, payload: u64, millis: u64) -> EventId {
        let (id, delay) = (self.mint(), Micros::from_millis(millis));
        let due = self.now + delay;
        self.say(who, Op::Schedule { queue: Q, payload, delay }, Reply::Scheduled { event: id, due, table: 0 });
        let content = (WorkflowId(0), 0, Step(0), payload);
        self.sleeps(who, id, content, 1, delay);
        id
    }

    pub(super) fn sleeps(
        &mut self,
        who: Who,
        id: EventId,
        content: (WorkflowId, u32, Step, u64),
        attempt: u16,
        delay: Micros,
    ) {
        let (workflow, sequence, step, state) = content;
        let event =
            Event { id, xid: self.write(who), workflow, sequence, step, attempt, state, arrival: Arrival::Direct };
        self.events.insert(id, (event, 0));
        self.state.timers.push(TimerRow { queue: Q, table: 0, due: self.now + delay, event });
    }

    /// A drain at that tick makes events of those timers; `is_done` if it says that nothing more is due there.
    pub(super) fn drain(&mut self, tick: Tick, timers: &[EventId], is_done: bool) {
        let fired = timers.iter().map(|id| id.0).collect();
        let reply =
            Reply::Drained { tick, fired, dead: vec![], resumed: vec![], undeliverable: vec![], table: 0, is_done };
        self.say(3, Op::Drain { queue: Q, limit: 10 }, reply);
        for id in timers {
            self.appear(*id);
        }
    }

    /// A timer is an event from now on, of process d's transaction.
    pub(super) fn appear(&mut self, id: EventId) {
        let xid = self.write(3);
        let event = &mut self.events.get_mut(&id).expect("a timer of this tale").0;
        event.xid = xid;
        self.state.events.push(EventRow { queue: Q, table: 0, event: *event });
    }

    pub(super) fn read(&mut self, who: Who, (worker, token): (WorkerId, Token), events: &[EventId]) {
        let events = events.iter().map(|event| self.events[event].0).collect();
        self.say(who, Op::Read { worker, token, after: EventId(0), limit: 100 }, Reply::Events(events));
    }

    pub(super) fn hold(&mut self, who: Who, (worker, token): (WorkerId, Token)) {
        self.say(who, Op::Hold { worker, token, at: Micros(0) }, Reply::Done);
    }

    /// The effect of an event's step.
    pub(super) fn effect(&mut self, who: Who, event: EventId) {
        let Event { workflow, sequence, step, .. } = self.events[&event].0;
        self.say(who, Op::Effect { workflow, sequence, step }, Reply::Done);
        let xid = self.write(who);
        self.state.ledger.push(LedgerRow { workflow, sequence, step, xid });
    }

    /// What the program says about an event.
    pub(super) fn decision(&self, event: EventId) -> Decision {
        let Event { workflow, sequence, step, state, attempt, arrival, .. } = self.events[&event].0;
        let end = Decision {
            event,
            verb: Verb::Complete,
            workflow,
            sequence: 0,
            step: Step(0),
            attempt: 1,
            max_attempts: 0,
            delay: Micros(0),
            state: 0,
            arrival: Arrival::Direct,
            name: Name(0),
            token: WaitToken::NONE,
        };
        if workflow.0 == 0 {
            return Decision { verb: Verb::Acknowledge, ..end };
        }
        let results = self.results_of(arrival);
        let input = StepInput { step, state, arrival, results: &results, attempt, version: 0 };
        let again = sequence + 1;
        match self.program.decide(input).next {
            Next::Goto { step, state } => Decision { verb: Verb::Goto, sequence: again, step, state, ..end },
            Next::Sleep { step, state, delay } => {
                Decision { verb: Verb::Sleep, sequence: again, step, state, delay, ..end }
            }
            Next::Retry { delay, max_attempts } => Decision {
                verb: Verb::Retry,
                sequence: again,
                step,
                attempt: attempt + 1,
                max_attempts,
                delay,
                state,
                arrival,
                ..end
            },
            Next::Complete { result } => Decision { state: result, ..end },
            Next::Fail { result } => Decision { verb: Verb::Fail, state: result, ..end },
            Next::Await { name, step, state, deadline, token } => Decision {
                verb: Verb::Await,
                sequence: again,
                step,
                state,
                delay: deadline.unwrap_or_default(),
                name,
                token: token.unwrap_or_default(),
                ..end
            },
            Next::Spawn { step, state, .. } => Decision { verb: Verb::Spawn, sequence: again, step, state, ..end },
            Next::Reject | Next::Die => Decision { verb: Verb::Reject, ..end },
        }
    }

    /// Hold, effect and handoff of one event in a transaction.
    pub(super) fn step(&mut self, who: Who, lease: (WorkerId, Token), event: EventId) -> Vec<EventId> {
        self.begin(who);
        self.hold(who, lease);
        self.effect(who, event);
        let appended = self.handoff(who, lease, &[event]);
        self.commit(who);
        appended
    }

    pub(super) fn rotate(&mut self, table: u8, horizon: u32) {
        let op = Op::Rotate { queue: Q, lock_timeout: Micros(1_000) };
        self.say(3, op, Reply::Rotated { table, horizon: Tick(horizon) });
        self.state.events.retain(|row| row.table != table);
    }

    /// The run is over at that second, and this is what is left.
    pub(super) fn end(&mut self, second: u64) {
        self.now = Micros::from_secs(second);
        self.call(3, Op::Resolve { xid: Xid(1) });
        self.record(3, Happening::Return(Reply::Resolved(Outcome::Committed)));
        self.state.events.sort_by_key(|row| (row.queue, row.table, row.event.id));
        self.history.state = Some(self.state.clone());
    }

    pub(super) fn verdict(&self) -> Verdict {
        let is_own = self.history.header.workload == self.program.name();
        Checker::new().check_program(&self.history, is_own.then_some(self.program))
    }

    /// The ids of the properties that are broken.
    pub(super) fn broken(&self) -> Vec<&'static str> {
        let verdict = self.verdict();
        assert_eq!(verdict.ill_formed(), [], "a tale is well told");
        verdict.broken().map(Property::id).collect()
    }

    /// What is said about one property.
    pub(super) fn sentence(&self, property: Property) -> String {
        let verdict = self.verdict();
        verdict.of(property).violations.first().map_or_else(String::new, |violation| violation.sentence.clone())
    }

    /// All that is said about one property.
    pub(super) fn sentences(&self, id: &str) -> Vec<String> {
        let property = Property::by_name(id).expect("a property");
        let verdict = self.verdict();
        verdict.of(property).violations.iter().map(|violation| violation.sentence.clone()).collect()
    }

    pub(super) fn judged(&self, property: Property) -> Judgement {
        self.verdict().of(property).judgement
    }
}

pub(super) fn claim(worker: WorkerId) -> PlainOp {
    Op::Claim { worker, dead_interval: DEAD, at: Micros(0) }
}
