//! What the fuzzer has kept, through the same functions, without the fuzzer.

use std::path::Path;
use tourbillon::fuzz;

fn replay(target: &str, run: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a directory can be read").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", directory.display());
    for path in paths {
        run(&std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    }
}

#[test]
fn plans() {
    replay("plan", fuzz::plan::run);
}

#[test]
fn histories() {
    replay("history", fuzz::history::run);
}

#[test]
fn checker() {
    replay("checker", fuzz::checker::run);
}

#[test]
fn mapping() {
    replay("mapping", fuzz::mapping::run);
}
