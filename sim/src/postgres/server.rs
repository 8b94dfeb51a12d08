//! A server, ours or the user's, behind a synchronous face.
//!
//! It owns the tokio runtime that drives its sessions, so that a replay, which does one thing at a time, needs no async
//! code. Targets with threads take [`Server::config`] and open sessions on runtimes of their own. What it is not: a pool.
//! Invariant: on the user's server nothing exists outside schemas of our own, and they go when the server is dropped,
//! or when the next one connects.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_postgres::Config;
use tokio_postgres::config::Host;
use tokio_postgres::types::ToSql;

use tourbillon_engine::store::WalLevel;

use super::binaries::{self, Binaries, OLDEST_MAJOR};
use super::cluster::Cluster;
use super::control::{Control, Expect, PATIENCE, Rest, Wait};
use super::interrupt::{self, InUse};
use super::session::{Outcome, Parameter, Session};
use super::{Error, chain};

const TRAITS: &str = "select current_setting('server_version_num')::int4, current_setting('server_version'), \
                      current_setting('is_superuser') = 'on', pg_is_in_recovery(), current_user::text, \
                      current_database()::text, has_database_privilege(current_database(), 'create'), \
                      current_setting('wal_level') = 'minimal', \
                      (select setting::int8 from pg_settings where name = 'deadlock_timeout')";

/// What users set for their roles and databases would show as differences between the model and the server. And nothing
/// here must outlast a crash.
pub const PLAIN_SESSION: &str = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 \
                             -c idle_session_timeout=0 -c default_transaction_isolation=read\\ committed \
                             -c default_transaction_read_only=off -c timezone=UTC -c synchronous_commit=off";

/// More than a run begins.
const TRANSACTIONS_OF_A_RUN: u64 = 1 << 28;

/// Marks a schema that this project created, and may drop.
const MARK: &str = "made by tourbillon, which drops it";

const ABANDONED: &str = "select n.nspname::text from pg_namespace n \
                         where n.nspname ~ '^tourbillon_[0-9a-f]{16}$' and pg_has_role(n.nspowner, 'usage') \
                         and obj_description(n.oid, 'pg_namespace') = $1 \
                         and pg_try_advisory_lock(hashtext('tourbillon'), hashtext(n.nspname))";

/// A server and the connection that controls it.
///
/// Its methods block, and must not be called from within a tokio runtime.
pub struct Server {
    control: Control,
    config: Config,
    traits: Traits,
    schemas: Vec<String>,
    runtime: Runtime,
    // After everybody has hung up, as it ends the server.
    cluster: Option<Cluster>,
    // Last, as an interrupted process ends when it goes.
    _in_use: Option<InUse>,
}

#[derive(Debug, Clone)]
struct Traits {
    version_number: i32,
    version: String,
    superuser: bool,
    standby: bool,
    user: String,
    database: String,
    may_create: bool,
    wal_level: WalLevel,
    deadlock_timeout: Duration,
}

impl Server {
    /// A throw-away server from whatever programs are found, or else downloaded.
    pub fn embedded() -> Result<Server, Error> {
        Server::from_binaries(&binaries::find()?)
    }

    /// A throw-away server from these programs.
    pub fn from_binaries(binaries: &Binaries) -> Result<Server, Error> {
        Server::with_settings(binaries, &[])
    }

    /// As [`Server::from_binaries`], with settings (`name=value`) that come before ours.
    pub fn with_settings(binaries: &Binaries, settings: &[&str]) -> Result<Server, Error> {
        let cluster = Cluster::start(binaries, settings)?;
        let config = cluster_config(cluster.socket_directory());
        Server::connect(config, Some(cluster))
    }

    /// The user's server: `postgres://…` or libpq's `key=value` form. Schemas that earlier runs left there, because they
    /// were killed, are dropped.
    pub fn connect_url(url: &str) -> Result<Server, Error> {
        let mut config: Config = url.parse().map_err(|error| {
            Error::Unavailable(format!(
                "the server's address is neither postgres://user@host/database nor host=… user=… dbname=…: {}",
                chain(&error)
            ))
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host(if Path::new("/var/run/postgresql").exists() { "/var/run/postgresql" } else { "localhost" });
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(10));
        }
        let options = format!("{} {PLAIN_SESSION}", config.get_options().unwrap_or_default());
        config.options(options.trim());
        let mut server = Server::connect(config, None)?;
        // Others do not know it, and would let nobody in.
        if server.version_number() >= 170_000 {
            server.install("set transaction_timeout = 0")?;
            let options = format!("{} -c transaction_timeout=0", server.config.get_options().unwrap_or_default());
            server.config.options(options);
        }
        server.look_at_age()?;
        server.sweep()?;
        Ok(server)
    }

    /// Histories number transactions in 32 bits.
    fn look_at_age(&self) -> Result<(), Error> {
        let next = "select pg_snapshot_xmax(pg_current_snapshot())::text::int8";
        let next: i64 = self.execute(self.control().session(), next, &[])?.done()?.rows[0].get(0);
        if u64::from(u32::MAX).saturating_sub(next.unsigned_abs()) < TRANSACTIONS_OF_A_RUN {
            return Err(Error::Unavailable(format!(
                "the server is at its transaction {next}, and only those up to {} can be told of: use --postgres auto, or a \
                 server that has had fewer",
                u32::MAX
            )));
        }
        Ok(())
    }

    fn connect(mut config: Config, cluster: Option<Cluster>) -> Result<Server, Error> {
        config.application_name("tourbillon");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::Unavailable(format!("there is no event loop to be had: {error}")))?;
        let in_use = cluster.is_none().then(InUse::claim).transpose()?;
        let control = runtime.block_on(open_control(&config))?;
        let traits = runtime.block_on(inspect(&control))?;
        Ok(Server { control, config, traits, schemas: Vec::new(), runtime, cluster, _in_use: in_use })
    }

    /// Whether [`Server::crash`] works: the server is our own.
    pub fn can_crash(&self) -> bool {
        self.cluster.is_some()
    }

    /// Whether sessions may set what only a superuser may, such as `deadlock_timeout`.
    pub fn is_superuser(&self) -> bool {
        self.traits.superuser
    }

    /// As in `server_version_num`, for instance 150014.
    pub fn version_number(&self) -> i32 {
        self.traits.version_number
    }

    /// As the server prints it.
    pub fn version(&self) -> &str {
        &self.traits.version
    }

    /// Whether table locks are logged, which takes transaction ids.
    pub fn wal_level(&self) -> WalLevel {
        self.traits.wal_level
    }

    /// How long a session waits before it looks for a deadlock.
    pub fn deadlock_timeout(&self) -> Duration {
        self.traits.deadlock_timeout
    }

    /// How to connect, for sessions on other runtimes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The look from outside, for use with [`Server::block_on`].
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Runs a future on the runtime that drives the sessions.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Opens a session; about 1 ms.
    pub fn open(&self) -> Result<Session, Error> {
        self.block_on(Session::open(&self.config)).map_err(|error| unreachable_server(&self.config, &error))
    }

    /// Executes a statement that is expected to return, in one round trip; if it is blocked it is waited for, up to
    /// [`PATIENCE`].
    pub fn execute(&self, session: &Session, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Outcome, Error> {
        self.block_on(async {
            match timeout(PATIENCE, session.execute(sql, parameters)).await {
                Ok(outcome) => Ok(outcome),
                Err(_) => Err(self.control.unsettled(session.pid(), "did not return").await),
            }
        })
    }

    /// Executes a script of several statements on the control connection, as for an installation.
    pub fn install(&self, script: &str) -> Result<(), Error> {
        self.block_on(self.control.session().execute_script(script)).done().map(|_| ())
    }

    /// See [`Session::start`].
    pub fn start(&self, session: &mut Session, sql: &str, parameters: Vec<Parameter>) {
        self.block_on(session.start(sql, parameters));
    }

    /// See [`Control::wait_until_blocked_or_done`]. An error if this process has been interrupted.
    pub fn wait_until_blocked_or_done(&self, session: &mut Session, expect: Expect) -> Result<Rest, Error> {
        interrupt::check()?;
        self.block_on(self.control.wait_until_blocked_or_done(session, expect))
    }

    /// See [`Control::wait_until_all_settled`].
    pub fn wait_until_all_settled(&self, sessions: &mut [&mut Session]) -> Result<Vec<Wait>, Error> {
        self.block_on(self.control.wait_until_all_settled(sessions))
    }

    /// See [`Control::wait_until_done`].
    pub fn wait_until_done(&self, session: &mut Session) -> Result<Outcome, Error> {
        self.block_on(self.control.wait_until_done(session))
    }

    /// See [`Control::blocked_by`].
    pub fn blocked_by(&self, pid: i32) -> Result<Vec<i32>, Error> {
        self.block_on(self.control.blocked_by(pid))
    }

    /// See [`Control::xid_of`].
    pub fn xid_of(&self, pid: i32) -> Result<Option<u32>, Error> {
        self.block_on(self.control.xid_of(pid))
    }

    /// See [`Control::all_blocked`].
    pub fn all_blocked(&self) -> Result<Vec<Wait>, Error> {
        self.block_on(self.control.all_blocked())
    }

    /// See [`Control::terminate`].
    pub fn terminate(&self, session: Session) -> Result<(), Error> {
        self.block_on(self.control.terminate(session))
    }

    /// See [`Control::close`].
    pub fn close(&self, session: Session) -> Result<(), Error> {
        self.block_on(self.control.close(session))
    }

    /// See [`Control::cancel`].
    pub fn cancel(&self, session: &Session) -> Result<(), Error> {
        self.block_on(self.control.cancel(session))
    }

    /// Kills the whole server. Statements in flight become unknown; sessions are of no use any more. See
    /// [`Cluster::crash`].
    pub fn crash(&mut self) -> Result<(), Error> {
        self.cluster_mut()?.crash()
    }

    /// Shuts the server down at once. See [`Cluster::stop_immediately`].
    pub fn stop_immediately(&mut self) -> Result<(), Error> {
        self.cluster_mut()?.stop_immediately()
    }

    /// Starts the server after a crash. See [`Cluster::restart`].
    pub fn restart(&mut self) -> Result<(), Error> {
        self.cluster_mut()?.restart()?;
        self.control = self.block_on(open_control(&self.config))?;
        Ok(())
    }

    fn cluster_mut(&mut self) -> Result<&mut Cluster, Error> {
        let sentence = "only a server that was started here can be crashed, not one that the user runs";
        self.cluster.as_mut().ok_or_else(|| Error::Unavailable(sentence.into()))
    }

    /// Creates a schema that nobody else has, and returns its name, which needs no quoting.
    pub fn create_schema(&mut self) -> Result<String, Error> {
        interrupt::check()?;
        let random = "select 'tourbillon_' || left(replace(gen_random_uuid()::text, '-', ''), 16)";
        let session = self.control.session();
        let name: String = self.block_on(session.execute(random, &[])).done()?.rows[0].get(0);
        // The lock, which this connection holds to its end, comes first: a marked schema without it is abandoned.
        self.install(&format!(
            "select pg_advisory_lock(hashtext('tourbillon'), hashtext('{name}'));
             begin; create schema {name}; comment on schema {name} is '{MARK}'; commit"
        ))?;
        self.schemas.push(name.clone());
        Ok(name)
    }

    /// Drops a schema made by [`Server::create_schema`] with all that is in it.
    pub fn drop_schema(&mut self, name: &str) -> Result<(), Error> {
        assert!(self.schemas.iter().any(|schema| schema == name), "schema {name} was not created here");
        self.drop_ours(name)?;
        self.schemas.retain(|schema| schema != name);
        Ok(())
    }

    fn drop_ours(&self, name: &str) -> Result<(), Error> {
        // Somebody who holds a lock inside, a session that was left open, would stop this for ever.
        let drop = format!(
            "set lock_timeout = '3s'; drop schema if exists {name} cascade; reset lock_timeout;
             select pg_advisory_unlock(hashtext('tourbillon'), hashtext('{name}'))"
        );
        // One whose session is just ending may have made this the victim of a deadlock.
        self.install(&drop).or_else(|_| self.install(&drop)).or_else(|_| self.install(&drop))
    }

    /// A lock that can be had belonged to a process that is gone.
    fn sweep(&self) -> Result<(), Error> {
        let abandoned = self.block_on(self.control.session().execute(ABANDONED, &[&MARK])).done()?;
        abandoned.rows.iter().try_for_each(|row| self.drop_ours(row.get(0)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Our own server goes with all that is in it.
        if self.cluster.is_none() {
            for schema in std::mem::take(&mut self.schemas) {
                let _ = self.drop_ours(&schema);
            }
        }
    }
}

fn cluster_config(socket_directory: &Path) -> Config {
    let mut config = Config::new();
    config.host_path(socket_directory).port(5432).user("postgres").dbname("postgres");
    config
}

async fn open_control(config: &Config) -> Result<Control, Error> {
    Control::open(config).await.map_err(|error| unreachable_server(config, &error))
}

fn unreachable_server(config: &Config, error: &tokio_postgres::Error) -> Error {
    let addresses = addresses(config).join(", ");
    Error::Unavailable(format!("the PostgreSQL server at {addresses} cannot be reached: {}", chain(error)))
}

/// Where it was tried, ports included. A port stands for all hosts, or there is one for each.
fn addresses(config: &Config) -> Vec<String> {
    let ports = config.get_ports();
    let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
    let hosts = config.get_hosts().iter().enumerate().map(|(index, host)| match host {
        Host::Tcp(name) => format!("{name}:{}", port(index)),
        Host::Unix(path) => path.join(format!(".s.PGSQL.{}", port(index))).display().to_string(),
    });
    let numeric = config.get_hostaddrs().iter().enumerate();
    let numeric = numeric.map(|(index, address)| SocketAddr::new(*address, port(index)).to_string());
    if config.get_hosts().is_empty() { numeric.collect() } else { hosts.collect() }
}

async fn inspect(control: &Control) -> Result<Traits, Error> {
    let reply = control.session().execute(TRAITS, &[]).await.done()?;
    let row = &reply.rows[0];
    let traits = Traits {
        version_number: row.get(0),
        version: row.get(1),
        superuser: row.get(2),
        standby: row.get(3),
        user: row.get(4),
        database: row.get(5),
        may_create: row.get(6),
        wal_level: if row.get(7) { WalLevel::Minimal } else { WalLevel::Replica },
        deadlock_timeout: Duration::from_millis(row.get::<_, i64>(8).unsigned_abs()),
    };
    match objection(&traits) {
        None => Ok(traits),
        Some(sentence) => Err(Error::Unavailable(sentence)),
    }
}

fn objection(traits: &Traits) -> Option<String> {
    let Traits { version, user, database, .. } = traits;
    if traits.version_number < OLDEST_MAJOR.cast_signed() * 10_000 {
        return Some(format!("the server runs PostgreSQL {version}: {OLDEST_MAJOR} or later is needed"));
    }
    if traits.standby {
        return Some("the server is a standby, which cannot be written: name its primary".to_string());
    }
    (!traits.may_create).then(|| {
        format!(
            "user {user} may not create a schema in database {database}: grant create on database {database} to {user}"
        )
    })
}

#[cfg(test)]
mod tests;
