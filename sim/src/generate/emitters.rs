//! Emitters: who tells workflows what they await, or will await, or have long stopped awaiting.
//!
//! Of each expectation one emit is true and certain: it is repeated until it is answered, and emitted once more if another
//! came first. Around it others say the same again, something else, the same without the right token, or too late.

use super::options::Options;
use super::telling::{self, Pace, Telling};
use super::{QUEUE, START, in_order, statement};
use crate::faults::FaultKind;
use crate::plan::{Plan, Role};
use crate::random::Stream;
use std::collections::BTreeMap;
use tourbillon_engine::actors::script::{EMIT_REPETITION, OnLostReply, OnRefusal, Round, ScriptOptions};
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::{ActorId, EmitId, Key, Micros, Name};
use tourbillon_models::op::{Isolation, Op};
use tourbillon_models::workload::{Expected, Program};

/// A workflow of the plan: when it is started, and how.
struct Start {
    at: Micros,
    op: PlainOp,
}

/// One emit to a workflow of the plan.
struct Planned<'a> {
    start: &'a Start,
    telling: Telling<'a>,
}

const PACE: Pace = Pace { open_for: Micros::from_millis(400), snapshot_for: Micros::from_millis(600) };

/// Who tells them something.
pub fn add_emitters(plan: &mut Plan, options: &Options, program: &dyn Program) {
    let Some(waits) = &options.waits else { return };
    let starts = starts(plan);
    let mut emits = (1..EMIT_REPETITION).map(EmitId);
    let mut rounds: Vec<Vec<Round>> = (0..waits.emitters).map(|_| Vec::new()).collect();
    for (key, start) in &starts {
        for (place, told) in program.emits(key.0, options.size).into_iter().enumerate() {
            let mut stream = Stream::new(plan.seed, "emit", u64::from(key.0) << 16 | place as u64);
            let mut tell = |stream: &mut Stream, told: Expected, emit: Option<EmitId>| {
                let emit = emit.or_else(|| emits.next()).expect("a plan has few emits");
                let emitter = stream.below(waits.emitters) as usize;
                let telling = Telling { start: &start.op, told, emit, actor: ActorId(emitter as u8) };
                (emitter, Planned { start, telling })
            };
            let (emitter, truth) = tell(&mut stream, told, None);
            rounds[emitter].push(truth.certain(&mut stream, options));
            if options.has(FaultKind::AsyncCommitLoss) {
                rounds[emitter].push(truth.once_more(options));
            }
            if stream.chance(1, 4) {
                let (emitter, again) = tell(&mut stream, told, Some(truth.telling.emit));
                rounds[emitter].push(again.at_some_time(&mut stream, options));
            }
            for draw in [telling::contradiction, telling::forgery] {
                let Some(untrue) = draw(&mut stream, told) else { continue };
                let (emitter, untrue) = tell(&mut stream, untrue, None);
                rounds[emitter].push(untrue.at_some_time(&mut stream, options));
            }
            if stream.chance(1, 5) {
                let (emitter, late) = tell(&mut stream, told, None);
                rounds[emitter].push(late.at_last(&mut stream, options));
            }
        }
    }
    for (index, rounds) in rounds.into_iter().enumerate() {
        plan.add_script(format!("emitter-{index}"), in_order(rounds));
    }
    add_hearers(plan, options, program, &starts, &mut emits);
    add_flood(plan, program, &starts, &mut emits);
}

/// Whatever a client or a late producer means to start.
fn starts(plan: &Plan) -> BTreeMap<Key, Start> {
    let mut starts: BTreeMap<Key, Start> = BTreeMap::new();
    let is_client = |name: &str| name.starts_with("client-") || name.starts_with("late-producer-");
    for process in plan.processes.iter().filter(|process| is_client(&process.name)) {
        let Role::Script(ScriptOptions::Once { rounds }) = &process.role else { continue };
        for round in rounds {
            for (_, op) in &round.statements {
                if let Op::Start { key, .. } = op {
                    let start = starts.entry(*key).or_insert_with(|| Start { at: round.at, op: op.clone() });
                    start.at = start.at.min(round.at);
                }
            }
        }
    }
    starts
}

impl Planned<'_> {
    /// With the start or soon after it or at any time.
    fn certain(&self, stream: &mut Stream, options: &Options) -> Round {
        let (begun, end) = (self.start.at, options.faults_end);
        let soon = Micros(begun.0 + 3_000_000).min(end).max(begun);
        let (at, statements) = match stream.below(6) {
            0 => (stream.span(START, begun), self.telling.with_the_start(stream, PACE)),
            1..4 => (stream.span(begun, soon), self.telling.statements(stream, PACE)),
            _ => (stream.span(begun, end.max(begun)), self.telling.statements(stream, PACE)),
        };
        round(at, OnLostReply::Insist, statements)
    }

    /// When nothing is lost any more. What was not lost is answered as before.
    fn once_more(&self, options: &Options) -> Round {
        let at = options.faults_end + Micros::from_millis(10);
        round(at, OnLostReply::Insist, self.telling.alone())
    }

    fn at_some_time(&self, stream: &mut Stream, options: &Options) -> Round {
        let at = stream.span(self.start.at, options.faults_end.max(self.start.at));
        let statements = self.telling.statements(stream, PACE);
        round(at, OnLostReply::Repeat, statements)
    }

    /// The workflow is dead by then, perhaps.
    fn at_last(&self, stream: &mut Stream, options: &Options) -> Round {
        let at = stream.span(Micros(options.faults_end.0 / 10 * 9), options.faults_end);
        round(at, OnLostReply::Repeat, self.telling.alone())
    }
}

fn round(at: Micros, on_lost_reply: OnLostReply, statements: Vec<(Micros, PlainOp)>) -> Round {
    Round { at, on_lost_reply, on_refusal: OnRefusal::RollBack, statements }
}

/// Who hears of a workflow from somebody else, and tells it something under a snapshot from before it began.
fn add_hearers(
    plan: &mut Plan,
    options: &Options,
    program: &dyn Program,
    starts: &BTreeMap<Key, Start>,
    emits: &mut impl Iterator<Item = EmitId>,
) {
    let mut stream = Stream::new(plan.seed, "hearer", 0);
    let heard: Vec<(&Key, &Start)> = starts.iter().filter(|_| stream.chance(1, 4)).take(2).collect();
    for (index, (key, start)) in heard.into_iter().enumerate() {
        let expected = program.emits(key.0, options.size);
        if expected.is_empty() {
            continue;
        }
        let told = *stream.choose(&expected);
        let emit = emits.next().expect("a plan has few emits");
        let telling = Telling { start: &start.op, told, emit, actor: ActorId(u8::MAX) };
        let wait = stream.span(Micros::from_millis(20), Micros::from_millis(500));
        let statements = vec![
            statement(Op::Begin { isolation: Isolation::RepeatableRead }),
            statement(Op::Peek { queue: QUEUE, table: stream.below(3) as u8 }),
            (wait, telling.emit().1),
            (PACE.open_for(&mut stream), Op::Commit),
        ];
        let at = (start.at - stream.span(Micros(0), wait)).max(START);
        plan.add_script(format!("hearer-{index}"), vec![round(at, OnLostReply::Repeat, statements)]);
        plan.processes.last_mut().expect("it was just added").hears_of = Some(*key);
    }
}

/// Who emits every name at once to a workflow that has just begun: more than are kept for it. Nothing of that stays.
fn add_flood(
    plan: &mut Plan,
    program: &dyn Program,
    starts: &BTreeMap<Key, Start>,
    emits: &mut impl Iterator<Item = EmitId>,
) {
    let mut stream = Stream::new(plan.seed, "flood", 0);
    let names = program.names().len();
    let drowned = starts.values().find(|_| names > MOST_PROMISES && stream.chance(1, 12));
    let Some(start) = drowned else { return };
    let tellings = (0..names).zip(emits).map(|(name, emit)| {
        let told = Expected { name: Name(name as u16), payload: 0, token: None };
        Telling { start: &start.op, told, emit, actor: ActorId(u8::MAX) }.emit()
    });
    let begin = statement(Op::Begin { isolation: telling::isolation(&mut stream) });
    let started = statement(start.op.clone());
    let end = statement(Op::Rollback);
    let statements = [begin, started].into_iter().chain(tellings).chain([end]).collect();
    let at = stream.span(START, start.at);
    let (on_lost_reply, on_refusal) = (OnLostReply::GiveUp, OnRefusal::RollBack);
    plan.add_script("flood".to_owned(), vec![Round { at, on_lost_reply, on_refusal, statements }]);
}

/// More promises than this are refused by the engine.
const MOST_PROMISES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Limits;
    use crate::simulate::Work;
    use tourbillon_models::name::WaitToken;
    use tourbillon_models::workload::Workload;

    fn rounds(plan: &Plan) -> impl Iterator<Item = (&str, &Round)> {
        plan.processes.iter().flat_map(|process| {
            let rounds: &[Round] = match &process.role {
                Role::Script(ScriptOptions::Once { rounds }) => rounds,
                _ => &[],
            };
            rounds.iter().map(|round| (process.name.as_str(), round))
        })
    }

    fn emits(round: &Round) -> impl Iterator<Item = (Expected, EmitId)> {
        round.statements.iter().filter_map(|(_, op)| match *op {
            Op::Emit { name, payload, emit, token, .. } => {
                Some((Expected { name, payload, token: (token != WaitToken::NONE).then_some(token) }, emit))
            }
            _ => None,
        })
    }

    fn key(round: &Round) -> Option<Key> {
        round.statements.iter().find_map(|(_, op)| if let Op::Start { key, .. } = op { Some(*key) } else { None })
    }

    fn plans(workload: &str) -> impl Iterator<Item = Plan> {
        let work = Work::named(workload).expect("it is a workload");
        (0..40).map(move |seed| work.plan(seed, &Limits { faults: FaultKind::ALL.to_vec() }))
    }

    fn size(plan: &Plan) -> u64 {
        let size = plan.options.iter().find(|(name, _)| name == "size").expect("every plan has a size");
        size.1.parse().expect("it is a number")
    }

    #[test]
    fn whatever_is_expected_is_emitted_for_certain_by_somebody_who_insists() {
        for workload in ["approval", "emit-race", "observability", "secrets"] {
            let program = Workload::by_name(workload).and_then(|workload| workload.program()).unwrap();
            for plan in plans(workload) {
                for key in starts(&plan).keys() {
                    let certain = rounds(&plan).filter(|(_, round)| round.on_lost_reply == OnLostReply::Insist);
                    let certain = certain.filter(|(_, round)| super::tests::key(round) == Some(*key));
                    let told: BTreeMap<EmitId, Expected> =
                        certain.flat_map(|(_, round)| emits(round)).map(|(told, emit)| (emit, told)).collect();
                    assert!(
                        told.into_values().eq(program.emits(key.0, size(&plan))),
                        "seed {} of {workload}",
                        plan.seed
                    );
                }
            }
        }
    }

    /// What is emitted twice under one id is the same, and to the same workflow.
    #[test]
    fn an_id_stands_for_one_emit() {
        for plan in plans("emit-race").chain(plans("approval")) {
            let mut known = BTreeMap::new();
            for (process, round) in rounds(&plan).filter(|(process, _)| process.starts_with("emitter-")) {
                for (told, emit) in emits(round) {
                    let told = (key(round), told);
                    assert_eq!(*known.entry(emit).or_insert(told), told, "{emit} by {process}, seed {}", plan.seed);
                }
            }
            assert!(known.keys().all(|emit| emit.0 < EMIT_REPETITION));
        }
    }

    #[test]
    fn where_nobody_waits_nobody_emits() {
        let is_of_waits = |name: &str| ["emitter-", "hearer-", "flood", "expiry"].iter().any(|it| name.starts_with(it));
        for workload in Workload::ALL {
            let has_names = !workload.names().is_empty();
            let mut plans = plans(workload.name());
            assert!(plans.all(|plan| plan.processes.iter().any(|it| is_of_waits(&it.name)) == has_names));
        }
    }

    #[test]
    fn emits_come_in_every_way() {
        let mut seen = [0; 6];
        for plan in plans("approval") {
            for (process, round) in rounds(&plan).filter(|(_, round)| emits(round).next().is_some()) {
                let has = |is_it: fn(&PlainOp) -> bool| round.statements.iter().any(|(_, op)| is_it(op));
                seen[0] += usize::from(has(|op| matches!(op, Op::Begin { isolation: Isolation::RepeatableRead })));
                seen[1] += usize::from(has(|op| matches!(op, Op::RollbackTo { .. })));
                seen[2] += usize::from(has(|op| matches!(op, Op::Rollback)));
                seen[3] += usize::from(!has(|op| matches!(op, Op::Begin { .. })));
                seen[4] += usize::from(process.starts_with("hearer-"));
                seen[5] += usize::from(round.at < START + Micros::from_millis(50));
            }
        }
        assert!(seen.iter().all(|count| *count > 3), "{seen:?}");
    }
}
