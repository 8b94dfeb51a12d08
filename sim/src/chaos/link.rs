//! A process's way to the server, over one connection after the other: each call written down, sent, and answered; a lost
//! one found out about before anybody is told that it is lost.
//!
//! Where the answer was lost and the transaction committed, the history holds the answer, and that nobody heard it.

use super::clock::Epoch;
use super::connection::{Came, Closed, Connection, Strange};
use super::fate::{End, Fate};
use super::journal::{Journal, Standing};
use super::mark;
use super::orders::Orders;
use crate::lockstep::wire;
use anyhow::{Context, Result, bail};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::ToSql;
use tourbillon_engine::guard::{Guard, Guards};
use tourbillon_engine::sql::ending::Transaction;
use tourbillon_engine::sql::ids::Ids;
use tourbillon_engine::sql::mapping::Mapping;
use tourbillon_models::history::{PlainHappening, PlainOp, PlainRecord, PlainReply};
use tourbillon_models::name::{Micros, Session, WorkflowId, Xid};
use tourbillon_models::op::Op;
use tourbillon_models::record::{Fault, Happening, Note};
use tourbillon_models::reply::{Outcome, Reply};

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(5);
/// So long a server may be away.
const AWAY: Duration = Duration::from_secs(60);
/// So long it may be there and let nobody in: until those are gone whose connections broke.
const FULL: Duration = Duration::from_secs(10);

pub struct Link<'o> {
    orders: &'o Orders,
    mapping: Mapping,
    ids: Ids,
    named: u32,
    pub journal: Journal,
    standing: Standing,
    transaction: Transaction,
    /// How many there were, the present one with them.
    connections: u16,
    marks: u32,
    connection: Option<Connection>,
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
            connection: None,
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
        while !self.limit().await {
            self.connection = None;
            self.connect().await?;
        }
        let mark = self.mark_for(op);
        self.record(Happening::Call(op.clone()), Xid(0), mark);
        self.flush()?;
        let sent = with_server_clock(op, self.orders.epoch);
        let came = self.request(&sent, mark).await?;
        if matches!(came, Came::Lost) {
            return self.lost(op).await;
        }
        let commit = self.transaction.commit_reply();
        self.transaction = self.transaction.after(op, matches!(came, Came::Refused(_)));
        let (reply, xid) = match came {
            Came::Rows(_) if *op == Op::Commit => (commit, None),
            Came::Rows(rows) => {
                let rows: Vec<_> = rows.iter().map(wire::values).collect();
                let decoded = self.mapping.decode(op, &rows, &mut self.ids);
                decoded.map_err(|error| Strange(error.to_string())).with_context(|| format!("the reply to {op:?}"))?
            }
            Came::Refused(refusal) => (Reply::Refused(refusal), None),
            Came::Lost => unreachable!("it has been seen to"),
        };
        self.name_workflows();
        let xid = xid.unwrap_or(if self.standing.in_transaction() { self.standing.xid } else { Xid(0) });
        self.record(Happening::Return(reply.clone()), xid, None);
        Ok((reply, xid))
    }

    /// Leaves: what is open is rolled back.
    pub fn close(&mut self) -> Result<()> {
        if self.standing.in_transaction() && self.connection.take().is_some() {
            self.note(Note::Resolved { outcome: Outcome::Aborted });
        }
        self.flush()
    }

    fn record(&mut self, what: PlainHappening, xid: Xid, mark: Option<u64>) {
        let connection = self.connections;
        let record = PlainRecord {
            at: Micros(0),
            process: self.orders.life.process,
            incarnation: self.orders.life.incarnation,
            session: Session(connection),
            xid,
            what,
        };
        self.standing.take(&record, mark);
        self.journal.record(connection, xid, record.what, mark);
    }

    /// The first call of a transaction that writes.
    fn mark_for(&mut self, op: &PlainOp) -> Option<u64> {
        if !mark::leaves_one(op) || (self.standing.in_transaction() && self.standing.mark().is_some()) {
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
        if self.connection.is_some() {
            return Ok(());
        }
        self.flush()?;
        let begin = Instant::now();
        loop {
            // A number that was of no use to anybody is given again: a session is one that was answered.
            let config = self.orders.address.config(&self.application(self.connections + 1));
            match Connection::open(&config, micros(self.orders.patience)).await {
                Ok(connection) => {
                    self.connections += 1;
                    self.connection = Some(connection);
                    self.transaction = Transaction::None;
                    return Ok(());
                }
                Err(Closed::Refused(reason)) if begin.elapsed() > FULL => {
                    bail!("the server has let nobody in for {} s: {reason}", FULL.as_secs())
                }
                Err(Closed::Away) if begin.elapsed() > AWAY => {
                    bail!("the server has been away for {} s", AWAY.as_secs())
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// By which the server knows a connection.
    fn application(&self, connection: u16) -> String {
        format!("{}-{connection}", self.orders.label())
    }

    /// False if the connection is not to be used.
    async fn limit(&mut self) -> bool {
        let is_shaken = self.orders.epoch.now() < self.orders.faults_end;
        match (&mut self.connection, &self.transaction) {
            (Some(connection), Transaction::None) => {
                let timeouts = self.orders.timeouts.filter(|_| is_shaken);
                connection.limit(timeouts, micros(self.orders.patience)).await
            }
            _ => true,
        }
    }

    async fn request(&mut self, op: &PlainOp, mark: Option<u64>) -> Result<Came> {
        let statement = self.mapping.encode(op, &self.ids);
        let mut params: Vec<_> = statement.params.into_iter().map(wire::parameter).collect();
        let mut text = statement.text.into_owned();
        if let Some(mark) = mark {
            params.push(Box::new(mark.cast_signed()));
            text = mark::leave(&text, &self.orders.schema, params.len());
        }
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|it| &**it as _).collect();
        let connection = self.connection.as_mut().expect("it was connected");
        match timeout(micros(self.orders.patience), connection.request(text, &params)).await {
            Ok(came) => came.with_context(|| format!("the call {op:?}")),
            Err(_) => Ok(Came::Lost),
        }
    }

    /// The connection is gone. Once its backend is, too, the mark tells what became of its transaction.
    async fn lost(&mut self, op: &PlainOp) -> Result<(PlainReply, Xid)> {
        self.connection = None;
        let (lost, standing) = (self.connections, self.standing.clone());
        let begin = Instant::now();
        let reply = loop {
            self.connect().await?;
            match self.fate_of(lost, &standing, begin.elapsed() > micros(self.orders.hesitation)).await {
                Some(Fate::Committed(reply)) => break Some(reply),
                Some(Fate::Aborted) => break None,
                Some(Fate::Open) => sleep(Duration::from_millis(2)).await,
                // The connection in which it was asked is lost, too; nothing was called in it.
                None => {
                    self.connection = None;
                    sleep(PAUSE).await;
                }
            }
        };
        let now = std::mem::replace(&mut self.connections, lost);
        let end = End::of(op, &standing, reply.as_deref(), &self.mapping, &mut self.ids)?;
        self.name_workflows();
        for (xid, what) in end.told(standing.xid, Fault::LostReply) {
            self.record(what, xid, None);
        }
        self.standing.forget();
        self.connections = now;
        Ok((Reply::Unknown, Xid(0)))
    }

    /// None if nobody answers.
    async fn fate_of(&self, lost: u16, standing: &Standing, has_waited: bool) -> Option<Fate> {
        let client = &self.connection.as_ref()?.client;
        let application = self.application(lost);
        let asked = Fate::ask(client, &self.orders.schema, &application, standing.mark(), has_waited);
        timeout(micros(self.orders.patience), asked).await.ok()?.ok()
    }
}

pub const fn micros(span: Micros) -> Duration {
    Duration::from_micros(span.0)
}

/// What callers say of the time is in the round's; the server, where it goes by it, knows the calendar only.
fn with_server_clock(op: &PlainOp, epoch: Epoch) -> PlainOp {
    let mut op = op.clone();
    if let Op::Heartbeat { at, .. } | Op::Claim { at, .. } | Op::TakeOver { at, .. } | Op::Hold { at, .. } = &mut op {
        *at = epoch.server_time(*at);
    }
    op
}
