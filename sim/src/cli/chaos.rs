//! `chaos`: the same actors as real processes on a real server, with real crashes.

use super::check::{story, tally};
use super::figures::{count, counted, rate, wall};
use super::saved::quoted;
use super::{Console, Exit, name, server};
use crate::chaos::blow::Kind;
use crate::chaos::{self, Broken, DIED, Figures, Length, Plan, SETTINGS, Status};
use crate::postgres::binaries;
use crate::postgres::server::Server;
use crate::simulate::Work;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tourbillon_engine::guard::{Guard, Guards};
use tourbillon_models::history::History;
use tourbillon_models::name::Micros;
use tourbillon_models::property::Property;
use tourbillon_models::verdict::Judgement;
use tourbillon_models::workload::Workload;

const WORKLOADS: [&str; 2] = ["chain", "agent-loop"];

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// For how long faults are injected
    #[arg(long, value_name = "N", value_parser = name::at_least_one, conflicts_with = "workflows")]
    seconds: Option<u64>,
    /// Until so many workflows have finished, instead
    #[arg(long, value_name = "N", value_parser = name::at_least_one)]
    workflows: Option<u64>,
    /// What the faults are drawn from: a number, or a git commit hash
    #[arg(long, value_name = "S", default_value = "0", value_parser = name::seed)]
    seed: u64,
    /// Workloads, which the rounds take turns in [default: chain,agent-loop]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = name::workload)]
    workload: Vec<&'static str>,
    /// Kinds of fault, or none [default: all]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = fault)]
    faults: Vec<Fault>,
    /// How often the whole server is killed; it takes as many rounds as that takes
    #[arg(long, value_name = "N", default_value_t = 0)]
    server_kills: u64,
    /// Between two faults, on average
    #[arg(long, value_name = "MS", default_value_t = 400, value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    gap: u64,
    /// Guards to remove
    #[arg(long, value_name = "GUARD,…", value_delimiter = ',', value_parser = name::guard)]
    without: Vec<Guard>,
    /// How many workers
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=32))]
    workers: u64,
    /// How many clients
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=16))]
    clients: u32,
    /// How large a workflow is: of agent-loop, say, how often it acts [default: 2, of agent-loop 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100))]
    size: Option<u64>,
    /// How long a round's faults last; then there is peace, and its history is judged and forgotten
    #[arg(long, value_name = "SECONDS", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=60))]
    round: u64,
    #[command(flatten)]
    server: server::Arguments,
    /// Where the histories of the round under way lie [default: with the server]
    #[arg(long, value_name = "DIRECTORY")]
    histories: Option<PathBuf>,
    /// Where a history is kept that is not clean
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    keep: PathBuf,
    /// Keep the clean ones, too
    #[arg(long)]
    keep_all: bool,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// What `--faults` names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Kind(Kind),
}

fn fault(name: &str) -> Result<Fault, String> {
    let known = || Kind::ALL.map(Kind::name).join(", ");
    match (name, Kind::by_name(name)) {
        ("none", _) => Ok(Fault::None),
        (_, Some(kind)) => Ok(Fault::Kind(kind)),
        _ => Err(format!("there is no fault {name:?}: there are none, {}", known())),
    }
}

/// This program, started by itself.
pub fn process() -> Result<Exit> {
    if !chaos::process::run()? {
        std::process::exit(DIED.into());
    }
    Ok(Exit::Clean)
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    ensure!(arguments.keep.is_dir(), "{} is no directory in which a history could be kept", arguments.keep.display());
    tempfile::tempfile_in(&arguments.keep)
        .with_context(|| format!("no history can be kept in {}", arguments.keep.display()))?;
    let choice = arguments.server.choice();
    let plan = plan(arguments, !matches!(choice, server::Choice::Url(_)))?;
    let mut server = match &choice {
        server::Choice::Off => bail!("chaos needs a server: --postgres auto, or the address of yours"),
        server::Choice::Auto => Server::with_settings(&binaries::find()?, &SETTINGS)?,
        server::Choice::Url(url) => Server::connect_url(url)?,
    };
    let bar = console.status();
    let shown = |status: &Status<'_>| bar.set_message(line(status));
    let read = |round: u64, history: &History| match arguments.keep_all {
        true => keep(history, round, &arguments.keep, plan.seed).map(|_| ()),
        false => Ok(()),
    };
    let (figures, broken) = chaos::run(&plan, &mut server, shown, read)?;
    bar.finish_and_clear();
    let exit = match &broken {
        None => Exit::Clean,
        Some(broken) if broken.judgement() == Judgement::Violated => Exit::Broken,
        Some(_) => Exit::Unknown,
    };
    // What was found is told, also where it cannot be kept.
    let kept = broken.as_ref().map(|it| keep(&it.history, it.round, &arguments.keep, plan.seed));
    let path = kept.as_ref().and_then(|kept| kept.as_deref().ok());
    if arguments.json {
        console.print_json(&told(&plan, &figures, server.version(), broken.as_ref(), path));
    } else {
        console.print(&summary(&figures, server.version()));
        broken.iter().for_each(|broken| console.print(&account(broken)));
        path.into_iter().for_each(|path| {
            let check = format!("check {}", quoted(&path.display().to_string()));
            console.print(&(console.command(&check) + "\n"));
        });
    }
    match kept {
        Some(Err(error)) if exit != Exit::Broken => Err(error),
        Some(Err(error)) => {
            console.say(&format!("error: {error:#}"));
            Ok(exit)
        }
        _ => Ok(exit),
    }
}

fn account(broken: &Broken) -> String {
    let Broken { round, history, verdict, is_drained } = broken;
    let end = if *is_drained { "" } else { "; it never came to its end" };
    format!("\nRound {round}: {}{end}\n{}", tally(history, verdict).trim_end(), story(history, verdict, None))
}

fn plan(arguments: &Arguments, own_server: bool) -> Result<Plan> {
    let all = || Kind::ALL.map(Fault::Kind).to_vec();
    let named = if arguments.faults.is_empty() { all() } else { arguments.faults.clone() };
    let kinds = named.into_iter().filter_map(|fault| match fault {
        Fault::None => None,
        Fault::Kind(kind) => Some(kind),
    });
    let (kinds, refused): (Vec<_>, Vec<_>) = kinds.partition(|kind| own_server || !kind.needs_own_server());
    let is_asked = arguments.server_kills > 0 || (!arguments.faults.is_empty() && !refused.is_empty());
    ensure!(own_server || !is_asked, "only a server that is started here is killed or stopped: leave --postgres out");
    let names_kill = arguments.faults.contains(&Fault::Kind(Kind::ServerKill));
    ensure!(!names_kill || arguments.server_kills > 0, "how often the server is killed is said by --server-kills N");
    let names = if arguments.workload.is_empty() { WORKLOADS.to_vec() } else { arguments.workload.clone() };
    let works: Vec<Work> = names.iter().map(|name| Work::named(name).expect("names are looked up")).collect();
    let plain: Vec<&str> = works.iter().filter(|work| work.program.is_none()).map(|work| work.name.as_str()).collect();
    let known = || {
        let programs = Workload::ALL.iter().filter(|it| it.program().is_some()).map(Workload::name);
        programs.collect::<Vec<_>>().join(", ")
    };
    ensure!(plain.is_empty(), "chaos runs workflows, and {} has none: there are {}", plain.join(", "), known());
    let length = match (arguments.seconds, arguments.workflows) {
        (_, Some(count)) => Length::Workflows(count),
        (seconds, None) => Length::Time(Duration::from_secs(seconds.unwrap_or(30))),
    };
    Ok(Plan {
        seed: arguments.seed,
        works,
        guards: Guards::without(&arguments.without),
        kinds,
        workers: arguments.workers,
        clients: arguments.clients,
        size: arguments.size,
        length,
        round: Micros::from_secs(arguments.round),
        gap: Micros::from_millis(arguments.gap),
        server_kills: arguments.server_kills,
        journals: arguments.histories.clone(),
    })
}

fn line(status: &Status<'_>) -> String {
    let figures = status.figures;
    format!(
        "{}, round {} ({}): {} finished, {} live, {} faults; before: {}, {}",
        wall(status.wall),
        status.round,
        status.workload,
        count(status.finished),
        count(status.live),
        status.faults,
        counted(figures.workflows, "workflow"),
        counted(figures.faults(), "fault"),
    )
}

fn keep(history: &History, round: u64, directory: &Path, seed: u64) -> Result<PathBuf> {
    // Another run of the seed is another run.
    let name = |again: u32| if again == 0 { String::new() } else { format!("-{again}") };
    let paths = (0..).map(|again| directory.join(format!("chaos-{seed}-{round}{}.jsonl", name(again))));
    let path = paths.into_iter().find(|path| !path.exists()).expect("some name is free");
    let write = || {
        let mut file = BufWriter::new(File::create_new(&path)?);
        history.lines().try_for_each(|line| writeln!(file, "{line}"))?;
        file.flush()
    };
    write().with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}

fn millis(time: Option<Micros>) -> String {
    time.map_or("-".to_owned(), |time| format!("{:.0} ms", time.0 as f64 / 1e3))
}

fn summary(figures: &Figures, version: &str) -> String {
    let mut lines = vec![format!(
        "{} on PostgreSQL {version} in {}: {} and {}, {} records",
        counted(figures.rounds, "round"),
        wall(figures.wall),
        counted(figures.workflows, "workflow"),
        counted(figures.steps, "step"),
        count(figures.records),
    )];
    lines.push(format!(
        "{} workflows/s, {} steps/s; between faults {} steps/s ({} in all)",
        count(rate(figures.workflows as f64, figures.shaken) as u64),
        count(rate(figures.steps as f64, figures.shaken) as u64),
        count(rate(figures.steady_steps as f64, figures.steady) as u64),
        wall(figures.steady),
    ));
    let faults: Vec<String> =
        figures.injected.iter().map(|(kind, n)| format!("{} {}", kind.name(), count(*n))).collect();
    lines.push(format!("{}: {}", counted(figures.faults(), "fault"), faults.join(", ")));
    lines.push(format!(
        "from a fault's end to the next step: p50 {}, p99 {}; from the last one's to nothing left: at most {}",
        millis(figures.recovery(50)),
        millis(figures.recovery(99)),
        millis(figures.drained_in),
    ));
    let of = |is: fn(&chaos::Judged) -> bool| -> Vec<&'static str> {
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

fn told(plan: &Plan, figures: &Figures, version: &str, broken: Option<&Broken>, kept: Option<&Path>) -> Value {
    let properties: serde_json::Map<String, Value> = figures
        .judged
        .iter()
        .map(|(property, it): (&Property, _)| {
            let told = json!({
                "held": it.held, "unknown": it.unknown, "violated": it.violated, "exercised": it.exercised,
            });
            (property.id().to_owned(), told)
        })
        .collect();
    let faults: serde_json::Map<String, Value> =
        figures.injected.iter().map(|(kind, count)| (kind.name().to_owned(), (*count).into())).collect();
    json!({
        "server": version,
        "seed": plan.seed,
        "without": plan.guards.removed().map(Guard::name).collect::<Vec<_>>(),
        "workloads": plan.works.iter().map(|work| work.name.as_str()).collect::<Vec<_>>(),
        "rounds": figures.rounds,
        "records": figures.records,
        "workflows": figures.workflows,
        "steps": figures.steps,
        "wall_seconds": figures.wall.as_secs_f64(),
        "shaken_seconds": figures.shaken.as_secs_f64(),
        "workflows_per_second": rate(figures.workflows as f64, figures.shaken),
        "steps_per_second": rate(figures.steps as f64, figures.shaken),
        "steps_per_second_between_faults": rate(figures.steady_steps as f64, figures.steady),
        "seconds_between_faults": figures.steady.as_secs_f64(),
        "faults": faults,
        "recovery_p50_us": figures.recovery(50).map(|it| it.0),
        "recovery_p99_us": figures.recovery(99).map(|it| it.0),
        "longest_drain_us": figures.drained_in.map(|it| it.0),
        "judgement": broken.map_or("holds", |broken| broken.judgement().name()),
        "violations": broken.map_or_else(Vec::new, |it| it.verdict.violations().map(ToString::to_string).collect()),
        "history": kept.map(|path| path.display().to_string()),
        "properties": properties,
    })
}
