//! Waits and emits, by their definitions: A1 to A7.
//!
//! A *promise* lies in the box of a workflow and a name from the commit of the emit that left it until an await of that name
//! takes it, or finds that it has not the token that it asks for, or the workflow ends.
//!
//! - **A1** A wait is put into the log once.
//! - **A2** An emit resumes an open wait of its workflow and name; a deadline one that had one, which had passed; an await
//!   goes on at once only by a promise. An emit's id is taken once while its workflow lives, a repetition answers as it did,
//!   and what was taken is kept. What arrives says how the wait ended.
//! - **A3** No emit leaves a promise while a wait is open that would take it, no await opens a wait while such a promise
//!   lies there; at the end no such two lie side by side, and each promise has its row. Who comes second finds one.
//! - **A4** At the end each open wait of a live workflow has its row, and each row is of one.
//! - **A5** No emit leaves a promise where one lies.
//! - **A6** Whoever emits to a workflow that had ended before is told so, and nobody else is; at the end nothing is kept for
//!   one that has ended.
//! - **A7** A wait that asks for a token is resumed by who shows it; forged is called only what does not.

use super::act::{Act, NONE};
use super::court::Court;
use super::facts::Facts;
use super::mint::{Kind, Mint};
use crate::name::{EmitId, EventId, Micros, Name, WaitToken, WorkflowId};
use crate::op::{Decision, Op};
use crate::property::Property;
use crate::reply::{EmitAnswer, Reply};
use crate::state::BoxContent;
use alloc::format;
use alloc::vec::Vec;

/// An emit, with what it was answered.
#[derive(Clone, Copy)]
pub(super) struct Emitted {
    act: Act,
    workflow: WorkflowId,
    name: Name,
    payload: u64,
    emit: EmitId,
    token: WaitToken,
    answer: EmitAnswer,
    repeated: bool,
    event: EventId,
}

impl super::act::Account<'_> {
    fn emits(&self) -> Vec<Emitted> {
        let emits = self.committed().filter_map(|act| match (act.op, act.reply) {
            (
                Op::Emit { workflow, name, payload, emit, token, .. },
                Some(Reply::Emitted { answer, repeated, event, .. }),
            ) => Some(Emitted { act: *act, workflow, name, payload, emit, token, answer, repeated, event }),
            _ => None,
        });
        emits.collect()
    }

    /// The promise that an await finds which goes on at once: of those left before it, the last.
    pub(super) fn promise_taken(&self, wait: &Mint, by: &Act) -> Option<(u32, u64)> {
        let decision = wait.decision?;
        let promised = self.emits().into_iter().filter(|it| it.answer == EmitAnswer::Promised && !it.repeated);
        let own = promised.filter(|it| (it.workflow, it.name) == (decision.workflow, decision.name));
        own.filter(|it| it.act.commit < by.commit).map(|it| (it.act.commit, it.payload)).next_back()
    }
}

pub(super) fn judge(facts: &Facts<'_>, court: &mut Court) {
    let boxes = Boxes { facts, emits: facts.account.emits() };
    boxes.resumed(court);
    boxes.delivered(court);
    boxes.taken(court);
    boxes.met(court);
    boxes.overwritten(court);
    boxes.alive(court);
    boxes.forged(court);
    boxes.rows(court);
}

struct Boxes<'f, 'h> {
    facts: &'f Facts<'h>,
    emits: Vec<Emitted>,
}

impl Boxes<'_, '_> {
    fn waits(&self) -> impl Iterator<Item = (&Mint, Decision)> {
        let waits = self.facts.mints.iter().filter(|mint| mint.kind == Kind::Wait);
        waits.filter_map(|mint| Some((mint, mint.decision?)))
    }

    /// The call and the commit of what ended it; none while it is open.
    fn closed(&self, id: EventId) -> (u32, u32) {
        let appearance = self.facts.appearance(id).map(|it| it.act);
        let ended = self.facts.ending(id).map(|it| it.act);
        let first = appearance.into_iter().chain(ended).min_by_key(|act| act.commit);
        first.map_or((NONE, NONE), |act| (act.commit_call, act.commit))
    }

    fn end_of(&self, workflow: WorkflowId) -> (u32, u32) {
        self.facts.end_of(workflow).map_or((NONE, NONE), |end| (end.act.commit_call, end.act.commit))
    }

    fn promises(&self) -> impl DoubleEndedIterator<Item = &Emitted> {
        self.emits.iter().filter(|it| it.answer == EmitAnswer::Promised && !it.repeated)
    }

    /// The call and the commit of what took a promise out of its box.
    fn left(&self, promise: &Emitted) -> (u32, u32) {
        let of_box =
            self.waits().filter(|(_, decision)| (decision.workflow, decision.name) == (promise.workflow, promise.name));
        let takers = of_box.filter(|(mint, decision)| {
            let is_after = mint.act.commit > promise.act.commit;
            let goes_on = self.closed(mint.id).1 == mint.act.commit;
            is_after && (goes_on || !takes(decision, promise.token))
        });
        let taken = takers.map(|(mint, _)| (mint.act.commit_call.min(mint.act.call), mint.act.commit));
        taken.chain([self.end_of(promise.workflow)]).min_by_key(|(_, commit)| *commit).unwrap_or((NONE, NONE))
    }

    fn resumed(&self, court: &mut Court) {
        let (facts, account) = (self.facts, &self.facts.account);
        for (mint, decision) in self.waits() {
            let ways: Vec<Act> = facts.appearances.iter().filter(|it| it.id == mint.id).map(|it| it.act).collect();
            if ways.len() > 1 {
                court.broken(Property::A1, format!("{} was resumed twice", mint.id));
            }
            let Some(act) = ways.first() else { continue };
            match act.op {
                Op::ExpireWaits { .. } => {
                    let earliest = account.times_of(&mint.act).0.0.saturating_add(decision.delay.0);
                    if decision.delay == Micros(0) || account.times_of(act).1.0 < earliest {
                        court.broken(Property::A2, format!("{} timed out before its deadline", mint.id));
                    }
                }
                Op::Handoff { .. } => {
                    let mut own = self.promises().filter(|it| {
                        (it.workflow, it.name) == (decision.workflow, decision.name) && it.act.commit < act.commit
                    });
                    let found = own.rfind(|it| self.left(it).1 == act.commit);
                    match found {
                        None => court.missing(account, Property::A2, format!("{} went on by no promise", mint.id)),
                        Some(it) if !takes(&decision, it.token) => {
                            court.broken(Property::A7, format!("{} took a promise without its token", mint.id));
                        }
                        Some(_) => {}
                    }
                }
                _ => {}
            }
        }
        for it in self.emits.iter().filter(|it| it.answer == EmitAnswer::Resumed && !it.repeated) {
            let wait = self.waits().find(|(mint, _)| mint.id == it.event);
            match wait {
                None if facts.appearance(it.event).is_some() => {
                    court.broken(Property::A1, format!("{} was resumed, and was an event before", it.event));
                }
                None => court.missing(account, Property::A2, format!("{} was resumed, and is no wait", it.event)),
                Some((_, decision)) if (decision.workflow, decision.name) != (it.workflow, it.name) => {
                    court.broken(Property::A2, format!("{} was resumed by an emit to another", it.event));
                }
                Some((_, decision)) if !takes(&decision, it.token) => {
                    court.broken(Property::A7, format!("{} was resumed without its token", it.event));
                }
                Some(_) => {}
            }
        }
        for act in account.committed() {
            let (Op::ExpireWaits { .. }, Some(Reply::Expired { resumed, .. })) = (act.op, act.reply) else { continue };
            for id in account.history.ids(resumed) {
                let mint = facts.mint(EventId(*id));
                match mint.map(|mint| mint.kind) {
                    Some(Kind::Wait | Kind::Join) => {}
                    Some(_) if facts.appearance(EventId(*id)).is_some_and(|it| it.act.commit < act.commit) => {
                        court.broken(Property::A1, format!("e{id} was resumed, and was an event before"));
                    }
                    _ => court.missing(account, Property::A2, format!("e{id} was resumed, and is no wait")),
                }
            }
        }
    }

    /// What is delivered of a wait says how it ended.
    fn delivered(&self, court: &mut Court) {
        for event in self.facts.deliveries.iter().flat_map(|delivery| &delivery.events) {
            let known = self.facts.appearance(event.id).filter(|_| self.waits().any(|(mint, _)| mint.id == event.id));
            if known.is_some_and(|known| known.arrival != event.arrival) {
                court.missing(&self.facts.account, Property::A2, format!("{} arrived otherwise", event.id));
            }
        }
    }

    /// The ids of emits.
    fn taken(&self, court: &mut Court) {
        let is_taking = |it: &&Emitted| !it.repeated && !matches!(it.answer, EmitAnswer::Dead | EmitAnswer::Forged);
        for (place, it) in self.emits.iter().enumerate() {
            let is_own = |other: &&Emitted| (other.workflow, other.emit) == (it.workflow, it.emit);
            let end = self.end_of(it.workflow).1;
            let first =
                self.emits[..place].iter().filter(is_taking).find(is_own).filter(|first| first.act.commit < end);
            match (it.repeated, first) {
                (false, Some(_)) if is_taking(&it) => {
                    court.broken(Property::A2, format!("{} to {} was taken twice", it.emit, it.workflow));
                }
                (true, Some(first)) if first.answer != it.answer => {
                    court.broken(Property::A2, format!("{} to {} was answered otherwise", it.emit, it.workflow));
                }
                (true, None) if end > it.act.call => {
                    let beside = self.emits.iter().filter(is_taking).find(is_own);
                    if beside.is_none_or(|beside| beside.act.call > it.act.ret) {
                        let sentence = format!("{} to {} is said to be repeated", it.emit, it.workflow);
                        court.missing(&self.facts.account, Property::A2, sentence);
                    }
                }
                _ => {}
            }
        }
    }

    /// A wait and a promise for it.
    fn met(&self, court: &mut Court) {
        for (mint, decision) in self.waits() {
            let (closing, closed) = self.closed(mint.id);
            for promise in self.promises() {
                let is_own = (decision.workflow, decision.name) == (promise.workflow, promise.name);
                if !is_own || !takes(&decision, promise.token) || closed == mint.act.commit {
                    continue;
                }
                let is_unseen_wait = mint.act.commit < promise.act.call && promise.act.commit < closing;
                let is_unseen_promise = promise.act.commit < mint.act.call && self.left(promise).0 > mint.act.commit;
                // Neither has seen the other, and both are there when somebody else comes, or at the end.
                let since = mint.act.commit.max(promise.act.commit);
                let both_end = closing.min(self.left(promise).0);
                let is_end = both_end == NONE && self.facts.account.history.state.is_some();
                let are_both = is_end || (closing != NONE && since < closing && self.left(promise).1 > closed);
                if is_unseen_wait || is_unseen_promise || are_both {
                    court.missing(
                        &self.facts.account,
                        Property::A3,
                        format!("{} waits beside a promise for it", mint.id),
                    );
                }
            }
        }
        for it in self.emits.iter().filter(|it| it.answer == EmitAnswer::Second && !it.repeated) {
            let mut promises = self.promises().filter(|other| (other.workflow, other.name) == (it.workflow, it.name));
            let is_there =
                promises.any(|other| other.act.commit_call < it.act.ret && self.left(other).1 >= it.act.call);
            if !is_there && self.end_of(it.workflow).1 > it.act.commit {
                court.missing(&self.facts.account, Property::A3, format!("{} came second to nobody", it.emit));
            }
        }
    }

    fn overwritten(&self, court: &mut Court) {
        let promises: Vec<&Emitted> = self.promises().collect();
        for (place, it) in promises.iter().enumerate() {
            let of_box =
                promises[..place].iter().filter(|other| (other.workflow, other.name) == (it.workflow, it.name));
            for other in of_box.filter(|other| self.left(other).0 > it.act.commit) {
                let sentence = format!("{} was left beside {}", it.emit, other.emit);
                court.missing(&self.facts.account, Property::A5, sentence);
            }
        }
    }

    fn alive(&self, court: &mut Court) {
        for it in &self.emits {
            let begun = self.facts.mints.iter().find(|mint| mint.begins && mint.workflow == it.workflow);
            let (ending, ended) = self.end_of(it.workflow);
            match it.answer {
                EmitAnswer::Dead
                    if begun.is_some_and(|begun| begun.act.commit < it.act.call) && ending > it.act.ret =>
                {
                    let sentence = format!("{} to {} was answered dead", it.emit, it.workflow);
                    court.missing(&self.facts.account, Property::A6, sentence);
                }
                EmitAnswer::Dead => {}
                _ if ended < it.act.call => {
                    court.broken(Property::A6, format!("{} to {}, which had ended, was not", it.emit, it.workflow));
                }
                _ => {}
            }
        }
    }

    fn forged(&self, court: &mut Court) {
        for it in self.emits.iter().filter(|it| it.answer == EmitAnswer::Forged) {
            let mut own =
                self.waits().filter(|(_, decision)| (decision.workflow, decision.name) == (it.workflow, it.name));
            let is_right = own.any(|(mint, decision)| {
                let was_open = mint.act.call < it.act.ret && self.closed(mint.id).1 >= it.act.call;
                was_open && !takes(&decision, it.token)
            });
            if !is_right && self.end_of(it.workflow).1 > it.act.call {
                let sentence = format!("{} to {} was called forged", it.emit, it.workflow);
                court.missing(&self.facts.account, Property::A7, sentence);
            }
        }
    }

    fn rows(&self, court: &mut Court) {
        let (facts, account) = (self.facts, &self.facts.account);
        let Some(state) = &account.history.state else { return };
        for row in &state.boxes {
            let is_wait = matches!(row.content, BoxContent::Wait { .. });
            if self.end_of(row.workflow).1 != NONE {
                let property = if is_wait { Property::A4 } else { Property::A6 };
                court.missing(account, property, format!("something is kept for {}, which has ended", row.workflow));
                continue;
            }
            match row.content {
                BoxContent::Wait { event, sequence, step, state, .. } => {
                    let open = self.waits().find(|(mint, _)| mint.id == event && self.closed(event).1 == NONE);
                    let is_same = open.is_some_and(|(mint, decision)| {
                        (mint.workflow, decision.name, mint.step, mint.state) == (row.workflow, row.name, step, state)
                            && mint.sequence == Some(sequence)
                    });
                    if !is_same {
                        court.missing(account, Property::A4, format!("the row of {event} is of no wait"));
                    }
                    let has_token = open.is_some_and(|(_, decision)| decision.token != WaitToken::NONE);
                    if is_same && has_token != row.token_hash.is_some() {
                        court.missing(account, Property::A7, format!("the row of {event} forgot whether it asks"));
                    }
                }
                BoxContent::Promise { payload } => {
                    let own = |it: &&Emitted| (it.workflow, it.name, it.payload) == (row.workflow, row.name, payload);
                    let is_known = self.promises().filter(own).any(|it| self.left(it).1 == NONE);
                    let is_begun = facts.mints.iter().any(|mint| mint.begins && mint.workflow == row.workflow);
                    if !is_known && is_begun {
                        court.missing(account, Property::A2, format!("{payload} is promised by nobody"));
                    }
                }
            }
        }
        for (mint, decision) in self.waits() {
            let is_kept = |content: &BoxContent| matches!(content, BoxContent::Wait { event, .. } if *event == mint.id);
            let is_open = self.closed(mint.id).1 == NONE && self.end_of(decision.workflow).1 == NONE;
            if is_open && !state.boxes.iter().any(|row| is_kept(&row.content)) {
                court.missing(account, Property::A4, format!("{} waits, without a row", mint.id));
            }
        }
        for it in self.promises().filter(|it| self.left(it).1 == NONE) {
            let is_promise = |content: &BoxContent| matches!(content, BoxContent::Promise { .. });
            let mut rows = state.boxes.iter().filter(|row| (row.workflow, row.name) == (it.workflow, it.name));
            if !rows.any(|row| is_promise(&row.content)) {
                court.missing(account, Property::A3, format!("the promise of {} is gone", it.emit));
            }
        }
        self.emit_rows(court, state);
    }

    fn emit_rows(&self, court: &mut Court, state: &crate::state::State) {
        let account = &self.facts.account;
        for row in &state.emits {
            if self.end_of(row.workflow).1 != NONE {
                let sentence = format!("{} is kept for {}, which has ended", row.emit, row.workflow);
                court.missing(account, Property::A6, sentence);
                continue;
            }
            let mut first =
                self.emits.iter().filter(|it| !it.repeated && (it.workflow, it.emit) == (row.workflow, row.emit));
            let is_taken = |it: &&Emitted| !matches!(it.answer, EmitAnswer::Dead | EmitAnswer::Forged);
            if first.find(is_taken).is_some_and(|first| first.answer != row.answer) {
                court.missing(account, Property::A2, format!("{} is kept as {:?}", row.emit, row.answer));
            }
        }
        for it in self.emits.iter().filter(|it| !matches!(it.answer, EmitAnswer::Dead | EmitAnswer::Forged)) {
            let has_row = state.emits.iter().any(|row| (row.workflow, row.emit) == (it.workflow, it.emit));
            let is_begun = self.facts.mints.iter().any(|mint| mint.begins && mint.workflow == it.workflow);
            if !has_row && is_begun && self.end_of(it.workflow).1 == NONE {
                court.missing(account, Property::A2, format!("{} was taken, and is not kept", it.emit));
            }
        }
    }
}

const fn takes(decision: &Decision, shown: WaitToken) -> bool {
    decision.token.0 == WaitToken::NONE.0 || decision.token.0 == shown.0
}
