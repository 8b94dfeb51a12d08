//! Bytes → small history → checker and definitions. They agree, and neither panics.
//!
//! The first bytes are a seed, a workload, the kinds of fault and at most one guard that is missing: a run with two rounds
//! of each client. The others edit its history. Where nothing was edited, each property that is defined both ways is judged
//! the same. An edit may break several at once, and what follows on the first contradiction is nobody's duty to tell: then
//! they agree on whether anything is wrong.

use super::Bytes;
use super::edit::Draft;
use crate::faults::FaultKind;
use crate::generate::Limits;
use crate::plan::{Plan, Role};
use crate::simulate::{Simulator, Work};
use std::cell::RefCell;
use tourbillon_engine::actors::script::ScriptOptions;
use tourbillon_engine::guard::{Guard, Guards};
use tourbillon_models::brute::{COVERED, judge};
use tourbillon_models::history::History;
use tourbillon_models::property::{Checker, Property};
use tourbillon_models::verdict::Judgement;
use tourbillon_models::workload::Workload;

/// Longer ones are left out: the definitions are looked up in all of it for each part of it.
pub const RECORDS: usize = 1_000;
const EDITS: usize = 3;

thread_local! {
    static SIMULATOR: RefCell<Simulator> = RefCell::default();
}

/// # Panics
/// If the checker and the definitions differ.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let (seed, workload, allowed) = (bytes.pair(), bytes.byte(), bytes.word());
    let (is_missing, guard) = (bytes.flag(), bytes.byte());
    let is_allowed = |kind: &FaultKind| allowed >> *kind as u8 & 1 == 1;
    let limits = Limits { faults: FaultKind::ALL.into_iter().filter(is_allowed).collect() };
    let guard = Guard::ALL[usize::from(guard) % Guard::ALL.len()];
    let guards = if is_missing { Guards::without(&[guard]) } else { Guards::ALL };
    let workload = Workload::ALL[usize::from(workload) % Workload::ALL.len()];
    let Some(history) = small(seed.into(), workload, &limits, guards) else { return };
    if bytes.is_empty() {
        assert_eq!(differences(&history), [""; 0]);
        return;
    }
    let mut draft = Draft::of(&history);
    for _ in 0..EDITS {
        if !bytes.is_empty() {
            draft.edit(&mut bytes);
        }
    }
    let edited = draft.history();
    if let Some(difference) = disagreement(&edited) {
        panic!("{difference}\n{}", edited.lines().collect::<Vec<_>>().join("\n"));
    }
}

/// The history of a short run; none if it is too long all the same.
pub fn small(seed: u64, workload: Workload, limits: &Limits, guards: Guards) -> Option<History> {
    let work = Work::named(workload.name()).expect("workloads have their names");
    let mut plan = work.plan(seed, limits);
    shorten(&mut plan);
    SIMULATOR.with_borrow_mut(|simulator| {
        simulator.run(&plan, &work, guards);
        let history = simulator.history();
        (history.records.len() <= RECORDS).then(|| history.clone())
    })
}

/// Three rounds of each client.
fn shorten(plan: &mut Plan) {
    for process in plan.processes.iter_mut().skip(1) {
        if let Role::Script(ScriptOptions::Once { rounds }) = &mut process.role {
            rounds.truncate(3);
        }
    }
}

/// What the two say about each property on which they differ, with what each bases it on. Where the definitions cannot
/// tell, the checker may.
pub fn differences(history: &History) -> Vec<String> {
    let (verdict, opinion) = (Checker::new().check(history), judge(history));
    let told = COVERED.into_iter().filter_map(|property| {
        let (checker, defined) = (verdict.of(property).judgement, opinion.of(property)?);
        if defined == Judgement::Unknown || checker == defined {
            return None;
        }
        let says = verdict.of(property).violations.first().map_or("", |violation| violation.sentence.as_str());
        let evidence: Vec<&str> = opinion.evidence(property).take(3).collect();
        Some(format!(
            "{property}: the checker says {} ({says}), by definition it is {} ({evidence:?})",
            checker.name(),
            defined.name()
        ))
    });
    told.collect()
}

/// Why the two do not agree about a history that may break anything: only one of them finds something wrong, or one finds a
/// single thing wrong and the other does not see it.
pub fn disagreement(history: &History) -> Option<String> {
    let (verdict, opinion) = (Checker::new().check(history), judge(history));
    if !verdict.ill_formed().is_empty() {
        // No history at all, and the checker says so.
        return None;
    }
    let is_broken = |property: &Property| opinion.of(*property) == Some(Judgement::Violated);
    let defined: Vec<Property> = COVERED.into_iter().filter(is_broken).collect();
    let found: Vec<Property> = verdict.broken().collect();
    let holds = |property: &Property| opinion.of(*property) == Some(Judgement::Holds);
    let tell = |what: &str| {
        let evidence =
            defined.iter().flat_map(|property| opinion.evidence(*property).map(move |it| format!("{property}: {it}")));
        let said: Vec<String> = verdict.violations().map(ToString::to_string).collect();
        Some(format!("{what}\nby definition: {:?}\nthe checker: {said:?}", evidence.take(6).collect::<Vec<_>>()))
    };
    match (&defined[..], &found[..]) {
        ([], []) => None,
        (_, []) => tell("the checker misses it"),
        ([], found) if found.iter().all(holds) => tell("the checker finds what is not there"),
        ([one], found) if !found.contains(one) && found.iter().all(|it| COVERED.contains(it)) => {
            tell("another property")
        }
        _ => None,
    }
}
