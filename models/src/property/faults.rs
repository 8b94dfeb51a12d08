//! Faults, as far as they end sessions. What becomes of what these had open: [`transactions`](super::transactions).

use super::Reach;
use super::checker::Pass;
use super::place::Blow;
use super::transactions::NONE;
use crate::name::{Process, Session};
use crate::op::Op;
use crate::record::{Fault, Happening, Record};

impl Pass<'_> {
    pub(super) fn fault(&mut self, index: u32, record: &Record, fault: &Fault) {
        match fault {
            Fault::Crash => self.process_crashed(index, record.process, record.session),
            Fault::Pause { until } => self.paused(index, record.process, *until),
            Fault::LostReply => self.reply_withheld(index, record.process),
            Fault::SessionEnd => self.session_ended(index, record.process, record.session),
            Fault::ClockStep(_) => self.found.sees(Reach::ServerClockStep),
            Fault::CrashUnseen => self.crashed_unseen(index, record.process),
            // What a network does to a transaction shows in what becomes of its session; a note says that.
            Fault::Link { link, until } => self.link_failed(index, record.process, *link, *until),
            Fault::HalfOpen { gone_for } => self.connection_lost(index, record.process, *gone_for),
            Fault::SessionLost => self.session_given_up(index, record),
            Fault::LogFlush | Fault::ServerRestart | Fault::End => {}
            Fault::ServerCrash => {
                self.found.sees(Reach::ServerCrash);
                self.befalls_all(index);
                self.memory.joins.crashed = index;
                self.judge_suffix(index);
                for place in 0..self.memory.used_sessions.len() {
                    self.session_died(index, self.memory.used_sessions[place]);
                }
            }
        }
    }

    /// A reply is lost on its way. One that the history holds all the same was withheld from the process only: what it
    /// says counts, and the session ends here.
    fn reply_withheld(&mut self, index: u32, process: Process) {
        let Some(session) = self.memory.session_of_process[process.0 as usize] else { return };
        let is_request = self.session(session).call != NONE;
        self.befalls(index, if is_request { Blow::LostRequest } else { Blow::LostReply }, process);
        let state = self.session(session);
        if state.call != NONE || state.dead {
            return;
        }
        let is_open = state.in_transaction;
        self.found.sees(Reach::LostReply);
        self.found.sees(if is_open { Reach::LostReplyAborted } else { Reach::LostReplyCommitted });
        self.session_died(index, session);
    }

    fn process_crashed(&mut self, index: u32, process: Process, session: Session) {
        self.found.sees(Reach::Crash);
        self.befalls(index, Blow::Crash, process);
        let session = self.memory.session_of_process[process.0 as usize].unwrap_or(session);
        let state = self.session(session);
        if state.in_transaction && !state.dead {
            self.found.sees(Reach::CrashInTransaction);
            if self.holds(session) {
                self.found.sees(Reach::CrashWhileHolding);
            }
        }
        self.session_died(index, session);
    }

    /// Its session may still do what was asked of it before, and keeps its locks.
    fn crashed_unseen(&mut self, index: u32, process: Process) {
        self.found.sees(Reach::Crash);
        self.befalls(index, Blow::Crash, process);
        if let Some(session) = self.memory.session_of_process[process.0 as usize] {
            self.excuse(session);
            self.leave(session);
        }
    }

    fn session_ended(&mut self, index: u32, process: Process, session: Session) {
        self.befalls(index, Blow::SessionEnd, process);
        if self.holds(session) {
            self.found.sees(Reach::SessionEndWhileHolding);
        }
        self.session_died(index, session);
    }

    /// Whether the session's open transaction holds a window.
    pub(super) fn holds(&mut self, session: Session) -> bool {
        let history = self.history;
        let state = self.session(session);
        let is_hold = |call: u32| matches!(history.records[call as usize].what, Happening::Call(Op::Hold { .. }));
        state.in_transaction && !state.dead && state.writes.iter().any(|write| is_hold(write.call))
    }
}
