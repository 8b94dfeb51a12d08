//! A stage for tests of workflows: a queue with two workers, and decisions by hand.

use crate::engine::{Engine, Environment};
use crate::guard::{Guard, Guards};
use crate::schema::FORBIDDEN_STATE;
use crate::store::executor::Progress;
use crate::store::footprint::Footprint;
use crate::store::locks::Slot;
use alloc::vec;
use alloc::vec::Vec;
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{
    ActorId, Consumer, EmitId, EventId, Key, Micros, Name, Queue, Step, Token, WaitToken, WorkerId, WorkflowId,
};
use tourbillon_models::op::{Decision, Isolation, Op, QueueKind, Verb};
use tourbillon_models::reply::{EmitAnswer, Event, Refusal, Reply};
use tourbillon_models::state::State;

pub const QUEUE: Queue = Queue(0);
pub const TICK: PlainOp = Op::Tick { queue: QUEUE };
pub const BEGIN: PlainOp = Op::Begin { isolation: Isolation::ReadCommitted };
pub const REPEATABLE: PlainOp = Op::Begin { isolation: Isolation::RepeatableRead };
pub const EXPIRE: PlainOp = Op::ExpireWaits { queue: QUEUE, limit: 10 };
pub const NAME: Name = Name(0);

pub struct Flows {
    engine: Engine,
    pub now: Micros,
    calls: u64,
    keys: u32,
    emits: u32,
}

/// An open window in a worker's hands.
#[derive(Clone, Debug)]
pub struct Window {
    pub slot: Slot,
    pub worker: WorkerId,
    pub token: Token,
    pub events: Vec<Event>,
}

/// What a handoff said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HandedOff {
    pub appended: Vec<u32>,
    pub children: Vec<u32>,
    pub resumed: Vec<u32>,
    pub undeliverable: Vec<u32>,
}

impl Flows {
    pub fn new(removed: &[Guard]) -> Flows {
        let engine = Engine::new(Guards::without(removed));
        let mut flows = Flows { engine, now: Micros::from_secs(100), calls: 0, keys: 0, emits: 0 };
        let slot = flows.session();
        flows.call(slot, Op::CreateQueue { queue: QUEUE, kind: QueueKind::Workflow });
        flows.call(slot, Op::Subscribe { queue: QUEUE, consumer: Consumer(0) });
        for _ in 0..2 {
            flows.call(slot, Op::Register { consumer: Consumer(0) });
        }
        flows
    }

    /// A stage whose calls note what they read and write.
    pub fn recording() -> Flows {
        let mut flows = Flows::new(&[]);
        flows.engine.record_footprints();
        flows
    }

    /// What a call reads and writes, whether it returns or waits.
    pub fn footprint(&mut self, slot: Slot, op: PlainOp) -> Footprint {
        let mut footprint = Footprint::default();
        self.engine.take_footprint(&mut footprint);
        self.try_call(slot, op);
        self.engine.take_footprint(&mut footprint);
        footprint
    }

    pub fn session(&mut self) -> Slot {
        self.engine.connect().expect("there are enough")
    }

    /// None if it waits.
    pub fn try_call(&mut self, slot: Slot, op: PlainOp) -> Option<PlainReply> {
        self.calls += 1;
        let mut reply = Reply::Done;
        let progress = self.engine.call(slot, &op, Environment { now: self.now, random: self.calls }, &mut reply);
        (progress == Progress::Returned).then_some(reply)
    }

    #[track_caller]
    pub fn call(&mut self, slot: Slot, op: PlainOp) -> PlainReply {
        self.try_call(slot, op.clone()).unwrap_or_else(|| panic!("{op:?} waits"))
    }

    /// What the one call that waited says when it is let in.
    #[track_caller]
    pub fn resume(&mut self, slot: Slot) -> PlainReply {
        assert_eq!(self.engine.released(), [slot]);
        let mut reply = Reply::Done;
        assert_eq!(self.engine.resume(slot, self.now, &mut reply), Progress::Returned, "it waits again");
        reply
    }

    pub fn released(&self) -> Vec<Slot> {
        self.engine.released()
    }

    /// None if it waits again.
    pub fn try_resume(&mut self, slot: Slot) -> Option<PlainReply> {
        let mut reply = Reply::Done;
        let progress = self.engine.resume(slot, self.now, &mut reply);
        (progress == Progress::Returned).then_some(reply)
    }

    pub fn pass(&mut self, seconds: u64) {
        self.now = self.now + Micros::from_secs(seconds);
    }

    pub fn state(&self) -> State {
        self.engine.state()
    }

    #[track_caller]
    pub fn start(&mut self, slot: Slot) -> WorkflowId {
        self.keys += 1;
        match self.call(slot, Op::Start { queue: QUEUE, key: Key(self.keys), step: Step(0), state: 1 }) {
            Reply::Started { workflow, .. } => workflow,
            other => panic!("{other:?}"),
        }
    }

    /// The next window, for the first or the second worker.
    #[track_caller]
    pub fn claim(&mut self, slot: Slot, worker: u32) -> Window {
        self.call(slot, TICK);
        let worker = WorkerId(worker);
        let claim = Op::Claim { worker, dead_interval: Micros::from_secs(9), at: Micros(0) };
        let Reply::Claimed { token, .. } = self.call(slot, claim) else { panic!("nothing to claim") };
        let reply = self.call(slot, Op::Read { worker, token, after: EventId(0), limit: 10_000 });
        let Reply::Events(events) = reply else { panic!("{reply:?}") };
        Window { slot, worker, token, events }
    }

    pub fn try_hand_off(&mut self, window: &Window, decisions: Vec<Decision>) -> Option<PlainReply> {
        let &Window { slot, worker, token, .. } = window;
        self.try_call(slot, Op::Handoff { worker, token, decisions })
    }

    #[track_caller]
    pub fn hand_off(&mut self, window: &Window, decisions: Vec<Decision>) -> HandedOff {
        handed_off(self.try_hand_off(window, decisions).expect("it does not wait"))
    }

    pub fn emit_op(&mut self, workflow: WorkflowId, payload: u64, token: u64) -> PlainOp {
        self.emits += 1;
        let (emit, token) = (EmitId(self.emits), WaitToken(token));
        Op::Emit { workflow, name: NAME, payload, emit, token, actor: ActorId(3) }
    }

    #[track_caller]
    pub fn emit(&mut self, slot: Slot, workflow: WorkflowId, payload: u64) -> EmitAnswer {
        let op = self.emit_op(workflow, payload, 0);
        answer(self.call(slot, op))
    }

    /// A workflow that has its first event in this window, and now waits.
    #[track_caller]
    pub fn waiting(&mut self, slot: Slot, seconds: u64, token: u64) -> (WorkflowId, u32) {
        let workflow = self.start(slot);
        let window = self.claim(slot, 1);
        let appended = self.hand_off(&window, vec![awaits(&window.events[0], seconds, token)]).appended;
        (workflow, appended[0])
    }
}

#[track_caller]
pub fn handed_off(reply: PlainReply) -> HandedOff {
    match reply {
        Reply::HandedOff { appended, children, resumed, undeliverable, .. } => {
            HandedOff { appended, children, resumed, undeliverable }
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub fn answer(reply: PlainReply) -> EmitAnswer {
    match reply {
        Reply::Emitted { answer, .. } => answer,
        other => panic!("{other:?}"),
    }
}

pub fn refused(reply: PlainReply) -> Option<Refusal> {
    match reply {
        Reply::Refused(refusal) => Some(refusal),
        _ => None,
    }
}

fn on(event: &Event, verb: Verb) -> Decision {
    let &Event { id, workflow, sequence, .. } = event;
    Decision { workflow, sequence: sequence + 1, ..Decision::new(id, verb) }
}

/// For so many seconds, or for as long as it takes.
pub fn awaits(event: &Event, seconds: u64, token: u64) -> Decision {
    let (delay, token) = (Micros::from_secs(seconds), WaitToken(token));
    Decision { step: Step(1), state: 7, name: NAME, delay, token, ..on(event, Verb::Await) }
}

pub fn goes_to(event: &Event, step: u16) -> Decision {
    Decision { step: Step(step), state: event.state, ..on(event, Verb::Goto) }
}

pub fn ends(event: &Event, verb: Verb, result: u64) -> Decision {
    Decision { sequence: event.sequence, state: result, ..on(event, verb) }
}

/// What follows cannot become an event.
pub fn doomed(decision: Decision) -> Decision {
    Decision { state: FORBIDDEN_STATE, ..decision }
}

/// A spawn, and so many children.
pub fn spawns(event: &Event, children: u32) -> Vec<Decision> {
    let spawn = Decision { step: Step(2), state: 5, ..on(event, Verb::Spawn) };
    let child = |index| Decision {
        sequence: index,
        step: Step(1),
        state: 100 + u64::from(index),
        ..Decision::new(event.id, Verb::Child)
    };
    [spawn].into_iter().chain((0..children).map(child)).collect()
}
