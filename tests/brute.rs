//! The checker against the definitions, on small histories.

use crate::stage::{all_faults, works};
use std::collections::BTreeMap;
use tourbillon::plan::{Plan, Role};
use tourbillon::simulate::Simulator;
use tourbillon_engine::actors::script::ScriptOptions;
use tourbillon_engine::guard::{Guard, Guards};
use tourbillon_models::brute::{COVERED, judge};
use tourbillon_models::history::History;
use tourbillon_models::property::Checker;
use tourbillon_models::verdict::Judgement;

fn small(plan: &mut Plan) {
    for process in &mut plan.processes {
        if let Role::Script(ScriptOptions::Once { rounds }) = &mut process.role
            && process.name != "setup"
        {
            rounds.truncate(3);
        }
    }
}

pub fn differences(history: &History) -> Vec<String> {
    let verdict = Checker::new().check(history);
    let opinion = judge(history);
    let mut told = Vec::new();
    for property in COVERED {
        let (checker, brute) = (verdict.of(property).judgement, opinion.of(property).unwrap());
        let agrees = match brute {
            Judgement::Violated | Judgement::Holds => checker == brute,
            Judgement::Unknown => true,
        };
        if !agrees {
            let says = verdict.of(property).violations.first().map(|it| it.sentence.clone()).unwrap_or_default();
            let evidence = opinion.evidence(property).next().unwrap_or_default().to_owned();
            told.push(format!("{property} checker {checker:?} [{says}], brute {brute:?} [{evidence}]"));
        }
    }
    told
}

#[test]
fn explore() {
    let n: u64 = std::env::var("N").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let sound = std::env::var("SOUND").is_ok();
    let mut counts: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let (mut judged, mut records, mut known, mut broken) = (0u64, 0u64, 0u64, 0u64);
    for seed in 0..n {
        let work = &works()[seed as usize % works().len()];
        let mut plan = work.plan(seed, &all_faults());
        small(&mut plan);
        let guards = if sound { Guards::ALL } else { Guards::without(&[Guard::ALL[(seed / 23) as usize % 50]]) };
        let mut simulator = Simulator::default();
        simulator.run(&plan, work, guards);
        let history = simulator.history();
        if history.records.len() > 1000 {
            continue;
        }
        judged += 1;
        if let Ok(dir) = std::env::var("DUMP") {
            let removed: Vec<_> = guards.removed().map(|guard| guard.name()).collect();
            let name = format!("{dir}/{seed}-{}-{}.jsonl", work.name, removed.join("+"));
            std::fs::write(name, history.lines().collect::<Vec<_>>().join("\n")).unwrap();
            continue;
        }
        records += history.records.len() as u64;
        let opinion = judge(history);
        known += COVERED.iter().filter(|it| opinion.of(**it) == Some(Judgement::Holds)).count() as u64;
        broken += COVERED.iter().filter(|it| opinion.of(**it) == Some(Judgement::Violated)).count() as u64;
        for difference in differences(history) {
            let removed: Vec<_> = guards.removed().map(|guard| guard.name()).collect();
            let key = difference.split(" [").next().unwrap().to_owned();
            let entry = counts.entry(key).or_default();
            entry.0 += 1;
            if entry.0 <= 2 { entry.1.push_str(&format!("\n     seed {seed} {} {removed:?} {difference}", work.name)); }
        }
    }
    eprintln!("{judged} judged, {records} records, {known} hold, {broken} broken");
    for (key, (count, first)) in counts {
        eprintln!("{count} {key} {first}");
    }
}
