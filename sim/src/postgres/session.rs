//! One connection to a server: statements in, outcomes out.
//!
//! What it is not: it does not know whether it is blocked (that takes a look from outside, see [`super::control`]), and
//! keeps no transaction state. Invariant: an outcome is given out only when the server is done with the statement, its
//! locks included. That takes care after an error, whose message leaves the server before the transaction is aborted.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};

use super::{Error, chain};

/// A parameter that outlives the call which starts a statement.
pub type Parameter = Box<dyn ToSql + Sync + Send>;

/// What became of a statement.
#[derive(Debug)]
pub enum Outcome {
    /// It was executed.
    Done(Reply),
    /// It failed, and the server said why; the session lives on.
    Refused(Refusal),
    /// The session died before the reply came; the text says how. Whether the statement took effect is unknown.
    Unknown(String),
}

impl Outcome {
    /// The reply, where anything else is an error.
    pub fn done(self) -> Result<Reply, Error> {
        match self {
            Outcome::Done(reply) => Ok(reply),
            Outcome::Refused(refusal) => Err(Error::Refused(refusal)),
            Outcome::Unknown(reason) => Err(Error::Lost(reason)),
        }
    }
}

/// What a statement's caller wants of its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Rows,
    /// Only how many rows were returned or changed.
    Count,
}

/// What an executed statement gave.
#[derive(Debug)]
pub struct Reply {
    /// In the order of the server.
    pub rows: Vec<Row>,
    /// Rows returned or, for a statement without a result, changed.
    pub row_count: u64,
}

/// A server's error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// SQLSTATE, five characters.
    pub code: String,
    /// The primary message.
    pub message: String,
    /// The DETAIL field.
    pub detail: Option<String>,
    /// Where in which function, innermost first.
    pub context: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.message)?;
        self.detail.as_ref().map_or(Ok(()), |detail| write!(f, " ({detail})"))
    }
}

impl From<&DbError> for Refusal {
    fn from(error: &DbError) -> Refusal {
        Refusal {
            code: error.code().code().to_string(),
            message: error.message().to_string(),
            detail: error.detail().map(str::to_string),
            context: error.where_().map(str::to_string),
        }
    }
}

/// A connection with at most one statement in flight.
pub struct Session {
    link: Arc<Link>,
    pid: i32,
    state: State,
}

enum State {
    Idle,
    InFlight(Pin<Box<dyn Future<Output = Outcome> + Send>>),
    /// The outcome has come and was not yet taken.
    Over(Outcome),
}

impl Session {
    /// Connects and asks for the pid of the backend; about 1 ms. Needs a tokio runtime, which then drives the connection.
    pub async fn open(config: &Config) -> Result<Session, tokio_postgres::Error> {
        let (client, connection) = config.connect(NoTls).await?;
        // Its end is told to whoever waits for a reply.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let pid = client.query_one("select pg_backend_pid()", &[]).await?.get(0);
        Ok(Session { link: Arc::new(Link { client, statements: Mutex::default() }), pid, state: State::Idle })
    }

    /// The process id of the backend.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Executes a statement and waits for its outcome, however long that takes; one round trip once it is prepared.
    pub async fn execute(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Outcome {
        self.assert_idle();
        self.link.execute(sql, parameters).await
    }

    /// Executes a script of several statements without parameters.
    pub async fn execute_script(&self, script: &str) -> Outcome {
        self.assert_idle();
        match self.link.client.batch_execute(script).await {
            Ok(()) => Outcome::Done(Reply { rows: Vec::new(), row_count: 0 }),
            Err(error) => self.link.explain(error, script).await,
        }
    }

    /// Prepares a statement, so that its first execution is one request like all others.
    pub async fn prepare(&self, sql: &str) -> Outcome {
        self.assert_idle();
        match self.link.statement(sql).await {
            Ok(_) => Outcome::Done(Reply { rows: Vec::new(), row_count: 0 }),
            Err(error) => self.link.explain(error, sql).await,
        }
    }

    /// Starts a statement: when this returns, the request is on its way (if the statement was not prepared before, the
    /// request to prepare it). The outcome is had from [`Session::outcome`].
    pub async fn start(&mut self, sql: &str, parameters: Vec<Parameter>) {
        let (link, sql) = (Arc::clone(&self.link), sql.to_string());
        self.launch(Box::pin(async move {
            let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|it| &**it as _).collect();
            link.execute(&sql, &parameters).await
        }))
        .await;
    }

    /// As [`Session::start`], for a statement that is planned anew: one request, also the first time. A plan that is kept
    /// and becomes invalid while its statement waits for a table (by a truncation) gives up the lock that it waited for
    /// and asks again, behind others.
    pub async fn start_once(&mut self, sql: &str, wanted: Wanted) {
        let (link, sql) = (Arc::clone(&self.link), sql.to_string());
        self.launch(Box::pin(async move { link.execute_once(&sql, wanted).await })).await;
    }

    async fn launch(&mut self, statement: Pin<Box<dyn Future<Output = Outcome> + Send>>) {
        self.assert_idle();
        self.state = State::InFlight(statement);
        poll_fn(|context| {
            self.advance(context);
            Poll::Ready(())
        })
        .await;
        // The task that owns the socket writes the request now.
        tokio::task::yield_now().await;
    }

    /// Whether a statement was started whose outcome has not been taken.
    pub fn is_started(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    /// Whether a statement was started whose outcome has not come.
    pub fn is_in_flight(&self) -> bool {
        matches!(self.state, State::InFlight(_))
    }

    /// Takes the outcome of the statement that was started, if it has come.
    pub fn take_outcome(&mut self) -> Option<Outcome> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Over(outcome) => Some(outcome),
            state => {
                self.state = state;
                None
            }
        }
    }

    /// Waits for the outcome of the statement that was started. Dropping the future loses nothing.
    pub async fn outcome(&mut self) -> Outcome {
        assert!(self.is_started(), "session {} has no statement whose outcome could be had", self.pid);
        poll_fn(|context| {
            self.advance(context);
            self.take_outcome().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Goes as far as it can without waiting.
    pub(super) fn advance(&mut self, context: &mut Context<'_>) {
        if let State::InFlight(statement) = &mut self.state
            && let Poll::Ready(outcome) = statement.as_mut().poll(context)
        {
            self.state = State::Over(outcome);
        }
    }

    fn assert_idle(&self) {
        assert!(!self.is_started(), "session {} has a statement in flight or an outcome not taken", self.pid);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session {{ pid: {}, in flight: {} }}", self.pid, self.is_in_flight())
    }
}

/// What a session shares with its statement in flight.
struct Link {
    client: Client,
    statements: Mutex<HashMap<String, Statement>>,
}

impl Link {
    async fn execute(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Outcome {
        match self.request(sql, parameters).await {
            Ok(reply) => Outcome::Done(reply),
            Err(error) => self.explain(error, sql).await,
        }
    }

    async fn request(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Reply, tokio_postgres::Error> {
        let statement = self.statement(sql).await?;
        if statement.columns().is_empty() {
            let row_count = self.client.execute(&statement, parameters).await?;
            return Ok(Reply { rows: Vec::new(), row_count });
        }
        let rows = self.client.query(&statement, parameters).await?;
        let row_count = rows.len() as u64;
        Ok(Reply { rows, row_count })
    }

    async fn execute_once(&self, sql: &str, wanted: Wanted) -> Outcome {
        let reply = match wanted {
            Wanted::Rows => self.client.query_typed(sql, &[]).await.map(|rows| (rows.len() as u64, rows)),
            Wanted::Count => self.client.execute_typed(sql, &[]).await.map(|row_count| (row_count, Vec::new())),
        };
        match reply {
            Ok((row_count, rows)) => Outcome::Done(Reply { rows, row_count }),
            Err(error) => self.explain(error, sql).await,
        }
    }

    async fn statement(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        let prepared = self.statements().get(sql).cloned();
        if let Some(statement) = prepared {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        self.statements().insert(sql.to_string(), statement.clone());
        Ok(statement)
    }

    fn statements(&self) -> std::sync::MutexGuard<'_, HashMap<String, Statement>> {
        self.statements.lock().expect("nobody panics with the statements in hand")
    }

    /// The server reports an error first and aborts the transaction, releasing its locks, second. The round trip after
    /// an error returns when it has done both.
    async fn explain(&self, error: tokio_postgres::Error, sql: &str) -> Outcome {
        let Some(reported) = error.as_db_error() else {
            let lost =
                error.is_closed() || std::error::Error::source(&error).is_some_and(|it| it.is::<std::io::Error>());
            assert!(lost, "a caller and its statement disagree, {}: {sql}", chain(&error));
            return Outcome::Unknown(chain(&error));
        };
        if matches!(reported.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) {
            return Outcome::Unknown(reported.message().to_string());
        }
        let refusal = Refusal::from(reported);
        match self.client.check_connection().await {
            Ok(()) => Outcome::Refused(refusal),
            Err(error) => Outcome::Unknown(format!("{refusal}, and then: {}", chain(&error))),
        }
    }
}
