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

impl Drop for Connection {
    /// Without this it would live as long as the server does not answer.
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// One attempt. An error is what the server said, if it said why it lets nobody in.
    pub async fn open(config: &Config, patience: Duration) -> Result<Connection, Option<String>> {
        let opened = timeout(patience, config.connect(NoTls)).await.map_err(|_| None)?;
        let (client, connection) =
            opened.map_err(|error| error.as_db_error().map(|error| error.message().to_owned()))?;
        let task = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Connection { client, task, statements: HashMap::new(), has_timeouts: false })
    }

    /// Statements from here on may run into these limits, or into none. Between two transactions only.
    pub async fn limit(&mut self, timeouts: Option<Timeouts>, patience: Duration) {
        if self.has_timeouts == timeouts.is_some() {
            return;
        }
        let Timeouts { lock, statement } = timeouts.unwrap_or(Timeouts { lock: Micros(0), statement: Micros(0) });
        let (lock, statement) = (lock.0.div_ceil(1_000), statement.0.div_ceil(1_000));
        let set = format!("set lock_timeout = {lock}; set statement_timeout = {statement}");
        // If it is lost, so is what comes next.
        let _ = timeout(patience, self.client.batch_execute(&set)).await;
        self.has_timeouts = timeouts.is_some();
    }

    /// Sends a statement, prepared once, and waits for as long as it takes.
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
            (code, None) => bail!("the server refused it with {code} {}", reported.message()),
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
