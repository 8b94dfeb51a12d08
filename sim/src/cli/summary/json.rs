//! The summary of a run as one JSON value. What it says of failures is what was saved of them.

use super::Report;
use crate::capsule::Tool;
use crate::cli::Console;
use crate::cli::replayed::Replayed;
use crate::cli::saved::Saved;
use crate::difference::Difference;
use crate::lockstep::Counts;
use crate::simulate::On;
use crate::sweep::Swept;
use serde_json::{Value, json};
use std::time::Duration;
use tourbillon_models::property::{Goals, Property, Reach};
use tourbillon_models::verdict::Judgement;

impl Report<'_> {
    pub fn json(&self, console: &Console) -> Value {
        let Swept { sums, calls, simulated_us, .. } = &self.part.swept;
        let reach: serde_json::Map<String, Value> =
            self.reach().into_iter().map(|(name, count)| (name, count.into())).collect();
        let differences: Vec<Value> = self.part.swept.differences.iter().map(|(seed, difference)| {
            let Difference { record, before, sides } = difference;
            json!({"seed": seed, "record": record, "before": before, "sides": sides, "again": self.again(*seed, console)})
        }).collect();
        let net = &self.part.swept.net;
        let network = json!({
            "seeds": net.runs, "simulated_seconds": net.simulated_us as f64 / 1e6, "history_hash": format!("{:016x}", net.hash),
        });
        json!({
            "tool": Tool::this(),
            "first_seed": self.part.first_seed,
            "seeds": sums.run_count(),
            "workloads": self.scope.draw.workloads(),
            "without": self.scope.guards().removed().map(|guard| guard.name()).collect::<Vec<_>>(),
            "calls": calls,
            "records": sums.record_count(),
            "simulated_seconds": *simulated_us as f64 / 1e6,
            "wall_seconds": self.part.wall.as_secs_f64(),
            "sweep_seconds": self.part.swept_in.as_secs_f64(),
            "network": network,
            "run_twice": self.part.swept.repeated,
            "not_deterministic": sums.not_deterministic(),
            "differences": differences,
            "unknown": sums.judged(Judgement::Unknown),
            "violation_count": self.part.swept.found_count,
            "violations": self.violations(console),
            "reach": reach,
            "never_reached": self.never_reached(),
            "never_exercised": self.never_exercised(),
            "vacuous": self.vacuous().is_some(),
            "replay": self.replay_json(console),
            "part": self.part,
        })
    }

    /// Those of the sweep that it describes, then what was saved of the others.
    pub(super) fn violations(&self, console: &Console) -> Vec<Value> {
        let is_swept = |saved: &&Saved| saved.target != "lockstep";
        let swept = self.part.swept.found.iter().map(|found| {
            let saved = self.failures.iter().filter(is_swept).find(|saved| saved.seed == found.seed);
            let again = saved.map_or_else(|| self.again(found.seed, console), |saved| saved.command(console));
            json!({"seed": found.seed, "workload": found.workload, "target": self.target(found.seed),
                   "properties": ids(&found.broken), "sentence": saved.map_or(&found.sentence, |saved| &saved.sentence),
                   "capsule": saved.and_then(Saved::path), "again": again})
        });
        let is_told =
            |saved: &Saved| is_swept(&saved) && self.part.swept.found.iter().any(|found| found.seed == saved.seed);
        let others = self.failures.iter().filter(|saved| !saved.broken.is_empty() && !is_told(saved));
        swept.chain(others.map(|saved| saved_json(saved, console))).collect()
    }

    /// Where a seed was swept.
    fn target(&self, seed: u64) -> &'static str {
        let is_net = self.scope.draw.depth().is_none() && self.scope.draw.place_or(On::Both).is_net(seed);
        if is_net { "net" } else { "direct" }
    }

    fn replay_json(&self, console: &Console) -> Value {
        let divergences: Vec<Value> = self.divergences().map(|saved| saved_json(saved, console)).collect();
        let (version, histories, counts, goals, time, skipped) = match &self.part.replayed {
            Replayed::On { server_version, histories, counts, goals, wall, stopped } => {
                (server_version.as_deref(), *histories, *counts, *goals, *wall, stopped.as_deref())
            }
            Replayed::Off => (None, 0, Counts::default(), Goals::default(), Duration::ZERO, Some(self.why_not())),
        };
        let is_missed = |goal: &&Reach| version.is_some() && !goals.has(**goal);
        let never = Reach::ANYWHERE.iter().filter(is_missed).map(|goal| goal.name());
        json!({
            "histories": histories,
            "statements": counts.statements,
            "blocked": counts.blocked,
            "crashes": counts.crashes,
            "lost_commits": counts.lost_commits,
            "choices": counts.choices,
            "never_reached": never.collect::<Vec<_>>(),
            "divergences": divergences,
            "not_comparable": counts.not_comparable,
            "server_version": version,
            "wall_seconds": time.as_secs_f64(),
            "skipped": skipped,
        })
    }
}

fn saved_json(saved: &Saved, console: &Console) -> Value {
    json!({"seed": saved.seed, "workload": saved.workload, "target": saved.target, "properties": ids(&saved.broken),
           "sentence": saved.sentence, "capsule": saved.path(), "again": saved.command(console)})
}

fn ids(properties: &[Property]) -> Vec<&'static str> {
    properties.iter().map(|property| property.id()).collect()
}
