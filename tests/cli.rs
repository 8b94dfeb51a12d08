//! The command line as people and programs meet it: what it refuses, what it prints, what it returns.

use crate::stage::server;
use serde_json::Value;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use tempfile::TempDir;
use tokio_postgres::config::Host;
use tourbillon::cli::{self, Console, Exit};
use tourbillon::postgres::server::Server;

/// One call of the tool.
pub struct Said {
    pub exit: Exit,
    pub out: String,
    pub err: String,
}

pub fn tourbillon(arguments: &str) -> Said {
    let mut out = Vec::new();
    let (exit, err) = tourbillon_to(&mut out, arguments);
    Said { exit, out: String::from_utf8(out).expect("the tool writes text"), err }
}

/// Its exit, and what it says beside its results.
fn tourbillon_to(out: &mut dyn Write, arguments: &str) -> (Exit, String) {
    let mut err = Vec::new();
    let words = std::iter::once("tourbillon").chain(arguments.split_whitespace());
    let exit = cli::main(words, &mut Console::to(out, &mut err));
    (exit, String::from_utf8(err).expect("the tool writes text"))
}

fn json(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("one JSON value, not {}: {error}", said.out))
}

/// The command that a text ends with, without the program.
fn last_command(text: &str) -> &str {
    let line = text.trim_end().lines().last().unwrap_or_default();
    &line[line.find("replay ").unwrap_or_else(|| panic!("no command: {text}"))..]
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
    let said = tourbillon(&format!("run --seeds 40 --without claim_lock --postgres off --no-shrink --capsules {path}"));
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
        "run --seeds 99999999999999999999999",
        "run --seeds 2 --shard 3/3 --postgres off",
        "run --seed 0x12",
        "run --shard 3/2",
        "run --on mars",
        "run --on direct --faults worker_crash,partition",
        "run --faults worker_crash,partition",
        "guards --faults network",
        "chaos --faults server_crash",
        "run --postgres please",
        "run --sedes 5",
        "run --depth 4",
        "guards --order uniform --depth 4",
        "replay some.capsule.json --order pct",
        "replay --seed 4 --no-shrink",
        "shrink some.capsule.json --no-shrink",
        "walk",
        "replay",
        "replay some.capsule.json --seed 4",
        "guards --only everything",
        "sql --without nobody",
        "bench nothing",
        "bench sim --quick",
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
    let broken = tourbillon("replay --seed 1 --workload chain --without claim_lock --history");
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
    // Wall time is nobody's story, nor how much could be tried in it.
    let timed = |line: &&str| !line.starts_with("simulated ");
    let untimed =
        |line| str::rsplit_once(line, " in ").filter(|(_, end)| end.ends_with(" runs")).map_or(line, |it| it.0);
    let timeless: Vec<&str> = story.lines().filter(timed).map(untimed).collect();
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
    for key in ["histories", "statements", "blocked", "crashes", "lost_commits", "divergences", "not_comparable"] {
        assert!(!value["replay"][key].is_null(), "replay.{key} is missing");
    }
    assert!(value["replay"].get("server_version").is_some());
    assert_eq!(value["seeds"], 60);
}

#[test]
fn a_server_that_cannot_be_reached_or_used_is_refused() {
    let away = tourbillon("run --seeds 5 --postgres postgres://nobody@127.0.0.1:1/nothing");
    assert_eq!(away.exit, Exit::CouldNotRun);
    assert!(away.err.contains("the PostgreSQL server at 127.0.0.1:1 cannot be reached"), "{}", away.err);
    assert_eq!((away.err.lines().count(), away.out.as_str()), (1, ""));

    let Some(server) = server() else { return };
    server.install("create role visitor login").expect("our own server lets us");
    let Some(Host::Unix(socket)) = server.config().get_hosts().first() else { panic!("it listens on a socket") };
    let host = socket.display().to_string().replace('/', "%2F");
    let weak = tourbillon(&format!("run --seeds 5 --postgres postgres://visitor@{host}/postgres"));
    assert_eq!(weak.exit, Exit::CouldNotRun, "{}{}", weak.out, weak.err);
    assert!(weak.err.contains("visitor") && weak.err.lines().count() == 1, "{}", weak.err);
}

/// Neither kind of place can be made a directory of.
#[test]
fn a_violation_that_cannot_be_saved_is_told_all_the_same() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    file(&directory, "afile", "");
    for place in [format!("{}/afile", directory.path().display()), "/proc/nowhere".to_owned()] {
        let options = format!("--without claim_lock --workload chain --capsules {place}");
        let said = tourbillon(&format!("run --seeds 12 --postgres off {options}"));
        assert_eq!(said.exit, Exit::Broken, "{}{}", said.out, said.err);
        assert!(said.err.contains(&format!("warning: no failure can be saved in {place}")), "{}", said.err);
        assert!(said.out.contains("Q4 ") && said.out.contains("NOT SAVED: the capsule"), "{}", said.out);
        let command = last_command(&said.out);
        assert_eq!(command, "replay --seed 1 --workload chain --without claim_lock");
        let again = tourbillon(&format!("{command} --capsules {place}"));
        assert_eq!(again.exit, Exit::Broken, "{}{}", again.out, again.err);
        assert_eq!(last_command(&again.out), command);
        let said = json(&tourbillon(&format!("run --seeds 12 --postgres off --json {options}")));
        assert!(said["violations"][0]["again"].as_str().is_some_and(|again| again.ends_with(command)));
        assert!(said["violations"][0]["capsule"].is_null());
    }
}

#[test]
fn a_table_whose_catches_cannot_be_saved_is_printed_all_the_same() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    file(&directory, "afile", "");
    let place = directory.path().join("afile");
    let only = "guards --only start_key,pgq-rotation --seeds 60 --postgres off";
    let said = tourbillon(&format!("{only} --json --capsules {}", place.display()));
    assert_eq!(said.exit, Exit::CouldNotRun, "{}{}", said.out, said.err);
    assert!(said.err.contains("error: the catch of start_key is NOT SAVED: the capsule"), "{}", said.err);
    assert!(said.err.contains("replay --seed 0 --without start_key"), "{}", said.err);
    let rows = json(&said);
    let names: Vec<&str> = rows.as_array().into_iter().flatten().filter_map(|row| row["guard"].as_str()).collect();
    assert_eq!(names, ["start_key", "pgq-rotation"], "a design is listed where it is asked for");
    assert_eq!(rows[1].as_object().map(|row| row.len()), rows[0].as_object().map(|row| row.len()));
    assert!(rows.as_array().into_iter().flatten().all(|row| row["caught_by"].is_string() && row["capsule"].is_null()));
}

/// How long nothing was caught says nothing about how many seeds are many.
#[test]
fn a_guard_that_nothing_catches_does_not_make_the_sound_engine_run_for_ever() {
    let said = tourbillon("guards --only claim_lock --workload messages --faults none --seeds 1000 --postgres off");
    assert_eq!(said.exit, Exit::Broken, "{}{}", said.out, said.err);
    assert!(said.out.contains("NOTHING") && said.out.contains("clean over 5,000 seeds"), "{}", said.out);
    assert!(said.err.contains("sweeping the sound engine over 5,000 seeds"), "{}", said.err);
}

/// Fails at every write.
struct Fails(ErrorKind);

impl Write for Fails {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_result_that_cannot_be_written_is_an_error_unless_nobody_reads_it() {
    for command in ["list", "list --json", "sql", "--help", "run --seeds 2 --postgres off --json", "replay --seed 3"] {
        let (exit, err) = tourbillon_to(&mut Fails(ErrorKind::StorageFull), command);
        assert_eq!(exit, Exit::CouldNotRun, "{command}");
        assert!(err.starts_with("error: standard output cannot be written: "), "{command}: {err}");
        assert_eq!(err.lines().count(), 1, "{command}: {err}");
        let (exit, err) = tourbillon_to(&mut Fails(ErrorKind::BrokenPipe), command);
        assert_eq!((exit, err.as_str()), (Exit::Clean, ""), "{command}");
    }
    let (exit, err) = tourbillon_to(&mut Fails(ErrorKind::StorageFull), "replay --seed 3 --history");
    assert_eq!(exit, Exit::CouldNotRun);
    assert!(err.contains("error: standard output cannot be written: "), "{err}");
}

#[test]
fn other_faults_and_more_guards_are_other_files() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = format!("--capsules {}", directory.path().display());
    let run =
        |options: &str| tourbillon(&format!("run --seeds 1 --postgres off --without start_key {options} {place}"));
    let saved = || {
        let entries = std::fs::read_dir(directory.path()).expect("capsules are saved");
        let names = entries.map(|entry| entry.expect("a directory can be read").file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().expect("plain names")).collect();
        names.sort();
        names
    };
    let said = run("--design pgq-rotation");
    let removed = "design pgq-rotation (without read_all_tables) and without start_key\n";
    assert!(said.out.contains(removed), "{}", said.out);
    for options in ["", "", "--faults lost_reply,held_transaction,late_producer"] {
        assert_eq!(run(options).exit, Exit::Broken, "{options}");
    }
    let beginnings = ["pgq-rotation-without-start_key-chain-0-", "without-start_key-chain-0-"];
    let expected = [beginnings[0], beginnings[1], beginnings[1]];
    let saved = saved();
    assert_eq!(saved.len(), expected.len(), "the same run is the same file, and no other is: {saved:?}");
    assert!(saved.iter().zip(expected).all(|(name, beginning)| name.starts_with(beginning)), "{saved:?}");
}

#[test]
fn a_property_has_an_id_and_a_name() {
    let list = json(&tourbillon("list --json"));
    assert_eq!((&list["properties"][0]["id"], &list["properties"][0]["name"]), (&"D1".into(), &"acked-durable".into()));
    assert_eq!(list["workloads"][0]["name"], "chain");
    assert!(list["workloads"][0].get("id").is_none());
}

/// Each thing in a schema, each privilege and each row of a table, as text.
fn content(server: &Server, schema: &str) -> Vec<String> {
    let session = server.open().expect("our own server lets us");
    let query = "select concat_ws(' ', 'function', p.oid::regprocedure, p.proacl)
                 from pg_proc p where p.pronamespace = $1::text::regnamespace
                 union all select concat_ws(' ', 'relation', c.relname, c.relkind, c.relacl, c.relfilenode)
                 from pg_class c where c.relnamespace = $1::text::regnamespace
                 order by 1";
    let schema = format!("\"{schema}\"");
    let reply = server.execute(&session, query, &[&schema]).and_then(|outcome| outcome.done());
    reply.expect("a query of ours").rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn the_printed_script_installs_once_and_touches_nothing_that_is_there() {
    let Some(server) = server() else { return };
    server.install("create function public.of_the_user() returns int language sql as 'select 1'").expect("a function");
    for schema in ["tourbillon", "select", "other_1"] {
        let script = tourbillon(&format!("sql --schema {schema}")).out;
        server.install(&script).unwrap_or_else(|error| panic!("{schema}: {error}"));
        let installed = content(&server, schema);
        let functions = installed.iter().filter(|line| line.starts_with("function "));
        let is_public = |line: &&String| !line.contains("{postgres=X/postgres}");
        assert!(functions.clone().count() > 20 && functions.filter(is_public).count() == 0, "{installed:#?}");
        server.install(&format!("select \"{schema}\".create_queue('q', 'plain')")).expect("it can be used");
    }
    for schema in ["tourbillon", "select", "public"] {
        let before = content(&server, schema);
        assert!(!before.is_empty());
        let refused = server.install(&tourbillon(&format!("sql --schema {schema}")).out);
        server.install("rollback").expect("a session is left as it was found");
        let said = refused.expect_err("there is such a schema").to_string();
        assert!(said.contains(&format!("schema \"{schema}\" already exists")), "{said}");
        assert_eq!(content(&server, schema), before, "{schema}");
    }
}

#[test]
fn roles_are_made_on_request_and_serve_every_schema() {
    let Some(server) = server() else { return };
    assert!(!tourbillon("sql").out.contains("tourbillon_worker"), "nobody asked for roles");
    for schema in ["tourbillon", "select"] {
        server
            .install(&tourbillon(&format!("sql --roles --schema {schema}")).out)
            .expect("roles that are there will do");
        let installed = content(&server, schema);
        let tick = installed.iter().find(|line| line.contains(".tick(text)")).expect("it is a function");
        assert!(tick.ends_with("{postgres=X/postgres,tourbillon_worker=X/postgres}"), "{tick}");
        let public = installed.iter().filter(|line| line.contains("{=") || line.contains(",="));
        assert_eq!(public.collect::<Vec<_>>(), [""; 0]);
    }
}

/// Of all that a run broke, the capsule says what it is about.
#[test]
fn a_capsule_is_told_by_the_violation_that_it_was_saved_for() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().display();
    tourbillon(&format!("run --seeds 40 --without claim_lock --postgres off --no-shrink --capsules {path}"));
    let capsules: Vec<_> = std::fs::read_dir(directory.path()).expect("capsules were saved").collect();
    let mut told = 0;
    for capsule in capsules.into_iter().map(|entry| entry.expect("it is there").path()) {
        let text = std::fs::read_to_string(&capsule).expect("it was just saved");
        let capsule_json: Value = serde_json::from_str(&text).expect("a capsule is JSON");
        let violations = capsule_json["violations"].as_array().expect("it was saved for one").clone();
        let named = |violation: &Value| violation.as_str().expect("a sentence").to_owned();
        let property = |violation: &Value| named(violation).split(' ').next().map(str::to_owned);
        let Some(other) = violations.iter().find(|other| property(other) != property(&violations[0])) else { continue };
        let mut turned = capsule_json.clone();
        turned["violations"] = serde_json::json!([other, violations[0]]);
        file(&directory, "turned.capsule.json", &turned.to_string());
        let said = tourbillon(&format!("replay {path}/turned.capsule.json"));
        let [meant, first] = [other, &violations[0]].map(|violation| said.out.rfind(&named(violation)));
        assert!(meant.is_some() && meant > first, "{}", said.out);
        told += 1;
    }
    assert!(told > 0, "no run broke two properties");
}

#[test]
fn an_exploration_names_only_the_faults_that_it_places() {
    let explore = |options: &str| {
        let said = tourbillon(&format!("explore --workload single --workflows 1 --preemptions 0 {options}"));
        said.out.lines().next().unwrap_or_default().to_owned()
    };
    assert!(
        explore("--fault-kinds claim_in_transaction").contains("; at most no fault, claim_in_transaction always and")
    );
    assert!(explore("--fault-kinds lost_reply").contains("; at most 1 fault (lost_reply) and"));
}
