//! A process's connection: each call written down, sent, and answered; a lost one found out about before anybody is told
//! that it is lost.
//!
//! Each call that may write leaves a mark in the same transaction, after everything else that it does: a row that is there
//! if and only if the transaction committed. That tells more than the transaction's number, which after a crash of the server
//! may be given to another, and which nobody was told of whose only reply was lost.

use super::clock::Epoch;
use super::journal::{Journal, Standing};
use super::orders::{Orders, Timeouts};
use crate::lockstep::wire;
use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::Severity;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, Statement};
use tourbillon_engine::guard::{Guard, Guards};
use tourbillon_engine::sql::ending::{Transaction, refusal};
use tourbillon_engine::sql::ids::Ids;
use tourbillon_engine::sql::mapping::Mapping;
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{Micros, WorkflowId, Xid};
use tourbillon_models::op::Op;
use tourbillon_models::record::{Happening, Note};
use tourbillon_models::reply::{Outcome, Refusal, Reply};

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(5);
/// So long a server may be away.
const AWAY: Duration = Duration::from_secs(60);

pub struct Link<'o> {
    orders: &'o Orders,
    mapping: Mapping,
    ids: Ids,
    named: u32,
    pub journal: Journal,
    standing: Standing,
    transaction: Transaction,
    connections: u16,
    marks: u32,
    wire: Option<Wire>,
}

struct Wire {
    client: Client,
    task: JoinHandle<()>,
    statements: HashMap<String, Statement>,
    has_timeouts: bool,
}

impl Drop for Wire {
    /// Without this it would live as long as the server does not answer.
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What came of a request.
enum Came {
    Rows(Vec<Row>),
    Refused(Refusal),
    Lost,
}

impl<'o> Link<'o> {
    pub fn new(orders: &'o Orders, steps: &[&str], names: &[&str]) -> Result<Self> {
        let without: Vec<Guard> = orders.without.iter().filter_map(|name| Guard::by_name(name)).collect();
        let journal = Journal::create(&orders.journal(), orders.epoch, orders.life)
            .with_context(|| format!("the history {} cannot be written", orders.journal().display()))?;
        Ok(Link {
            orders,
            mapping: Mapping::new(&orders.schema, Guards::without(&without), steps, names),
            ids: Ids::new(),
            named: 0,
            journal,
            standing: Standing::NEW,
            transaction: Transaction::None,
            connections: 0,
            marks: 0,
            wire: None,
        })
    }

    pub fn flush(&mut self) -> Result<()> {
        let path = || format!("the history {} cannot be written", self.orders.journal().display());
        self.journal.flush().with_context(path)
    }

    pub fn note(&mut self, note: Note) {
        self.journal.record(self.standing.connection, Xid(0), Happening::Note(note), None);
    }

    /// Makes a call, and returns when it is answered, or lost for good.
    pub async fn call(&mut self, op: &PlainOp) -> Result<(PlainReply, Xid)> {
        self.connect().await?;
        self.set_timeouts().await;
        let mark = self.mark_for(op);
        self.record(Happening::Call(op.clone()), Xid(0), mark);
        self.flush()?;
        let sent = with_server_clock(op, self.orders.epoch);
        let came = match timeout(micros(self.orders.patience), self.request(&sent, mark)).await {
            Ok(came) => came?,
            Err(_) => Came::Lost,
        };
        let commit = self.transaction.commit_reply();
        self.transaction = self.transaction.after(op, !matches!(came, Came::Rows(_)));
        let (reply, xid) = match came {
            Came::Rows(_) if *op == Op::Commit => (commit, None),
            Came::Rows(rows) => {
                let rows: Vec<_> = rows.iter().map(wire::values).collect();
                self.mapping.decode(op, &rows, &mut self.ids).with_context(|| format!("the reply to {op:?}"))?
            }
            Came::Refused(refusal) => (Reply::Refused(refusal), None),
            Came::Lost => return self.lost().await,
        };
        self.name_workflows();
        let xid = xid.unwrap_or(if self.standing.in_transaction() { self.standing.xid } else { Xid(0) });
        self.record(Happening::Return(reply.clone()), xid, None);
        Ok((reply, xid))
    }

    /// Leaves: what is open is rolled back.
    pub fn close(&mut self) -> Result<()> {
        if self.standing.in_transaction() && self.wire.take().is_some() {
            self.note(Note::Resolved { outcome: Outcome::Aborted });
        }
        self.flush()
    }

    fn record(&mut self, what: tourbillon_models::history::PlainHappening, xid: Xid, mark: Option<u64>) {
        let connection = self.connections;
        let record = tourbillon_models::history::PlainRecord {
            at: Micros(0),
            process: self.orders.life.process,
            incarnation: self.orders.life.incarnation,
            session: tourbillon_models::name::Session(connection),
            xid,
            what,
        };
        self.standing.take(&record, mark);
        self.journal.record(connection, xid, record.what, mark);
    }

    /// The first call of a transaction that writes.
    fn mark_for(&mut self, op: &PlainOp) -> Option<u64> {
        let is_marked = match op {
            Op::Effect { .. } | Op::Read { .. } | Op::ReadResults { .. } | Op::Observe { .. } | Op::Peek { .. } => {
                false
            }
            Op::LockTable { .. } | Op::Resolve { .. } => false,
            op => !op.is_transaction_control(),
        };
        if !is_marked || (self.standing.in_transaction() && self.standing.mark().is_some()) {
            return None;
        }
        self.marks += 1;
        let life = self.orders.life;
        Some(u64::from(life.process.0) << 40 | u64::from(life.incarnation) << 32 | u64::from(self.marks))
    }

    /// Workflows that were named by the last reply.
    fn name_workflows(&mut self) {
        for number in self.named + 1..=self.ids.workflow_count() {
            let uuid = self.ids.workflow_uuid(WorkflowId(number)).expect("it has just been named");
            self.journal.workflow(number, uuid);
            self.named = number;
        }
    }

    async fn connect(&mut self) -> Result<()> {
        if self.wire.is_some() {
            return Ok(());
        }
        self.flush()?;
        let begin = Instant::now();
        loop {
            self.connections += 1;
            let application = format!("{}-{}", self.orders.label(), self.connections);
            let config = self.orders.address.config(&application);
            let attempt = timeout(micros(self.orders.patience), config.connect(NoTls)).await;
            if let Ok(Ok((client, connection))) = attempt {
                let task = tokio::spawn(async move {
                    let _ = connection.await;
                });
                self.wire = Some(Wire { client, task, statements: HashMap::new(), has_timeouts: false });
                self.transaction = Transaction::None;
                return Ok(());
            }
            // The number was of no use to anybody: a session is one that was answered.
            self.connections -= 1;
            if begin.elapsed() > AWAY {
                bail!("the server has been away for {} s", AWAY.as_secs());
            }
            sleep(PAUSE).await;
        }
    }

    async fn set_timeouts(&mut self) {
        let wanted = self.orders.timeouts.filter(|_| self.orders.epoch.now() < self.orders.faults_end);
        let Some(wire) = &mut self.wire else { return };
        if wire.has_timeouts == wanted.is_some() || self.transaction != Transaction::None {
            return;
        }
        let Timeouts { lock, statement } = wanted.unwrap_or(Timeouts { lock: Micros(0), statement: Micros(0) });
        let (lock, statement) = (lock.0.div_ceil(1_000), statement.0.div_ceil(1_000));
        let set = format!("set lock_timeout = {lock}; set statement_timeout = {statement}");
        // If it is lost, so is what comes next.
        let _ = timeout(micros(self.orders.patience), wire.client.batch_execute(&set)).await;
        wire.has_timeouts = wanted.is_some();
    }

    async fn request(&mut self, op: &PlainOp, mark: Option<u64>) -> Result<Came> {
        let statement = self.mapping.encode(op, &self.ids);
        let wire = self.wire.as_mut().expect("it was connected");
        let mut params: Vec<_> = statement.params.into_iter().map(wire::parameter).collect();
        let mut text = statement.text.into_owned();
        if let Some(mark) = mark {
            params.push(Box::new(mark.cast_signed()));
            let schema = &self.orders.schema;
            text = format!(
                "with marked as (insert into {schema}.chaos_mark (mark) values (${}::int8)) {text}",
                params.len()
            );
        }
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|it| &**it as _).collect();
        let came = async {
            let prepared = match wire.statements.get(&text) {
                Some(prepared) => prepared.clone(),
                None => {
                    let prepared = wire.client.prepare(&text).await?;
                    wire.statements.insert(text.clone(), prepared.clone());
                    prepared
                }
            };
            match prepared.columns().is_empty() {
                true => wire.client.execute(&prepared, &params).await.map(|_| Vec::new()),
                false => wire.client.query(&prepared, &params).await,
            }
        };
        let error = match came.await {
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
            (code, None) => bail!("the server refused {op:?} with {code} {}", reported.message()),
        }
    }

    /// The connection is gone. Once its backend is, too, the mark tells what became of its transaction.
    async fn lost(&mut self) -> Result<(PlainReply, Xid)> {
        self.wire = None;
        self.transaction = Transaction::None;
        let (lost, standing) = (self.connections, self.standing);
        let begin = Instant::now();
        let committed = loop {
            self.connect().await?;
            match self.is_committed(lost, &standing, begin.elapsed() > micros(self.orders.hesitation)).await {
                Some(Some(committed)) => break committed,
                Some(None) => sleep(Duration::from_millis(2)).await,
                // The connection in which it was asked is lost, too; nothing was called in it.
                None => {
                    self.wire = None;
                    sleep(PAUSE).await;
                }
            }
        };
        let outcome = if committed { Outcome::Committed } else { Outcome::Aborted };
        let now = std::mem::replace(&mut self.connections, lost);
        self.record(Happening::Return(Reply::Unknown), Xid(0), None);
        self.journal.record(lost, standing.xid, Happening::Note(Note::Resolved { outcome }), None);
        self.connections = now;
        Ok((Reply::Unknown, Xid(0)))
    }

    /// None if nobody answers; nothing in it as long as the backend lives.
    async fn is_committed(&self, lost: u16, standing: &Standing, has_waited: bool) -> Option<Option<bool>> {
        let client = &self.wire.as_ref()?.client;
        let application = format!("{}-{lost}", self.orders.label());
        let asked = fate(client, &self.orders.schema, &application, standing.mark(), has_waited);
        timeout(micros(self.orders.patience), asked).await.ok()?.ok()
    }
}

/// Whether a mark is there, as soon as the connection that may have set it is gone for certain.
pub async fn fate(
    client: &Client,
    schema: &str,
    application: &str,
    mark: Option<u64>,
    ends: bool,
) -> Result<Option<bool>, tokio_postgres::Error> {
    let end = if ends { "pg_terminate_backend(pid)" } else { "true" };
    let live = format!("select {end} from pg_stat_activity where application_name = $1");
    if !client.query(&live, &[&application]).await?.is_empty() {
        return Ok(None);
    }
    let Some(mark) = mark else { return Ok(Some(false)) };
    let marked = format!("select 1 from {schema}.chaos_mark where mark = $1");
    Ok(Some(!client.query(&marked, &[&mark.cast_signed()]).await?.is_empty()))
}

pub const fn micros(span: Micros) -> Duration {
    Duration::from_micros(span.0)
}

/// What callers say of the time is in the round's; the server, where it goes by it, knows the calendar only.
fn with_server_clock(op: &PlainOp, epoch: Epoch) -> PlainOp {
    let mut op = op.clone();
    if let Op::Heartbeat { at, .. } | Op::Claim { at, .. } | Op::TakeOver { at, .. } | Op::Hold { at, .. } = &mut op {
        *at = epoch.to_server(*at);
    }
    op
}
