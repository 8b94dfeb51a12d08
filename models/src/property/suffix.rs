//! What an asynchronous commit may lose. D4, and D1 for what no crash may take back.
//!
//! Judged where the header's option `asynchronous_commit` is `true`. A transaction whose commit was
//! acknowledged before a crash of the server is lost if a note after that crash says, under its number, that it aborted.
//!
//! - **D4** What a crash of the server loses is a suffix of what was acknowledged before it: no transaction that survives
//!   began its commit after the acknowledgement of one that is lost. Broken by a log that is not written in order.
//! - **D1** What was acknowledged before the log reached the disk is not lost in a crash after that, and without a crash
//!   nothing is (judged in [`fate`](super::fate)). Broken by a flush that leaves out something.
//!
//! A lost transaction counts as rolled back. What others were shown between its commit and the crash is nobody's fault,
//! and is not judged: all that they did with it is in the same suffix.

use super::checker::Pass;
use super::clue::Clue;
use super::transactions::NONE;
use super::{Property, Reach};
use crate::history::History;
use crate::name::{Process, Session, Token, Xid};
use crate::op::Op;
use crate::record::{Fault, Happening, Note, Span};
use crate::reply::{Outcome, Refusal, Reply};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

/// The header's option that says so.
pub const ASYNCHRONOUS_COMMIT: &str = "asynchronous_commit";

/// A crash of the server.
struct Crash {
    at: u32,
    /// When the log had reached the disk last.
    flushed: Option<u32>,
    /// The call of the first commit that it lost, or [`NONE`]: from there on others may have seen it.
    first_lost: u32,
    /// The first that it lost although the log had reached the disk since, and its acknowledgement.
    lost_flushed: Option<(u32, Xid)>,
}

#[derive(Default)]
pub(super) struct Suffix {
    pub(super) is_asynchronous: bool,
    lost: BTreeSet<u32>,
    /// In order.
    crashes: Vec<Crash>,
    /// Since the last crash: the first acknowledgement of a lost transaction, and the last commit call of one that
    /// survives, with their records and numbers.
    first_lost: Option<(u32, Xid)>,
    last_kept: Option<(u32, Xid)>,
    /// The tokens of claims that are lost.
    lost_claims: Vec<Token>,
    /// Whose last claim is lost.
    bereft: BTreeSet<Process>,
}

impl Suffix {
    pub(super) fn clear(&mut self) {
        *self = Suffix::default();
    }

    /// Reads ahead what each crash lost: what is lost counts from its acknowledgement on.
    pub(super) fn read(&mut self, history: &History) {
        self.is_asynchronous = history.header.option(ASYNCHRONOUS_COMMIT).is_some_and(|value| value == "true");
        if !self.is_asynchronous {
            return;
        }
        // By transaction: its commit's call, and the acknowledgement.
        let mut acknowledged: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
        let mut calls: BTreeMap<Session, u32> = BTreeMap::new();
        // The sessions that are in a transaction, with its number as far as it is known.
        let mut open: BTreeMap<Session, Xid> = BTreeMap::new();
        // Those whose transaction ends with the reply to come, whatever it says.
        let mut ending: BTreeSet<Session> = BTreeSet::new();
        let mut flushed = None;
        for (record, index) in history.records.iter().zip(0u32..) {
            if let Happening::Call(_) = record.what {
                calls.insert(record.session, index);
            }
            match record.what {
                Happening::Call(Op::Begin { .. }) => drop(open.insert(record.session, Xid(0))),
                Happening::Call(Op::Commit | Op::Rollback) => drop(ending.insert(record.session)),
                Happening::Return(reply) => {
                    let ends = ending.remove(&record.session);
                    let own = if ends { open.remove(&record.session) } else { None };
                    let inside = open.get_mut(&record.session);
                    let is_acknowledgement =
                        inside.is_none() && !matches!(reply, Reply::RolledBack | Reply::Refused(_) | Reply::Unknown);
                    inside.into_iter().for_each(|xid| xid.0 = xid.0.max(record.xid.0));
                    let xid = own.filter(|own| own.0 != 0).unwrap_or(record.xid);
                    if is_acknowledgement && xid.0 != 0 {
                        let call = calls.get(&record.session).copied().unwrap_or(index);
                        acknowledged.insert(xid.0, (call, index));
                    }
                }
                Happening::Fault(Fault::ServerCrash) => {
                    open.clear();
                    ending.clear();
                    self.crashes.push(Crash { at: index, flushed, first_lost: NONE, lost_flushed: None });
                }
                Happening::Fault(Fault::LogFlush) => flushed = Some(index),
                Happening::Note(Note::Resolved { outcome: Outcome::Aborted }) => {
                    let commit = acknowledged.get(&record.xid.0);
                    commit.into_iter().for_each(|commit| self.lose(record.xid, *commit));
                }
                _ => {}
            }
        }
    }

    /// An acknowledged transaction is said to have aborted: the first crash after that lost it, if there was one.
    fn lose(&mut self, xid: Xid, (call, acknowledged): (u32, u32)) {
        let place = self.crashes.partition_point(|crash| crash.at < acknowledged);
        if let Some(crash) = self.crashes.get_mut(place) {
            crash.first_lost = crash.first_lost.min(call);
            if crash.flushed.is_some_and(|flushed| acknowledged < flushed) {
                crash.lost_flushed.get_or_insert((acknowledged, xid));
            }
            self.lost.insert(xid.0);
        }
    }

    pub(super) fn is_lost(&self, xid: Xid) -> bool {
        self.lost.contains(&xid.0)
    }

    /// Whether a crash before this record has lost something.
    pub(super) fn has_lost_before(&self, index: u32) -> bool {
        self.crashes.iter().any(|crash| crash.at < index && crash.first_lost != NONE)
    }

    /// Whether a process goes by a claim that is lost, before the crash or after it.
    pub(super) fn is_bereft(&self, process: Process) -> bool {
        self.bereft.contains(&process)
    }

    /// A process was given a window that it keeps.
    pub(super) fn is_given(&mut self, process: Process) {
        self.bereft.remove(&process);
    }

    /// Whether what a reply shows there may be gone after the crash.
    pub(super) fn is_doomed(&self, index: u32) -> bool {
        self.crashes.iter().any(|crash| (crash.first_lost..crash.at).contains(&index))
    }
}

impl Pass<'_> {
    /// A commit was acknowledged. True if it is lost all the same.
    pub(super) fn acknowledged_and_lost(&mut self, commit_call: u32, commit: u32, xid: Xid) -> bool {
        if !self.memory.suffix.is_asynchronous {
            return false;
        }
        let suffix = &mut self.memory.suffix;
        // It wrote nothing, and may have been shown what is lost.
        if xid.0 == 0 && suffix.is_doomed(commit) {
            return true;
        }
        if suffix.lost.contains(&xid.0) {
            suffix.first_lost.get_or_insert((commit, xid));
            return true;
        }
        if xid.0 != 0 {
            suffix.last_kept = Some((commit_call, xid));
        }
        false
    }

    /// What this reply shows is lost.
    pub(super) fn lost_write(&mut self, ret: u32) {
        let record = &self.history.records[ret as usize];
        if let Happening::Return(Reply::Claimed { token, .. }) = record.what {
            self.memory.suffix.lost_claims.push(token);
            self.memory.suffix.bereft.insert(record.process);
        }
    }

    /// The zombie of a lost claim was told that its token, or itself, is not known.
    pub(super) fn see_lost_claim(&mut self, index: u32, op: &Op<Span>, refusal: Refusal) {
        let (Op::Read { token, .. }
        | Op::Heartbeat { token, .. }
        | Op::Hold { token, .. }
        | Op::ReadResults { token, .. }
        | Op::HandOut { token, .. }
        | Op::Handoff { token, .. }) = op
        else {
            return;
        };
        let suffix = &self.memory.suffix;
        let is_unknown = matches!(refusal, Refusal::StaleToken | Refusal::UndefinedObject);
        if is_unknown && suffix.has_lost_before(index) && suffix.lost_claims.contains(token) {
            self.found.sees(Reach::LostClaimRefused);
        }
    }

    /// The server died: what it lost must be the end of what it had acknowledged.
    pub(super) fn judge_suffix(&mut self, crash: u32) {
        self.judge_flushed(crash);
        let suffix = &mut self.memory.suffix;
        let (lost, kept) = (suffix.first_lost.take(), suffix.last_kept.take());
        if lost.is_some() {
            self.found.sees(Reach::AsyncCommitLost);
        }
        let (Some((acknowledged, lost)), Some((call, kept))) = (lost, kept) else { return };
        self.found.exercised(Property::D4);
        if call < acknowledged {
            return;
        }
        let clue = Clue(self.history);
        self.found.violated(Property::D4, &[acknowledged, call, crash], || {
            let (first, then) = (clue.at(acknowledged), clue.at(call));
            let at = clue.at(crash);
            format!("the crash at {at} lost {lost}, acknowledged at {first}, and kept {kept}, whose commit was called only at {then}")
        });
    }

    fn judge_flushed(&mut self, crash: u32) {
        let found = self.memory.suffix.crashes.iter().find(|found| found.at == crash);
        let Some(&Crash { flushed: Some(flushed), lost_flushed: Some((acknowledged, lost)), .. }) = found else {
            return;
        };
        let clue = Clue(self.history);
        self.found.violated(Property::D1, &[acknowledged, flushed, crash], || {
            let (process, told) = (clue.process(acknowledged), clue.at(acknowledged));
            let (flushed, at) = (clue.at(flushed), clue.at(crash));
            format!(
                "{process} was told at {told} that {lost} had committed, and the log reached the disk at {flushed}; the crash \
                 at {at} lost it"
            )
        });
    }
}
