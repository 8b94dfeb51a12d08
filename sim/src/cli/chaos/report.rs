//! What a run of chaos came to: as text for people, as JSON for programs, and as an exit code.

use crate::chaos::blow::Kind;
use crate::chaos::{Broken, Figures, Judged, Plan};
use crate::cli::check::{story, tally};
use crate::cli::figures::{count, counted, rate, wall};
use crate::cli::saved::quoted;
use crate::cli::{Console, Exit};
use anyhow::Error;
use serde_json::{Map, Value, json};
use std::path::Path;
use tourbillon_engine::guard::Guard;
use tourbillon_models::name::Micros;
use tourbillon_models::verdict::Judgement;

pub struct Report<'a> {
    pub plan: &'a Plan,
    /// Of the rounds that came to an end.
    pub figures: &'a Figures,
    /// The server's.
    pub version: &'a str,
    pub broken: Option<&'a Broken>,
    /// Where its history lies.
    pub kept: Option<&'a Path>,
    /// Why there was not another round.
    pub cut_off: Option<&'a Error>,
}

impl Report<'_> {
    /// Says all of it, once.
    pub fn tell(&self, as_json: bool, console: &mut Console) -> Exit {
        if as_json {
            console.print_json(&self.json());
        } else {
            console.print(&self.summary());
            self.cut_off.iter().for_each(|error| console.print(&format!("CUT OFF in a later round: {error:#}\n")));
            self.broken.iter().for_each(|broken| console.print(&account(broken)));
            self.kept.iter().for_each(|path| {
                let check = format!("check {}", quoted(&path.display().to_string()));
                console.print(&(console.command(&check) + "\n"));
            });
        }
        match self.judgement() {
            Judgement::Holds => Exit::Clean,
            Judgement::Violated => Exit::Broken,
            Judgement::Unknown => Exit::Unknown,
        }
    }

    /// Of a run that was cut off nobody knows what it would have come to.
    fn judgement(&self) -> Judgement {
        let usual = if self.cut_off.is_some() { Judgement::Unknown } else { Judgement::Holds };
        self.broken.map_or(usual, Broken::judgement)
    }

    fn summary(&self) -> String {
        let Report { figures, version, .. } = self;
        let mut lines = vec![format!(
            "{} on PostgreSQL {version} in {}: {} and {}, {} records",
            counted(figures.rounds, "round"),
            wall(figures.wall),
            counted(figures.workflows, "workflow"),
            counted(figures.steps, "step"),
            count(figures.records),
        )];
        lines.push(format!(
            "until peace {} workflows/s, {} steps/s; between faults {} steps/s ({} in all)",
            count(rate(figures.shaken_workflows as f64, figures.shaken) as u64),
            count(rate(figures.shaken_steps as f64, figures.shaken) as u64),
            count(rate(figures.steady_steps as f64, figures.steady) as u64),
            wall(figures.steady),
        ));
        let faults: Vec<String> =
            figures.injected.iter().map(|(kind, n)| format!("{} {}", kind.name(), count(*n))).collect();
        lines.push(match faults.is_empty() {
            true => "no fault came about".to_owned(),
            false => format!("{}: {}", counted(figures.faults(), "fault"), faults.join(", ")),
        });
        let never: Vec<&str> = self.never().collect();
        if !never.is_empty() {
            lines.push(format!("never came about: {}", never.join(", ")));
        }
        lines.push(format!(
            "from a fault's end to the next step: p50 {}, p99 {}; from the last one's to nothing left: at most {}",
            millis(figures.recovery(50)),
            millis(figures.recovery(99)),
            millis(figures.drained_in),
        ));
        if figures.set_aside > 0 {
            let rounds = counted(figures.set_aside, "round");
            lines.push(format!("{rounds} set aside, and not judged: somebody set the server's calendar meanwhile"));
        }
        let of = |is: fn(&Judged) -> bool| -> Vec<&'static str> {
            figures.judged.iter().filter(|(_, judged)| is(judged)).map(|(property, _)| property.id()).collect()
        };
        let list = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(" ") };
        lines.push(format!("hold: {}", list(of(|it| it.violated == 0 && it.unknown == 0 && it.exercised > 0))));
        lines.push(format!(
            "without an occasion: {}",
            list(of(|it| it.violated == 0 && it.unknown == 0 && it.exercised == 0))
        ));
        lines.push(format!("unknown: {}", list(of(|it| it.violated == 0 && it.unknown > 0))));
        lines.push(format!("violated: {}", list(of(|it| it.violated > 0))));
        lines.join("\n") + "\n"
    }

    /// Faults that were to be drawn.
    fn never(&self) -> impl Iterator<Item = &'static str> {
        let is_due = |kind: &&Kind| **kind != Kind::ServerKill || self.plan.server_kills > 0;
        let never = |kind: &&Kind| self.figures.injected(**kind) == 0;
        self.plan.kinds.iter().filter(is_due).filter(never).map(|kind| kind.name())
    }

    fn json(&self) -> Value {
        let Report { plan, figures, version, broken, kept, cut_off } = self;
        let properties: Map<String, Value> = figures
            .judged
            .iter()
            .map(|(property, it)| {
                let told = json!({
                    "held": it.held, "unknown": it.unknown, "violated": it.violated, "exercised": it.exercised,
                });
                (property.id().to_owned(), told)
            })
            .collect();
        let faults: Map<String, Value> =
            figures.injected.iter().map(|(kind, count)| (kind.name().to_owned(), (*count).into())).collect();
        json!({
            "server": version,
            "seed": plan.seed,
            "without": plan.guards.removed().map(Guard::name).collect::<Vec<_>>(),
            "workloads": plan.works.iter().map(|work| work.name.as_str()).collect::<Vec<_>>(),
            "rounds": figures.rounds,
            "rounds_set_aside": figures.set_aside,
            "records": figures.records,
            "workflows": figures.workflows,
            "steps": figures.steps,
            "wall_seconds": figures.wall.as_secs_f64(),
            "shaken_seconds": figures.shaken.as_secs_f64(),
            "workflows_per_second": rate(figures.shaken_workflows as f64, figures.shaken),
            "steps_per_second": rate(figures.shaken_steps as f64, figures.shaken),
            "steps_per_second_between_faults": rate(figures.steady_steps as f64, figures.steady),
            "seconds_between_faults": figures.steady.as_secs_f64(),
            "faults": faults,
            "never_came_about": self.never().collect::<Vec<_>>(),
            "recovery_p50_us": figures.recovery(50).map(|it| it.0),
            "recovery_p99_us": figures.recovery(99).map(|it| it.0),
            "longest_drain_us": figures.drained_in.map(|it| it.0),
            "judgement": self.judgement().name(),
            // Of the last round: whether nothing was left to do in the end; null if it was cut off.
            "drained": cut_off.is_none().then(|| broken.is_none_or(|broken| broken.is_drained)),
            "amiss": broken.map_or(&[][..], |broken| &broken.amiss),
            "broken_round": broken.map(|broken| broken.round),
            "cut_off": cut_off.map(|error| format!("{error:#}")),
            "violations": broken.map_or_else(Vec::new, |it| it.verdict.violations().map(ToString::to_string).collect()),
            "history": kept.map(|path| path.display().to_string()),
            "properties": properties,
        })
    }
}

fn account(broken: &Broken) -> String {
    let Broken { round, history, verdict, is_drained, amiss } = broken;
    let end = if *is_drained { "" } else { "; it never came to its end" };
    let amiss: String = amiss.iter().map(|sentence| sentence.clone() + "\n").collect();
    format!("\nRound {round}: {}{end}\n{amiss}{}", tally(history, verdict).trim_end(), story(history, verdict, None))
}

fn millis(time: Option<Micros>) -> String {
    time.map_or("-".to_owned(), |time| format!("{:.0} ms", time.0 as f64 / 1e3))
}
