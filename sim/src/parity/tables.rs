//! The tables of a schedule on the store, and its statements as procedures over them.
//!
//! They are the twins of [`SCHEMA`]: `cells` with a unique key, `events` only appended to, one sequence. A statement
//! takes its locks and its snapshot where PostgreSQL does, as a procedure of the engine must.

use std::ops::RangeBounds;
use std::pin::Pin;

use tourbillon_engine::store::Tables;
use tourbillon_engine::store::appends::Appends;
use tourbillon_engine::store::index::Any;
use tourbillon_engine::store::locks::{LockKey, Mode};
use tourbillon_engine::store::rows::{Row, RowLock, Rows};
use tourbillon_engine::store::statement::{Has, Inserted, Policy, Tx};
use tourbillon_engine::store::transaction::Undo;
use tourbillon_models::name::Xid;
use tourbillon_models::reply::Refusal;

use super::statement::{Cell, FIRST_CELLS, MANY_VALUES, Selection, Statement, Table};

/// The same for the server.
pub const SCHEMA: &str = "create table cells (id int8 primary key, v int8 not null); \
                          create table events (item int8 not null); \
                          create sequence numbers";

/// Empties the server's tables for another schedule. Nothing is left of the one before: dead rows would be cleared away
/// some time, and where a new row finds place decides whom a waiting insert meets first.
pub const RESET: &str = "truncate cells, events; select setval('numbers', 1, false)";

#[derive(Clone, Debug)]
pub struct CellRow {
    id: u8,
    v: u32,
}

impl Row for CellRow {
    type Key = u8;
    type Index = Any<Self::Key>;
    const TABLE: u8 = 0;

    fn key(&self) -> u8 {
        self.id
    }
}

const EVENTS: u8 = 1;

#[derive(Default)]
pub struct ParityTables {
    cells: Rows<CellRow>,
    events: Appends<u8>,
}

impl Has<CellRow> for ParityTables {
    fn rows(&self) -> &Rows<CellRow> {
        &self.cells
    }

    fn rows_mut(&mut self) -> &mut Rows<CellRow> {
        &mut self.cells
    }
}

impl Tables for ParityTables {
    const COUNT: usize = 2;
    const SEQUENCES: usize = 1;

    fn undo(&mut self, change: Undo) {
        match change {
            Undo::Insert { row, .. } => self.cells.undo_insert(row),
            Undo::Update { row, .. } => self.cells.undo_update(row),
            Undo::Delete { row, .. } => self.cells.undo_delete(row),
            Undo::Append { position, .. } => self.events.undo_append(position),
            Undo::Truncate { .. } => self.events.undo_truncate(),
            Undo::Lock { .. } => unreachable!("locks are the store's"),
        }
    }

    fn settle(&mut self, change: Undo) {
        match change {
            Undo::Delete { row, .. } => self.cells.reclaim(row),
            Undo::Truncate { .. } => self.events.forget_truncated(),
            _ => {}
        }
    }

    fn clear(&mut self) {
        self.cells.clear();
        self.events.clear();
    }
}

/// What a statement answers, from either side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Done,
    /// So many rows were changed.
    Changed(u64),
    Rows(Vec<Vec<i64>>),
    /// With this SQLSTATE.
    Refused(String),
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Answer::Done => f.write_str("done"),
            Answer::Changed(count) => write!(f, "changed {count}"),
            Answer::Rows(rows) if rows.is_empty() => f.write_str("no rows"),
            Answer::Rows(rows) => {
                let rows = rows.iter().map(|row| row.iter().map(i64::to_string).collect::<Vec<_>>().join(" "));
                f.write_str(&rows.collect::<Vec<_>>().join(", "))
            }
            Answer::Refused(code) => write!(f, "refused {code}"),
        }
    }
}

pub type Call = Pin<Box<dyn Future<Output = Result<Answer, Refusal>>>>;
type Handle = Tx<ParityTables>;

/// The rows that are there before a schedule begins.
pub async fn furnish(tx: Handle) -> Result<Answer, Refusal> {
    for id in 1..=FIRST_CELLS {
        tx.insert(CellRow { id, v: 0 }).await?;
    }
    Ok(Answer::Done)
}

/// One statement that is not transaction control.
pub fn call(tx: Handle, statement: Statement) -> Call {
    match statement {
        Statement::Insert(id) => Box::pin(insert(tx, id)),
        Statement::InsertOrNothing(id) => Box::pin(insert_or_nothing(tx, id)),
        Statement::Update(cell) => Box::pin(update(tx, cell)),
        Statement::Delete(cell) => Box::pin(delete(tx, cell)),
        Statement::Get(id) => Box::pin(get(tx, id)),
        Statement::GetAll => Box::pin(get_all(tx)),
        Statement::Lock(selection, mode, policy) => Box::pin(lock(tx, selection, mode, policy)),
        Statement::AdvisoryLock(name) => Box::pin(advisory_lock(tx, name)),
        Statement::TryAdvisoryLock(name) => Box::pin(try_advisory_lock(tx, name)),
        Statement::LockTable(table, mode, policy) => Box::pin(lock_table(tx, table, mode.into(), policy)),
        Statement::Append(item) => Box::pin(append(tx, item)),
        Statement::Truncate => Box::pin(truncate(tx)),
        Statement::GetEvents => Box::pin(get_events(tx)),
        Statement::NextValue => Box::pin(next_value(tx, 1)),
        Statement::NextValues => Box::pin(next_value(tx, MANY_VALUES)),
        Statement::Xid => Box::pin(xid(tx)),
        Statement::Snapshot => Box::pin(snapshot(tx)),
        _ => unreachable!("{statement} is transaction control"),
    }
}

pub fn key(table: Table) -> LockKey {
    LockKey::Table(match table {
        Table::Cells => CellRow::TABLE,
        Table::Events => EVENTS,
    })
}

fn flag(value: bool) -> Answer {
    Answer::Rows(vec![vec![value.into()]])
}

fn rows<'a>(cells: impl IntoIterator<Item = &'a CellRow>) -> Answer {
    Answer::Rows(cells.into_iter().map(|row| vec![row.id.into(), row.v.into()]).collect())
}

async fn insert(tx: Handle, id: u8) -> Result<Answer, Refusal> {
    tx.lock(key(Table::Cells), Mode::RowExclusive).await?;
    tx.insert(CellRow { id, v: 0 }).await?;
    Ok(Answer::Changed(1))
}

async fn insert_or_nothing(tx: Handle, id: u8) -> Result<Answer, Refusal> {
    tx.lock(key(Table::Cells), Mode::RowExclusive).await?;
    let inserted = tx.insert_or_nothing(CellRow { id, v: 0 }).await?;
    Ok(Answer::Changed((inserted == Inserted::Inserted).into()))
}

async fn update(tx: Handle, cell: Cell) -> Result<Answer, Refusal> {
    tx.lock(key(Table::Cells), Mode::RowExclusive).await?;
    let updated = tx.update::<CellRow>(cell.id, |row| cell.accepts(row.v), |row, _| row.v += 1).await?;
    Ok(Answer::Changed(updated.into()))
}

async fn delete(tx: Handle, cell: Cell) -> Result<Answer, Refusal> {
    tx.lock(key(Table::Cells), Mode::RowExclusive).await?;
    let deleted = tx.delete::<CellRow>(cell.id, |row| cell.accepts(row.v)).await?;
    Ok(Answer::Changed(deleted.into()))
}

async fn get(tx: Handle, id: u8) -> Result<Answer, Refusal> {
    tx.lock(key(Table::Cells), Mode::AccessShare).await?;
    Ok(in_range(&tx, id..=id))
}

async fn get_all(tx: Handle) -> Result<Answer, Refusal> {
    tx.lock(key(Table::Cells), Mode::AccessShare).await?;
    Ok(in_range(&tx, ..))
}

fn in_range(tx: &Handle, ids: impl RangeBounds<u8>) -> Answer {
    let mut rows = tx.with(|store, slot| {
        let found = store.tables.cells.range(ids, &store.transactions, slot);
        found.map(|(_, row)| vec![row.id.into(), row.v.into()]).collect::<Vec<_>>()
    });
    rows.sort_unstable();
    Answer::Rows(rows)
}

async fn lock(tx: Handle, selection: Selection, mode: RowLock, policy: Policy) -> Result<Answer, Refusal> {
    tx.lock(key(Table::Cells), Mode::RowShare).await?;
    match selection {
        Selection::One(cell) => {
            Ok(rows(&tx.select_for::<CellRow>(cell.id, mode, policy, |row| cell.accepts(row.v)).await?))
        }
        Selection::UpTo { bound, limit } => {
            let limit = limit.map_or(usize::MAX, usize::from);
            let accepts = |row: &CellRow| row.v <= u32::from(bound);
            Ok(rows(&tx.select_range_for::<CellRow>(.., mode, policy, limit, accepts).await?))
        }
    }
}

async fn advisory_lock(tx: Handle, name: u8) -> Result<Answer, Refusal> {
    tx.lock(advisory(name), Mode::Exclusive).await?;
    Ok(Answer::Done)
}

async fn try_advisory_lock(tx: Handle, name: u8) -> Result<Answer, Refusal> {
    Ok(flag(tx.try_lock(advisory(name), Mode::Exclusive)))
}

fn advisory(name: u8) -> LockKey {
    LockKey::Advisory { class: 0, object: name.into() }
}

async fn lock_table(tx: Handle, table: Table, mode: Mode, policy: Policy) -> Result<Answer, Refusal> {
    match policy {
        Policy::NoWait => tx.lock_now(key(table), mode)?,
        _ => tx.lock(key(table), mode).await?,
    }
    Ok(Answer::Done)
}

async fn append(tx: Handle, item: u8) -> Result<Answer, Refusal> {
    tx.lock(key(Table::Events), Mode::RowExclusive).await?;
    tx.with(|store, slot| {
        store.transactions.assign_xid(slot);
        let position = store.tables.events.append(item, &store.transactions, slot);
        store.transactions.of_mut(slot).undo.push(Undo::Append { table: EVENTS, position });
    });
    Ok(Answer::Changed(1))
}

async fn truncate(tx: Handle) -> Result<Answer, Refusal> {
    tx.lock(key(Table::Events), Mode::AccessExclusive).await?;
    tx.with(|store, slot| {
        store.transactions.assign_xid(slot);
        store.tables.events.truncate();
        store.transactions.of_mut(slot).undo.push(Undo::Truncate { table: EVENTS });
    });
    Ok(Answer::Done)
}

async fn get_events(tx: Handle) -> Result<Answer, Refusal> {
    tx.lock(key(Table::Events), Mode::AccessShare).await?;
    let mut items: Vec<Vec<i64>> = tx.with(|store, slot| {
        store.tables.events.all(&store.transactions, slot).map(|item| vec![(*item).into()]).collect()
    });
    items.sort_unstable();
    Ok(Answer::Rows(items))
}

async fn next_value(tx: Handle, count: u32) -> Result<Answer, Refusal> {
    let last = tx.with(|store, slot| (0..count).map(|_| store.next_value(slot, 0)).last());
    Ok(Answer::Rows(last.into_iter().map(|value| vec![value.into()]).collect()))
}

async fn xid(tx: Handle) -> Result<Answer, Refusal> {
    let xid = tx.with(|store, slot| store.transactions.of(slot).xid);
    Ok(xids((xid != Xid(0)).then_some(xid)))
}

async fn snapshot(tx: Handle) -> Result<Answer, Refusal> {
    let snapshot = tx.with(|store, slot| store.current_snapshot(slot));
    Ok(xids([snapshot.xmax].into_iter().chain(snapshot.in_progress.into_iter().rev())))
}

fn xids(xids: impl IntoIterator<Item = Xid>) -> Answer {
    Answer::Rows(xids.into_iter().map(|xid| vec![xid.0.into()]).collect())
}
