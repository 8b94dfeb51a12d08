//! One emit, and in which way it is made.

use super::{QUEUE, statement};
use crate::random::Stream;
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::{ActorId, EmitId, Micros, WaitToken, WorkflowId};
use tourbillon_models::op::{Isolation, Op};
use tourbillon_models::workload::Expected;

/// Statements, each after a pause.
pub type Statements = Vec<(Micros, PlainOp)>;

pub struct Telling<'a> {
    /// Starts the workflow, or names it if it was started before.
    pub start: &'a PlainOp,
    pub told: Expected,
    pub emit: EmitId,
    pub actor: ActorId,
}

/// How long things last, at most.
#[derive(Clone, Copy)]
pub struct Pace {
    /// A transaction that has emitted.
    pub open_for: Micros,
    /// From a snapshot to the emit under it.
    pub snapshot_for: Micros,
}

impl Pace {
    pub fn open_for(self, stream: &mut Stream) -> Micros {
        if stream.chance(1, 2) { stream.span(Micros(0), self.open_for) } else { Micros(0) }
    }
}

/// Now and then: another payload under the same name, from somebody who may not know the right token.
pub fn contradiction(stream: &mut Stream, told: Expected) -> Option<Expected> {
    if !stream.chance(1, 3) {
        return None;
    }
    let token = if stream.chance(1, 4) { told.token.or(Some(wrong_token(stream))) } else { told.token };
    Some(Expected { payload: told.payload ^ 1, token, ..told })
}

/// Every other time that a token is asked for: without it, or with another.
pub fn forgery(stream: &mut Stream, told: Expected) -> Option<Expected> {
    if told.token.is_none() || !stream.chance(1, 2) {
        return None;
    }
    let token = if stream.chance(1, 2) { None } else { Some(wrong_token(stream)) };
    Some(Expected { payload: told.payload ^ 3, token, ..told })
}

/// Not none, and nobody's.
fn wrong_token(stream: &mut Stream) -> WaitToken {
    WaitToken(stream.bits() | 1)
}

impl Telling<'_> {
    /// The workflow is the one that the statement before it has started, now or long ago.
    pub fn emit(&self) -> (Micros, PlainOp) {
        let Expected { name, payload, token } = self.told;
        let token = token.unwrap_or(WaitToken::NONE);
        let (emit, actor) = (self.emit, self.actor);
        statement(Op::Emit { workflow: WorkflowId(0), name, payload, emit, token, actor })
    }

    fn start(&self) -> (Micros, PlainOp) {
        statement(self.start.clone())
    }

    /// In a transaction of its own that ends with it.
    pub fn alone(&self) -> Statements {
        vec![self.start(), self.emit()]
    }

    /// In the transaction in which the workflow begins.
    pub fn with_the_start(&self, stream: &mut Stream, pace: Pace) -> Statements {
        let begin = statement(Op::Begin { isolation: isolation(stream) });
        vec![begin, self.start(), self.emit(), (pace.open_for(stream), Op::Commit)]
    }

    /// Alone, or in a transaction of its own that stays open for a while: under a snapshot from before it, or in a savepoint
    /// that is undone; now and then it is rolled back first.
    pub fn statements(&self, stream: &mut Stream, pace: Pace) -> Statements {
        if stream.chance(1, 3) {
            return self.alone();
        }
        let mut statements = vec![self.start()];
        let isolation = isolation(stream);
        if stream.chance(1, 6) {
            let begin = statement(Op::Begin { isolation });
            statements.extend([begin, self.emit(), (pace.open_for(stream), Op::Rollback)]);
        }
        statements.push(statement(Op::Begin { isolation }));
        let mut emit = self.emit();
        if stream.chance(1, 3) {
            statements.push(statement(Op::Peek { queue: QUEUE, table: stream.below(3) as u8 }));
            emit.0 = stream.span(Micros::from_millis(1), pace.snapshot_for);
        }
        if stream.chance(1, 6) {
            statements.push(statement(Op::Savepoint { level: 1 }));
            statements.extend([self.emit(), statement(Op::RollbackTo { level: 1 })]);
        }
        statements.extend([emit, (pace.open_for(stream), Op::Commit)]);
        statements
    }
}

pub fn isolation(stream: &mut Stream) -> Isolation {
    if stream.chance(1, 2) { Isolation::RepeatableRead } else { Isolation::ReadCommitted }
}
