//! How often each kind of fault came about in a run, read off its plan and its history.
//!
//! A fault that a plan asks for may never fall: its point is not reached, its process has finished. Only what the history
//! shows is counted: a fault's own record, or the call by which a client behaves badly. What it is not: a goal of the
//! properties; those are [`Reach`](tourbillon_models::property::Reach).

use crate::faults::FaultKind;
use crate::plan::{Plan, ProcessPlan, Role};
use tourbillon_engine::actors::worker::{ClaimHabit, HandoffHabit};
use tourbillon_models::history::History;
use tourbillon_models::op::Op;
use tourbillon_models::record::{Fault, Happening, Span};

const KINDS: usize = FaultKind::ALL.len();

/// Counts for one run, or for many.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Activations([u64; KINDS]);

/// A kind of fault that shows as a process's calls of some kind.
type Sign = (FaultKind, fn(&Op<Span>) -> bool);

impl Activations {
    pub fn of(plan: &Plan, history: &History) -> Activations {
        let signs: Vec<Vec<Sign>> = plan.processes.iter().map(signs).collect();
        let mut activations = Activations::default();
        for record in &history.records {
            let process = usize::from(record.process.0);
            match record.what {
                Happening::Fault(fault) => {
                    let role = plan.processes.get(process).map(|process| &process.role);
                    activations.count_fault(fault, matches!(role, Some(Role::Worker(_))));
                }
                Happening::Call(op) => {
                    for (kind, shows) in signs.get(process).into_iter().flatten() {
                        activations.0[*kind as usize] += u64::from(shows(&op));
                    }
                }
                _ => {}
            }
        }
        activations
    }

    pub fn count(&self, kind: FaultKind) -> u64 {
        self.0[kind as usize]
    }

    pub fn add(&mut self, other: &Activations) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, one)| *sum += one);
    }

    fn count_fault(&mut self, fault: Fault, is_worker: bool) {
        let kind = match fault {
            Fault::Crash => FaultKind::WorkerCrash,
            Fault::Pause { .. } if is_worker => FaultKind::WorkerPause,
            Fault::Pause { .. } => FaultKind::DutyStop,
            Fault::LostReply => FaultKind::LostReply,
            Fault::ServerCrash => FaultKind::ServerCrash,
            Fault::ServerRestart | Fault::End => return,
        };
        self.0[kind as usize] += 1;
    }
}

fn signs(process: &ProcessPlan) -> Vec<Sign> {
    match &process.role {
        Role::Worker(worker) => {
            let mut signs: Vec<Sign> = Vec::new();
            if worker.slowness.is_some() {
                signs.push((FaultKind::SlowConsumer, |op| matches!(op, Op::Claim { .. })));
            }
            if matches!(worker.claim, ClaimHabit::InTransaction { .. }) {
                signs.push((FaultKind::ClaimInTransaction, |op| matches!(op, Op::Claim { .. })));
            }
            if worker.handoff == HandoffHabit::FirstPage {
                signs.push((FaultKind::PartialHandoff, |op| matches!(op, Op::Handoff { .. })));
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
    let is_duty: fn(&Op<Span>) -> bool = |op| matches!(op, Op::Tick { .. } | Op::Rotate { .. });
    let signs: [(&str, Sign); 4] = [
        ("holder-", (FaultKind::HeldTransaction, |op| matches!(op, Op::Peek { .. } | Op::LockTable { .. }))),
        ("late-producer-", (FaultKind::LateProducer, |op| matches!(op, Op::Append { .. } | Op::Start { .. }))),
        ("duty-in-transaction", (FaultKind::DutyInTransaction, is_duty)),
        ("duty-repeatable-read", (FaultKind::DutyRepeatableRead, is_duty)),
    ];
    signs.into_iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, sign)| sign)
}
