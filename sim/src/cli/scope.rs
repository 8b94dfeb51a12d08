//! What to run, as several commands are told it: workloads, faults, guards.

use super::name::{self, FaultName};
use crate::faults::FaultKind;
use crate::generate::Limits;
use crate::net::failing::Failing;
use crate::net::network::NetworkFault;
use crate::simulate::{On, Work};
use crate::sweep::Setting;
use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};
use tourbillon_engine::guard::{Design, Guard, Guards};
use tourbillon_models::workload::Workload;

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    #[command(flatten)]
    pub draw: Draw,
    /// Guards to remove
    #[arg(long, value_name = "GUARD,…", value_delimiter = ',', value_parser = name::guard)]
    without: Vec<Guard>,
    /// A published system's way of doing it: a named set of removed guards
    #[arg(long, value_name = "NAME", value_parser = name::design)]
    design: Option<&'static Design>,
}

/// What a seed draws from.
#[derive(Args)]
pub struct Draw {
    /// Workloads, which the seeds take turns in [default: all]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = name::workload)]
    workload: Vec<&'static str>,
    /// Kinds of fault that a seed may draw, network for all of a network's, or none [default: all]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    faults: Vec<FaultName>,
    /// Whose turn it is: uniform, each call takes a random time; pct, whoever is ready and comes first in a random order goes
    /// on, but for a few turns
    #[arg(long, value_name = "ORDER", default_value = "uniform")]
    order: OrderKind,
    /// Where plans run [default: run and replay, both; guards, direct]
    #[arg(long, value_name = "TARGET")]
    pub on: Option<Place>,
    /// With pct: so many orderings of turns may matter, one for the order and one for each of the other turns [default: 3]
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u32).range(1..=100))]
    depth: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum OrderKind {
    Uniform,
    Pct,
}

const USUAL_DEPTH: u32 = 3;

/// Where plans run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Place {
    /// The engine in this process
    Direct,
    /// Over a simulated network
    Net,
    /// One seed in 499 over a network, the others directly
    Both,
    /// Directly and on a server, statement by statement: replay only
    Lockstep,
}

impl Place {
    const fn name(self) -> &'static str {
        match self {
            Place::Direct => "direct",
            Place::Net => "net",
            Place::Both => "both",
            Place::Lockstep => "lockstep",
        }
    }
}

impl Draw {
    /// Refuses what would be passed over in silence. `usual`: where it runs unless somebody said it.
    pub fn look(&self, usual: On) -> Result<()> {
        match (self.depth, self.order, self.on) {
            (Some(depth), OrderKind::Uniform, _) => {
                bail!("--depth {depth} is of priorities: it goes with --order pct")
            }
            (_, OrderKind::Pct, Some(Place::Net | Place::Both)) => {
                bail!("--order pct decides whose turn it is, and on a network time does: use --on direct")
            }
            _ => {}
        }
        let is_one = |name: &FaultName| *name == FaultName::None;
        ensure!(self.faults.len() < 2 || !self.faults.iter().any(is_one), "--faults none goes with no other");
        let of_network = self.faults.iter().find_map(|name| name.of_network());
        let has_none = match (self.on, self.place_or(usual)) {
            // What some seeds of a sweep meet is also named where another of them is replayed in lockstep.
            (Some(Place::Lockstep), _) | (_, On::Net) => false,
            (_, On::Direct) => true,
            // Hardly a seed would meet them, which somebody may want beside others.
            (None, On::Both) => true,
            (Some(_), On::Both) => self.faults.iter().all(|name| name.of_network().is_some()),
        };
        match of_network.filter(|_| has_none) {
            Some(fault) => bail!("--faults {fault} needs a network: use --on net"),
            None => Ok(()),
        }
    }

    /// The same, and what cannot be swept.
    pub fn look_swept(&self, usual: On) -> Result<()> {
        ensure!(self.on != Some(Place::Lockstep), "--on lockstep is for replay: here it is direct, net or both");
        self.look(usual)
    }

    /// A network fails like everything else, unless kinds of fault are named without its own.
    pub fn network(&self) -> Failing {
        if self.faults.is_empty() || self.faults.contains(&FaultName::Network) {
            return Failing::ANYHOW;
        }
        let is_asked = |fault: &NetworkFault| self.faults.contains(&FaultName::OfNetwork(*fault));
        NetworkFault::DRAWN.into_iter().filter(is_asked).fold(Failing::NEVER, Failing::and)
    }

    pub fn place_or(&self, usual: On) -> On {
        match self.on {
            None => usual,
            Some(Place::Net) => On::Net,
            Some(Place::Both) => On::Both,
            Some(Place::Direct | Place::Lockstep) => On::Direct,
        }
    }

    /// In the order in which they are listed, so that `a,b` and `b,a` are the same runs.
    pub fn workloads(&self) -> Vec<&'static str> {
        let is_asked = |name: &&str| self.workload.is_empty() || self.workload.contains(name);
        Workload::ALL.iter().map(Workload::name).filter(is_asked).collect()
    }

    /// The project's own workloads of these names.
    pub fn works(&self) -> Vec<Work> {
        self.works_on(On::Both)
    }

    /// The same; where they run unless somebody said it.
    pub fn works_on(&self, usual: On) -> Vec<Work> {
        let on = self.place_or(usual);
        let work = |name| Work::named(name).expect("names on the command line are looked up");
        let work = |name| work(name).ordered(self.depth()).on(on).network(self.network());
        self.workloads().into_iter().map(work).collect()
    }

    /// None unless priorities are asked for.
    pub fn depth(&self) -> Option<u32> {
        (self.order == OrderKind::Pct).then_some(self.depth.unwrap_or(USUAL_DEPTH))
    }

    pub fn limits(&self) -> Limits {
        let is_asked = |kind: &FaultKind| self.faults.is_empty() || self.faults.contains(&FaultName::Kind(*kind));
        Limits { faults: FaultKind::ALL.into_iter().filter(is_asked).collect() }
    }

    /// The options that make the same draws again.
    pub fn again(&self) -> String {
        let mut options = String::new();
        if !self.workload.is_empty() {
            options += &format!(" --workload {}", self.workloads().join(","));
        }
        if !self.faults.is_empty() {
            let network = match self.network() {
                Failing::ANYHOW => vec!["network"],
                failing => failing.faults().map(NetworkFault::name).collect(),
            };
            let kinds = self.limits().faults;
            let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).chain(network).collect();
            options += &format!(" --faults {}", if names.is_empty() { "none".to_owned() } else { names.join(",") });
        }
        if let Some(place @ (Place::Direct | Place::Net | Place::Both)) = self.on {
            options += &format!(" --on {}", place.name());
        }
        if let Some(depth) = self.depth() {
            options += &format!(" --order pct --depth {depth}");
        }
        options
    }
}

impl Arguments {
    pub fn guards(&self) -> Guards {
        let of_design = self.design.map_or(&[][..], |design| design.removed);
        Guards::without(&[&self.without, of_design].concat())
    }

    /// Whether nothing is left out there: every workload, every fault, every guard, and time as it passes.
    pub fn is_everything(&self, on: On) -> bool {
        let has_all = self.draw.workloads().len() == Workload::ALL.len();
        has_all
            && self.draw.depth().is_none()
            && self.draw.place_or(On::Both) == on
            && self.draw.network() == Failing::ANYHOW
            && self.draw.limits().faults.len() == FaultKind::ALL.len()
            && self.guards() == Guards::ALL
    }

    pub fn design(&self) -> Option<&'static Design> {
        self.design
    }

    pub fn setting(&self) -> Setting {
        Setting { limits: self.draw.limits(), guards: self.guards() }
    }

    pub fn again(&self) -> String {
        self.draw.again() + &removed_again(&self.without, self.design)
    }
}

/// The options that remove the same guards again.
pub fn removed_again(without: &[Guard], design: Option<&Design>) -> String {
    let names: Vec<&str> = without.iter().map(|guard| guard.name()).collect();
    let without = if names.is_empty() { String::new() } else { format!(" --without {}", names.join(",")) };
    without + &design.map_or(String::new(), |design| format!(" --design {}", design.name))
}

/// What the design removes, and what else was removed.
fn beyond(guards: Guards, design: &Design) -> String {
    let (own, other): (Vec<Guard>, Vec<Guard>) = guards.removed().partition(|guard| design.removed.contains(guard));
    let names = |guards: Vec<Guard>| guards.into_iter().map(Guard::name).collect::<Vec<_>>().join(", ");
    let other = if other.is_empty() { String::new() } else { format!(" and without {}", names(other)) };
    format!(" (without {}){other}", names(own))
}

/// The guards that were removed, in words.
pub fn without(guards: Guards, design: Option<&Design>) -> String {
    let names: Vec<&str> = guards.removed().map(Guard::name).collect();
    match (design, names.as_slice()) {
        (Some(design), []) => format!("design {}", design.name),
        (Some(design), _) => format!("design {}{}", design.name, beyond(guards, design)),
        (None, []) => "every guard in its place".to_owned(),
        (None, names) => format!("without {}", names.join(", ")),
    }
}
