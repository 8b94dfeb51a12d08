//! Bytes → text → history → text. The decoder never panics, and what it reads it writes as it was.

use tourbillon_models::history::History;
use tourbillon_models::property::Checker;

/// # Panics
/// If a history that was read is written and read again as another, or is not judged.
pub fn run(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    let Ok(history) = History::read(text) else { return };
    let written = history.lines().collect::<Vec<_>>().join("\n");
    let again = History::read(&written).unwrap_or_else(|error| panic!("{error}, in what was written:\n{written}"));
    // Lists lie in the arenas in the order in which they were read.
    assert_eq!(again, history, "{written}");
    assert_eq!(again.lines().collect::<Vec<_>>().join("\n"), written);
    assert_eq!(again.hash(), history.hash());
    // Nor does the checker panic, whatever the text says.
    Checker::new().check(&history);
}
