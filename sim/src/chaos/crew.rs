//! The processes of a round: started, stopped, killed, started again, and gone in the end, however the round ends.
//!
//! They are started by one thread, which lives as long as they do: on Linux they die with it.

use super::journal::{Life, Standing, standing};
use super::orders::{Orders, Task};
use super::process::{BAFFLED, CONDUCTOR, DIED};
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use tourbillon_models::history::PlainOp;
use tourbillon_models::name::Micros;

/// The hidden command under which the program starts itself.
pub const COMMAND: &str = "chaos-process";

/// A program that is not the tool itself, such as a test, says here with which arguments it becomes a process.
pub const STARTED_BY: &str = "TOURBILLON_CHAOS_PROCESS";

pub struct Member {
    pub name: String,
    /// Of the next life.
    pub orders: Orders,
    pub running: Option<Running>,
    /// When it is started again.
    pub back_at: Option<Micros>,
    /// Why it stands still until then.
    pub stopped_until: Option<Micros>,
    pub is_finished: bool,
    /// So many workflows its batches may have, in all.
    pub granted: u64,
    /// It is to come to an end by itself, and so are later lives.
    is_dismissed: bool,
}

pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    pub life: Life,
}

/// How a process ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    Finished,
    /// Killed, by us or by its own program.
    Died,
    /// It was given an answer that no engine may give, in a sentence.
    Baffled(String),
}

impl Member {
    pub fn new(name: String, orders: Orders) -> Member {
        Member {
            name,
            orders,
            running: None,
            back_at: None,
            stopped_until: None,
            is_finished: false,
            granted: 0,
            is_dismissed: false,
        }
    }

    pub fn start(&mut self) -> Result<()> {
        // The file may have been replaced since.
        let program = match cfg!(target_os = "linux") {
            true => PathBuf::from("/proc/self/exe"),
            false => std::env::current_exe().context("this program cannot be found again")?,
        };
        let mut command = Command::new(program);
        match std::env::var(STARTED_BY) {
            Ok(words) => command.args(words.split(' ')),
            Err(_) => command.arg(COMMAND),
        };
        command.env(CONDUCTOR, std::process::id().to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Ctrl-C is for the conductor.
        command.process_group(0);
        let mut child = command.spawn().with_context(|| format!("the process of {} does not start", self.name))?;
        let mut input = child.stdin.take().expect("the standard input was piped");
        let orders = serde_json::to_string(&self.orders).context("orders are plain data")?;
        let granted = if self.granted > 0 { format!("{}\n", self.granted) } else { String::new() };
        // It may be gone already: its end tells why.
        let _ = input.write_all(format!("{orders}\n{granted}").as_bytes());
        let input = (!self.is_dismissed).then_some(input);
        self.running = Some(Running { child, input, life: self.orders.life });
        self.back_at = None;
        Ok(())
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let Some(running) = &self.running else { return Ok(()) };
        let pid = Pid::from_raw(running.child.id().cast_signed());
        kill(pid, signal).with_context(|| format!("the process of {} cannot be sent {signal}", self.name))
    }

    /// From now on it may begin batches until they have so many.
    pub fn grant(&mut self, granted: u64) {
        if granted <= self.granted {
            return;
        }
        self.granted = granted;
        if let Some(input) = self.running.as_mut().and_then(|running| running.input.as_mut()) {
            let _ = input.write_all(format!("{granted}\n").as_bytes());
        }
    }

    /// It is to come to an end by itself, and so is whoever takes its place.
    pub fn dismiss(&mut self) {
        self.is_dismissed = true;
        self.running.iter_mut().for_each(|running| running.input = None);
    }

    /// How it has ended, if it has: it is reaped.
    pub fn ended(&mut self) -> Result<Option<Ended>> {
        let Some(running) = &mut self.running else { return Ok(None) };
        let Some(status) = running.child.try_wait().context("a process of ours cannot be waited for")? else {
            return Ok(None);
        };
        let mut said = String::new();
        running.child.stderr.take().map(|mut error| error.read_to_string(&mut said));
        self.judge(status, said.trim()).map(Some)
    }

    fn judge(&self, status: ExitStatus, said: &str) -> Result<Ended> {
        use std::os::unix::process::ExitStatusExt;
        match (status.code(), status.signal()) {
            (Some(0), _) => Ok(Ended::Finished),
            (Some(code), _) if code == i32::from(DIED) => Ok(Ended::Died),
            (Some(code), _) if code == i32::from(BAFFLED) => Ok(Ended::Baffled(format!("{}: {said}", self.name))),
            (None, Some(9)) => Ok(Ended::Died),
            _ if said.is_empty() => bail!("the process of {} ended with {status}", self.name),
            _ => bail!("{}: {}", self.name, said.trim_start_matches("error: ")),
        }
    }

    /// Where the life that has just ended stood; the next one goes on there.
    pub fn bury(&mut self) -> Result<(Life, Standing, Option<PlainOp>)> {
        let running = self.running.take().expect("only who lived is buried");
        let path = self.orders.journal();
        let (standing, called) = match path.exists() {
            true => standing(&path).with_context(|| format!("the history {} cannot be read", path.display()))?,
            false => (Standing::NEW, None),
        };
        let incarnation = running.life.incarnation.checked_add(1);
        self.orders.life.incarnation = incarnation.with_context(|| format!("{} died too often", self.name))?;
        if let (Task::Batches(batches), Some(key)) = (&mut self.orders.task, standing.last_key) {
            batches.done = batches.batch_of(key);
        }
        Ok((running.life, standing, called))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
