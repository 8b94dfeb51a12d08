//! The processes of one server: how they are started, and how all of them are ended at once.
//!
//! What it is not: the server's directory, which outlives them. Invariant: it is ready once it was started, and none of its
//! processes is left once it was killed.

use super::Error;
use super::account::Account;
use super::binaries::Binaries;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStderr, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// For the machine to do what it normally does in milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

const SETTINGS: [&str; 26] = [
    "listen_addresses=",
    // Relative to the data directory, so that no character in the path needs quoting.
    "unix_socket_directories=..",
    "port=5432",
    "shared_buffers=32MB",
    // Where commits are asynchronous, a plan says when the log is flushed: nobody may run out of buffers, or write pages.
    "wal_buffers=16MB",
    "bgwriter_lru_maxpages=0",
    "checkpoint_timeout=1d",
    // Files in the data directory, which go with it, instead of segments that a SIGKILL leaves in /dev/shm.
    "dynamic_shared_memory_type=mmap",
    // The operating system outlives every crash that is made here.
    "fsync=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_logical_replication_workers=0",
    // It takes xids and holds locks that would look like a session's.
    "autovacuum=off",
    // Who closes a cycle of waits decides when it is broken, by setting its own to 1 ms.
    "deadlock_timeout=1d",
    // A backend is one process, and a plan does not depend on the machine.
    "max_parallel_workers_per_gather=0",
    "jit=off",
    "timezone=UTC",
    "log_timezone=UTC",
    "lc_messages=C",
    // The log is for why a server does not start; refused statements are somebody's replies.
    "log_destination=stderr",
    "logging_collector=off",
    "log_min_messages=log",
    "log_min_error_statement=panic",
    "log_checkpoints=off",
    "log_line_prefix=",
];

const READY: &str = "database system is ready to accept connections";

/// The first process of a server, its parent being us.
#[derive(Debug)]
pub struct Postmaster {
    pub pid: Pid,
    log: Log,
}

impl Postmaster {
    pub fn start(
        binaries: &Binaries,
        account: Account,
        directory: &Path,
        settings: &[String],
    ) -> Result<Postmaster, Error> {
        let mut command = account.command(binaries.directory.join("postgres"), directory);
        command.arg("-D").arg(directory.join("data"));
        // Of two that say different things the later counts.
        let settings = SETTINGS.into_iter().chain(settings.iter().map(String::as_str));
        command.args(settings.flat_map(|setting| ["-c", setting]));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| Error::Unavailable(format!("{:?} does not start: {error}", command.get_program())))?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let log = Log::follow(child.stderr.take().expect("the standard error was piped"));
        log.wait_until_ready().inspect_err(|_| {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        })?;
        Ok(Postmaster { pid, log })
    }

    pub fn quit(self) -> Result<(), Error> {
        let failed = |error: Errno| Error::Unavailable(format!("the server cannot be shut down: {error}"));
        kill(self.pid, Signal::SIGQUIT).map_err(failed)?;
        waitpid(self.pid, None).map_err(failed)?;
        self.log.wait_until_closed()
    }

    /// Killing only the postmaster would leave busy backends, and then it could not be restarted. So it is stopped
    /// first, and nobody is forked while its children are killed.
    pub fn kill(self) -> Result<(), Error> {
        let failed = |error: Errno| Error::Unavailable(format!("the server's processes cannot be killed: {error}"));
        kill(self.pid, Signal::SIGSTOP).map_err(failed)?;
        // It stops some time after the signal was sent. If it has ended instead, this reaps it, and the rest is a
        // matter of its children, which notice.
        let stopped = waitpid(self.pid, Some(WaitPidFlag::WUNTRACED)).map_err(failed)?;
        if matches!(stopped, WaitStatus::Stopped(..)) {
            let children = children(self.pid);
            let _adopting = adopt_orphans();
            for &process in children.iter().chain([&self.pid]) {
                kill(process, Signal::SIGKILL).or_else(unless_gone).map_err(failed)?;
            }
            waitpid(self.pid, None).map_err(failed)?;
            // A child that was not ours to adopt is reaped by whoever did.
            for child in children {
                let _ = waitpid(child, None);
            }
        }
        self.log.wait_until_closed()
    }
}

fn unless_gone(error: Errno) -> nix::Result<()> {
    if error == Errno::ESRCH { Ok(()) } else { Err(error) }
}

/// While the result lives, orphans below this process become its children, so that it can reap them. The first process
/// of a container often reaps nobody, and a thousand crashes would fill the process table. It is not for longer than the
/// crash of a server, as nobody here reaps the orphans of others.
#[cfg(target_os = "linux")]
fn adopt_orphans() -> impl Drop {
    use nix::sys::prctl::{get_child_subreaper, set_child_subreaper};
    use std::sync::MutexGuard;

    struct Adopting {
        before: bool,
        /// One crash does not end what another still needs.
        _turn: MutexGuard<'static, ()>,
    }
    impl Drop for Adopting {
        fn drop(&mut self) {
            let _ = set_child_subreaper(self.before);
        }
    }
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let before = get_child_subreaper().unwrap_or(false);
    let _ = set_child_subreaper(true);
    Adopting { before, _turn }
}

#[cfg(not(target_os = "linux"))]
fn adopt_orphans() {}

pub(super) fn children(parent: Pid) -> Vec<Pid> {
    let parse = |text: &str| text.parse().ok().map(Pid::from_raw);
    let Ok(processes) = fs::read_dir("/proc") else { return children_by_ps(parent) };
    let pids = processes.flatten().filter_map(|entry| parse(entry.file_name().to_str()?));
    pids.filter(|&pid| parent_of(pid) == Some(parent)).collect()
}

/// The second field after the name, which is in parentheses and may hold anything.
fn parent_of(pid: Pid) -> Option<Pid> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok().map(Pid::from_raw)
}

/// For systems without `/proc`.
pub(super) fn children_by_ps(parent: Pid) -> Vec<Pid> {
    let output = std::process::Command::new("ps").args(["-axo", "pid=,ppid="]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.trim().split_once(char::is_whitespace));
    pairs
        .filter(|(_, of)| of.trim() == parent.to_string())
        .filter_map(|(pid, _)| pid.parse().ok().map(Pid::from_raw))
        .collect()
}

/// The server's standard error. Every process of the server holds its other end, and lets go of it after its memory, so
/// that its end is the end of them all.
#[derive(Debug)]
struct Log {
    ready: Receiver<()>,
    tail: Arc<Mutex<VecDeque<String>>>,
}

impl Log {
    fn follow(stderr: ChildStderr) -> Log {
        let (sender, ready) = mpsc::channel();
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&tail);
        thread::spawn(move || read_log(stderr, &sender, &kept));
        Log { ready, tail }
    }

    fn wait_until_ready(&self) -> Result<(), Error> {
        self.ready.recv_timeout(PATIENCE).map_err(|reason| {
            let what = match reason {
                RecvTimeoutError::Disconnected => "ended as it started".to_string(),
                RecvTimeoutError::Timeout => format!("is not ready after {} s", PATIENCE.as_secs()),
            };
            Error::Unavailable(format!("the PostgreSQL server {what}: {}", self.reason()))
        })
    }

    fn wait_until_closed(&self) -> Result<(), Error> {
        match self.ready.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Disconnected) => Ok(()),
            _ => Err(Error::Unavailable(format!("a killed server is still there after {} s", PATIENCE.as_secs()))),
        }
    }

    fn reason(&self) -> String {
        let tail = self.tail.lock().expect("the log's reader does not panic");
        let fatal = tail.iter().rfind(|line| line.contains("FATAL:")).or(tail.back());
        fatal.map_or_else(|| "it said nothing".to_string(), |line| line.trim().to_string())
    }
}

fn read_log(stderr: ChildStderr, ready: &Sender<()>, tail: &Mutex<VecDeque<String>>) {
    let lines = BufReader::new(stderr).split(b'\n').map_while(Result::ok);
    for line in lines.map(|line| String::from_utf8_lossy(&line).into_owned()) {
        if line.contains(READY) {
            let _ = ready.send(());
        }
        let mut tail = tail.lock().expect("nobody panics with the log in hand");
        tail.push_back(line);
        if tail.len() > 50 {
            tail.pop_front();
        }
    }
}
