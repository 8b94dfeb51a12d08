//! The shape of a workload's plans: what is the same for all its seeds, whatever else they draw.

use crate::faults::FaultKind;

/// How much there is to do, how it comes, and what must go wrong. Pairs are the least and the most.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// These kinds of fault are on in every plan.
    pub forced: &'static [FaultKind],
    pub consumers: (u64, u64),
    pub items: (u64, u64),
    /// What the program makes of it: rounds, jobs.
    pub size: (u64, u64),
    pub arrivals: Arrivals,
    pub pace: Pace,
    /// On top of those drawn: workers that stand still for longer than the dead interval.
    pub more_pauses: (u64, u64),
    /// The same of commits whose reply is lost: what they committed is repeated.
    pub lost_commits: (u64, u64),
    pub interruption: Interruption,
    /// Applications that read the event tables all the time.
    pub readers: u64,
    /// Of what size the families of a crowd are; 0 if there never is one.
    pub crowd_size: u64,
    /// Who counts live workflows; a program whose workflows await something has one at least.
    pub observers: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrivals {
    /// At any time before faults end.
    Spread,
    /// All at once, from one session or from eight.
    AtOnce,
    /// By an application's transactions: twenty in one, the others one by one; and some that are rolled back.
    Triggered,
    /// The same one by one, and most are rolled back.
    RolledBack,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    Brisk,
    /// For workloads that take minutes.
    Leisurely,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interruption {
    None,
    /// Workers go over to the program's version 1, each at a time of its own.
    Deployment,
    /// Workers and duties stand still together, for longer than anything is kept.
    Outage,
    /// One consumer's worker looks once, and then no more before faults are over.
    Standstill,
}

const USUAL: Shape = Shape {
    forced: &[],
    consumers: (1, 3),
    items: (3, 14),
    size: (1, 1),
    arrivals: Arrivals::Spread,
    pace: Pace::Brisk,
    more_pauses: (0, 0),
    lost_commits: (0, 0),
    interruption: Interruption::None,
    readers: 0,
    crowd_size: 0,
    observers: 0,
};

impl Shape {
    /// A program of somebody's own has the usual one.
    pub fn of(workload: &str) -> Shape {
        match workload {
            "agent-loop" => Shape { items: (1, 3), size: (3, 12), ..USUAL },
            "restart" => Shape { forced: &[FaultKind::ServerCrash], ..USUAL },
            "long-sleep" => Shape { items: (2, 6), pace: Pace::Leisurely, ..USUAL },
            "poison" => Shape { forced: &[FaultKind::LostReply], items: (2, 9), lost_commits: (2, 6), ..USUAL },
            "dispatch" => Shape { items: (1, 4), size: (2, 5), ..USUAL },
            "deploy" => Shape { interruption: Interruption::Deployment, ..USUAL },
            "zombie" => Shape { forced: &[FaultKind::WorkerPause], more_pauses: (2, 6), ..USUAL },
            "outage" => Shape { interruption: Interruption::Outage, ..USUAL },
            "slow-consumer" => Shape {
                forced: &[FaultKind::SlowConsumer],
                consumers: (2, 3),
                interruption: Interruption::Standstill,
                readers: 2,
                ..USUAL
            },
            "burst" => Shape { arrivals: Arrivals::AtOnce, ..USUAL },
            "fan-out" => Shape { items: (1, 5), ..USUAL },
            "results" => Shape { items: (2, 8), ..USUAL },
            "approval" => Shape { items: (2, 7), ..USUAL },
            "emit-race" => Shape { items: (1, 4), size: (1, 4), ..USUAL },
            "children-fail" => Shape { items: (1, 5), crowd_size: 2, ..USUAL },
            "observability" => Shape { items: (2, 6), size: (2, 4), observers: 2, ..USUAL },
            "secrets" => Shape { items: (1, 6), ..USUAL },
            "triggered" => Shape { arrivals: Arrivals::Triggered, items: (22, 22), ..USUAL },
            "rolled-back-start" => Shape { arrivals: Arrivals::RolledBack, items: (2, 6), observers: 1, ..USUAL },
            _ => USUAL,
        }
    }
}
