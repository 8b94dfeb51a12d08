//! `bench handoff`: what claiming a window and handing it off costs, beside the cheapest way to write the same rows.
//!
//! Three connections, kept open, all do the same at once, in turns: a plain `insert … select` of a window's successors
//! from a table that holds them, and claim and handoff of as many windows. Each statement is a transaction of its own.
//! Both write the same rows, with ids from the same sequence and xids from the same function, into tables with the same
//! columns and the same index, which are truncated before each pair of turns. A first pair is not counted: a connection's
//! first calls fill its caches.
//!
//! Counted is the time from giving a statement's parameters to having its reply. On the one side that is the insert,
//! prepared and without parameters, and its commit. On the other it is all that claim and handoff add to it: a second round
//! trip and a second commit, nine arrays encoded here and decoded there, the lease, the check that the window is covered,
//! and the ids sent back. Not counted is `read`: a plain insert has no reader of its rows either. But no connection waits
//! for another's `read`, so that takes processor time from what is counted. Beside it is told
//! what both do over wall time, `read` and its decoding included.

use super::connected::{Connected, Site};
use super::median;
use crate::cli::figures::count;
use crate::cli::{Console, Exit, name, server};
use crate::postgres::server::Server;
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use tourbillon_models::name::{Consumer, EventId, Micros, Queue, WorkerId};
use tourbillon_models::op::{Decision, Op, QueueKind, Verb};
use tourbillon_models::reply::{Event, Reply};

const CONNECTIONS: u32 = 3;
const WINDOW: u32 = 1_000;
/// Windows that each connection hands off in a turn.
const WINDOWS: u32 = 8;
const STEPS: [&str; 1] = ["act"];
const QUEUE: Queue = Queue(0);

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    #[command(flatten)]
    server: server::Arguments,
    /// How many pairs of turns the medians are of
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = name::at_least_one)]
    pairs: u64,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// One pair of turns.
struct Pair {
    raw: Rates,
    handoff: Rates,
}

/// Rows a second.
struct Rates {
    /// Over the time that is counted.
    counted: f64,
    /// Over all the time from the first statement to the last reply.
    wall: f64,
}

/// What a connection's turn took.
struct Spent {
    counted: Duration,
    wall: Duration,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    let server = arguments.server.choice().open()?;
    let mut server = server.context("bench handoff needs a server: --postgres auto, or the address of yours")?;
    let site = Site::install(&mut server, &STEPS)?;
    let mut setup = Connected::open(&site)?;
    setup.call(&Op::CreateQueue { queue: QUEUE, kind: QueueKind::Workflow })?;
    setup.call(&Op::Subscribe { queue: QUEUE, consumer: Consumer(0) })?;
    setup.script(TABLES)?;
    setup.script(SOURCE)?;
    let mut workers = (0..CONNECTIONS).map(|_| Connected::open(&site)).collect::<Result<Vec<_>>>()?;
    pair(&mut setup, &mut workers)?;
    let pairs = (0..arguments.pairs).map(|_| pair(&mut setup, &mut workers)).collect::<Result<Vec<_>>>()?;
    // The server has counted what a connection did at the latest when that is closed.
    drop((setup, workers));
    let updates = updates(&server, &site, arguments.pairs + 1)?;
    tell(arguments, console, &server, &pairs, updates);
    server.drop_schema(site.schema())?;
    Ok(Exit::Clean)
}

fn pair(setup: &mut Connected<'_>, workers: &mut [Connected<'_>]) -> Result<Pair> {
    setup.script(EMPTY)?;
    let raw = turn(workers, raw)?;
    for _ in 0..CONNECTIONS * WINDOWS {
        setup.script(FILL)?;
        setup.call(&Op::Tick { queue: QUEUE })?;
    }
    Ok(Pair { raw, handoff: turn(workers, handoff)? })
}

fn tell(arguments: &Arguments, console: &mut Console, server: &Server, pairs: &[Pair], updates: Updates) {
    let of = |rate: fn(&Pair) -> f64| median(pairs.iter().map(rate).collect());
    let (raw, handoff) = (of(|pair| pair.raw.counted), of(|pair| pair.handoff.counted));
    let ratio = of(|pair| pair.handoff.counted / pair.raw.counted);
    let (raw_wall, handoff_wall) = (of(|pair| pair.raw.wall), of(|pair| pair.handoff.wall));
    match arguments.json {
        true => console.print_json(&json!({
            "pairs": pairs.len(),
            "window": WINDOW,
            "raw_rows_per_second": raw,
            "handoff_rows_per_second": handoff,
            "handoff_counts_reading": false,
            "raw_rows_per_second_of_wall_time": raw_wall,
            "handoff_rows_per_second_of_wall_time": handoff_wall,
            "ratio": ratio,
            "updates_per_window": updates.all,
            "hot_updates_per_window": updates.hot,
            "server_version": server.version(),
        })),
        false => console.print(&format!(
            "{CONNECTIONS} connections, windows of {} events, synchronous commit off, {} pairs of turns, medians, on \
             PostgreSQL {}\n\ninsert … select    {} rows a second; {} over wall time\nclaim and handoff  {} rows a \
             second, {ratio:.2} of that, reading not counted; {} over wall time, reading included\n{:.2} updates a \
             window, {:.2} of them HOT\n",
            count(WINDOW.into()),
            pairs.len(),
            server.version(),
            count(raw as u64),
            count(raw_wall as u64),
            count(handoff as u64),
            count(handoff_wall as u64),
            updates.all,
            updates.hot,
        )),
    }
}

/// The same columns and index as an event table.
const TABLES: &str = "create table tourbillon.bench_raw (
      event_id bigint not null, xid xid8 not null, workflow_id uuid, sequence int not null, step text,
      attempt int not null, state text, arrival text, payload text
    ) with (autovacuum_enabled = false);
    create index on tourbillon.bench_raw (xid);
    create table tourbillon.bench_source (workflow_id uuid, sequence int, state text);";

const SOURCE: &str = "insert into tourbillon.bench_source
    select gen_random_uuid(), 1, i::text from generate_series(1, 1000) i;
    analyze tourbillon.bench_source";

/// Nothing is left of the turn before: its successors are skipped and their tables truncated.
const EMPTY: &str = "select tourbillon.tick('q0');
    update tourbillon.subscription set cursor = (select max(tick) from tourbillon.tick);
    truncate tourbillon.bench_raw, tourbillon.event_1_0, tourbillon.event_1_1, tourbillon.event_1_2";

const FILL: &str = "insert into tourbillon.event_1_0 (event_id, xid, workflow_id, sequence, step, attempt, state)
    select nextval('tourbillon.event_id'), pg_current_xact_id(), workflow_id, sequence, 'act', 1, state
    from tourbillon.bench_source";

const RAW: &str = "insert into tourbillon.bench_raw (event_id, xid, workflow_id, sequence, step, attempt, state)
    select nextval('tourbillon.event_id'), pg_current_xact_id(), workflow_id, sequence + 1, 'act', 1, state
    from tourbillon.bench_source";

/// All connections do the same at once; rows a second of all together.
fn turn(workers: &mut [Connected<'_>], each: fn(&mut Connected<'_>, &Barrier) -> Result<Spent>) -> Result<Rates> {
    let barrier = Barrier::new(workers.len());
    let spent: Vec<Result<Spent>> = std::thread::scope(|scope| {
        let threads = workers.iter_mut().map(|connected| scope.spawn(|| each(connected, &barrier)));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().expect("a connection's thread does not panic")).collect()
    });
    let spent = spent.into_iter().collect::<Result<Vec<_>>>()?;
    let rate = |time: Duration| f64::from(WINDOW * WINDOWS) / time.as_secs_f64();
    Ok(Rates {
        counted: spent.iter().map(|spent| rate(spent.counted)).sum(),
        wall: spent.iter().map(|spent| rate(spent.wall)).sum(),
    })
}

fn raw(connected: &mut Connected<'_>, barrier: &Barrier) -> Result<Spent> {
    connected.prepare(RAW)?;
    barrier.wait();
    let begun = Instant::now();
    for _ in 0..WINDOWS {
        connected.rows(RAW)?;
    }
    let wall = begun.elapsed();
    Ok(Spent { counted: wall, wall })
}

fn handoff(connected: &mut Connected<'_>, barrier: &Barrier) -> Result<Spent> {
    let Reply::Registered { worker } = connected.call(&Op::Register { consumer: Consumer(0) })? else {
        bail!("a worker is not registered");
    };
    barrier.wait();
    let (begun, mut counted) = (Instant::now(), Duration::ZERO);
    for _ in 0..WINDOWS {
        counted += window(connected, worker)?;
    }
    Ok(Spent { counted, wall: begun.elapsed() })
}

fn window(connected: &mut Connected<'_>, worker: WorkerId) -> Result<Duration> {
    let claim = Op::Claim { worker, dead_interval: Micros::from_secs(60), at: Micros(0) };
    let (Reply::Claimed { token, .. }, claiming) = connected.timed(&claim)? else {
        bail!("there is a window for each")
    };
    let read = Op::Read { worker, token, after: EventId(0), limit: 2 * WINDOW };
    let Reply::Events(events) = connected.call(&read)? else { bail!("a window is read") };
    let decisions = events.iter().map(decision).collect();
    let (_, handing) = connected.timed(&Op::Handoff { worker, token, decisions })?;
    Ok(claiming + handing)
}

fn decision(event: &Event) -> Decision {
    let &Event { id, workflow, sequence, state, .. } = event;
    Decision { workflow, sequence: sequence + 1, state, ..Decision::new(id, Verb::Goto) }
}

/// Updates of leases and cursors, for each window.
struct Updates {
    all: f64,
    hot: f64,
}

/// The server counts with a delay: asked until nothing is missing, for a while.
fn updates(server: &Server, site: &Site, pairs: u64) -> Result<Updates> {
    const UPDATES: &str = "select sum(n_tup_upd)::int8, sum(n_tup_hot_upd)::int8 from pg_stat_user_tables
        where schemaname = $1 and relname in ('worker', 'subscription')";
    let session = server.open()?;
    let windows = pairs * u64::from(CONNECTIONS * WINDOWS);
    let begun = Instant::now();
    loop {
        let reply = server.execute(&session, UPDATES, &[&site.schema()])?.done()?;
        // One more in each pair of turns was ours: see EMPTY.
        let [all, hot] = [0, 1].map(|column| reply.rows[0].get::<_, i64>(column) - pairs as i64);
        if all >= 3 * windows as i64 || begun.elapsed() > Duration::from_secs(10) {
            server.close(session)?;
            return Ok(Updates { all: all as f64 / windows as f64, hot: hot as f64 / windows as f64 });
        }
        server.execute(&session, "select pg_stat_clear_snapshot()", &[])?.done()?;
    }
}
