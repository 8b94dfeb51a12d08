//! The server's side: connections, the sessions on them, and what the engine answers. A session lives as long as the server
//! takes its connection for good, whatever has become of the other end.

use super::network::NetworkFault;
use super::world::{Connection, World, sure};
use crate::plan::PlannedEffect;
use crate::run::faults::Blow;
use crate::run::records::ends_of;
use crate::target::Target;
use std::rc::Rc;
use tokio::sync::Notify;
use tourbillon_engine::engine::Environment;
use tourbillon_engine::store::executor::Progress;
use tourbillon_engine::store::locks::{SESSIONS, Slot};
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{Micros, Session, Xid};
use tourbillon_models::op::Op;
use tourbillon_models::record::{ClockOffset, Fault, Happening, Note, Record};
use tourbillon_models::reply::{Outcome, Reply};

impl World {
    /// Somebody has connected; none if there are too many.
    pub(super) fn accept(&mut self, process: u8, incarnation: u8, number: u32) -> Option<(usize, Rc<Notify>)> {
        let open = self.connections.iter().flatten().count();
        if open >= SESSIONS || usize::from(process) >= self.processes.len() {
            return None;
        }
        let wake = Rc::new(Notify::new());
        let connection = Connection {
            process: usize::from(process),
            incarnation,
            number,
            session: None,
            starting: None,
            blocked: false,
            lock_deadline: None,
            reply: Reply::Done,
            outbox: None,
            returned: 0,
            wake: Rc::clone(&wake),
        };
        self.connections.push(Some(connection));
        let id = self.connections.len() - 1;
        let shell = &mut self.shells[usize::from(process)];
        // One that was held up may come after the one that took its place.
        if shell.greeted < (incarnation, number) {
            (shell.greeted, shell.current) = ((incarnation, number), Some(id));
        }
        Some((id, wake))
    }

    pub(super) fn known(&mut self, id: usize) -> &mut Connection {
        self.connections[id].as_mut().expect("the connection is open")
    }

    pub(super) fn is_open(&self, id: usize) -> bool {
        self.connections[id].is_some()
    }

    pub(super) fn is_blocked(&self, id: usize) -> bool {
        self.connections[id].as_ref().is_some_and(|known| known.blocked)
    }

    pub(super) fn lock_deadline(&self, id: usize) -> Option<Micros> {
        self.connections[id].as_ref().filter(|known| known.blocked)?.lock_deadline
    }

    pub(super) fn take_reply(&mut self, id: usize) -> Option<(PlainReply, Xid)> {
        self.connections[id].as_mut()?.outbox.take()
    }

    pub(super) fn call(&mut self, id: usize, op: &PlainOp) {
        let slot = match self.known(id).session {
            Some((slot, _)) => slot,
            None => {
                let slot = sure(self.target.connect());
                self.sessions += 1;
                self.known(id).session = Some((slot, Session(self.sessions)));
                slot
            }
        };
        self.summary.calls += 1;
        let needs_token = matches!(op, Op::Claim { .. } | Op::TakeOver { .. });
        let random = if needs_token { self.tokens.bits() } else { 0 };
        let environment = Environment { now: self.server_clock.at(self.now), random };
        let kept = self.history.keep_op(op);
        self.record_of(id, Happening::Call(kept));
        let known = self.connections[id].as_mut().expect("the connection is open");
        if let (process, Some((_, session))) = (known.process, known.session) {
            self.shells[process].last_session = session;
        }
        if let Op::Start { key, .. } = op {
            known.starting = Some(*key);
        }
        match sure(self.target.call(slot, op, environment, &mut known.reply)) {
            Progress::Returned => self.returned(id),
            Progress::Blocked => {
                self.summary.blocked += 1;
                known.blocked = true;
                let process = known.process;
                self.record_of(id, Happening::Blocked);
                self.watch_deadline(id);
                self.let_in();
                if let Some(blow) = self.due_wait(id, process, op) {
                    self.strike(process, blow);
                }
                return;
            }
        }
        self.let_in();
    }

    pub(super) fn due_wait(&mut self, id: usize, process: usize, op: &PlainOp) -> Option<Blow> {
        let is_current = self.shells[process].current == Some(id);
        let blow = if is_current { self.processes[process].due_wait(op, self.now) } else { None };
        blow.filter(|_| self.is_blocked(id))
    }

    /// A wait begins.
    pub(super) fn watch_deadline(&mut self, id: usize) {
        let Some((slot, _)) = self.known(id).session else { return };
        let deadline = self.target.engine().may_wait(slot).map(|limit| self.now + limit);
        let known = self.known(id);
        known.lock_deadline = deadline;
        known.wake.notify_one();
    }

    pub(super) fn lock_timeout(&mut self, id: usize) {
        let now = self.now;
        let Some(known) = &self.connections[id] else { return };
        let Some((slot, _)) = known.session else { return };
        let is_over = known.blocked && known.lock_deadline.is_some_and(|deadline| deadline <= now);
        if is_over && self.target.engine().may_wait(slot).is_some() {
            sure(self.target.time_out(slot, self.server_clock.at(now)));
            self.let_in();
        }
    }

    /// Everyone whose wait is over goes on before anything else happens.
    pub(super) fn let_in(&mut self) {
        while self.target.engine().anyone_released() {
            let released = self.target.engine().released();
            let mut chosen = 0;
            if released.len() > 1 {
                chosen = sure(self.target.pick(&released));
                self.summary.choices.push(chosen as u8);
            }
            let slot = released[chosen];
            let id = self.connection_at(slot);
            if released.len() > 1 {
                self.record_of(id, Happening::Choice { among: released.len() as u8 });
            }
            match self.go_on(id, slot) {
                Progress::Returned => self.returned(id),
                Progress::Blocked => self.watch_deadline(id),
            }
        }
    }

    /// A call that only let others into a row's queue goes on at once.
    pub(super) fn go_on(&mut self, id: usize, slot: Slot) -> Progress {
        let reply = &mut self.connections[id].as_mut().expect("a call that waits has a connection").reply;
        loop {
            let progress = sure(self.target.resume(slot, self.server_clock.at(self.now), reply));
            if progress != Progress::Blocked || !self.target.engine().released().contains(&slot) {
                return progress;
            }
        }
    }

    pub(super) fn connection_at(&self, slot: Slot) -> usize {
        let is_it = |known: &Option<Connection>| {
            known.as_ref().and_then(|known| known.session).is_some_and(|(held, _)| held == slot)
        };
        self.connections.iter().position(is_it).expect("a session belongs to a connection")
    }

    /// The server has answered; the answer is on its way.
    pub(super) fn returned(&mut self, id: usize) {
        let xid = self.xid(id);
        self.spread_word(id);
        let known = self.connections[id].as_mut().expect("the connection is open");
        known.blocked = false;
        known.returned += 1;
        let reply = std::mem::replace(&mut known.reply, Reply::Done);
        let kept = self.history.keep_reply(&reply);
        known.outbox = Some((reply, xid));
        known.wake.notify_one();
        let process = known.process;
        self.record_with(id, xid, Happening::Return(kept));
        self.crash_after(id, process);
    }

    /// The server may be to die before anybody hears the answer.
    pub(super) fn crash_after(&mut self, id: usize, process: usize) {
        let after = &mut self.processes[process].after;
        let is_current = self.shells[process].current == Some(id);
        if let Some(blow) = after.take_if(|blow| is_current && matches!(blow.effect, PlannedEffect::ServerCrash { .. }))
        {
            self.asked.push((process, blow));
        }
    }

    /// What somebody has started, even if nobody knows yet whether it stays, is known to all who listen.
    pub(super) fn spread_word(&mut self, id: usize) {
        let known = self.known(id);
        let (Some(key), Reply::Started { workflow, .. }) = (known.starting.take(), &known.reply) else { return };
        let workflow = *workflow;
        for (process, plan) in self.processes.iter_mut().zip(&self.plan.processes) {
            if plan.hears_of == Some(key) {
                process.actor.hear_of(workflow);
            }
        }
    }

    pub(super) fn xid(&self, id: usize) -> Xid {
        let session = self.connections[id].as_ref().and_then(|known| known.session);
        session.map_or(Xid(0), |(slot, _)| self.target.xid(slot))
    }

    pub(super) fn is_in_transaction(&self, id: usize) -> bool {
        let session = self.connections[id].as_ref().and_then(|known| known.session);
        session.is_some_and(|(slot, _)| self.target.engine().is_in_transaction(slot))
    }

    /// The server gives a connection up that nobody has spoken on for too long.
    pub(super) fn lose(&mut self, id: usize) {
        self.record_of(id, Happening::Fault(Fault::SessionLost));
        self.summary.network_faults.push(NetworkFault::SessionLost);
        self.hang_up(id);
    }

    /// The session ends, and with it what it had not committed.
    pub(super) fn hang_up(&mut self, id: usize) {
        let Some(known) = &self.connections[id] else { return };
        known.wake.notify_one();
        if let Some((slot, _)) = known.session {
            let (xid, is_open) = (self.xid(id), self.is_in_transaction(id));
            sure(self.target.disconnect(slot, self.server_clock.at(self.now)));
            if is_open {
                self.record_with(id, xid, Happening::Note(Note::Resolved { outcome: Outcome::Aborted }));
            }
        }
        self.connections[id] = None;
        self.let_in();
    }

    pub(super) fn hang_up_all(&mut self) {
        (0..self.connections.len()).for_each(|id| self.hang_up(id));
    }

    /// The connection that the server has with a process, if it has one.
    pub(super) fn connection_of(&self, process: usize) -> Option<usize> {
        self.shells[process].current.filter(|id| self.is_open(*id))
    }

    pub(super) fn server_crash(&mut self, index: usize) {
        self.note_fault(index, Fault::ServerCrash);
        self.summary.server_crashes += 1;
        self.is_up = false;
        let open: Vec<_> = (0..self.connections.len()).map(|id| (self.xid(id), self.is_in_transaction(id))).collect();
        let lost = sure(self.target.crash());
        for (id, (xid, is_open)) in open.into_iter().enumerate() {
            if self.is_blocked(id) {
                self.record_with(id, xid, Happening::Return(Reply::Unknown));
            }
            if is_open {
                self.record_with(id, xid, Happening::Note(Note::Resolved { outcome: Outcome::Aborted }));
            }
            self.connections[id] = None;
        }
        self.note_lost(&lost);
    }

    /// A note for each, in the session in which it had committed.
    pub(super) fn note_lost(&mut self, lost: &[Xid]) {
        self.summary.lost_commits += lost.len() as u64;
        let notes = ends_of(&self.history, lost);
        let what = Happening::Note(Note::Resolved { outcome: Outcome::Aborted });
        notes.into_iter().for_each(|end| self.history.push(Record { at: self.now, what, ..end }));
    }

    pub(super) fn flush(&mut self, index: usize) {
        sure(self.target.flush());
        self.note_fault(index, Fault::LogFlush);
    }

    pub(super) fn set_server_clock(&mut self, index: usize, offset: ClockOffset) {
        if self.server_clock != offset {
            self.server_clock = offset;
            self.note_fault(index, Fault::ClockStep(offset));
        }
    }
}
