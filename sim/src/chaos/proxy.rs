//! Proxies: one between each process and the server, all in one thread. They delay what passes, hang up on both, hang up on
//! one only, and lose exactly the answer to a commit.
//!
//! Of the protocol they know where messages begin and end, and what a commit's answer looks like. In peace bytes pass as
//! they come.

use super::clock::monotonic_ns;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

/// Where the server listens.
#[derive(Clone, Debug)]
pub enum Upstream {
    Unix(PathBuf, u16),
    Tcp(String, u16),
}

/// Which side notices at once that a connection is broken, and which one so much later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notices {
    Both,
    ServerAfter(Duration),
    ClientAfter(Duration),
}

/// What a proxy is to do to those who connect through it.
pub struct Lever {
    delay_us: AtomicU64,
    delay_until_ns: AtomicU64,
    /// A change hangs up on everybody.
    hang_up: watch::Sender<Notices>,
    loses_commit: AtomicBool,
    /// When answers to commits were lost, on the monotonic clock.
    lost_commits: Mutex<Vec<u64>>,
}

impl Lever {
    fn new() -> Arc<Lever> {
        Arc::new(Lever {
            delay_us: AtomicU64::new(0),
            delay_until_ns: AtomicU64::new(0),
            hang_up: watch::Sender::new(Notices::Both),
            loses_commit: AtomicBool::new(false),
            lost_commits: Mutex::default(),
        })
    }

    /// Whatever passes in the next while takes so much longer.
    pub fn delay(&self, by: Duration, within: Duration) {
        self.delay_us.store(by.as_micros() as u64, Ordering::Relaxed);
        self.delay_until_ns.store(monotonic_ns() + within.as_nanos() as u64, Ordering::Relaxed);
    }

    /// False if nobody was connected.
    pub fn hang_up(&self, notices: Notices) -> bool {
        let is_connected = self.is_connected();
        self.hang_up.send_replace(notices);
        is_connected
    }

    pub fn is_connected(&self) -> bool {
        self.hang_up.receiver_count() > 0
    }

    /// The next answer to a commit, and the connection with it.
    pub fn lose_commit(&self) {
        self.loses_commit.store(true, Ordering::Relaxed);
    }

    /// When that came about, so far.
    pub fn lost_commits(&self) -> Vec<u64> {
        self.lost_commits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn make_peace(&self) {
        self.loses_commit.store(false, Ordering::Relaxed);
        self.delay_until_ns.store(0, Ordering::Relaxed);
    }

    async fn wait(&self) {
        let until = self.delay_until_ns.load(Ordering::Relaxed);
        if until != 0 && monotonic_ns() < until {
            sleep(Duration::from_micros(self.delay_us.load(Ordering::Relaxed))).await;
        }
    }
}

/// All proxies of a round. They end with it.
pub struct Proxies {
    pub levers: Vec<Arc<Lever>>,
    /// Where to connect to each: the port of a socket in the server's directory, or one of this machine's.
    pub ports: Vec<u16>,
    stop: Arc<Notify>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Before somebody is let in when there was no room for him: of open files there are only so many.
const PAUSE: Duration = Duration::from_millis(10);
/// The first one's port, where ports are names of sockets.
const FIRST_PORT: u16 = 6000;

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Proxies {
    /// In sockets in a directory, or else at ports of this machine's.
    pub fn start(upstream: &Upstream, sockets: Option<&Path>, count: usize) -> Result<Proxies> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let levers: Vec<_> = (0..count).map(|_| Lever::new()).collect();
        let mut listeners = Vec::new();
        let mut ports = Vec::new();
        for index in 0..count {
            let (listener, port) = runtime.block_on(listen(sockets, FIRST_PORT + index as u16))?;
            listeners.push(listener);
            ports.push(port);
        }
        let (stop, upstream) = (Arc::new(Notify::new()), upstream.clone());
        let (stopped, kept) = (Arc::clone(&stop), levers.clone());
        let serve = move || {
            runtime.block_on(async {
                for (listener, lever) in listeners.into_iter().zip(kept) {
                    tokio::spawn(accept(listener, lever, upstream.clone()));
                }
                stopped.notified().await;
            });
        };
        let thread = std::thread::Builder::new().name("proxies".to_owned()).spawn(serve)?;
        Ok(Proxies { levers, ports, stop, thread: Some(thread) })
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        self.stop.notify_one();
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

async fn listen(sockets: Option<&Path>, name: u16) -> Result<(Listener, u16)> {
    match sockets {
        Some(directory) => {
            let path = directory.join(format!(".s.PGSQL.{name}"));
            let _ = std::fs::remove_file(&path);
            let listener = UnixListener::bind(&path)
                .with_context(|| format!("a proxy cannot have the socket {}", path.display()))?;
            Ok((Listener::Unix(listener), name))
        }
        None => {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("a proxy cannot have a port")?;
            let port = listener.local_addr()?.port();
            Ok((Listener::Tcp(listener), port))
        }
    }
}

async fn accept(listener: Listener, lever: Arc<Lever>, upstream: Upstream) {
    loop {
        let (lever, upstream) = (Arc::clone(&lever), upstream.clone());
        match &listener {
            Listener::Unix(listener) => {
                let Ok((client, _)) = listener.accept().await else {
                    sleep(PAUSE).await;
                    continue;
                };
                tokio::spawn(async move { connect(client, &upstream, &lever).await });
            }
            Listener::Tcp(listener) => {
                let Ok((client, _)) = listener.accept().await else {
                    sleep(PAUSE).await;
                    continue;
                };
                let _ = client.set_nodelay(true);
                tokio::spawn(async move { connect(client, &upstream, &lever).await });
            }
        }
    }
}

/// A server that is away hangs up at once, as the system would.
async fn connect<C>(client: C, upstream: &Upstream, lever: &Lever)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    match upstream {
        Upstream::Unix(directory, port) => {
            if let Ok(server) = UnixStream::connect(directory.join(format!(".s.PGSQL.{port}"))).await {
                pass(client, server, lever).await;
            }
        }
        Upstream::Tcp(host, port) => {
            if let Ok(server) = TcpStream::connect((host.as_str(), *port)).await {
                let _ = server.set_nodelay(true);
                pass(client, server, lever).await;
            }
        }
    }
}

async fn pass<C, S>(client: C, server: S, lever: &Lever)
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut hang_up = lever.hang_up.subscribe();
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let up = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            lever.wait().await;
            if to_server.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    };
    let down = async {
        let mut buffer = vec![0; 1 << 16];
        let mut frames = Frames::default();
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            lever.wait().await;
            let commit = frames.find_commit(&buffer[..count]);
            if commit.is_some() && lever.loses_commit.swap(false, Ordering::Relaxed) {
                lever.lost_commits.lock().unwrap_or_else(PoisonError::into_inner).push(monotonic_ns());
                break;
            }
            if to_client.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    };
    let notices = tokio::select! {
        biased;
        changed = hang_up.changed() => changed.map_or(Notices::Both, |()| *hang_up.borrow_and_update()),
        () = up => Notices::Both,
        () = down => Notices::Both,
    };
    // Whoever is not told keeps what he has, and is heard by nobody.
    match notices {
        Notices::Both => {}
        Notices::ServerAfter(late) => {
            drop((from_client, to_client, hang_up));
            sleep(late).await;
        }
        Notices::ClientAfter(late) => {
            drop((from_server, to_server, hang_up));
            sleep(late).await;
        }
    }
}

/// Where in the server's stream its messages begin.
#[derive(Default)]
struct Frames {
    /// Of the message under way.
    left: usize,
    /// Its head, as far as it has come.
    head: Vec<u8>,
}

const COMMIT: &[u8] = b"C\0\0\0\x0bCOMMIT\0";

impl Frames {
    /// Where a commit's answer begins. One that comes in two pieces is let pass.
    fn find_commit(&mut self, bytes: &[u8]) -> Option<usize> {
        let (mut at, mut found) = (0, None);
        while at < bytes.len() {
            if self.left > 0 {
                let step = self.left.min(bytes.len() - at);
                self.left -= step;
                at += step;
                continue;
            }
            if self.head.is_empty() && bytes[at..].starts_with(COMMIT) {
                found = found.or(Some(at));
            }
            let wanted = (5 - self.head.len()).min(bytes.len() - at);
            self.head.extend_from_slice(&bytes[at..at + wanted]);
            at += wanted;
            if let [_, a, b, c, d] = self.head[..] {
                self.left = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
                self.head.clear();
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commits_answer_is_found_and_what_looks_like_one_inside_a_row_is_not() {
        let row = [b"D\0\0\0\x10".as_slice(), COMMIT].concat();
        let ready = b"Z\0\0\0\x05I";
        let stream = [row.as_slice(), ready, COMMIT, ready].concat();
        assert_eq!(Frames::default().find_commit(&stream), Some(row.len() + ready.len()));
        for cut in 0..stream.len() {
            let mut frames = Frames::default();
            let first = frames.find_commit(&stream[..cut]);
            let second = frames.find_commit(&stream[cut..]).map(|at| at + cut);
            let is_cut = (row.len() + ready.len() + 1..stream.len() - ready.len()).contains(&cut);
            let expected = (!is_cut).then_some(row.len() + ready.len());
            assert_eq!(first.or(second), expected, "cut at {cut}");
        }
    }
}
