//! `chaos`: the same actors as real processes on a real server, with real crashes.

mod report;

use super::figures::{count, counted, wall};
use super::name::{self, BlowName};
use super::{Console, Exit, server};
use crate::chaos::blow::Kind;
use crate::chaos::{self, Figures, Length, Plan, SETTINGS, Status};
use crate::postgres::binaries;
use crate::postgres::interrupt::InUse;
use crate::postgres::server::Server;
use crate::simulate::Work;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use report::Report;
use std::io::{BufWriter, IntoInnerError, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tourbillon_engine::guard::{Guard, Guards};
use tourbillon_models::history::History;
use tourbillon_models::name::Micros;
use tourbillon_models::workload::Workload;

const WORKLOADS: [&str; 2] = ["chain", "agent-loop"];

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// For how long faults are injected
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000), conflicts_with = "workflows")]
    seconds: Option<u64>,
    /// Until so many workflows have finished at least, instead
    #[arg(long, value_name = "N", value_parser = name::at_least_one)]
    workflows: Option<u64>,
    /// What the faults are drawn from: a number, or a git commit hash
    #[arg(long, value_name = "S", default_value = "0", value_parser = name::seed)]
    seed: u64,
    /// Workloads, which the rounds take turns in [default: chain,agent-loop]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = name::workload)]
    workload: Vec<&'static str>,
    /// Kinds of fault, or none [default: all]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    faults: Vec<BlowName>,
    /// How often the whole server is killed; it takes as many rounds as that takes
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=100_000))]
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

/// This program, started by itself.
pub fn process() -> Result<Exit> {
    if let Some(code) = chaos::process::run()? {
        std::process::exit(code.into());
    }
    Ok(Exit::Clean)
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    ensure!(arguments.keep.is_dir(), "{} is no directory in which a history could be kept", arguments.keep.display());
    tempfile::tempfile_in(&arguments.keep)
        .with_context(|| format!("no history can be kept in {}", arguments.keep.display()))?;
    if let Some(histories) = &arguments.histories {
        ensure!(histories.is_dir(), "{} is no directory in which histories could lie", histories.display());
    }
    let choice = arguments.server.choice();
    let plan = plan(arguments, !matches!(choice, server::Choice::Url(_)))?;
    let mut server = match &choice {
        server::Choice::Off => bail!("chaos needs a server: --postgres auto, or the address of yours"),
        server::Choice::Auto => Server::with_settings(&binaries::find()?, &SETTINGS)?,
        server::Choice::Url(url) => Server::connect_url(url)?,
    };
    // Ctrl-C ends the round under way; what those before it came to is told.
    let _report = InUse::claim()?;
    let bar = console.status();
    let shown = |status: &Status<'_>| bar.set_message(line(status));
    let read = |round: u64, history: &History| match arguments.keep_all {
        true => keep(history, round, &arguments.keep, plan.seed).map(|_| ()),
        false => Ok(()),
    };
    let mut figures = Figures::default();
    let played = chaos::run(&plan, &mut server, &mut figures, shown, read);
    bar.finish_and_clear();
    let (broken, cut_off) = match played {
        Ok(broken) => (broken, None),
        Err(error) if figures.rounds == 0 => return Err(error),
        Err(error) => (None, Some(error)),
    };
    // What was found is told, also where it cannot be kept.
    let kept = broken.as_ref().map(|it| keep(&it.history, it.round, &arguments.keep, plan.seed)).transpose();
    let report = Report {
        plan: &plan,
        figures: &figures,
        version: server.version(),
        broken: broken.as_ref(),
        kept: kept.as_ref().ok().and_then(|kept| kept.as_deref()),
        cut_off: cut_off.as_ref(),
    };
    let exit = report.tell(arguments.json, console);
    match (cut_off, kept) {
        (Some(error), _) => Err(error),
        (None, Err(error)) if exit != Exit::Broken => Err(error),
        (None, Err(error)) => {
            console.say(&format!("error: {error:#}"));
            Ok(Exit::Broken)
        }
        (None, Ok(_)) => Ok(exit),
    }
}

fn plan(arguments: &Arguments, own_server: bool) -> Result<Plan> {
    let all = || Kind::ALL.map(BlowName::Kind).to_vec();
    let named = if arguments.faults.is_empty() { all() } else { arguments.faults.clone() };
    let kinds = named.into_iter().filter_map(|fault| match fault {
        BlowName::None => None,
        BlowName::Kind(kind) => Some(kind),
    });
    let names_none = arguments.faults.contains(&BlowName::None);
    ensure!(arguments.faults.len() < 2 || !names_none, "--faults none goes with no other");
    let (kinds, refused): (Vec<_>, Vec<_>) = kinds.partition(|kind| own_server || !kind.needs_own_server());
    let is_asked = arguments.server_kills > 0 || (!arguments.faults.is_empty() && !refused.is_empty());
    ensure!(own_server || !is_asked, "only a server that is started here is killed or stopped: leave --postgres out");
    let names_kill = arguments.faults.contains(&BlowName::Kind(Kind::ServerKill));
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

/// All of it or nothing.
fn keep(history: &History, round: u64, directory: &Path, seed: u64) -> Result<PathBuf> {
    // Another run of the seed is another run.
    let suffix = |again: u32| if again == 0 { String::new() } else { format!("-{again}") };
    let paths = (0..).map(|again| directory.join(format!("chaos-{seed}-{round}{}.jsonl", suffix(again))));
    let path = paths.into_iter().find(|path| !path.exists()).expect("some name is free");
    let write = || {
        let mut file = BufWriter::new(tempfile::Builder::new().prefix(".chaos-").tempfile_in(directory)?);
        history.lines().try_for_each(|line| writeln!(file, "{line}"))?;
        file.into_inner().map_err(IntoInnerError::into_error)?.persist_noclobber(&path)?;
        Ok::<_, std::io::Error>(())
    };
    write().with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}
