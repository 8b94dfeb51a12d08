//! A throw-away server of our own: started, killed, restarted, and gone without a trace.
//!
//! What it is not: durable against power loss (`fsync` is off; under SIGKILL of its processes committed data survives,
//! because the operating system lives on), reachable by TCP, or shared: it belongs to this process. Invariant: however
//! the owner ends, the server's processes, its directory and its shared memory go; the directory sees to it.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStderr, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::Error;
use super::account::Account;
use super::binaries::Binaries;
use super::home::{Home, base_directory, sweep};
use super::template::{furnish, template_directory};

/// For the machine to do what it normally does in milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// A running or crashed server in a directory of its own.
#[derive(Debug)]
pub struct Cluster {
    binaries: Binaries,
    account: Account,
    home: Home,
    /// Those that come before ours.
    settings: Vec<String>,
    postmaster: Option<Postmaster>,
}

impl Cluster {
    /// Starts a fresh server; 0.1–0.2 s, or 1 s more for the first of its version on this machine.
    ///
    /// These settings (`name=value`) come before ours.
    pub fn start(binaries: &Binaries, settings: &[&str]) -> Result<Cluster, Error> {
        let account = Account::choose()?;
        Cluster::start_in(&base_directory(account), account, binaries, settings)
    }

    fn start_in(base: &Path, account: Account, binaries: &Binaries, settings: &[&str]) -> Result<Cluster, Error> {
        sweep(base, account);
        let home = Home::create(base, account)?;
        furnish(binaries, account, &template_directory(account), &home.directory)?;
        let settings = settings.iter().map(ToString::to_string).collect();
        let mut cluster = Cluster { binaries: binaries.clone(), account, home, settings, postmaster: None };
        cluster.restart()?;
        Ok(cluster)
    }

    /// Kills every process of the server at once and waits until all are gone; some 10 ms. Nothing is flushed, no
    /// session is told. A crashed server may crash again: nothing happens.
    pub fn crash(&mut self) -> Result<(), Error> {
        self.postmaster.take().map_or(Ok(()), Postmaster::kill)
    }

    /// Shuts the server down in the mode that it calls immediate, and waits until all its processes are gone: sessions
    /// are told, nothing is flushed.
    pub fn stop_immediately(&mut self) -> Result<(), Error> {
        self.postmaster.take().map_or(Ok(()), Postmaster::quit)
    }

    /// Starts the server again after [`Cluster::crash`] and returns when it accepts connections; 15–40 ms.
    pub fn restart(&mut self) -> Result<(), Error> {
        assert!(self.postmaster.is_none(), "the server in {} is running", self.home.directory.display());
        self.postmaster = Some(Postmaster::start(&self.binaries, self.account, &self.home.directory, &self.settings)?);
        Ok(())
    }

    /// The directory of the socket, for port 5432; user and database are `postgres`.
    pub fn socket_directory(&self) -> &Path {
        &self.home.directory
    }

    /// The programs that it runs.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The watchdog would do that, too, but could not reap.
        let _ = self.crash();
        self.home.remove();
    }
}

/// The first process of a server, its parent being us.
#[derive(Debug)]
struct Postmaster {
    pid: Pid,
    log: Log,
}

impl Postmaster {
    fn start(
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

    fn quit(self) -> Result<(), Error> {
        let failed = |error: Errno| Error::Unavailable(format!("the server cannot be shut down: {error}"));
        kill(self.pid, Signal::SIGQUIT).map_err(failed)?;
        waitpid(self.pid, None).map_err(failed)?;
        self.log.wait_until_closed()
    }

    /// Killing only the postmaster would leave busy backends, and then it could not be restarted. So it is stopped
    /// first, and nobody is forked while its children are killed.
    fn kill(self) -> Result<(), Error> {
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

fn children(parent: Pid) -> Vec<Pid> {
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
fn children_by_ps(parent: Pid) -> Vec<Pid> {
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

#[cfg(test)]
mod tests {
    use std::env;
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    use std::os::unix::process::CommandExt;
    use std::path::PathBuf;
    use std::process::Command;
    use std::time::Instant;

    use nix::sys::signal::killpg;

    use super::*;
    use crate::postgres::binaries;

    fn start() -> Cluster {
        Cluster::start(&binaries::find().unwrap(), &[]).unwrap()
    }

    /// Everything that a cluster owns outside this process.
    #[derive(Debug)]
    struct Belongings {
        directory: PathBuf,
        pids: Vec<i32>,
        segment: String,
    }

    impl Belongings {
        fn of(cluster: &Cluster) -> Belongings {
            let postmaster = cluster.postmaster.as_ref().unwrap().pid;
            let lock_file = fs::read_to_string(cluster.home.directory.join("data/postmaster.pid")).unwrap();
            Belongings {
                directory: cluster.home.directory.clone(),
                pids: children(postmaster).into_iter().chain([postmaster]).map(Pid::as_raw).collect(),
                segment: lock_file.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap().to_string(),
            }
        }

        fn left(&self) -> Vec<String> {
            let alive = |pid: &&i32| {
                let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                text.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
            };
            let directory = self.directory.exists().then(|| self.directory.display().to_string());
            let processes = self.pids.iter().filter(alive).map(|pid| format!("process {pid}"));
            let segments = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
            let segment = segments
                .lines()
                .any(|line| line.split_whitespace().nth(1) == Some(&self.segment))
                .then(|| format!("segment {}", self.segment));
            directory.into_iter().chain(processes).chain(segment).collect()
        }

        fn assert_gone_soon(&self, how: &str) {
            let begin = Instant::now();
            while !self.left().is_empty() {
                assert!(begin.elapsed() < PATIENCE, "after {how}: {:?} of {self:?}", self.left());
                thread::yield_now();
            }
        }
    }

    fn answers(cluster: &Cluster) -> bool {
        // An SSLRequest, which the server answers with one letter.
        let mut socket = UnixStream::connect(cluster.socket_directory().join(".s.PGSQL.5432")).unwrap();
        socket.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
        let mut answer = [0];
        socket.read_exact(&mut answer).is_ok()
    }

    #[test]
    fn two_clusters_live_side_by_side_and_go_when_dropped() {
        let (one, other) = (start(), start());
        assert_ne!(one.socket_directory(), other.socket_directory());
        assert!(answers(&one) && answers(&other));
        let belongings = Belongings::of(&one);
        let left = belongings.left();
        for expected in [one.socket_directory().display().to_string(), format!("segment {}", belongings.segment)] {
            assert!(left.contains(&expected), "{expected} is not in {left:?}, so that the next look shows nothing");
        }
        drop(one);
        assert_eq!(belongings.left(), [""; 0]);
        assert!(answers(&other));
    }

    #[test]
    fn a_crash_ends_every_process_and_a_restart_answers() {
        let mut cluster = start();
        for _ in 0..3 {
            let belongings = Belongings::of(&cluster);
            cluster.crash().unwrap();
            let directory = belongings.directory.display().to_string();
            assert_eq!(belongings.left(), [directory, format!("segment {}", belongings.segment)]);
            assert!(belongings.pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()), "zombies are left");
            cluster.crash().unwrap();
            cluster.restart().unwrap();
            assert!(answers(&cluster));
        }
    }

    #[test]
    fn a_crashed_cluster_leaves_nothing_either() {
        let mut cluster = start();
        let belongings = Belongings::of(&cluster);
        cluster.crash().unwrap();
        drop(cluster);
        assert_eq!(belongings.left(), [""; 0]);
    }

    const END: &str = "TOURBILLON_TEST_END";

    /// Not a test of its own: what the next test runs in another process and ends in many ways.
    #[test]
    fn owner() {
        let Ok(end) = env::var(END) else { return };
        let mut cluster = start();
        let Belongings { directory, pids, segment } = Belongings::of(&cluster);
        if end == "killed while crashed" {
            cluster.crash().unwrap();
        }
        println!("\nbelongings {} {segment} {pids:?}", directory.display());
        match end.as_str() {
            "panic" => panic!("on purpose"),
            "exit" => std::process::exit(3),
            _ => std::io::stdin().read_to_end(&mut Vec::new()).map(|_| ()).unwrap(),
        }
    }

    #[test]
    fn an_owner_leaves_nothing_however_it_ends() {
        let ends = [
            ("return", None),
            ("panic", None),
            ("exit", None),
            ("interrupted", Some(Signal::SIGINT)),
            ("terminated", Some(Signal::SIGTERM)),
            ("killed", Some(Signal::SIGKILL)),
            ("killed while crashed", Some(Signal::SIGKILL)),
        ];
        for (end, signal) in ends {
            // Not by its path, as a build may be replacing it.
            let mut owner = Command::new("/proc/self/exe");
            owner.args(["postgres::cluster::tests::owner", "--exact", "--nocapture"]).env(END, end);
            owner.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
            let mut owner = owner.spawn().unwrap();
            let lines = BufReader::new(owner.stdout.as_mut().unwrap()).lines().map_while(Result::ok);
            let belongings = lines.filter_map(|line| parse(&line)).next().unwrap();
            if let Some(signal) = signal {
                // As a terminal does.
                killpg(Pid::from_raw(owner.id().cast_signed()), signal).unwrap();
            }
            drop(owner.stdin.take());
            owner.wait().unwrap();
            belongings.assert_gone_soon(end);
        }
    }

    fn parse(line: &str) -> Option<Belongings> {
        let (directory, rest) = line.strip_prefix("belongings ")?.split_once(' ')?;
        let (segment, pids) = rest.split_once(' ')?;
        let pids = pids.trim_matches(['[', ']']).split(", ").map(|pid| pid.parse().unwrap()).collect();
        Some(Belongings { directory: directory.into(), pids, segment: segment.to_string() })
    }

    #[test]
    fn a_killed_watchdog_is_made_up_for_by_the_next_start() {
        // A base of its own, as other tests start and sweep, too.
        let (account, private) = (Account::choose().unwrap(), tempfile::tempdir_in("/tmp").unwrap());
        fs::set_permissions(private.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let mut cluster = Cluster::start_in(private.path(), account, &binaries::find().unwrap(), &[]).unwrap();
        let belongings = Belongings::of(&cluster);
        cluster.home.watchdog.kill().unwrap();
        cluster.home.watchdog.wait().unwrap();
        let base = belongings.directory.parent().unwrap();
        sweep(base, account);
        assert!(answers(&cluster), "a living owner's cluster is left alone");

        // The owner's death, as far as the file system can tell: the lock is released, the pid is nobody's.
        cluster.home._lock = None;
        let mut nobody = Command::new("true").spawn().unwrap();
        nobody.wait().unwrap();
        let abandoned = base.join(format!("tourbillon-{}-1-0", nobody.id()));
        cluster.crash().unwrap();
        fs::rename(&belongings.directory, &abandoned).unwrap();
        cluster.home.directory = abandoned.clone();
        cluster.restart().unwrap();
        let belongings = Belongings::of(&cluster);
        sweep(base, account);
        waitpid(cluster.postmaster.take().unwrap().pid, None).unwrap();
        assert_eq!(belongings.left(), [""; 0]);
    }

    #[test]
    fn both_ways_to_list_children_agree() {
        let cluster = start();
        let postmaster = cluster.postmaster.as_ref().unwrap().pid;
        let (mut by_proc, mut by_ps) = (children(postmaster), children_by_ps(postmaster));
        by_proc.sort();
        by_ps.sort();
        assert_eq!(by_proc, by_ps);
    }

    #[test]
    fn a_server_that_cannot_start_says_why() {
        let cluster = start();
        let directory = cluster.home.directory.clone();
        let error = Postmaster::start(&cluster.binaries, cluster.account, &directory, &[]).unwrap_err().to_string();
        assert!(error.contains("ended as it started: FATAL:  lock file \"postmaster.pid\" already exists"), "{error}");
    }
}
