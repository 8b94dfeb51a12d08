//! One line of a history, in the compact form in which millions are kept.
//!
//! A record is `Copy`; the lists that it names lie in the history's arenas. What a record does *not* hold is text.

use crate::name::{EventId, Micros, Process, Session, Xid};
use crate::op::Op;
use crate::reply::{Outcome, Reply};
use serde::{Deserialize, Serialize};

/// A slice of one of the history's arenas.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    pub start: u32,
    pub len: u32,
}

/// How far a clock is from the records' time: so much ahead of it, or so much behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ClockOffset {
    pub ahead: Micros,
    pub behind: Micros,
}

impl ClockOffset {
    pub const NONE: ClockOffset = ClockOffset { ahead: Micros(0), behind: Micros(0) };

    /// What the clock shows at a time.
    pub const fn at(self, time: Micros) -> Micros {
        Micros(time.0.saturating_add(self.ahead.0).saturating_sub(self.behind.0))
    }
}

/// How the network between a process and the server fails.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// What either sends is lost.
    Cut,
    /// What the process sends is lost.
    CutToServer,
    /// What the server sends is lost.
    CutToProcess,
    /// What either sends arrives when this is over.
    Held,
    /// What either sends takes long, and may pass what follows it.
    Slow,
    /// What either sends at that moment arrives when this is over; what the process sends on another connection passes it.
    Late,
}

/// One end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Process,
    Server,
}

/// What the environment did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The process dies; its session's transaction aborts.
    Crash,
    /// The process stands still until then; its session stays as it is.
    Pause { until: Micros },
    /// The next reply to this process is lost, and its connection with it.
    LostReply,
    /// The server dies: every session and open transaction is gone.
    ServerCrash,
    /// The server's log reaches the disk: what was acknowledged before is there to stay.
    LogFlush,
    /// The server answers again.
    ServerRestart,
    /// The server ends the process's session, which was idle in its transaction: that aborts.
    SessionEnd,
    /// The server's wall clock is set: from here on it is off by so much.
    ClockStep(ClockOffset),
    /// The process dies, and the server does not know: its session stays as it is until that notices.
    CrashUnseen,
    /// The network between the process and the server fails until then.
    Link { link: Link, until: Micros },
    /// For this side the process's connection is gone, and the other does not know.
    HalfOpen { gone_for: Side },
    /// The server has heard nothing from the process for so long that it gives its connection up, and what it had open.
    SessionLost,
    /// No fault begins after this record.
    End,
}

/// What a process, or the target itself, reports beside its calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// External work of the step that this event asks for: outside any transaction, so at least once.
    WorkStarted { event: EventId },
    WorkEnded {
        event: EventId,
        /// Of the program that did it.
        #[serde(default)]
        version: u16,
    },
    /// The truth about a transaction whose reply was lost or that was open in a crash. Written by the target, in this
    /// record's session; a client that wants to know has to ask.
    Resolved { outcome: Outcome },
    /// The process gave its window up: it holds no lease that it knows of.
    Dropped,
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[serde(bound(
    deserialize = "D: Deserialize<'de>, E: Deserialize<'de>, I: Deserialize<'de> + Default, R: Deserialize<'de>"
))]
pub enum Happening<D, E, I, R> {
    Call(Op<D>),
    Return(Reply<E, I, R>),
    /// The session's call waits for a lock; its return comes later, or never.
    Blocked,
    /// PostgreSQL leaves open who goes first; this record's session did, out of so many.
    Choice {
        among: u8,
    },
    Fault(Fault),
    Note(Note),
}

/// One thing that happened, at a time, in a process and its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(bound(
    deserialize = "D: Deserialize<'de>, E: Deserialize<'de>, I: Deserialize<'de> + Default, R: Deserialize<'de>"
))]
pub struct RecordOf<D, E, I, R> {
    pub at: Micros,
    pub process: Process,
    /// How often the process had died before.
    pub incarnation: u8,
    pub session: Session,
    /// The session's transaction, once it has written; 0 before.
    pub xid: Xid,
    pub what: Happening<D, E, I, R>,
}

/// A record as a [`History`](crate::history::History) keeps it.
pub type Record = RecordOf<Span, Span, Span, Span>;

impl<D, E, I, R> RecordOf<D, E, I, R> {
    /// The same record with its lists held another way.
    pub fn map<D2, E2, I2, R2>(
        &self,
        decisions_as: impl FnOnce(&D) -> D2,
        events_as: impl FnOnce(&E) -> E2,
        ids_as: impl FnMut(&I) -> I2,
        results_as: impl FnOnce(&R) -> R2,
    ) -> RecordOf<D2, E2, I2, R2> {
        let &RecordOf { at, process, incarnation, session, xid, ref what } = self;
        let what = match *what {
            Happening::Call(ref op) => Happening::Call(op.map(decisions_as)),
            Happening::Return(ref reply) => Happening::Return(reply.map(events_as, ids_as, results_as)),
            Happening::Blocked => Happening::Blocked,
            Happening::Choice { among } => Happening::Choice { among },
            Happening::Fault(fault) => Happening::Fault(fault),
            Happening::Note(note) => Happening::Note(note),
        };
        RecordOf { at, process, incarnation, session, xid, what }
    }
}
