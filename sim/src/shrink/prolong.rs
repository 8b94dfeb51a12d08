//! The same plan, going on: duties without end, workers that look for work, and all the time that there was at first.
//!
//! A plan with little time left says nothing of what is *never* done: who breaks a bound there must break it here too.

use crate::clock::Clock;
use crate::plan::{End, Plan, ProcessPlan, Role};
use tourbillon_engine::actors::script::{Round, ScriptOptions};
use tourbillon_engine::actors::worker::options::WorkerOptions;
use tourbillon_models::name::Micros;

/// So often at most, within the bound, everybody does what he does without end; but whoever keeps a transaction open does so
/// as often as ever, since it matters whether these overlap.
const TIMES: u64 = 1_000;

/// `plan` was made of `original`, and those of its processes that are gone come back when it is over.
pub fn prolonged(plan: &Plan, original: &Plan) -> Plan {
    let over = match plan.end {
        End::At(end) => end,
        End::Drained => plan.faults_end + plan.liveness_bound,
    };
    let bound = original.liveness_bound;
    let times = |every: Micros| (1..=bound.0 / every.0.max(1)).map(move |index| over + Micros(index * every.0));
    let coarse = |every: Micros| every.max(Micros(bound.0 / TIMES));
    let mut longer = plan.clone();
    longer.end = End::Drained;
    longer.liveness_bound = Micros((over + bound).0.saturating_sub(plan.faults_end.0));
    for process in &original.processes {
        let place = longer.processes.iter().position(|other| other.name == process.name);
        match (&process.role, place) {
            (Role::Script(ScriptOptions::Periodic { every, round }), place) => {
                let every = if round.statements.len() > 1 { *every } else { coarse(*every) };
                let more = times(every).map(|at| Round { at, ..round.clone() });
                match place.map(|place| &mut longer.processes[place].role) {
                    Some(Role::Script(ScriptOptions::Once { rounds })) => rounds.extend(more),
                    Some(_) => {}
                    None => {
                        let role = Role::Script(ScriptOptions::Once { rounds: more.collect() });
                        longer.processes.push(ProcessPlan { role, clock: Clock::Right, ..process.clone() });
                    }
                }
            }
            (Role::Worker(_), Some(place)) => {
                let process = &mut longer.processes[place];
                let clock = process.clock;
                if let Role::Worker(WorkerOptions { polls: Some(polls), poll_interval, .. }) = &mut process.role {
                    polls.extend(times(coarse(*poll_interval)).map(|at| clock.at(at)));
                }
            }
            (Role::Worker(worker), None) => {
                let role = Role::Worker(WorkerOptions { start_at: over, ..worker.clone() });
                longer.processes.push(ProcessPlan { role, clock: Clock::Right, ..process.clone() });
            }
            (Role::Script(ScriptOptions::Once { .. }), _) => {}
        }
    }
    longer
}
