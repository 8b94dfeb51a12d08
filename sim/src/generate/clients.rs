//! Clients: what brings work. They start workflows, append messages, schedule some for later and take some of those back.

use super::options::Options;
use super::shape::Arrivals;
use super::{QUEUE, START, bracketed, in_order, statement};
use crate::faults::FaultKind;
use crate::plan::Plan;
use crate::random::Stream;
use tourbillon_engine::actors::script::{OnLostReply, OnRefusal, Round};
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::{EventId, Key, Micros};
use tourbillon_models::op::{Isolation, Op};
use tourbillon_models::workload::Program;

/// What brings one item of work: a start or a message.
pub fn arrival(item: u64, options: &Options, program: Option<&dyn Program>) -> PlainOp {
    match program {
        Some(program) => {
            let (step, state) = program.start(item as u32, options.size);
            Op::Start { queue: QUEUE, key: Key(item as u32), step, state }
        }
        None => Op::Append { queue: QUEUE, payload: item },
    }
}

/// Items from here on are written only where something takes them back.
pub const NEVER_COMMITTED: u64 = 1_000_000;

/// A start is idempotent by its key; a message is not, and its client asks what became of it.
fn on_lost_reply(program: Option<&dyn Program>) -> OnLostReply {
    if program.is_some() { OnLostReply::Repeat } else { OnLostReply::Resolve }
}

pub fn add_clients(plan: &mut Plan, options: &Options, program: Option<&dyn Program>) {
    let mut stream = Stream::new(plan.seed, "client", 0);
    let rounds = match options.shape.arrivals {
        Arrivals::Spread => spread(&mut stream, options, program),
        Arrivals::AtOnce => at_once(&mut stream, options, program),
        Arrivals::Triggered => triggered(&mut stream, options, program),
        Arrivals::RolledBack => rolled_back(&mut stream, options, program),
    };
    for (index, rounds) in rounds.into_iter().enumerate() {
        plan.add_script(format!("client-{index}"), in_order(rounds));
    }
}

/// For each client its rounds.
fn spread(stream: &mut Stream, options: &Options, program: Option<&dyn Program>) -> Vec<Vec<Round>> {
    let mut rounds: Vec<Vec<Round>> = (0..options.clients).map(|_| Vec::new()).collect();
    for item in 0..options.items {
        let client = stream.below(options.clients) as usize;
        let at = stream.span(START, options.arrivals_end);
        let op = match program {
            None if stream.chance(2, 5) => later(stream, item),
            _ => arrival(item, options, program),
        };
        if let Op::Schedule { delay, .. } = op
            && stream.chance(1, 2)
        {
            rounds[client].push(cancel(stream, at, delay));
        }
        rounds[client].push(Round {
            at,
            on_lost_reply: on_lost_reply(program),
            on_refusal: OnRefusal::RollBack,
            statements: client_statements(stream, op, program.is_some()),
        });
    }
    rounds
}

/// All at one time; from one session one by one or in one transaction, from several one by one.
fn at_once(stream: &mut Stream, options: &Options, program: Option<&dyn Program>) -> Vec<Vec<Round>> {
    let at = stream.span(START, Micros(options.faults_end.0 / 2));
    let round =
        |statements| Round { at, on_lost_reply: on_lost_reply(program), on_refusal: OnRefusal::RollBack, statements };
    let is_one = options.clients == 1 && stream.chance(1, 2);
    let of_client = |client: u64| {
        let items = (client..options.items).step_by(options.clients as usize);
        let statements = items.map(|item| statement(arrival(item, options, program)));
        if !is_one {
            return statements.map(|statement| round(vec![statement])).collect();
        }
        let begin = statement(Op::Begin { isolation: Isolation::ReadCommitted });
        vec![round([begin].into_iter().chain(statements).chain([statement(Op::Commit)]).collect())]
    };
    (0..options.clients).map(of_client).collect()
}

/// Twenty in one transaction, the others in one each, and some once more where a row is changed that had started one; and
/// transactions that are rolled back.
fn triggered(stream: &mut Stream, options: &Options, program: Option<&dyn Program>) -> Vec<Vec<Round>> {
    let bulk = options.items.min(20);
    let mut transactions: Vec<Vec<u64>> = vec![(0..bulk).collect()];
    transactions.extend((bulk..options.items).map(|item| vec![item]));
    transactions.extend((0..stream.below(3)).map(|_| vec![stream.below(options.items)]));
    let mut rounds: Vec<Vec<Round>> = (0..options.clients).map(|_| Vec::new()).collect();
    for items in transactions {
        let starts = items.into_iter().map(|item| statement(arrival(item, options, program))).collect();
        let (isolation, open_for) = (isolation(stream), open_for(stream));
        let mut round = bracketed(stream, options, isolation, starts, open_for);
        round.on_lost_reply = on_lost_reply(program);
        rounds[stream.below(options.clients) as usize].push(round);
    }
    for (index, count) in [1, 20, 1].into_iter().enumerate() {
        let first = NEVER_COMMITTED + 100 * index as u64;
        let round = undone(stream, options, program, first..first + count);
        rounds[stream.below(options.clients) as usize].push(round);
    }
    rounds
}

/// Between those that stay, twice as many that do not.
fn rolled_back(stream: &mut Stream, options: &Options, program: Option<&dyn Program>) -> Vec<Vec<Round>> {
    let mut rounds = spread(stream, options, program);
    for index in 0..2 * options.items {
        let first = NEVER_COMMITTED + 100 * index;
        let count = stream.between(1, 3);
        let round = undone(stream, options, program, first..first + count);
        rounds[stream.below(options.clients) as usize].push(round);
    }
    rounds
}

/// Starts of which no trace may stay: rolled back as a whole, up to a savepoint, or since something else was refused that the
/// client did not notice.
fn undone(
    stream: &mut Stream,
    options: &Options,
    program: Option<&dyn Program>,
    items: core::ops::Range<u64>,
) -> Round {
    let starts: Vec<_> = items.map(|item| statement(arrival(item, options, program))).collect();
    let (isolation, open_for) = (isolation(stream), open_for(stream));
    let [save, undo] = [Op::Savepoint { level: 1 }, Op::RollbackTo { level: 1 }].map(statement);
    let peek = statement(Op::Peek { queue: QUEUE, table: stream.below(3) as u8 });
    match stream.below(3) {
        0 => {
            let mut round = bracketed(stream, options, isolation, starts, open_for);
            round.statements.last_mut().expect("it ends").1 = Op::Rollback;
            round
        }
        1 => {
            let statements = [save].into_iter().chain(starts).chain([undo, peek]).collect();
            bracketed(stream, options, isolation, statements, open_for)
        }
        _ => {
            let tick = statement(Op::Tick { queue: QUEUE });
            let statements = starts.into_iter().chain([tick, peek]).collect();
            let round = bracketed(stream, options, isolation, statements, open_for);
            Round { on_refusal: OnRefusal::CarryOn, ..round }
        }
    }
}

fn isolation(stream: &mut Stream) -> Isolation {
    if stream.chance(1, 3) { Isolation::RepeatableRead } else { Isolation::ReadCommitted }
}

fn open_for(stream: &mut Stream) -> Micros {
    if stream.chance(1, 2) { stream.span(Micros(0), Micros::from_millis(400)) } else { Micros(0) }
}

/// A message that is due later. Now and then one that the application's own rule forbids: nothing but its time will tell.
fn later(stream: &mut Stream, item: u64) -> PlainOp {
    let delay = stream.span(Micros(0), Micros::from_millis(1500));
    let payload = if item == 0 && stream.chance(1, 3) { FORBIDDEN } else { item };
    Op::Schedule { queue: QUEUE, payload, delay }
}

/// No event may carry this.
const FORBIDDEN: u64 = u64::MAX;

/// About when it is due, what was scheduled is taken back: in a transaction of its own, or in one that stays open.
fn cancel(stream: &mut Stream, scheduled_at: Micros, delay: Micros) -> Round {
    let at = scheduled_at + stream.span(Micros(delay.0 / 2), Micros(delay.0 + 300_000));
    // What it names is known only once it is there.
    let cancel = statement(Op::Cancel { queue: QUEUE, event: EventId(0), due: Micros(0) });
    let statements = match stream.below(3) {
        0 => vec![cancel],
        1 => vec![cancel.clone(), cancel],
        _ => {
            let open_for = stream.span(Micros::from_millis(1), Micros::from_millis(400));
            let begin = statement(Op::Begin { isolation: Isolation::ReadCommitted });
            vec![begin, cancel, (open_for, Op::Commit)]
        }
    };
    Round { at, on_lost_reply: OnLostReply::GiveUp, on_refusal: OnRefusal::RollBack, statements }
}

/// One item, alone or in a transaction that stays open for a while; now and then it is rolled back first.
fn client_statements(stream: &mut Stream, op: PlainOp, may_stand_alone: bool) -> Vec<(Micros, PlainOp)> {
    if may_stand_alone && stream.chance(1, 3) {
        return vec![statement(op)];
    }
    let (isolation, open_for) = (isolation(stream), open_for(stream));
    let mut statements = Vec::new();
    if stream.chance(1, 6) {
        statements.extend([statement(Op::Begin { isolation }), statement(op.clone()), (open_for, Op::Rollback)]);
    }
    statements.push(statement(Op::Begin { isolation }));
    if stream.chance(1, 6) {
        let undone = [Op::Savepoint { level: 1 }, op.clone(), Op::RollbackTo { level: 1 }];
        statements.extend(undone.map(statement));
    }
    statements.extend([statement(op), (open_for, Op::Commit)]);
    statements
}

/// Producers whose snapshot is older than the log's pointer by the time they append.
pub fn add_late_producers(plan: &mut Plan, options: &Options, program: Option<&dyn Program>) {
    if !options.has(FaultKind::LateProducer) {
        return;
    }
    let mut stream = Stream::new(plan.seed, "late", 0);
    for index in 0..stream.between(1, 4) {
        // Now and then what it starts has been started already, unseen by its snapshot.
        let known = program.is_some() && stream.chance(1, 3);
        let item = if known { stream.below(options.items) } else { options.items + index };
        let peek = Op::Peek { queue: QUEUE, table: stream.below(3) as u8 };
        let wait = stream.span(Micros(0), Micros(3 * options.rotation_period.0));
        let op = match program {
            // Due before it is committed: behind the drain's back.
            None if stream.chance(1, 2) => {
                let delay = stream.span(Micros(0), Micros(options.lock_timeout.0));
                Op::Schedule { queue: QUEUE, payload: item, delay }
            }
            _ => arrival(item, options, program),
        };
        let statements = vec![
            statement(Op::Begin { isolation: Isolation::RepeatableRead }),
            statement(peek),
            (wait, op),
            (stream.span(Micros(0), options.lock_timeout), Op::Commit),
        ];
        let at = stream.span(START, options.faults_end);
        let round = Round { at, on_lost_reply: on_lost_reply(program), on_refusal: OnRefusal::RollBack, statements };
        plan.add_script(format!("late-producer-{index}"), vec![round]);
    }
}
