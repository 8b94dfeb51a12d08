//! Snapshots: which transactions a reader sees, as PostgreSQL's `pg_snapshot` says it.
//!
//! A snapshot holds numbers of transactions, not rows. Its own taker is never among those in progress.

use alloc::vec::Vec;
use tourbillon_models::name::Xid;

/// Sees every transaction below `xmax` that is not listed as in progress.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// One more than the latest transaction that had completed.
    pub xmax: Xid,
    /// Ascending. Does not allocate while empty, which is the usual case.
    pub in_progress: Vec<Xid>,
}

impl Snapshot {
    pub fn sees(&self, xid: Xid) -> bool {
        xid < self.xmax && !self.in_progress.contains(&xid)
    }
}
