//! `list`: what there is to choose from, each with one sentence.

use super::{Console, Exit};
use crate::faults::FaultKind;
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tourbillon_engine::guard::{Design, Guard};
use tourbillon_models::property::Property;
use tourbillon_models::workload::Workload;

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// Everything that has a name.
#[derive(Serialize)]
struct Catalogue {
    workloads: Vec<Entry>,
    faults: Vec<Entry>,
    properties: Vec<Entry>,
    guards: Vec<Entry>,
    designs: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    /// What reports call it, where that is shorter.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'static str>,
    name: &'static str,
    summary: &'static str,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    let catalogue = catalogue();
    match arguments.json {
        true => console.print_json(&catalogue),
        false => console.print(&catalogue.text()),
    }
    Ok(Exit::Clean)
}

fn catalogue() -> Catalogue {
    let entry = |name, summary| Entry { id: None, name, summary };
    let property = |it: Property| Entry { id: Some(it.id()), name: it.name(), summary: it.summary() };
    Catalogue {
        workloads: Workload::ALL.iter().map(|workload| entry(workload.name(), workload.summary())).collect(),
        faults: FaultKind::ALL.iter().map(|kind| entry(kind.name(), kind.summary())).collect(),
        properties: Property::ALL.into_iter().map(property).collect(),
        guards: Guard::ALL.iter().map(|guard| entry(guard.name(), guard.summary())).collect(),
        designs: Design::ALL.iter().map(|design| entry(design.name, design.summary)).collect(),
    }
}

impl Catalogue {
    fn text(&self) -> String {
        let Catalogue { workloads, faults, properties, guards, designs } = self;
        let sections = [
            ("workloads (--workload)", workloads),
            ("faults (--faults)", faults),
            ("properties", properties),
            ("guards (--without): what goes wrong without each", guards),
            ("designs (--design)", designs),
        ];
        sections.map(|(title, entries)| section(title, entries)).join("\n")
    }
}

fn section(title: &str, entries: &[Entry]) -> String {
    let title_of = |entry: &Entry| entry.id.map_or(String::new(), |id| format!("{id} ")) + entry.name;
    let width = entries.iter().map(|entry| title_of(entry).len()).max().unwrap_or(0);
    let lines: String =
        entries.iter().map(|entry| format!("  {:<width$}  {}\n", title_of(entry), entry.summary)).collect();
    format!("{title}\n{lines}")
}
