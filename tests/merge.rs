//! Shares of a sweep, run apart and merged, are the sweep.

use crate::cli::{Said, tourbillon};
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;
use tourbillon::cli::Exit;

const SWEEP: &str = "run --seeds 120 --seed 3 --workload chain,agent-loop,zombie --without claim_lock --postgres off --no-shrink --json";

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// A run with options of its own, its capsules and its result in that directory.
fn run(options: &str, directory: &Path, name: &str) -> String {
    let said = tourbillon(&format!("{options} --capsules {}", directory.display()));
    let path = directory.join(name);
    std::fs::write(&path, said.out).expect("a temporary directory can be written to");
    path.display().to_string()
}

fn shares(directory: &Path) -> Vec<String> {
    (1..=3).map(|share| run(&format!("{SWEEP} --shard {share}/3"), directory, &format!("{share}.json"))).collect()
}

fn merge(results: &[&str], directory: &Path) -> Said {
    tourbillon(&format!("merge {} --no-shrink --capsules {}", results.join(" "), directory.display()))
}

/// Without what no two runs have in common.
fn timeless(value: Value) -> Value {
    const TIMES: [&str; 4] = ["wall_seconds", "sweep_seconds", "wall", "swept_in"];
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(key, _)| !TIMES.contains(&key.as_str()));
            kept.map(|(key, value)| (key, timeless(value))).collect()
        }
        Value::Array(values) => values.into_iter().map(timeless).collect(),
        other => other,
    }
}

fn json(text: &str) -> Value {
    timeless(serde_json::from_str(text).unwrap_or_else(|error| panic!("one JSON value, not {text}: {error}")))
}

#[test]
fn shares_that_are_merged_are_the_whole_violations_included() {
    let directory = directory();
    let whole = tourbillon(&format!("{SWEEP} --capsules {}", directory.path().display()));
    let shares = shares(directory.path());
    let shares: Vec<&str> = shares.iter().map(String::as_str).collect();
    let merged = merge(&[shares[2], shares[0], shares[1], "--json"], directory.path());
    assert_eq!((whole.exit, merged.exit), (Exit::Broken, Exit::Broken), "{}", merged.err);
    assert_eq!(json(&whole.out), json(&merged.out));

    // As text, and of merged parts: the same, but for the line with the time.
    let some = merge(&[shares[1], shares[2], "--partial", "--json"], directory.path());
    assert!(some.err.contains("of 3 shares 1/3 is missing"), "{}", some.err);
    let path = directory.path().join("some.json");
    std::fs::write(&path, some.out).expect("a temporary directory can be written to");
    let merged = merge(&[shares[0], &path.display().to_string()], directory.path());
    let whole = tourbillon(&format!("{} --capsules {}", SWEEP.replace(" --json", ""), directory.path().display()));
    let untimed = |said: &Said| -> Vec<String> {
        said.out.lines().filter(|line| !line.starts_with("simulated ")).map(str::to_owned).collect()
    };
    assert_eq!(untimed(&whole), untimed(&merged));
}

#[test]
fn what_another_machine_has_saved_is_made_again_from_its_seed() {
    let directory = directory();
    let at = directory.path();
    let saved = |file: &str| {
        serde_json::json!({
            "seed": 7, "workload": "chain", "broken": [], "sentence": format!("{file} differs"), "slice": "", "target": "lockstep",
            "capsule": {"Ok": at.join(file)}, "again": format!("replay {file} --on lockstep"), "size": null,
        })
    };
    std::fs::write(at.join("here.json"), "").expect("a temporary directory can be written to");
    let share = std::fs::read_to_string(&shares(at)[0]).expect("it was just written");
    let mut share: Value = serde_json::from_str(&share).expect("one JSON value");
    share["part"]["replay_failures"] = serde_json::json!([saved("here.json"), saved("elsewhere.json")]);
    let path = at.join("failed.json");
    std::fs::write(&path, share.to_string()).expect("a temporary directory can be written to");
    let said = merge(&[&path.display().to_string(), "--partial"], at);
    let (here, elsewhere) = (at.join("here.json"), at.join("elsewhere.json"));
    assert!(said.out.contains(&format!("here.json differs ({})", here.display())), "{}", said.out);
    let elsewhere = format!("the machine that found it has it, as {}", elsewhere.display());
    let again = "replay --seed 7 --workload chain,agent-loop,zombie --without claim_lock --on lockstep";
    assert!(said.out.contains(&elsewhere) || said.out.contains(again), "{}", said.out);
}

#[test]
fn what_does_not_belong_together_is_refused_in_a_sentence() {
    let directory = directory();
    let at = directory.path();
    let shares = shares(at);
    let other = |options: &str, name: &str| run(&format!("run --postgres off --no-shrink --json {options}"), at, name);
    let faultless =
        "--workload chain,agent-loop,zombie --without claim_lock --faults none --seed 3 --seeds 120 --shard 2/3";
    let elsewhere = other(faultless, "elsewhere.json");
    let more = other(
        &format!(
            "{} --shard 2/3",
            SWEEP.replace("run --seeds 120", "--seeds 121").replace(" --postgres off --no-shrink --json", "")
        ),
        "more.json",
    );
    let halves = other(
        &format!("{} --shard 2/2", SWEEP.replace("run ", "").replace(" --postgres off --no-shrink --json", "")),
        "halves.json",
    );
    let text = std::fs::read_to_string(&shares[1]).expect("it was just written");
    let commit = serde_json::from_str::<Value>(&text).expect("one JSON value")["tool"]["commit"].clone();
    let foreign = at.join("foreign.json").display().to_string();
    let text = text.replace(commit.as_str().expect("a commit"), "0123456789ab");
    std::fs::write(&foreign, text).expect("a temporary directory can be written to");
    std::fs::write(at.join("prose.json"), "it went well\n").expect("a temporary directory can be written to");
    let prose = at.join("prose.json").display().to_string();
    let refused = [
        (
            elsewhere.as_str(),
            "one result is of --workload chain,agent-loop,zombie --without claim_lock, and another of",
        ),
        (more.as_str(), "one result is of 120 seeds from 3, and another of 121 from 3"),
        (halves.as_str(), "one result is of 3 shares, and another of 2"),
        (foreign.as_str(), "results are merged where they are of one commit"),
        (shares[0].as_str(), "share 1/3 is there twice"),
        (prose.as_str(), "is not what `run --json` of this version prints"),
        ("nowhere.json", "nowhere.json cannot be read"),
    ];
    for (result, sentence) in refused {
        let said = merge(&[&shares[0], result], at);
        assert!(said.err.contains(sentence), "{}", said.err);
        assert_eq!(
            (said.exit, said.err.lines().count(), said.out.as_str()),
            (Exit::CouldNotRun, 1, ""),
            "{}",
            said.err
        );
    }
    let said = merge(&[&shares[0], &shares[2]], at);
    assert_eq!((said.exit, said.out.as_str()), (Exit::Unknown, ""));
    assert!(said.err.contains("of 3 shares 2/3 is missing"), "{}", said.err);
    assert_eq!(merge(&[&shares[0], "--partial"], at).exit, Exit::Broken);
}

/// Time, threads and shares change nothing; nor does the process, as the kept hashes of `determinism` show.
#[test]
fn histories_have_the_same_hashes_on_one_thread_and_on_two() {
    let hashes = |threads: u32| {
        let said = tourbillon(&format!("run --seeds 250 --postgres off --json --threads {threads}"));
        json(&said.out)["part"]["swept"]["sums"]["hashes"].clone()
    };
    let one = hashes(1);
    assert_eq!(one.as_object().map(serde_json::Map::len), Some(5));
    assert_eq!(one, hashes(2));
}
