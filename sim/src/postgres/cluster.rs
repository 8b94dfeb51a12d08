//! A throw-away server of our own: started, killed, restarted, and gone without a trace.
//!
//! What it is not: durable against power loss (`fsync` is off; under SIGKILL of its processes committed data survives,
//! because the operating system lives on), reachable by TCP, or shared: it belongs to this process. Invariant: however
//! the owner ends, the server's processes, its directory and its shared memory go; the directory sees to it.

use super::Error;
use super::account::Account;
use super::binaries::Binaries;
use super::home::{Home, base_directory, sweep};
use super::postmaster::Postmaster;
use super::template::{furnish, template_directory};
use std::path::Path;

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

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    use std::os::unix::process::CommandExt;
    use std::path::PathBuf;
    use std::process::{Command, Stdio};
    use std::thread;
    use std::time::Instant;

    use nix::sys::signal::{Signal, killpg};
    use nix::sys::wait::waitpid;
    use nix::unistd::Pid;

    use super::*;
    use crate::postgres::binaries;
    use crate::postgres::postmaster::{PATIENCE, children, children_by_ps};

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
