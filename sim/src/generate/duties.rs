//! Duties: tick, rotation, drain, the rotation of timers and of the audit, the expiry of waits; and those who call them in the wrong way.

use super::clients::{NEVER_COMMITTED, arrival};
use super::options::Options;
use super::{QUEUE, START, bracketed, in_order, statement};
use crate::faults::FaultKind;
use crate::plan::{Plan, Role};
use crate::random::Stream;
use tourbillon_engine::actors::script::{OnLostReply, OnRefusal, Round, ScriptOptions};
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::Micros;
use tourbillon_models::op::{Isolation, Op};
use tourbillon_models::workload::Program;

/// The names of the duties: takeover is that of a standby, who is a worker.
pub const DUTIES: [&str; 6] = ["ticker", "rotation", "drain", "timer-rotation", "expiry", "audit-rotation"];

/// A duty that calls one procedure over and over, each time in a transaction of its own.
pub fn duty(op: PlainOp, every: Micros) -> Role {
    let round = Round {
        at: START,
        on_lost_reply: OnLostReply::GiveUp,
        on_refusal: OnRefusal::RollBack,
        statements: vec![statement(op)],
    };
    Role::Script(ScriptOptions::Periodic { every, round })
}

pub fn add_duties(plan: &mut Plan, options: &Options, program: Option<&dyn Program>) {
    for (name, (op, every)) in DUTIES.into_iter().zip(calls(options)) {
        plan.add(name.to_owned(), duty(op, every));
    }
    for index in 0..options.observers {
        plan.add(format!("observer-{index}"), duty(Op::Observe { queue: QUEUE }, options.observe_interval));
    }
    let mut stream = Stream::new(plan.seed, "duty", 0);
    if options.has(FaultKind::DutyInTransaction) {
        let rounds = (0..stream.between(2, 6)).map(|_| {
            let op = any_duty(&mut stream, options);
            let open_for = stream.span(Micros::from_millis(5), Micros::from_millis(600));
            if stream.chance(1, 4) {
                return tick_after_a_write(&mut stream, options, program);
            }
            bracketed(&mut stream, options, Isolation::ReadCommitted, vec![statement(op)], open_for)
        });
        plan.add_script("duty-in-transaction".to_owned(), in_order(rounds.collect()));
    }
    if options.has(FaultKind::DutyRepeatableRead) {
        let rounds = (0..stream.between(2, 6)).map(|_| {
            let peek = Op::Peek { queue: QUEUE, table: stream.below(3) as u8 };
            let op = any_duty(&mut stream, options);
            let later = stream.span(Micros::from_millis(5), Micros::from_millis(1200));
            let statements = vec![statement(peek), (later, op)];
            bracketed(&mut stream, options, Isolation::RepeatableRead, statements, Micros(0))
        });
        plan.add_script("duty-repeatable-read".to_owned(), in_order(rounds.collect()));
    }
}

/// What each of [`DUTIES`] calls, and how often. Where nobody waits, no deadline passes and nobody emits.
fn calls(options: &Options) -> Vec<(PlainOp, Micros)> {
    let lock_timeout = options.lock_timeout;
    let always = [
        (Op::Tick { queue: QUEUE }, options.tick_interval),
        (Op::Rotate { queue: QUEUE, lock_timeout }, options.rotation_period),
        (Op::Drain { queue: QUEUE, limit: options.drain_limit }, options.drain_interval),
        (Op::RotateTimers { queue: QUEUE, lock_timeout }, options.timer_rotation_period),
    ];
    let of_waits = options.waits.iter().flat_map(|waits| {
        let keep = waits.audit_keep;
        [
            (Op::ExpireWaits { queue: QUEUE, limit: waits.expire_limit }, waits.expire_interval),
            (Op::RotateAudit { keep, lock_timeout }, waits.audit_rotation_period),
        ]
    });
    always.into_iter().chain(of_waits).collect()
}

/// Half of them ticks.
fn any_duty(stream: &mut Stream, options: &Options) -> PlainOp {
    let calls = calls(options);
    let (tick, others) = calls.split_first().expect("there is always a ticker");
    if stream.chance(1, 2) { tick.0.clone() } else { stream.choose(others).0.clone() }
}

/// A client that ticks in a transaction that has written, and does not notice that it is refused.
fn tick_after_a_write(stream: &mut Stream, options: &Options, program: Option<&dyn Program>) -> Round {
    let write = arrival(NEVER_COMMITTED + stream.below(1000), options, program);
    let peek = Op::Peek { queue: QUEUE, table: 0 };
    let statements = [write, Op::Tick { queue: QUEUE }, peek].map(statement).to_vec();
    let round = bracketed(stream, options, Isolation::ReadCommitted, statements, Micros(0));
    Round { on_refusal: OnRefusal::CarryOn, ..round }
}
