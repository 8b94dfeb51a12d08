//! What a run came to, in figures: counted over all rounds, some eight bytes a fault.

use super::blow::Kind;
use super::cast::HOLDER;
use super::round::Played;
use super::strike::Injected;
use std::collections::BTreeMap;
use std::time::Duration;
use tourbillon_models::history::History;
use tourbillon_models::name::Micros;
use tourbillon_models::op::{Op, Verb};
use tourbillon_models::property::Property;
use tourbillon_models::record::Happening;
use tourbillon_models::reply::Reply;
use tourbillon_models::verdict::{Judgement, Verdict};

/// What the rounds said of one property.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Judged {
    pub held: u64,
    pub unknown: u64,
    pub violated: u64,
    pub exercised: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub rounds: u64,
    pub records: u64,
    pub workflows: u64,
    pub steps: u64,
    /// Time with faults, in all.
    pub shaken: Duration,
    pub wall: Duration,
    /// Steps while no blow was under way and none had yet to be recovered from, and how long that was. What a process has for
    /// life, and what is held open, is not counted as one.
    pub steady_steps: u64,
    pub steady: Duration,
    pub injected: BTreeMap<Kind, u64>,
    /// From a fault's end to the next finished step.
    pub recoveries: Vec<Micros>,
    /// From the last fault until nothing was left to do: the longest, of those that came to that.
    pub drained_in: Option<Micros>,
    pub judged: BTreeMap<Property, Judged>,
}

impl Figures {
    pub fn injected(&self, kind: Kind) -> u64 {
        self.injected.get(&kind).copied().unwrap_or(0)
    }

    pub fn faults(&self) -> u64 {
        self.injected.values().sum()
    }

    /// The least that so many of a hundred recoveries did not exceed.
    pub fn recovery(&self, percent: usize) -> Option<Micros> {
        let mut sorted = self.recoveries.clone();
        sorted.sort_unstable();
        let place = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(place - 1).copied()
    }

    pub(super) fn add(&mut self, played: &Played, verdict: &Verdict) {
        let steps = steps(&played.history);
        let end = played.faults_end;
        self.rounds += 1;
        self.records += verdict.record_count();
        self.workflows += played.progress.started.saturating_sub(played.progress.live);
        self.steps += steps.iter().map(|(_, count)| count).sum::<u64>();
        self.shaken += Duration::from_micros(end.0);
        played.injected.iter().for_each(|it| *self.injected.entry(it.kind).or_default() += 1);
        for (kind, count) in held(&played.history) {
            if count > 0 {
                *self.injected.entry(kind).or_default() += count;
            }
        }
        self.drained_in = self.drained_in.max(played.drained_in);
        let troubled = troubled(&played.injected, &steps);
        let recovery = |over: Micros| steps.iter().find(|(at, _)| *at > over).map(|(at, _)| *at - over);
        let ends = played.injected.iter().filter(|it| !it.kind.is_of_a_life());
        self.recoveries.extend(ends.filter_map(|it| recovery(it.over)));
        let is_steady = |at: Micros| at < end && !troubled.iter().any(|(from, to)| *from <= at && at <= *to);
        self.steady_steps += steps.iter().filter(|(at, _)| is_steady(*at)).map(|(_, count)| count).sum::<u64>();
        let lost: u64 = troubled.iter().map(|(from, to)| (*to).min(end).0.saturating_sub(from.0)).sum();
        self.steady += Duration::from_micros(end.0.saturating_sub(lost));
        for finding in verdict.findings() {
            let judged = self.judged.entry(finding.property).or_default();
            judged.exercised += finding.exercised;
            *match finding.judgement {
                Judgement::Holds => &mut judged.held,
                Judgement::Unknown => &mut judged.unknown,
                Judgement::Violated => &mut judged.violated,
            } += 1;
        }
    }
}

/// When steps were finished, and how many: each decision of a handoff that was answered is one.
fn steps(history: &History) -> Vec<(Micros, u64)> {
    let mut calls: BTreeMap<u16, u64> = BTreeMap::new();
    let mut steps = Vec::new();
    for record in &history.records {
        match &record.what {
            Happening::Call(Op::Handoff { decisions, .. }) => {
                let decided = history.decisions(*decisions).iter().filter(|it| it.verb != Verb::Child).count();
                calls.insert(record.session.0, decided as u64);
            }
            Happening::Return(Reply::HandedOff { .. }) => {
                steps.extend(calls.remove(&record.session.0).map(|count| (record.at, count)));
            }
            _ => {}
        }
    }
    steps
}

/// Transactions that held something open, or tried to.
fn held(history: &History) -> [(Kind, u64); 2] {
    let holder = history.header.processes.iter().position(|name| name == HOLDER);
    let of_holder = |record: &&tourbillon_models::record::Record| Some(usize::from(record.process.0)) == holder;
    let mut counts = [(Kind::HeldSnapshot, 0), (Kind::MaintenanceLock, 0)];
    for record in history.records.iter().filter(of_holder) {
        match &record.what {
            Happening::Return(Reply::Counted { .. }) => counts[0].1 += 1,
            Happening::Call(Op::LockTable { .. }) => counts[1].1 += 1,
            _ => {}
        }
    }
    counts
}

/// The times from a fault's beginning to the first step after its end, without overlaps.
fn troubled(injected: &[Injected], steps: &[(Micros, u64)]) -> Vec<(Micros, Micros)> {
    let after = |over: Micros| steps.iter().find(|(at, _)| *at > over).map_or(Micros(u64::MAX), |(at, _)| *at);
    let mut spans: Vec<_> =
        injected.iter().filter(|it| !it.kind.is_of_a_life()).map(|it| (it.at, after(it.over))).collect();
    spans.sort_unstable();
    let mut merged: Vec<(Micros, Micros)> = Vec::new();
    for (from, to) in spans {
        match merged.last_mut() {
            Some((_, end)) if from <= *end => *end = (*end).max(to),
            _ => merged.push((from, to)),
        }
    }
    merged
}
