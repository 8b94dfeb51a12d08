//! How a plan's network fails: which faults are drawn for it, and where they fall.
//!
//! Each kind has a stream of its own, so that leaving one out moves no other's draws. Some faults fall at some time,
//! and most at a call: few calls of a run are a step's, and those are aimed at by kind. What it is *not*: what a fault
//! does; the driver knows.

use super::network::{Network, NetworkEffect, NetworkFault};
use crate::plan::{CallKind, Phase, Plan, PlannedEffect, PlannedFault, ProcessPlan, Role, When};
use crate::random::Stream;
use tourbillon_engine::actors::script::{OnLostReply, ScriptOptions};
use tourbillon_models::name::{Micros, Process};
use tourbillon_models::record::{Link, Side};

/// In which ways a network may fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failing(u16);

impl Failing {
    pub const NEVER: Failing = Failing(0);
    /// In every way there is.
    pub const ANYHOW: Failing = Failing((1 << NetworkFault::DRAWN.len()) - 1);

    #[must_use]
    pub const fn and(self, fault: NetworkFault) -> Failing {
        Failing(self.0 | 1 << fault as u16)
    }

    pub const fn has(self, fault: NetworkFault) -> bool {
        self.0 >> fault as u16 & 1 != 0
    }

    pub fn faults(self) -> impl Iterator<Item = NetworkFault> {
        NetworkFault::DRAWN.into_iter().filter(move |fault| self.has(*fault))
    }
}

/// Each kind is on or not, and the process that it befalls is a worker more often than not. Whoever sets everything up is
/// left alone.
pub(super) fn draw(plan: &Plan, network: &Network, failing: Failing) -> Vec<PlannedFault> {
    let those = |is_one: fn(&ProcessPlan) -> bool| -> Vec<Process> {
        let processes = plan.processes.iter().enumerate().skip(1);
        processes.filter(|(_, process)| is_one(process)).map(|(index, _)| Process(index as u8)).collect()
    };
    let all = those(|_| true);
    let workers = those(|process| matches!(process.role, Role::Worker(_)));
    let callers = those(|process| !matches!(calls_of(process), [CallKind::Any]));
    let mut faults = Vec::new();
    for kind in failing.faults().filter(|_| !all.is_empty()) {
        let mut stream = Stream::new(plan.seed, "network fault", kind as u64);
        let (is_on, is_spared) = (stream.chance(1, 2), !stream.chance(1, 5) && is_about_moments(plan));
        if !is_on || is_spared {
            continue;
        }
        // Each way is a fault of its own.
        let ways = if kind == NetworkFault::OneWayPartition { 2 } else { 1 };
        for _ in 0..ways * stream.between(1, 4) {
            let among = match stream.below(6) {
                0..3 if !workers.is_empty() => &workers,
                3..5 if !callers.is_empty() => &callers,
                _ => &all,
            };
            let process = *stream.choose(among);
            let what = effect(plan, network, kind, &mut stream);
            let when = match kind {
                NetworkFault::LateMessage => at_call(plan, process, &[Phase::Before], &mut stream),
                _ if stream.chance(1, 4) => {
                    When::Time { at: stream.span(Micros::from_millis(20), plan.faults_end), process }
                }
                _ => at_call(plan, process, &[Phase::Before, Phase::After], &mut stream),
            };
            faults.push((when, what));
        }
        faults.extend(rarities(plan, network, kind, &mut stream));
    }
    let planned = |(when, what)| PlannedFault { when, what: PlannedEffect::Network(what), kind: None };
    faults.into_iter().map(planned).collect()
}

/// Few clients ask what became of a commit: of one that is still under way, or whose answer is lost.
fn rarities(plan: &Plan, network: &Network, kind: NetworkFault, stream: &mut Stream) -> Vec<(When, NetworkEffect)> {
    let phase = match kind {
        NetworkFault::LateMessage => Phase::Before,
        NetworkFault::HalfOpenProcess => Phase::After,
        _ => return Vec::new(),
    };
    let asks = |process: &ProcessPlan| match &process.role {
        Role::Script(ScriptOptions::Once { rounds }) => {
            rounds.iter().any(|round| round.on_lost_reply == OnLostReply::Resolve)
        }
        _ => false,
    };
    let askers = plan.processes.iter().enumerate().filter(|(_, process)| asks(process));
    askers
        .map(|(process, _)| {
            let (process, nth) = (Process(process as u8), stream.below(4) as u32);
            let when = When::Point { process, call: CallKind::Commit, nth, phase, from: Micros(0) };
            (when, effect(plan, network, kind, stream))
        })
        .collect()
}

/// A plan that comes to nothing if much gets in the way.
fn is_about_moments(plan: &Plan) -> bool {
    plan.options.iter().any(|(name, _)| matches!(name.as_str(), "resurrection" | "crowd"))
}

fn effect(plan: &Plan, network: &Network, kind: NetworkFault, stream: &mut Stream) -> NetworkEffect {
    let duration = Micros(stream.between(20_000, 3 * plan.dead_interval.0));
    let link = |link| NetworkEffect::Link { link, duration };
    match kind {
        NetworkFault::Partition => link(Link::Cut),
        NetworkFault::OneWayPartition => link(*stream.choose(&[Link::CutToServer, Link::CutToProcess])),
        NetworkFault::HeldMessages => link(Link::Held),
        NetworkFault::SlowLink => link(Link::Slow),
        NetworkFault::LateMessage => NetworkEffect::Link { link: Link::Late, duration: lateness(network, stream) },
        NetworkFault::HalfOpenProcess => NetworkEffect::HalfOpen { gone_for: Side::Process },
        NetworkFault::HalfOpenServer => NetworkEffect::HalfOpen { gone_for: Side::Server },
        NetworkFault::HostCrash => NetworkEffect::HostCrash { restart_after: duration },
        NetworkFault::SessionLost => unreachable!("nobody draws it: it follows"),
    }
}

/// Until its sender has asked on another connection what became of it, or somewhat longer: the server's next look at the old
/// one ends it.
fn lateness(network: &Network, stream: &mut Stream) -> Micros {
    stream.span(Micros(5 * network.tick.0), Micros(5 * network.tick.0 + 2 * network.keepalive.0))
}

/// The calls that are aimed at.
fn calls_of(process: &ProcessPlan) -> &'static [CallKind] {
    use CallKind::{Any, Append, Begin, Claim, Commit, Effect, Emit, Handoff, Hold, Read, Start};
    let prefix = process.name.split('-').next();
    match (&process.role, prefix) {
        (Role::Worker(_), _) => &[Claim, Read, Read, Hold, Hold, Effect, Effect, Handoff, Handoff, Commit, Commit],
        (Role::Script(_), Some("client" | "late")) => &[Begin, Start, Append, Commit, Commit],
        (Role::Script(_), Some("emitter" | "hearer")) => &[Begin, Start, Emit, Emit, Commit],
        (Role::Script(_), _) => &[Any],
    }
}

fn at_call(plan: &Plan, process: Process, phases: &[Phase], stream: &mut Stream) -> When {
    let call = *stream.choose(calls_of(&plan.processes[usize::from(process.0)]));
    let nth = stream.below(if call == CallKind::Any { 150 } else { 4 }) as u32;
    When::Point { process, call, nth, phase: *stream.choose(phases), from: Micros(0) }
}
