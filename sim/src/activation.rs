//! How often each kind of fault came about in a run, and on which side of a call.
//!
//! A fault that a plan asks for may never fall: its point is not reached, its process has finished. So what is counted is
//! what the run says of those that did, and the calls by which a client behaves badly. A history does not tell as what a
//! fault was drawn: everyone stands still in an outage, and a worker's own program may kill it. What it is not: a goal of
//! the properties; those are [`Reach`](tourbillon_models::property::Reach).

use crate::faults::FaultKind;
use crate::net::network::NetworkFault;
use crate::plan::{Phase, Plan, ProcessPlan, Role};
use crate::run::Summary;
use serde::{Deserialize, Serialize};
use tourbillon_engine::actors::worker::options::{BurialHabit, ClaimHabit, ErrorHabit, HandoffHabit};
use tourbillon_models::history::History;
use tourbillon_models::op::Op;
use tourbillon_models::record::{Happening, Span};

const KINDS: usize = FaultKind::ALL.len();

/// The faults that fall at a point, and its sides.
const POINTS: [(FaultKind, Phase); 12] = [
    (FaultKind::WorkerCrash, Phase::Before),
    (FaultKind::WorkerCrash, Phase::After),
    (FaultKind::WorkerCrash, Phase::Waiting),
    (FaultKind::WorkerPause, Phase::Before),
    (FaultKind::WorkerPause, Phase::After),
    (FaultKind::LostReply, Phase::Before),
    (FaultKind::LostReply, Phase::After),
    (FaultKind::ServerCrash, Phase::Before),
    (FaultKind::ServerCrash, Phase::After),
    (FaultKind::ServerCrash, Phase::Waiting),
    (FaultKind::IdleTimeout, Phase::Before),
    (FaultKind::IdleTimeout, Phase::After),
];

/// Counts for one run, or for many.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Activations {
    kinds: [u64; KINDS],
    points: [u64; POINTS.len()],
    #[serde(default)]
    network: [u64; NetworkFault::ALL.len()],
}

/// A kind of fault that shows as a process's calls of some kind.
type Sign = (FaultKind, fn(&Op<Span>) -> bool);

impl Activations {
    pub fn of(plan: &Plan, summary: &Summary, history: &History) -> Activations {
        let signs: Vec<Vec<Sign>> = plan.processes.iter().map(signs).collect();
        let mut activations = Activations::default();
        activations.kinds[FaultKind::AsyncCommitLoss as usize] += summary.lost_commits;
        summary.network_faults.iter().for_each(|fault| activations.network[*fault as usize] += 1);
        summary.faults.iter().for_each(|(kind, phase)| activations.count_fault(*kind, *phase));
        for record in &history.records {
            let process = usize::from(record.process.0);
            if let Happening::Call(op) = record.what {
                for (kind, shows) in signs.get(process).into_iter().flatten() {
                    activations.kinds[*kind as usize] += u64::from(shows(&op));
                }
            }
        }
        activations
    }

    pub fn count(&self, kind: FaultKind) -> u64 {
        self.kinds[kind as usize]
    }

    /// Every count that plans with these kinds of fault can bring about, by name.
    pub fn named(&self, possible: &[FaultKind]) -> Vec<(String, u64)> {
        let kinds = FaultKind::ALL.into_iter().zip(self.kinds);
        let kinds = kinds.map(|(kind, count)| (kind, kind.name().to_owned(), count));
        let points = POINTS.iter().zip(self.points).map(|((kind, phase), count)| {
            let side = match phase {
                Phase::Before => "before",
                Phase::After => "after",
                Phase::Waiting => "in_blocked",
            };
            (*kind, format!("{}_{side}_call", kind.name()), count)
        });
        let possible = kinds.chain(points).filter(|(kind, ..)| possible.contains(kind));
        possible.map(|(_, name, count)| (name, count)).collect()
    }

    /// Every count of what befell a network.
    pub fn of_network(&self) -> impl Iterator<Item = (NetworkFault, u64)> + '_ {
        NetworkFault::ALL.iter().map(|fault| (*fault, self.network[*fault as usize]))
    }

    pub fn add(&mut self, other: &Activations) {
        self.kinds.iter_mut().zip(other.kinds).for_each(|(sum, one)| *sum += one);
        self.points.iter_mut().zip(other.points).for_each(|(sum, one)| *sum += one);
        self.network.iter_mut().zip(other.network).for_each(|(sum, one)| *sum += one);
    }

    fn count_fault(&mut self, kind: FaultKind, phase: Option<Phase>) {
        self.kinds[kind as usize] += 1;
        if let Some(phase) = phase {
            let point = POINTS.iter().position(|point| *point == (kind, phase));
            self.points[point.expect("every fault that falls at a call has its sides")] += 1;
        }
    }
}

fn signs(process: &ProcessPlan) -> Vec<Sign> {
    match &process.role {
        Role::Worker(worker) => {
            let mut signs: Vec<Sign> = Vec::new();
            if !process.clock.is_right() {
                signs.push((FaultKind::ClockDrift, |op| matches!(op, Op::Claim { .. } | Op::TakeOver { .. })));
            }
            if worker.slowness.is_some() {
                signs.push((FaultKind::SlowConsumer, |op| matches!(op, Op::Claim { .. })));
            }
            if matches!(worker.claim, ClaimHabit::InTransaction { .. }) {
                signs.push((FaultKind::ClaimInTransaction, |op| matches!(op, Op::Claim { .. })));
            }
            if worker.handoff == HandoffHabit::FirstPage {
                signs.push((FaultKind::PartialHandoff, |op| matches!(op, Op::Handoff { .. })));
            }
            // From the first effect on there is a transaction that it would commit like that.
            if worker.handoff == HandoffHabit::Forgotten {
                signs.push((FaultKind::ForgottenHandoff, |op| matches!(op, Op::Effect { .. })));
            }
            if worker.errors == ErrorHabit::Swallowed {
                signs.push((FaultKind::SwallowedError, |op| matches!(op, Op::RollbackTo { .. })));
            }
            if worker.burial != BurialHabit::LeftAlone {
                signs.push((FaultKind::ReplayTwice, |op| matches!(op, Op::ReplayDeadLetter { .. })));
            }
            if worker.subscribe_to.is_some() {
                signs.push((FaultKind::SecondConsumer, |op| matches!(op, Op::Subscribe { .. })));
            }
            signs
        }
        Role::Script(_) => script_sign(&process.name).into_iter().collect(),
    }
}

fn script_sign(name: &str) -> Option<Sign> {
    let is_duty: fn(&Op<Span>) -> bool = |op| {
        matches!(
            op,
            Op::Tick { .. }
                | Op::Rotate { .. }
                | Op::Drain { .. }
                | Op::RotateTimers { .. }
                | Op::ExpireWaits { .. }
                | Op::RotateAudit { .. }
        )
    };
    let signs: [(&str, Sign); 4] = [
        ("holder-", (FaultKind::HeldTransaction, |op| matches!(op, Op::Peek { .. } | Op::LockTable { .. }))),
        (
            "late-producer-",
            (FaultKind::LateProducer, |op| matches!(op, Op::Append { .. } | Op::Start { .. } | Op::Schedule { .. })),
        ),
        ("duty-in-transaction", (FaultKind::DutyInTransaction, is_duty)),
        ("duty-repeatable-read", (FaultKind::DutyRepeatableRead, is_duty)),
    ];
    signs.into_iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, sign)| sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Limits;
    use crate::plan::PlannedEffect;
    use crate::simulate::{Simulator, Work};
    use tourbillon_engine::guard::Guards;
    use tourbillon_models::record::Fault;
    use tourbillon_models::workload::Workload;

    /// So many seeds of every workload: what came about, and how many records of faults `is_it` knows.
    fn swept(seeds: u64, limits: &Limits, change: fn(&mut Plan), is_it: fn(&Fault) -> bool) -> (Activations, u64) {
        let (mut simulator, mut sum, mut recorded) = (Simulator::default(), Activations::default(), 0);
        for workload in Workload::ALL {
            let work = Work::named(workload.name()).unwrap();
            for seed in 0..seeds {
                let mut plan = work.plan(seed, limits);
                change(&mut plan);
                let (summary, _) = simulator.run(&plan, &work, Guards::ALL);
                sum.add(&Activations::of(&plan, &summary, simulator.history()));
                let records = simulator.history().records.iter();
                recorded += records
                    .filter(|record| matches!(record.what, Happening::Fault(fault) if is_it(&fault)))
                    .count() as u64;
            }
        }
        (sum, recorded)
    }

    /// Outages, resurrections and who stands idle stop workers and duties too.
    #[test]
    fn a_pause_counts_as_what_it_was_drawn_as() {
        let others = |kind: &FaultKind| !matches!(kind, FaultKind::WorkerPause | FaultKind::DutyStop);
        let limits = Limits { faults: FaultKind::ALL.into_iter().filter(others).collect() };
        // Some workloads are about pauses, and draw them whatever is allowed.
        let leave_out = |plan: &mut Plan| {
            if plan.options.iter().any(|(name, drawn)| name == "faults" && drawn.contains("worker_pause")) {
                plan.faults.clear();
            }
        };
        let (sum, pauses) = swept(25, &limits, leave_out, |fault| matches!(fault, Fault::Pause { .. }));
        assert_eq!([sum.count(FaultKind::WorkerPause), sum.count(FaultKind::DutyStop)], [0, 0]);
        assert!(pauses > 0, "nobody stood still");
        for kind in [FaultKind::WorkerPause, FaultKind::DutyStop] {
            let (sum, _) = swept(5, &Limits { faults: vec![kind] }, |_| {}, |_| false);
            assert!(sum.count(kind) > 0, "{} never came about", kind.name());
        }
    }

    #[test]
    fn a_generator_that_draws_no_more_of_a_kind_shows() {
        let stop = |plan: &mut Plan| {
            plan.faults.retain(|fault| fault.kind.is_none() || !matches!(fault.what, PlannedEffect::Pause { .. }));
        };
        let (sum, _) = swept(10, &Limits { faults: FaultKind::ALL.to_vec() }, stop, |_| false);
        assert_eq!([sum.count(FaultKind::WorkerPause), sum.count(FaultKind::DutyStop)], [0, 0]);
    }

    #[test]
    fn an_idle_timeout_counts_where_a_session_ends() {
        let limits = Limits { faults: vec![FaultKind::IdleTimeout] };
        let (sum, ends) = swept(25, &limits, |_| {}, |fault| *fault == Fault::SessionEnd);
        let at_calls: u64 = sum.named(&limits.faults)[1..].iter().map(|(_, count)| count).sum();
        assert_eq!([sum.count(FaultKind::IdleTimeout), at_calls], [ends, ends]);
        let (_, pauses) = swept(25, &limits, |_| {}, |fault| matches!(fault, Fault::Pause { .. }));
        assert!(0 < ends && ends < pauses, "{ends} of {pauses}");
    }

    #[test]
    fn who_dies_of_its_own_program_is_no_drawn_crash() {
        let (sum, crashes) = swept(5, &Limits { faults: Vec::new() }, |_| {}, |fault| *fault == Fault::Crash);
        assert_eq!(sum.count(FaultKind::WorkerCrash), 0);
        assert!(crashes > 0, "nobody died");
    }
}
