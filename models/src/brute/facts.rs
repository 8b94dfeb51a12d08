//! What a history says, list by list: the definitions are sentences over these.

use super::act::{Account, Act};
use super::mint::{Appearance, Ending, Mint};
use crate::history::History;
use crate::name::{Consumer, EventId, Micros, Queue, Tick, Token, WorkerId, WorkflowId, Xid};
use crate::op::Op;
use crate::record::{Happening, Span};
use crate::reply::{Event, Reply, SnapshotOf};
use alloc::vec::Vec;

pub(crate) struct Facts<'h> {
    pub(crate) account: Account<'h>,
    pub(crate) mints: Vec<Mint>,
    pub(crate) appearances: Vec<Appearance>,
    pub(crate) endings: Vec<Ending>,
    pub(crate) ticks: Vec<Taken>,
    pub(crate) claims: Vec<Claim>,
    pub(crate) deliveries: Vec<Delivery>,
}

/// A committed tick.
#[derive(Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) queue: Queue,
    pub(crate) number: Tick,
    pub(crate) at: Micros,
    pub(crate) snapshot: SnapshotOf<Span>,
    pub(crate) act: Act,
}

/// A window, given out to a worker under a token: in whatever transaction.
#[derive(Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) worker: WorkerId,
    pub(crate) consumer: Option<Consumer>,
    pub(crate) token: Token,
    pub(crate) prev: Tick,
    pub(crate) next: Tick,
    pub(crate) victim: WorkerId,
    pub(crate) isolated: bool,
    pub(crate) act: Act,
}

/// A page of a window, or the one event of an isolated one, as somebody was handed it.
pub(crate) struct Delivery {
    pub(crate) act: Act,
    pub(crate) worker: WorkerId,
    pub(crate) token: Token,
    pub(crate) events: Vec<Event>,
    /// Of a page: where it began, and how many it may hold.
    pub(crate) page: Option<(EventId, u32)>,
}

impl<'h> Facts<'h> {
    pub(crate) fn of(history: &'h History) -> Self {
        let account = Account::of(history);
        let (mints, endings) = (account.mints(), account.endings());
        let appearances = mints.iter().flat_map(|mint| account.appearances_of(mint)).collect();
        let ticks = account.committed().filter_map(taken).collect();
        let claims = account.acts.iter().filter_map(|act| claim(&account, act)).collect();
        let deliveries = deliveries(&account);
        Facts { account, mints, appearances, endings, ticks, claims, deliveries }
    }

    /// Its first mint: a second is another's crime.
    pub(crate) fn mint(&self, id: EventId) -> Option<&Mint> {
        self.mints.iter().find(|mint| mint.id == id)
    }

    pub(crate) fn appearance(&self, id: EventId) -> Option<&Appearance> {
        self.appearances.iter().find(|it| it.id == id)
    }

    pub(crate) fn sees(&self, tick: &Taken, xid: Xid) -> bool {
        xid < tick.snapshot.xmax && !self.account.history.ids(tick.snapshot.in_progress).contains(&xid.0)
    }

    pub(crate) fn tick(&self, queue: Queue, number: Tick) -> Option<&Taken> {
        self.ticks.iter().find(|tick| (tick.queue, tick.number) == (queue, number))
    }

    /// Whether an event is visible at the end of a window and not at its start; none if a tick of it is not known.
    pub(crate) fn belongs(&self, event: &Appearance, (prev, next): (Tick, Tick)) -> Option<bool> {
        let queue = event.queue?;
        let end = self.tick(queue, next)?;
        // A queue begins with a tick that nobody took, and that sees nothing.
        let is_first = self.ticks.iter().all(|tick| tick.queue != queue || tick.number > prev);
        let was_seen = match self.tick(queue, prev) {
            Some(start) => self.sees(start, event.xid),
            None if is_first => false,
            None => return None,
        };
        Some(self.sees(end, event.xid) && !was_seen)
    }

    pub(crate) fn queue_of_worker(&self, worker: WorkerId) -> Option<Queue> {
        self.account.consumer_of(worker).and_then(|consumer| self.account.queue_of(consumer))
    }

    /// The window that stands for a token where it is used: the committed claim's, or that of the user's own transaction.
    pub(crate) fn window_of(&self, user: &Act, worker: WorkerId, token: Token) -> Option<&Claim> {
        let is_it = |claim: &&Claim| {
            let is_seen = claim.act.is_committed() && claim.act.commit <= user.commit;
            let is_own = claim.act.session == user.session && claim.act.begun == user.begun;
            (claim.worker, claim.token) == (worker, token) && (is_seen || is_own) && claim.act.call < user.record()
        };
        self.claims.iter().rfind(is_it)
    }

    /// The first ending of that id which is of the whole event, not of one consumer's copy.
    pub(crate) fn ending(&self, id: EventId) -> Option<&Ending> {
        self.endings.iter().find(|it| it.id == id)
    }

    /// By which act the workflow ended first; none while it lives.
    pub(crate) fn end_of(&self, workflow: WorkflowId) -> Option<&Ending> {
        self.endings.iter().find(|it| {
            it.ends_workflow() && self.mint(it.id).is_some_and(|mint| mint.workflow == workflow && workflow.0 != 0)
        })
    }
}

fn taken(act: &Act) -> Option<Taken> {
    match (act.op, act.reply) {
        (Op::Tick { queue }, Some(Reply::Ticked { tick, at, snapshot })) => {
            Some(Taken { queue, number: tick, at, snapshot, act: *act })
        }
        _ => None,
    }
}

fn claim(account: &Account<'_>, act: &Act) -> Option<Claim> {
    match (act.op, act.reply) {
        (
            Op::Claim { worker, .. } | Op::TakeOver { worker, .. },
            Some(Reply::Claimed { token, prev, next, victim, isolated }),
        ) => {
            let consumer = account.consumer_of(worker);
            Some(Claim { worker, consumer, token, prev, next, victim, isolated, act: *act })
        }
        _ => None,
    }
}

/// Reads are found by their records: what somebody was handed was handed, whatever became of the transaction.
fn deliveries(account: &Account<'_>) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for act in account.reads() {
        let (worker, token, page, events) = match (act.op, act.reply) {
            (Op::Read { worker, token, after, limit }, Some(Reply::Events(events))) => {
                (worker, token, Some((after, limit)), events)
            }
            (Op::HandOut { worker, token, .. }, Some(Reply::HandedOut { events, .. })) => (worker, token, None, events),
            _ => continue,
        };
        let events = account.history.events(events).to_vec();
        deliveries.push(Delivery { act, worker, token, events, page });
    }
    deliveries.sort_by_key(|it| it.act.ret);
    deliveries
}

impl Account<'_> {
    /// Acts that show something at once; those alone, too, which change nothing.
    fn reads(&self) -> Vec<Act> {
        let is_answer = |act: &&Act| {
            let record = self.record(act.ret);
            record.is_some_and(|record| matches!(record.what, Happening::Return(_)))
        };
        self.acts.iter().filter(is_answer).copied().collect()
    }
}
