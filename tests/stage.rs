//! What the tests play on: the workloads, the faults, a sweep that must be clean, and a real server.

use std::io::Write;
use std::ops::{ControlFlow, Range};
use tokio_postgres::config::Host;
use tourbillon::faults::FaultKind;
use tourbillon::generate::Limits;
use tourbillon::postgres::server::Server;
use tourbillon::simulate::Work;
use tourbillon::sweep::{Seeds, Setting, Shard, Swept, processors, sweep};
use tourbillon_engine::guard::Guards;
use tourbillon_models::workload::Workload;

/// All workloads, in the order in which seeds take turns in them.
pub fn works() -> Vec<Work> {
    Workload::ALL.iter().map(|workload| Work::named(workload.name()).expect("workloads have their names")).collect()
}

pub fn all_faults() -> Limits {
    Limits { faults: FaultKind::ALL.to_vec() }
}

pub fn seeds(range: Range<u64>) -> Seeds {
    Seeds { first: range.start, count: range.end - range.start, shard: Shard::WHOLE }
}

/// Sweeps the sound engine; any violation, unknown verdict, panic or second history of one plan is a failure.
#[track_caller]
pub fn clean_sweep(range: Range<u64>, limits: Limits, works: impl Fn() -> Vec<Work> + Sync) -> Swept {
    let setting = Setting { limits, guards: Guards::ALL };
    let swept = sweep(seeds(range), processors(), &setting, works, |_, _| ControlFlow::Continue(()));
    let found: Vec<String> = swept
        .found
        .iter()
        .map(|found| format!("seed {} ({}): {}", found.seed, found.workload, found.sentence))
        .collect();
    assert!(
        found.is_empty(),
        "{} of {} runs are broken:\n{}",
        swept.found_count,
        swept.sums.run_count(),
        found.join("\n")
    );
    assert_eq!(swept.first_unknown, None, "a run that was not judged");
    assert_eq!(swept.sums.not_deterministic(), [0; 0], "seeds that gave two histories");
    swept
}

/// A server as its users run it (logging table locks, vacuuming, slow to look for deadlocks), and how to connect to it as
/// somebody who may do no more than create a schema.
pub fn users_server() -> Option<(Server, String)> {
    server()?;
    let binaries = tourbillon::postgres::binaries::find().expect("there is a server");
    let settings = ["wal_level=replica", "autovacuum=on", "deadlock_timeout=1s", "max_wal_senders=10"];
    let server = Server::with_settings(&binaries, &settings).expect("a server starts");
    server.install("create role guest login; grant create on database postgres to guest").expect("it is ours");
    let Some(Host::Unix(path)) = server.config().get_hosts().first() else {
        panic!("a throw-away server has a socket")
    };
    let url = format!("host={} user=guest dbname=postgres", path.display());
    Some((server, url))
}

/// A throw-away server. Where there is none, says so past the test runner's capture; in CI that is a failure.
pub fn server() -> Option<Server> {
    match Server::embedded() {
        Ok(server) => Some(server),
        Err(error) if std::env::var_os("CI").is_some() => panic!("CI needs a PostgreSQL server: {error}"),
        Err(error) => {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            let _ = writeln!(std::io::stderr(), "\nNOT TESTED ON A REAL SERVER: {test}: {error}\n");
            None
        }
    }
}
