//! The rows of boxes, emits and joins at the end: A4, J5 and J6, and the parts of A2, A3, A6, A7 and J3 that look at them.
//!
//! The definitions stand where the nouns do: [`wait`](super::wait), [`emit`](super::emit), [`join`](super::join).

use super::Property;
use super::checker::Pass;
use super::clue::Clue;
use super::join::Join;
use super::transactions::NONE;
use crate::name::{EmitId, EventId, Name, Step, WaitToken, WorkflowId};
use crate::reply::ChildResult;
use crate::state::{BoxContent, BoxRow, EmitRow, JoinRow, State};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;

impl Pass<'_> {
    /// A wait whose handoff had its reply lost is known by its row.
    pub(super) fn find_waits(&mut self, state: &State) {
        let index = self.history.records.len() as u32;
        for row in &state.boxes {
            if let BoxContent::Wait { event, .. } = row.content
                && !self.is_given_out(event)
            {
                self.find_lost_wait(index, event, row.workflow, row.name);
            }
        }
    }

    pub(super) fn compare_boxes(&mut self, state: &State) {
        state.boxes.iter().for_each(|row| self.compare_box(row));
        state.emits.iter().for_each(|row| self.compare_emit(row));
        self.compare_waits(state);
        self.compare_promises(state);
        self.compare_taken(state);
    }

    fn compare_box(&mut self, row: &BoxRow) {
        let clue = Clue(self.history);
        self.found.exercised(Property::A4);
        if self.is_over(row.workflow) {
            let is_wait = matches!(row.content, BoxContent::Wait { .. });
            let property = if is_wait { Property::A4 } else { Property::A6 };
            let ended = self.memory.workflows.get(row.workflow.0).map_or(NONE, |known| known.ended);
            return self.found.violated(property, &[ended], || {
                let (workflow, name) = (clue.workflow(row.workflow), clue.name(row.name));
                let what = if is_wait { "a wait" } else { "a promise" };
                format!("{workflow} has ended, and {what} of its for {name} is kept at the end")
            });
        }
        match row.content {
            BoxContent::Wait { event, .. } => self.compare_wait(row, event),
            BoxContent::Promise { payload } => self.compare_promise(row, payload),
        }
    }

    fn compare_wait(&mut self, row: &BoxRow, id: EventId) {
        let clue = Clue(self.history);
        let Some(wait) = self.memory.waits.open.get(&id.0).copied() else {
            let is_lost = self.has_lost_await();
            if !is_lost {
                self.found.violated(Property::A4, &[], || {
                    let (workflow, name) = (clue.workflow(row.workflow), clue.name(row.name));
                    format!(
                        "a wait of {workflow} for {name}, as {id}, is kept at the end, and no workflow waits as that"
                    )
                });
            }
            return;
        };
        let BoxContent::Wait { sequence, step, state, .. } = row.content else { return };
        let is_same = (wait.workflow, wait.name, wait.sequence, wait.step, wait.state)
            == (row.workflow, row.name, sequence, step.0, state);
        let is_own = self.memory.workflows.get(wait.workflow.0).is_none_or(|known| known.continuation == id.0);
        if !is_same || !is_own {
            self.found.violated(Property::A4, &[wait.born], || {
                let (workflow, name, step) = (clue.workflow(wait.workflow), clue.name(wait.name), Step(wait.step));
                let kept = (clue.workflow(row.workflow), clue.name(row.name), clue.step(step));
                format!(
                    "{workflow} waits for {name} as {id}, and that is kept at the end as {} for {}, step {sequence} {} ({state})",
                    kept.0, kept.1, kept.2
                )
            });
        }
        if row.token_hash.is_some() != (wait.token != WaitToken::NONE) {
            self.found.violated(Property::A7, &[wait.born], || {
                let (workflow, name) = (clue.workflow(wait.workflow), clue.name(wait.name));
                format!("{workflow} waits for {name}, and whether it asks for a token is not what is kept at the end")
            });
        }
    }

    fn compare_promise(&mut self, row: &BoxRow, payload: u64) {
        let clue = Clue(self.history);
        let mailbox = self.memory.waits.boxes.get(&(row.workflow.0, row.name.0));
        let is_known = mailbox.is_some_and(|mailbox| {
            let is_kept = mailbox.promise.is_some_and(|promise| promise.payload == payload);
            is_kept || mailbox.lost.iter().any(|lost| lost.it.payload == payload)
        });
        if is_known || self.memory.workflows.get(row.workflow.0).is_none() {
            return;
        }
        self.found.violated(Property::A2, &[], || {
            let (workflow, name) = (clue.workflow(row.workflow), clue.name(row.name));
            format!("{payload} is promised to {workflow} as {name} at the end, and no emit has left it there")
        });
    }

    /// A4: each wait that is open has its row. A3: none has a promise beside it.
    fn compare_waits(&mut self, state: &State) {
        let clue = Clue(self.history);
        let rows: BTreeSet<u32> = state.boxes.iter().filter_map(waits_as).collect();
        for (id, wait) in self.memory.waits.open.clone() {
            if self.is_over(wait.workflow) || self.may_be_resumed(&wait) {
                continue;
            }
            self.found.exercised(Property::A4);
            let mailbox = self.memory.waits.boxes.get(&(wait.workflow.0, wait.name.0));
            let promise = mailbox.and_then(|mailbox| mailbox.promise).filter(|promise| wait.takes(promise.token));
            if let Some(promise) = promise {
                self.lost_wakeup(&wait, &promise, NONE);
            }
            if !rows.contains(&id) {
                self.found.violated(Property::A4, &[wait.born, wait.commit], || {
                    let (workflow, name) = (clue.workflow(wait.workflow), clue.name(wait.name));
                    let (id, at) = (EventId(id), clue.at(wait.commit));
                    format!("{workflow} waits for {name} as {id} since {at}, and has no row in a box at the end")
                });
            }
        }
    }

    /// A3: a promise leaves by being consumed, or discarded, or with its workflow.
    fn compare_promises(&mut self, state: &State) {
        let clue = Clue(self.history);
        let is_promise = |row: &&BoxRow| matches!(row.content, BoxContent::Promise { .. });
        let rows: BTreeSet<(u32, u16)> =
            state.boxes.iter().filter(is_promise).map(|row| (row.workflow.0, row.name.0)).collect();
        let gone =
            self.memory.waits.boxes.iter().filter(|(key, mailbox)| mailbox.lost.is_empty() && !rows.contains(key));
        let gone: alloc::vec::Vec<_> = gone.filter_map(|(key, mailbox)| Some((*key, mailbox.promise?))).collect();
        for ((workflow, name), promise) in gone {
            let (workflow, name) = (WorkflowId(workflow), Name(name));
            if self.is_over(workflow) || self.is_await_lost(workflow, name) {
                continue;
            }
            self.found.violated(Property::A3, &[promise.done.record(), promise.done.commit], || {
                let (emit, payload, at) = (promise.it.emit, promise.payload, clue.at(promise.done.record()));
                let (workflow, name) = (clue.workflow(workflow), clue.name(name));
                format!("{payload} was promised to {workflow} as {name} at {at} ({emit}), nobody has consumed it, and it is gone at the end")
            });
        }
    }

    fn compare_emit(&mut self, row: &EmitRow) {
        let clue = Clue(self.history);
        if self.is_over(row.workflow) {
            let ended = self.memory.workflows.get(row.workflow.0).map_or(NONE, |known| known.ended);
            return self.found.violated(Property::A6, &[ended], || {
                format!("{} has ended, and {} to it is kept at the end", clue.workflow(row.workflow), row.emit)
            });
        }
        let known = self.memory.emits.taken.get(&(row.workflow.0, row.emit.0)).copied();
        let Some((Some(answer), record)) = known else { return };
        if answer != row.answer {
            self.found.violated(Property::A2, &[record], || {
                let (emit, workflow, at) = (row.emit, clue.workflow(row.workflow), clue.at(record));
                format!("{emit} to {workflow} was answered {answer:?} at {at}, and is kept as {:?}", row.answer)
            });
        }
    }

    /// A2: what was taken is known as such for as long as the workflow lives.
    fn compare_taken(&mut self, state: &State) {
        let clue = Clue(self.history);
        let rows: BTreeSet<(u32, u32)> = state.emits.iter().map(|row| (row.workflow.0, row.emit.0)).collect();
        let is_live = |workflow: u32| self.memory.workflows.get(workflow).is_some_and(|known| known.ended == NONE);
        let mut taken = self.memory.emits.taken.iter();
        let gone =
            taken.find(|(key, _)| !rows.contains(key) && is_live(key.0)).map(|(key, (_, record))| (*key, *record));
        if let Some(((workflow, emit), record)) = gone {
            self.found.violated(Property::A2, &[record], || {
                let (workflow, emit, at) = (clue.workflow(WorkflowId(workflow)), EmitId(emit), clue.at(record));
                format!("{emit} to {workflow} was taken at {at}, and is not kept at the end: it could be taken again")
            });
        }
    }

    pub(super) fn compare_joins(&mut self, state: &State) {
        state.joins.iter().for_each(|row| self.compare_join(row));
        let rows: BTreeSet<u32> = state.joins.iter().map(|row| row.join.0).collect();
        let is_gone = |id: u32, join: &Join| join.ended < join.total() && !join.is_vague && !rows.contains(&id);
        let gone = self.memory.joins.open().find(|(id, join)| is_gone(*id, join));
        let gone = gone.map(|(id, join)| (EventId(id), join.workflow, join.born));
        if let Some((id, workflow, born)) = gone {
            let clue = Clue(self.history);
            self.found.violated(Property::J6, &[born], || {
                let (workflow, at) = (clue.workflow(workflow), clue.at(born));
                format!("{workflow} joins its children as {id} since {at}, and has no row of a join at the end")
            });
        }
        self.compare_results(&state.results);
    }

    fn compare_join(&mut self, row: &JoinRow) {
        let clue = Clue(self.history);
        let id = row.join;
        self.found.exercised(Property::J6);
        let known = self.memory.joins.by_id.get(&id.0);
        let Some(join) = known else {
            if !self.memory.joins.has_lost_spawn {
                self.found.violated(Property::D2, &[], || {
                    let workflow = clue.workflow(row.workflow);
                    format!("{workflow} has an open join {id} at the end, and no committed transaction opened it")
                });
            }
            return;
        };
        let was = (join.workflow, join.sequence, join.step, join.state, join.total());
        let (born, ended, resumed) = (join.born, join.ended, join.resumed);
        let is = (row.workflow, row.sequence, row.step.0, row.state, row.total);
        if was != is {
            self.found.violated(Property::J6, &[born], || {
                let told = |(workflow, sequence, step, state, total): (WorkflowId, u32, u16, u64, u32)| {
                    let (workflow, step) = (clue.workflow(workflow), clue.step(Step(step)));
                    format!("{workflow}, {total} children, then step {sequence} {step} ({state})")
                };
                format!("the join {id} was opened as {}, and is kept at the end as {}", told(was), told(is))
            });
        }
        if join.is_vague {
            return;
        }
        if let Some(resumed) = resumed {
            return self.found.violated(Property::J1, &[resumed], || {
                let (workflow, at) = (clue.workflow(was.0), clue.at(resumed));
                format!("{workflow} went on from its join {id} at {at}, and the join is open at the end")
            });
        }
        if ended >= was.4 {
            self.not_resumed(id, ": it is open at the end");
        }
        if row.ended != ended {
            self.found.violated(Property::J5, &[born], || {
                let (workflow, kept) = (clue.workflow(was.0), row.ended);
                format!("{ended} children of {workflow} have ended, and its join {id} has counted {kept} at the end")
            });
        }
    }

    /// J5: what the children left of each join whose step is still to be handed off.
    fn compare_results(&mut self, rows: &[ChildResult]) {
        let clue = Clue(self.history);
        let kept: BTreeMap<(u32, u16), &ChildResult> = rows.iter().map(|row| ((row.join.0, row.index), row)).collect();
        let mut wrong = None;
        for (id, join) in self.memory.joins.by_id.iter().filter(|(_, join)| !join.is_vague) {
            for (left, index) in join.left.iter().zip(0u16..) {
                let row = kept.get(&(*id, index));
                let is_same = match (left, row) {
                    (Some(left), Some(row)) => (left.outcome, left.result) == (row.outcome, row.result),
                    (None, None) => true,
                    _ => false,
                };
                if !is_same && wrong.is_none() {
                    wrong = Some((*left, row.copied().copied(), EventId(*id), index, join.workflow, join.born));
                }
            }
        }
        let Some((left, row, id, index, workflow, born)) = wrong else { return };
        self.found.violated(Property::J5, &[born], || {
            let workflow = clue.workflow(workflow);
            let left = match left {
                Some(left) => format!("ended {:?} with {}", left.outcome, left.result).to_lowercase(),
                None => "has not ended".into(),
            };
            let row = match row {
                Some(row) => format!("as {:?} with {}", row.outcome, row.result).to_lowercase(),
                None => "without a result".into(),
            };
            format!("child {index} of {workflow} (join {id}) {left}, and is kept {row} at the end")
        });
    }

    /// What rows cannot tell while somebody's end is in doubt.
    pub(super) fn unknown_rows(&mut self) {
        let (waits, joins) = (&self.memory.waits, &self.memory.joins);
        if !waits.boxes.is_empty() || !waits.open.is_empty() {
            [Property::A3, Property::A4].into_iter().for_each(|property| self.found.unknown(property));
        }
        if !joins.by_id.is_empty() {
            [Property::J3, Property::J5].into_iter().for_each(|property| self.found.unknown(property));
        }
    }
}

fn waits_as(row: &BoxRow) -> Option<u32> {
    match row.content {
        BoxContent::Wait { event, .. } => Some(event.0),
        BoxContent::Promise { .. } => None,
    }
}
