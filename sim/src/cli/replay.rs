//! `replay`: one run again, from a seed or from a capsule, on the direct target or on a real server.

use super::figures::{count, long};
use super::{Console, Exit, check, name, saved, scope, server};
use crate::capsule::Capsule;
use crate::plan::{Plan, PlannedFault, When};
use crate::postgres::one_cpu::OneCpu;
use crate::replay::{End, crashes_server, difference, replay};
use crate::run::Summary;
use crate::simulate::{Simulator, Work};
use crate::sweep::{catch, work_of};
use crate::target::Chooser;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::path::PathBuf;
use tourbillon_engine::guard::{Design, Guards};
use tourbillon_models::history::History;
use tourbillon_models::verdict::Verdict;

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// A failure that was saved
    #[arg(value_name = "CAPSULE", required_unless_present = "seed", conflicts_with_all = ["seed", "workload", "faults", "without", "design"])]
    capsule: Option<PathBuf>,
    /// A seed: a number, or a git commit hash
    #[arg(long, value_name = "S", value_parser = name::seed)]
    seed: Option<u64>,
    #[command(flatten)]
    scope: scope::Arguments,
    /// Where to run it
    #[arg(long, value_name = "TARGET", default_value = "direct")]
    on: On,
    #[command(flatten)]
    server: server::Arguments,
    /// Print the history, as JSON Lines, and nothing else to standard output
    #[arg(long, conflicts_with = "json")]
    history: bool,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    /// The engine in this process
    Direct,
    /// The engine and a real server, statement by statement
    Lockstep,
}

/// What to run again.
struct Subject {
    plan: Plan,
    work: Work,
    guards: Guards,
    design: Option<&'static Design>,
    chooser: Chooser,
    capsule: Option<Capsule>,
}

/// What came of it.
struct Outcome {
    history: History,
    summary: Summary,
    verdict: Verdict,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    let mut subject = subject(arguments)?;
    if !arguments.json {
        let heading = heading(&subject);
        if arguments.history { console.say(&heading) } else { console.print(&(heading + "\n")) }
    }
    let outcome = match arguments.on {
        On::Direct => run_direct(&mut subject)?,
        On::Lockstep => match run_lockstep(&subject, &arguments.server.choice())? {
            Ok(outcome) => outcome,
            Err(diverged) => return Ok(tell_divergence(arguments, &diverged, console)),
        },
    };
    tell(arguments, &subject, &outcome, console);
    Ok(check::exit(&outcome.verdict))
}

fn subject(arguments: &Arguments) -> Result<Subject> {
    match (&arguments.capsule, arguments.seed) {
        (Some(path), _) => {
            let capsule = Capsule::read(path)?;
            let (work, guards, design) = (capsule.work()?, capsule.guards()?, capsule.design()?);
            let (plan, chooser) = (capsule.plan.clone(), capsule.chooser());
            Ok(Subject { plan, work, guards, design, chooser, capsule: Some(capsule) })
        }
        (None, Some(seed)) => {
            let works = scope::works(&arguments.scope.draw.workloads());
            let work = work_of(&works, seed).clone();
            let plan = work.plan(seed, &arguments.scope.draw.limits());
            let (guards, design) = (arguments.scope.guards(), arguments.scope.design());
            Ok(Subject { plan, work, guards, design, chooser: Chooser::seeded(seed), capsule: None })
        }
        (None, None) => bail!("replay takes the path of a capsule, or --seed S"),
    }
}

fn run_direct(subject: &mut Subject) -> Result<Outcome> {
    let chooser = std::mem::replace(&mut subject.chooser, Chooser::seeded(0));
    let mut simulator = Simulator::default();
    let ran = catch(|| simulator.run_with(&subject.plan, &subject.work, subject.guards, chooser));
    match ran {
        Ok((summary, verdict)) => Ok(Outcome { history: simulator.history().clone(), summary, verdict }),
        Err(sentence) => bail!(sentence),
    }
}

/// The outcome, or where model and server differ.
fn run_lockstep(subject: &Subject, choice: &server::Choice) -> Result<Result<Outcome, Diverged>> {
    if crashes_server(&subject.plan) && !choice.may_crash() {
        bail!("this plan kills the server, which is done only to a throw-away one: use --postgres auto");
    }
    // Before the server starts, so that it runs where this thread runs.
    let _one = OneCpu::claim();
    let server = choice.open()?;
    let mut server = server.context("--on lockstep needs a server: --postgres auto, or the address of yours")?;
    let replay = replay(&mut server, &subject.plan, &subject.work, subject.guards)?;
    Ok(match replay.end {
        End::Agreed { summary, verdict } => Ok(Outcome { history: replay.history, summary, verdict }),
        End::Diverged(difference) => Err(Diverged { history: replay.history, difference }),
    })
}

struct Diverged {
    history: History,
    difference: String,
}

fn tell_divergence(arguments: &Arguments, diverged: &Diverged, console: &mut Console) -> Exit {
    let Diverged { history, difference } = diverged;
    match (arguments.json, arguments.history) {
        (true, _) => console.print_json(&json!({
            "seed": history.header.seed,
            "target": history.header.target,
            "server_version": history.header.server,
            "records": history.records.len(),
            "divergence": difference,
            "verdict": "unknown",
        })),
        (_, true) => {
            console.print_lines(history.lines());
            console.say(&format!("the server differs from the model: {difference}"));
        }
        _ => console.print(&format!(
            "the server differs from the model: {difference}\n\nwhat led up to it:\n{}\n",
            saved::last_records(history)
        )),
    }
    Exit::Broken
}

fn tell(arguments: &Arguments, subject: &Subject, outcome: &Outcome, console: &mut Console) {
    let Outcome { history, verdict, .. } = outcome;
    if arguments.json {
        console.print_json(&json(subject, outcome));
    } else if arguments.history {
        console.print_lines(history.lines());
        console.say(&figures(outcome));
        console.say(&format!("verdict: {}", verdict.judgement().name()));
    } else {
        let comparison = comparison(subject, outcome).map_or(String::new(), |said| said + "\n");
        console.print(&format!("{}\n{comparison}{}", figures(outcome), check::text(history, verdict)));
    }
}

fn json(subject: &Subject, outcome: &Outcome) -> serde_json::Value {
    let Outcome { history, summary, verdict } = outcome;
    let violations: Vec<String> = verdict.violations().map(ToString::to_string).collect();
    let properties: Vec<&str> = verdict.broken().map(|property| property.id()).collect();
    json!({
        "seed": subject.plan.seed,
        "workload": subject.work.name,
        "without": history.header.without,
        "design": subject.design.map(|design| design.name),
        "target": history.header.target,
        "server_version": history.header.server,
        "options": subject.plan.options.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "history_hash": format!("{:016x}", history.hash()),
        "calls": summary.calls,
        "blocked": summary.blocked,
        "choices": summary.choices,
        "records": history.records.len(),
        "simulated_seconds": summary.ended_at.0 as f64 / 1e6,
        "verdict": verdict.judgement(),
        "broken": properties,
        "violations": violations,
        "divergence": null,
    })
}

/// Every option of the run, its processes and its faults.
fn heading(subject: &Subject) -> String {
    let Subject { plan, work, guards, design, .. } = subject;
    let mut lines =
        vec![format!("seed {}: {}; {}", plan.seed, work.name, scope::without(*guards, *design)), String::new()];
    let width = plan.options.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    lines.extend(plan.options.iter().map(|(name, value)| format!("  {name:<width$}  {value}")));
    let processes: Vec<&str> = plan.processes.iter().map(|process| process.name.as_str()).collect();
    lines.push(format!("\nprocesses: {}", processes.join(", ")));
    let faults = plan.faults.iter().map(|fault| format!("  {}", fault_in_words(plan, fault)));
    lines.extend(std::iter::once(format!("faults: {}", plan.faults.len())).chain(faults));
    lines.push(String::new());
    lines.join("\n")
}

fn fault_in_words(plan: &Plan, fault: &PlannedFault) -> String {
    let name = &plan.processes[usize::from(fault.when.process().0)].name;
    let what = format!("{:?}", fault.what);
    match fault.when {
        When::Time { at, .. } => format!("{name}, at {at}: {what}"),
        When::Point { call, nth, phase, .. } => format!("{name}, {phase:?} {call:?} call {nth}: {what}").to_string(),
    }
}

fn figures(outcome: &Outcome) -> String {
    let Outcome { history, summary, .. } = outcome;
    format!(
        "ran on {}{}: {} calls, {} of them blocked, {} choices, {} of virtual time, history {:016x}",
        history.header.target,
        history.header.server.as_ref().map_or(String::new(), |version| format!(" (PostgreSQL {version})")),
        count(summary.calls),
        count(summary.blocked),
        summary.choices.len(),
        long(summary.ended_at.0),
        history.hash(),
    )
}

/// Whether a capsule gave what it holds.
fn comparison(subject: &Subject, outcome: &Outcome) -> Option<String> {
    let capsule = subject.capsule.as_ref()?;
    let told = capsule.violations.first().map_or("no violation", String::as_str);
    let now = outcome.verdict.violations().map(ToString::to_string);
    let same = match capsule.violations.first() {
        Some(first) => now.into_iter().any(|violation| violation == *first),
        None => outcome.verdict.first_violation().is_none(),
    };
    let verdict = if same { "the same verdict as in the capsule" } else { "another verdict than in the capsule" };
    Some(match capsule.history().ok().and_then(|history| difference(&history, &outcome.history)) {
        None => format!("{verdict}, and the same history"),
        Some(difference) if same => format!("{verdict}, from another history: {difference}"),
        Some(difference) => format!("{verdict} ({told}): {difference}"),
    })
}
