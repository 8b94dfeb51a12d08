//! Where in its step a process is when something befalls it: the phases of the goals *fault × place*.
//!
//! Decided at the fault's record, from what the pass knows by then: the last thing that the process's open transaction
//! did, the call that waits for a lock, the reply that it has not heard, the lease that it works under. It costs nothing
//! where nothing befalls anybody. What it is not: what a fault was drawn as, or aimed at; a plan knows that.

use super::Reach;
use super::checker::Pass;
use super::clue::Clue;
use super::lease::Phase;
use super::reach::struck;
use crate::name::{Micros, Process, WorkerId};
use crate::op::Op;
use crate::record::{Happening, Link, Span};
use crate::reply::Reply;

/// What befalls a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Blow {
    Crash,
    /// For longer than the dead interval.
    Pause,
    SessionEnd,
    /// The request is lost: the call was not made.
    LostRequest,
    /// The call was made, and its reply is lost.
    LostReply,
    ServerCrash,
    /// Its window is taken over.
    Takeover,
    /// Its call has to wait for a lock.
    Wait,
    /// Nothing passes between it and the server.
    Partition,
    /// Nothing that it sends arrives.
    Unheard,
    /// Nothing that it is sent arrives.
    Deaf,
    /// What either sends waits on the way.
    HeldUp,
    SlowLink,
    /// What is sent at this moment arrives late.
    Late,
    /// Its connection is gone, and the server does not know.
    LostToProcess,
    /// Its connection is gone for the server, and it does not know.
    LostToServer,
    /// The server has heard nothing for too long, and ends its session.
    GivenUp,
}

impl From<Link> for Blow {
    fn from(link: Link) -> Blow {
        match link {
            Link::Cut => Blow::Partition,
            Link::CutToServer => Blow::Unheard,
            Link::CutToProcess => Blow::Deaf,
            Link::Held => Blow::HeldUp,
            Link::Slow => Blow::SlowLink,
            Link::Late => Blow::Late,
        }
    }
}

/// Where a process stands. Of an open transaction, the last thing that it did says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// A worker without a window, outside a transaction.
    Idle,
    /// A window was claimed, and nothing was read of it.
    Claimed,
    /// A window was read: at work outside a transaction.
    Working,
    /// An isolated window, outside a transaction.
    Isolated,
    /// In a transaction that has done nothing yet.
    Begun,
    Claiming,
    Held,
    EffectMade,
    HandedOff,
    /// A statement of the transaction was refused, and it is not rolled back yet.
    Failed,
    /// What ends the step, or is a transaction of its own, is committed, and the process has not heard.
    CommitUnheard,
    /// The same places of who is no worker.
    ClientBegun,
    Started,
    Appended,
    Emitted,
    ClientFailed,
    ClientCommitUnheard,
    /// A duty in a transaction that stays open.
    Ticked,
    Rotated,
    Drained,
    Expired,
    TimersRotated,
    AuditRotated,
    /// A call waits for a lock.
    BlockedClaim,
    BlockedHold,
    BlockedHeartbeat,
    BlockedHandoff,
    BlockedHandOut,
    BlockedEmit,
    BlockedStart,
    BlockedAppend,
    BlockedTick,
    BlockedRotate,
    BlockedDrain,
    BlockedExpire,
    BlockedReader,
    /// Calls that wait so rarely that nothing is asked of them: an observation, a replay, a subscription.
    BlockedOther,
    /// Its connection is gone, and it has not called since.
    CutOff,
}

impl Blow {
    /// Begins a sentence that the place ends.
    pub(super) const fn phrase(self) -> &'static str {
        match self {
            Blow::Crash => "A process died that",
            Blow::Pause => "A process stood still for longer than the dead interval that",
            Blow::SessionEnd => "The server ended the session of a process that",
            Blow::LostRequest => "A request was lost of a process that",
            Blow::LostReply => "A reply was lost to a process that",
            Blow::ServerCrash => "The server died while a process",
            Blow::Takeover => "The window was taken over of a worker that",
            Blow::Wait => "A process",
            Blow::Partition => "A process was cut off that",
            Blow::Unheard => "Nothing arrived any more from a process that",
            Blow::Deaf => "Nothing arrived any more at a process that",
            Blow::HeldUp => "Messages were held up of a process that",
            Blow::SlowLink => "Messages took long of a process that",
            Blow::Late => "A message came late from a process that",
            Blow::LostToProcess => "The server did not know of the broken connection of a process that",
            Blow::LostToServer => "The connection was gone for the server, and not for a process that",
            Blow::GivenUp => "The server gave up a process that",
        }
    }
}

impl Place {
    pub(super) const fn phrase(self) -> &'static str {
        match self {
            Place::Idle => "had no window",
            Place::Claimed => "had claimed a window and read nothing of it",
            Place::Working => "was at work outside a transaction",
            Place::Isolated => "had an isolated window, outside a transaction",
            Place::Begun => "had begun its transaction and done nothing in it",
            Place::Claiming => "had claimed in a transaction that was open",
            Place::Held => "held its window",
            Place::EffectMade => "had made an effect",
            Place::HandedOff => "had handed off and not committed",
            Place::Failed => "had a failed transaction",
            Place::CommitUnheard => "had committed and not heard of it",
            Place::ClientBegun => "was a client in a transaction that had done nothing",
            Place::Started => "had started a workflow and not committed",
            Place::Appended => "had appended or scheduled a message and not committed",
            Place::Emitted => "had emitted and not committed",
            Place::ClientFailed => "was a client with a failed transaction",
            Place::ClientCommitUnheard => "was a client that had committed and not heard of it",
            Place::Ticked => "had ticked in a transaction that was open",
            Place::Rotated => "had rotated the events in a transaction that was open",
            Place::Drained => "had drained in a transaction that was open",
            Place::Expired => "had expired waits in a transaction that was open",
            Place::TimersRotated => "had rotated the timers in a transaction that was open",
            Place::AuditRotated => "had rotated the audit in a transaction that was open",
            Place::BlockedClaim => "waited in a claim",
            Place::BlockedHold => "waited in a hold",
            Place::BlockedHeartbeat => "waited in a heartbeat",
            Place::BlockedHandoff => "waited in a handoff",
            Place::BlockedHandOut => "waited in a hand-out",
            Place::BlockedEmit => "waited in an emit",
            Place::BlockedStart => "waited in a start",
            Place::BlockedAppend => "waited in an append or a schedule",
            Place::BlockedTick => "waited in a tick",
            Place::BlockedRotate => "waited in a rotation",
            Place::BlockedDrain => "waited in a drain",
            Place::BlockedExpire => "waited in an expiry of waits",
            Place::BlockedReader => "waited in a read, or a look at a table",
            Place::BlockedOther => "waited in another call",
            Place::CutOff => "had lost its connection and not called since",
        }
    }
}

impl Pass<'_> {
    /// Something befalls a process at this record.
    pub(super) fn befalls(&mut self, index: u32, blow: Blow, process: Process) {
        let place = self.place(index, process, blow);
        let goal = place.and_then(|place| struck(blow, place));
        goal.into_iter().for_each(|goal| self.found.sees(goal));
    }

    /// The server dies, and everyone's session.
    pub(super) fn befalls_all(&mut self, index: u32) {
        for process in 0..self.history.header.processes.len().min(256) {
            self.befalls(index, Blow::ServerCrash, Process(process as u8));
        }
    }

    pub(super) fn paused(&mut self, index: u32, process: Process, until: Micros) {
        self.found.sees(Reach::Pause);
        let at = self.history.records[index as usize].at;
        if until > at + self.history.header.dead_interval {
            self.befalls(index, Blow::Pause, process);
        }
    }

    fn place(&mut self, index: u32, process: Process, blow: Blow) -> Option<Place> {
        let history = self.history;
        let session = self.memory.session_of_process[process.0 as usize]?;
        let worker = WorkerId(self.memory.worker_of_process[process.0 as usize]);
        let is_worker = worker.0 != 0;
        let state = self.session(session);
        if state.dead {
            return Some(Place::CutOff);
        }
        if state.blocked {
            return Clue(history).op(state.call).map(|op| waiting(&op));
        }
        if state.in_transaction && state.failed() {
            return Some(if is_worker { Place::Failed } else { Place::ClientFailed });
        }
        if state.in_transaction {
            let last = state.writes.last().and_then(|write| Clue(history).op(write.call));
            let begun = if is_worker { Place::Begun } else { Place::ClientBegun };
            return last.map_or(Some(begun), |op| working(&op));
        }
        let lease = self.memory.workers.get(worker.0).filter(|lease| {
            let claimed = history.records.get(lease.claimed as usize);
            lease.phase == Phase::Open && claimed.is_some_and(|claimed| claimed.process == process)
        });
        let lease = lease.map(|lease| match (lease.isolated, lease.progress.is_new()) {
            (true, _) => Place::Isolated,
            (false, true) => Place::Claimed,
            (false, false) => Place::Working,
        });
        // A takeover befalls somebody else's window: the record before it is nobody's in particular.
        let unheard = blow != Blow::Takeover && self.has_unheard_commit(index, process);
        let unheard = unheard.then_some(if is_worker { Place::CommitUnheard } else { Place::ClientCommitUnheard });
        unheard.or(lease).or(is_worker.then_some(Place::Idle))
    }

    /// Whether the record before this one is the answer to a commit, or to a call that was a transaction of its own.
    fn has_unheard_commit(&self, index: u32, process: Process) -> bool {
        let Some(before) = index.checked_sub(1).and_then(|before| self.history.records.get(before as usize)) else {
            return false;
        };
        let has_done = matches!(
            before.what,
            Happening::Return(
                Reply::Committed
                    | Reply::HandedOff { .. }
                    | Reply::Appended { .. }
                    | Reply::Started { .. }
                    | Reply::Scheduled { .. }
                    | Reply::Emitted { .. },
            )
        );
        has_done && before.process == process
    }
}

/// The place of a transaction that did this last.
fn working(op: &Op<Span>) -> Option<Place> {
    Some(match op {
        Op::Claim { .. } | Op::TakeOver { .. } => Place::Claiming,
        Op::Hold { .. } => Place::Held,
        Op::Effect { .. } => Place::EffectMade,
        Op::Handoff { .. } => Place::HandedOff,
        Op::Start { .. } => Place::Started,
        Op::Append { .. } | Op::Schedule { .. } | Op::Cancel { .. } => Place::Appended,
        Op::Emit { .. } => Place::Emitted,
        Op::Tick { .. } => Place::Ticked,
        Op::Rotate { .. } => Place::Rotated,
        Op::Drain { .. } => Place::Drained,
        Op::ExpireWaits { .. } => Place::Expired,
        Op::RotateTimers { .. } => Place::TimersRotated,
        Op::RotateAudit { .. } => Place::AuditRotated,
        _ => return None,
    })
}

/// The place of who waits in this call.
pub(super) fn waiting(op: &Op<Span>) -> Place {
    match op {
        Op::Claim { .. } | Op::TakeOver { .. } => Place::BlockedClaim,
        Op::Hold { .. } => Place::BlockedHold,
        Op::Heartbeat { .. } => Place::BlockedHeartbeat,
        Op::Handoff { .. } => Place::BlockedHandoff,
        Op::HandOut { .. } => Place::BlockedHandOut,
        Op::Emit { .. } => Place::BlockedEmit,
        Op::Start { .. } => Place::BlockedStart,
        Op::Append { .. } | Op::Schedule { .. } | Op::Cancel { .. } => Place::BlockedAppend,
        Op::Tick { .. } => Place::BlockedTick,
        Op::Rotate { .. } | Op::RotateTimers { .. } | Op::RotateAudit { .. } => Place::BlockedRotate,
        Op::Drain { .. } => Place::BlockedDrain,
        Op::ExpireWaits { .. } => Place::BlockedExpire,
        Op::Read { .. } | Op::Peek { .. } | Op::LockTable { .. } => Place::BlockedReader,
        _ => Place::BlockedOther,
    }
}
