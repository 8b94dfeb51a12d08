//! Words of the vocabulary as the server writes them.

use super::mapping::decimal;
use super::value::{Columns, DecodeError};
use alloc::format;
use alloc::string::{String, ToString};
use tourbillon_models::name::EventId;
use tourbillon_models::op::{QueueKind, TableLock, Verb};
use tourbillon_models::reply::{Arrival, ChildOutcome, EmitAnswer, Outcome};
use tourbillon_models::state::{Act, DeadReason};

pub(super) const fn kind_name(kind: QueueKind) -> &'static str {
    match kind {
        QueueKind::Plain => "plain",
        QueueKind::Workflow => "workflow",
    }
}

pub(super) const fn verb_name(verb: Verb) -> &'static str {
    match verb {
        Verb::Acknowledge => "acknowledge",
        Verb::Goto => "goto",
        Verb::Sleep => "sleep",
        Verb::Retry => "retry",
        Verb::Await => "await",
        Verb::Spawn => "spawn",
        Verb::Child => "child",
        Verb::Complete => "complete",
        Verb::Fail => "fail",
        Verb::Reject => "reject",
    }
}

pub(super) const fn mode_name(mode: TableLock) -> &'static str {
    match mode {
        TableLock::AccessShare => "access share",
        TableLock::RowShare => "row share",
        TableLock::RowExclusive => "row exclusive",
        TableLock::Share => "share",
        TableLock::AccessExclusive => "access exclusive",
    }
}

/// The columns arrival and payload.
pub(super) fn arrival(columns: &mut Columns<'_>) -> Result<Arrival, DecodeError> {
    match (columns.text()?, columns.text()?) {
        (None, None) => Ok(Arrival::Direct),
        (Some("emitted"), Some(payload)) => Ok(Arrival::Emitted { payload: decimal(payload)? }),
        (Some("timed_out"), None) => Ok(Arrival::TimedOut),
        (Some("joined"), Some(join)) => Ok(Arrival::Joined { join: EventId(decimal(join)?) }),
        other => Err(DecodeError::new(format!("{other:?} is no arrival with its payload"))),
    }
}

pub(super) const fn arrival_name(arrival: Arrival) -> Option<&'static str> {
    match arrival {
        Arrival::Direct => None,
        Arrival::Emitted { .. } => Some("emitted"),
        Arrival::TimedOut => Some("timed_out"),
        Arrival::Joined { .. } => Some("joined"),
    }
}

pub(super) fn arrival_payload(arrival: Arrival) -> Option<String> {
    match arrival {
        Arrival::Direct | Arrival::TimedOut => None,
        Arrival::Emitted { payload } => Some(payload.to_string()),
        Arrival::Joined { join } => Some(join.0.to_string()),
    }
}

pub(super) fn emit_answer(text: Option<&str>) -> Result<EmitAnswer, DecodeError> {
    match text {
        Some("resumed") => Ok(EmitAnswer::Resumed),
        Some("promised") => Ok(EmitAnswer::Promised),
        Some("second") => Ok(EmitAnswer::Second),
        Some("forged") => Ok(EmitAnswer::Forged),
        Some("dead") => Ok(EmitAnswer::Dead),
        other => Err(DecodeError::new(format!("{other:?} is no answer to an emit"))),
    }
}

pub(super) fn child_outcome(text: Option<&str>) -> Result<ChildOutcome, DecodeError> {
    match text {
        Some("completed") => Ok(ChildOutcome::Completed),
        Some("failed") => Ok(ChildOutcome::Failed),
        Some("dead") => Ok(ChildOutcome::Dead),
        other => Err(DecodeError::new(format!("{other:?} is no end of a child"))),
    }
}

pub(super) fn outcome(text: Option<&str>) -> Result<Outcome, DecodeError> {
    match text {
        Some("committed") => Ok(Outcome::Committed),
        Some("aborted") => Ok(Outcome::Aborted),
        Some("in progress") => Ok(Outcome::InProgress),
        other => Err(DecodeError::new(format!("the server does not know the transaction any more: {other:?}"))),
    }
}

pub(super) fn reason(name: Option<&str>) -> Result<DeadReason, DecodeError> {
    match name {
        Some("attempts") => Ok(DeadReason::Attempts),
        Some("tries") => Ok(DeadReason::Tries),
        Some("rejected") => Ok(DeadReason::Rejected),
        Some("undeliverable") => Ok(DeadReason::Undeliverable),
        other => Err(DecodeError::new(format!("{other:?} is no reason for a dead letter"))),
    }
}

pub(super) fn act(text: Option<&str>) -> Result<Act, DecodeError> {
    match text {
        Some("discard") => Ok(Act::Discard),
        other => emit_answer(other.and_then(|act| act.strip_prefix("emit_"))).map(Act::Emit),
    }
}
