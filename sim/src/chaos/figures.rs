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
use tourbillon_models::record::{Happening, Note, Record};
use tourbillon_models::reply::{Outcome, Reply};
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
    /// Played, and not judged: somebody set the server's calendar.
    pub set_aside: u64,
    pub records: u64,
    pub workflows: u64,
    pub steps: u64,
    /// Time with faults, in all; and what was finished in it.
    pub shaken: Duration,
    pub shaken_workflows: u64,
    pub shaken_steps: u64,
    pub wall: Duration,
    /// Of these steps those made while no blow was under way and none had yet to be recovered from, and how long that was: from
    /// a round's first step on. What a process has for life, and what is held open, is not counted as a blow.
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
        let end = played.shaken.at;
        let made = |is: &dyn Fn(Micros) -> bool| -> u64 {
            steps.iter().filter(|(at, _)| is(*at)).map(|(_, count)| count).sum()
        };
        self.rounds += 1;
        self.records += verdict.record_count();
        self.workflows += played.progress.finished();
        self.steps += made(&|_| true);
        self.shaken += Duration::from_micros(end.0);
        self.shaken_workflows += played.shaken.finished;
        self.shaken_steps += made(&|at| at < end);
        played.injected.iter().for_each(|it| *self.injected.entry(it.kind).or_default() += 1);
        for (kind, count) in held(&played.history) {
            if count > 0 {
                *self.injected.entry(kind).or_default() += count;
            }
        }
        self.drained_in = self.drained_in.max(played.drained_in);
        let troubled = troubled(&played.injected, &steps);
        let recovery = |over: Micros| first_after(&steps, over).map(|at| at - over);
        let ends = played.injected.iter().filter(|it| !it.kind.is_of_a_life());
        self.recoveries.extend(ends.filter_map(|it| recovery(it.over)));
        let is_steady = |at: Micros| {
            let before = &troubled[..troubled.partition_point(|(from, _)| *from <= at)];
            at < end && before.last().is_none_or(|(_, to)| at > *to)
        };
        self.steady_steps += made(&is_steady);
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

/// What a session has finished, as far as it has not committed.
#[derive(Default)]
struct Open {
    is_transaction: bool,
    asked: u64,
    handed_off: u64,
}

/// When steps were finished, and how many, in order: each decision of a handoff is one when it commits.
fn steps(history: &History) -> Vec<(Micros, u64)> {
    let mut sessions: BTreeMap<u16, Open> = BTreeMap::new();
    let mut steps = Vec::new();
    for record in &history.records {
        let open = sessions.entry(record.session.0).or_default();
        match &record.what {
            Happening::Call(Op::Begin { .. }) => *open = Open { is_transaction: true, ..Open::default() },
            Happening::Call(Op::Handoff { .. }) => open.asked = decided(history, record).unwrap_or(0),
            Happening::Return(Reply::HandedOff { .. }) if open.is_transaction => open.handed_off += open.asked,
            Happening::Return(Reply::HandedOff { .. }) => steps.push((record.at, open.asked)),
            Happening::Return(Reply::Committed) | Happening::Note(Note::Resolved { outcome: Outcome::Committed }) => {
                steps.push((record.at, open.handed_off));
                *open = Open::default();
            }
            Happening::Return(Reply::RolledBack) => *open = Open::default(),
            _ => {}
        }
    }
    steps.retain(|(_, count)| *count > 0);
    steps
}

/// For how many steps a handoff is asked, if it is one.
fn decided(history: &History, record: &Record) -> Option<u64> {
    let Happening::Call(Op::Handoff { decisions, .. }) = &record.what else { return None };
    Some(history.decisions(*decisions).iter().filter(|it| it.verb != Verb::Child).count() as u64)
}

/// When the first step after that time was finished.
fn first_after(steps: &[(Micros, u64)], time: Micros) -> Option<Micros> {
    steps.get(steps.partition_point(|(at, _)| *at <= time)).map(|(at, _)| *at)
}

/// Transactions that held something open.
fn held(history: &History) -> [(Kind, u64); 2] {
    let holder = history.header.processes.iter().position(|name| name == HOLDER);
    let of_holder = |record: &&Record| Some(usize::from(record.process.0)) == holder;
    let mut counts = [(Kind::HeldSnapshot, 0), (Kind::MaintenanceLock, 0)];
    let mut asks_for_lock = false;
    for record in history.records.iter().filter(of_holder) {
        match &record.what {
            Happening::Return(Reply::Counted { .. }) => counts[0].1 += 1,
            Happening::Return(Reply::Done) if asks_for_lock => counts[1].1 += 1,
            Happening::Call(op) => asks_for_lock = matches!(op, Op::LockTable { .. }),
            _ => {}
        }
    }
    counts
}

/// The time until the first step, and those from a fault's beginning to the first step after its end, without overlaps.
fn troubled(injected: &[Injected], steps: &[(Micros, u64)]) -> Vec<(Micros, Micros)> {
    let after = |over: Micros| first_after(steps, over).unwrap_or(Micros(u64::MAX));
    let blows = injected.iter().filter(|it| !it.kind.is_of_a_life()).map(|it| (it.at, after(it.over)));
    let mut spans: Vec<_> = std::iter::once((Micros(0), after(Micros(0)))).chain(blows).collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::FaultKind;
    use crate::generate::Limits;
    use crate::simulate::{Simulator, Work};
    use tourbillon_engine::guard::Guards;
    use tourbillon_models::outcome::Outcomes;

    /// Of what is handed off again, because the first time was rolled back, one counts.
    #[test]
    fn a_step_is_counted_when_it_commits() {
        let (work, mut simulator) = (Work::named("chain").unwrap(), Simulator::default());
        // Commits are synchronous here.
        let faults = FaultKind::ALL.into_iter().filter(|kind| *kind != FaultKind::AsyncCommitLoss).collect();
        let limits = Limits { faults };
        let (mut asked, mut committed) = (0, 0);
        for seed in 0..60 {
            let plan = work.plan(seed, &limits);
            simulator.run(&plan, &work, Guards::ALL);
            let history = simulator.history();
            let counted: u64 = steps(history).iter().map(|(_, count)| count).sum();
            let taken: usize = Outcomes::of(history).workflows.values().map(Vec::len).sum();
            assert_eq!(counted, taken as u64, "seed {seed}");
            committed += counted;
            asked += history.records.iter().map(|record| decided(history, record).unwrap_or(0)).sum::<u64>();
        }
        assert!(committed > 1_000 && asked > committed, "{committed} of {asked}");
    }

    #[test]
    fn times_of_trouble_end_with_a_step_and_the_first_one_ends_with_the_first() {
        let injected = |at, over| Injected { kind: Kind::HangUp, at: Micros(at), over: Micros(over) };
        let steps = [10, 20, 30, 50, 60].map(|at| (Micros(at), 1));
        let spans = |injected: &[Injected]| -> Vec<(u64, u64)> {
            troubled(injected, &steps).into_iter().map(|(from, to)| (from.0, to.0)).collect()
        };
        assert_eq!(spans(&[]), [(0, 10)]);
        assert_eq!(spans(&[injected(22, 25), injected(28, 40)]), [(0, 10), (22, 50)]);
        assert_eq!(spans(&[injected(55, 61)]), [(0, 10), (55, u64::MAX)]);
        let of_a_life = Injected { kind: Kind::Timeouts, at: Micros(40), over: Micros(40) };
        assert_eq!(spans(&[of_a_life]), [(0, 10)]);
    }
}
