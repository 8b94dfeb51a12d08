//! `guards`: remove each guard in turn and show which property catches it, after how many seeds, and on a server too.
//!
//! First all hunts, on all processors; then, on one, the server's confirmations; then the sound engine over far more
//! seeds than any guard took. A guard that nothing catches is a finding: the check is blind, or the line not needed.

use super::figures::{count, counted};
use super::saved::{self, Circumstances, Saved, save_seed};
use super::{Console, Exit, name, scope, server};
use crate::generate::Limits;
use crate::hunt::{Confirmation, Hunt, TRIES, confirm, hunt};
use crate::postgres::Error;
use crate::postgres::one_cpu::OneCpu;
use crate::simulate::On;
use crate::sweep::{Found, Seeds, Setting, Shard, Swept, processors, sweep, work_of};
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use std::ops::ControlFlow;
use tourbillon_engine::guard::{Design, Guard, Guards};
use tourbillon_models::property::Property;

/// The sound engine runs over so many times the seeds that the slowest catch took, and at least [`SOUND_LEAST`].
const SOUND_TIMES: u64 = 10;
const SOUND_LEAST: u64 = 5_000;
/// Over a network, where a run takes a hundred times as long, at least so many, and those of the slowest catch.
const SOUND_ON_NET: u64 = 500;

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// Only these guards and designs [default: all]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = name::guard_or_design)]
    only: Vec<&'static str>,
    /// How many seeds to try for each [default: 20000; over a network 1000]
    #[arg(long, value_name = "N", value_parser = name::at_least_one)]
    seeds: Option<u64>,
    /// The first seed: a number, or a git commit hash
    #[arg(long, value_name = "S", default_value = "0", value_parser = name::seed)]
    seed: u64,
    #[command(flatten)]
    draw: scope::Draw,
    #[command(flatten)]
    server: server::Arguments,
    #[command(flatten)]
    saved: saved::Arguments,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn seeds(&self) -> u64 {
        let usual = if self.place() == On::Net { 1_000 } else { 20_000 };
        self.seeds.unwrap_or(usual)
    }

    fn place(&self) -> On {
        self.draw.place_or(On::Direct)
    }

    /// No server can be put in a network's place.
    fn server(&self) -> server::Choice {
        match self.place() {
            On::Net => server::Choice::Off,
            On::Direct | On::Both => self.server.choice(),
        }
    }
}

/// What is removed: one guard, or those of a design.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Guard(Guard),
    Design(&'static Design),
}

impl Target {
    fn all() -> Vec<Target> {
        let designs = Design::ALL.iter().filter(|design| !design.removed.is_empty());
        let designs = designs.filter_map(|design| Design::by_name(design.name)).map(Target::Design);
        Guard::ALL.into_iter().map(Target::Guard).chain(designs).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Target::Guard(guard) => guard.name(),
            Target::Design(design) => design.name,
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Target::Guard(guard) => guard.summary(),
            Target::Design(design) => design.summary,
        }
    }

    fn removed(self) -> Guards {
        match self {
            Target::Guard(guard) => Guards::without(&[guard]),
            Target::Design(design) => Guards::without(design.removed),
        }
    }

    /// The option that removes it again.
    fn again(self) -> String {
        match self {
            Target::Guard(guard) => scope::removed_again(&[guard], None),
            Target::Design(design) => scope::removed_again(&[], Some(design)),
        }
    }

    fn design(self) -> Option<&'static Design> {
        match self {
            Target::Guard(_) => None,
            Target::Design(design) => Some(design),
        }
    }
}

/// One line of the table.
struct Row {
    target: Target,
    hunt: Hunt,
    saved: Option<Saved>,
    postgres: Postgres,
}

/// What the server said.
enum Postgres {
    NotTried(String),
    /// With this seed.
    Confirmed(u64),
    /// One sentence why not.
    NotShown(String),
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    let server = arguments.server();
    server.look()?;
    arguments.draw.look_swept(On::Direct)?;
    arguments.saved.place.look(console);
    let limits = arguments.draw.limits();
    let mut rows = hunt_all(arguments, &limits, console);
    for row in &mut rows {
        row.saved = save_catch(arguments, &limits, row);
    }
    let no_server = confirm_all(arguments, &server, &limits, &mut rows, console);
    let sound = sweep_sound(arguments, &limits, &rows, console);
    let failure = save_sound(arguments, &limits, &sound);
    if let Some(reason) = &no_server {
        console.say(&format!("error: not all was confirmed on a real server: {reason} (--postgres off does without)"));
    }
    let is_saved = say_unsaved(&rows, console);
    let said = verdict(&rows, &sound) + "\n" + &failure.map_or(String::new(), |saved| saved.text(console));
    if arguments.json {
        let is_asked = |row: &&Row| row.target.design().is_none() || arguments.only.contains(&row.target.name());
        let guards = rows.iter().filter(is_asked);
        console.print_json(&guards.map(|row| row.json(arguments)).collect::<Vec<_>>());
        console.say(said.trim());
    } else {
        console.print(&(table(&rows) + &said));
    }
    let is_good = rows.iter().all(|row| row.catch().is_some()) && sound.found_count == 0;
    Ok(match is_good {
        false => Exit::Broken,
        true if no_server.is_some() || !is_saved => Exit::CouldNotRun,
        true => Exit::Clean,
    })
}

/// Returns whether every catch was saved; where one was not, the seed makes it again.
fn say_unsaved(rows: &[Row], console: &mut Console) -> bool {
    let saved = rows.iter().filter_map(|row| Some((row.target.name(), row.saved.as_ref()?)));
    let unsaved: Vec<_> = saved.filter(|(_, saved)| saved.capsule.is_err()).collect();
    for (name, saved) in &unsaved {
        console.say(&format!("error: the catch of {name} is {}", saved.pointer(console).replace('\n', " ")));
    }
    unsaved.is_empty()
}

fn seeds(arguments: &Arguments, count: u64) -> Seeds {
    Seeds { first: arguments.seed, count, shard: Shard::WHOLE }
}

fn hunt_all(arguments: &Arguments, limits: &Limits, console: &mut Console) -> Vec<Row> {
    let targets = Target::all().into_iter();
    let targets: Vec<Target> =
        targets.filter(|target| arguments.only.is_empty() || arguments.only.contains(&target.name())).collect();
    let bar = console.bar(targets.len() as u64, "hunted");
    let rows = targets.into_iter().map(|target| {
        bar.set_message(target.name());
        console.stage(&format!("hunting without {}, {} at most", target.name(), counted(arguments.seeds(), "seed")));
        let seeds = seeds(arguments, arguments.seeds());
        // No server confirms what only a network can do.
        let enough = if arguments.place() == On::Net { 1 } else { TRIES };
        let hunt = hunt(seeds, processors(), limits, target.removed(), || arguments.draw.works_on(On::Direct), enough);
        bar.inc(1);
        Row { target, hunt, saved: None, postgres: Postgres::NotTried("not asked for".to_owned()) }
    });
    let rows = rows.collect();
    bar.finish_and_clear();
    rows
}

fn save_catch(arguments: &Arguments, limits: &Limits, row: &Row) -> Option<Saved> {
    let found = row.catch()?;
    let works = arguments.draw.works_on(On::Direct);
    let with = circumstances(arguments, limits, Some(row.target));
    let guards = row.target.removed();
    Some(save_seed(found.seed, work_of(&works, found.seed), guards, &found.broken[..1], &with))
}

/// Nothing is removed from the sound engine.
fn circumstances<'a>(arguments: &'a Arguments, limits: &'a Limits, removed: Option<Target>) -> Circumstances<'a> {
    let design = removed.and_then(Target::design);
    Circumstances {
        limits,
        design,
        directory: arguments.saved.place.directory(),
        server: arguments.server.again(),
        shrinks: arguments.saved.shrinks(),
        again: arguments.draw.again() + &removed.map_or(String::new(), Target::again),
    }
}

/// The sound engine's first failure, saved.
fn save_sound(arguments: &Arguments, limits: &Limits, sound: &Swept) -> Option<Saved> {
    let found = sound.found.iter().find(|found| !found.broken.is_empty())?;
    let works = arguments.draw.works_on(On::Direct);
    let with = circumstances(arguments, limits, None);
    Some(save_seed(found.seed, work_of(&works, found.seed), Guards::ALL, &[], &with))
}

/// Returns why there is no server, or no longer one, if there should be one.
fn confirm_all(
    arguments: &Arguments,
    choice: &server::Choice,
    limits: &Limits,
    rows: &mut [Row],
    console: &mut Console,
) -> Option<String> {
    // Before the server starts, so that it runs where this thread runs.
    let _one = OneCpu::claim();
    let mut server = match choice.open() {
        Ok(Some(server)) => server,
        Ok(None) => return None,
        Err(error) => return Some(no_server(rows, &error)),
    };
    console.stage("replaying the catches on the server");
    let works = arguments.draw.works_on(On::Direct);
    let bar = console.bar(rows.len() as u64, "confirmed");
    for index in 0..rows.len() {
        let row = &mut rows[index];
        bar.set_message(row.target.name());
        row.postgres = match confirm(&mut server, &row.hunt, limits, row.target.removed(), &works) {
            Ok(Confirmation::Confirmed { seed, .. }) => Postgres::Confirmed(seed),
            Ok(Confirmation::NotShown(reason)) => Postgres::NotShown(reason),
            Err(error) => return Some(no_server(&mut rows[index..], &error)),
        };
        bar.inc(1);
    }
    bar.finish_and_clear();
    None
}

fn no_server(rows: &mut [Row], error: &Error) -> String {
    let reason = error.to_string();
    rows.iter_mut().for_each(|row| row.postgres = Postgres::NotTried(format!("no server: {reason}")));
    reason
}

/// A hunt that caught nothing says nothing about how many seeds are many.
fn seeds_for_sound(rows: &[Row], on: On) -> u64 {
    let slowest = rows.iter().filter(|row| row.catch().is_some()).map(|row| row.hunt.seeds).max();
    let slowest = slowest.unwrap_or(0);
    match on {
        On::Net => slowest.max(SOUND_ON_NET),
        On::Direct | On::Both => slowest.saturating_mul(SOUND_TIMES).max(SOUND_LEAST),
    }
}

fn sweep_sound(arguments: &Arguments, limits: &Limits, rows: &[Row], console: &mut Console) -> Swept {
    let seeds = seeds(arguments, seeds_for_sound(rows, arguments.place()));
    console.stage(&format!("sweeping the sound engine over {}", counted(seeds.count, "seed")));
    let setting = Setting { limits: limits.clone(), guards: Guards::ALL };
    let bar = console.bar(seeds.count, "sound");
    let swept = sweep(
        seeds,
        processors(),
        &setting,
        || arguments.draw.works_on(On::Direct),
        |swept, _| {
            bar.set_position(swept.sums.run_count());
            ControlFlow::Continue(())
        },
    );
    bar.finish_and_clear();
    swept
}

impl Row {
    fn catch(&self) -> Option<&Found> {
        self.hunt.catches.first()
    }

    fn caught_by(&self) -> Vec<&'static str> {
        self.catch().map_or_else(Vec::new, |found| found.broken.iter().map(|property| property.id()).collect())
    }

    fn postgres(&self) -> &str {
        match &self.postgres {
            Postgres::Confirmed(_) => "confirmed",
            Postgres::NotTried(reason) | Postgres::NotShown(reason) => reason,
        }
    }

    fn json(&self, arguments: &Arguments) -> Value {
        let (found, depth) = (self.catch(), arguments.draw.depth());
        let confirmed_seed = match self.postgres {
            Postgres::Confirmed(seed) => Some(seed),
            Postgres::NotTried(_) | Postgres::NotShown(_) => None,
        };
        json!({
            "guard": self.target.name(),
            "on": if arguments.place() == On::Net { "net" } else { "direct" },
            "order": if depth.is_some() { "pct" } else { "uniform" },
            "depth": depth,
            "caught_by": self.caught_by().first(),
            "also": self.caught_by().get(1..),
            "seeds": self.hunt.seeds,
            "postgres": self.postgres(),
            "summary": self.target.summary(),
            "seed": found.map(|found| found.seed),
            "workload": found.map(|found| &found.workload),
            "sentence": self.saved.as_ref().map(|saved| &saved.sentence).or(found.map(|found| &found.sentence)),
            "confirmed_seed": confirmed_seed,
            "capsule": self.saved.as_ref().and_then(Saved::path),
            "lines": self.saved.as_ref().and_then(Saved::size).map(|size| size.lines),
            "lines_before": self.saved.as_ref().and_then(Saved::size).map(|size| size.lines_before),
            "shrinking_runs": self.saved.as_ref().and_then(Saved::size).map(|size| size.tries),
        })
    }
}

fn table(rows: &[Row]) -> String {
    let cells = |row: &Row| {
        let caught_by = row.caught_by();
        let caught_by = if caught_by.is_empty() { "NOTHING".to_owned() } else { caught_by.join(" ") };
        [
            row.target.name().to_owned(),
            caught_by,
            count(row.hunt.seeds),
            row.postgres().to_owned(),
            row.target.summary().to_owned(),
        ]
    };
    let titles = ["guard", "caught by", "seeds", "postgres", "without it"].map(str::to_owned);
    let lines: Vec<[String; 5]> = std::iter::once(titles).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0).min(40);
    let widths = [width(0), width(1), width(2), width(3)];
    let line = |[guard, caught_by, seeds, postgres, summary]: &[String; 5]| {
        let [guards, caught_bys, seedss, postgress] = widths;
        format!("{guard:<guards$}  {caught_by:<caught_bys$}  {seeds:>seedss$}  {postgres:<postgress$}  {summary}\n")
    };
    lines.iter().map(line).collect()
}

fn verdict(rows: &[Row], sound: &Swept) -> String {
    let of_all = |number: usize| format!("{number} of {}", rows.len());
    let caught = rows.iter().filter(|row| row.catch().is_some()).count();
    let confirmed = rows.iter().filter(|row| matches!(row.postgres, Postgres::Confirmed(_))).count();
    let broken = Property::ALL.into_iter().filter(|property| sound.sums.broken(*property) > 0);
    let broken: Vec<&str> = broken.map(Property::id).collect();
    let sound = match (sound.found.first(), counted(sound.sums.run_count(), "seed")) {
        (None, seeds) => format!("the sound engine is clean over {seeds}"),
        (Some(first), seeds) => format!(
            "the sound engine breaks {} in {} of {seeds}, the first is seed {}: {}",
            broken.join(" "),
            count(sound.found_count),
            first.seed,
            first.sentence
        ),
    };
    format!("\n{} caught, {} confirmed on the server; {sound}", of_all(caught), of_all(confirmed))
}
