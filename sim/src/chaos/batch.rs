//! Batches: the unit of work of whoever starts workflows, or tells them something. A batch is begun if so many workflows may
//! be live, and what was begun is finished, by another life of the process if need be: all of it may be done twice.
//!
//! A *client* starts the workflows, most of them in one transaction, and tells each what it awaits until it is heard. A
//! *rival* says the same again, or something else, or without the right token, or too late, and sometimes is the first to
//! start them.

use crate::generate::QUEUE;
use crate::generate::telling::{Pace, Statements, Telling, contradiction, forgery};
use crate::random::Stream;
use serde::{Deserialize, Serialize};
use tourbillon_engine::actors::script::{OnLostReply, OnRefusal, Round, ScriptOptions};
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::{ActorId, EmitId, Key, Micros, Step};
use tourbillon_models::op::{Isolation, Op};
use tourbillon_models::workload::{Expected, Program};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Batches {
    pub part: Part,
    pub seed: u64,
    pub first_key: u32,
    pub batches: u32,
    pub of_batch: u32,
    /// Of each workflow.
    pub size: u64,
    /// Those that were begun, and ended, before.
    pub done: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Part {
    Client,
    Rival,
}

const PACE: Pace = Pace { open_for: Micros::from_millis(10), snapshot_for: Micros::from_millis(30) };
/// Between a start and what comes too late.
const LATE: Micros = Micros::from_millis(400);

/// Ids of emits to one workflow: those of the truth are below.
const AGAINST: u32 = 1_000;
const FORGED: u32 = 2_000;
const TOO_LATE: u32 = 3_000;

impl Batches {
    /// How many workflows those before it have.
    pub const fn before(&self, batch: u32) -> u64 {
        batch as u64 * self.of_batch as u64
    }

    /// The batch that a key is of.
    pub const fn batch_of(&self, key: Key) -> u32 {
        (key.0 - self.first_key) / self.of_batch
    }

    pub fn script(&self, batch: u32, program: Option<&dyn Program>) -> ScriptOptions {
        let first = self.first_key + batch * self.of_batch;
        let keys = first..first + self.of_batch;
        let mut rounds = Vec::new();
        if self.part == Part::Client {
            let mut together = vec![now(Op::Begin { isolation: Isolation::ReadCommitted })];
            together.extend(
                keys.clone().filter(|key| !self.is_alone(*key, program)).map(|key| now(self.start(key, program))),
            );
            together.push(now(Op::Commit));
            rounds.push(round(OnLostReply::Repeat, together));
        }
        for key in keys {
            let mut stream = Stream::new(self.seed, "tell", u64::from(key));
            let start = self.start(key, program);
            for (place, told) in self.emits(key, program).into_iter().enumerate() {
                let telling =
                    |told, emit| Telling { start: &start, told, emit: EmitId(emit), actor: ActorId(self.part as u8) };
                let truth = telling(told, place as u32 + 1);
                match self.part {
                    Part::Client if place == 0 && self.is_alone(key, program) => {
                        rounds.push(round(OnLostReply::Insist, truth.with_the_start(&mut stream, PACE)));
                    }
                    Part::Client => rounds.push(round(OnLostReply::Insist, truth.statements(&mut stream, PACE))),
                    Part::Rival => rivals(&mut stream, told, place as u32, telling, &mut rounds),
                }
            }
        }
        ScriptOptions::Once { rounds }
    }

    /// One in six is told something in the transaction in which it begins.
    fn is_alone(&self, key: u32, program: Option<&dyn Program>) -> bool {
        key.is_multiple_of(6) && !self.emits(key, program).is_empty()
    }

    fn start(&self, key: u32, program: Option<&dyn Program>) -> PlainOp {
        let (step, state) = program.map_or((Step(0), 0), |program| program.start(key, self.size));
        Op::Start { queue: QUEUE, key: Key(key), step, state }
    }

    fn emits(&self, key: u32, program: Option<&dyn Program>) -> Vec<Expected> {
        program.map_or_else(Vec::new, |program| program.emits(key, self.size))
    }
}

/// What others say beside the truth.
fn rivals<'a>(
    stream: &mut Stream,
    told: Expected,
    place: u32,
    telling: impl Fn(Expected, u32) -> Telling<'a>,
    rounds: &mut Vec<Round>,
) {
    if stream.chance(1, 4) {
        rounds.push(round(OnLostReply::Repeat, telling(told, place + 1).statements(stream, PACE)));
    }
    if let Some(other) = contradiction(stream, told) {
        rounds.push(round(OnLostReply::Repeat, telling(other, AGAINST + place).statements(stream, PACE)));
    }
    if let Some(forged) = forgery(stream, told) {
        rounds.push(round(OnLostReply::Repeat, telling(forged, FORGED + place).statements(stream, PACE)));
    }
    if stream.chance(1, 20) {
        let mut late: Statements = telling(told, TOO_LATE + place).alone();
        late[1].0 = stream.span(Micros(0), LATE);
        rounds.push(round(OnLostReply::Repeat, late));
    }
}

fn now(op: PlainOp) -> (Micros, PlainOp) {
    (Micros(0), op)
}

fn round(on_lost_reply: OnLostReply, statements: Statements) -> Round {
    Round { at: Micros(0), on_lost_reply, on_refusal: OnRefusal::RollBack, statements }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tourbillon_models::workload::Workload;

    fn statements(batches: &Batches, batch: u32, program: &dyn Program) -> Vec<PlainOp> {
        let ScriptOptions::Once { rounds } = batches.script(batch, Some(program)) else { panic!("a batch ends") };
        rounds.into_iter().flat_map(|round| round.statements).map(|(_, op)| op).collect()
    }

    fn keys(statements: &[PlainOp]) -> BTreeSet<u32> {
        let key = |op: &PlainOp| if let Op::Start { key, .. } = op { Some(key.0) } else { None };
        statements.iter().filter_map(key).collect()
    }

    fn batches(part: Part) -> Batches {
        Batches { part, seed: 5, first_key: 1_000, batches: 9, of_batch: 30, size: 2, done: 0 }
    }

    #[test]
    fn a_client_starts_every_workflow_and_tells_it_what_it_awaits() {
        for workload in Workload::ALL.into_iter().filter(|it| it.program().is_some()) {
            let program = workload.program().unwrap();
            let client = batches(Part::Client);
            let said = statements(&client, 2, program);
            assert_eq!(keys(&said), (1_060..1_090).collect());
            assert!(keys(&said).iter().all(|key| client.batch_of(Key(*key)) == 2));
            let told: BTreeSet<(EmitId, u64)> = said
                .iter()
                .filter_map(|op| if let Op::Emit { emit, payload, .. } = op { Some((*emit, *payload)) } else { None })
                .collect();
            let expected = (1_060..1_090).flat_map(|key| program.emits(key, 2).into_iter().enumerate());
            assert_eq!(told, expected.map(|(place, it)| (EmitId(place as u32 + 1), it.payload)).collect());
        }
    }

    /// Otherwise it would be in nobody's batch that must be finished.
    #[test]
    fn a_rival_knows_no_other_workflows() {
        let program = Workload::by_name("approval").and_then(|it| it.program()).unwrap();
        let (client, rival) = (batches(Part::Client), batches(Part::Rival));
        let known = keys(&statements(&rival, 4, program));
        assert!(known.len() > 10 && known.is_subset(&keys(&statements(&client, 4, program))));
    }
}
