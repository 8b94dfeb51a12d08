//! What the server must have lost after a crash, and what not: transactions by their numbers there, and the ids that they
//! showed.
//!
//! The model says which commits were not flushed; this knows what they are called on the server. A lost transaction's
//! number may be given to another, so the server is asked before anybody has begun one.

use super::renaming::Shown;
use crate::postgres::Error;
use crate::postgres::server::Server;
use tourbillon_models::name::Xid;

/// Those of these numbers that did not end as they should have.
const OTHERWISE: &str = "select x from unnest($1::int8[]) as x where $2 is distinct from \
                         case when x::text::xid8 >= pg_snapshot_xmax(pg_current_snapshot()) then 'aborted' \
                         else pg_xact_status(x::text::xid8) end";

/// The commits of one run since its last crash.
#[derive(Default)]
pub struct Unflushed {
    /// As the server numbers them.
    lost_in_a_crash: Vec<i64>,
    kept_in_a_crash: Vec<i64>,
    shown: Vec<Shown>,
}

impl Unflushed {
    pub fn committed(&mut self, server: Xid, shown: Vec<Shown>) {
        self.lost_in_a_crash.push(server.0.into());
        self.shown.extend(shown);
    }

    pub fn flushed(&mut self) {
        self.kept_in_a_crash.append(&mut self.lost_in_a_crash);
        self.shown.clear();
    }

    /// What lost transactions showed.
    pub fn take_shown(&mut self) -> Vec<Shown> {
        std::mem::take(&mut self.shown)
    }

    /// After the restart: one sentence if the server has lost something else.
    pub fn check(&mut self, server: &Server) -> Result<Option<String>, Error> {
        let (lost, kept) = (std::mem::take(&mut self.lost_in_a_crash), std::mem::take(&mut self.kept_in_a_crash));
        let otherwise = |xids: &Vec<i64>, end: &str| -> Result<Option<i64>, Error> {
            let reply = server.execute(server.control().session(), OTHERWISE, &[xids, &end])?.done()?;
            Ok(reply.rows.first().map(|row| row.get(0)))
        };
        if let Some(xid) = otherwise(&lost, "aborted")? {
            return Ok(Some(format!("the server's transaction {xid} survived, and in the model it was not flushed")));
        }
        let gone = otherwise(&kept, "committed")?;
        Ok(gone.map(|xid| format!("the server's transaction {xid} is lost, and in the model it was flushed")))
    }
}
