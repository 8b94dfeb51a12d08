//! `list`: what there is to choose from, and the goals of a sweep, each with one sentence; or the shape of one workload.

use super::{Console, Exit, name};
use crate::chaos::blow::Kind;
use crate::faults::FaultKind;
use crate::net::network::NetworkFault;
use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use tourbillon_engine::guard::{Design, Guard};
use tourbillon_models::property::{Property, Reach};
use tourbillon_models::workload::Workload;
use tourbillon_models::workload::shape::explore;

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// Print the shape of a workload's program instead: which steps follow which
    #[arg(long, value_name = "WORKLOAD", value_parser = name::workload)]
    shape: Option<&'static str>,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// Everything that has a name.
#[derive(Serialize)]
struct Catalogue {
    workloads: Vec<Entry>,
    faults: Vec<Entry>,
    network_faults: Vec<Entry>,
    chaos_faults: Vec<Entry>,
    properties: Vec<Entry>,
    guards: Vec<Entry>,
    designs: Vec<Entry>,
    goals: Vec<Entry>,
    network_goals: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    /// What reports call it, where that is shorter.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'static str>,
    name: &'static str,
    summary: String,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    if let Some(workload) = arguments.shape {
        let shape = shape(workload)?;
        match arguments.json {
            true => console.print_json(&json!({ "workload": workload, "shape": shape })),
            false => console.print(&shape),
        }
        return Ok(Exit::Clean);
    }
    let catalogue = catalogue();
    match arguments.json {
        true => console.print_json(&catalogue),
        false => console.print(&catalogue.text()),
    }
    Ok(Exit::Clean)
}

/// Behaviours have the shape of the program that they are about.
fn shape(workload: &'static str) -> Result<String> {
    let program = Workload::by_name(workload).and_then(|workload| workload.program());
    let program =
        program.with_context(|| format!("{workload} has no steps: each message is acknowledged, and that is all"))?;
    Ok(explore(program)?.to_string())
}

fn catalogue() -> Catalogue {
    let entry = |name, summary: &str| Entry { id: None, name, summary: summary.to_owned() };
    let property = |it: Property| Entry { id: Some(it.id()), name: it.name(), summary: it.summary().to_owned() };
    let goal = |it: Reach| Entry { id: None, name: it.name(), summary: it.summary() };
    Catalogue {
        workloads: Workload::ALL.iter().map(|workload| entry(workload.name(), workload.summary())).collect(),
        faults: FaultKind::ALL.iter().map(|kind| entry(kind.name(), kind.summary())).collect(),
        network_faults: NetworkFault::DRAWN.iter().map(|fault| entry(fault.name(), fault.summary())).collect(),
        chaos_faults: Kind::ALL.iter().map(|kind| entry(kind.name(), kind.summary())).collect(),
        properties: Property::ALL.into_iter().map(property).collect(),
        guards: Guard::ALL.iter().map(|guard| entry(guard.name(), guard.summary())).collect(),
        designs: Design::ALL.iter().map(|design| entry(design.name, design.summary)).collect(),
        goals: Reach::ANYWHERE.iter().copied().map(goal).collect(),
        network_goals: Reach::OF_NETWORK.iter().copied().map(goal).collect(),
    }
}

impl Catalogue {
    fn text(&self) -> String {
        let Catalogue {
            workloads,
            faults,
            network_faults,
            chaos_faults,
            properties,
            guards,
            designs,
            goals,
            network_goals,
        } = self;
        let sections = [
            ("workloads (--workload)", workloads),
            ("faults (--faults)", faults),
            ("faults over a network (--faults, --on net); network stands for all of them", network_faults),
            ("faults on a real server (chaos --faults)", chaos_faults),
            ("properties", properties),
            ("guards (--without): what goes wrong without each", guards),
            ("designs (--design)", designs),
            ("goals: what a sweep should have seen at least once", goals),
            ("goals of a sweep over a network (--on net)", network_goals),
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
