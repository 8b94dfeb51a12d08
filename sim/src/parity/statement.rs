//! The alphabet: every statement that a schedule may hold, as data, and its SQL.
//!
//! The text of a statement *is* its SQL, so a schedule can be read, and pasted into `psql`. Reading it back is a look-up
//! among all statements there are. What is not here, and why, is said in the front comment of [`super`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use tourbillon_engine::store::rows::RowLock;
use tourbillon_engine::store::statement::Policy;
use tourbillon_models::op::{Isolation, TableLock};

/// The keys of `cells` are 1 to this; the rows 1 to [`FIRST_CELLS`] are there at the start, with `v = 0`.
pub const CELLS: u8 = 4;
pub const FIRST_CELLS: u8 = 3;
/// Savepoints, advisory locks and items are 1 to this.
pub const NAMES: u8 = 2;
/// Conditions are `v <= n` for n from 0 to this.
pub const BOUND: u8 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    Cells,
    Events,
}

pub const TABLES: [Table; 2] = [Table::Cells, Table::Events];

/// One row by its key, perhaps only under a condition on its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cell {
    pub id: u8,
    pub at_most: Option<u8>,
}

impl Cell {
    pub fn accepts(self, v: u32) -> bool {
        self.at_most.is_none_or(|bound| v <= u32::from(bound))
    }
}

/// What a locking select asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selection {
    One(Cell),
    /// In the order of their keys.
    UpTo {
        bound: u8,
        limit: Option<u8>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Statement {
    Begin(Isolation),
    Commit,
    Rollback,
    Savepoint(u8),
    RollbackTo(u8),
    Insert(u8),
    InsertOrNothing(u8),
    Update(Cell),
    Delete(Cell),
    Get(u8),
    GetAll,
    Lock(Selection, RowLock, Policy),
    AdvisoryLock(u8),
    TryAdvisoryLock(u8),
    /// Never [`Policy::SkipLocked`].
    LockTable(Table, TableLock, Policy),
    Append(u8),
    Truncate,
    GetEvents,
    NextValue,
    /// As many values as one log record of a sequence covers, and the one that needs it.
    NextValues,
    /// The transaction's id, if it has one.
    Xid,
    /// The snapshot: its end, and who is in progress in it.
    Snapshot,
}

/// So many values does [`Statement::NextValues`] take.
pub const MANY_VALUES: u32 = 33;

impl Statement {
    /// Every statement of the alphabet, once.
    pub fn all() -> impl Iterator<Item = Statement> {
        ALPHABET.values().copied()
    }

    /// The statement with this SQL.
    pub fn named(sql: &str) -> Option<Statement> {
        ALPHABET.get(sql).copied()
    }

    /// Begins or ends a transaction, or marks a place in it: then it cannot wait, and takes no snapshot.
    pub fn is_transaction_control(self) -> bool {
        use Statement::{Begin, Commit, Rollback, RollbackTo, Savepoint};
        matches!(self, Begin(_) | Commit | Rollback | Savepoint(_) | RollbackTo(_))
    }

    /// Whether the statement makes sense to a session inside a transaction, or outside of one.
    pub fn fits(self, in_transaction: bool) -> bool {
        match self {
            Statement::Begin(_) => !in_transaction,
            Statement::LockTable(..) => in_transaction,
            _ if self.is_transaction_control() => in_transaction,
            _ => true,
        }
    }

    /// Whether its result has rows that mean something; a call for its effect has one that does not.
    pub fn returns_rows(self) -> bool {
        use Statement::{AdvisoryLock, LockTable, Truncate};
        let only_acts = matches!(self, AdvisoryLock(_) | LockTable(..) | Truncate);
        !only_acts && !self.counts() && !self.is_transaction_control()
    }

    /// Whether its result is made of transaction ids.
    pub fn returns_xids(self) -> bool {
        matches!(self, Statement::Xid | Statement::Snapshot)
    }

    /// Whether the number of rows it changed is told.
    pub fn counts(self) -> bool {
        use Statement::{Append, Delete, Insert, InsertOrNothing, Update};
        matches!(self, Insert(_) | InsertOrNothing(_) | Update(_) | Delete(_) | Append(_))
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Statement::Begin(Isolation::ReadCommitted) => f.write_str("begin"),
            Statement::Begin(Isolation::RepeatableRead) => f.write_str("begin isolation level repeatable read"),
            Statement::Commit => f.write_str("commit"),
            Statement::Rollback => f.write_str("rollback"),
            Statement::Savepoint(name) => write!(f, "savepoint s{name}"),
            Statement::RollbackTo(name) => write!(f, "rollback to s{name}"),
            Statement::Insert(id) => write!(f, "insert into cells values ({id}, 0)"),
            Statement::InsertOrNothing(id) => write!(f, "insert into cells values ({id}, 0) on conflict do nothing"),
            Statement::Update(cell) => write!(f, "update cells set v = v + 1 where {cell}"),
            Statement::Delete(cell) => write!(f, "delete from cells where {cell}"),
            Statement::Get(id) => write!(f, "select id, v from cells where id = {id} order by v"),
            Statement::GetAll => f.write_str("select id, v from cells order by id, v"),
            Statement::Lock(selection, mode, policy) => {
                write!(f, "select id, v from cells where {selection} {}{}", row_lock(mode), row_policy(policy))
            }
            Statement::AdvisoryLock(name) => write!(f, "select from pg_advisory_xact_lock({name})"),
            Statement::TryAdvisoryLock(name) => write!(f, "select pg_try_advisory_xact_lock({name})::int4::int8"),
            Statement::LockTable(table, mode, policy) => {
                write!(f, "lock table {table} in {} mode{}", table_lock(mode), row_policy(policy))
            }
            Statement::Append(item) => write!(f, "insert into events values ({item})"),
            Statement::Truncate => f.write_str("truncate events"),
            Statement::GetEvents => f.write_str("select item from events order by item"),
            Statement::NextValue => f.write_str("select nextval('numbers')"),
            Statement::NextValues => {
                write!(f, "select max(nextval('numbers')) from generate_series(1, {MANY_VALUES})")
            }
            Statement::Xid => f.write_str(
                "select xid::text::int8 from pg_current_xact_id_if_assigned() as of (xid) where xid is not null",
            ),
            Statement::Snapshot => f.write_str(
                "select xid::text::int8 from pg_current_snapshot() as of (snapshot), \
                 lateral (select pg_snapshot_xmax(snapshot) union all select pg_snapshot_xip(snapshot)) as all_of (xid) \
                 order by 1 desc",
            ),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Table::Cells => "cells",
            Table::Events => "events",
        })
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "id = {}", self.id)?;
        self.at_most.map_or(Ok(()), |bound| write!(f, " and v <= {bound}"))
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selection::One(cell) => cell.fmt(f),
            Selection::UpTo { bound, limit } => {
                write!(f, "v <= {bound} order by id")?;
                limit.map_or(Ok(()), |limit| write!(f, " limit {limit}"))
            }
        }
    }
}

fn row_lock(mode: RowLock) -> &'static str {
    match mode {
        RowLock::KeyShare => "for key share",
        RowLock::Share => "for share",
        RowLock::NoKeyUpdate => "for no key update",
        RowLock::Update => "for update",
    }
}

fn row_policy(policy: Policy) -> &'static str {
    match policy {
        Policy::Wait => "",
        Policy::SkipLocked => " skip locked",
        Policy::NoWait => " nowait",
    }
}

fn table_lock(mode: TableLock) -> &'static str {
    match mode {
        TableLock::AccessShare => "access share",
        TableLock::RowShare => "row share",
        TableLock::RowExclusive => "row exclusive",
        TableLock::Share => "share",
        TableLock::AccessExclusive => "access exclusive",
    }
}

pub const ISOLATIONS: [Isolation; 2] = [Isolation::ReadCommitted, Isolation::RepeatableRead];
pub const ROW_LOCKS: [RowLock; 4] = [RowLock::KeyShare, RowLock::Share, RowLock::NoKeyUpdate, RowLock::Update];
pub const POLICIES: [Policy; 3] = [Policy::Wait, Policy::SkipLocked, Policy::NoWait];
pub const TABLE_LOCKS: [TableLock; 5] = [
    TableLock::AccessShare,
    TableLock::RowShare,
    TableLock::RowExclusive,
    TableLock::Share,
    TableLock::AccessExclusive,
];

static ALPHABET: LazyLock<BTreeMap<String, Statement>> = LazyLock::new(|| {
    let mut all: Vec<Statement> = vec![
        Statement::Commit,
        Statement::Rollback,
        Statement::GetAll,
        Statement::Truncate,
        Statement::GetEvents,
        Statement::NextValue,
        Statement::NextValues,
        Statement::Xid,
        Statement::Snapshot,
    ];
    all.extend(ISOLATIONS.map(Statement::Begin));
    for name in 1..=NAMES {
        all.extend([Statement::Savepoint(name), Statement::RollbackTo(name), Statement::Append(name)]);
        all.extend([Statement::AdvisoryLock(name), Statement::TryAdvisoryLock(name)]);
    }
    for id in 1..=CELLS {
        all.extend([Statement::Insert(id), Statement::InsertOrNothing(id), Statement::Get(id)]);
    }
    for cell in cells() {
        all.extend([Statement::Update(cell), Statement::Delete(cell)]);
    }
    for selection in cells().map(Selection::One).chain(ranges()) {
        for mode in ROW_LOCKS {
            all.extend(POLICIES.map(|policy| Statement::Lock(selection, mode, policy)));
        }
    }
    for table in TABLES {
        for mode in TABLE_LOCKS {
            all.extend([Policy::Wait, Policy::NoWait].map(|policy| Statement::LockTable(table, mode, policy)));
        }
    }
    all.into_iter().map(|statement| (statement.to_string(), statement)).collect()
});

fn cells() -> impl Iterator<Item = Cell> {
    let bounds = || std::iter::once(None).chain((0..=BOUND).map(Some));
    (1..=CELLS).flat_map(move |id| bounds().map(move |at_most| Cell { id, at_most }))
}

fn ranges() -> impl Iterator<Item = Selection> {
    (0..=BOUND).flat_map(|bound| [None, Some(1), Some(2)].map(|limit| Selection::UpTo { bound, limit }))
}
