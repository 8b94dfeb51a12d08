//! `shrink`: of a failure that was saved, a smaller one that goes wrong in the same way.

use super::saved::{self, Circumstances, Size, save};
use super::{Console, Exit, name, server};
use crate::capsule::Capsule;
use crate::postgres::one_cpu::OneCpu;
use crate::replay::Replay;
use crate::shrink::budget::Budget;
use crate::shrink::subject::Subject;
use crate::shrink::{Shrunk, divergence};
use crate::simulate::Work;
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;
use tourbillon_engine::guard::Guards;
use tourbillon_models::property::Property;

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// A failure that was saved
    #[arg(value_name = "CAPSULE")]
    capsule: PathBuf,
    /// Try so many times as much as is tried of a failure that is found
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = name::at_least_one)]
    effort: u64,
    /// Stop after so many seconds all the same
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = name::at_least_one)]
    seconds: u64,
    /// Keep this property broken [default: the one that the capsule names first]
    #[arg(long, value_name = "PROPERTY", value_parser = name::property)]
    property: Option<Property>,
    #[command(flatten)]
    server: server::Arguments,
    #[command(flatten)]
    place: saved::Place,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    let capsule = Capsule::read(&arguments.capsule)?;
    let (work, guards) = (capsule.work()?, capsule.guards()?);
    let records = Budget::USUAL.saturating_mul(arguments.effort);
    let budget = Budget::of(records, Duration::from_secs(arguments.seconds));
    arguments.place.look(console);
    let (shrunk, replay) = match property(arguments, &capsule)? {
        Some(property) => shrink_violation(&capsule, &work, guards, property, &budget)?,
        None => shrink_divergence(arguments, &capsule, &work, guards, &budget)?,
    };
    let limits = capsule.limits()?;
    let with = Circumstances {
        limits: &limits,
        design: capsule.design()?,
        directory: arguments.place.directory(),
        server: arguments.server.again(),
        again: String::new(),
        shrinks: None,
    };
    let told: Vec<Property> = property(arguments, &capsule)?.into_iter().collect();
    let saved = save(&shrunk.plan, &replay, &told, &with).context("what is left does not go wrong any more")?;
    if let Err(reason) = &saved.capsule {
        bail!("{reason}; what is left was not saved, and {} is as it was", arguments.capsule.display());
    }
    let saved = saved.with_size(Size::of(&shrunk));
    match arguments.json {
        true => console.print_json(&json!({
            "capsule": saved.path(), "sentence": saved.sentence, "broken": saved.broken.iter().map(|property| property.id()).collect::<Vec<_>>(),
            "lines": shrunk.lines(), "lines_before": shrunk.lines_before, "tries": shrunk.tries,
            "is_minimal": shrunk.stopped.is_none(), "again": saved.command(console),
        })),
        false => console.print(&saved.text(console)),
    }
    Ok(Exit::Broken)
}

/// None for a divergence.
fn property(arguments: &Arguments, capsule: &Capsule) -> Result<Option<Property>> {
    let named = capsule.violations.first().and_then(|text| Property::by_name(text.split(' ').next()?));
    match (arguments.property.or(named), &capsule.divergence) {
        (Some(property), _) => Ok(Some(property)),
        (None, Some(_)) => Ok(None),
        (None, None) => bail!(
            "{} tells of a run in which nothing went wrong: there is nothing to shrink",
            arguments.capsule.display()
        ),
    }
}

fn shrink_violation(
    capsule: &Capsule,
    work: &Work,
    guards: Guards,
    property: Property,
    budget: &Budget,
) -> Result<(Shrunk, Replay)> {
    let subject = Subject { work, guards, property };
    if subject.is_spent(&capsule.plan) {
        bail!(
            "{property} is a matter of time, and what was shrunk once has no more of it than it needs: shrink the run that was \
             found, of seed {}, again",
            capsule.seed
        );
    }
    let Some(shrunk) = subject.shrink(&capsule.plan, budget) else {
        bail!("run again, the capsule's plan does not break {property} on the direct target");
    };
    let replay = Replay::direct(&shrunk.plan, &work.of(&shrunk.plan), guards);
    Ok((shrunk, replay))
}

fn shrink_divergence(
    arguments: &Arguments,
    capsule: &Capsule,
    work: &Work,
    guards: Guards,
    budget: &Budget,
) -> Result<(Shrunk, Replay)> {
    let _one = OneCpu::claim();
    let Some(mut server) = arguments.server.choice().open()? else {
        bail!(
            "{} tells where a server differs from the model: without a server it cannot be shrunk",
            arguments.capsule.display()
        );
    };
    let shrunk = divergence::shrink_divergence(&mut server, &capsule.plan, work, guards, budget)?;
    shrunk.context("replayed again, the capsule's plan does not diverge")
}
