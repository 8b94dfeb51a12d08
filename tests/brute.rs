//! The checker against the definitions, on thousands of small histories: as they are, and with small lies in them.

use crate::plans::{fixed, limits};
use crate::stage::all_faults;
use proptest::prelude::*;
use tourbillon::faults::FaultKind;
use tourbillon::fuzz::Bytes;
use tourbillon::fuzz::checker::{RECORDS, differences, disagreement, small};
use tourbillon::fuzz::edit::Draft;
use tourbillon::generate::Limits;
use tourbillon_engine::guard::{Guard, Guards};
use tourbillon_models::brute::{COVERED, judge};
use tourbillon_models::history::History;
use tourbillon_models::property::Checker;
use tourbillon_models::record::Happening;
use tourbillon_models::verdict::Judgement;
use tourbillon_models::workload::Workload;

/// Histories in which nobody dies with an answer on its way: nothing in them is unknown.
fn told_in_full() -> Limits {
    let is_vague = |kind: &FaultKind| {
        matches!(
            kind,
            FaultKind::LostReply | FaultKind::ServerCrash | FaultKind::WorkerCrash | FaultKind::AsyncCommitLoss
        )
    };
    Limits { faults: FaultKind::ALL.into_iter().filter(|kind| !is_vague(kind)).collect() }
}

fn workload(seed: u64) -> Workload {
    Workload::ALL[seed as usize % Workload::ALL.len()]
}

/// Judges some, and says how many properties were judged at all, and how many broken.
fn agree(histories: impl Iterator<Item = (u64, History)>) -> (u64, u64, u64) {
    let (mut count, mut known, mut broken) = (0, 0, 0);
    for (seed, history) in histories {
        assert_eq!(
            differences(&history),
            [""; 0],
            "seed {seed} of {} without {:?}",
            history.header.workload,
            history.header.without
        );
        let opinion = judge(&history);
        let judged = |judgement| COVERED.iter().filter(|it| opinion.of(**it) == Some(judgement)).count() as u64;
        count += 1;
        known += judged(Judgement::Holds);
        broken += judged(Judgement::Violated);
    }
    (count, known, broken)
}

#[test]
fn of_the_sound_engine_both_say_that_all_holds() {
    let any = (0..1_500).filter_map(|seed| Some((seed, small(seed, workload(seed), &all_faults(), Guards::ALL)?)));
    let (count, known, broken) = agree(any);
    assert!(count > 200 && known > 5_000, "{count} histories, {known} judgements");
    assert_eq!(broken, 0);
    let full =
        (1_500..4_500).filter_map(|seed| Some((seed, small(seed, workload(seed), &told_in_full(), Guards::ALL)?)));
    let (count, known, broken) = agree(full);
    assert!(count > 600 && known > 600 * 40, "{count} histories, {known} judgements");
    assert_eq!(broken, 0);
}

#[test]
fn of_an_engine_without_a_guard_both_say_what_is_broken() {
    let without = |seed: u64| Guards::without(&[Guard::ALL[(seed / 23) as usize % Guard::ALL.len()]]);
    let all = (0..1_150).map(|seed| (seed, all_faults())).chain((2_300..4_900).map(|seed| (seed, told_in_full())));
    let broken = all.filter_map(|(seed, limits)| Some((seed, small(seed, workload(seed), &limits, without(seed))?)));
    let (count, _, broken) = agree(broken);
    assert!(count > 500 && broken > 50, "{count} histories, {broken} properties broken");
}

proptest! {
    #![proptest_config(fixed(3_000))]

    #[test]
    fn of_an_edited_history_both_say_whether_anything_is_wrong(
        seed in 0..3_000u64, edit in proptest::collection::vec(any::<u8>(), 4..16),
    ) {
        let Some(history) = small(seed, workload(seed), &told_in_full(), Guards::ALL) else { return Ok(()) };
        let mut draft = Draft::of(&history);
        draft.edit(&mut Bytes::new(&edit));
        prop_assert_eq!(disagreement(&draft.history()), None);
    }
}

proptest! {
    #![proptest_config(fixed(600))]

    /// Of a history that holds, or breaks something, cut off anywhere: what is broken by then both find.
    #[test]
    fn of_a_history_that_stops_early_both_say_the_same(
        seed in 0..3_000u64, guard in 0..Guard::ALL.len(), limits in limits(), at: prop::sample::Index,
    ) {
        let guards = Guards::without(&[Guard::ALL[guard]]);
        let Some(history) = small(seed, workload(seed), &limits, guards) else { return Ok(()) };
        let mut draft = Draft::of(&history);
        draft.records.truncate(at.index(history.records.len()));
        draft.state = None;
        prop_assert_eq!(differences(&draft.history()), Vec::<String>::new());
    }

    /// An answer that nobody told may have been the one that breaks it.
    #[test]
    fn what_nobody_told_is_not_called_true(
        seed in 0..3_000u64, guard in 0..Guard::ALL.len(), at: prop::sample::Index,
    ) {
        let guards = Guards::without(&[Guard::ALL[guard]]);
        let Some(history) = small(seed, workload(seed), &told_in_full(), guards) else { return Ok(()) };
        let answers: Vec<usize> = hidden_places(&Draft::of(&history));
        if answers.is_empty() {
            return Ok(());
        }
        let mut draft = Draft::of(&history);
        draft.hide(answers[at.index(answers.len())]);
        let hidden = draft.history();
        let (verdict, opinion) = (Checker::new().check(&hidden), judge(&history));
        for property in COVERED {
            // That history itself is one way in which the answer may have been.
            if opinion.of(property) == Some(Judgement::Violated) {
                prop_assert_ne!(verdict.of(property).judgement, Judgement::Holds, "{}", property);
            }
        }
    }
}

/// Answers to calls that may have changed something, and are transactions of their own; and to commits.
fn hidden_places(draft: &Draft) -> Vec<usize> {
    use tourbillon_models::op::Op;
    use tourbillon_models::reply::Reply;
    let calls = draft.records.iter().enumerate().filter_map(|(place, record)| match &record.what {
        Happening::Call(op) => Some((place, op)),
        _ => None,
    });
    let told = calls.filter_map(|(place, op)| {
        let answer = draft.answer(place)?;
        let Happening::Return(reply) = &draft.records[answer].what else { return None };
        let is_write = matches!(
            op,
            Op::Append { .. }
                | Op::Start { .. }
                | Op::Handoff { .. }
                | Op::Tick { .. }
                | Op::Claim { .. }
                | Op::Emit { .. }
                | Op::Drain { .. }
                | Op::Schedule { .. }
        );
        let is_alone = is_write && !draft.is_in_transaction(place);
        let is_done = !matches!(reply, Reply::Idle | Reply::Refused(_) | Reply::RolledBack);
        let is_commit = matches!(op, Op::Commit) && draft.records[answer].xid.0 != 0;
        ((is_alone || is_commit) && is_done).then_some(answer)
    });
    told.collect()
}

#[test]
fn small_is_small() {
    let history = small(0, workload(0), &all_faults(), Guards::ALL);
    assert!(history.is_none_or(|history| history.records.len() <= RECORDS));
}
