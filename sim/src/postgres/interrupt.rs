//! Ctrl-C and SIGTERM: what is in somebody else's database goes before this process does.
//!
//! An interruption is noted, every replay on a user's server ends at its next statement with an error, and its server is
//! dropped as always, schema and all. What was found is told and saved. Then the process ends, with 128 and the signal's
//! number. A throw-away server needs none of this: its watchdog sees to it. What it is not: a way to end a sweep early, which
//! leaves nothing to put in order.

use std::process::exit;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::Error;

/// For servers to be put in order, and the report; who wants to leave sooner asks twice.
const PATIENCE: Duration = Duration::from_secs(20);

struct Progress {
    interrupted: bool,
    in_use: usize,
    /// Everything has been said and done.
    finished: bool,
}

static PROGRESS: Mutex<Progress> = Mutex::new(Progress { interrupted: false, in_use: 0, finished: false });
static FINISHED: Condvar = Condvar::new();

fn progress() -> MutexGuard<'static, Progress> {
    PROGRESS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// That something is in use which an interrupted process puts in order, or tells of, before it ends: a user's server, what was
/// found so far.
#[derive(Debug)]
pub(crate) struct InUse(());

impl InUse {
    pub fn claim() -> Result<InUse, Error> {
        let mut progress = progress();
        refuse_if(progress.interrupted)?;
        progress.in_use += 1;
        Ok(InUse(()))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        progress().in_use -= 1;
    }
}

/// An error once this process has been interrupted.
pub(crate) fn check() -> Result<(), Error> {
    refuse_if(progress().interrupted)
}

fn refuse_if(interrupted: bool) -> Result<(), Error> {
    if interrupted { Err(Error::Unavailable("interrupted".to_string())) } else { Ok(()) }
}

/// From now on an interruption waits for what must be put in order. To be called once, early in `main`.
pub fn watch() {
    let watched = [(SignalKind::interrupt(), 130), (SignalKind::terminate(), 143)];
    for (kind, code) in watched.into_iter().filter(|(kind, _)| !is_ignored(*kind)) {
        thread::spawn(move || wait_for(kind, code));
    }
}

/// Does not return if this process has been interrupted and is about to end.
pub fn finish() {
    let mut progress = progress();
    progress.finished = true;
    FINISHED.notify_all();
    let interrupted = progress.interrupted;
    drop(progress);
    if interrupted {
        loop {
            thread::park();
        }
    }
}

/// Whoever started this process in the background, or under `nohup`, wants it to stay.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (kind.as_raw_value() - 1) & 1 != 0
}

fn wait_for(kind: SignalKind, code: i32) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let Ok(mut signals) = signal(kind) else { return };
        signals.recv().await;
        thread::spawn(move || end(code));
        signals.recv().await;
        exit(code);
    });
}

fn end(code: i32) {
    let mut progress = progress();
    progress.interrupted = true;
    if progress.in_use > 0 {
        drop(FINISHED.wait_timeout_while(progress, PATIENCE, |progress| !progress.finished));
    }
    exit(code);
}
