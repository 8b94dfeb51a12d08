//! What is more than the engine takes is refused with 54000, and nothing of it is stored.

use super::{Decision, Site, Who};
use tokio_postgres::error::SqlState;

const LIMIT: &SqlState = &SqlState::PROGRAM_LIMIT_EXCEEDED;

/// What somebody who is refused could have left.
fn stored(site: &Site) -> String {
    let sql = "select
                 (select count(*) from tourbillon.box),
                 (select count(*) from tourbillon.emitted),
                 (select count(*) from tourbillon.audit),
                 (select count(*) from tourbillon.workflow),
                 (select count(*) from tourbillon.start_key),
                 (select count(*) from tourbillon.open_join),
                 (select count(*) from tourbillon.event_1_0),
                 (select count(*) from tourbillon.event_2_0),
                 (select count(*) from tourbillon.timer_1_0),
                 (select count(*) from tourbillon.timer_2_0)";
    site.one(Who::Owner, sql)
}

fn emit(workflow: &str, name: &str, payload: &str, emit: &str, actor: &str) -> String {
    format!("select answer from tourbillon.emit('{workflow}', {name}, {payload}, {emit}, null, {actor})")
}

#[test]
fn what_comes_from_outside_is_limited_in_its_bytes() {
    let Some(site) = Site::new() else { return };
    let before = stored(&site);
    for call in [
        "append('mail', repeat('m', 1048577))",
        "schedule('mail', repeat('m', 1048577), '1h')",
        "start('orders', 'k', 'begin', repeat('s', 1048577))",
        "start('orders', repeat('k', 201), 'begin', 's')",
        "start('orders', 'k', repeat('b', 201), 's')",
    ] {
        site.refused(Who::Client, &format!("select tourbillon.{call}"), LIMIT);
        assert_eq!(stored(&site), before, "{call}");
    }
    site.told(
        Who::Client,
        "select tourbillon.start('orders', repeat('k', 200), repeat('b', 200), repeat('s', 1048576))",
    );
}

#[test]
fn an_emit_is_limited_in_its_bytes() {
    let Some(site) = Site::new() else { return };
    let workflow = site.start("k", "s");
    let before = stored(&site);
    for (name, payload, id, actor) in [
        ("'n'", "repeat('p', 1048577)", "'e'", "'a'"),
        ("repeat('n', 201)", "'p'", "'e'", "'a'"),
        ("'n'", "'p'", "repeat('e', 201)", "'a'"),
        ("'n'", "'p'", "'e'", "repeat('a', 201)"),
        // Two bytes each.
        ("repeat('é', 101)", "'p'", "'e'", "'a'"),
    ] {
        site.refused(Who::Client, &emit(&workflow, name, payload, id, actor), LIMIT);
        assert_eq!(stored(&site), before);
    }
    let most = emit(&workflow, "repeat('n', 200)", "repeat('p', 1048576)", "repeat('e', 200)", "repeat('a', 200)");
    assert_eq!(site.one(Who::Client, &most), "promised");
}

#[test]
fn a_workflow_is_promised_64_things_at_a_time() {
    let Some(site) = Site::new() else { return };
    let (workflow, other) = (site.start("k", "s"), site.start("l", "s"));
    let promise =
        |workflow: &str, index: u32| emit(workflow, &format!("'{index}'"), "'p'", &format!("'{index}'"), "'a'");
    for index in 0..64 {
        assert_eq!(site.one(Who::Client, &promise(&workflow, index)), "promised");
    }
    let before = stored(&site);
    site.refused(Who::Client, &promise(&workflow, 64), LIMIT);
    assert_eq!(stored(&site), before);
    assert_eq!(site.one(Who::Client, &promise(&other, 64)), "promised");
    assert_eq!(site.one(Who::Client, &emit(&workflow, "'5'", "'p'", "'once more'", "'a'")), "second");
}

#[test]
fn a_handoff_is_limited_in_its_children_names_and_bytes() {
    let Some(site) = Site::new() else { return };
    site.told(Who::Worker, "select tourbillon.register('shop')");
    site.start("k", "s");
    let window = site.window();
    let event = &window.events[0];
    let before = stored(&site);

    let spawn = |count: u32| -> Vec<Decision<'_>> {
        let children = (0..count).map(|place| event.child(place, "s"));
        core::iter::once(event.then("spawn", "join", "s")).chain(children).collect()
    };
    assert_eq!(site.hand_off(&window, &spawn(1025)).err().as_ref(), Some(LIMIT));
    let name = "n".repeat(201);
    let wait = Decision { name: &name, ..event.then("await", "go", "s") };
    assert_eq!(site.hand_off(&window, &[wait]).err().as_ref(), Some(LIMIT));
    let large = "s".repeat(1_048_577);
    for verb in ["goto", "sleep", "complete"] {
        let decision = event.then(verb, "next", &large);
        assert_eq!(site.hand_off(&window, &[decision]).err().as_ref(), Some(LIMIT), "{verb}");
    }
    assert_eq!(stored(&site), before);

    let largest = Decision { state: &large[1..], ..spawn(1024)[0].clone() };
    site.handed_off(&window, &[&[largest], &spawn(1024)[1..]].concat());
    assert_eq!(site.window().events.len(), 1024);
}
