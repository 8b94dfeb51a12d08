//! The scripts in `engine/sql`, with guards removed and the schema renamed.
//!
//! A guard in SQL is a line that ends in `-- guard: name`, or the lines between `-- guard: name begin` and
//! `-- guard: name end`. Removed, it is gone, and the text after `-- without name:` stands in its place. Nothing else
//! is changed: the script of the sound engine is the files as they are.

use crate::guard::{Guard, Guards};
use alloc::format;
use alloc::string::String;

/// The schema's name in the files.
const SCHEMA: &str = "tourbillon";

const ENGINE: [&str; 17] = [
    include_str!("../../sql/schema.sql"),
    include_str!("../../sql/clock.sql"),
    include_str!("../../sql/queue.sql"),
    include_str!("../../sql/producer.sql"),
    include_str!("../../sql/timer.sql"),
    include_str!("../../sql/drain.sql"),
    include_str!("../../sql/dead_letter.sql"),
    include_str!("../../sql/end.sql"),
    include_str!("../../sql/isolation.sql"),
    include_str!("../../sql/worker.sql"),
    include_str!("../../sql/audit.sql"),
    include_str!("../../sql/emit.sql"),
    include_str!("../../sql/wait.sql"),
    include_str!("../../sql/join.sql"),
    include_str!("../../sql/handoff.sql"),
    include_str!("../../sql/observe.sql"),
    include_str!("../../sql/views.sql"),
];
/// After everything else that is created.
const GRANTS: &str = include_str!("../../sql/grants.sql");
const DELAYED_ROTATION: &str = include_str!("../../sql/designs/delayed_rotation.sql");
const ROLES: &str = include_str!("../../sql/roles.sql");
const REPLAY: &str = include_str!("../../sql/replay.sql");
const WORKLOAD: &str = include_str!("../../sql/workload.sql");

/// The engine, as a script for a schema that is there and empty. Run it in one transaction.
///
/// # Panics
/// If [`is_schema_name`] says no.
pub fn install(schema: &str, guards: Guards) -> String {
    in_schema(&engine(guards), schema)
}

/// Whether a script makes the two roles to which people who log in are to be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Roles {
    /// Roles belong to the whole server.
    LeftAlone,
    Made,
}

/// The two roles, and what they may do in a schema: after [`install`], by somebody who may create roles.
///
/// # Panics
/// If [`is_schema_name`] says no.
pub fn roles(schema: &str) -> String {
    in_schema(ROLES, schema)
}

/// The engine, as one transaction that also creates the schema: where there is one of that name, nothing is done.
///
/// # Panics
/// If [`is_schema_name`] says no.
pub fn script(schema: &str, guards: Guards, roles: Roles) -> String {
    let mut engine = engine(guards);
    if roles == Roles::Made {
        engine.push('\n');
        engine.push_str(ROLES);
    }
    let script = format!("begin;\n\ncreate schema {SCHEMA};\n\n{engine}\ncommit;\n");
    assert_schema_name(schema);
    // A name may be a word of the language, which only quotes make a name; which words are depends on the version.
    if schema == SCHEMA { script } else { renamed(&script, &format!("\"{schema}\"")) }
}

fn engine(guards: Guards) -> String {
    let mut script = ENGINE.map(|file| without_removed(file, guards)).join("\n");
    if !guards.on(Guard::TimersRideTicks) {
        script.push('\n');
        script.push_str(&without_removed(DELAYED_ROTATION, guards));
    }
    script.push('\n');
    script.push_str(GRANTS);
    script
}

/// Replaces the clocks by one that a test sets, in microseconds since the Unix epoch:
/// `select setval('SCHEMA.virtual_clock', 42)`. And gives workflows ids in the order of their making. After [`install`],
/// never in production.
pub fn replay(schema: &str, server_major: u32) -> String {
    let script = in_schema(REPLAY, schema);
    match server_major {
        ..15 => script.replace("create unlogged sequence", "create sequence"),
        15.. => script,
    }
}

/// The application's ledger, and what a test does and asks beside the engine. After [`install`], never in production.
pub fn workload(schema: &str) -> String {
    in_schema(WORKLOAD, schema)
}

/// Whether the scripts can be installed under this name: it is the same with quotes and without, unless it is a word of
/// the language.
pub fn is_schema_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.chars().all(is_identifier)
        && !name.starts_with("pg_")
}

/// The text with the schema's name in the place of `tourbillon`, where that stands as a word.
pub(super) fn in_schema(text: &str, schema: &str) -> String {
    assert_schema_name(schema);
    renamed(text, schema)
}

fn assert_schema_name(schema: &str) {
    assert!(is_schema_name(schema), "{schema:?} cannot be used as the name of a schema without quotes");
}

fn renamed(text: &str, schema: &str) -> String {
    let mut renamed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(SCHEMA) {
        let (before, found) = rest.split_at(at);
        let after = &found[SCHEMA.len()..];
        let is_word = !before.ends_with(is_identifier) && !after.starts_with(is_identifier);
        renamed.push_str(before);
        renamed.push_str(if is_word { schema } else { SCHEMA });
        rest = after;
    }
    renamed.push_str(rest);
    renamed
}

fn is_identifier(letter: char) -> bool {
    letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_'
}

/// What a line says about a guard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mark<'a> {
    None,
    Line(Guard),
    Begin(Guard),
    End(Guard),
    /// What takes the guard's place.
    Without(Guard, &'a str),
}

fn mark(line: &str) -> Mark<'_> {
    if let Some((_, said)) = line.split_once("-- without ") {
        let (name, replacement) = said.split_once(": ").unwrap_or((said, ""));
        return Mark::Without(named(name), replacement);
    }
    let Some((_, said)) = line.split_once("-- guard: ") else { return Mark::None };
    match said.split_once(' ') {
        None => Mark::Line(named(said)),
        Some((name, "begin")) => Mark::Begin(named(name)),
        Some((name, "end")) => Mark::End(named(name)),
        Some(_) => panic!("a guard's mark is a name, or a name and begin or end: {line:?}"),
    }
}

fn named(name: &str) -> Guard {
    Guard::by_name(name).unwrap_or_else(|| panic!("the SQL names a guard that does not exist: {name:?}"))
}

fn without_removed(file: &str, guards: Guards) -> String {
    let mut kept = String::with_capacity(file.len());
    let mut inside: Option<Guard> = None;
    for line in file.lines() {
        let mark = mark(line);
        match mark {
            Mark::Begin(guard) if !guards.on(guard) => inside = Some(guard),
            Mark::End(guard) if inside == Some(guard) => inside = None,
            Mark::Line(guard) if !guards.on(guard) => {}
            Mark::Without(guard, replacement) if !guards.on(guard) => {
                let indent = line.len() - line.trim_start().len();
                kept.push_str(&format!("{}{replacement}\n", &line[..indent]));
            }
            _ if inside.is_some() => {}
            _ => {
                kept.push_str(line);
                kept.push('\n');
            }
        }
    }
    assert!(inside.is_none(), "the block of guard {inside:?} does not end");
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn sound() -> String {
        [&ENGINE[..], &[GRANTS]].concat().join("\n")
    }

    fn all_files() -> Vec<&'static str> {
        ENGINE.into_iter().chain([GRANTS, ROLES, REPLAY, WORKLOAD]).collect()
    }

    #[test]
    fn the_sound_script_is_the_files() {
        assert_eq!(install("tourbillon", Guards::ALL), sound());
    }

    #[test]
    fn every_guard_stands_in_the_sql_and_can_be_removed() {
        let sound = install("tourbillon", Guards::ALL);
        for guard in Guard::ALL {
            let mutant = install("tourbillon", Guards::without(&[guard]));
            assert_ne!(sound, mutant, "{}", guard.name());
            let is_mark = |line: &&str| line.contains("-- guard: ") || line.contains("-- without ");
            let left: Vec<&str> = mutant.lines().filter(is_mark).filter(|line| line.contains(guard.name())).collect();
            assert!(left.is_empty(), "{} left {left:?}", guard.name());
            let is_about = |line: &str| mark(line) != Mark::None || line.trim().is_empty();
            let is_of_design = |line| guard == Guard::TimersRideTicks && DELAYED_ROTATION.contains(line);
            let is_known = |line| sound.contains(line) || replaces(guard, line) || is_of_design(line);
            assert!(mutant.lines().all(|line| is_about(line) || is_known(line)));
        }
    }

    fn replaces(guard: Guard, line: &str) -> bool {
        ENGINE.join("\n").contains(&format!("-- without {}: {}", guard.name(), line.trim_start()))
    }

    #[test]
    fn every_guard_that_the_sql_names_exists() {
        all_files().into_iter().flat_map(str::lines).for_each(|line| {
            mark(line);
        });
    }

    #[test]
    fn a_guard_is_a_line_a_replaced_line_or_a_block() {
        let file = "a\n  b -- guard: claim_lock\n  -- without claim_lock: c\n-- guard: tick_lock begin\nd\n-- guard: tick_lock end\ne\n";
        assert_eq!(without_removed(file, Guards::ALL), file);
        let without = |guard| without_removed(file, Guards::without(&[guard]));
        assert_eq!(without(Guard::ClaimLock), "a\n  c\n-- guard: tick_lock begin\nd\n-- guard: tick_lock end\ne\n");
        assert_eq!(without(Guard::TickLock), "a\n  b -- guard: claim_lock\n  -- without claim_lock: c\ne\n");
    }

    #[test]
    fn the_schema_can_have_another_name() {
        let script = install("other", Guards::ALL);
        assert!(!script.contains("tourbillon."), "a name was left behind");
        assert!(script.contains("'other.tick'::regclass"));
        assert_eq!(
            in_schema("tourbillon.x tourbillon_y atourbillon", "tourbillon_s"),
            "tourbillon_s.x tourbillon_y atourbillon"
        );
    }

    #[test]
    fn what_is_printed_is_one_transaction_that_creates_the_schema() {
        let own = script("tourbillon", Guards::ALL, Roles::LeftAlone);
        assert_eq!(
            own,
            format!(
                "begin;\n\ncreate schema tourbillon;\n\n{}\ncommit;\n",
                [&ENGINE[..], &[GRANTS]].concat().join("\n")
            )
        );
        let other = script("select", Guards::ALL, Roles::Made);
        assert!(other.contains("create schema \"select\";") && other.contains("'\"select\".tick'::regclass"));
        assert!(!other.contains("tourbillon."), "a name was left behind");
        assert!(!own.contains("create role") && other.contains("to tourbillon_worker"));
    }

    /// What is created later is not taken from PUBLIC; that all before is, is asked of a server.
    #[test]
    fn whatever_is_created_is_there_before_it_is_taken_from_public() {
        for removed in Guard::ALL {
            assert!(engine(Guards::without(&[removed])).ends_with(GRANTS), "{}", removed.name());
        }
    }

    #[test]
    fn a_schema_is_named_without_quotes() {
        for name in ["tourbillon", "t_1", "_x"] {
            assert!(is_schema_name(name), "{name}");
        }
        for name in ["", "Tourbillon", "a b", "1a", "a\"", "pg_x", "é"] {
            assert!(!is_schema_name(name), "{name}");
        }
    }

    #[test]
    fn version_14_has_no_unlogged_sequences() {
        assert!(replay("tourbillon", 15).contains("create unlogged sequence"));
        assert!(!replay("tourbillon", 14).contains("unlogged sequence tourbillon"));
    }
}
