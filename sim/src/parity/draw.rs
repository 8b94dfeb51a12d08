//! Draws schedules from seeds: few rows, few names, several sessions, so that they are in each other's way all the time.
//!
//! Each seed draws its own mix first: kinds of statements are left out altogether or come often, so that rare pairs meet.
//! A schedule is drawn along a run of the store, so that no line is for a session that waits, and few for a transaction
//! that has failed.

use tourbillon_models::op::Isolation;

use crate::random::Stream;

use super::model::Model;
use super::schedule::{Line, Schedule, SessionIndex, Step};
use super::statement::{BOUND, CELLS, Cell, NAMES, POLICIES, ROW_LOCKS, Selection, Statement, TABLE_LOCKS, TABLES};
use tourbillon_engine::store::statement::Policy;

/// Kinds of steps inside a transaction that a seed weighs against each other.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Write,
    Create,
    Read,
    LockOne,
    LockMany,
    Advisory,
    LockTable,
    Events,
    Sequence,
    Savepoint,
}

const KINDS: [Kind; 10] = [
    Kind::Write,
    Kind::Create,
    Kind::Read,
    Kind::LockOne,
    Kind::LockMany,
    Kind::Advisory,
    Kind::LockTable,
    Kind::Events,
    Kind::Sequence,
    Kind::Savepoint,
];

struct Mix {
    session_count: u64,
    cell_count: u64,
    weights: [u64; KINDS.len()],
    /// Of eight transactions.
    repeatable_read: u64,
    /// Of sixteen locking selects, that do not wait.
    impatient: u64,
    /// Of a hundred steps: ends of waits, of sessions, of the server.
    misfortunes: [u64; 3],
}

/// The schedule of a seed. The model is needed for its memory only.
pub fn draw(model: &mut Model, seed: u64) -> Schedule {
    let mut stream = Stream::new(seed, "parity", 0);
    let mix = mix(&mut stream);
    model.begin(mix.session_count as usize);
    let mut lines = Vec::new();
    for _ in 0..stream.between(15, 40) {
        let line = Line { step: step(&mut stream, &mix, model), then: stream.below(24) as u32 };
        model.play(line);
        lines.push(line);
    }
    Schedule { lines }
}

fn mix(stream: &mut Stream) -> Mix {
    let theme: &[Kind] = match stream.below(5) {
        0 | 1 => &[Kind::Write, Kind::LockOne, Kind::LockMany, Kind::Savepoint],
        2 => &[Kind::Create, Kind::Write, Kind::LockOne, Kind::Savepoint],
        3 => &[Kind::LockTable, Kind::Advisory, Kind::Events, Kind::LockOne],
        _ => &KINDS,
    };
    let mut weights = KINDS.map(|_| *stream.choose(&[0, 0, 0, 0, 1]));
    for kind in theme {
        weights[*kind as usize] += *stream.choose(&[0, 1, 3, 6]);
    }
    weights[theme[0] as usize] += 1;
    Mix {
        session_count: *stream.choose(&[2, 3, 3, 4, 4, 4, 4]),
        cell_count: *stream.choose(&[1, 1, 1, 2, 2, 3, u64::from(CELLS)]),
        weights,
        repeatable_read: *stream.choose(&[0, 0, 2, 4]),
        impatient: *stream.choose(&[0, 0, 2, 6]),
        misfortunes: [*stream.choose(&[0, 0, 6]), *stream.choose(&[0, 0, 0, 3]), u64::from(stream.chance(1, 16))],
    }
}

fn step(stream: &mut Stream, mix: &Mix, model: &Model) -> Step {
    let (waiting, able): (Vec<SessionIndex>, Vec<SessionIndex>) =
        (0..mix.session_count as SessionIndex).partition(|session| model.is_suspended(*session));
    let [times_out, dies, server_dies] = mix.misfortunes;
    let lot = stream.below(100);
    if !waiting.is_empty() && (lot < times_out || able.is_empty()) {
        return Step::TimesOut(*stream.choose(&waiting));
    } else if lot < times_out + dies {
        return Step::Dies(stream.below(mix.session_count) as SessionIndex);
    } else if lot < times_out + dies + server_dies {
        return Step::ServerDies;
    } else if lot >= 97 {
        return Step::Xids;
    }
    let session = *stream.choose(&able);
    Step::Statement(session, statement(stream, mix, model, session))
}

/// Transactions are opened more often than ended, so that locks are held for long.
fn statement(stream: &mut Stream, mix: &Mix, model: &Model, session: SessionIndex) -> Statement {
    let open = model.is_in_transaction(session);
    if !open && stream.chance(4, 5) {
        let repeatable_read = stream.chance(mix.repeatable_read, 8);
        return Statement::Begin(if repeatable_read { Isolation::RepeatableRead } else { Isolation::ReadCommitted });
    }
    if model.is_failed(session) && stream.chance(7, 8) {
        return if stream.chance(1, 2) { Statement::RollbackTo(name(stream)) } else { Statement::Rollback };
    }
    if open && stream.chance(1, 7) {
        return if stream.chance(2, 3) { Statement::Commit } else { Statement::Rollback };
    }
    let kind = kind(stream, mix);
    of_kind(stream, mix, kind)
}

fn kind(stream: &mut Stream, mix: &Mix) -> Kind {
    let mut lot = stream.below(mix.weights.iter().sum());
    for (kind, weight) in KINDS.into_iter().zip(mix.weights) {
        if lot < weight {
            return kind;
        }
        lot -= weight;
    }
    unreachable!("a lot is below the sum of the weights")
}

fn of_kind(stream: &mut Stream, mix: &Mix, kind: Kind) -> Statement {
    match kind {
        Kind::Write if stream.chance(3, 4) => Statement::Update(cell(stream, mix)),
        Kind::Write => Statement::Delete(cell(stream, mix)),
        Kind::Create if stream.chance(1, 2) => Statement::Insert(id(stream, mix)),
        Kind::Create => Statement::InsertOrNothing(id(stream, mix)),
        Kind::Read if stream.chance(1, 4) => Statement::Xid,
        Kind::Read if stream.chance(1, 4) => Statement::Snapshot,
        Kind::Read if stream.chance(1, 2) => Statement::GetAll,
        Kind::Read => Statement::Get(id(stream, mix)),
        Kind::LockOne => {
            let cell = cell(stream, mix);
            Statement::Lock(Selection::One(cell), *stream.choose(&ROW_LOCKS), policy(stream, mix))
        }
        Kind::LockMany => {
            let limit = *stream.choose(&[None, None, Some(1), Some(2)]);
            let selection = Selection::UpTo { bound: stream.below(u64::from(BOUND) + 1) as u8, limit };
            Statement::Lock(selection, *stream.choose(&ROW_LOCKS), policy(stream, mix))
        }
        Kind::Advisory if stream.chance(1, 4) => Statement::TryAdvisoryLock(name(stream)),
        Kind::Advisory => Statement::AdvisoryLock(name(stream)),
        Kind::LockTable => {
            let policy = if stream.chance(1, 4) { Policy::NoWait } else { Policy::Wait };
            Statement::LockTable(*stream.choose(&TABLES), *stream.choose(&TABLE_LOCKS), policy)
        }
        Kind::Events if stream.chance(1, 2) => Statement::Append(name(stream)),
        Kind::Events if stream.chance(1, 2) => Statement::Truncate,
        Kind::Events => Statement::GetEvents,
        Kind::Sequence if stream.chance(1, 4) => Statement::NextValues,
        Kind::Sequence => Statement::NextValue,
        Kind::Savepoint if stream.chance(1, 2) => Statement::Savepoint(name(stream)),
        Kind::Savepoint => Statement::RollbackTo(name(stream)),
    }
}

fn id(stream: &mut Stream, mix: &Mix) -> u8 {
    1 + stream.below(mix.cell_count) as u8
}

fn name(stream: &mut Stream) -> u8 {
    1 + stream.below(NAMES.into()) as u8
}

fn cell(stream: &mut Stream, mix: &Mix) -> Cell {
    let at_most = if stream.chance(1, 2) { None } else { Some(stream.below(u64::from(BOUND) + 1) as u8) };
    Cell { id: id(stream, mix), at_most }
}

fn policy(stream: &mut Stream, mix: &Mix) -> Policy {
    if stream.chance(mix.impatient, 16) { *stream.choose(&POLICIES[1..]) } else { Policy::Wait }
}
