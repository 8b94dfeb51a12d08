//! What became of a call whose answer nobody got: its transaction's fate, by the mark that it leaves, and how that is told.

use super::journal::Standing;
use super::mark;
use anyhow::{Context, Result};
use tokio_postgres::{Client, Error};
use tourbillon_engine::sql::ids::Ids;
use tourbillon_engine::sql::mapping::Mapping;
use tourbillon_models::history::{PlainHappening, PlainOp, PlainReply};
use tourbillon_models::name::Xid;
use tourbillon_models::op::Op;
use tourbillon_models::record::{Fault, Happening, Note};
use tourbillon_models::reply::{Outcome, Reply};

/// Of a transaction whose connection is gone.
pub enum Fate {
    /// Its backend lives.
    Open,
    Aborted,
    /// And what its mark holds.
    Committed(String),
}

impl Fate {
    /// `application` is the connection's name, and its alone. With `ends_it` a backend that lives is told to end.
    pub async fn ask(
        client: &Client,
        schema: &str,
        application: &str,
        mark: Option<u64>,
        ends_it: bool,
    ) -> Result<Fate, Error> {
        let end = if ends_it { "pg_terminate_backend(pid)" } else { "true" };
        let live = format!("select {end} from pg_stat_activity where application_name = $1");
        if !client.query(&live, &[&application]).await?.is_empty() {
            return Ok(Fate::Open);
        }
        let Some(mark) = mark else { return Ok(Fate::Aborted) };
        let rows = client.query(&mark::find(schema), &[&mark.cast_signed()]).await?;
        Ok(rows.first().map_or(Fate::Aborted, |row| Fate::Committed(row.get(0))))
    }
}

/// How a lost call ended.
pub enum End {
    Answered(PlainReply, Xid),
    Aborted,
    /// Its transaction committed although it was not asked to.
    Unasked,
}

impl End {
    /// What the mark of a transaction says of the call that was lost in it: the answer that it holds, if there is one.
    pub fn of(
        op: &PlainOp,
        standing: &Standing,
        answer: Option<&str>,
        mapping: &Mapping,
        ids: &mut Ids,
    ) -> Result<End> {
        let Some(answer) = answer else { return Ok(End::Aborted) };
        if standing.in_transaction() {
            return Ok(End::Unasked);
        }
        if *op == Op::Commit {
            return Ok(End::Answered(Reply::Committed, standing.xid));
        }
        let values = mark::values(answer).with_context(|| format!("the mark of {op:?}"))?;
        let (reply, xid) = mapping.decode(op, &[values], ids).with_context(|| format!("the mark of {op:?}"))?;
        Ok(End::Answered(reply, xid.unwrap_or(Xid(0))))
    }

    /// As it is told: with its answer if it committed, and the fault that kept it from being heard. `xid` is its
    /// transaction's, as far as that was told before.
    pub fn told(self, xid: Xid, fault: Fault) -> Vec<(Xid, PlainHappening)> {
        let resolved = |outcome| Happening::Note(Note::Resolved { outcome });
        let unheard = match fault {
            Fault::Crash => Happening::Fault(fault),
            _ => Happening::Return(Reply::Unknown),
        };
        match self {
            End::Answered(reply, xid) => vec![
                (xid, Happening::Return(reply)),
                (xid, Happening::Fault(fault)),
                (xid, resolved(Outcome::Committed)),
            ],
            End::Aborted => vec![(Xid(0), unheard), (xid, resolved(Outcome::Aborted))],
            End::Unasked => vec![(Xid(0), unheard), (xid, resolved(Outcome::Committed))],
        }
    }
}
