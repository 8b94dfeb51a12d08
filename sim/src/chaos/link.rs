//! A process's connection: each call written down, sent, and answered; a lost one found out about before anybody is told
//! that it is lost.
//!
//! Where the answer was lost and the transaction committed, the history holds the answer, and that nobody heard it.

use super::clock::Epoch;
use super::journal::{Journal, Standing};
use super::mark;
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
use tourbillon_models::history::{PlainHappening, PlainOp, PlainRecord, PlainReply};
use tourbillon_models::name::{Micros, Session, WorkflowId, Xid};
use tourbillon_models::op::Op;
use tourbillon_models::record::{Fault, Happening, Note};
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
        if matches!(came, Came::Lost) {
            return self.lost(op).await;
        }
        let commit = self.transaction.commit_reply();
        self.transaction = self.transaction.after(op, matches!(came, Came::Refused(_)));
        let (reply, xid) = match came {
            Came::Rows(_) if *op == Op::Commit => (commit, None),
            Came::Rows(rows) => {
                let rows: Vec<_> = rows.iter().map(wire::values).collect();
                self.mapping.decode(op, &rows, &mut self.ids).with_context(|| format!("the reply to {op:?}"))?
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
        if self.standing.in_transaction() && self.wire.take().is_some() {
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
            let refused = match attempt {
                Ok(Ok(_)) | Err(_) => None,
                Ok(Err(ref error)) => error.as_db_error().map(|error| error.message().to_owned()),
            };
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
                match refused {
                    Some(reason) => bail!("the server has let nobody in for {} s: {reason}", AWAY.as_secs()),
                    None => bail!("the server has been away for {} s", AWAY.as_secs()),
                }
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
            text = mark::leave(&text, &self.orders.schema, params.len());
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
    async fn lost(&mut self, op: &PlainOp) -> Result<(PlainReply, Xid)> {
        self.wire = None;
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
                    self.wire = None;
                    sleep(PAUSE).await;
                }
            }
        };
        let now = std::mem::replace(&mut self.connections, lost);
        let end = end_of(&self.mapping, op, &standing, reply.as_deref(), &mut self.ids)?;
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
        let client = &self.wire.as_ref()?.client;
        let application = format!("{}-{lost}", self.orders.label());
        let asked = async {
            let end = if has_waited { "pg_terminate_backend(pid)" } else { "true" };
            let live = format!("select {end} from pg_stat_activity where application_name = $1");
            if !client.query(&live, &[&application]).await?.is_empty() {
                return Ok(Fate::Open);
            }
            let Some(mark) = standing.mark() else { return Ok(Fate::Aborted) };
            let rows = client.query(&mark::find(&self.orders.schema), &[&mark.cast_signed()]).await?;
            Ok::<_, tokio_postgres::Error>(rows.first().map_or(Fate::Aborted, |row| Fate::Committed(row.get(0))))
        };
        timeout(micros(self.orders.patience), asked).await.ok()?.ok()
    }
}

enum Fate {
    /// Its backend lives.
    Open,
    Aborted,
    /// And what its mark holds.
    Committed(String),
}

/// How a lost call ended.
pub enum End {
    Answered(PlainReply, Xid),
    Aborted,
    /// Its transaction committed although it was not asked to.
    Unasked,
}

/// What the mark of a transaction says of the call that was lost in it: the answer that it holds, if there is one.
pub fn end_of(
    mapping: &Mapping,
    op: &PlainOp,
    standing: &Standing,
    answer: Option<&str>,
    ids: &mut Ids,
) -> Result<End> {
    let Some(answer) = answer else { return Ok(End::Aborted) };
    if standing.in_transaction() {
        return Ok(End::Unasked);
    }
    if *op == Op::Commit {
        return Ok(End::Answered(Reply::Committed, standing.xid));
    }
    let values = mark::values(answer).with_context(|| format!("the mark of {op:?}"))?;
    let (reply, xid) = mapping.decode(op, &[values], ids).with_context(|| format!("the mark of {op:?}"))?;
    Ok(End::Answered(reply, xid.unwrap_or(Xid(0))))
}

impl End {
    /// As it is told: with its answer if it committed, and the fault that kept it from being heard. `xid` is its
    /// transaction's, as far as that was told before.
    pub fn told(self, xid: Xid, fault: Fault) -> Vec<(Xid, PlainHappening)> {
        let resolved = |outcome| Happening::Note(Note::Resolved { outcome });
        let unheard = match fault {
            Fault::Crash => Happening::Fault(fault),
            _ => Happening::Return(Reply::Unknown),
        };
        match self {
            End::Answered(reply, xid) => vec![
                (xid, Happening::Return(reply)),
                (xid, Happening::Fault(fault)),
                (xid, resolved(Outcome::Committed)),
            ],
            End::Aborted => vec![(Xid(0), unheard), (xid, resolved(Outcome::Aborted))],
            End::Unasked => vec![(Xid(0), unheard), (xid, resolved(Outcome::Committed))],
        }
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
