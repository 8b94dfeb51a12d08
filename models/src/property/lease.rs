//! Leases: which worker holds which window, under which token. Q8, Q9, and D5 for tokens; when it may be taken over:
//! [`takeover`](super::takeover).
//!
//! - **Q8** A token is given out for a window that nobody holds; a token whose window was taken over, or finished, is
//!   accepted no more by any call. Broken by claiming without a lock, by a takeover that leaves the victim's row.
//! - **Q9** A handoff that commits does so under the token that its worker's lease has at that time. Broken by ignoring
//!   the fence's row count. After a crash that lost commits the handoff is also the holder's own: a token that is given
//!   out again is not the one that a zombie was given.
//! - **D5** No token is given out that a committed transaction had been given. Broken by a sequence that rewinds.
//!
//! A claim whose reply was lost leaves a lease with a window that nobody knows; whoever takes it over tells.

use super::checker::{Done, Pass};
use super::clue::Clue;
use super::transactions::NONE;
use super::window::{Progress, Range};
use super::{Property, Reach};
use crate::name::{Consumer, Micros, Session, Tick, Token, WorkerId};
use crate::op::Op;
use crate::record::{Fault, Happening, Span};
use crate::reply::Reply;
use alloc::format;

/// What a worker's lease row says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Nothing was claimed yet.
    Free,
    Open,
    /// The reply to a claim was lost: it holds a window that nobody knows, or none.
    Lost,
    /// Taken over by that worker.
    Stolen(WorkerId),
    Finished,
}

/// What a call under a token ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    Window,
    /// One event of an isolated window.
    Event,
}

pub(super) struct Worker {
    pub(super) consumer: u8,
    pub(super) phase: Phase,
    /// Of the open window, or of the last one.
    pub(super) token: Token,
    pub(super) window: (u32, u32),
    /// The earliest time at which its last committed sign of life can have run, on the server's clock.
    pub(super) heartbeat: Micros,
    pub(super) heartbeat_call: u32,
    pub(super) heartbeat_record: u32,
    pub(super) claimed: u32,
    /// By this record the token was dead for certain; [`NONE`] while it lives.
    ended: u32,
    /// What it held before.
    before: Held,
    /// The open transaction that wrote the lease: its session, and the record since when.
    pub(super) locked_by: Option<(Session, u32)>,
    /// Its window is handed out event by event.
    pub(super) isolated: bool,
    pub(super) progress: Progress,
}

/// What a worker's claim before the last one gave it: a call under that token may be under way yet.
#[derive(Clone, Copy)]
struct Held {
    token: Token,
    window: (u32, u32),
    claimed: u32,
    ended: u32,
}

impl Pass<'_> {
    pub(super) fn registered(&mut self, done: Done, consumer: Consumer, worker: WorkerId) {
        self.found.exercised(Property::D5);
        if self.subscription(consumer.0).is_none() {
            // Whoever subscribed may have the reply still under way.
            self.settle(
                done.record(),
                |op, _| matches!(op, Op::Subscribe { consumer: other, .. } if *other == consumer),
            );
        }
        if self.memory.workers.get(worker.0).is_some() {
            let clue = Clue(self.history);
            self.found.violated(Property::D5, &[done.record()], || {
                format!("the identity {worker} was given out again at {}", clue.at(done.record()))
            });
        }
        self.memory.workers.insert(worker.0, Worker::new(consumer.0));
    }

    pub(super) fn token_issued(&mut self, index: u32, token: Token) {
        self.found.exercised(Property::D5);
        if self.memory.tokens.contains(token.0) {
            let clue = Clue(self.history);
            let gave = |earlier: &u32| matches!(clue.reply(*earlier), Some(Reply::Claimed { token: given, .. }) if given == token);
            let first = if self.found.tells(Property::D5) { (0..index).find(gave) } else { None };
            self.found.violated(Property::D5, &[first.unwrap_or(NONE), index], || {
                let at = first.map_or(Micros(0), |first| clue.at(first));
                format!("token {token}, given out at {at}, was given out again at {}", clue.at(index))
            });
        }
    }

    pub(super) fn claimed(
        &mut self,
        done: Done,
        worker: WorkerId,
        token: Token,
        window: (Tick, Tick),
        victim: WorkerId,
    ) {
        self.memory.tokens.insert(token.0);
        self.memory.suffix.is_given(self.history.records[done.record() as usize].process);
        self.believe_end_of_window(done.record(), worker);
        let Some(consumer) = self.memory.workers.get(worker.0).map(|known| known.consumer) else { return };
        match victim.0 {
            0 => self.window_given(done, consumer, window, worker),
            _ => self.taken_over(done, consumer, worker, window, victim),
        }
        let (earliest, _) = self.server_time(done);
        let Some(known) = self.memory.workers.get_mut(worker.0) else { return };
        let Worker { token: before, window: held, claimed, ended, .. } = *known;
        known.before = Held { token: before, window: held, claimed, ended: ended.min(done.commit) };
        known.phase = Phase::Open;
        known.token = token;
        known.window = (window.0.0, window.1.0);
        known.heartbeat = earliest;
        known.heartbeat_call = done.call;
        known.heartbeat_record = done.record();
        known.claimed = done.record();
        known.ended = NONE;
        known.progress = Progress::NEW;
    }

    /// A worker that is given a window has none: somebody has taken its last one over, with the reply still under way, or a
    /// handoff of it that is in doubt committed.
    fn believe_end_of_window(&mut self, index: u32, worker: WorkerId) {
        let Some(known) = self.memory.workers.get(worker.0).filter(|known| known.phase == Phase::Open) else { return };
        let (token, window) = (known.token, known.window);
        let is_end = |op: &Op<Span>, reply: &Reply<Span, Span, Span>| match (op, reply) {
            (Op::Handoff { worker: own, token: same, .. }, _) => *own == worker && *same == token,
            (Op::HandOut { worker: own, token: same, .. }, Reply::HandedOut { events, .. }) => {
                *own == worker && *same == token && events.len == 0
            }
            _ => false,
        };
        let is_theft = |_: &Op<Span>, reply: &Reply<Span, Span, Span>| takes_over(reply, worker, window);
        if !self.settle(index, is_end) && !self.settle(index, is_theft) {
            self.believe_handoff_of(index, worker);
            self.believe_end_of_isolation(index, worker);
        }
    }

    fn taken_over(&mut self, done: Done, consumer: u8, thief: WorkerId, window: (Tick, Tick), victim: WorkerId) {
        self.found.sees(Reach::Takeover);
        self.see_takeover(done, victim);
        self.found.exercised(Property::Q8);
        self.found.exercised(Property::L2);
        self.believe_claim_of(done.record(), victim);
        let phase = self.memory.workers.get(victim.0).map_or(Phase::Free, |known| known.phase);
        let was = self.memory.workers.get(victim.0).filter(|_| phase == Phase::Open).map(|known| known.window);
        let withheld = |claimed: u32| {
            let next = self.history.records.get(claimed as usize + 1);
            next.is_some_and(|record| record.what == Happening::Fault(Fault::LostReply))
        };
        if phase == Phase::Open && self.memory.workers.get(victim.0).is_some_and(|known| withheld(known.claimed)) {
            self.found.sees(Reach::TakeoverOfLostClaim);
        }
        match phase {
            Phase::Lost => {
                self.found.sees(Reach::TakeoverOfLostClaim);
                self.forget_holder_of(consumer, (window.0.0, window.1.0), done, thief);
            }
            Phase::Finished | Phase::Stolen(_) => self.taken_from_nobody(done, thief, window, victim),
            Phase::Open | Phase::Free => {}
        }
        if let Some(known) = self.memory.workers.get_mut(victim.0) {
            known.phase = Phase::Stolen(thief);
            known.ended = done.commit;
        }
        self.window_moved(done, consumer, window, thief, was);
    }

    /// The claim that was lost had itself taken the window over from somebody: that one's token is dead too.
    fn forget_holder_of(&mut self, consumer: u8, window: (u32, u32), done: Done, thief: WorkerId) {
        let holder = self.range_of(consumer, window).map(|range| range.holder);
        let Some(holder) = holder.and_then(|holder| self.memory.workers.get_mut(holder.0)) else { return };
        if holder.phase == Phase::Open && holder.window == window {
            holder.phase = Phase::Stolen(thief);
            holder.ended = done.commit;
        }
    }

    /// The victim's window was finished or taken over before: by whom, the victim's lease tells.
    fn taken_from_nobody(&mut self, done: Done, thief: WorkerId, window: (Tick, Tick), victim: WorkerId) {
        let clue = Clue(self.history);
        let Some(known) = self.memory.workers.get(victim.0) else { return };
        let (ended, phase) = (known.ended, known.phase);
        if ended >= done.call {
            return;
        }
        self.found.violated(Property::Q8, &[ended, done.record()], || {
            let how = match phase {
                Phase::Stolen(other) => format!("{other} had taken it over"),
                _ => "it had been finished".into(),
            };
            let (prev, next, at) = (window.0, window.1, clue.at(done.record()));
            format!(
                "{thief} took the window ({prev},{next}] over from {victim} at {at}, but {how} at {}",
                clue.at(ended)
            )
        });
    }

    /// The reply to a claim is lost, and it committed, or may have.
    pub(super) fn claim_lost(&mut self, done: Done, worker: WorkerId) {
        self.memory.has_lost_claim = true;
        let (earliest, _) = self.server_time(done);
        let Some(known) = self.memory.workers.get_mut(worker.0) else { return };
        known.phase = Phase::Lost;
        known.heartbeat = earliest;
        known.heartbeat_call = done.call;
        known.heartbeat_record = done.call;
        known.ended = NONE;
    }

    /// A committed heartbeat, hold or hand-out. The last one counts, also if the clock has been set back since the one before.
    pub(super) fn alive(&mut self, done: Done, worker: WorkerId, token: Token) {
        let (earliest, _) = self.server_time(done);
        let Some(known) = self.memory.workers.get_mut(worker.0) else { return };
        if known.token == token && known.phase == Phase::Open && done.call >= known.heartbeat_call {
            known.heartbeat = earliest;
            known.heartbeat_call = done.call;
            known.heartbeat_record = done.record();
        }
    }

    /// A call ran under a token and was not refused.
    pub(super) fn token_accepted(&mut self, index: u32, session: Session, call: u32, worker: WorkerId, token: Token) {
        let clue = Clue(self.history);
        let Some(known) = self.memory.workers.get(worker.0) else {
            return self.accepted_of_nobody(index, session, worker, token);
        };
        let (ended, phase, before) = (known.ended, known.phase, known.before);
        if known.token == token && phase == Phase::Open {
            return;
        }
        let is_dead = known.token == token && ended < call;
        if !is_dead && (known.token == token || self.claims_itself(session, worker, token)) {
            return;
        }
        let is_old = self.memory.tokens.contains(token.0);
        if is_old && !is_dead && self.was_live(call, (worker, token), before) {
            return;
        }
        self.found.violated(Property::Q8, &[if is_dead { ended } else { NONE }, index], || {
            let (at, process) = (clue.at(index), clue.process(index));
            let why = match phase {
                Phase::Stolen(thief) if is_dead => format!("{thief} had taken its window over at {}", clue.at(ended)),
                _ if is_dead => format!("its window had been finished at {}", clue.at(ended)),
                _ if is_old => "it is not the token of its lease any more".into(),
                _ => "no committed claim had been given it".into(),
            };
            format!("a call of {process} as {worker} under token {token} was accepted at {at}, although {why}")
        });
    }

    /// Whether a token that is its worker's no more may have been when that call was made. Of those before the last but one
    /// only that is known by when they were over for certain.
    #[cold]
    fn was_live(&self, call: u32, (worker, token): (WorkerId, Token), before: Held) -> bool {
        let is_its = || Clue(self.history).claim_of(worker, token).is_some();
        match before.token == token {
            true => before.ended >= call,
            false => before.claimed != NONE && before.claimed >= call && is_its(),
        }
    }

    /// A call ran as a worker that nobody has registered. Whoever has may have the reply still under way, or the call in the
    /// same transaction.
    #[cold]
    fn accepted_of_nobody(&mut self, index: u32, session: Session, worker: WorkerId, token: Token) {
        let is_it =
            |reply: &Reply<Span, Span, Span>| matches!(reply, Reply::Registered { worker: other } if *other == worker);
        let clue = Clue(self.history);
        let mut own = self.session(session).writes.iter();
        let is_own = own.any(|write| clue.reply(write.ret).is_some_and(|reply| is_it(&reply)));
        if is_own || self.settle(index, |_, reply| is_it(reply)) {
            return;
        }
        self.found.violated(Property::Q8, &[index], || {
            let (process, at) = (clue.process(index), clue.at(index));
            format!("a call of {process} as {worker} under token {token} was accepted at {at}, although nobody had been registered as that")
        });
    }

    /// Whether the session's open transaction was itself given this token.
    pub(super) fn claims_itself(&mut self, session: Session, worker: WorkerId, token: Token) -> bool {
        self.own_claim(session, worker, token).is_some()
    }

    /// The window that the session's open transaction was given under this token.
    fn own_claim(&mut self, session: Session, worker: WorkerId, token: Token) -> Option<(u32, u32)> {
        let clue = Clue(self.history);
        let writes = &self.session(session).writes;
        writes.iter().rev().find_map(|write| match (clue.op(write.call)?, clue.reply(write.ret)?) {
            (
                Op::Claim { worker: to, .. } | Op::TakeOver { worker: to, .. },
                Reply::Claimed { token: given, prev, next, .. },
            ) if to == worker && given == token => Some((prev.0, next.0)),
            _ => None,
        })
    }

    /// The queue and the window that a worker reads under a token, if that is known.
    pub(super) fn window_of(&mut self, session: Session, worker: WorkerId, token: Token) -> Option<(u8, u32, u32)> {
        let known = self.memory.workers.get(worker.0)?;
        let consumer = known.consumer;
        let window = match token {
            _ if known.token == token => Some(known.window),
            _ if known.before.token == token => Some(known.before.window),
            _ => None,
        };
        let window = window.or_else(|| self.own_claim(session, worker, token))?;
        let queue = self.subscription(consumer)?.queue;
        Some((queue, window.0, window.1))
    }

    /// The fence of a handoff, or of a last hand-out, that commits. The window that it ends, or whose event it ends, if the
    /// token stands for one.
    pub(super) fn fence(
        &mut self,
        done: Done,
        worker: WorkerId,
        token: Token,
        finish: Finish,
    ) -> Option<(u8, (u32, u32))> {
        self.found.exercised(Property::Q9);
        self.handed_off_by_holder(done, worker, token);
        let clue = Clue(self.history);
        let Some(known) = self.memory.workers.get_mut(worker.0) else {
            self.found.violated(Property::Q9, &[done.record(), done.commit], || {
                let (at, process) = (clue.at(done.commit), clue.process(done.record()));
                format!("a handoff of {process} as {worker} under token {token} committed at {at}, although nobody had been registered as that")
            });
            return None;
        };
        let (consumer, window, ended, phase) = (known.consumer, known.window, known.ended, known.phase);
        let is_own = known.token == token;
        if is_own && matches!(phase, Phase::Open) && finish == Finish::Event {
            return Some((consumer, window));
        }
        if is_own && matches!(phase, Phase::Open) {
            known.phase = Phase::Finished;
            known.ended = done.commit;
            let (heartbeat, since) = (known.heartbeat, known.heartbeat_record);
            let at = self.memory.server_clock.at(self.history, done.commit);
            if done.commit != NONE && at - heartbeat >= self.history.header.dead_interval {
                self.see_late_handoff(done, heartbeat, since);
            }
            return Some((consumer, window));
        }
        if is_own && ended >= done.commit_call {
            return Some((consumer, window));
        }
        self.found.violated(Property::Q9, &[if is_own { ended } else { NONE }, done.record(), done.commit], || {
            let (at, process) = (clue.at(done.commit), clue.process(done.record()));
            let why = match phase {
                Phase::Stolen(thief) if is_own => format!("{thief} had taken its window over at {}", clue.at(ended)),
                Phase::Finished if is_own => format!("its window had been finished at {}", clue.at(ended)),
                _ => "that was not the token of its lease".into(),
            };
            format!("a handoff of {process} as {worker} under token {token} committed at {at}, although {why}")
        });
        is_own.then_some((consumer, window))
    }

    /// Where claims were lost, a token may be another's as well: who hands off must be the process that was given it.
    fn handed_off_by_holder(&mut self, done: Done, worker: WorkerId, token: Token) {
        if !self.memory.suffix.has_lost_before(done.record()) {
            return;
        }
        let Some(known) = self.memory.workers.get(worker.0).filter(|known| known.token == token) else { return };
        let (clue, claimed) = (Clue(self.history), known.claimed);
        let by = |index: u32| self.history.records.get(index as usize).map(|record| record.process);
        if by(claimed).is_none_or(|holder| by(done.record()) == Some(holder)) {
            return;
        }
        self.found.violated(Property::Q9, &[claimed, done.record(), done.commit], || {
            let (holder, process, at) = (clue.process(claimed), clue.process(done.record()), clue.at(done.commit));
            format!("{process} handed off at {at} as {worker} under token {token}, which {holder} had been given")
        });
    }

    /// Something went wrong for whoever uses this session: steps of the window that it holds may run again.
    pub(super) fn excuse(&mut self, session: Session) {
        let worker = self.session(session).worker;
        let Some(known) = self.memory.workers.get(worker) else { return };
        let (consumer, window) = (known.consumer, known.window);
        let range = self.range_of(consumer, window).filter(|range| range.holder.0 == worker);
        range.into_iter().for_each(Range::excuse);
    }
}

/// Whether a claim was given that worker's window.
pub(super) fn takes_over(reply: &Reply<Span, Span, Span>, from: WorkerId, window: (u32, u32)) -> bool {
    matches!(reply, Reply::Claimed { victim, prev, next, .. } if *victim == from && (prev.0, next.0) == window)
}

impl Worker {
    const fn new(consumer: u8) -> Self {
        Worker {
            consumer,
            phase: Phase::Free,
            token: Token(0),
            window: (0, 0),
            heartbeat: Micros(0),
            heartbeat_call: NONE,
            heartbeat_record: NONE,
            claimed: NONE,
            ended: NONE,
            before: Held { token: Token(0), window: (0, 0), claimed: NONE, ended: NONE },
            locked_by: None,
            isolated: false,
            progress: Progress::NEW,
        }
    }
}
