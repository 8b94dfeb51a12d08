//! The directory that a cluster lives in, with all that belongs to it, and its end.
//!
//! What it is not: it knows nothing of what runs inside. Invariant: a home goes with everyone in it, however its owner
//! ends. The owner's orderly end and its sudden one take the same way: a watchdog process (`watchdog.sh`) waits for a
//! pipe to close that only the owner holds. Should the watchdog be killed, too, the next cluster to start sweeps up.

use std::env;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::Error;
use super::account::Account;
use super::template::unwritable;

/// A directory that goes when its owner, this process, ends.
#[derive(Debug)]
pub(super) struct Home {
    pub directory: PathBuf,
    pub watchdog: Child,
    /// Held as long as we live, also where our pid means nothing: in another container that shares the directory.
    pub _lock: Option<Flock<File>>,
}

impl Home {
    pub fn create(base: &Path, account: Account) -> Result<Home, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = base.join(format!("{PREFIX}{}-{number}", Owner::ourselves()));
        fs::DirBuilder::new().mode(0o700).create(&directory).map_err(|error| unwritable(&directory, error))?;
        Home::guard(&directory, account).map_err(|error| {
            let _ = fs::remove_dir_all(&directory);
            unwritable(&directory, error)
        })
    }

    fn guard(directory: &Path, account: Account) -> std::io::Result<Home> {
        let owner = File::create(directory.join("owner"))?;
        let _lock = Flock::lock(owner, FlockArg::LockExclusiveNonblock).ok();
        account.give(directory)?;
        let watchdog = watchdog(directory, account, Stdio::piped())?;
        Ok(Home { directory: directory.to_path_buf(), watchdog, _lock })
    }

    /// Lets the watchdog do its work and waits for it.
    pub fn remove(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.remove();
    }
}

fn watchdog(directory: &Path, account: Account, stdin: Stdio) -> std::io::Result<Child> {
    // Its own working directory lies elsewhere, as it ends everyone who is inside.
    let mut command = account.command("sh", Path::new("/"));
    command.args(["-c", include_str!("watchdog.sh"), "tourbillon-watchdog"]).arg(directory);
    command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

const PREFIX: &str = "tourbillon-";

/// The temporary directory if a socket's path in it is short enough and the account can get there, else `/tmp`.
pub(super) fn base_directory(account: Account) -> PathBuf {
    let temporary = fs::canonicalize(env::temp_dir()).unwrap_or_else(|_| env::temp_dir());
    let fits = temporary.as_os_str().len() <= 45;
    let open = |(depth, path): (usize, &Path)| {
        let needed = if depth == 0 { 0o003 } else { 0o001 };
        fs::metadata(path).is_ok_and(|it| it.mode() & needed == needed)
    };
    if fits && (!account.lent || temporary.ancestors().enumerate().all(open)) {
        return temporary;
    }
    fs::canonicalize("/tmp").unwrap_or_else(|_| PathBuf::from("/tmp"))
}

/// Removes what owners left whose watchdogs were killed, too.
pub(super) fn sweep(base: &Path, account: Account) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let abandoned = entry.file_name().to_str().and_then(Owner::named).is_some_and(|owner| {
            entry.metadata().is_ok_and(|it| it.is_dir() && it.uid() == account.uid) && owner.is_gone(&entry.path())
        });
        if abandoned && let Ok(mut watchdog) = watchdog(&entry.path(), account, Stdio::null()) {
            let _ = watchdog.wait();
        }
    }
}

/// A process, told apart from a later one of the same pid by when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    pid: i32,
    /// In clock ticks since the machine started; 0 where the system does not tell.
    started: u64,
}

impl Owner {
    fn ourselves() -> Owner {
        let pid = std::process::id().cast_signed();
        Owner { pid, started: started(pid).unwrap_or(0) }
    }

    /// From the name of a cluster's directory: recorded there, it is never missing.
    fn named(name: &str) -> Option<Owner> {
        let mut parts = name.strip_prefix(PREFIX)?.split('-');
        let owner = Owner { pid: parts.next()?.parse().ok()?, started: parts.next()?.parse().ok()? };
        let _number: u32 = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(owner)
    }

    fn is_gone(self, directory: &Path) -> bool {
        let here =
            kill(Pid::from_raw(self.pid), None) != Err(Errno::ESRCH) && started(self.pid).unwrap_or(0) == self.started;
        !here && !is_locked(&directory.join("owner"))
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.pid, self.started)
    }
}

fn started(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn is_locked(path: &Path) -> bool {
    match File::open(path) {
        Ok(file) => matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK))),
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_clusters_have_owners() {
        for (name, expected) in [
            ("tourbillon-12-345-6", Some(Owner { pid: 12, started: 345 })),
            ("tourbillon-template-0-15.14", None),
            ("tourbillon-12-345", None),
            ("tourbillon-12-345-6-7", None),
            ("other-12-345-6", None),
        ] {
            assert_eq!(Owner::named(name), expected, "{name}");
        }
        let ourselves = Owner::ourselves();
        assert!(ourselves.started > 0);
        assert!(!ourselves.is_gone(Path::new("/nonexistent")));
        assert!(Owner { started: ourselves.started + 1, ..ourselves }.is_gone(Path::new("/nonexistent")));
    }
}
