//! Real processes on a real server. The tool is this program once more, and its processes are, too.

use crate::cli::tourbillon;
use crate::stage::{server, users_server};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tourbillon::chaos::{self, STARTED_BY};
use tourbillon::cli::{self, Console, Exit};
use tourbillon::generate::Limits;
use tourbillon::postgres::interrupt;
use tourbillon::postgres::server::Server;
use tourbillon::simulate::{Simulator, Work};
use tourbillon_engine::guard::Guards;
use tourbillon_models::history::History;
use tourbillon_models::outcome::Outcomes;

/// What the tool is asked to do.
const ARGUMENTS: &str = "TOURBILLON_TEST_ARGUMENTS";
/// For the machine to do what it normally does in a moment.
const PATIENCE: Duration = Duration::from_secs(60);

/// Not a test of its own: the tool.
#[test]
fn the_tool() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    interrupt::watch();
    let words = std::iter::once("tourbillon").chain(arguments.split_whitespace());
    let exit = cli::main(words, &mut Console::standard());
    interrupt::finish();
    std::process::exit(exit as i32);
}

/// Not a test of its own: one process of the tool's.
#[test]
fn a_process() {
    if std::env::var_os(STARTED_BY).is_none() {
        return;
    }
    match chaos::process::run() {
        Ok(None) => {}
        Ok(Some(code)) => std::process::exit(code.into()),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            std::process::exit(2);
        }
    }
}

fn tool(arguments: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this is a program"));
    command.args(["chaos::the_tool", "--exact", "--nocapture"]).env(ARGUMENTS, arguments);
    command.env(STARTED_BY, "chaos::a_process --exact --nocapture");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Its exit code, its value, and what it says beside that.
fn told(output: &Output) -> (Option<i32>, Value, String) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr).into_owned());
    let value = out.find('{').and_then(|at| serde_json::from_str(&out[at..]).ok());
    (output.status.code(), value.unwrap_or(Value::Null), err)
}

fn run(arguments: &str) -> (Option<i32>, Value, String) {
    told(&tool(arguments).output().expect("this program can be run"))
}

/// What it says of itself in JSON.
#[track_caller]
fn clean(arguments: &str) -> Value {
    let (code, value, said) = run(arguments);
    assert_eq!((code, value["judgement"].as_str()), (Some(0), Some("holds")), "{said}{:#}", value["violations"]);
    value
}

#[track_caller]
fn assert_exercised(value: &Value, properties: &[&str]) {
    let is_idle = |id: &&&str| value["properties"][*id]["exercised"].as_u64().unwrap_or(0) == 0;
    assert_eq!(properties.iter().filter(is_idle).collect::<Vec<_>>(), [&""; 0], "never exercised");
}

#[test]
fn a_short_run_loses_nothing() {
    if server().is_none() {
        return;
    }
    let directory = tempfile::tempdir().expect("there is room");
    let value = clean(&format!(
        "chaos --seconds 4 --round 2 --gap 150 --server-kills 2 --seed 1 --json --keep {}",
        directory.path().display()
    ));
    assert_eq!(value["faults"]["server_kill"], 2);
    assert!(value["rounds"].as_u64() >= Some(2), "{}", value["rounds"]);
    assert_exercised(&value, &["D1", "D2", "D3", "Q1", "Q3", "Q5", "Q9", "W1", "W3", "W5", "L1"]);
    assert!(value["recovery_p99_us"].as_u64() >= value["recovery_p50_us"].as_u64());
    assert!(fs::read_dir(directory.path()).expect("it is there").next().is_none(), "no history is kept of a clean run");
}

/// Whoever awaits something is told it, and others tell him otherwise; the clock is wrong, and the server dies.
#[test]
fn workflows_that_wait_for_each_other_lose_nothing() {
    if server().is_none() {
        return;
    }
    let directory = tempfile::tempdir().expect("there is room");
    let value = clean(&format!(
        "chaos --seconds 6 --round 2 --gap 150 --server-kills 2 --workload approval,fan-out,emit-race --json --keep {}",
        directory.path().display()
    ));
    let all = ["A1", "A2", "A3", "A4", "A5", "A6", "A7", "J1", "J2", "J3", "J4", "J5", "J6", "T1", "T2", "T3"];
    assert_exercised(&value, &all);
    assert!(value["faults"]["clock_step"].as_u64() > Some(0), "{:#}", value["faults"]);
}

/// Workflows that do not hang on the time come to what they come to in a simulation without faults: those of a plan are
/// known by their keys.
#[test]
fn outcomes_are_those_of_a_simulation() {
    if server().is_none() {
        return;
    }
    for name in ["chain", "agent-loop", "results", "fan-out", "dispatch"] {
        let directory = tempfile::tempdir().expect("there is room");
        let work = Work::named(name).expect("it is one of the project's");
        let plan = work.plan(1, &Limits { faults: Vec::new() });
        let size = plan.options.iter().find(|(option, _)| option == "size").map(|(_, size)| size.clone());
        clean(&format!(
            "chaos --workflows 40 --clients 1 --round 2 --gap 50 --server-kills 1 --json --keep-all --workload {name} \
             --size {} --keep {}",
            size.expect("every plan has a size"),
            directory.path().display()
        ));
        let mut simulator = Simulator::default();
        simulator.run(&plan, &work, Guards::ALL);
        let simulated = Outcomes::of(simulator.history());
        let text = fs::read_to_string(directory.path().join("chaos-0-0.jsonl")).expect("the first round is kept");
        let played = Outcomes::of(&History::read(&text).expect("it is a history"));
        assert_eq!(simulated.ended(), simulated.workflows.len());
        for (label, steps) in &simulated.workflows {
            assert_eq!(played.workflows.get(label), Some(steps), "{name} {label:?}");
        }
        assert!(played.workflows.len() >= 40 && !simulated.workflows.is_empty());
    }
}

fn schemas(host: &Server) -> i64 {
    let sql = "select count(*) from pg_namespace where nspname ~ '^tourbillon_'";
    let found = host.execute(host.control().session(), sql, &[]).expect("the server stays");
    found.done().expect("it is a query").rows[0].get(0)
}

/// The address of a socket, without a space.
fn as_one_word(url: &str) -> String {
    let path = url.trim_start_matches("host=").split(' ').next().expect("it is a socket's directory");
    format!("postgres://guest@{}/postgres", path.replace('/', "%2F"))
}

#[test]
fn a_users_server_is_not_killed_and_is_left_clean() {
    let Some((host, url)) = users_server() else { return };
    let url = as_one_word(&url);
    clean(&format!("chaos --seconds 2 --round 2 --json --postgres {url}"));
    assert_eq!(schemas(&host), 0);
    // An interrupted run puts things in order before it ends.
    let mut child = tool(&format!("chaos --seconds 600 --postgres {url}")).spawn().expect("this program can be run");
    wait_until("a round begins", || schemas(&host) > 0);
    let all = descendants(child.id());
    send_interrupt(&child);
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    wait_until("all processes are gone", || !all.iter().any(|pid| lives(*pid)));
    assert_eq!(schemas(&host), 0);
    let (code, _, said) = run(&format!("chaos --server-kills 1 --postgres {url}"));
    assert_eq!(code, Some(2));
    assert!(said.contains("only a server that is started here is killed or stopped"), "{said}");
}

/// Now and then a call ends as no call of the engine does.
const SABOTAGE: &str = "
    create function public.sabotage() returns trigger language plpgsql as
        $$ begin if random() < 0.002 then raise exception 'sabotage'; end if; return new; end $$;
    create function public.attach() returns event_trigger language plpgsql as $$
        declare made text;
        begin
            for made in select object_identity from pg_event_trigger_ddl_commands() where object_identity like '%.chaos_mark'
            loop
                execute format('create trigger t before insert on %s for each row execute function public.sabotage()', made);
            end loop;
        end $$;
    create event trigger attach on ddl_command_end when tag in ('CREATE TABLE') execute function public.attach()";

#[test]
fn an_answer_that_no_engine_may_give_is_told_with_what_led_to_it() {
    let Some((host, url)) = users_server() else { return };
    host.install(SABOTAGE).expect("the user may");
    let directory = tempfile::tempdir().expect("there is room");
    let (keep, url) = (directory.path().display(), as_one_word(&url));
    let (code, value, said) = run(&format!("chaos --seconds 20 --faults none --json --keep {keep} --postgres {url}"));
    assert_eq!((code, value["judgement"].as_str()), (Some(3), Some("unknown")), "{said}{value:#}");
    let sentence = value["amiss"][0].as_str().expect("it is told");
    assert!(sentence.contains("the server refused it with P0001 sabotage"), "{sentence}");
    assert!(value["records"].as_u64() > Some(0) && value["violations"] == Value::Array(Vec::new()), "{value:#}");
    assert!(Path::new(value["history"].as_str().expect("it is kept")).exists());
    assert_eq!(schemas(&host), 0);
}

#[test]
fn a_removed_guard_is_found() {
    if server().is_none() {
        return;
    }
    let directory = tempfile::tempdir().expect("there is room");
    let (code, value, said) = run(&format!(
        "chaos --seconds 60 --round 3 --gap 100 --faults process_stop,process_kill --without takeover_fresh_token --json --keep {}",
        directory.path().display()
    ));
    assert_eq!((code, value["judgement"].as_str()), (Some(1), Some("violated")), "{said}{value:#}");
    assert!(value["properties"]["D5"]["violated"].as_u64() > Some(0), "{:#}", value["violations"]);
    // The history that is kept shows it to whoever reads it.
    let kept = value["history"].as_str().expect("it is kept");
    let said = tourbillon(&format!("check {kept}"));
    assert_eq!(said.exit, Exit::Broken);
    assert!(said.out.contains("D5 token-unique is violated"), "{}", said.out);
}

/// What a process started, and what these did.
fn descendants(of: u32) -> BTreeSet<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .expect("this is Linux")
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    let mut found = BTreeSet::from([of]);
    loop {
        let before = found.len();
        found.extend(
            parents.iter().filter(|(_, parent)| found.contains(parent)).map(|(pid, _)| *pid).collect::<Vec<_>>(),
        );
        if found.len() == before {
            found.remove(&of);
            return found;
        }
    }
}

/// Whether it is there, and not just waiting for somebody to reap it.
fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

fn words(pid: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not within {} s", PATIENCE.as_secs());
        std::thread::yield_now();
    }
}

/// The tool with its processes at work, and the directory of its server.
fn at_work(arguments: &str) -> (Child, PathBuf) {
    let child = tool(arguments).spawn().expect("this program can be run");
    let mut data = None;
    wait_until("the tool starts a server and its processes", || {
        let all: Vec<Vec<String>> = descendants(child.id()).into_iter().map(words).collect();
        let place =
            |words: &Vec<String>| words.iter().position(|word| word == "-D").map(|at| PathBuf::from(&words[at + 1]));
        data = data.take().or_else(|| all.iter().find_map(place));
        let processes = all.iter().filter(|words| words.iter().any(|word| word == "chaos::a_process")).count();
        data.is_some() && processes >= 8
    });
    let data = data.expect("a server has a directory");
    (child, data.parent().expect("it lies in another").to_owned())
}

#[track_caller]
fn nothing_is_left(of: &BTreeSet<u32>, directory: &Path) {
    wait_until("all processes are gone", || !of.iter().any(|pid| lives(*pid)));
    wait_until("the server's directory is gone", || !directory.exists());
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    if server().is_none() {
        return;
    }
    for (signal, code) in [("INT", Some(130)), ("TERM", Some(143)), ("KILL", None)] {
        let (mut child, directory) = at_work("chaos --seconds 600");
        let all = descendants(child.id());
        let killed = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(killed.expect("there is kill").success());
        assert_eq!(child.wait().expect("it ends").code(), code);
        nothing_is_left(&all, &directory);
    }
}

fn send_interrupt(child: &Child) {
    let killed = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status();
    assert!(killed.expect("there is kill").success());
}

#[test]
fn an_interrupted_run_tells_what_its_rounds_came_to() {
    if server().is_none() {
        return;
    }
    let (kept, histories) = (tempfile::tempdir().expect("there is room"), tempfile::tempdir().expect("there is room"));
    let mut child = tool(&format!(
        "chaos --seconds 600 --round 1 --keep-all --json --keep {} --histories {}",
        kept.path().display(),
        histories.path().display()
    ));
    let child = child.spawn().expect("this program can be run");
    // The second is begun when the first has been counted.
    wait_until("two rounds are over", || kept.path().join("chaos-0-1.jsonl").exists());
    send_interrupt(&child);
    let (code, value, said) = told(&child.wait_with_output().expect("it ends"));
    assert_eq!((code, said.trim()), (Some(130), "error: interrupted"));
    assert_eq!((value["judgement"].as_str(), value["cut_off"].as_str()), (Some("unknown"), Some("interrupted")));
    assert!(value["rounds"].as_u64() >= Some(2) && value["workflows"].as_u64() > Some(0), "{value:#}");
    assert!(fs::read_dir(histories.path()).expect("it is there").next().is_none(), "nothing is left of the last round");
}

#[test]
fn a_server_that_does_not_come_back_is_one_sentence() {
    if server().is_none() {
        return;
    }
    let (child, directory) = at_work("chaos --seconds 600 --round 60 --server-kills 1200");
    let all = descendants(child.id());
    fs::remove_file(directory.join("data/global/pg_control")).expect("a server has one");
    let (code, _, said) = told(&child.wait_with_output().expect("it ends"));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("error: the server does not come back: "), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    nothing_is_left(&all, &directory);
}

#[test]
fn a_full_disk_is_one_sentence() {
    if server().is_none() {
        return;
    }
    // A limit on the size of files says the same, at the same place; the server's own are smaller.
    let limited = tool("chaos --seconds 600 --round 60 --faults none --workload agent-loop");
    let mut shell = Command::new("bash");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 8000; exec \"$0\" \"$@\""]).arg(limited.get_program());
    shell.args(limited.get_args()).envs(limited.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let (code, _, said) = told(&shell.stdin(Stdio::null()).output().expect("there is a shell"));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("the history ") && said.contains("cannot be written: File too large"), "{said}");
}

#[test]
fn what_cannot_be_run_is_said_in_a_sentence() {
    for (arguments, sentence) in [
        ("chaos --postgres off", "chaos needs a server"),
        ("chaos --postgres postgres://nobody@127.0.0.1:1/nothing", "cannot be reached"),
        ("chaos --faults thunder", "there is no fault \"thunder\"; there are process_kill, "),
        ("chaos --keep /nonexistent", "/nonexistent is no directory in which a history could be kept"),
        ("chaos --workload burst,slow-consumer", "chaos runs workflows, and slow-consumer has none: there are chain, "),
        ("chaos --seconds 3 --workflows 4", "cannot be used with"),
    ] {
        let said = tourbillon(arguments);
        assert_eq!(said.exit, Exit::CouldNotRun, "{arguments}");
        assert!(said.err.contains(sentence), "{arguments}: {}", said.err);
        assert_eq!(said.err.trim().lines().count(), 1, "{arguments}: {}", said.err);
    }
}
