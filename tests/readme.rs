//! README.md, held to its word: its example is compiled and run here, and its caught bug is caught again.

// On a page there is no room for a line per brace.
#[rustfmt::skip]
mod checkout;

pub use checkout::Checkout;

use crate::cli::tourbillon;
use tourbillon::cli::Exit;

const README: &str = include_str!("../README.md");

#[test]
fn the_example_is_the_one_that_is_run_here() {
    let code = include_str!("readme/checkout.rs").replace("pub struct", "struct");
    assert!(README.contains(code.trim()), "README.md and tests/readme/checkout.rs differ");
}

/// The command, and the violation that it tells last: drawn above it by hand as a timeline.
#[test]
fn the_caught_bug_is_caught_again() {
    let command = README.lines().find_map(|line| line.strip_prefix("$ cargo run --release -- replay "));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = format!("--capsules {}", directory.path().display());
    let said = tourbillon(&format!("replay {} {options}", command.expect("README shows how")));
    assert_eq!(said.exit, Exit::Broken);
    let told = said.out.split("\n\nsaved as ").next().unwrap_or_default();
    let story: Vec<&str> = told.rsplitn(3, "\n\n").take(2).collect();
    let story = format!("{}\n\n{}", story[1], story[0]);
    assert!(README.contains(&story), "README.md shows something else than:\n{story}");
}
