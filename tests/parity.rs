//! The store against a real server: random schedules of primitive statements, every reply, error and block compared.
//! Thousands of them are the nightly command's affair (`bench parity`). Beside them, in `parity/`, the shortest schedule
//! for each difference that was found, with one line that says what was wrong.

use crate::stage::server;
use std::path::Path;
use tourbillon::parity::schedule::Schedule;
use tourbillon::parity::{replay, sweep};
use tourbillon::postgres::one_cpu::OneCpu;

#[test]
fn the_store_answers_blocks_and_fails_as_postgresql_does() {
    let _one = OneCpu::claim();
    let Some(mut server) = server() else { return };
    let report = sweep(&mut server, 0..300, |_| {}).expect("the server stays");
    let told: Vec<String> = report.divergences.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{}", told.join("\n\n"));
    assert_eq!(report.schedules, 300);
}

#[test]
fn what_once_was_different_is_no_more() {
    let _one = OneCpu::claim();
    let Some(mut server) = server() else { return };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("parity");
    for entry in std::fs::read_dir(directory).expect("schedules are kept beside the tests") {
        let path = entry.expect("a directory can be read").path();
        let text = std::fs::read_to_string(&path).expect("a schedule is text");
        let schedule = Schedule::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if let Err(difference) = replay(&mut server, &schedule).expect("the server stays") {
            panic!("{}:\n{difference}", path.display());
        }
    }
}
