//! Each guard, removed, is caught by a property that is named for it, within so many seeds; with all in their places,
//! many more seeds are clean.

use crate::stage::{all_faults, clean_sweep, seeds, works};
use std::ops::ControlFlow;
use tourbillon::sweep::{Setting, Swept, processors, sweep};
use tourbillon_engine::guard::{Design, Guard, Guards};
use tourbillon_models::property::Property::{self, *};

/// So many seeds are enough for each.
const SEEDS: u64 = 1_500;

/// What the bug of each guard is known to break.
const CAUGHT_BY: [(Guard, &[Property]); Guard::ALL.len()] = [
    (Guard::InProgressSet, &[Q1, Q5]),
    (Guard::TickLock, &[Q14, Q4]),
    (Guard::IsolationCheck, &[Q3, Q14]),
    (Guard::IdleTick, &[L1]),
    (Guard::EmptyWindow, &[L1]),
    (Guard::ReadAllTables, &[Q1, Q13]),
    (Guard::RotationLookAfterLock, &[Q13]),
    (Guard::RotationMinCursor, &[Q13, Q6]),
    (Guard::OneConsumer, &[W3]),
    (Guard::AckWhatWasRead, &[Q1, W1]),
    (Guard::ClaimLock, &[Q8]),
    (Guard::TokenRandom, &[Q9]),
    (Guard::TakeoverFreshToken, &[D5, Q9, W3]),
    (Guard::TakeoverClearsVictim, &[Q8]),
    (Guard::FenceChecked, &[Q9, W3]),
    (Guard::StartKey, &[W9]),
    (Guard::RotationLockTimeout, &[L5, Q15]),
    (Guard::TakeoverNotEarly, &[Q10]),
    (Guard::WallClockHeartbeat, &[Q10]),
    (Guard::ServerClock, &[Q10]),
    (Guard::HoldLock, &[Q10]),
    (Guard::HeldMustFinish, &[W2, W5]),
    (Guard::CrashCounted, &[L3]),
    (Guard::IsolateWindow, &[L3]),
    (Guard::TryBeforeRun, &[L3, Q11]),
    (Guard::IsolatedOnce, &[W3]),
    (Guard::RetryFreshSequence, &[W4]),
    (Guard::NoStalenessGate, &[W10]),
    (Guard::ReplayMoves, &[Q12]),
    (Guard::TimersRideTicks, &[T2]),
    (Guard::IdleTimer, &[T4]),
    (Guard::TimerKeepsFields, &[T5]),
    (Guard::DrainPosition, &[T2]),
    (Guard::DrainLatePath, &[T2]),
    (Guard::TimerMoveWhole, &[T2, T3]),
    (Guard::CancelLock, &[T3]),
    (Guard::DrainPoison, &[T4]),
    (Guard::DeadLetterReports, &[J5]),
    (Guard::BoxUnique, &[A3]),
    (Guard::PromiseUntilEnd, &[A3]),
    (Guard::FirstWriteWins, &[A5]),
    (Guard::WaitDeleteReturning, &[A1]),
    (Guard::EmitId, &[A2]),
    (Guard::EmitLive, &[A6]),
    (Guard::EmitUnseen, &[A6]),
    (Guard::EmitToken, &[A7]),
    (Guard::JoinLock, &[J3]),
    (Guard::JoinDistinct, &[J2]),
    (Guard::ResultsUntilRead, &[J4]),
    (Guard::SortedLocks, &[L6]),
];

/// None if a property that is named catches it; else what does.
fn miss(name: &str, removed: Guards, named: &[Property]) -> Option<String> {
    let setting = Setting { limits: all_faults(), guards: removed };
    let is_caught = |swept: &Swept| named.iter().any(|property| swept.sums.broken(*property) > 0);
    let swept = sweep(seeds(0..SEEDS), processors(), &setting, works, |swept, _| match is_caught(swept) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    let broken = || Property::ALL.into_iter().filter(|property| swept.sums.broken(*property) > 0).collect::<Vec<_>>();
    (!is_caught(&swept)).then(|| format!("without {name}, {SEEDS} seeds break none of {named:?}, but {:?}", broken()))
}

#[test]
fn every_guard_removed_is_caught_by_a_property_that_is_named_for_it() {
    let misses = CAUGHT_BY.iter().filter_map(|(guard, named)| miss(guard.name(), Guards::without(&[*guard]), named));
    let misses: Vec<String> = misses.collect();
    assert!(misses.is_empty(), "{}", misses.join("\n"));
}

#[test]
fn the_table_names_every_guard() {
    assert_eq!(CAUGHT_BY.map(|(guard, _)| guard), Guard::ALL);
}

#[test]
fn the_published_designs_are_caught() {
    let designs: [(_, &[Property]); 3] = [
        ("pgq-rotation", &[Q1, Q13]),
        ("pgque-delayed-rotation-draft", &[T2, T3]),
        ("pgque-workflows-draft", &[Q9, W10]),
    ];
    for (name, named) in designs {
        let design = Design::by_name(name).expect("it is one of those that are shipped");
        assert_eq!(miss(design.name, Guards::without(design.removed), named), None);
    }
}

#[test]
fn the_sound_engine_is_clean_over_many_more_seeds() {
    clean_sweep(0..5_000, all_faults(), works);
}

/// What no guard breaks within so many seeds: these have failed on histories told by hand, beside the properties, and
/// on anomalies planted in whole ones.
const BY_HAND_ALONE: [Property; 8] = [D1, D2, D3, D4, Q7, T1, J1, J6];

/// A guard whose bug breaks it.
const fn breaker(property: Property) -> Option<Guard> {
    Some(match property {
        D1 | D2 | D3 | D4 | Q7 | T1 | J1 | J6 => return None,
        T2 | T3 => Guard::TimersRideTicks,
        D5 => Guard::TakeoverFreshToken,
        Q1 | Q4 | Q5 | Q13 | W1 | L1 | L4 | L7 => Guard::InProgressSet,
        Q2 | Q9 | W7 => Guard::FenceChecked,
        Q3 | Q14 | W3 => Guard::IsolationCheck,
        Q6 => Guard::RotationMinCursor,
        Q8 | Q15 | W6 => Guard::ClaimLock,
        Q10 => Guard::TakeoverNotEarly,
        Q11 => Guard::TryBeforeRun,
        Q12 => Guard::ReplayMoves,
        W2 => Guard::HeldMustFinish,
        W5 | W8 => Guard::OneConsumer,
        W4 => Guard::RetryFreshSequence,
        W9 => Guard::StartKey,
        W10 => Guard::NoStalenessGate,
        T4 => Guard::IdleTimer,
        T5 => Guard::TimerKeepsFields,
        A1 => Guard::WaitDeleteReturning,
        A2 => Guard::EmitId,
        A3 => Guard::BoxUnique,
        A4 | O1 => Guard::OneConsumer,
        A5 => Guard::FirstWriteWins,
        A6 => Guard::EmitLive,
        A7 => Guard::EmitToken,
        J2 => Guard::JoinDistinct,
        J3 | J5 => Guard::DeadLetterReports,
        J4 => Guard::ResultsUntilRead,
        L6 => Guard::SortedLocks,
        L2 => Guard::TakeoverClearsVictim,
        L3 => Guard::CrashCounted,
        L5 => Guard::RotationLockTimeout,
    })
}

#[test]
fn every_other_property_has_failed_on_a_guard() {
    let never = Property::ALL.into_iter().filter(|property| {
        breaker(*property).is_none_or(|guard| miss(guard.name(), Guards::without(&[guard]), &[*property]).is_some())
    });
    assert_eq!(never.collect::<Vec<_>>(), BY_HAND_ALONE);
}
