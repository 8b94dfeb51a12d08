//! One connection of a process to the server: how it comes to be, what its statements may run into, and what comes of a
//! request.

use super::orders::Timeouts;
use anyhow::{Result, bail};
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::error::{Error, Severity};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};
use tourbillon_engine::sql::ending::refusal;
use tourbillon_models::name::Micros;
use tourbillon_models::reply::Refusal;

/// An answer that no engine may give, whatever its server went through: what `run` calls a divergence.
#[derive(Debug)]
pub struct Strange(pub String);

impl std::fmt::Display for Strange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Strange {}

/// Classes of errors that are not the engine's: resources, rights, an operator, the system, a damaged disk.
const UNFIT: [&str; 5] = ["53", "42501", "57", "58", "XX001"];

pub struct Connection {
    pub client: Client,
    task: JoinHandle<()>,
    statements: HashMap<String, Statement>,
    has_timeouts: bool,
}

/// What came of a request.
pub enum Came {
    Rows(Vec<Row>),
    Refused(Refusal),
    Lost,
}

/// Why there is no connection.
pub enum Closed {
    /// The server is not there, or on its way up or down.
    Away,
    /// In the server's words.
    Refused(String),
}

impl Drop for Connection {
    /// Without this it would live as long as the server does not answer.
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// One attempt.
    pub async fn open(config: &Config, patience: Duration) -> Result<Connection, Closed> {
        let opened = timeout(patience, config.connect(NoTls)).await.map_err(|_| Closed::Away)?;
        let (client, connection) = opened.map_err(|error| match error.as_db_error() {
            // Operator intervention: a shutdown, a crash, a start.
            Some(said) if !said.code().code().starts_with("57") => Closed::Refused(said.message().to_owned()),
            _ => Closed::Away,
        })?;
        let task = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Connection { client, task, statements: HashMap::new(), has_timeouts: false })
    }

    /// Statements from here on may run into these limits, or into none. Between two transactions only. False if nobody knows:
    /// what lifts the limits may run into them.
    pub async fn limit(&mut self, timeouts: Option<Timeouts>, patience: Duration) -> bool {
        if self.has_timeouts == timeouts.is_some() {
            return true;
        }
        let Timeouts { lock, statement } = timeouts.unwrap_or(Timeouts { lock: Micros(0), statement: Micros(0) });
        let (lock, statement) = (lock.0.div_ceil(1_000), statement.0.div_ceil(1_000));
        let set = format!("set lock_timeout = {lock}; set statement_timeout = {statement}");
        self.has_timeouts = timeouts.is_some();
        matches!(timeout(patience, self.client.batch_execute(&set)).await, Ok(Ok(())))
    }

    /// Sends a statement, prepared once, and waits for as long as it takes. An error is an answer that the engine must never
    /// give, [`Strange`], or one that says that the server is not fit for this.
    pub async fn request(&mut self, text: String, params: &[&(dyn ToSql + Sync)]) -> Result<Came> {
        let error = match self.rows(text, params).await {
            Ok(rows) => return Ok(Came::Rows(rows)),
            Err(error) => error,
        };
        let Some(reported) = error.as_db_error() else { return Ok(Came::Lost) };
        if matches!(reported.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) {
            return Ok(Came::Lost);
        }
        match (reported.code().code(), refusal(reported.code().code(), reported.message())) {
            // A statement that took too long is a victim of others as one that waited too long.
            ("57014", _) => Ok(Came::Refused(Refusal::LockNotAvailable)),
            (_, Some(refusal)) => Ok(Came::Refused(refusal)),
            (code, None) if UNFIT.iter().any(|class| code.starts_with(class)) => {
                bail!("the server refused it with {code} {}", reported.message())
            }
            (code, None) => Err(Strange(format!("the server refused it with {code} {}", reported.message())).into()),
        }
    }

    async fn rows(&mut self, text: String, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        let prepared = match self.statements.get(&text) {
            Some(prepared) => prepared.clone(),
            None => {
                let prepared = self.client.prepare(&text).await?;
                self.statements.insert(text, prepared.clone());
                prepared
            }
        };
        match prepared.columns().is_empty() {
            true => self.client.execute(&prepared, params).await.map(|_| Vec::new()),
            false => self.client.query(&prepared, params).await,
        }
    }
}
