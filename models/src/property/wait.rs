//! Waits, and what resumes them: A1, A3, A4, A7, and A2 for deadlines. Of those who emit: [`emit`](super::emit).
//!
//! A wait is the event that it will be, under the same id: a committed handoff registers it, or finds a promise and goes on
//! at once. It ends once: an emit resumes it, or its deadline.
//!
//! - **A1** The continuation of a wait is appended at most once. Broken by whoever resumes what somebody else has deleted.
//! - **A2** A wait that a deadline resumes had one, and it had passed: the handoff's call plus the delay, by the server's
//!   clock. An await that finds a promise finds what a committed emit had left, and nobody else had consumed.
//! - **A3** No await opens a wait while a promise that it could consume is there, committed before its call; and no emit
//!   leaves a promise while a wait that it could resume is open, committed before its call. Where the two overlap, one of
//!   them must have seen the other: a wait and a promise for it are not both there when the next resumes that wait, nor at
//!   the end. A promise leaves by being consumed, by being discarded for its token, or with its workflow, and not otherwise:
//!   at the end it has its row. Broken by looking first and registering then, and by promises that expire.
//! - **A4** At the end each row of a wait belongs to a live workflow, of which it is the continuation, and each wait that is
//!   open has its row. Broken by a workflow that ends beside its wait.
//! - **A7** What resumes a wait that asks for a token shows that token. Broken by comparing nothing as a match.
//!
//! A duty whose reply was lost may have resumed whatever was due by then, an emit whose reply was lost may have left a
//! promise: what they did shows when somebody is handed the event, or in the rows at the end.

use super::checker::{Done, Pass};
use super::clue::Clue;
use super::emit::{Emission, LostEmit};
use super::log::{Entry, UNTOLD_TABLE};
use super::successor::deadline_of;
use super::transactions::NONE;
use super::{Property, Reach};
use crate::name::{EventId, Micros, Name, Queue, WaitToken, WorkflowId};
use crate::op::{Decision, Op, Verb};
use crate::record::{Happening, Span};
use crate::reply::{Arrival, EmitAnswer, Event, Reply};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

/// A committed wait that nobody has resumed.
#[derive(Clone, Copy)]
pub(super) struct Wait {
    pub(super) workflow: WorkflowId,
    pub(super) name: Name,
    pub(super) token: WaitToken,
    pub(super) queue: u8,
    pub(super) sequence: u32,
    pub(super) step: u16,
    pub(super) state: u64,
    pub(super) born: u32,
    pub(super) commit: u32,
    /// The earliest and the latest time at which its deadline can pass, on the server's clock.
    pub(super) due: Option<(Micros, Micros)>,
}

/// What a committed emit has left, and nobody has consumed.
#[derive(Clone, Copy)]
pub(super) struct Promise {
    pub(super) payload: u64,
    pub(super) token: WaitToken,
    pub(super) done: Done,
    pub(super) it: Emission,
}

/// What is between a workflow and those who emit one name to it.
#[derive(Default)]
pub(super) struct Mailbox {
    pub(super) wait: Option<u32>,
    pub(super) promise: Option<Promise>,
    /// Emits that may have left a promise, or resumed a wait.
    pub(super) lost: Vec<LostEmit>,
    /// By this record both had committed, and neither had seen the other.
    pub(super) both_since: Option<u32>,
    /// By these records the last wait, and the last promise, had left.
    pub(super) wait_gone: u32,
    pub(super) promise_gone: u32,
    pub(super) has_asked_for_token: bool,
    pub(super) has_timed_out: bool,
}

#[derive(Default)]
pub(super) struct Waits {
    pub(super) open: BTreeMap<u32, Wait>,
    /// By workflow and name.
    pub(super) boxes: BTreeMap<(u32, u16), Mailbox>,
    /// Registered by the handoff that is being applied.
    registered: Vec<u32>,
    /// Resumed, and nobody was told who waited.
    untold: BTreeMap<u32, (Done, Option<Arrival>)>,
    /// By queue: the last duty whose reply was lost, and the time by which it was over, on the server's clock.
    lost: BTreeMap<u8, (Done, Micros)>,
}

impl Waits {
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.boxes.clear();
        self.registered.clear();
        self.untold.clear();
        self.lost.clear();
    }

    pub(super) fn has_registered(&self) -> bool {
        !self.registered.is_empty()
    }

    pub(super) fn mailbox(&mut self, workflow: WorkflowId, name: Name) -> &mut Mailbox {
        self.boxes.entry((workflow.0, name.0)).or_default()
    }

    pub(super) fn has_untold(&self) -> bool {
        !self.untold.is_empty() || !self.lost.is_empty() || self.boxes.values().any(|mailbox| !mailbox.lost.is_empty())
    }

    pub(super) fn has_lost_expiry(&self) -> bool {
        !self.lost.is_empty()
    }

    pub(super) fn lost_expiry(&self, queue: u8) -> Option<Done> {
        self.lost.get(&queue).map(|(done, _)| *done)
    }
}

impl Wait {
    pub(super) fn takes(&self, shown: WaitToken) -> bool {
        self.token == WaitToken::NONE || self.token == shown
    }
}

impl Pass<'_> {
    /// A committed handoff registered a wait, or found what it awaits: then that is told next.
    #[cold]
    pub(super) fn wait_registered(&mut self, done: Done, queue: Queue, id: EventId, decision: &Decision) {
        self.found.exercised(Property::D5);
        self.found.exercised(Property::A4);
        if self.is_given_out(id) {
            let clue = Clue(self.history);
            return self.found.violated(Property::D5, &[done.record()], || {
                format!("{id} was given out again at {}, and both transactions committed", clue.at(done.record()))
            });
        }
        let Decision { workflow, name, token, sequence, step, state, delay, .. } = *decision;
        let (earliest, latest) = self.server_time(done);
        let after = |start: Micros| Micros(start.0.saturating_add(delay.0));
        let wait = Wait {
            workflow,
            name,
            token,
            queue: queue.0,
            sequence,
            step: step.0,
            state,
            born: done.record(),
            commit: done.commit,
            due: deadline_of(delay).map(|_| (after(earliest), after(latest))),
        };
        let waits = &mut self.memory.waits;
        waits.open.insert(id.0, wait);
        waits.registered.push(id.0);
        let mailbox = waits.mailbox(workflow, name);
        mailbox.wait = Some(id.0);
        mailbox.has_timed_out = false;
        mailbox.has_asked_for_token |= token != WaitToken::NONE;
        if let Some((fired, arrival)) = waits.untold.remove(&id.0) {
            self.resume(fired, id, UNTOLD_TABLE, arrival);
        }
    }

    /// Whether an id stands for an event, a timer, a wait or a join already.
    pub(super) fn is_given_out(&self, id: EventId) -> bool {
        self.memory.waits.open.contains_key(&id.0) || self.memory.joins.is_open(id) || self.is_event(id)
    }

    pub(super) fn is_event(&self, id: EventId) -> bool {
        self.memory.events.get(id.0).is_some() || self.memory.events.is_retired(id.0)
    }

    /// An open wait becomes an event.
    pub(super) fn resume(&mut self, done: Done, id: EventId, table: u8, arrival: Option<Arrival>) {
        let Some(wait) = self.close_wait(done, id, arrival) else { return };
        let content = (wait.workflow, wait.sequence, wait.step, wait.state);
        let mut entry = Entry::new(done, Queue(wait.queue), table, content);
        entry.is_truncated = table == UNTOLD_TABLE;
        self.add_event(done, id, entry);
        self.arrives(id, arrival);
    }

    /// A wait is over, and its workflow goes on, or ends.
    pub(super) fn close_wait(&mut self, done: Done, id: EventId, arrival: Option<Arrival>) -> Option<Wait> {
        let wait = self.memory.waits.open.remove(&id.0)?;
        self.found.exercised(Property::A1);
        let mailbox = self.memory.waits.mailbox(wait.workflow, wait.name);
        mailbox.wait = mailbox.wait.filter(|other| *other != id.0);
        mailbox.wait_gone = mailbox.wait_gone.max(done.commit);
        mailbox.has_timed_out = arrival == Some(Arrival::TimedOut);
        let missed = mailbox.both_since.take().filter(|since| *since < done.call);
        let missed = missed.and(mailbox.promise).filter(|promise| wait.takes(promise.token));
        if let Some(promise) = missed {
            self.lost_wakeup(&wait, &promise, done.record());
        }
        Some(wait)
    }

    /// A handoff says that what it awaits was there.
    pub(super) fn promise_found(&mut self, done: Done, id: EventId, table: u8) {
        let Some(wait) = self.memory.waits.open.get(&id.0).copied() else { return };
        let (workflow, name) = (wait.workflow, wait.name);
        self.found.exercised(Property::A2);
        let mailbox = self.memory.waits.mailbox(workflow, name);
        let is_lost = mailbox.lost.iter().any(|lost| wait.takes(lost.it.token));
        if mailbox.promise.is_none() && !is_lost {
            self.settle_emit(|it, answer| (it.workflow, it.name) == (workflow, name) && answer == EmitAnswer::Promised);
        }
        let mailbox = self.memory.waits.mailbox(workflow, name);
        mailbox.promise_gone = mailbox.promise_gone.max(done.commit);
        mailbox.both_since = None;
        let arrival = match mailbox.promise.take() {
            Some(promise) => {
                self.see_promise_found(done, &promise);
                if !wait.takes(promise.token) {
                    self.without_token(&wait, &promise.it, promise.done, done.record());
                }
                Some(Arrival::Emitted { payload: promise.payload })
            }
            None => self.lost_promise_found(done, id, &wait),
        };
        self.resume(done, id, table, arrival);
    }

    fn see_promise_found(&mut self, done: Done, promise: &Promise) {
        let was_blocked = self.was_blocked(done) && promise.done.commit > done.call;
        self.found.sees(if was_blocked { Reach::AwaitBlockedByEmit } else { Reach::EmitBeforeAwait });
    }

    /// What the await has found can only be what an emit left whose reply was lost.
    fn lost_promise_found(&mut self, done: Done, id: EventId, wait: &Wait) -> Option<Arrival> {
        let mailbox = self.memory.waits.mailbox(wait.workflow, wait.name);
        let place = mailbox.lost.iter().position(|lost| wait.takes(lost.it.token));
        match (place, mailbox.lost.len()) {
            (Some(place), 1) => {
                let lost = mailbox.lost.swap_remove(place);
                self.emit_shows(&lost);
                return Some(Arrival::Emitted { payload: lost.it.payload });
            }
            (Some(_), _) => return None,
            (None, _) => {}
        }
        if !self.emit_may_come(wait.workflow, wait.name) {
            let clue = Clue(self.history);
            self.found.violated(Property::A2, &[done.record(), done.commit], || {
                let (workflow, name, at) = (clue.workflow(wait.workflow), clue.name(wait.name), clue.at(done.record()));
                format!(
                    "{workflow} awaited {name} at {at} and went on at once as {id}, and no emit had left it a promise"
                )
            });
        }
        None
    }

    /// What this handoff registered is open: was there a promise for it?
    #[cold]
    pub(super) fn judge_registered(&mut self, done: Done) {
        while let Some(id) = self.memory.waits.registered.pop() {
            let Some(wait) = self.memory.waits.open.get(&id).copied() else { continue };
            self.found.exercised(Property::A3);
            let mailbox = self.memory.waits.mailbox(wait.workflow, wait.name);
            let Some(promise) = mailbox.promise else { continue };
            let (takes, was_there) = (wait.takes(promise.token), promise.done.commit < done.call);
            match (takes, was_there) {
                (true, true) => self.lost_wakeup(&wait, &promise, done.record()),
                (true, false) => mailbox.both_since = Some(promise.done.commit.max(done.commit)),
                (false, was_there) => {
                    mailbox.promise = None;
                    mailbox.promise_gone = done.commit;
                    if was_there {
                        self.found.sees(Reach::PromiseDiscarded);
                    } else {
                        // Discarded, or left when this wait had been resumed already.
                        mailbox.lost.push(LostEmit { done: promise.done, it: promise.it });
                    }
                }
            }
        }
    }

    /// A3: both are there.
    pub(super) fn lost_wakeup(&mut self, wait: &Wait, promise: &Promise, index: u32) {
        let clue = Clue(self.history);
        let records = [wait.born, wait.commit, promise.done.record(), promise.done.commit, index];
        self.found.violated(Property::A3, &records, || {
            let (workflow, name) = (clue.workflow(wait.workflow), clue.name(wait.name));
            let (since, by) = (clue.at(wait.commit), clue.process(promise.done.record()));
            let (payload, at) = (promise.payload, clue.at(promise.done.commit));
            format!(
                "{workflow} waits for {name} since {since}, and {payload}, which {by} emitted and committed at {at}, lies beside it as \
                 a promise"
            )
        });
    }

    /// A7: resumed by an emit that did not show what the wait asks for.
    pub(super) fn without_token(&mut self, wait: &Wait, it: &Emission, emitted: Done, index: u32) {
        let clue = Clue(self.history);
        self.found.violated(Property::A7, &[wait.born, emitted.record(), index], || {
            let (workflow, name, asked) = (clue.workflow(wait.workflow), clue.name(wait.name), wait.token);
            let (by, at) = (clue.process(emitted.record()), clue.at(emitted.record()));
            let shown = match it.token {
                WaitToken::NONE => "no token".into(),
                token => format!("{token}"),
            };
            format!("{workflow} waited for {name} with {asked}, and was resumed by {}, which {by} had emitted at {at} with {shown}", it.emit)
        });
    }

    /// A duty resumed waits, since their deadlines had passed; and parents of workflows that it has ended.
    pub(super) fn waits_expired(&mut self, done: Done, resumed: Span, table: u8) {
        for id in self.history.ids(resumed) {
            let id = EventId(*id);
            self.found.exercised(Property::A2);
            let is_open = |pass: &Self| pass.memory.waits.open.contains_key(&id.0) || pass.memory.joins.is_known(id);
            if !is_open(self) {
                self.settle_birth(self.now, id);
            }
            match self.memory.waits.open.get(&id.0).copied() {
                Some(wait) => {
                    self.judge_deadline(done, id, &wait);
                    self.found.sees(Reach::WaitTimedOut);
                    self.resume(done, id, table, Some(Arrival::TimedOut));
                }
                None if self.memory.joins.is_known(id) => self.join_resumed(done, id, table),
                None => self.nobody_waited(done, id, Some(Arrival::TimedOut)),
            }
        }
    }

    pub(super) fn judge_deadline(&mut self, done: Done, id: EventId, wait: &Wait) {
        let clue = Clue(self.history);
        let ended = if done.end() == NONE { done.call } else { done.end() };
        let at = self.memory.server_clock.latest(self.history, done.call, ended);
        let is_early = wait.due.is_none_or(|(earliest, _)| at < earliest);
        if !is_early {
            return;
        }
        self.found.violated(Property::A2, &[wait.born, done.record()], || {
            let (workflow, name, since) = (clue.workflow(wait.workflow), clue.name(wait.name), clue.at(wait.born));
            let deadline = match wait.due {
                Some((earliest, _)) => format!("not before {earliest}"),
                None => "without a deadline".into(),
            };
            format!(
                "{workflow} waited for {name} from {since} on, {deadline}, and {id} was resumed at {at} as timed out"
            )
        });
    }

    /// Somebody resumed what is no open wait.
    pub(super) fn nobody_waited(&mut self, done: Done, id: EventId, arrival: Option<Arrival>) {
        let clue = Clue(self.history);
        let is_untold = self.memory.waits.untold.contains_key(&id.0);
        if self.is_event(id) || is_untold || self.memory.dead_letters.is_dead(id) {
            let first = self.memory.events.get(id.0).map_or(NONE, |known| known.born);
            return self.found.violated(Property::A1, &[first, done.record(), done.commit], || {
                let workflow = self.memory.events.get(id.0).map(|known| clue.workflow(known.workflow));
                let workflow = workflow.unwrap_or_else(|| "a workflow".into());
                let first = if first == NONE { "before".into() } else { format!("at {}", clue.at(first)) };
                let (by, at) = (clue.process(done.record()), clue.at(done.record()));
                format!("{workflow} was resumed twice as {id}: {first}, and by {by} at {at}")
            });
        }
        if self.has_lost_await() {
            self.memory.waits.untold.insert(id.0, (done, arrival));
            return;
        }
        if self.memory.joins.has_lost_spawn {
            return;
        }
        self.found.violated(Property::A2, &[done.record(), done.commit], || {
            let (by, at) = (clue.process(done.record()), clue.at(done.record()));
            format!("{by} resumed {id} at {at}, and no workflow waited as that")
        });
    }

    /// Nobody knows whom it resumed: whose deadline had passed by then.
    pub(super) fn expiry_lost(&mut self, done: Done, queue: Queue) {
        let end = self.memory.server_clock.latest(self.history, done.call, done.commit);
        let lost = self.memory.waits.lost.entry(queue.0).or_insert((done, end));
        *lost = (done, lost.1.max(end));
    }

    /// Whether a reply that was lost, or has not come, may tell that a wait was resumed.
    pub(super) fn may_be_resumed(&self, wait: &Wait) -> bool {
        let lost_until = self.memory.waits.lost.get(&wait.queue).map(|(_, until)| *until);
        let may_be_due = wait.due.is_some_and(|(earliest, _)| lost_until.is_some_and(|until| earliest <= until));
        let mailbox = self.memory.waits.boxes.get(&(wait.workflow.0, wait.name.0));
        may_be_due
            || mailbox.is_some_and(|mailbox| !mailbox.lost.is_empty())
            || self.may_come(|op| match op {
                Op::Emit { workflow, name, .. } => (*workflow, *name) == (wait.workflow, wait.name),
                Op::ExpireWaits { queue, .. } => queue.0 == wait.queue,
                _ => false,
            })
    }

    /// Looks ahead for the reply that tells that a wait was resumed.
    pub(super) fn settle_wait(&mut self, id: u32) {
        let history = self.history;
        self.settle_one(|_, reply| match reply {
            Reply::Emitted { event, .. } => event.0 == id,
            Reply::Expired { resumed, undeliverable, .. } => {
                history.ids(*resumed).contains(&id) || history.ids(*undeliverable).contains(&id)
            }
            _ => false,
        });
    }

    /// Somebody is handed an event that was a wait when it was last heard of. True if something lost explains it.
    pub(super) fn meet_wait(&mut self, index: u32, event: &Event) -> bool {
        let Some(wait) = self.memory.waits.open.get(&event.id.0).copied() else { return false };
        let lost = match event.arrival {
            Arrival::Emitted { payload } => {
                let lost = &mut self.memory.waits.mailbox(wait.workflow, wait.name).lost;
                let place = lost.iter().position(|lost| lost.it.payload == payload && wait.takes(lost.it.token));
                let lost = place.map(|place| lost.swap_remove(place));
                lost.into_iter().for_each(|lost| self.emit_shows(&lost));
                lost.map(|lost| lost.done)
            }
            Arrival::TimedOut => self.memory.waits.lost.get(&wait.queue).map(|(done, _)| *done),
            _ => None,
        };
        let Some(lost) = lost else { return false };
        self.memory.no_doubt(lost.call);
        let commit = if lost.commit == NONE { index } else { lost.commit };
        self.resume(Done { xid: event.xid, commit, ..lost }, event.id, UNTOLD_TABLE, Some(event.arrival));
        true
    }

    /// Somebody is handed an event that a handoff had awaited whose reply was lost.
    pub(super) fn lost_wait_met(&mut self, event: &Event, decision: &Decision) {
        let clue = Clue(self.history);
        if let Some((done, Some(arrival))) = self.memory.waits.untold.remove(&event.id.0) {
            if arrival != event.arrival {
                self.found.violated(Property::A2, &[done.record()], || {
                    let (workflow, at) = (clue.workflow(event.workflow), clue.at(done.record()));
                    format!("{workflow} was resumed at {at} as {}, {}", event.id, super::arrival::told(event.arrival))
                });
            }
            return;
        }
        let Arrival::Emitted { payload } = event.arrival else { return };
        let mailbox = self.memory.waits.mailbox(decision.workflow, decision.name);
        match mailbox.promise {
            Some(promise) if promise.payload == payload => mailbox.promise = None,
            _ => {
                let place = mailbox.lost.iter().position(|lost| lost.it.payload == payload);
                let lost = place.map(|place| mailbox.lost.swap_remove(place));
                lost.into_iter().for_each(|lost| self.emit_shows(&lost));
            }
        }
    }

    /// Whether a call had to wait for a lock.
    pub(super) fn was_blocked(&self, done: Done) -> bool {
        if done.ret == NONE || done.ret == done.call + 1 {
            return false;
        }
        let session = self.history.records[done.call as usize].session;
        let between = &self.history.records[done.call as usize..done.ret as usize];
        between.iter().any(|record| record.session == session && record.what == Happening::Blocked)
    }
}

pub(super) fn is_await(decision: &Decision, workflow: WorkflowId, name: Name) -> bool {
    decision.verb == Verb::Await && decision.workflow == workflow && decision.name == name
}
