//! `run`: sweep seeds in the simulator, replay a sample of the histories on a real server, say what came of it.

use super::figures::counted;
use super::merge::Part;
use super::replayed::Replayed;
use super::saved::{self, Circumstances, Saved, Size, save, save_seed};
use super::summary::Report;
use super::{Console, Exit, name, scope, server};
use crate::capsule::Tool;
use crate::generate::Limits;
use crate::plan::Plan;
use crate::postgres::Error;
use crate::postgres::one_cpu::OneCpu;
use crate::replay::{End, Replay, Replays, Sample, replay_all};
use crate::shrink::divergence::shrink_divergence;
use crate::simulate::{On, Work};
use crate::sweep::{Seeds, Shard, Swept, processors, sweep, work_of};
use anyhow::{Result, ensure};
use clap::Args;
use indicatif::ProgressBar;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::time::{Duration, Instant};
use tourbillon_models::property::Property;

/// Enough that every goal is reached, and less than half a minute on two processors.
const SEEDS: u64 = 20_000;
const REPLAYS: usize = 60;
/// A server for fewer is not worth its start.
const REPLAYS_A_SERVER: usize = 8;

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = SEEDS, value_parser = name::at_least_one)]
    seeds: u64,
    /// The first seed: a number, or a git commit hash
    #[arg(long, value_name = "S", default_value = "0", value_parser = name::seed)]
    seed: u64,
    #[command(flatten)]
    scope: scope::Arguments,
    #[command(flatten)]
    server: server::Arguments,
    /// How many histories are replayed on the server
    #[arg(long, value_name = "N", default_value_t = REPLAYS)]
    replays: usize,
    /// The k-th of n equal shares of the seeds
    #[arg(long, value_name = "K/N", default_value = "1/1")]
    shard: Shard,
    /// How many threads sweep [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    #[command(flatten)]
    saved: saved::Arguments,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
    /// Let plans depend on the order of a hash map, to see that a sweep notices
    #[arg(long, hide = true)]
    plant_leak: bool,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let parts = text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((index, of)) if (1..=of).contains(&index) => Ok(Shard { index: index - 1, of }),
            _ => Err(format!("a share is k/n with k from 1 to n, such as 2/8, not {text:?}")),
        }
    }
}

impl Arguments {
    fn seeds(&self) -> Seeds {
        Seeds { first: self.seed, count: self.seeds, shard: self.shard }
    }

    /// What is swept.
    fn works(&self) -> Vec<Work> {
        let works = self.scope.draw.works();
        if self.plant_leak { works.into_iter().map(Work::leaking).collect() } else { works }
    }

    /// What goes over a network has no counterpart on a server.
    fn replays_on(&self) -> server::Choice {
        match self.scope.draw.place_or(On::Both) {
            On::Net => server::Choice::Off,
            On::Direct | On::Both => self.server.choice(),
        }
    }

    fn threads(&self) -> usize {
        self.threads.map_or_else(processors, usize::from)
    }
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    arguments.scope.draw.look_swept(On::Both)?;
    let seeds = arguments.seeds();
    ensure!(
        !seeds.is_empty(),
        "share {}/{} of {} is empty: there is nothing to run",
        seeds.shard.index + 1,
        seeds.shard.of,
        counted(arguments.seeds, "seed")
    );
    let server = arguments.replays_on();
    server.look()?;
    arguments.saved.place.look(console);
    let begun = Instant::now();
    let (swept, sample) = sweep_seeds(arguments, &server, console);
    let swept_in = begun.elapsed();
    let mut failures = save_found(&arguments.scope, &arguments.saved, arguments.server.again(), &swept);
    let (replayed, replays) = replay_sample(arguments, &server, &sample.seeds(), console);
    let replay_failures = save_failed(arguments, &server, &replays);
    failures.extend(replay_failures.iter().cloned());
    let part = Part {
        tool: Tool::this(),
        options: arguments.scope.again(),
        first_seed: arguments.seed,
        seeds: arguments.seeds,
        shards: vec![arguments.shard.index + 1],
        of: arguments.shard.of,
        swept,
        swept_in,
        wall: begun.elapsed(),
        replayed,
        replay_failures,
    };
    Report { scope: &arguments.scope, part: &part, failures: &failures }.tell(arguments.json, console)
}

fn sweep_seeds(arguments: &Arguments, server: &server::Choice, console: &Console) -> (Swept, Sample) {
    let seeds = arguments.seeds();
    let mut sample = Sample::new(arguments.replays, server.may_crash());
    let bar = console.bar(seeds.len(), "simulated");
    let swept = sweep(
        seeds,
        arguments.threads(),
        &arguments.scope.setting(),
        || arguments.works(),
        |swept, ran| {
            ran.iter().for_each(|ran| sample.offer(ran));
            bar.set_position(swept.sums.run_count());
            if swept.found_count > 0 {
                bar.set_message(format!("{} broken", counted(swept.found_count, "run")));
            }
            ControlFlow::Continue(())
        },
    );
    bar.finish_and_clear();
    (swept, sample)
}

/// Each thread has a processor and a server of its own.
fn replay_sample(
    arguments: &Arguments,
    choice: &server::Choice,
    seeds: &[u64],
    console: &Console,
) -> (Replayed, Replays) {
    if *choice == server::Choice::Off || seeds.is_empty() {
        return (Replayed::Off, Replays::default());
    }
    let begun = Instant::now();
    let bar = console.bar(seeds.len() as u64, "replayed");
    let threads = seeds.len().div_ceil(REPLAYS_A_SERVER).min(arguments.threads());
    let shares = std::thread::scope(|scope| {
        let share = |thread: usize| seeds.iter().copied().skip(thread).step_by(threads).collect();
        let start = |thread: usize| {
            let (seeds, bar): (Vec<u64>, _) = (share(thread), &bar);
            scope.spawn(move || replay_share(arguments, choice, &seeds, bar))
        };
        let threads: Vec<_> = (0..threads).map(start).collect();
        threads.into_iter().map(|thread| thread.join().expect("a replay does not panic")).collect::<Vec<_>>()
    });
    bar.finish_and_clear();
    add_up(shares, begun.elapsed())
}

/// What one thread did, on which server, and what kept it from doing more.
struct Share {
    replays: Replays,
    server_version: Option<String>,
    stopped: Option<Error>,
}

fn replay_share(arguments: &Arguments, choice: &server::Choice, seeds: &[u64], bar: &ProgressBar) -> Share {
    // Before the server starts, so that it runs where this thread runs.
    let _one = OneCpu::claim();
    let mut share = Share { replays: Replays::default(), server_version: None, stopped: None };
    let mut server = match choice.open() {
        Ok(server) => server.expect("replays are made only where a server is asked for"),
        Err(error) => return Share { stopped: Some(error), ..share },
    };
    share.server_version = Some(server.version().to_owned());
    let (setting, works) = (arguments.scope.setting(), arguments.scope.draw.works());
    for seed in seeds {
        match replay_all(&mut server, &[*seed], &setting, &works, |_| bar.inc(1)) {
            Ok(one) => share.replays.add(one),
            Err(error) => return Share { stopped: Some(error), ..share },
        }
    }
    share
}

fn add_up(shares: Vec<Share>, wall: Duration) -> (Replayed, Replays) {
    let (mut replays, mut version, mut stopped) = (Replays::default(), None, None);
    for share in shares {
        replays.add(share.replays);
        version = version.or(share.server_version);
        stopped = stopped.or(share.stopped);
    }
    replays.failed.sort_by_key(|(plan, _)| plan.seed);
    let (histories, counts, goals) = (replays.histories, replays.counts, replays.goals);
    let stopped = stopped.map(|error| error.to_string());
    (Replayed::On { server_version: version, histories, counts, goals, wall, stopped }, replays)
}

/// The first run that broke each property becomes a capsule.
pub fn save_found(scope: &scope::Arguments, saved: &saved::Arguments, server: String, swept: &Swept) -> Vec<Saved> {
    let (works, limits) = (scope.draw.works(), scope.draw.limits());
    let with = circumstances(scope, saved, server, &limits);
    let guards = scope.guards();
    let save = |(seed, broken): (u64, Vec<Property>)| save_seed(seed, work_of(&works, seed), guards, &broken, &with);
    swept.firsts().into_iter().map(save).collect()
}

/// Those that diverged are shrunk, on a server that is started for that: those of the replays are gone.
fn save_failed(arguments: &Arguments, choice: &server::Choice, replays: &Replays) -> Vec<Saved> {
    let (works, limits, guards) = (arguments.works(), arguments.scope.draw.limits(), arguments.scope.guards());
    let with = circumstances(&arguments.scope, &arguments.saved, arguments.server.again(), &limits);
    let is_diverged = |replay: &Replay| matches!(replay.end, End::Diverged(_));
    let is_to_shrink = with.shrinks.is_some() && replays.failed.iter().any(|(_, replay)| is_diverged(replay));
    // Before the server starts, so that it runs where this thread runs.
    let _one = is_to_shrink.then(OneCpu::claim);
    // What cannot be shrunk is saved as it was found.
    let mut server = if is_to_shrink { choice.open().ok().flatten() } else { None };
    let save = |(plan, replay): &(Plan, Replay)| {
        let smaller = server.as_mut().filter(|_| is_diverged(replay)).and_then(|server| {
            let budget = with.shrinks.as_ref().filter(|budget| !budget.is_over())?;
            let work = work_of(&works, plan.seed);
            let (shrunk, replay) = shrink_divergence(server, plan, work, guards, budget).ok()??;
            Some(save(&shrunk.plan, &replay, &[], &with)?.with_size(Size::of(&shrunk)))
        });
        smaller.or_else(|| save(plan, replay, &[], &with))
    };
    replays.failed.iter().filter_map(save).collect()
}

fn circumstances<'a>(
    scope: &scope::Arguments,
    saved: &'a saved::Arguments,
    server: String,
    limits: &'a Limits,
) -> Circumstances<'a> {
    let (directory, shrinks) = (saved.place.directory(), saved.shrinks());
    Circumstances { limits, design: scope.design(), directory, server, again: scope.again(), shrinks }
}
