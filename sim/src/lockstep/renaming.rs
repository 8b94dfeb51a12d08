//! One-to-one renaming between the model's ids and the server's.
//!
//! A pair is made when both sides show an id for the first time, in the same place of the same reply. It is forgotten
//! if the transaction that showed it does not commit: after a crash the server may give the same number again. Pairs of
//! what is numbered keep their order.

use std::collections::BTreeMap;
use std::fmt;
use tourbillon_models::name::{EventId, Tick, Token, WorkerId, WorkflowId, Xid};

/// Two ids that are not the same thing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mismatch(pub String);

/// Pairs of one kind of id.
#[derive(Clone, Debug)]
pub struct Pairs<K> {
    to_server: BTreeMap<K, K>,
    to_model: BTreeMap<K, K>,
    ordered: bool,
}

impl<K: Ord + Copy + fmt::Debug> Pairs<K> {
    fn new(ordered: bool) -> Self {
        Pairs { to_server: BTreeMap::new(), to_model: BTreeMap::new(), ordered }
    }

    /// True if the pair is new.
    fn pair(&mut self, model: K, server: K) -> Result<bool, Mismatch> {
        match (self.to_server.get(&model), self.to_model.get(&server)) {
            (Some(known), _) if *known == server => Ok(false),
            (None, None) if self.keeps_order(model, server) => {
                self.to_server.insert(model, server);
                self.to_model.insert(server, model);
                Ok(true)
            }
            (None, None) => {
                Err(Mismatch(format!("the model's {model:?} and the server's {server:?} are out of order")))
            }
            (Some(known), _) => Err(Mismatch(format!(
                "the model says {model:?}, which is the server's {known:?}, and the server says {server:?}"
            ))),
            (None, Some(known)) => Err(Mismatch(format!(
                "the server says {server:?}, which is the model's {known:?}, and the model says {model:?}"
            ))),
        }
    }

    fn keeps_order(&self, model: K, server: K) -> bool {
        let below = self.to_server.range(..model).next_back();
        let above = self.to_server.range(model..).next();
        !self.ordered
            || (below.is_none_or(|(_, other)| *other < server) && above.is_none_or(|(_, other)| *other > server))
    }

    fn forget(&mut self, model: K) {
        if let Some(server) = self.to_server.remove(&model) {
            self.to_model.remove(&server);
        }
    }

    /// An id that no reply has shown is passed on as it is: neither side knows it.
    pub fn to_server(&self, model: K) -> K {
        self.to_server.get(&model).copied().unwrap_or(model)
    }

    pub fn is_known(&self, model: K) -> bool {
        self.to_server.contains_key(&model)
    }

    pub fn to_model(&self, server: K) -> Result<K, Mismatch> {
        let known = self.to_model.get(&server).copied();
        known.ok_or_else(|| Mismatch(format!("the server has {server:?}, which no reply has shown")))
    }

    /// Pairs from these two on, lowest first; with ordered pairs nothing at or above either is left out.
    fn from(&self, model: K, server: K) -> impl Iterator<Item = (K, K)> {
        let pairs = self.to_server.iter().rev().map(|(model, server)| (*model, *server));
        pairs.take_while(move |(this, other)| *this >= model || *other >= server)
    }
}

/// An id that a transaction has shown first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    Event(EventId),
    Tick(Tick),
    Worker(WorkerId),
    Workflow(WorkflowId),
    Token(Token),
    Xid(Xid),
}

/// All pairs of a run.
#[derive(Clone, Debug)]
pub struct Renaming {
    pub events: Pairs<EventId>,
    pub ticks: Pairs<Tick>,
    pub workers: Pairs<WorkerId>,
    pub workflows: Pairs<WorkflowId>,
    pub tokens: Pairs<Token>,
    pub xids: Pairs<Xid>,
}

impl Renaming {
    pub fn new() -> Self {
        Renaming {
            events: Pairs::new(true),
            ticks: Pairs::new(true),
            workers: Pairs::new(true),
            workflows: Pairs::new(false),
            tokens: Pairs::new(false),
            xids: Pairs::new(true),
        }
    }

    /// One that no reply has shown, or only a lost one, is none that the server knows.
    pub fn server_workflow(&self, model: WorkflowId) -> WorkflowId {
        match self.workflows.is_known(model) || model == WorkflowId(0) {
            true => self.workflows.to_server(model),
            false => WorkflowId(u32::MAX - model.0),
        }
    }

    pub fn forget(&mut self, shown: Shown) {
        match shown {
            Shown::Event(id) => self.events.forget(id),
            Shown::Tick(id) => self.ticks.forget(id),
            Shown::Worker(id) => self.workers.forget(id),
            Shown::Workflow(id) => self.workflows.forget(id),
            Shown::Token(id) => self.tokens.forget(id),
            Shown::Xid(id) => self.xids.forget(id),
        }
    }
}

/// The ids of one reply, paired one after the other.
pub struct Pairing<'a> {
    pub renaming: &'a mut Renaming,
    /// What this reply's transaction showed first.
    pub shown: &'a mut Vec<Shown>,
}

macro_rules! pair {
    ($method:ident, $field:ident, $kind:ident, $id:ty) => {
        /// Zero stands for none, on both sides.
        pub fn $method(&mut self, model: $id, server: $id) -> Result<(), Mismatch> {
            match (model.0, server.0) {
                (0, 0) => Ok(()),
                (0, _) | (_, 0) => Err(Mismatch(format!("the model says {model:?} and the server {server:?}"))),
                _ => {
                    if self.renaming.$field.pair(model, server)? {
                        self.shown.push(Shown::$kind(model));
                    }
                    Ok(())
                }
            }
        }
    };
}

impl Pairing<'_> {
    pair!(event, events, Event, EventId);
    pair!(tick, ticks, Tick, Tick);
    pair!(worker, workers, Worker, WorkerId);
    pair!(workflow, workflows, Workflow, WorkflowId);
    pair!(token, tokens, Token, Token);
    pair!(xid, xids, Xid, Xid);
}

/// Whether two snapshots see the same of the transactions that both sides know.
pub fn same_snapshot(xids: &Pairs<Xid>, model: &PlainSnapshot, server: &PlainSnapshot) -> Result<(), Mismatch> {
    let low = |snapshot: &PlainSnapshot| snapshot.in_progress.iter().copied().map(Xid).chain([snapshot.xmax]).min();
    let (Some(model_low), Some(server_low)) = (low(model), low(server)) else { return Ok(()) };
    let sees = |snapshot: &PlainSnapshot, xid: Xid| xid < snapshot.xmax && !snapshot.in_progress.contains(&xid.0);
    for (ours, theirs) in xids.from(model_low, server_low) {
        if sees(model, ours) != sees(server, theirs) {
            let who = if sees(model, ours) { "the model's snapshot sees" } else { "only the server's snapshot sees" };
            return Err(Mismatch(format!("{who} {ours} (the server's {theirs})")));
        }
    }
    Ok(())
}

type PlainSnapshot = tourbillon_models::reply::SnapshotOf<Vec<u32>>;
