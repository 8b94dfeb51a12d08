//! `bench joins`: whether one call does for many: a parent with many children, and a window that touches many joins.
//!
//! On a real server: so many parents are started; one handoff lets each spawn its children; one handoff ends all of these,
//! which completes all joins; one call reads all results, and one handoff ends the parents. What an event costs must not
//! grow with their number, as it would if there were a statement for each, or a look at all for each.

use super::connected::{Connected, Site};
use super::median;
use crate::cli::figures::count;
use crate::cli::{Console, Exit, server};
use crate::postgres::server::Server;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::time::Duration;
use tourbillon_models::history::PlainReply;
use tourbillon_models::name::{Consumer, EventId, Key, Micros, Queue, Step, Token, WorkerId};
use tourbillon_models::op::{Decision, Op, QueueKind, Verb};
use tourbillon_models::reply::{Event, Reply};

/// Parents, and children of each.
const FAMILIES: [(u32, u32); 4] = [(1, 64), (1, 1_024), (64, 5), (1_000, 5)];
const ROUNDS: usize = 5;
const QUEUE: Queue = Queue(0);
const WORKER: WorkerId = WorkerId(1);
const STEPS: [&str; 3] = ["parent", "child", "joined"];

/// An event of the larger family of a kind may cost so many times what one of the smaller does.
const GROWTH_LIMIT: f64 = 2.5;

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    #[command(flatten)]
    server: server::Arguments,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// Medians of the rounds, in microseconds for each event of the window.
#[derive(Serialize)]
struct Cost {
    parents: u32,
    children: u32,
    spawn: f64,
    end: f64,
    read_result: f64,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    let mut server =
        arguments.server.choice().open()?.context("joins are measured on a server, and none was asked for")?;
    console.say("measuring on the server …");
    let costs = measure(&mut server)?;
    let growths = [0, 2].map(|small| costs[small + 1].end / costs[small].end);
    let is_flat = growths.iter().all(|growth| *growth <= GROWTH_LIMIT);
    match arguments.json {
        true => console.print_json(&json!({
            "server": server.version(), "costs": costs, "growths": growths, "growth_limit": GROWTH_LIMIT,
        })),
        false => console.print(&text(server.version(), &costs, growths)),
    }
    Ok(if is_flat { Exit::Clean } else { Exit::Broken })
}

fn text(version: &str, costs: &[Cost], [siblings, joins]: [f64; 2]) -> String {
    let mut text = format!("PostgreSQL {version}: µs for each child, one call for all of them\n\n");
    text += &format!("{:>8} {:>9} {:>8} {:>8} {:>12}\n", "parents", "children", "spawn", "end", "read result");
    for Cost { parents, children, spawn, end, read_result } in costs {
        let (parents, all) = (count((*parents).into()), count((parents * children).into()));
        text += &format!("{parents:>8} {all:>9} {spawn:>8.1} {end:>8.1} {read_result:>12.1}\n");
    }
    text += &format!(
        "\nThe end of a child costs {siblings:.2} times as much among 16 times as many siblings, and {joins:.2} times\n\
         as much where its window touches 16 times as many joins (at most {GROWTH_LIMIT})."
    );
    text
}

fn measure(server: &mut Server) -> Result<Vec<Cost>> {
    let site = Site::install(server, &STEPS)?;
    let mut families = Families { session: Connected::open(&site)?, keys: 0 };
    families.session.call(&Op::CreateQueue { queue: QUEUE, kind: QueueKind::Workflow })?;
    families.session.call(&Op::Subscribe { queue: QUEUE, consumer: Consumer(0) })?;
    families.session.call(&Op::Register { consumer: Consumer(0) })?;
    let costs = FAMILIES.iter().map(|(parents, children)| families.cost(*parents, *children)).collect::<Result<_>>()?;
    server.drop_schema(site.schema())?;
    Ok(costs)
}

struct Families<'a> {
    session: Connected<'a>,
    keys: u32,
}

impl Families<'_> {
    fn cost(&mut self, parents: u32, children: u32) -> Result<Cost> {
        let mut spent: [Vec<f64>; 3] = Default::default();
        for _ in 0..ROUNDS {
            for (times, time) in spent.iter_mut().zip(self.round(parents, children)?) {
                times.push(time.as_secs_f64() * 1e6 / f64::from(parents * children));
            }
        }
        let [spawn, end, read_result] = spent.map(median);
        Ok(Cost { parents, children, spawn, end, read_result })
    }

    fn round(&mut self, parents: u32, children: u32) -> Result<[Duration; 3]> {
        for _ in 0..parents {
            self.keys += 1;
            self.session.call(&Op::Start { queue: QUEUE, key: Key(self.keys), step: Step(0), state: 1 })?;
        }
        let (token, events) = self.window(parents)?;
        let spawns = events.iter().flat_map(|event| spawn(event, children)).collect();
        let (told, spawning) = self.hand_off(token, spawns)?;
        ensure!(told.0 == parents * children, "{} children were started", told.0);

        let (token, events) = self.window(parents * children)?;
        let (told, ending) = self.hand_off(token, events.iter().map(end).collect())?;
        ensure!(told.1 == parents, "{} of {parents} parents go on", told.1);

        let (token, events) = self.window(parents)?;
        let (reply, reading) = self.session.timed(&Op::ReadResults { worker: WORKER, token })?;
        let Reply::Results(results) = reply else { bail!("results are read") };
        ensure!(results.len() as u32 == parents * children, "{} results are there", results.len());
        self.hand_off(token, events.iter().map(end).collect())?;
        Ok([spawning, ending, reading])
    }

    /// The next window, which has so many events.
    fn window(&mut self, expected: u32) -> Result<(Token, Vec<Event>)> {
        self.session.call(&Op::Tick { queue: QUEUE })?;
        let claim = Op::Claim { worker: WORKER, dead_interval: Micros::from_secs(3_600), at: Micros(0) };
        let Reply::Claimed { token, .. } = self.session.call(&claim)? else { bail!("there is nothing to claim") };
        let read = Op::Read { worker: WORKER, token, after: EventId(0), limit: 2 * expected };
        let Reply::Events(events) = self.session.call(&read)? else { bail!("a window is read") };
        ensure!(events.len() as u32 == expected, "{} events came, not {expected}", events.len());
        Ok((token, events))
    }

    /// How many children it started and how many parents it resumed, and how long it took.
    fn hand_off(&mut self, token: Token, decisions: Vec<Decision>) -> Result<((u32, u32), Duration)> {
        let (reply, spent) = self.session.timed(&Op::Handoff { worker: WORKER, token, decisions })?;
        let (children, resumed) = told(&reply).context("a window is handed off")?;
        Ok(((children as u32, resumed as u32), spent))
    }
}

fn told(reply: &PlainReply) -> Option<(usize, usize)> {
    match reply {
        Reply::HandedOff { children, resumed, .. } => Some((children.len(), resumed.len())),
        _ => None,
    }
}

fn spawn(event: &Event, children: u32) -> impl Iterator<Item = Decision> {
    let &Event { id, workflow, sequence, .. } = event;
    let spawn = Decision { workflow, sequence: sequence + 1, step: Step(2), ..Decision::new(id, Verb::Spawn) };
    let child = move |index| Decision { sequence: index, step: Step(1), ..Decision::new(id, Verb::Child) };
    std::iter::once(spawn).chain((0..children).map(child))
}

fn end(event: &Event) -> Decision {
    let &Event { id, workflow, sequence, .. } = event;
    Decision { workflow, sequence, ..Decision::new(id, Verb::Complete) }
}
