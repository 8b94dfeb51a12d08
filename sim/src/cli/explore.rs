//! `explore`: all schedules of a small configuration, up to bounds, and what was covered.
//!
//! It says what it did, and no more: the configuration, the bounds, and whether the search came to its end. A violation is
//! saved and told like any other.

use super::figures::{count, counted, rate, wall};
use super::saved::{self, Circumstances, Saved};
use super::{Console, Exit, name, scope};
use crate::explore::{Configuration, Covered, Exploration, Failure, HABITS, Limit, Pruning, Stop, TURNS, explore};
use crate::faults::FaultKind;
use crate::generate::Limits;
use crate::replay::Replay;
use crate::simulate::Work;
use crate::target::Chooser;
use anyhow::{Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use tourbillon_engine::guard::{Guard, Guards};

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// The workload: single, pair, apart or ask, or any other with patience
    #[arg(long, value_name = "NAME", default_value = "pair", value_parser = name::any_workload)]
    workload: &'static str,
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    workers: u8,
    /// How many workflows, or messages, each begun by a client of its own
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    workflows: u8,
    /// At most so many faults in a schedule
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=4))]
    faults: u8,
    /// Kinds of fault: worker_crash, worker_pause, lost_reply, server_crash, each anywhere; claim_in_transaction, partial_handoff,
    /// forgotten_handoff, duty_repeatable_read, in every schedule
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', default_value = "worker_crash")]
    fault_kinds: Vec<name::FaultName>,
    /// At most so often does another go on while the one who made the last call could: a number, or unbounded
    #[arg(long, value_name = "N", default_value = "2", value_parser = bound)]
    preemptions: Bound,
    /// Faults end after so many epochs of 10 ms
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1000))]
    epochs: u32,
    /// Guards to remove
    #[arg(long, value_name = "GUARD,…", value_delimiter = ',', value_parser = name::guard)]
    without: Vec<Guard>,
    /// Stop after so many states
    #[arg(long, value_name = "STATES", default_value_t = 50_000_000, value_parser = name::at_least_one)]
    limit: u64,
    /// Stop after so long
    #[arg(long, value_name = "S", default_value_t = 600, value_parser = name::at_least_one)]
    seconds: u64,
    #[command(flatten)]
    saved: saved::Arguments,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Bound(Option<u8>);

fn bound(text: &str) -> Result<Bound, String> {
    match text {
        "unbounded" => Ok(Bound(None)),
        text => text
            .parse()
            .map(|bound| Bound(Some(bound)))
            .map_err(|_| format!("{text:?} is not a number up to 255, or unbounded")),
    }
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    let configuration = configuration(arguments)?;
    arguments.saved.place.look(console);
    let Some(work) = Work::named(arguments.workload) else { bail!("there is no workload {:?}", arguments.workload) };
    let guards = Guards::without(&arguments.without);
    let until = Instant::now().checked_add(Duration::from_secs(arguments.seconds));
    let exploration = Exploration {
        configuration: &configuration,
        work: &work,
        guards,
        pruning: Pruning::States,
        limit: Limit { states: arguments.limit, until },
        stop: Stop::AtViolation,
    };
    if !arguments.json {
        console.print(&(heading(arguments, &configuration, guards) + "\n"));
    }
    let bar = console.bar(arguments.limit, "explored");
    let covered = explore(&exploration, |covered| {
        bar.set_position(covered.states);
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    let failure = covered.first.as_ref().map(|failure| save(failure, &work, guards, arguments));
    match arguments.json {
        true => console.print_json(&json(arguments, &configuration, &covered, failure.as_ref())),
        false => console.print(&figures(&covered, &configuration)),
    }
    if let Some(saved) = &failure {
        let text = saved.text(console);
        if arguments.json { console.say(text.trim()) } else { console.print(&text) }
    }
    Ok(match (covered.first.is_some(), covered.is_complete && covered.unknown == 0) {
        (true, _) => Exit::Broken,
        (false, true) => Exit::Clean,
        (false, false) => Exit::Unknown,
    })
}

fn configuration(arguments: &Arguments) -> Result<Configuration> {
    let mut kinds = Vec::new();
    for name in &arguments.fault_kinds {
        let possible: Vec<&str> = TURNS.iter().chain(&HABITS).map(|kind| kind.name()).collect();
        let (asked, kind) = match name {
            name::FaultName::None => continue,
            name::FaultName::Kind(kind) => (kind.name(), Some(*kind)),
            name::FaultName::OfNetwork(fault) => (fault.name(), None),
            name::FaultName::Network => ("network", None),
        };
        ensure!(
            possible.contains(&asked),
            "{asked} cannot be placed turn by turn; what can be explored is {}",
            possible.join(", ")
        );
        kinds.extend(kind);
    }
    let Arguments { workers, workflows, faults, preemptions, epochs, .. } = *arguments;
    Ok(Configuration { workers, workflows, faults, kinds, preemptions: preemptions.0, epochs })
}

fn heading(arguments: &Arguments, configuration: &Configuration, guards: Guards) -> String {
    let Configuration { workers, workflows, kinds, epochs, .. } = configuration;
    let placed = kinds.iter().filter(|kind| TURNS.contains(kind)).map(|kind| kind.name());
    let placed = placed.collect::<Vec<_>>().join(" or ");
    let habits: Vec<&str> = kinds.iter().filter(|kind| HABITS.contains(kind)).map(|kind| kind.name()).collect();
    let habits = if habits.is_empty() { String::new() } else { format!(", {} always", habits.join(" and ")) };
    let faults = match placed_faults(configuration) {
        0 => "no fault".to_owned(),
        faults => format!("{} ({placed})", counted(u64::from(faults), "fault")),
    };
    let workload = arguments.workload;
    format!(
        "{workload}: {}, {}; at most {faults}{habits} and {} within {epochs} epochs; {}",
        counted(u64::from(*workers), "worker"),
        counted(u64::from(*workflows), "workflow"),
        preemptions(configuration),
        scope::without(guards, None)
    )
}

fn preemptions(configuration: &Configuration) -> String {
    match configuration.preemptions {
        Some(bound) => counted(u64::from(bound), "preemption"),
        None => "any number of preemptions".to_owned(),
    }
}

fn figures(covered: &Covered, configuration: &Configuration) -> String {
    let seconds = wall(covered.time);
    let end = match (covered.is_complete, &covered.first) {
        (_, Some(_)) => "stopped at a violation".to_owned(),
        (true, None) => {
            format!("complete: no other schedule within {} and {}", faults(configuration), preemptions(configuration))
        }
        (false, None) => {
            format!("CUT OFF, with {} left", counted(covered.left, "branch").replace("branchs", "branches"))
        }
    };
    let judged = match (covered.failed, covered.unknown) {
        (0, 0) => "no violation".to_owned(),
        (0, unknown) => format!("no violation, {} unknown", count(unknown)),
        (failed, _) => format!("{} with a violation", count(failed)),
    };
    let per_second = |number: u64| count(rate(number as f64, covered.time) as u64);
    format!(
        "\nschedules   {} run to the end, {judged}; the longest of {}\nstates      {}; {} ended in one that was known\nends        {}, {} to the application\ncovered     {end}\ntime        {seconds}: {} states and {} runs a second\n",
        count(covered.schedules),
        counted(covered.deepest.into(), "turn"),
        count(covered.states),
        counted(covered.pruned, "run"),
        counted(covered.final_states.len() as u64, "final state"),
        counted(covered.outcomes.len() as u64, "outcome"),
        per_second(covered.states),
        per_second(covered.schedules + covered.pruned),
    )
}

fn faults(configuration: &Configuration) -> String {
    counted(placed_faults(configuration).into(), "fault")
}

/// At most so many in a schedule: none where all kinds are habits.
fn placed_faults(configuration: &Configuration) -> u8 {
    let is_placed = configuration.kinds.iter().any(|kind| TURNS.contains(kind));
    if is_placed { configuration.faults } else { 0 }
}

fn json(arguments: &Arguments, configuration: &Configuration, covered: &Covered, saved: Option<&Saved>) -> Value {
    let broken: Vec<&str> = covered.broken.keys().map(|property| property.id()).collect();
    let kinds: Vec<&str> = configuration.kinds.iter().map(|kind| kind.name()).collect();
    let without: Vec<&str> = arguments.without.iter().map(|guard| guard.name()).collect();
    json!({
        "workload": arguments.workload,
        "workers": configuration.workers,
        "workflows": configuration.workflows,
        "faults": configuration.faults,
        "fault_kinds": kinds,
        "preemptions": configuration.preemptions,
        "epochs": configuration.epochs,
        "without": without,
        "schedules": covered.schedules,
        "pruned": covered.pruned,
        "states": covered.states,
        "deepest": covered.deepest,
        "complete": covered.is_complete,
        "left": covered.left,
        "final_states": covered.final_states.len(),
        "outcomes": covered.outcomes.len(),
        "unknown": covered.unknown,
        "violations": covered.failed,
        "broken": broken,
        "sentence": covered.first.as_ref().map(|failure| &failure.sentence),
        "capsule": saved.and_then(Saved::path),
        "seconds": covered.time.as_secs_f64(),
    })
}

/// Made again from its plan, and saved.
fn save(failure: &Failure, work: &Work, guards: Guards, arguments: &Arguments) -> Saved {
    let limits = Limits { faults: FaultKind::ALL.to_vec() };
    let with = Circumstances {
        limits: &limits,
        design: None,
        directory: arguments.saved.place.directory(),
        server: String::new(),
        again: String::new(),
        shrinks: arguments.saved.shrinks(),
    };
    let chooser = Chooser::Recorded(failure.choices.clone().into_iter());
    let replay = Replay::directly(&failure.plan, work, guards, chooser);
    let told = &failure.broken[..failure.broken.len().min(1)];
    saved::save_shrunk(&failure.plan, &replay, (work, guards), told, &with)
        .expect("a schedule made again breaks what it broke")
}
