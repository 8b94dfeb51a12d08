//! Transactions, by their definitions: D1, D3, D4. (D2 and the rows of D1 are where rows are.)
//!
//! - **D1** After an acknowledged commit nobody is told that the transaction aborted, or is in progress; unless commits are
//!   asynchronous, a crash came after it, and the log was not flushed between them.
//! - **D3** No two answers about one transaction differ, except that it was in progress first; none calls committed what
//!   nobody had asked to commit, or what was rolled back. Unknown where nobody told.
//! - **D4** No transaction survives a crash that asked for its commit after one that is lost in it had been acknowledged.

use super::act::{Account, Act, Fate, NONE};
use super::court::Court;
use crate::name::Xid;
use crate::op::Op;
use crate::property::{ASYNCHRONOUS_COMMIT, Property};
use crate::record::{Fault, Happening, Note};
use crate::reply::{Outcome, Reply};
use alloc::format;
use alloc::vec::Vec;

/// Something said about a transaction.
struct Told {
    xid: Xid,
    outcome: Outcome,
    /// The question; none of a note.
    asked: u32,
    record: u32,
}

pub(super) fn judge(account: &Account<'_>, court: &mut Court) {
    if account.has_doubts {
        court.unclear(Property::D3);
    }
    let told = told(account);
    acknowledged(account, &told, court);
    resolved(account, &told, court);
    suffix(account, court);
}

fn told(account: &Account<'_>) -> Vec<Told> {
    let mut told = Vec::new();
    for (record, index) in account.history.records.iter().zip(0u32..) {
        if let Happening::Note(Note::Resolved { outcome }) = record.what {
            told.push(Told { xid: record.xid, outcome, asked: NONE, record: index });
        }
    }
    for act in &account.acts {
        if let (Op::Resolve { xid }, Some(Reply::Resolved(outcome))) = (act.op, act.reply) {
            told.push(Told { xid, outcome, asked: act.call, record: act.ret });
        }
    }
    told.retain(|it| it.xid.0 != 0);
    told.sort_by_key(|it| it.record);
    told
}

fn is_write(act: &&Act) -> bool {
    act.xid.0 != 0 && !matches!(act.op, Op::Read { .. } | Op::ReadResults { .. } | Op::Peek { .. } | Op::Resolve { .. })
}

fn acknowledged(account: &Account<'_>, told: &[Told], court: &mut Court) {
    let is_asynchronous = account.history.header.option(ASYNCHRONOUS_COMMIT) == Some("true");
    for act in account.acts.iter().filter(is_write) {
        let is_fact = match act.fate {
            Fate::Committed => !is_asynchronous && act.reply.is_some(),
            Fate::Lost => is_flushed(account, act),
            Fate::Undone | Fate::Unknown => false,
        };
        let is_acknowledgement = account.record(act.commit).is_some_and(|it| matches!(it.what, Happening::Return(_)));
        let denies = |it: &&Told| it.xid == act.xid && it.outcome != Outcome::Committed;
        let later = told.iter().filter(denies).find(|it| it.record > act.commit && it.asked > act.commit);
        if is_fact && is_acknowledgement && later.is_some() {
            court.broken(Property::D1, format!("{} was acknowledged, and is gone", act.xid));
        }
    }
}

/// Whether the log reached the disk between the acknowledgement and the first crash after it.
fn is_flushed(account: &Account<'_>, act: &Act) -> bool {
    let after = account.history.records.iter().skip(act.commit as usize + 1);
    let mut before = after.take_while(|record| record.what != Happening::Fault(Fault::ServerCrash));
    before.any(|record| record.what == Happening::Fault(Fault::LogFlush))
}

fn resolved(account: &Account<'_>, told: &[Told], court: &mut Court) {
    let is_final = |outcome: Outcome| outcome != Outcome::InProgress;
    for (place, one) in told.iter().enumerate().filter(|(_, one)| one.asked == NONE) {
        let others = told[place + 1..].iter().filter(|other| other.xid == one.xid);
        if others.clone().any(|other| is_final(other.outcome) && is_final(one.outcome) && other.outcome != one.outcome)
        {
            court.broken(Property::D3, format!("{} has two fates", one.xid));
        }
    }
    let notes = account.history.records.iter().zip(0u32..).filter_map(|(record, index)| match record.what {
        Happening::Note(Note::Resolved { outcome }) => Some((record.session, index, outcome)),
        _ => None,
    });
    let notes: Vec<_> = notes.collect();
    for (place, (session, _, outcome)) in notes.iter().enumerate() {
        let before = notes[..place].iter().rfind(|(other, ..)| other == session).map(|(.., before)| *before);
        if before.is_some_and(|before| is_final(before) && before != *outcome) {
            court.broken(Property::D3, format!("the transaction in session {session} has two fates"));
        }
        let own = account.acts.iter().filter(|act| act.session == *session && !act.is_alone);
        let is_open = own.clone().any(|act| act.fate == Fate::Undone && act.commit == NONE && act.commit_call == NONE);
        if *outcome == Outcome::Committed && is_open {
            court.broken(Property::D3, format!("nobody had asked to commit the transaction in session {session}"));
        }
    }
    for act in account.acts.iter().filter(is_write).filter(|act| act.fate == Fate::Undone && act.commit != NONE) {
        let is_answer = account.record(act.commit).is_some_and(|it| matches!(it.what, Happening::Return(_)));
        let contradicts = |it: &&Told| it.xid == act.xid && it.outcome == Outcome::Committed && it.record > act.commit;
        if is_answer && !act.is_alone && told.iter().any(|it| contradicts(&it)) {
            court.broken(Property::D3, format!("{} was rolled back, and is said to have committed", act.xid));
        }
    }
}

fn suffix(account: &Account<'_>, court: &mut Court) {
    let crashes = account
        .history
        .records
        .iter()
        .zip(0u32..)
        .filter_map(|(record, index)| (record.what == Happening::Fault(Fault::ServerCrash)).then_some(index));
    for crash in crashes {
        let lost = account.acts.iter().filter(|act| act.fate == Fate::Lost && act.commit < crash);
        let first =
            lost.filter(|act| !account.acts.iter().any(|other| other.commit < act.commit && other.xid == act.xid));
        for gone in first {
            // In that crash, not in one before.
            let between = account.history.records[gone.commit as usize..crash as usize].iter();
            if between.clone().any(|record| record.what == Happening::Fault(Fault::ServerCrash)) {
                continue;
            }
            let mut survivors = account.committed().filter(|act| act.commit < crash && is_write(act));
            if survivors.any(|act| act.commit_call > gone.commit) {
                court.broken(Property::D4, format!("{} is lost, and what came after it is not", gone.xid));
            }
        }
    }
}
