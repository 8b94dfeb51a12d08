//! A process: one actor, one connection at a time, a journal. It knows nothing of the others, nor of the faults.

use super::batch::Batches;
use super::connection::Strange;
use super::link::{Link, micros};
use super::orders::{Orders, Task};
use crate::simulate::Work;
use anyhow::{Context, Result};
use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;
use tourbillon_engine::actors::script::Script;
use tourbillon_engine::actors::worker::Worker;
use tourbillon_engine::actors::{Action, Actor, Answered};
use tourbillon_models::workload::Program;

/// How a process ends that its own program took down.
pub const DIED: u8 = 77;
/// How one ends that was given an answer which no engine may give.
pub const BAFFLED: u8 = 78;

/// Names, in the environment, the number of the process that starts the others.
pub const CONDUCTOR: &str = "TOURBILLON_CHAOS_CONDUCTOR";

/// What comes in on the standard input after the orders.
#[derive(Default)]
struct Word {
    granted: AtomicU64,
    is_over: AtomicBool,
    heard: Notify,
}

/// How it ended: in peace, none; or else the code to leave with.
pub fn run() -> Result<Option<u8>> {
    die_with_parent();
    let mut first = String::new();
    std::io::stdin().lock().read_line(&mut first).context("nobody says what to do")?;
    let orders: Orders = serde_json::from_str(&first).context("the orders cannot be read")?;
    let word = Arc::new(Word::default());
    let listener = Arc::clone(&word);
    std::thread::spawn(move || listen(&listener));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(work(&orders, &word)) {
        Ok(in_peace) => Ok((!in_peace).then_some(DIED)),
        Err(error) if error.is::<Strange>() => {
            eprintln!("{error:#}");
            Ok(Some(BAFFLED))
        }
        Err(error) => Err(error),
    }
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
            word.granted.store(granted, Ordering::Release);
            word.heard.notify_one();
        }
    }
    word.is_over.store(true, Ordering::Release);
    word.heard.notify_one();
}

/// True if it ended in peace; false if its program killed it.
async fn work(orders: &Orders, word: &Word) -> Result<bool> {
    let work = Work::named(&orders.workload).context("there is no such workload")?;
    let (steps, names) = (work.steps(), work.names());
    let mut process = Process { orders, word, link: Link::new(orders, &steps, &names)? };
    let in_peace = match &orders.task {
        Task::Worker(options) => {
            process.drive(&mut Worker::new(options.clone(), work.program.clone()), Word::is_over).await?
        }
        Task::Script(options) => process.drive(&mut Script::new(options.clone()), Word::is_over).await?,
        Task::Batches(batches) => process.work_through(batches, work.program.as_deref()).await?,
    };
    if in_peace {
        process.link.close()?;
    }
    Ok(in_peace)
}

struct Process<'o> {
    orders: &'o Orders,
    word: &'o Word,
    link: Link<'o>,
}

impl Process<'_> {
    async fn work_through(&mut self, batches: &Batches, program: Option<&dyn Program>) -> Result<bool> {
        for batch in batches.done..batches.batches {
            self.link.flush()?;
            if !self.word.grants_more_than(batches.before(batch)).await {
                break;
            }
            self.drive(&mut Script::new(batches.script(batch, program)), |_| false).await?;
        }
        Ok(true)
    }

    /// Until it has finished, or somebody says that it is over. True if it ended in peace; false if its program killed it.
    async fn drive(&mut self, actor: &mut dyn Actor, is_over: impl Fn(&Word) -> bool) -> Result<bool> {
        let mut answered: Option<Answered> = None;
        while !is_over(self.word) {
            match actor.poll(self.orders.epoch.now(), answered.take().as_mut()) {
                Action::Note(note) => self.link.note(note),
                Action::Die => {
                    self.link.flush()?;
                    return Ok(false);
                }
                Action::Finished => break,
                Action::Sleep(until) => {
                    let now = self.orders.epoch.now();
                    if until > now {
                        self.link.flush()?;
                        self.word.wait(micros(until - now)).await;
                    }
                }
                Action::Call(op) => {
                    let (reply, xid) = self.link.call(&op).await?;
                    answered = Some(Answered { reply, xid });
                }
            }
        }
        Ok(true)
    }
}

impl Word {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Until so much time has passed, or something was said.
    async fn wait(&self, time: Duration) {
        tokio::select! {
            biased;
            () = sleep(time) => {}
            () = self.heard.notified() => {}
        }
    }

    /// False if it never will.
    async fn grants_more_than(&self, workflows: u64) -> bool {
        loop {
            // In this order: the last grant comes before the end.
            let is_over = self.is_over();
            if self.granted.load(Ordering::Acquire) > workflows {
                return true;
            }
            if is_over {
                return false;
            }
            self.wait(Duration::from_secs(1)).await;
        }
    }
}
