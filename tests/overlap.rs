//! Histories of truly parallel processes: calls that overlap, made from such as do not.
//!
//! In a run of the simulator each answer follows its call at once. A call takes effect somewhere between its two records, so
//! whatever its process did not wait for, the call may have been made earlier, and the answer may have come later: what
//! the history says is as true as before. Of the sound engine it breaks nothing; of another the definitions say what.

use crate::stage::{all_faults, works};
use tourbillon::fuzz::edit::Draft;
use tourbillon::random::Stream;
use tourbillon::simulate::Simulator;
use tourbillon_engine::guard::{Guard, Guards};
use tourbillon_models::history::{History, PlainRecord};
use tourbillon_models::op::Op;
use tourbillon_models::property::{Checker, Property};
use tourbillon_models::record::{Fault, Happening, Note};
use tourbillon_models::reply::Reply;
use tourbillon_models::verdict::Verdict;

/// Moves calls to earlier records and answers to later ones, as far as their processes' own records let them.
fn stretch(history: &History, seed: u64) -> History {
    let mut draft = Draft::of(history);
    let mut stream = Stream::new(seed, "stretch", 0);
    let places = places(&draft.records, &mut stream);
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by_key(|index| (places[*index], *index));
    let mut records: Vec<PlainRecord> = Vec::new();
    for index in order {
        let mut record = draft.records[index].clone();
        let before = records.last().map_or(record.at, |before| before.at);
        match record.what {
            Happening::Call(_) if places[index] != 2 * index => record.at = before,
            _ => record.at = record.at.max(before),
        }
        records.push(record);
    }
    draft.records = records;
    draft.history()
}

/// Where each record stands afterwards: twice where it stands now, or between two others.
fn places(records: &[PlainRecord], stream: &mut Stream) -> Vec<usize> {
    let mut places: Vec<usize> = (0..records.len()).map(|index| 2 * index).collect();
    for index in 0..records.len() {
        let own = &records[index];
        match own.what {
            Happening::Call(_) => {
                let before =
                    (0..index).rev().filter(|other| is_bound(&records[*other], own)).map(|other| places[other]);
                let told = (0..if knows(own) { index } else { 0 })
                    .filter(|other| is_named(&records[*other], own))
                    .map(|other| places[other]);
                let floor = before.take(2).chain(told).max().unwrap_or(0);
                let to = stream.between((floor / 2).min(index) as u64, index as u64) as usize;
                if to < index {
                    places[index] = floor.max(2 * to + 1);
                }
            }
            Happening::Return(_) => {
                // What became of a lost call is told together with the news.
                let told = records[index + 1..].iter().take_while(|record| is_told(own, record)).count();
                let mut after = index + 1 + told..records.len();
                let bound = after.find(|other| is_bound(&records[*other], own) || is_named(own, &records[*other]));
                let last = index + told;
                let to = stream.between(last as u64, bound.unwrap_or(records.len()) as u64) as usize;
                if to > last {
                    places[index..=last].fill(2 * to - 1);
                }
            }
            _ => {}
        }
    }
    places
}

fn is_told(own: &PlainRecord, next: &PlainRecord) -> bool {
    let is_note = matches!(next.what, Happening::Note(Note::Resolved { .. }));
    own.what == Happening::Return(Reply::Unknown) && is_note && next.session == own.session
}

/// Whether a record does not pass another: it is its process's own, or its session's, or befalls all.
fn is_bound(other: &PlainRecord, own: &PlainRecord) -> bool {
    let befalls_all = matches!(
        other.what,
        Happening::Fault(
            Fault::ServerCrash | Fault::ServerRestart | Fault::LogFlush | Fault::ClockStep(_) | Fault::End
        )
    );
    other.process == own.process || other.session == own.session || befalls_all
}

fn knows(call: &PlainRecord) -> bool {
    matches!(call.what, Happening::Call(Op::Emit { .. } | Op::Cancel { .. }))
}

/// Whether a call names what another process was told: it can know that only from there.
fn is_named(told: &PlainRecord, call: &PlainRecord) -> bool {
    match (&told.what, &call.what) {
        (Happening::Return(Reply::Started { workflow, .. }), Happening::Call(Op::Emit { workflow: other, .. })) => {
            workflow == other
        }
        (Happening::Return(Reply::Scheduled { event, .. }), Happening::Call(Op::Cancel { event: other, .. })) => {
            event == other
        }
        _ => false,
    }
}

/// So many runs, with one guard missing or none: each as it was, and stretched.
fn stretched(count: u64, missing: impl Fn(u64) -> Option<Guard>, mut look: impl FnMut(u64, &Verdict, &Verdict)) {
    let (mut simulator, mut checker) = (Simulator::default(), Checker::new());
    let works = works();
    for seed in 0..count {
        let work = &works[seed as usize % works.len()];
        let guards = missing(seed).map_or(Guards::ALL, |guard| Guards::without(&[guard]));
        let (_, before) = simulator.run(&work.plan(seed, &all_faults()), work, guards);
        if simulator.history().records.len() > RECORDS {
            continue;
        }
        let history = stretch(simulator.history(), seed);
        let after = checker.check(&history);
        assert_eq!(after.ill_formed(), [], "seed {seed}");
        look(seed, &before, &after);
    }
}

/// Runs of a broken engine can go on for long.
const RECORDS: usize = 6_000;

fn sentences(verdict: &Verdict) -> Vec<String> {
    verdict.violations().map(ToString::to_string).collect()
}

#[test]
fn of_a_sound_engine_nothing_is_said_that_is_not_so() {
    stretched(500, |_| None, |seed, _, after| assert_eq!(sentences(after), [""; 0], "seed {seed}"));
}

/// What needs no order between calls of two processes is as broken as before; and nothing is that was not.
#[test]
fn of_a_broken_engine_what_is_so_is_said_all_the_same() {
    let order_free = [
        Property::D5,
        Property::Q1,
        Property::Q3,
        Property::Q6,
        Property::Q12,
        Property::W1,
        Property::W2,
        Property::W3,
        Property::W4,
        Property::W5,
        Property::W7,
        Property::W9,
        Property::T3,
        Property::T5,
    ];
    let guard = |seed: u64| Guard::ALL[(seed / 23) as usize % Guard::ALL.len()];
    let mut count = 0;
    stretched(
        23 * Guard::ALL.len() as u64,
        |seed| Some(guard(seed)),
        |seed, before, after| {
            let missed = before.broken().filter(|property| order_free.contains(property));
            let missed: Vec<Property> = missed.filter(|property| !after.broken().any(|it| it == *property)).collect();
            assert_eq!(missed, [], "seed {seed} without {}: {:?}", guard(seed).name(), sentences(before));
            if before.broken().next().is_none() {
                assert_eq!(sentences(after), [""; 0], "seed {seed} without {}", guard(seed).name());
            }
            count += after.broken().filter(|property| order_free.contains(property)).count();
        },
    );
    assert!(count > 200, "{count} of them were broken");
}
