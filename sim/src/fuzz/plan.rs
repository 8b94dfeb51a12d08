//! Bytes → plan → run → check. The sound engine must neither panic nor break a property, whatever the bytes say.
//!
//! The first bytes are a seed, the kinds of fault that it may draw and a workload, which give a plan as a sweep would.
//! Each eight that follow edit it: a fault at a point, a round at another time, a statement that comes later. So the
//! fuzzer reaches what no seed draws, and every plan is one that a generator with more luck could have drawn.

use crate::faults::FaultKind;
use crate::generate::Limits;
use crate::plan::{CallKind, Phase, Plan, PlannedEffect, PlannedFault, Role, When};
use crate::simulate::{Simulator, Work};
use std::cell::RefCell;
use tourbillon_engine::actors::script::{Round, ScriptOptions};
use tourbillon_engine::guard::{Guard, Guards};
use tourbillon_engine::store::unflushed::Durability;
use tourbillon_models::name::{Micros, Process};
use tourbillon_models::record::ClockOffset;
use tourbillon_models::verdict::Judgement;
use tourbillon_models::workload::Workload;

const EDITS: usize = 16;

/// Names of guards to remove, as a list: to measure how many executions it takes to miss one.
pub const WITHOUT: &str = "TOURBILLON_WITHOUT";

thread_local! {
    static SIMULATOR: RefCell<Simulator> = RefCell::default();
}

/// Runs what the bytes say, without the guards that the environment names.
///
/// # Panics
/// If the run breaks a property, or is not judged, or if no such guard is known.
pub fn run(bytes: &[u8]) {
    let Some((work, plan)) = plan(bytes) else { return };
    SIMULATOR.with_borrow_mut(|simulator| {
        let (_, verdict) = simulator.run(&plan, &work, guards());
        let told = verdict.first_violation().map(|violation| {
            let slice = violation.slice(simulator.history());
            format!("{violation}\n\n{slice}")
        });
        assert_eq!(verdict.judgement(), Judgement::Holds, "{}\n{plan:#?}", told.unwrap_or_default());
    });
}

fn guards() -> Guards {
    let Ok(names) = std::env::var(WITHOUT) else { return Guards::ALL };
    let named = |name: &str| Guard::by_name(name).unwrap_or_else(|| panic!("{WITHOUT}: {name:?} is no guard"));
    let removed: Vec<Guard> = names.split(',').filter(|name| !name.is_empty()).map(named).collect();
    Guards::without(&removed)
}

/// The plan that the bytes stand for; none if there are too few.
pub fn plan(bytes: &[u8]) -> Option<(Work, Plan)> {
    let (head, edits) = bytes.split_first_chunk::<13>()?;
    let (work, mut plan) = drawn(head);
    for edit in edits.as_chunks::<8>().0.iter().take(EDITS) {
        apply(edit, &mut plan);
    }
    Some((work, plan))
}

/// A plan as a sweep draws it.
fn drawn(head: &[u8; 13]) -> (Work, Plan) {
    let [seed @ .., a, b, c, d, workload] = *head;
    let allowed = u32::from_le_bytes([a, b, c, d]);
    let is_allowed = |kind: &FaultKind| allowed >> *kind as u8 & 1 == 1;
    let limits = Limits { faults: FaultKind::ALL.into_iter().filter(is_allowed).collect() };
    let workload = Workload::ALL[usize::from(workload) % Workload::ALL.len()];
    let work = Work::named(workload.name()).expect("workloads have their names");
    let plan = work.plan(u64::from_le_bytes(seed), &limits);
    (work, plan)
}

/// What an edit says: a kind, which process, and three numbers.
fn apply(edit: &[u8; 8], plan: &mut Plan) {
    let [kind, process, a, b, c, d, e, f] = *edit;
    let process = usize::from(process) % plan.processes.len();
    let (first, second) = (u16::from_le_bytes([c, d]), u16::from_le_bytes([e, f]));
    match kind % 5 {
        0 => plan.faults.extend(fault(plan, process, [a, b], first, second)),
        1 => move_round(plan, process, a, first),
        2 => delay_statement(plan, process, [a, b], first),
        3 => step_clock(plan, a, first, second),
        _ => plan.faults.extend(idle_timeout(plan, process, [a, b], first, second)),
    }
}

const CALLS: [CallKind; 16] = [
    CallKind::Any,
    CallKind::Begin,
    CallKind::Claim,
    CallKind::Read,
    CallKind::HandOut,
    CallKind::Hold,
    CallKind::Effect,
    CallKind::Handoff,
    CallKind::Commit,
    CallKind::Start,
    CallKind::Append,
    CallKind::Schedule,
    CallKind::Emit,
    CallKind::ExpireWaits,
    CallKind::ReadResults,
    CallKind::Observe,
];

fn point(process: usize, call: u8, nth: u16) -> When {
    let phase = if call & 128 == 0 { Phase::Before } else { Phase::After };
    let call = CALLS[usize::from(call & 127) % CALLS.len()];
    When::Point { process: Process(process as u8), call, nth: u32::from(nth % 256), phase, from: Micros(0) }
}

/// A fault of a kind that may befall the process: workers and those who emit die and stand still, clients lose replies,
/// duties stop, and where commits are asynchronous the log is flushed.
fn fault(plan: &Plan, process: usize, [what, call]: [u8; 2], nth: u16, length: u16) -> Option<PlannedFault> {
    let dead = plan.dead_interval.0;
    let length = u64::from(length);
    let name = plan.processes[process].name.as_str();
    let tells = name.starts_with("emitter-") || name.starts_with("hearer-");
    let is_client = tells || name.starts_with("client-") || name.starts_with("late-producer-");
    let is_caller = is_client || name.starts_with("expiry") || name.starts_with("observer-");
    let is_mortal = tells || matches!(plan.processes[process].role, Role::Worker(_));
    let what = match (&plan.processes[process].role, what % 5) {
        _ if what % 5 == 4 && plan.durability == Durability::Asynchronous => PlannedEffect::Flush,
        (_, 0) if is_mortal => PlannedEffect::Crash { restart_after: Micros(10_000 + length * 2 * dead / 65_536) },
        (_, 1) if is_mortal => PlannedEffect::Pause { duration: Micros(1 + length * 3 * dead / 65_536) },
        (Role::Script(ScriptOptions::Periodic { .. }), 0..2) => {
            PlannedEffect::Pause { duration: Micros(1 + length * 60) }
        }
        (Role::Script(_), _) if !is_caller => return None,
        (_, 0..3) => PlannedEffect::LostReply,
        (_, _) => PlannedEffect::ServerCrash { down_for: Micros(20_000 + length * 10) },
    };
    Some(PlannedFault { when: point(process, call, nth), what, kind: None })
}

/// The server's clock is set forward, or back by no more than half of what has passed, and set right when faults end.
fn step_clock(plan: &mut Plan, direction: u8, at: u16, by: u16) {
    let at = Micros(10_000 + (plan.faults_end.0 - 10_000) * u64::from(at) / 65_536);
    let off = Micros(20_000 + u64::from(by) * 30);
    let offset = match direction % 4 {
        0 => ClockOffset::NONE,
        1 => ClockOffset { ahead: off, ..ClockOffset::NONE },
        _ => ClockOffset { behind: off.min(Micros(at.0 / 2)), ..ClockOffset::NONE },
    };
    for (at, offset) in [(at, offset), (plan.faults_end, ClockOffset::NONE)] {
        let when = When::Time { at, process: Process(0) };
        plan.faults.push(PlannedFault { when, what: PlannedEffect::ServerClockStep(offset), kind: None });
    }
}

/// A worker stands still in its step's transaction, and after a while the server ends its session.
fn idle_timeout(plan: &Plan, process: usize, [idle, call]: [u8; 2], nth: u16, length: u16) -> Option<PlannedFault> {
    let dead = plan.dead_interval.0;
    let idle = Micros(dead / 10 + u64::from(idle) * dead / 128);
    let duration = idle + Micros(1 + u64::from(length) * 2 * dead / 65_536);
    let is_worker = matches!(plan.processes[process].role, Role::Worker(_));
    let what = PlannedEffect::IdleTimeout { idle, duration };
    is_worker.then(|| PlannedFault { when: point(process, call, nth % 8), what, kind: None })
}

/// The rounds of a client; those of the setup and of the duties stay as they are.
fn rounds(plan: &mut Plan, process: usize) -> &mut [Round] {
    match &mut plan.processes[process].role {
        Role::Script(ScriptOptions::Once { rounds }) if process > 0 => rounds,
        _ => &mut [],
    }
}

/// Between the setup and the end of the faults, in 65,536 parts.
fn move_round(plan: &mut Plan, process: usize, index: u8, to: u16) {
    let at = Micros(10_000 + (plan.faults_end.0 - 10_000) * u64::from(to) / 65_536);
    let rounds = rounds(plan, process);
    if let Some(round) = rounds.get_mut(usize::from(index)) {
        round.at = at;
        rounds.sort_by_key(|round| round.at);
    }
}

/// By up to two seconds.
fn delay_statement(plan: &mut Plan, process: usize, [round, statement]: [u8; 2], by: u16) {
    let round = rounds(plan, process).get_mut(usize::from(round));
    if let Some((pause, _)) = round.and_then(|round| round.statements.get_mut(usize::from(statement))) {
        *pause = Micros(u64::from(by) * 30);
    }
}
