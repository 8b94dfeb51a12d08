//! A history as a file: cut off, malformed, or from a newer version, it is refused in a sentence that names the line.
//! That it survives writing and reading is shown in `plans`, on histories nobody chose.

use crate::stage::{all_faults, works};
use tourbillon::simulate::Simulator;
use tourbillon_engine::guard::Guards;
use tourbillon_models::history::History;
use tourbillon_models::property::{Checker, Kind};
use tourbillon_models::verdict::Judgement;

fn lines() -> Vec<String> {
    let work = &works()[0];
    let mut simulator = Simulator::default();
    simulator.run(&work.plan(1, &all_faults()), work, Guards::ALL);
    simulator.history().lines().collect()
}

fn refusal(lines: &[String]) -> String {
    History::read(&lines.join("\n")).expect_err("this is no history").to_string()
}

#[test]
fn a_malformed_line_is_named() {
    let mut lines = lines();
    lines[41] = "{\"at\": \"noon\"}".to_owned();
    assert!(refusal(&lines).starts_with("line 42: "), "{}", refusal(&lines));
    lines[41] = "hello".to_owned();
    assert!(refusal(&lines).starts_with("line 42: "), "{}", refusal(&lines));
}

#[test]
fn a_line_cut_in_the_middle_is_named() {
    let mut lines = lines();
    lines.truncate(100);
    let cut = lines[99].len() / 2;
    lines[99].truncate(cut);
    assert!(refusal(&lines).starts_with("line 100: "), "{}", refusal(&lines));
}

#[test]
fn nothing_is_no_history() {
    assert_eq!(refusal(&[]), "line 1: the history is empty");
    assert_eq!(refusal(&[String::new(), String::new()]), "line 1: the history is empty");
    assert!(refusal(&["{}".to_owned()]).starts_with("line 1: "));
    assert!(refusal(&lines()[1..]).starts_with("line 1: "), "a history without its header");
}

#[test]
fn what_follows_the_state_or_repeats_the_header_is_refused() {
    let mut lines = lines();
    lines.push(lines[5].clone());
    assert_eq!(refusal(&lines), format!("line {}: nothing may follow the state line", lines.len()));
    let mut lines = self::lines();
    lines.insert(7, lines[0].clone());
    assert_eq!(refusal(&lines), "line 8: a second header");
}

#[test]
fn a_newer_history_is_refused_as_newer() {
    let mut lines = lines();
    lines[0] = lines[0].replacen("\"format\":1", "\"format\":2", 1);
    assert_eq!(refusal(&lines), "line 1: format 2 is newer than 1, the newest this version reads");
}

#[test]
fn a_history_that_stops_early_is_judged_for_safety_and_unknown_for_the_rest() {
    let lines = lines();
    let cut = History::read(&lines[..lines.len() / 2].join("\n")).expect("whole lines are a history");
    let verdict = Checker::new().check(&cut);
    assert_eq!(verdict.judgement(), Judgement::Unknown);
    for finding in verdict.findings() {
        let is_end = finding.property.kind() == Kind::End;
        let expected = if is_end { Judgement::Unknown } else { finding.judgement };
        assert_eq!(finding.judgement, expected, "{}", finding.property);
        assert_ne!(finding.judgement, Judgement::Violated, "{}", finding.property);
    }
}
