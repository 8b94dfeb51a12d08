//! README.md, held to its word: its example is compiled and run here, and its caught bug is caught again.

// On a page there is no room for a line per brace.
#[rustfmt::skip]
mod checkout;

pub use checkout::Checkout;

const README: &str = include_str!("../README.md");

#[test]
fn the_example_is_the_one_that_is_run_here() {
    let code = include_str!("readme/checkout.rs").replace("pub struct", "struct");
    assert!(README.contains(code.trim()), "README.md and tests/readme/checkout.rs differ");
}
