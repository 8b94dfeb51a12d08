//! `bench storage`: whether what a long run leaves behind stays bounded, in the store and on a server.
//!
//! The same simulated week in both, on a virtual clock: see `week`. Each tenth of it shows the most that lay there, and both
//! must have had the same rows. What is kept for ever is told and not judged: the keys under which workflows were
//! started, and dead letters that nobody replays (of which a week without failures has none).

mod places;
mod week;

use super::connected::Site;
use crate::cli::figures::{count, long};
use crate::cli::server::Choice;
use crate::cli::{Console, Exit, server};
use anyhow::{Context, Result};
use clap::Args;
use places::{InStore, OnServer};
use serde::Serialize;
use std::collections::BTreeMap;

/// The last third may hold so many times what the middle one did.
const LIMIT: f64 = 1.2;
const PARTS: usize = 10;
const MIDDLE: std::ops::Range<usize> = 3..7;
const LAST: std::ops::Range<usize> = 7..10;
/// What grows by less than this, versions or bytes, is flat: a page more or less.
const GRAIN: [u64; 2] = [20, 32 << 10];

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    #[command(flatten)]
    server: server::Arguments,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// What a kind of table holds at one time: rows that are seen, and what they take, in versions or bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize)]
struct Held {
    rows: u64,
    space: u64,
}

/// By the name of the kind.
type Sample = BTreeMap<&'static str, Held>;

/// In the order in which they are shown.
const KINDS: [&str; 19] = [
    "event",
    "timer",
    "cancelled",
    "tick",
    "queue",
    "drain",
    "subscription",
    "worker",
    "workflow",
    "tries",
    "box",
    "emitted",
    "open_join",
    "result",
    "audit",
    "audit_cursor",
    "dead_letter",
    "dead_letter_content",
    "start_key",
];
const KEPT_FOR_EVER: [&str; 3] = ["dead_letter", "dead_letter_content", "start_key"];

/// The unit of space.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Unit {
    Versions,
    Bytes,
}

#[derive(Serialize)]
struct Course {
    place: String,
    unit: Unit,
    seconds: f64,
    /// For each kind the most that it held in each part.
    parts: BTreeMap<&'static str, [Held; PARTS]>,
    growing: Vec<&'static str>,
}

impl Course {
    fn of(place: String, unit: Unit, seconds: f64, samples: &[Sample]) -> Course {
        let mut parts: BTreeMap<_, _> = KINDS.iter().map(|kind| (*kind, [Held::default(); PARTS])).collect();
        for (index, sample) in samples.iter().enumerate() {
            for (kind, held) in sample {
                let most = &mut parts.get_mut(kind).expect("it is one of the kinds")[index * PARTS / samples.len()];
                *most = Held { rows: most.rows.max(held.rows), space: most.space.max(held.space) };
            }
        }
        let grain = GRAIN[unit as usize];
        let is_growing = |kind: &&str| !KEPT_FOR_EVER.contains(kind) && growth(&parts[*kind], grain) > LIMIT;
        let growing = KINDS.into_iter().filter(is_growing).collect();
        Course { place, unit, seconds, parts, growing }
    }
}

/// The most of the last third against that of the middle one.
fn growth(parts: &[Held; PARTS], grain: u64) -> f64 {
    let most = |parts: &[Held]| parts.iter().map(|held| held.space).max().unwrap_or(0);
    let (middle, last) = (most(&parts[MIDDLE]), most(&parts[LAST]));
    if last <= middle + grain { 1.0 } else { last as f64 / middle.max(1) as f64 }
}

#[derive(Serialize)]
struct Report {
    configuration: &'static str,
    courses: Vec<Course>,
    /// In the store and on the server, in each part of each kind.
    same_rows: bool,
}

impl Report {
    fn of(courses: Vec<Course>) -> Report {
        let rows = |course: &Course| -> Vec<u64> { course.parts.values().flatten().map(|held| held.rows).collect() };
        let same_rows = courses.windows(2).all(|pair| rows(&pair[0]) == rows(&pair[1]));
        Report { configuration: week::CONFIGURATION, courses, same_rows }
    }

    fn holds(&self) -> bool {
        self.same_rows && self.courses.iter().all(|course| course.growing.is_empty())
    }
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    console.say("a week in the store …");
    let mut courses = vec![week::course(&mut InStore::new()?, "the store".to_owned(), Unit::Versions)?];
    let choice = arguments.server.choice();
    if choice != Choice::Off {
        let mut server = choice.open()?.context("a server was asked for")?;
        console.say("a week on the server …");
        let site = Site::install(&mut server, &week::STEPS)?;
        let place = format!("PostgreSQL {}", server.version());
        courses.push(week::course(&mut OnServer::new(&server, &site)?, place, Unit::Bytes)?);
        server.drop_schema(site.schema())?;
    }
    let report = Report::of(courses);
    match arguments.json {
        true => console.print_json(&report),
        false => console.print(&text(&report)),
    }
    Ok(if report.holds() { Exit::Clean } else { Exit::Broken })
}

fn text(Report { configuration, courses, same_rows }: &Report) -> String {
    let mut text = format!("{configuration}\n");
    for Course { place, unit, seconds, parts, growing } in courses {
        let (space, scale) = match unit {
            Unit::Versions => ("versions, those included that nobody sees", 1),
            Unit::Bytes => ("KiB with indexes", 1 << 10),
        };
        text += &format!(
            "\n{place}: {} in {seconds:.0} s; the most of each tenth: rows, and below {space}\n",
            long(week::LENGTH.0)
        );
        for kind in KINDS {
            let of = &parts[kind];
            let verdict = match () {
                () if KEPT_FOR_EVER.contains(&kind) => "kept for ever".to_owned(),
                () if growing.contains(&kind) => format!("GROWING × {:.2}", growth(of, 0)),
                () => "flat".to_owned(),
            };
            let line = |figure: &dyn Fn(&Held) -> u64| -> String {
                of.iter().map(|held| format!(" {:>8}", count(figure(held)))).collect()
            };
            text += &format!("  {kind:<19}{}\n", line(&|held| held.rows));
            text += &format!("  {:<19}{}  {verdict}\n", "", line(&|held| held.space.div_ceil(scale)));
        }
    }
    if !same_rows {
        text += "\nthe store and the server have had DIFFERENT ROWS\n";
    }
    text + &format!("\nflat: the last three tenths hold at most {LIMIT} times what the four before them did\n")
}
