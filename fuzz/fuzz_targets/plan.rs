//! Bytes → plan → run → check. The sound engine must neither panic nor break a property, whatever the bytes say.
//!
//! The first bytes are a seed, the kinds of fault that it may draw and a workload, which give a plan as a sweep would.
//! Each eight that follow edit it: a fault at a point, a round at another time, a statement that comes later. So the
//! fuzzer reaches what no seed draws, and every plan is one that a generator with more luck could have drawn.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use tourbillon::faults::FaultKind;
use tourbillon::generate::Limits;
use tourbillon::plan::{CallKind, Phase, Plan, PlannedEffect, PlannedFault, Role, When};
use tourbillon::simulate::{Simulator, Work};
use tourbillon_engine::actors::script::{Round, ScriptOptions};
use tourbillon_engine::guard::Guards;
use tourbillon_models::name::{Micros, Process};
use tourbillon_models::verdict::Judgement;
use tourbillon_models::workload::Workload;

const EDITS: usize = 16;

thread_local! {
    static SIMULATOR: RefCell<Simulator> = RefCell::default();
}

fuzz_target!(|bytes: &[u8]| {
    let Some((head, edits)) = bytes.split_first_chunk::<13>() else { return };
    let (work, mut plan) = drawn(head);
    for edit in edits.as_chunks::<8>().0.iter().take(EDITS) {
        apply(edit, &mut plan);
    }
    SIMULATOR.with_borrow_mut(|simulator| {
        let (_, verdict) = simulator.run(&plan, &work, Guards::ALL);
        let told = verdict.first_violation().map(|violation| {
            let slice = violation.slice(simulator.history());
            format!("{violation}\n\n{slice}")
        });
        assert_eq!(verdict.judgement(), Judgement::Holds, "{}\n{plan:#?}", told.unwrap_or_default());
    });
});

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
    match kind % 3 {
        0 => plan.faults.extend(fault(plan, process, [a, b], first, second)),
        1 => move_round(plan, process, a, first),
        _ => delay_statement(plan, process, [a, b], first),
    }
}

const CALLS: [CallKind; 12] = [
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
];

/// A fault of a kind that may befall the process: workers die and stand still, clients lose replies, duties stop.
fn fault(plan: &Plan, process: usize, [what, call]: [u8; 2], nth: u16, length: u16) -> Option<PlannedFault> {
    let dead = plan.dead_interval.0;
    let length = u64::from(length);
    let name = plan.processes[process].name.as_str();
    let is_client = name.starts_with("client-") || name.starts_with("late-producer-");
    let what = match (&plan.processes[process].role, what % 4) {
        (Role::Worker(_), 0) => PlannedEffect::Crash { restart_after: Micros(10_000 + length * 2 * dead / 65_536) },
        (Role::Worker(_), 1) => PlannedEffect::Pause { duration: Micros(1 + length * 3 * dead / 65_536) },
        (Role::Script(ScriptOptions::Periodic { .. }), _) => PlannedEffect::Pause { duration: Micros(1 + length * 60) },
        (Role::Script(_), _) if !is_client => return None,
        (_, 0..3) => PlannedEffect::LostReply,
        (_, _) => PlannedEffect::ServerCrash { down_for: Micros(20_000 + length * 10) },
    };
    let phase = if call & 128 == 0 { Phase::Before } else { Phase::After };
    let call = CALLS[usize::from(call & 127) % CALLS.len()];
    let when = When::Point { process: Process(process as u8), call, nth: u32::from(nth % 256), phase, from: Micros(0) };
    Some(PlannedFault { when, what, kind: None })
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
