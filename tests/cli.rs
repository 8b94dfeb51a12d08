//! The command line as people and programs meet it: what it refuses, what it prints, what it returns.

use crate::stage::server;
use std::path::Path;
use tempfile::TempDir;
use tokio_postgres::config::Host;
use tourbillon::cli::{self, Console, Exit};

/// One call of the tool.
pub struct Said {
    pub exit: Exit,
    pub out: String,
    pub err: String,
}

pub fn tourbillon(arguments: &str) -> Said {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let words = std::iter::once("tourbillon").chain(arguments.split_whitespace());
    let exit = cli::main(words, &mut Console::to(&mut out, &mut err));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the tool writes text");
    Said { exit, out: text(out), err: text(err) }
}

/// As a shell would show it, without what differs from one machine to the next.
fn session(arguments: &str, directory: &Path) -> String {
    let Said { exit, out, err } = tourbillon(&arguments.replace("DIR", &directory.display().to_string()));
    let text = format!("$ tourbillon {arguments}\n{out}{err}exit {}\n", exit as u8);
    let text = text.replace(&directory.display().to_string(), "DIR");
    // What a user is told to copy begins with what was typed, which under cargo is cargo.
    text.replace("cargo run --release -- ", "tourbillon ").replace("cargo run -- ", "tourbillon ")
}

fn file(directory: &TempDir, name: &str, text: &str) {
    std::fs::write(directory.path().join(name), text).expect("a temporary directory can be written to");
}

/// A capsule and a history of one failing run.
fn failure(directory: &TempDir) -> (String, String) {
    let path = directory.path().display();
    let said = tourbillon(&format!("run --seeds 40 --without claim_lock --postgres off --capsules {path}"));
    assert_eq!(said.exit, Exit::Broken, "{}{}", said.out, said.err);
    let entries = std::fs::read_dir(directory.path()).expect("capsules are saved");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a directory can be read").path()).collect();
    paths.sort();
    let capsule = std::fs::read_to_string(&paths[0]).expect("a capsule can be read");
    let history = tourbillon("replay --seed 0 --history").out;
    (capsule, history)
}

#[test]
fn what_there_is_to_choose_from() {
    insta::assert_snapshot!(tourbillon("list").out);
}

#[test]
fn names_and_options_that_do_not_exist_are_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let refused = [
        "run --workload chian",
        "run --workload nothing-like-it",
        "run --faults worker_crash,server_crsh",
        "run --without claim-lok",
        "run --design pgq",
        "run --seeds 0",
        "run --seeds many",
        "run --seed 0x12",
        "run --shard 3/2",
        "run --on mars",
        "run --postgres please",
        "run --sedes 5",
        "walk",
        "replay",
        "guards --only everything",
        "sql --without nobody",
        "bench",
    ];
    let said: Vec<String> = refused.iter().map(|arguments| session(arguments, directory.path())).collect();
    for said in &said {
        assert!(said.ends_with("exit 2\n") && said.matches('\n').count() <= 4, "one sentence, and exit 2:\n{said}");
    }
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn files_that_are_not_what_they_should_be_are_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (capsule, history) = failure(&directory);
    let head: Vec<&str> = capsule.lines().take(20).collect();
    file(&directory, "cut.capsule.json", &head.join("\n"));
    file(&directory, "newer.capsule.json", &capsule.replacen("\"format\": 1", "\"format\": 2", 1));
    file(&directory, "guard.capsule.json", &capsule.replace("\"claim_lock\"", "\"clam_lock\""));
    file(&directory, "text.capsule.json", "a capsule, once\n");
    let lines: Vec<&str> = history.lines().collect();
    file(&directory, "malformed.jsonl", &[&lines[..9], &["{\"at\":1}"], &lines[10..]].concat().join("\n"));
    file(&directory, "newer.jsonl", &history.replacen("\"format\":1", "\"format\":2", 1));
    file(&directory, "empty.jsonl", "");
    let refused = [
        "replay DIR/nowhere.capsule.json",
        "replay DIR/cut.capsule.json",
        "replay DIR/newer.capsule.json",
        "replay DIR/guard.capsule.json",
        "replay DIR/text.capsule.json",
        "check DIR/nowhere.jsonl",
        "check DIR/malformed.jsonl",
        "check DIR/newer.jsonl",
        "check DIR/empty.jsonl",
        "check DIR",
    ];
    let said: Vec<String> = refused.iter().map(|arguments| session(arguments, directory.path())).collect();
    for said in &said {
        assert!(said.ends_with("exit 2\n") && said.matches('\n').count() <= 4, "one sentence, and exit 2:\n{said}");
    }
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn a_history_is_checked_and_one_that_stops_early_is_unknown() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (_, history) = failure(&directory);
    file(&directory, "whole.jsonl", &history);
    let lines: Vec<&str> = history.lines().collect();
    file(&directory, "early.jsonl", &lines[..lines.len() - 1].join("\n"));
    let path = directory.path().display();
    assert_eq!(tourbillon(&format!("check {path}/whole.jsonl")).exit, Exit::Clean);
    assert_eq!(tourbillon(&format!("check {path}/early.jsonl")).exit, Exit::Unknown);
    let broken = tourbillon("replay --seed 0 --without claim_lock --history");
    assert_eq!(broken.exit, Exit::Broken);
    file(&directory, "broken.jsonl", &broken.out);
    let said = tourbillon(&format!("check {path}/broken.jsonl"));
    assert_eq!(said.exit, Exit::Broken, "{}", said.out);
}

/// What people read when something is found: the sentence, the slice, the capsule, the command.
#[test]
fn a_violation_reads_as_a_story() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let said =
        session("run --seeds 12 --without claim_lock --workload chain --postgres off --capsules DIR", directory.path());
    let story = said.split_once("\n\n").map_or(said.as_str(), |(_, rest)| rest);
    // Wall time is nobody's story.
    let timeless: Vec<&str> = story.lines().filter(|line| !line.starts_with("simulated ")).collect();
    insta::assert_snapshot!(timeless.join("\n"));
}

#[test]
fn a_capsule_replays_to_the_same_violation_from_its_file_alone() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    failure(&directory);
    for entry in std::fs::read_dir(directory.path()).expect("capsules are saved") {
        let path = entry.expect("a directory can be read").path();
        let said = tourbillon(&format!("replay {}", path.display()));
        assert_eq!(said.exit, Exit::Broken, "{}{}", said.out, said.err);
        assert!(said.out.contains("the same verdict as in the capsule, and the same history"), "{}", said.out);
    }
}

#[test]
fn two_replays_of_a_seed_have_one_hash() {
    let hash = || {
        let said = tourbillon("replay --seed 4711 --json");
        let value: serde_json::Value = serde_json::from_str(&said.out).expect("one JSON value");
        assert_eq!(value["verdict"], "holds");
        assert!(value["calls"].as_u64() > Some(0) && value["records"].as_u64() > Some(0));
        value["history_hash"].as_str().expect("a hash").to_owned()
    };
    assert_eq!(hash(), hash());
}

#[test]
fn a_run_as_json_is_one_value_with_everything_in_it() {
    let said = tourbillon("run --seeds 60 --postgres off --json");
    assert_eq!(said.exit, Exit::Clean, "{}{}", said.out, said.err);
    let value: serde_json::Value = serde_json::from_str(&said.out).expect("one JSON value and nothing else");
    for key in ["seeds", "calls", "records", "simulated_seconds", "wall_seconds", "violations", "reach", "replay"] {
        assert!(!value[key].is_null(), "{key} is missing");
    }
    for key in ["histories", "statements", "blocked", "crashes", "divergences"] {
        assert!(!value["replay"][key].is_null(), "replay.{key} is missing");
    }
    assert!(value["replay"].get("server_version").is_some());
    assert_eq!(value["seeds"], 60);
}

#[test]
fn a_server_that_cannot_be_reached_or_used_is_refused() {
    let away = tourbillon("run --seeds 5 --postgres postgres://nobody@127.0.0.1:1/nothing");
    assert_eq!(away.exit, Exit::CouldNotRun);
    assert!(away.err.contains("the PostgreSQL server at 127.0.0.1 cannot be reached"), "{}", away.err);
    assert_eq!((away.err.lines().count(), away.out.as_str()), (1, ""));

    let Some(server) = server() else { return };
    server.install("create role visitor login").expect("our own server lets us");
    let Some(Host::Unix(socket)) = server.config().get_hosts().first() else { panic!("it listens on a socket") };
    let host = socket.display().to_string().replace('/', "%2F");
    let weak = tourbillon(&format!("run --seeds 5 --postgres postgres://visitor@{host}/postgres"));
    assert_eq!(weak.exit, Exit::CouldNotRun, "{}{}", weak.out, weak.err);
    assert!(weak.err.contains("visitor") && weak.err.lines().count() == 1, "{}", weak.err);
}
