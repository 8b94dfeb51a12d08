//! Exports, read back: each line is a map as Jepsen's reader and Elle's expect it, what is sound passes a naive check of
//! lists, and a lost or doubled effect does not.

use crate::cli::tourbillon;
use std::collections::{BTreeMap, BTreeSet};
use tempfile::TempDir;
use tourbillon::cli::Exit;
use tourbillon::faults::FaultKind;
use tourbillon::fuzz::checker::small;
use tourbillon::generate::Limits;
use tourbillon_engine::guard::{Guard, Guards};
use tourbillon_models::export::{Format, lines};
use tourbillon_models::history::History;
use tourbillon_models::workload::Workload;

fn all_but_loss() -> Limits {
    Limits { faults: FaultKind::ALL.into_iter().filter(|kind| *kind != FaultKind::AsyncCommitLoss).collect() }
}

fn history(seed: u64, workload: &str, guards: Guards) -> Option<History> {
    small(seed, Workload::by_name(workload).expect("a workload"), &all_but_loss(), guards)
}

/// A value of EDN, as far as the export uses it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Edn {
    Nil,
    Number(i128),
    Keyword(String),
    Vector(Vec<Edn>),
    Map(BTreeMap<Edn, Edn>),
}

fn read(text: &str) -> Edn {
    let mut spaced = String::new();
    for letter in text.chars() {
        match letter {
            '[' | ']' | '{' | '}' => spaced.extend([' ', letter, ' ']),
            ',' => spaced.push(' '),
            letter => spaced.push(letter),
        }
    }
    let mut words = spaced.split_whitespace();
    let value = read_value(words.next().expect("a value"), &mut words);
    assert_eq!(words.next(), None, "one value a line: {text}");
    value
}

fn read_value<'t>(word: &str, words: &mut impl Iterator<Item = &'t str>) -> Edn {
    let mut until = |end: &str| {
        let mut items = Vec::new();
        loop {
            match words.next().expect("an end") {
                word if word == end => return items,
                word => items.push(read_value(word, words)),
            }
        }
    };
    match word {
        "nil" => Edn::Nil,
        "[" => Edn::Vector(until("]")),
        "{" => Edn::Map(until("}").chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()),
        word => match word.strip_prefix(':') {
            Some(name) => Edn::Keyword(name.to_owned()),
            None => Edn::Number(word.parse().unwrap_or_else(|_| panic!("{word:?} is not EDN"))),
        },
    }
}

impl Edn {
    fn field(&self, name: &str) -> &Edn {
        match self {
            Edn::Map(fields) => &fields[&Edn::Keyword(name.to_owned())],
            other => panic!("{other:?} has no fields"),
        }
    }

    fn items(&self) -> &[Edn] {
        match self {
            Edn::Vector(items) => items,
            Edn::Nil => &[],
            other => panic!("{other:?} has no items"),
        }
    }

    fn keyword(&self) -> &str {
        match self {
            Edn::Keyword(name) => name,
            other => panic!("{other:?} is no keyword"),
        }
    }
}

/// The operations, after a look at what any reader of Jepsen's relies on.
fn operations(history: &History, format: Format) -> Vec<Edn> {
    let operations: Vec<Edn> = lines(history, format).iter().map(|line| read(line)).collect();
    let mut open: BTreeMap<&Edn, &Edn> = BTreeMap::new();
    let (mut dead, mut time) = (BTreeSet::new(), &Edn::Number(0));
    for (operation, index) in operations.iter().zip(0..) {
        assert_eq!(operation.field("index"), &Edn::Number(index));
        assert!(operation.field("time") >= time, "time does not fall: {operation:?}");
        time = operation.field("time");
        let (process, name) = (operation.field("process"), operation.field("f"));
        assert!(!dead.contains(process), "nothing follows on :info: {operation:?}");
        match operation.field("type").keyword() {
            "invoke" => assert_eq!(open.insert(process, name), None, "one at a time: {operation:?}"),
            answer => {
                assert_eq!(open.remove(process), Some(name), "an answer has its call: {operation:?}");
                if answer == "info" {
                    dead.insert(process);
                }
            }
        }
    }
    assert!(open.is_empty(), "each call has its answer");
    operations
}

/// What is wrong with lists: elements twice, reads that do not fit together, appends that the last read does not show.
fn anomalies(operations: &[Edn]) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut longest, mut last) = (BTreeMap::<&Edn, &[Edn]>::new(), BTreeMap::<&Edn, &[Edn]>::new());
    let mut appended = BTreeMap::<&Edn, Vec<&Edn>>::new();
    for operation in operations.iter().filter(|operation| operation.field("type").keyword() == "ok") {
        for part in operation.field("value").items() {
            let [what, key, value] = part.items() else { panic!("{part:?} is no part of a transaction") };
            if what.keyword() == "append" {
                appended.entry(key).or_default().push(value);
                continue;
            }
            let read = value.items();
            if read.iter().collect::<BTreeSet<_>>().len() < read.len() {
                wrong.push(format!("duplicate elements in {key:?}: {read:?}"));
            }
            let known = longest.entry(key).or_default();
            let common = known.len().min(read.len());
            if known[..common] != read[..common] {
                wrong.push(format!("incompatible order of {key:?}: {known:?} and {read:?}"));
            }
            if read.len() > known.len() {
                *known = read;
            }
            last.insert(key, read);
        }
    }
    for (key, values) in &appended {
        if values.iter().collect::<BTreeSet<_>>().len() < values.len() {
            wrong.push(format!("appended twice to {key:?}: {values:?}"));
        }
        let is_effects = matches!(key, Edn::Keyword(name) if name.starts_with("effects/"));
        for value in values.iter().filter(|_| is_effects) {
            if !last.get(key).is_some_and(|read| read.contains(value)) {
                wrong.push(format!("lost from {key:?}: {value:?}"));
            }
        }
    }
    wrong
}

#[test]
fn lists_of_the_sound_engine_have_no_anomaly() {
    let names = ["chain", "fan-out", "emit-race", "flaky", "external-call", "restart", "results"];
    let mut count = 0;
    for (seed, name) in (0..40).flat_map(|seed| names.map(|name| (seed, name))) {
        let Some(history) = history(seed, name, Guards::ALL) else { continue };
        assert_eq!(anomalies(&operations(&history, Format::Elle)), [""; 0], "seed {seed} of {name}");
        operations(&history, Format::Jepsen);
        count += 1;
    }
    assert!(count > 40, "{count} histories");
}

#[test]
fn a_lost_effect_and_a_doubled_one_are_visible() {
    let history = (0..100).find_map(|seed| history(seed, "chain", Guards::ALL)).expect("a small history");
    let state = history.state.clone().expect("its end");
    let mut lost = history.clone();
    lost.state.as_mut().expect("its end").ledger.remove(0);
    assert!(anomalies(&operations(&lost, Format::Elle))[0].starts_with("lost from"));
    let mut doubled = history;
    doubled.state.as_mut().expect("its end").ledger.push(state.ledger[0]);
    assert!(anomalies(&operations(&doubled, Format::Elle))[0].starts_with("duplicate elements"));
}

#[test]
fn two_successors_of_one_step_are_incompatible() {
    let without = Guards::without(&[Guard::OneConsumer]);
    let histories = (0..400).filter_map(|seed| history(seed, "chain", without));
    let mut wrong = histories.flat_map(|history| anomalies(&operations(&history, Format::Elle)));
    assert!(wrong.any(|wrong| wrong.starts_with("incompatible order")), "two consumers of one queue of workflows");
}

/// What total-queue counts: what was put in and is not taken out or left, and what comes out that nobody put in.
#[test]
fn a_queue_loses_nothing_and_gives_nothing_of_its_own() {
    let mut count = 0;
    for seed in 0..60 {
        let Some(history) = history(seed, "messages", Guards::ALL) else { continue };
        let operations = operations(&history, Format::Jepsen);
        let of = |name: &str, answer: &str| -> BTreeSet<Edn> {
            let own =
                operations.iter().filter(|it| it.field("f").keyword() == name && it.field("type").keyword() == answer);
            own.map(|it| it.field("value").clone()).collect()
        };
        let drained = of("drain", "ok").iter().flat_map(Edn::items).cloned().collect();
        let out: BTreeSet<Edn> = of("dequeue", "ok").union(&drained).cloned().collect();
        let (put, maybe) = (of("enqueue", "ok"), of("enqueue", "info"));
        let is_vague = operations.iter().any(|it| it.field("type").keyword() == "info");
        assert!(is_vague || put.is_subset(&out), "seed {seed} lost {:?}", put.difference(&out));
        assert!(out.iter().all(|it| put.contains(it) || maybe.contains(it) || is_vague), "seed {seed}");
        count += 1;
    }
    assert!(count > 5, "{count} histories");
}

#[test]
fn a_small_export_reads_like_this() {
    let history =
        (0..400).filter_map(|seed| history(seed, "restart", Guards::ALL)).min_by_key(|history| history.records.len());
    let history = history.expect("a small history");
    let head = |format| lines(&history, format).into_iter().take(12).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(format!("{}\n…\n\n{}\n…", head(Format::Elle), head(Format::Jepsen)));
}

#[test]
fn the_command_reads_histories_and_capsules_and_refuses_the_rest() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().display();
    let capsules = crate::capsules::read_all("capsules");
    let capsule = capsules.iter().min_by_key(|(path, _)| path.metadata().map_or(u64::MAX, |it| it.len())).expect("one");
    let said = tourbillon(&format!("export {} --format elle", capsule.0.display()));
    assert_eq!((said.exit, said.err.as_str()), (Exit::Clean, ""));
    assert!(said.out.starts_with("{:index 0, :time "), "{}", said.out);
    let history = capsule.1.history().expect("a capsule holds its history");
    std::fs::write(directory.path().join("h"), history.lines().collect::<Vec<_>>().join("\n"))
        .expect("it can be written");
    assert_eq!(tourbillon(&format!("export {path}/h --format elle")).out, said.out);
    std::fs::write(directory.path().join("n"), "hello").expect("it can be written");
    for (arguments, sentence) in [
        (format!("export {path}/n --format elle"), "is no history"),
        (format!("export {path}/nothing --format elle"), "cannot be read"),
        (format!("export {path}/h --format json"), "elle, jepsen"),
        (format!("export {path}/h"), "--format"),
    ] {
        let said = tourbillon(&arguments);
        assert_eq!(said.exit, Exit::CouldNotRun, "{arguments}");
        assert!(said.err.contains(sentence) && said.err.trim_end().lines().count() == 1, "{arguments}: {}", said.err);
    }
}
