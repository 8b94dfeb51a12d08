//! Emits: what was told to a workflow, and what it was answered. A2, A3 and A7 from the emit's side; A5, A6.
//!
//! - **A2** An emit that resumes names an open wait of that workflow and name. One emit id of one live workflow is taken
//!   (resumes, promises, comes second) at most once: its repetition says so, answers as the first time, and does nothing;
//!   what is said to be a repetition had been taken. Broken by forgetting which emits were taken.
//! - **A3** An emit that comes second finds a promise.
//! - **A5** No emit leaves a promise while another promise of that workflow and name is there. Broken by overwriting.
//! - **A6** An emit to a workflow whose end had committed before its call is answered so, and leaves no row; one to a
//!   workflow that lived from before its call until after its return is not. Broken by not looking whether anybody is there,
//!   and by looking with an old snapshot.
//! - **A7** An emit is forged only if a wait asks for another token than it shows.
//!
//! An emit whose reply was lost is asked for again with the same id, or shows by what it has done. Until then nothing is
//! concluded about the wait or the promise that it may have ended or left.

use super::checker::{Done, Pass};
use super::clue::Clue;
use super::log::UNTOLD_TABLE;
use super::transactions::NONE;
use super::wait::{Promise, Wait, is_await};
use super::{Property, Reach};
use crate::name::{EmitId, EventId, Name, WaitToken, WorkflowId};
use crate::op::Op;
use crate::reply::{Arrival, EmitAnswer, Reply};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

/// What somebody tells a workflow.
#[derive(Clone, Copy)]
pub(super) struct Emission {
    pub(super) workflow: WorkflowId,
    pub(super) name: Name,
    pub(super) payload: u64,
    pub(super) emit: EmitId,
    pub(super) token: WaitToken,
}

/// An emit of which nobody knows what it was answered.
#[derive(Clone, Copy)]
pub(super) struct LostEmit {
    pub(super) done: Done,
    pub(super) it: Emission,
}

/// What an emit was answered.
#[derive(Clone, Copy)]
pub(super) struct Answered {
    pub(super) answer: EmitAnswer,
    pub(super) repeated: bool,
    pub(super) event: EventId,
    pub(super) table: u8,
}

#[derive(Default)]
pub(super) struct Emits {
    /// Those that were taken, by workflow and emit id, as long as the workflow lives: the answer, as far as it is known, and
    /// its record.
    pub(super) taken: BTreeMap<(u32, u32), (Option<EmitAnswer>, u32)>,
}

impl Emits {
    pub(super) fn clear(&mut self) {
        self.taken.clear();
    }
}

impl Emission {
    pub(super) fn of<D>(op: &Op<D>) -> Option<Self> {
        match *op {
            Op::Emit { workflow, name, payload, emit, token, .. } => {
                Some(Emission { workflow, name, payload, emit, token })
            }
            _ => None,
        }
    }
}

impl Pass<'_> {
    /// A committed emit.
    pub(super) fn emitted(&mut self, done: Done, it: &Emission, answered: Answered) {
        let Answered { answer, repeated, event, table } = answered;
        self.found.exercised(Property::A6);
        self.judge_life(done, it, answer);
        if repeated {
            return self.emit_repeated(done, it, answer);
        }
        if !matches!(answer, EmitAnswer::Dead | EmitAnswer::Forged) {
            self.emit_taken(done, it, answer);
        }
        match answer {
            EmitAnswer::Resumed => self.emit_resumed(done, it, event, table),
            EmitAnswer::Promised => self.promised(done, it),
            EmitAnswer::Second => self.came_second(done, it),
            EmitAnswer::Forged => self.judge_forged(done, it),
            EmitAnswer::Dead => self.found.sees(Reach::EmitDead),
        }
    }

    /// A6: is anybody there?
    fn judge_life(&mut self, done: Done, it: &Emission, answer: EmitAnswer) {
        let id = it.workflow;
        let Some(known) = self.memory.workflows.get(id.0) else {
            if self.memory.workflows.is_retired(id.0) && answer != EmitAnswer::Dead {
                self.told_the_dead(done, it, NONE, answer);
            }
            return;
        };
        let (ended, advanced) = (known.ended, known.advanced);
        match answer {
            EmitAnswer::Dead if ended == NONE && advanced < done.call => self.judge_dead_answer(done, it),
            EmitAnswer::Dead => {}
            _ if ended < done.call => self.told_the_dead(done, it, ended, answer),
            _ => {}
        }
    }

    fn told_the_dead(&mut self, done: Done, it: &Emission, ended: u32, answer: EmitAnswer) {
        let clue = Clue(self.history);
        self.found.violated(Property::A6, &[ended, done.record(), done.commit], || {
            let (workflow, emit, at) = (clue.workflow(it.workflow), it.emit, clue.at(done.record()));
            let ended = if ended == NONE { "before".into() } else { format!("at {}", clue.at(ended)) };
            format!("{workflow} had ended {ended}, and {emit} to it was answered {} at {at}", said(answer))
        });
    }

    /// Somebody was told that the workflow is dead. Whoever has ended it may have the reply still under way.
    fn judge_dead_answer(&mut self, done: Done, it: &Emission) {
        let id = it.workflow.0;
        self.settle_end(id);
        let live = self.memory.workflows.get(id).filter(|known| known.ended == NONE);
        let Some(event) = live.map(|known| known.continuation) else { return };
        if event == NONE || self.may_have_ended(event) {
            return;
        }
        let clue = Clue(self.history);
        let advanced = self.memory.workflows.get(id).map_or(NONE, |known| known.advanced);
        self.found.violated(Property::A6, &[advanced, done.record()], || {
            let (workflow, emit, at) = (clue.workflow(it.workflow), it.emit, clue.at(done.record()));
            let since = clue.at(advanced);
            format!("{workflow} lived, since {since} as {}, and {emit} to it was answered dead at {at}", EventId(event))
        });
    }

    /// Whether the workflow's end has committed, as far as anybody knows.
    pub(super) fn is_over(&self, workflow: WorkflowId) -> bool {
        match self.memory.workflows.get(workflow.0) {
            Some(known) => known.ended != NONE,
            None => self.memory.workflows.is_retired(workflow.0),
        }
    }

    fn emit_taken(&mut self, done: Done, it: &Emission, answer: EmitAnswer) {
        self.found.exercised(Property::A2);
        let key = (it.workflow.0, it.emit.0);
        let mailbox = self.memory.waits.mailbox(it.workflow, it.name);
        let is_own = |lost: &LostEmit| lost.it.emit == it.emit;
        let lost = mailbox.lost.iter().position(is_own).map(|place| mailbox.lost.swap_remove(place));
        // A lost one that was forged, or did not commit, took nothing.
        let lost = lost.filter(|lost| lost.done.commit < done.call && !mailbox.has_asked_for_token);
        let lost = lost.map(|lost| lost.done.commit);
        let known = self.memory.emits.taken.get(&key).map(|(_, record)| *record);
        if let Some(first) = known.or(lost) {
            let clue = Clue(self.history);
            self.found.violated(Property::A2, &[first, done.record(), done.commit], || {
                let (emit, workflow) = (it.emit, clue.workflow(it.workflow));
                let (before, at) = (clue.at(first), clue.at(done.record()));
                format!("{emit} to {workflow} was taken twice: at {before}, and, {}, at {at}", said(answer))
            });
        }
        if !self.is_over(it.workflow) {
            self.memory.emits.taken.entry(key).or_insert((Some(answer), done.record()));
        }
    }

    fn emit_resumed(&mut self, done: Done, it: &Emission, event: EventId, table: u8) {
        let clue = Clue(self.history);
        let arrival = Some(Arrival::Emitted { payload: it.payload });
        if !self.memory.waits.open.contains_key(&event.0) {
            self.settle_birth(self.now, event);
        }
        if !self.memory.waits.open.contains_key(&event.0) && !self.is_event(event) {
            self.find_lost_wait(self.now, event, it.workflow, it.name);
        }
        let Some(wait) = self.memory.waits.open.get(&event.0).copied() else {
            return self.nobody_waited(done, event, arrival);
        };
        if (wait.workflow, wait.name) != (it.workflow, it.name) {
            self.found.violated(Property::A2, &[wait.born, done.record()], || {
                let (own, other) = (clue.workflow(wait.workflow), clue.workflow(it.workflow));
                let (awaited, name) = (clue.name(wait.name), clue.name(it.name));
                format!("{} of {name} to {other} resumed {event}, as which {own} waits for {awaited}", it.emit)
            });
        } else if !wait.takes(it.token) {
            self.without_token(&wait, it, done, done.record());
        }
        let was_due = wait.due.is_some_and(|(_, latest)| self.memory.server_clock.at(self.history, done.call) > latest);
        let has_waited = self.was_blocked(done) && wait.commit > done.call && wait.commit != NONE;
        self.found.sees(match () {
            () if was_due => Reach::EmitWonRace,
            () if has_waited => Reach::EmitBlockedByAwait,
            () => Reach::EmitAfterAwait,
        });
        self.resume(done, event, table, arrival);
    }

    fn promised(&mut self, done: Done, it: &Emission) {
        let (workflow, name) = (it.workflow, it.name);
        self.found.exercised(Property::A5);
        let mailbox = self.memory.waits.mailbox(workflow, name);
        let wait = mailbox.wait.and_then(|id| Some((id, self.memory.waits.open.get(&id)?.commit)));
        if let Some((wait, _)) = wait.filter(|(_, commit)| *commit < done.call) {
            // The emit did not see it, so it had been resumed.
            self.settle_wait(wait);
        }
        if self.memory.waits.mailbox(workflow, name).has_timed_out {
            self.found.sees(Reach::DeadlineWonRace);
        }
        let promise = Promise { payload: it.payload, token: it.token, done, it: *it };
        if let Some(first) = self.memory.waits.mailbox(workflow, name).promise
            && self.judge_overwritten(&first, &promise)
        {
            return;
        }
        self.judge_unseen_wait(done, &promise);
        if self.is_over(workflow) {
            return;
        }
        let may_be_discarded = self.may_be_discarded(&promise);
        let mailbox = self.memory.waits.mailbox(workflow, name);
        match may_be_discarded {
            true => mailbox.lost.push(LostEmit { done, it: *it }),
            false => mailbox.promise = Some(promise),
        }
    }

    /// Whether an await that asks for another token may have thrown the promise away: one under way at the same time.
    fn may_be_discarded(&mut self, promise: &Promise) -> bool {
        let (workflow, name) = (promise.it.workflow, promise.it.name);
        let call = promise.done.call;
        let mailbox = self.memory.waits.mailbox(workflow, name);
        let is_over = mailbox.has_asked_for_token && mailbox.wait_gone >= call;
        let wait = self.open_wait(workflow, name);
        is_over || wait.is_some_and(|wait| wait.commit >= call && !wait.takes(promise.token))
    }

    /// A5: the box had a promise. True if that may have been consumed.
    fn judge_overwritten(&mut self, first: &Promise, second: &Promise) -> bool {
        let (workflow, name) = (second.it.workflow, second.it.name);
        let is_unsure = !self.memory.waits.mailbox(workflow, name).lost.is_empty();
        if is_unsure || self.is_await_lost(workflow, name) || self.is_await_under_way(workflow, name) {
            // Whoever consumes one of them tells which.
            let both = [first, second].map(|promise| LostEmit { done: promise.done, it: promise.it });
            let mailbox = self.memory.waits.mailbox(workflow, name);
            mailbox.promise = None;
            mailbox.lost.extend(both);
            return true;
        }
        let clue = Clue(self.history);
        self.found.violated(Property::A5, &[first.done.record(), second.done.record(), second.done.commit], || {
            let (workflow, name) = (clue.workflow(workflow), clue.name(name));
            let (before, at) = (clue.at(first.done.record()), clue.at(second.done.record()));
            format!(
                "{} of {name} to {workflow} was promised at {at}, and {}, promised at {before}, had not been consumed",
                second.it.emit, first.it.emit
            )
        });
        false
    }

    /// A3: a wait that the promise could have ended.
    fn judge_unseen_wait(&mut self, done: Done, promise: &Promise) {
        let mailbox = self.memory.waits.mailbox(promise.it.workflow, promise.it.name);
        let wait = mailbox.wait.and_then(|wait| self.memory.waits.open.get(&wait).copied());
        let Some(wait) = wait.filter(|wait| wait.takes(promise.token)) else { return };
        self.found.exercised(Property::A3);
        if wait.commit >= done.call {
            let both_since = Some(wait.commit.max(done.commit));
            self.memory.waits.mailbox(wait.workflow, wait.name).both_since = both_since;
        } else if !self.may_be_resumed(&wait) {
            self.lost_wakeup(&wait, promise, done.record());
        }
    }

    fn came_second(&mut self, done: Done, it: &Emission) {
        self.found.sees(Reach::EmitSecond);
        let (workflow, name) = (it.workflow, it.name);
        let mailbox = self.memory.waits.mailbox(workflow, name);
        let was_there = mailbox.promise.is_some() || mailbox.promise_gone >= done.call || !mailbox.lost.is_empty();
        if was_there || self.is_over(workflow) || self.emit_may_come(workflow, name) {
            return;
        }
        self.settle_emit(|other, answer| {
            (other.workflow, other.name) == (workflow, name) && answer == EmitAnswer::Promised
        });
        let mailbox = self.memory.waits.mailbox(workflow, name);
        if mailbox.promise.is_some() || !mailbox.lost.is_empty() {
            return;
        }
        let clue = Clue(self.history);
        self.found.violated(Property::A3, &[done.record(), done.commit], || {
            let (workflow, name, at) = (clue.workflow(workflow), clue.name(name), clue.at(done.record()));
            format!("{} of {name} to {workflow} came second at {at}, and no other was promised", it.emit)
        });
    }

    /// A7: nothing is kept of it, so a wait must have asked for another token.
    fn judge_forged(&mut self, done: Done, it: &Emission) {
        self.found.sees(Reach::EmitForged);
        self.found.exercised(Property::A7);
        let (workflow, name) = (it.workflow, it.name);
        if self.was_right_to_call_forged(done, it) || self.is_await_under_way(workflow, name) {
            return;
        }
        let wait = self.open_wait(workflow, name);
        let clue = Clue(self.history);
        let born = wait.map_or(NONE, |wait| wait.born);
        self.found.violated(Property::A7, &[born, done.record()], || {
            let (workflow, name, at) = (clue.workflow(workflow), clue.name(name), clue.at(done.record()));
            let asked = match wait.map(|wait| wait.token) {
                Some(WaitToken::NONE) => "its wait asks for no token".into(),
                Some(token) => format!("it shows {token}, as its wait asks"),
                None => "nobody waits, so nobody asks for a token".into(),
            };
            format!("{} of {name} to {workflow} was answered forged at {at}, although {asked}", it.emit)
        });
    }

    fn was_right_to_call_forged(&mut self, done: Done, it: &Emission) -> bool {
        let (workflow, name) = (it.workflow, it.name);
        let mailbox = self.memory.waits.mailbox(workflow, name);
        if mailbox.wait_gone >= done.call || self.is_over(workflow) || self.is_await_lost(workflow, name) {
            return true;
        }
        let Some(wait) = self.open_wait(workflow, name) else { return false };
        !wait.takes(it.token) || wait.commit >= done.call || self.may_be_resumed(&wait)
    }

    fn open_wait(&mut self, workflow: WorkflowId, name: Name) -> Option<Wait> {
        let id = self.memory.waits.mailbox(workflow, name).wait?;
        self.memory.waits.open.get(&id).copied()
    }

    fn emit_repeated(&mut self, done: Done, it: &Emission, answer: EmitAnswer) {
        self.found.sees(Reach::EmitRepeated);
        self.found.exercised(Property::A2);
        let key = (it.workflow.0, it.emit.0);
        if !self.memory.emits.taken.contains_key(&key) {
            self.settle_emit(|other, _| (other.workflow.0, other.emit.0) == key);
        }
        if !self.memory.emits.taken.contains_key(&key) {
            self.find_lost_emit(done, it, answer);
        }
        let clue = Clue(self.history);
        let first = self.memory.emits.taken.get(&key).copied();
        let is_right = match first {
            Some((first, _)) => first.is_none_or(|first| first == answer),
            None => self.is_over(it.workflow) || self.emit_may_come(it.workflow, it.name),
        };
        if is_right {
            return;
        }
        let record = first.map_or(NONE, |(_, record)| record);
        self.found.violated(Property::A2, &[record, done.record()], || {
            let (emit, workflow, at) = (it.emit, clue.workflow(it.workflow), clue.at(done.record()));
            let before = match first {
                Some((first, record)) => format!("was answered {} at {}", first.map_or("", said), clue.at(record)),
                None => "had not been taken before".into(),
            };
            format!("{emit} to {workflow} was answered {} at {at}, as a repetition, and {before}", said(answer))
        });
    }

    /// The repetition tells what the lost one was answered.
    fn find_lost_emit(&mut self, done: Done, it: &Emission, answer: EmitAnswer) {
        let mailbox = self.memory.waits.mailbox(it.workflow, it.name);
        let Some(place) = mailbox.lost.iter().position(|lost| lost.it.emit == it.emit) else { return };
        let lost = mailbox.lost.remove(place);
        mailbox.lost.retain(|other| other.it.emit != it.emit);
        let wait = mailbox.wait;
        self.memory.no_doubt(lost.done.call);
        let commit = if lost.done.commit == NONE { done.commit } else { lost.done.commit };
        let first = Done { commit, ..lost.done };
        self.memory.emits.taken.insert((it.workflow.0, it.emit.0), (Some(answer), first.record()));
        match answer {
            EmitAnswer::Promised if !self.is_over(it.workflow) => {
                let promise = Promise { payload: lost.it.payload, token: lost.it.token, done: first, it: lost.it };
                self.memory.waits.mailbox(it.workflow, it.name).promise = Some(promise);
            }
            EmitAnswer::Resumed => match wait {
                Some(wait) if first.xid.0 != 0 => {
                    let arrival = Some(Arrival::Emitted { payload: lost.it.payload });
                    self.resume(first, EventId(wait), UNTOLD_TABLE, arrival);
                }
                // Whoever is handed the event tells the rest.
                _ => self.memory.waits.mailbox(it.workflow, it.name).lost.push(lost),
            },
            _ => {}
        }
    }

    /// The reply to an emit is lost, and it committed, or may have.
    pub(super) fn emit_lost(&mut self, done: Done, it: &Emission) {
        if !self.is_over(it.workflow) {
            self.memory.waits.mailbox(it.workflow, it.name).lost.push(LostEmit { done, it: *it });
        }
    }

    /// What a lost emit has done shows. Should another have done it that looks the same, its answer was another.
    pub(super) fn emit_shows(&mut self, lost: &LostEmit) {
        self.memory.no_doubt(lost.done.call);
        if !self.is_over(lost.it.workflow) {
            let key = (lost.it.workflow.0, lost.it.emit.0);
            self.memory.emits.taken.entry(key).or_insert((None, lost.done.record()));
        }
    }

    /// The workflow has ended: nothing of what was told to it is kept.
    pub(super) fn mailboxes_end(&mut self, workflow: WorkflowId) {
        let (boxes, taken) = (&mut self.memory.waits.boxes, &mut self.memory.emits.taken);
        if boxes.is_empty() && taken.is_empty() {
            return;
        }
        let names: Vec<_> = boxes.range((workflow.0, 0)..=(workflow.0, u16::MAX)).map(|(key, _)| *key).collect();
        for key in names {
            boxes.remove(&key);
        }
        let emits: Vec<_> = taken.range((workflow.0, 0)..=(workflow.0, u32::MAX)).map(|(key, _)| *key).collect();
        for key in emits {
            taken.remove(&key);
        }
    }

    /// Looks ahead for the reply to an emit that was taken.
    pub(super) fn settle_emit(&mut self, is_it: impl Fn(&Emission, EmitAnswer) -> bool) {
        self.settle_one(|op, reply| match (Emission::of(op), reply) {
            (Some(it), Reply::Emitted { answer, repeated: false, .. }) => is_it(&it, *answer),
            _ => false,
        });
    }

    /// Whether an emit of this name is under way, and its reply will be lost.
    pub(super) fn emit_may_come(&self, workflow: WorkflowId, name: Name) -> bool {
        self.may_come(|op| Emission::of(op).is_some_and(|it| (it.workflow, it.name) == (workflow, name)))
    }

    /// Whether a handoff that awaits this name is under way.
    fn is_await_under_way(&self, workflow: WorkflowId, name: Name) -> bool {
        let history = self.history;
        self.is_under_way(|_, op| match op {
            Op::Handoff { decisions, .. } => {
                history.decisions(*decisions).iter().any(|decision| is_await(decision, workflow, name))
            }
            _ => false,
        })
    }
}

const fn said(answer: EmitAnswer) -> &'static str {
    match answer {
        EmitAnswer::Resumed => "resumed",
        EmitAnswer::Promised => "promised",
        EmitAnswer::Second => "second",
        EmitAnswer::Forged => "forged",
        EmitAnswer::Dead => "dead",
    }
}
