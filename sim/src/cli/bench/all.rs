//! `bench`, without a name: every measurement, one after the other, as one table.
//!
//! A line is a figure of one of the measurements, taken from what that prints as JSON; the whole of which stands beside it
//! in this one's JSON. What it is not: a measurement of its own. Invariant: a floor is missed here exactly if it is missed
//! by the measurement, or its figure in the table lies on the wrong side of it.

use super::{Command, checker, net, run_one};
use crate::cli::figures::{count, wall};
use crate::cli::server::Choice;
use crate::cli::{Console, Exit, server};
use anyhow::{Context, Result};
use clap::{Args, Parser};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::time::Instant;

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    #[command(flatten)]
    server: server::Arguments,
    /// Fewer repetitions: a minute or two, for a look and for CI
    #[arg(long)]
    quick: bool,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// One measurement: its name, its options, those of the quick version, and whether it is nothing without a server.
struct Measurement {
    name: &'static str,
    quick: &'static str,
    needs_server: bool,
    takes_server: bool,
    lines: &'static [Line],
}

/// A figure of a measurement.
struct Line {
    /// Empty for the measurement's own.
    name: &'static str,
    /// Where in the JSON it stands: the largest of all, where a `*` stands for many.
    figure: &'static str,
    unit: &'static str,
    bound: Bound,
    /// Where it stands how it grows: the largest, too.
    growth: &'static str,
}

#[derive(Clone, Copy)]
enum Bound {
    None,
    AtLeast(f64),
    AtMost(f64),
}

use Bound::{AtLeast, AtMost, None as Unbounded};

const MEASUREMENTS: [Measurement; 9] = [
    Measurement {
        name: "sim",
        quick: "--repetitions 1",
        needs_server: false,
        takes_server: false,
        lines: &[
            line("", "/runs_per_cpu_second", "runs/s", AtLeast(1_000.0), "/growth/*/ratio_per_record"),
            line("records", "/records_per_second", "records/s", Unbounded, ""),
            line("times real time", "/times_real_time", "×", Unbounded, ""),
            line("zombie", "/zombie/runs_per_cpu_second", "runs/s", Unbounded, ""),
            line("long-sleep", "/long-sleep/runs_per_cpu_second", "runs/s", Unbounded, ""),
            line("emit-race", "/emit-race/runs_per_cpu_second", "runs/s", Unbounded, ""),
            line("children-fail", "/children-fail/runs_per_cpu_second", "runs/s", Unbounded, ""),
        ],
    },
    Measurement {
        name: "net",
        quick: "--repetitions 1",
        needs_server: false,
        takes_server: false,
        lines: &[line("times real time", "/times_real_time_by_cpu", "×", AtLeast(net::FLOOR), "")],
    },
    Measurement {
        name: "checker",
        quick: "--repetitions 1",
        needs_server: false,
        takes_server: false,
        lines: &[line("", "/records_per_second", "records/s", AtLeast(checker::FLOOR), "")],
    },
    Measurement {
        name: "replay",
        quick: "--histories 3",
        needs_server: true,
        takes_server: true,
        lines: &[line("", "/statements_per_second", "statements/s", AtLeast(3_000.0), "")],
    },
    Measurement {
        name: "handoff",
        quick: "--pairs 3",
        needs_server: true,
        takes_server: true,
        lines: &[
            line("of a plain insert", "/ratio", "", AtLeast(0.6), ""),
            line("rows", "/handoff_rows_per_second", "rows/s", Unbounded, ""),
            line("updates a window", "/updates_per_window", "", AtMost(3.05), ""),
        ],
    },
    Measurement {
        name: "joins",
        quick: "",
        needs_server: true,
        takes_server: true,
        lines: &[
            line("spawn", "/costs/*/spawn", "µs a child", Unbounded, ""),
            line("end", "/costs/*/end", "µs a child", Unbounded, "/growths/*"),
        ],
    },
    Measurement {
        name: "timers",
        quick: "--postgres off",
        needs_server: false,
        takes_server: true,
        lines: &[
            line("drain one, store", "/measured/0/costs/*/drain_one", "µs", Unbounded, "/measured/0/ratios/*/ratio"),
            line("drain one, server", "/measured/1/costs/*/drain_one", "µs", Unbounded, "/measured/1/ratios/*/ratio"),
        ],
    },
    Measurement {
        name: "storage",
        quick: "--postgres off",
        needs_server: false,
        takes_server: true,
        lines: &[
            line("a week, store", "/courses/0/seconds", "s", Unbounded, ""),
            line("a week, server", "/courses/1/seconds", "s", Unbounded, ""),
        ],
    },
    Measurement {
        name: "parity",
        quick: "--schedules 500",
        needs_server: true,
        takes_server: true,
        lines: &[line("", "/statements", "statements, the same", Unbounded, "")],
    },
];

const fn line(
    name: &'static str,
    figure: &'static str,
    unit: &'static str,
    bound: Bound,
    growth: &'static str,
) -> Line {
    Line { name, figure, unit, bound, growth }
}

/// A line of the table. What has no figure was not measured.
#[derive(Serialize)]
struct Row {
    name: String,
    figure: Option<f64>,
    unit: &'static str,
    /// Or a ceiling: what the figure is held against.
    floor: Option<f64>,
    /// The figure by its floor, or the ceiling by its figure: 1 and more is good.
    ratio: Option<f64>,
    /// What one costs among many, against one among few: 1 is in proportion.
    growth: Option<f64>,
    passed: bool,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    let server = arguments.server.choice();
    // Whether there is one is better known before minutes have gone by.
    drop(server.open()?);
    let begun = Instant::now();
    let (mut rows, mut details, mut exits) = (Vec::new(), Map::new(), Vec::new());
    for measurement in &MEASUREMENTS {
        if measurement.needs_server && server == Choice::Off {
            rows.extend(measurement.lines.iter().map(|line| line.row(measurement.name, None, true)));
            continue;
        }
        console.say(&format!("measuring {} …", measurement.name));
        let (exit, value) = measurement.measure(arguments, &server)?;
        rows.extend(measurement.lines.iter().map(|line| line.row(measurement.name, Some(&value), exit == Exit::Clean)));
        details.insert(measurement.name.to_owned(), value);
        exits.push(exit);
    }
    let is_missed = rows.iter().any(|row| !row.passed) || exits.contains(&Exit::Broken);
    let skipped = rows.iter().filter(|row| row.figure.is_none()).count();
    match arguments.json {
        true => console.print_json(&json!({"measurements": rows, "details": details, "quick": arguments.quick})),
        false => console.print(&format!("{}\nin {}\n", table(&rows), wall(begun.elapsed()))),
    }
    if skipped > 0 {
        console.say(&format!("warning: {skipped} figures of {} need a server, and none was asked for", rows.len()));
    }
    Ok(if is_missed { Exit::Broken } else { Exit::Clean })
}

impl Measurement {
    /// As its own command would, and what that prints.
    fn measure(&self, arguments: &Arguments, server: &Choice) -> Result<(Exit, Value)> {
        #[derive(Parser)]
        struct Only {
            #[command(subcommand)]
            command: Command,
        }
        let mut words = vec!["bench".to_owned(), self.name.to_owned(), "--json".to_owned()];
        if arguments.quick {
            words.extend(self.quick.split_whitespace().map(str::to_owned));
        }
        // In the quick version, what takes minutes on a server is measured in the store.
        if self.takes_server && !(arguments.quick && self.quick.contains("--postgres")) {
            words.extend(["--postgres".to_owned(), server.named()]);
        }
        let Only { command } = Only::try_parse_from(words).context("a measurement takes its own options")?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = run_one(&command, &mut Console::to(&mut out, &mut err))
            .with_context(|| format!("bench {} could not be made", self.name))?;
        Ok((exit, serde_json::from_slice(&out).context("a measurement prints one JSON value")?))
    }
}

impl Line {
    /// `holds` is what the measurement itself says.
    fn row(&self, of: &str, value: Option<&Value>, holds: bool) -> Row {
        let largest = |path: &str| value.and_then(|value| largest(value, path));
        let figure = largest(self.figure);
        let name = [of, self.name].join(" ").trim_end().to_owned();
        let (floor, ratio) = match self.bound {
            Unbounded => (None, None),
            AtLeast(floor) => (Some(floor), figure.map(|figure| figure / floor)),
            AtMost(ceiling) => (Some(ceiling), figure.map(|figure| ceiling / figure)),
        };
        let passed = holds && ratio.is_none_or(|ratio| ratio >= 1.0);
        Row { name, figure, unit: self.unit, floor, ratio, growth: largest(self.growth), passed }
    }
}

/// The largest number at a path, in which a `*` stands for every element.
fn largest(value: &Value, path: &str) -> Option<f64> {
    let Some((first, rest)) = path.strip_prefix('/').map(|path| path.split_once('/').unwrap_or((path, ""))) else {
        return value.as_f64();
    };
    let rest = if rest.is_empty() { String::new() } else { format!("/{rest}") };
    match (first, value) {
        ("*", Value::Array(each)) => each.iter().filter_map(|value| largest(value, &rest)).reduce(f64::max),
        (index, Value::Array(each)) => largest(each.get(index.parse::<usize>().ok()?)?, &rest),
        (key, value) => largest(value.get(key)?, &rest),
    }
}

fn table(rows: &[Row]) -> String {
    let head = ["", "figure", "unit", "floor", "ratio", "growth", ""].map(str::to_owned);
    let number = |figure: f64| if figure >= 100.0 { count(figure as u64) } else { format!("{figure:.2}") };
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    let cells = rows.iter().map(|row| {
        let verdict = match (row.figure, row.passed) {
            (None, true) => "not measured",
            (_, true) => "passed",
            (_, false) => "MISSED",
        };
        [
            row.name.clone(),
            or_dash(row.figure.map(number)),
            row.unit.to_owned(),
            or_dash(row.floor.map(number)),
            or_dash(row.ratio.map(|ratio| format!("{ratio:.2}"))),
            or_dash(row.growth.map(|growth| format!("× {growth:.2}"))),
            verdict.to_owned(),
        ]
    });
    let cells: Vec<[String; 7]> = std::iter::once(head).chain(cells).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    let row = |row: &[String; 7]| {
        let cell = |(column, text): (usize, &String)| match column {
            0 | 2 | 6 => format!("{text:<width$}", width = widths[column]),
            _ => format!("{text:>width$}", width = widths[column]),
        };
        row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    cells.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_and_held_against_their_floors() {
        let value = json!({"rate": 1_500.0, "growth": [{"ratio": 1.0}, {"ratio": 1.25}]});
        let line = line("", "/rate", "runs/s", AtLeast(1_000.0), "/growth/*/ratio");
        let row = line.row("sim", Some(&value), true);
        assert_eq!((row.figure, row.ratio, row.growth, row.passed), (Some(1_500.0), Some(1.5), Some(1.25), true));
        assert!(!line.row("sim", Some(&value), false).passed);
        assert!(!line.row("sim", Some(&json!({"rate": 999})), true).passed);
        let ceiling = Line { bound: AtMost(1_000.0), ..line };
        assert!(!ceiling.row("sim", Some(&value), true).passed);
        let text = table(&[row, ceiling.row("other", None, true)]);
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("passed") && text.contains("not measured") && text.contains("× 1.25"), "{text}");
    }

    /// A measurement of this machine is no test; that every command is known and takes what it is given is.
    #[test]
    fn every_measurement_is_a_command() {
        #[derive(Parser)]
        struct Only {
            #[command(subcommand)]
            _command: Command,
        }
        for Measurement { name, quick, takes_server, .. } in &MEASUREMENTS {
            let server = if *takes_server && !quick.contains("--postgres") { " --postgres off" } else { "" };
            let words = format!("bench {name} --json {quick}{server}");
            assert!(Only::try_parse_from(words.split_whitespace()).is_ok(), "{words}");
        }
    }
}
