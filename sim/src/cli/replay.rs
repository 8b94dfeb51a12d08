//! `replay`: one run again, from a seed or from a capsule, on the direct target or on a real server.

use super::figures::{count, counted, long};
use super::saved::{self, Circumstances, quoted_path, save};
use super::scope::Place;
use super::{Console, Exit, check, name, scope, server};
use crate::capsule::Capsule;
use crate::difference::difference;
use crate::generate::Limits;
use crate::plan::{Phase, Plan, PlannedEffect, PlannedFault, When};
use crate::postgres::one_cpu::OneCpu;
use crate::replay::{End, Replay, crashes_server, for_server, replay};
use crate::simulate::{Simulator, Work};
use crate::sweep::{catch, work_of};
use crate::target::Chooser;
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tourbillon_engine::guard::{Design, Guards};
use tourbillon_models::history::History;
use tourbillon_models::record::ClockOffset;
use tourbillon_models::verdict::{Verdict, Violation};

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// A failure that was saved
    #[arg(value_name = "CAPSULE", conflicts_with_all = ["seed", "workload", "faults", "order", "depth", "without", "design"])]
    capsule: Option<PathBuf>,
    /// A seed: a number, or a git commit hash
    #[arg(long, value_name = "S", value_parser = name::seed)]
    seed: Option<u64>,
    #[command(flatten)]
    scope: scope::Arguments,
    #[command(flatten)]
    server: server::Arguments,
    #[command(flatten)]
    place: saved::Place,
    /// Print the history, as JSON Lines, and nothing else to standard output
    #[arg(long, conflicts_with = "json")]
    history: bool,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// As the plan says, in this process, or on a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Simulator,
    Lockstep,
}

/// What to run again.
struct Subject {
    plan: Plan,
    work: Work,
    limits: Limits,
    guards: Guards,
    design: Option<&'static Design>,
    capsule: Option<(PathBuf, Capsule)>,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    arguments.scope.draw.look(crate::simulate::On::Both)?;
    let mut subject = subject(arguments)?;
    let server = arguments.server.choice();
    let on = subject.target(arguments.scope.draw.on)?;
    if on == On::Lockstep && crashes_server(&subject.plan) && !server.may_crash() {
        bail!("this plan kills the server, which is done only to a throw-away one: use --postgres auto");
    }
    match (arguments.json, arguments.history) {
        (true, _) => {}
        (false, true) => console.say(&heading(&subject)),
        (false, false) => console.print(&heading(&subject)),
    }
    let replay = match on {
        On::Simulator => run_direct(&subject)?,
        On::Lockstep => run_lockstep(&mut subject, &server)?,
    };
    if arguments.history {
        console.print_lines(replay.history.lines());
        console.say(&figures(&replay));
    } else if arguments.json {
        console.print_json(&json(&subject, &replay));
    } else {
        console.print(&format!("{}\n{}", figures(&replay), told(&subject, &replay)));
        if replay.end.is_failure() {
            console.print(&again(arguments, &subject, &replay, on, console));
        }
    }
    Ok(exit(&replay.end))
}

fn exit(end: &End) -> Exit {
    match end {
        End::Diverged(_) => Exit::Broken,
        End::Agreed { verdict, .. } => check::exit(verdict),
    }
}

fn subject(arguments: &Arguments) -> Result<Subject> {
    match (&arguments.capsule, arguments.seed) {
        (Some(path), _) => {
            let capsule = Capsule::read(path)?;
            Ok(Subject {
                plan: capsule.plan.clone(),
                work: capsule.work()?,
                limits: capsule.limits()?,
                guards: capsule.guards()?,
                design: capsule.design()?,
                capsule: Some((path.clone(), capsule)),
            })
        }
        (None, Some(seed)) => {
            let works = arguments.scope.draw.works();
            let work = work_of(&works, seed).clone();
            let limits = arguments.scope.draw.limits();
            let (guards, design) = (arguments.scope.guards(), arguments.scope.design());
            Ok(Subject { plan: work.plan(seed, &limits), work, limits, guards, design, capsule: None })
        }
        (None, None) => bail!("replay takes the path of a capsule, or --seed S"),
    }
}

impl Subject {
    /// Where it was asked to run, or where its failure showed. What is in a capsule stays there.
    fn target(&self, asked: Option<Place>) -> Result<On> {
        let (is_net, is_capsule) = (self.plan.network.is_some(), self.capsule.is_some());
        match asked {
            Some(Place::Lockstep) if is_net => {
                bail!("this plan runs over a network, which no server can be put in place of")
            }
            Some(Place::Lockstep) => Ok(On::Lockstep),
            Some(Place::Net) if is_capsule && !is_net => bail!("the capsule's plan has no network"),
            Some(Place::Direct) if is_capsule && is_net => bail!("the capsule's plan runs over a network"),
            None if self.capsule.as_ref().is_some_and(|(_, capsule)| capsule.divergence.is_some()) => Ok(On::Lockstep),
            _ => Ok(On::Simulator),
        }
    }

    fn chooser(&self) -> Chooser {
        self.capsule.as_ref().map_or_else(|| Chooser::seeded(self.plan.seed), |(_, capsule)| capsule.chooser())
    }
}

fn run_direct(subject: &Subject) -> Result<Replay> {
    let Subject { plan, work, guards, .. } = subject;
    let mut simulator = Simulator::default();
    match catch(|| simulator.run_with(plan, work, *guards, subject.chooser())) {
        Ok((summary, verdict)) => {
            let (history, counts) = (simulator.history().clone(), Default::default());
            Ok(Replay { counts, history, end: End::Agreed { summary, verdict } })
        }
        Err(sentence) => bail!(sentence),
    }
}

fn run_lockstep(subject: &mut Subject, choice: &server::Choice) -> Result<Replay> {
    // Before the server starts, so that it runs where this thread runs.
    let _one = OneCpu::claim();
    let server = choice.open()?;
    let mut server = server.context("--on lockstep needs a server: --postgres auto, or the address of yours")?;
    subject.plan = for_server(&server, &subject.plan);
    Ok(replay(&mut server, &subject.plan, &subject.work, subject.guards, subject.chooser())?)
}

/// What came of it, as a story.
fn told(subject: &Subject, replay: &Replay) -> String {
    let history = &replay.history;
    let story = match &replay.end {
        End::Diverged(difference) => {
            format!("the server differs from the model: {difference}\n\n{}\n\n", saved::end_of(history).trim_end())
        }
        End::Agreed { verdict, .. } => {
            let known = subject.capsule.as_ref().and_then(|(_, capsule)| capsule.violations.first());
            let meant = known.and_then(|known| meant(verdict, known));
            let gap = if verdict.first_violation().is_some() { "\n" } else { "" };
            format!("{}{gap}{}", check::tally(history, verdict), check::story(history, verdict, meant))
        }
    };
    comparison(subject, replay).map_or(String::new(), |said| said + "\n") + &story
}

/// The violation that a capsule tells, or another of the same property.
fn meant<'v>(verdict: &'v Verdict, known: &str) -> Option<&'v Violation> {
    let same = verdict.violations().find(|violation| violation.to_string() == known);
    let is_alike = |violation: &&Violation| known.split(' ').next() == Some(violation.property.id());
    same.or_else(|| verdict.violations().find(is_alike))
}

/// The command that shows a failure again; a seed's failure is saved first.
fn again(arguments: &Arguments, subject: &Subject, replay: &Replay, on: On, console: &Console) -> String {
    if let Some((path, _)) = &subject.capsule {
        let server = arguments.server.again();
        let on = if on == On::Lockstep { format!(" --on lockstep{server}") } else { String::new() };
        return console.command(&format!("replay {}{on}", quoted_path(path))) + "\n";
    }
    let with = Circumstances {
        limits: &subject.limits,
        design: subject.design,
        directory: arguments.place.directory(),
        server: arguments.server.again(),
        again: arguments.scope.again(),
        shrinks: None,
    };
    let saved = save(&subject.plan, replay, &[], &with);
    saved.map_or(String::new(), |saved| saved.pointer(console) + "\n")
}

fn json(subject: &Subject, replay: &Replay) -> serde_json::Value {
    let Replay { history, end, counts } = replay;
    let mut json = json!({
        "seed": subject.plan.seed,
        "workload": subject.work.name,
        "without": history.header.without,
        "design": subject.design.map(|design| design.name),
        "target": history.header.target,
        "server_version": history.header.server,
        "options": subject.plan.options.iter().cloned().collect::<BTreeMap<_, _>>(),
        "records": history.records.len(),
        "statements": counts.statements,
        "divergence": null,
    });
    match end {
        End::Diverged(difference) => {
            json["divergence"] = json!(difference);
            json["verdict"] = json!("diverged");
        }
        End::Agreed { summary, verdict } => {
            json["history_hash"] = json!(format!("{:016x}", history.hash()));
            json["calls"] = json!(summary.calls);
            json["blocked"] = json!(summary.blocked);
            json["choices"] = json!(summary.choices);
            json["simulated_seconds"] = json!(summary.ended_at.0 as f64 / 1e6);
            json["verdict"] = json!(verdict.judgement());
            json["broken"] = json!(verdict.broken().map(|property| property.id()).collect::<Vec<_>>());
            json["violations"] = json!(verdict.violations().map(ToString::to_string).collect::<Vec<_>>());
        }
    }
    json
}

/// Every option of the run, its processes and its faults.
fn heading(subject: &Subject) -> String {
    let Subject { plan, work, guards, design, .. } = subject;
    let mut text = format!("seed {}: {}; {}\n\n", plan.seed, work.name, scope::without(*guards, *design));
    let width = plan.options.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    plan.options.iter().for_each(|(name, value)| text += &format!("  {name:<width$}  {value}\n"));
    let processes: Vec<&str> = plan.processes.iter().map(|process| process.name.as_str()).collect();
    text += &format!("\nprocesses: {}\n", processes.join(", "));
    text += &format!("faults: {}\n", plan.faults.len());
    plan.faults.iter().for_each(|fault| text += &format!("  {}\n", in_words(plan, fault)));
    text + "\n"
}

fn in_words(plan: &Plan, fault: &PlannedFault) -> String {
    let name = &plan.processes[usize::from(fault.when.process().0)].name;
    let when = match fault.when {
        When::Time { at, .. } => format!("at {at}"),
        When::Point { call, nth, phase, .. } => {
            let phase = match phase {
                Phase::Before => "before",
                Phase::After => "after",
                Phase::Waiting => "as it waits in",
            };
            let call =
                if call == crate::plan::CallKind::Any { "call".to_owned() } else { format!("{call:?}").to_lowercase() };
            format!("{phase} {call} {}", nth + 1)
        }
    };
    let what = match fault.what {
        PlannedEffect::Crash { restart_after } => format!("{name} dies, and starts again after {restart_after}"),
        PlannedEffect::Pause { duration } => format!("{name} stands still for {duration}"),
        PlannedEffect::LostReply => format!("{name} gets no reply"),
        PlannedEffect::IdleTimeout { idle, duration } => {
            format!("{name} stands still for {duration}; its session ends after {idle} if that holds its window")
        }
        PlannedEffect::ServerCrash { down_for } => format!("the server dies for {down_for} (at {name})"),
        PlannedEffect::Network(effect) => effect.in_words(name),
        PlannedEffect::Flush => "the server's log is flushed".to_owned(),
        PlannedEffect::ServerClockStep(ClockOffset { ahead, behind }) => {
            format!("the server's clock is set, {ahead} ahead and {behind} behind")
        }
    };
    format!("{when}: {what}")
}

fn figures(replay: &Replay) -> String {
    let Replay { history, end, counts } = replay;
    let server = history.header.server.as_ref().map_or(String::new(), |version| format!(" on PostgreSQL {version}"));
    match end {
        End::Diverged(_) => format!(
            "ran in {}{server}: {} until they differ",
            history.header.target,
            counted(counts.statements, "statement")
        ),
        End::Agreed { summary, .. } => format!(
            "ran {}{server}: {}, {} blocked, {}, {} of virtual time, history {:016x}",
            match history.header.target.as_str() {
                "direct" => "directly",
                "net" => "over a network",
                _ => "in lockstep",
            },
            counted(summary.calls, "call"),
            count(summary.blocked),
            counted(summary.choices.len() as u64, "open choice"),
            long(summary.ended_at.0),
            history.hash(),
        ),
    }
}

/// Whether a capsule gave what it holds.
fn comparison(subject: &Subject, replay: &Replay) -> Option<String> {
    let (_, capsule) = subject.capsule.as_ref()?;
    let End::Agreed { verdict, .. } = &replay.end else {
        let known = capsule.divergence.is_some();
        return Some(
            if known { "a divergence, as in the capsule" } else { "the capsule knows no divergence" }.to_owned(),
        );
    };
    if capsule.divergence.is_some() {
        return Some("the capsule's divergence does not show here".to_owned());
    }
    let same = match capsule.violations.first() {
        Some(first) => verdict.violations().any(|violation| violation.to_string() == *first),
        None => verdict.first_violation().is_none(),
    };
    let said = if same { "the same verdict as in the capsule" } else { "another verdict than in the capsule" };
    Some(match compare(capsule, &replay.history) {
        Ok(None) => format!("{said}, and the same history"),
        Ok(Some(difference)) => format!("{said}, and another history: {difference}"),
        Err(error) => format!("{said}; {error:#}"),
    })
}

fn compare(capsule: &Capsule, history: &History) -> Result<Option<String>> {
    Ok(difference(&capsule.history()?, history).map(|difference| difference.to_string()))
}
