//! How statements and transactions end: errors as refusals, and what a commit did.

use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::op::Op;
use tourbillon_models::reply::{Refusal, Reply};

/// The refusal that an error of the server's stands for; none for an error that the engine does not know.
///
/// Where one SQLSTATE stands for several, or the server uses it for errors of its own, the message decides: it is
/// the refusal's name.
pub fn refusal(sqlstate: &str, message: &str) -> Option<Refusal> {
    match sqlstate {
        "25P02" => Some(Refusal::FailedTransaction),
        "23505" => Some(Refusal::UniqueViolation),
        "23514" => Some(Refusal::CheckViolation),
        "40001" => Some(Refusal::SerializationFailure),
        "40P01" => Some(Refusal::Deadlock),
        "55P03" => Some(Refusal::LockNotAvailable),
        // No such savepoint, or no transaction that could have one.
        "3B001" | "25P01" => Some(Refusal::UndefinedObject),
        _ => raised(message).filter(|refusal| refusal.sqlstate() == sqlstate),
    }
}

/// The refusals that the scripts raise, under their own names.
fn raised(message: &str) -> Option<Refusal> {
    match message {
        "stale_token" => Some(Refusal::StaleToken),
        "window_mismatch" => Some(Refusal::WindowMismatch),
        "one_consumer" => Some(Refusal::OneConsumer),
        "window_open" => Some(Refusal::WindowOpen),
        "held_window" => Some(Refusal::HeldWindow),
        "not_isolated" => Some(Refusal::NotIsolated),
        "wrong_queue_kind" => Some(Refusal::WrongQueueKind),
        "isolation_level" => Some(Refusal::IsolationLevel),
        "limit_exceeded" => Some(Refusal::LimitExceeded),
        "wrote_before" => Some(Refusal::WroteBefore),
        "undefined_object" => Some(Refusal::UndefinedObject),
        _ => None,
    }
}

/// What the command tag of a `commit` says: that of a transaction that had failed is `ROLLBACK`.
///
/// A driver that hides the tag knows the same from the session's [`Transaction`].
pub fn commit_reply(tag: &str) -> PlainReply {
    if tag == "ROLLBACK" { Reply::RolledBack } else { Reply::Committed }
}

/// What a session's own statements and errors tell about its transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Transaction {
    #[default]
    None,
    Open,
    Failed,
}

impl Transaction {
    /// After this operation; `refused` if the server answered with an error.
    #[must_use]
    pub const fn after(self, op: &PlainOp, refused: bool) -> Transaction {
        match (self, op) {
            (_, Op::Commit | Op::Rollback) => Transaction::None,
            (Transaction::None, Op::Begin { .. }) if !refused => Transaction::Open,
            (Transaction::Failed, Op::RollbackTo { .. }) if !refused => Transaction::Open,
            (Transaction::Open, _) if refused => Transaction::Failed,
            _ => self,
        }
    }

    /// The reply to a commit that the server accepted in this state.
    pub const fn commit_reply(self) -> PlainReply {
        match self {
            Transaction::Failed => Reply::RolledBack,
            Transaction::None | Transaction::Open => Reply::Committed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tourbillon_models::name::{Consumer, Queue};
    use tourbillon_models::op::Isolation;

    #[test]
    fn a_refusal_is_known_by_its_code_and_where_that_is_shared_by_its_name() {
        assert_eq!(refusal("55000", "stale_token"), Some(Refusal::StaleToken));
        assert_eq!(refusal("55000", "window_mismatch"), Some(Refusal::WindowMismatch));
        assert_eq!(refusal("55000", "the virtual clock is not set"), None);
        assert_eq!(refusal("42704", "undefined_object"), Some(Refusal::UndefinedObject));
        assert_eq!(refusal("42704", "type \"x\" does not exist"), None);
        assert_eq!(refusal("3B001", "savepoint \"level_1\" does not exist"), Some(Refusal::UndefinedObject));
        assert_eq!(refusal("40P01", "deadlock detected"), Some(Refusal::Deadlock));
        assert_eq!(refusal("54000", "limit_exceeded"), Some(Refusal::LimitExceeded));
        assert_eq!(refusal("54000", "row is too big"), None);
        assert_eq!(refusal("42601", "stale_token"), None);
    }

    #[test]
    fn a_commit_of_a_failed_transaction_rolls_back() {
        assert_eq!(commit_reply("COMMIT"), Reply::Committed);
        assert_eq!(commit_reply("ROLLBACK"), Reply::RolledBack);
        let begin = Op::Begin { isolation: Isolation::ReadCommitted };
        let subscribe = Op::Subscribe { queue: Queue(0), consumer: Consumer(0) };
        let failed = Transaction::None.after(&begin, false).after(&subscribe, true);
        assert_eq!(failed.commit_reply(), Reply::RolledBack);
        assert_eq!(failed.after(&Op::RollbackTo { level: 1 }, true), Transaction::Failed);
        assert_eq!(failed.after(&Op::RollbackTo { level: 1 }, false), Transaction::Open);
        assert_eq!(Transaction::None.after(&subscribe, true), Transaction::None);
        assert_eq!(failed.after(&Op::Commit, false), Transaction::None);
    }
}
