//! A process: one actor, one connection at a time, a journal. It knows nothing of the others, nor of the faults.

use super::link::{Link, micros};
use super::orders::{Orders, Starts, Task};
use crate::generate::QUEUE;
use crate::simulate::Work;
use anyhow::{Context, Result};
use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;
use tourbillon_engine::actors::script::{OnLostReply, OnRefusal, Round, Script, ScriptOptions};
use tourbillon_engine::actors::worker::Worker;
use tourbillon_engine::actors::{Action, Actor, Answered};
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::{ActorId, EmitId, Key, Micros, Step, WaitToken, WorkflowId};
use tourbillon_models::op::{Isolation, Op};
use tourbillon_models::workload::{Expected, Program};

/// How a process ends that its own program took down.
pub const DIED: u8 = 77;

/// Names, in the environment, the number of the process that starts the others.
pub const CONDUCTOR: &str = "TOURBILLON_CHAOS_CONDUCTOR";

/// What comes in on the standard input after the orders.
#[derive(Default)]
struct Word {
    granted: AtomicU64,
    is_over: AtomicBool,
    heard: Notify,
}

/// True if it ended in peace; false if its program killed it.
pub fn run() -> Result<bool> {
    die_with_parent();
    let mut first = String::new();
    std::io::stdin().lock().read_line(&mut first).context("nobody says what to do")?;
    let orders: Orders = serde_json::from_str(&first).context("the orders cannot be read")?;
    let word = Arc::new(Word::default());
    let listener = Arc::clone(&word);
    std::thread::spawn(move || listen(&listener));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work(&orders, &word))
}

/// The signal comes when the thread ends that started this process; and never, if that is gone already.
fn die_with_parent() {
    #[cfg(target_os = "linux")]
    {
        let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    }
    let parent = nix::unistd::getppid().to_string();
    if std::env::var(CONDUCTOR).is_ok_and(|conductor| conductor != parent) {
        std::process::exit(DIED.into());
    }
}

fn listen(word: &Word) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if let Ok(granted) = line.trim().parse() {
            word.granted.store(granted, Ordering::Relaxed);
            word.heard.notify_one();
        }
    }
    word.is_over.store(true, Ordering::Relaxed);
    word.heard.notify_one();
}

async fn work(orders: &Orders, word: &Word) -> Result<bool> {
    let work = Work::named(&orders.workload).context("there is no such workload")?;
    let (steps, names) = (work.steps(), work.names());
    let mut link = Link::new(orders, &steps, &names)?;
    let mut actor: Box<dyn Actor> = match &orders.task {
        Task::Worker(options) => Box::new(Worker::new(options.clone(), work.program.clone())),
        Task::Script(options) => Box::new(Script::new(options.clone())),
        Task::Starts(starts) => Box::new(Script::new(script_of(*starts, work.program.as_deref()))),
    };
    // Whoever starts workflows: how many, of those that it was told to.
    let mut started = match &orders.task {
        Task::Starts(starts) => Some(u64::from(starts.done * starts.of_round)),
        _ => None,
    };
    let mut answered: Option<Answered> = None;
    while !word.is_over.load(Ordering::Relaxed) {
        match actor.poll(orders.epoch.now(), answered.take().as_mut()) {
            Action::Note(note) => link.note(note),
            Action::Die => {
                link.flush()?;
                return Ok(false);
            }
            Action::Finished => break,
            Action::Sleep(until) => {
                let now = orders.epoch.now();
                if until > now {
                    link.flush()?;
                    pause(word, until - now).await;
                }
            }
            Action::Call(op) => {
                match (&op, &mut started, &orders.task) {
                    (Op::Begin { .. }, Some(started), _) => {
                        link.flush()?;
                        wait_for_grant(word, *started).await;
                        if word.is_over.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    (Op::Start { key, .. }, Some(started), Task::Starts(starts)) => {
                        *started = u64::from(key.0 - starts.first_key + 1);
                    }
                    _ => {}
                }
                let (reply, xid) = link.call(&op).await?;
                answered = Some(Answered { reply, xid });
            }
        }
    }
    link.close()?;
    Ok(true)
}

async fn pause(word: &Word, span: Micros) {
    tokio::select! {
        biased;
        () = sleep(micros(span)) => {}
        () = word.heard.notified() => {}
    }
}

async fn wait_for_grant(word: &Word, started: u64) {
    while started >= word.granted.load(Ordering::Relaxed) && !word.is_over.load(Ordering::Relaxed) {
        tokio::select! {
            biased;
            () = word.heard.notified() => {}
            () = sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Starts some workflows in each transaction; and tells each what it awaits, at once or a while later.
fn script_of(starts: Starts, program: Option<&dyn Program>) -> ScriptOptions {
    let now = |op| (Micros(0), op);
    let round = |index: u32| {
        let first = starts.first_key + index * starts.of_round;
        let keys = first..first + starts.of_round;
        let mut statements = vec![now(Op::Begin { isolation: Isolation::ReadCommitted })];
        statements.extend(keys.clone().map(|key| now(start(key, starts.size, program))));
        statements.push(now(Op::Commit));
        statements.extend(keys.flat_map(|key| emits(key, starts.size, program)));
        Round { at: Micros(0), on_lost_reply: OnLostReply::Repeat, on_refusal: OnRefusal::RollBack, statements }
    };
    ScriptOptions::Once { rounds: (starts.done..starts.rounds).map(round).collect() }
}

fn start(key: u32, size: u64, program: Option<&dyn Program>) -> PlainOp {
    let (step, state) = program.map_or((Step(0), 0), |program| program.start(key, size));
    Op::Start { queue: QUEUE, key: Key(key), step, state }
}

fn emits(key: u32, size: u64, program: Option<&dyn Program>) -> Vec<(Micros, PlainOp)> {
    let told = program.map_or_else(Vec::new, |program| program.emits(key, size));
    // One in four waits for it rather than finds it there.
    let pause = if key.is_multiple_of(4) { Micros::from_millis(u64::from(key) * 7 % 80) } else { Micros(0) };
    let emit = |(place, told): (usize, Expected)| {
        let op = Op::Emit {
            workflow: WorkflowId(0),
            name: told.name,
            payload: told.payload,
            emit: EmitId(key * 16 + place as u32 + 1),
            token: told.token.unwrap_or(WaitToken::NONE),
            actor: ActorId(0),
        };
        (pause, op)
    };
    told.into_iter().enumerate().map(emit).collect()
}
