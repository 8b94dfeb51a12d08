//! Holders: transactions that stay open, with a snapshot or with maintenance's lock on an event table; and readers, whose
//! short transactions overlap, so that there is hardly a moment at which nobody reads.

use super::options::Options;
use super::{QUEUE, START, bracketed, in_order, statement};
use crate::faults::FaultKind;
use crate::plan::{Plan, Role};
use crate::random::Stream;
use tourbillon_engine::actors::script::{OnLostReply, OnRefusal, Round, ScriptOptions};
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::Micros;
use tourbillon_models::op::{Isolation, Op, TableLock};

pub fn add_holders(plan: &mut Plan, options: &Options) {
    if !options.has(FaultKind::HeldTransaction) {
        return;
    }
    let mut stream = Stream::new(plan.seed, "holder", 0);
    for index in 0..stream.between(1, 2) {
        let rounds = (0..stream.between(1, 3)).map(|_| {
            let isolation = if stream.chance(1, 2) { Isolation::RepeatableRead } else { Isolation::ReadCommitted };
            let mut statements = vec![statement(hold_of(&mut stream))];
            // A second hold, in whatever order: two holders may wait for each other.
            if stream.chance(1, 2) {
                let later = stream.span(Micros::from_millis(5), Micros::from_millis(300));
                statements.push((later, hold_of(&mut stream)));
            }
            let open_for = stream.span(Micros::from_millis(50), Micros::from_millis(2000));
            bracketed(&mut stream, options, isolation, statements, open_for)
        });
        plan.add_script(format!("holder-{index}"), in_order(rounds.collect()));
    }
}

/// Each looks at all event tables for a while and begins again at once, when the other is in the middle of it. Whoever waits
/// for a table in its lock queue gets it before his time is up; whoever does not wait hardly ever does.
pub fn add_readers(plan: &mut Plan, options: &Options) {
    let open_for = Micros((options.lock_timeout.0 / 3).clamp(2_000, 60_000));
    for index in 0..options.shape.readers {
        let begin = statement(Op::Begin { isolation: Isolation::ReadCommitted });
        let peeks = (0..3).map(|table| statement(Op::Peek { queue: QUEUE, table }));
        let round = Round {
            at: START + Micros(index * open_for.0 / options.shape.readers),
            on_lost_reply: OnLostReply::GiveUp,
            on_refusal: OnRefusal::RollBack,
            statements: [begin].into_iter().chain(peeks).chain([(open_for, Op::Commit)]).collect(),
        };
        plan.add(format!("reader-{index}"), Role::Script(ScriptOptions::Periodic { every: open_for, round }));
    }
}

/// A look at an event table, or maintenance's lock on it.
fn hold_of(stream: &mut Stream) -> PlainOp {
    let table = stream.below(3) as u8;
    let modes = [TableLock::AccessShare, TableLock::RowExclusive, TableLock::Share, TableLock::AccessExclusive];
    let mode = *stream.choose(&modes);
    if stream.chance(1, 2) { Op::Peek { queue: QUEUE, table } } else { Op::LockTable { queue: QUEUE, table, mode } }
}
