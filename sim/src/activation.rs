//! How often each kind of fault came about in a run, and on which side of a call.
//!
//! A fault that a plan asks for may never fall: its point is not reached, its process has finished. So what is counted is
//! what the history shows (a fault's own record, or the call by which a client behaves badly) and, as a history does
//! not tell on which side of a call a fault fell, what the run says of it. What it is not: a goal of the properties;
//! those are [`Reach`](tourbillon_models::property::Reach).

use crate::faults::FaultKind;
use crate::plan::{Phase, Plan, PlannedEffect, ProcessPlan, Role};
use crate::run::Summary;
use tourbillon_engine::actors::worker::options::{BurialHabit, ClaimHabit, ErrorHabit, HandoffHabit};
use tourbillon_models::history::History;
use tourbillon_models::op::Op;
use tourbillon_models::record::{ClockOffset, Fault, Happening, Span};

const KINDS: usize = FaultKind::ALL.len();

/// The faults that fall at a point, and its two sides.
const POINTS: [(FaultKind, Phase); 10] = [
    (FaultKind::WorkerCrash, Phase::Before),
    (FaultKind::WorkerCrash, Phase::After),
    (FaultKind::WorkerPause, Phase::Before),
    (FaultKind::WorkerPause, Phase::After),
    (FaultKind::LostReply, Phase::Before),
    (FaultKind::LostReply, Phase::After),
    (FaultKind::ServerCrash, Phase::Before),
    (FaultKind::ServerCrash, Phase::After),
    (FaultKind::IdleTimeout, Phase::Before),
    (FaultKind::IdleTimeout, Phase::After),
];

/// Counts for one run, or for many.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Activations {
    kinds: [u64; KINDS],
    points: [u64; POINTS.len()],
}

/// A kind of fault that shows as a process's calls of some kind.
type Sign = (FaultKind, fn(&Op<Span>) -> bool);

impl Activations {
    pub fn of(plan: &Plan, summary: &Summary, history: &History) -> Activations {
        let signs: Vec<Vec<Sign>> = plan.processes.iter().map(signs).collect();
        let mut activations = Activations::default();
        activations.kinds[FaultKind::AsyncCommitLoss as usize] += summary.lost_commits;
        summary.struck.iter().for_each(|(effect, phase)| activations.count_point(*effect, *phase));
        for record in &history.records {
            let process = usize::from(record.process.0);
            match record.what {
                Happening::Fault(fault) => {
                    let role = plan.processes.get(process).map(|process| &process.role);
                    activations.count_fault(fault, matches!(role, Some(Role::Worker(_))));
                }
                Happening::Call(op) => {
                    for (kind, shows) in signs.get(process).into_iter().flatten() {
                        activations.kinds[*kind as usize] += u64::from(shows(&op));
                    }
                }
                _ => {}
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
            let side = if *phase == Phase::Before { "before" } else { "after" };
            (*kind, format!("{}_{side}_call", kind.name()), count)
        });
        let possible = kinds.chain(points).filter(|(kind, ..)| possible.contains(kind));
        possible.map(|(_, name, count)| (name, count)).collect()
    }

    pub fn add(&mut self, other: &Activations) {
        self.kinds.iter_mut().zip(other.kinds).for_each(|(sum, one)| *sum += one);
        self.points.iter_mut().zip(other.points).for_each(|(sum, one)| *sum += one);
    }

    fn count_point(&mut self, effect: PlannedEffect, phase: Phase) {
        let kind = match effect {
            PlannedEffect::Crash { .. } => FaultKind::WorkerCrash,
            PlannedEffect::Pause { .. } => FaultKind::WorkerPause,
            PlannedEffect::LostReply => FaultKind::LostReply,
            PlannedEffect::ServerCrash { .. } => FaultKind::ServerCrash,
            PlannedEffect::IdleTimeout { .. } => FaultKind::IdleTimeout,
            PlannedEffect::Flush => return,
            // It falls at a time.
            PlannedEffect::ServerClockStep(_) => return,
        };
        let point = POINTS.iter().position(|point| *point == (kind, phase));
        self.points[point.expect("every fault has its two sides")] += 1;
    }

    fn count_fault(&mut self, fault: Fault, is_worker: bool) {
        let kind = match fault {
            Fault::Crash => FaultKind::WorkerCrash,
            Fault::Pause { .. } if is_worker => FaultKind::WorkerPause,
            Fault::Pause { .. } => FaultKind::DutyStop,
            Fault::LostReply => FaultKind::LostReply,
            Fault::ServerCrash => FaultKind::ServerCrash,
            Fault::SessionEnd => FaultKind::IdleTimeout,
            Fault::ClockStep(ClockOffset::NONE) | Fault::LogFlush | Fault::ServerRestart | Fault::End => return,
            Fault::ClockStep(_) => FaultKind::ServerClockStep,
        };
        self.kinds[kind as usize] += 1;
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
    let is_duty: fn(&Op<Span>) -> bool =
        |op| matches!(op, Op::Tick { .. } | Op::Rotate { .. } | Op::Drain { .. } | Op::RotateTimers { .. });
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
