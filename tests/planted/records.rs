//! What is said about transactions, and counts.

use super::log::{answer, calls};
use super::{Mutator, Planted, Soil, mutator, planted};
use tourbillon::fuzz::edit::Draft;
use tourbillon_models::op::Op;
use tourbillon_models::property::Property;
use tourbillon_models::record::{Fault, Happening, Note, RecordOf};
use tourbillon_models::reply::{Outcome, Reply};

pub const MUTATORS: &[Mutator] = &[
    mutator("take an acknowledged commit back", "chain", Soil::Calm, take_back),
    mutator("say two things about a lost reply", "chain", Soil::Any, contradict),
    mutator("lose a commit from among those that stay", "chain", Soil::Forgetful, lose_among),
    mutator("count a workflow that is not there", "observability", Soil::Calm, miscount),
];

/// A record that says what became of a transaction, in a session of its own.
fn note(draft: &mut Draft, after: usize, xid: tourbillon_models::name::Xid, outcome: Outcome) {
    let session = draft.spare_session();
    let like = draft.records[after].clone();
    let what = Happening::Note(Note::Resolved { outcome });
    draft.records.insert(after + 1, RecordOf { session, xid, what, ..like });
}

fn take_back(draft: &mut Draft) -> Option<Planted> {
    let commits =
        calls(draft).into_iter().filter(|(.., op, reply)| matches!((op, reply), (Op::Commit, Reply::Committed)));
    let (_, place, ..) = commits.into_iter().find(|(_, place, ..)| draft.records[*place].xid.0 != 0)?;
    let xid = draft.records[place].xid;
    note(draft, place, xid, Outcome::Aborted);
    planted(Property::D1, [xid.to_string(), "Aborted".to_owned()])
}

fn contradict(draft: &mut Draft) -> Option<Planted> {
    let (place, xid) = draft.records.iter().enumerate().find_map(|(place, record)| match record.what {
        Happening::Note(Note::Resolved { outcome: Outcome::Aborted }) if record.xid.0 != 0 => Some((place, record.xid)),
        _ => None,
    })?;
    note(draft, place, xid, Outcome::Committed);
    planted(Property::D3, [xid.to_string(), "Committed".to_owned()])
}

/// Of those that were acknowledged before a crash and not flushed, the first is lost, and the last is not.
fn lose_among(draft: &mut Draft) -> Option<Planted> {
    let is = |fault: Fault| draft.records.iter().position(|record| record.what == Happening::Fault(fault));
    let crash = is(Fault::ServerCrash)?;
    let mut before = draft.records[..crash].iter();
    let flushed = before.rposition(|record| record.what == Happening::Fault(Fault::LogFlush)).unwrap_or(0);
    let notes =
        draft.records[crash..].iter().filter(|record| matches!(record.what, Happening::Note(Note::Resolved { .. })));
    let lost: Vec<_> = notes.map(|record| record.xid).filter(|xid| xid.0 != 0).collect();
    let commits = calls(draft).into_iter().filter_map(|(call, place, op, reply)| {
        let is_commit = matches!((op, reply), (Op::Commit, Reply::Committed));
        (is_commit && call > flushed && place < crash).then(|| draft.records[place].xid)
    });
    let kept: Vec<_> = commits.filter(|xid| xid.0 != 0 && !lost.contains(xid)).collect();
    let (first, last) = (*kept.first()?, *kept.last()?);
    if first == last {
        return None;
    }
    note(draft, crash, first, Outcome::Aborted);
    planted(Property::D4, [first.to_string()])
}

fn miscount(draft: &mut Draft) -> Option<Planted> {
    let (_, place, _, reply) = calls(draft).into_iter().rfind(|(.., reply)| matches!(reply, Reply::Observed(_)))?;
    let Reply::Observed(mut counts) = reply else { return None };
    counts.sleeping += 7;
    answer(draft, place, Reply::Observed(counts));
    planted(Property::O1, [counts.sleeping.to_string()])
}
