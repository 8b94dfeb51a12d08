//! `bench timers`: whether scheduling and draining cost what is due, whatever else is pending.
//!
//! The same rounds in the store and on a server: a page of timers that are due at once is scheduled, a tick is taken, and
//! they are drained; then a tick without a timer, drained too; then a tick that has nothing to do. Around them lie a
//! thousand, thirty thousand, a million timers that are due in some days; and those that were delivered, as timer tables
//! are not rotated: how many rows lie there in the end is told. All of it again while another session has a
//! snapshot open. The plan of a page's query is asked of the server in the midst of the last round.

mod on_server;
mod store;

use super::lower_quartile;
use crate::cli::figures::count;
use crate::cli::server::Choice;
use crate::cli::{Console, Exit, server};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::time::Duration;
use store::InStore;
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{Micros, Queue};
use tourbillon_models::op::Op;
use tourbillon_models::reply::Reply;

const PENDING: [u32; 3] = [1_000, 30_000, 1_000_000];
/// Timers of a round, and of a page.
const PAGE: u32 = 1_000;
const ROUNDS: u32 = 21;
const QUEUE: Queue = Queue(0);
const NOW: Micros = Micros(0);

/// A million pending may cost so many times what a thousand do: a deeper index, and colder memory.
const PENDING_LIMIT: f64 = 2.5;
/// A snapshot held open may cost so many times what none does.
const SNAPSHOT_LIMIT: f64 = 1.5;

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    #[command(flatten)]
    server: server::Arguments,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// Where timers are measured.
trait Site {
    /// A session that looks at the database as it is now, until it is let go.
    fn hold_snapshot(&mut self) -> Result<()>;
    fn let_go(&mut self) -> Result<()>;
    /// So many timers, due after about the delay.
    fn schedule(&mut self, count: u32, delay: Delay) -> Result<Duration>;
    fn timed(&mut self, op: &PlainOp) -> Result<(PlainReply, Duration)>;
    /// In the timer tables, delivered or not.
    fn timer_rows(&mut self) -> Result<u64>;
}

#[derive(Clone, Copy)]
enum Delay {
    None,
    /// In no order.
    Days,
}

/// Lower quartiles of the rounds, in microseconds.
#[derive(Serialize)]
struct Cost {
    pending: u32,
    is_snapshot_held: bool,
    /// In the timer tables after the rounds, those included that were delivered.
    timer_rows: u64,
    schedule_one: f64,
    drain_one: f64,
    empty_round: f64,
    idle_tick: f64,
}

/// A name, and what it is the name of.
type Figure = (&'static str, fn(&Cost) -> f64);

impl Cost {
    const WHAT: [Figure; 4] = [
        ("schedule one", |cost| cost.schedule_one),
        ("drain one", |cost| cost.drain_one),
        ("empty round", |cost| cost.empty_round),
        ("idle tick", |cost| cost.idle_tick),
    ];
}

/// What one thing costs against the same under easier conditions.
#[derive(Serialize)]
struct Ratio {
    what: &'static str,
    of: &'static str,
    ratio: f64,
    limit: f64,
}

impl Ratio {
    fn holds(&self) -> bool {
        self.ratio <= self.limit
    }
}

#[derive(Serialize)]
struct Measured {
    place: String,
    /// How a page is scheduled.
    scheduling: &'static str,
    costs: Vec<Cost>,
    ratios: Vec<Ratio>,
    /// As the server tells it; empty for the store.
    plan: Vec<String>,
    /// What the plan reads timer tables by.
    indexes: Vec<String>,
    #[serde(skip)]
    is_plan_bad: bool,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    console.say("measuring in the store …");
    let mut measured = vec![in_store()?];
    let choice = arguments.server.choice();
    if choice != Choice::Off {
        let mut server = choice.open()?.context("a server was asked for")?;
        console.say("measuring on the server …");
        measured.push(on_server::measure(&mut server)?);
    }
    match arguments.json {
        true => console.print_json(&json!({ "configuration": configuration(), "measured": measured })),
        false => console.print(&text(&measured)),
    }
    let holds = |it: &Measured| it.ratios.iter().all(Ratio::holds) && !it.is_plan_bad;
    Ok(if measured.iter().all(holds) { Exit::Clean } else { Exit::Broken })
}

fn in_store() -> Result<Measured> {
    let mut store = InStore::new()?;
    let costs = costs(&mut store, |_| Ok(()))?;
    let ratios = ratios(&costs);
    let place = "the store".to_owned();
    let scheduling = "schedule one: a call of its own for each";
    Ok(Measured { place, scheduling, costs, ratios, plan: Vec::new(), indexes: Vec::new(), is_plan_bad: false })
}

/// The last round's page is left to `last` before it is drained.
fn costs<S: Site>(site: &mut S, last: impl FnOnce(&mut S) -> Result<()>) -> Result<Vec<Cost>> {
    let mut costs = Vec::new();
    let mut filled = 0;
    for pending in PENDING {
        site.schedule(pending - filled, Delay::Days)?;
        filled = pending;
        costs.push(cost(site, pending, false)?);
        site.hold_snapshot()?;
        costs.push(cost(site, pending, true)?);
        site.let_go()?;
    }
    site.schedule(PAGE, Delay::None)?;
    site.timed(&Op::Tick { queue: QUEUE })?;
    last(site)?;
    Ok(costs)
}

fn cost(site: &mut impl Site, pending: u32, is_snapshot_held: bool) -> Result<Cost> {
    let (mut schedule, mut drain, mut empty, mut idle) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        schedule.push(micros(site.schedule(PAGE, Delay::None)?) / f64::from(PAGE));
        tick(site)?;
        drain.push(micros(drained(site, PAGE)?) / f64::from(PAGE));
        // Something that is no timer, so that the queue ticks.
        site.timed(&Op::Append { queue: QUEUE, payload: 0 })?;
        tick(site)?;
        empty.push(micros(drained(site, 0)?));
        idle.push(micros(idle_tick(site)?));
    }
    Ok(Cost {
        pending,
        is_snapshot_held,
        timer_rows: site.timer_rows()?,
        schedule_one: lower_quartile(schedule),
        drain_one: lower_quartile(drain),
        empty_round: lower_quartile(empty),
        idle_tick: lower_quartile(idle),
    })
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn tick(site: &mut impl Site) -> Result<()> {
    let (reply, _) = site.timed(&Op::Tick { queue: QUEUE })?;
    ensure!(matches!(reply, Reply::Ticked { .. }), "there is something to tick for, but tick says {reply:?}");
    Ok(())
}

/// The messages appended before are in a window: the queue has nothing to tick for, and looks for a timer.
fn idle_tick(site: &mut impl Site) -> Result<Duration> {
    let (reply, time) = site.timed(&Op::Tick { queue: QUEUE })?;
    ensure!(matches!(reply, Reply::Idle), "there is nothing to tick for, but tick says {reply:?}");
    Ok(time)
}

/// A round from its first page to its last.
fn drained(site: &mut impl Site, expected: u32) -> Result<Duration> {
    let (mut fired_count, mut spent) = (0, Duration::ZERO);
    loop {
        let (reply, time) = site.timed(&Op::Drain { queue: QUEUE, limit: PAGE })?;
        spent += time;
        let Reply::Drained { fired, is_done, .. } = reply else { anyhow::bail!("a drain says {reply:?}") };
        fired_count += fired.len() as u32;
        if is_done {
            break;
        }
    }
    ensure!(fired_count == expected, "{fired_count} timers fired, not {expected}");
    Ok(spent)
}

fn ratios(costs: &[Cost]) -> Vec<Ratio> {
    let of = |pending: u32, held: bool| {
        let found = costs.iter().find(|cost| cost.pending == pending && cost.is_snapshot_held == held);
        found.expect("it was measured")
    };
    let [few, _, many] = PENDING;
    let pending = Cost::WHAT.iter().map(|(what, cost)| Ratio {
        what,
        of: "a million pending against a thousand",
        ratio: cost(of(many, false)) / cost(of(few, false)),
        limit: PENDING_LIMIT,
    });
    let snapshot = Cost::WHAT.iter().map(|(what, cost)| Ratio {
        what,
        of: "a million pending, a snapshot held open against none",
        ratio: cost(of(many, true)) / cost(of(many, false)),
        limit: SNAPSHOT_LIMIT,
    });
    pending.chain(snapshot).collect()
}

fn configuration() -> String {
    format!(
        "one queue of messages; timers that are due in ten days or more pending; rounds of {} timers due at once, in pages \
         of as many, {ROUNDS} of each kind, lower quartiles in microseconds; timer tables are \
         not rotated, so that delivered timers stay in them: rows says how many lie there after the rounds, pending or \
         delivered; held: another session has a REPEATABLE READ \
         snapshot open since before the rounds",
        count(PAGE.into())
    )
}

fn text(measured: &[Measured]) -> String {
    let mut text = configuration() + "\n";
    for Measured { place, scheduling, costs, ratios, plan, indexes, is_plan_bad } in measured {
        text += &format!("\n{place}; {scheduling}\n  pending         rows  held");
        Cost::WHAT.iter().for_each(|(what, _)| text += &format!("  {what:>12}"));
        text += "\n";
        for cost in costs {
            let held = if cost.is_snapshot_held { "yes" } else { "no" };
            text += &format!("  {:>9}  {:>9}  {held:>4}", count(cost.pending.into()), count(cost.timer_rows));
            Cost::WHAT.iter().for_each(|(_, of)| text += &format!("  {:>12.2}", of(cost)));
            text += "\n";
        }
        for Ratio { what, of, ratio, limit } in ratios {
            let verdict = if ratio <= limit { "" } else { "  TOO MUCH" };
            text += &format!("  {what:<12}  × {ratio:.2} with {of} (at most {limit}){verdict}\n");
        }
        if !plan.is_empty() {
            let verdict = if *is_plan_bad { "  NOT BY INDEX ALONE" } else { "" };
            text += &format!("  a page is read by {}{verdict}\n", indexes.join(", "));
            plan.iter().for_each(|line| text += &format!("    {line}\n"));
        }
    }
    text
}
