//! What is delivered of the log, page by page. Q2, Q5, Q6, and D2 for events.
//!
//! - **Q5** A window's events are those visible in the snapshot at its end and not in the one at its start. Each event
//!   delivered is looked at; a read that came to the end of the window, page by page, is counted as well. Broken by
//!   dropping the transactions that were in progress, and by looking into some of the tables only.
//! - **Q2** An event that is delivered was appended by a committed transaction, with that payload. **D2** is the same
//!   seen from the transaction: what is delivered, or lies in a table at the end, does not come from one that aborted.
//! - **Q6** Reading the same window to its end again gives the same events. Broken by a rotation, or a retry, that
//!   changes a window.

use super::Property;
use super::checker::Pass;
use super::clue::Clue;
use super::content::Content;
use super::log::{Entry, UNTOLD};
use super::transactions::NONE;
use crate::history::History;
use crate::name::{EventId, Queue as QueueName, Session, Step, Tick, Token, WorkerId};
use crate::op::Op;
use crate::record::Span;
use crate::reply::{Event, Reply};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Pass<'_> {
    /// A page of a window.
    pub(super) fn read(
        &mut self,
        index: u32,
        session: Session,
        (worker, token): (WorkerId, Token),
        (after, limit): (EventId, u32),
        span: Span,
    ) {
        let history = self.history;
        let events = history.events(span);
        let Some(window) = self.window_of(session, worker, token) else {
            return events.iter().for_each(|event| self.delivered(index, event, None));
        };
        for event in events {
            self.delivered(index, event, Some(window));
        }
        self.page_read(index, worker, token, (after, limit), events);
    }

    /// The event of an isolated window that is handed out, if there is one left.
    pub(super) fn read_alone(&mut self, index: u32, session: Session, (worker, token): (WorkerId, Token), span: Span) {
        let history = self.history;
        let window = self.window_of(session, worker, token);
        history.events(span).iter().for_each(|event| self.delivered(index, event, window));
    }

    /// One event, in a page of a window (queue, start, end), or of a window that is not known.
    fn delivered(&mut self, index: u32, event: &Event, window: Option<(u8, u32, u32)>) {
        self.found.exercised(Property::Q2);
        if self.memory.events.get(event.id.0).is_none() && self.memory.events.is_retired(event.id.0) {
            return self.delivered_long_after(index, event, window);
        }
        if self.memory.events.get(event.id.0).is_none() && !self.meet(index, event, window.map(|(queue, ..)| queue)) {
            return;
        }
        let is_told = self.memory.arrivals.agree(event);
        let Some(known) = self.memory.events.get_mut(event.id.0) else { return };
        if known.sequence == UNTOLD {
            known.sequence = event.sequence;
        }
        let same = known.workflow == event.workflow
            && known.state == event.state
            && known.sequence == event.sequence
            && known.step == event.step.0
            && known.attempt == event.attempt
            && is_told
            && (known.xid == event.xid || known.xid.0 == 0);
        let known = *known;
        if !same {
            self.differs(index, event, &known);
        }
        if event.workflow.0 != 0 {
            self.found.exercised(Property::W7);
        }
        if known.is_timer {
            self.found.exercised(Property::T5);
        }
        if let Some((queue, prev, next)) = window {
            self.found.exercised(Property::Q5);
            if known.queue != queue || known.tick <= prev || known.tick > next {
                self.outside(index, event, &known, (queue, prev, next));
            }
        }
    }

    /// All who were to have it were done with it, and so with every window that it was in, when the call was made.
    #[cold]
    fn delivered_long_after(&mut self, index: u32, event: &Event, window: Option<(u8, u32, u32)>) {
        let clue = Clue(self.history);
        let born = clue.birth_of(event.id).unwrap_or(NONE);
        self.found.violated(Property::Q5, &[born, index], || {
            let (id, at) = (event.id, clue.at(index));
            let place = window
                .map_or_else(String::new, |(_, prev, next)| format!(" in the window ({},{}]", Tick(prev), Tick(next)));
            format!("{id} was delivered at {at}{place}, and all windows with it were finished")
        });
    }

    /// Not as the ticks say; by the definition itself it may belong there all the same, if the ticks contradict each
    /// other, and that is then another property's.
    fn outside(&mut self, index: u32, event: &Event, known: &Entry, (queue, prev, next): (u8, u32, u32)) {
        let (history, clue) = (self.history, Clue(self.history));
        let log = &self.memory.queues[queue as usize];
        let (Some(start), Some(end)) = (log.tick(prev), log.tick(next)) else { return };
        if !start.is_told || !end.is_told || known.xid.0 == 0 {
            return;
        }
        let (at_start, at_end) = (start.sees(history, known.xid), end.sees(history, known.xid));
        if known.queue == queue && at_end && !at_start {
            return;
        }
        let records = [known.born, start.commit, end.commit, index];
        self.found.violated(Property::Q5, &records, || {
            let (id, xid) = (event.id, known.xid);
            let why = match (known.queue == queue, at_start) {
                (false, _) => format!("belongs to {}", QueueName(known.queue)),
                (true, true) => format!("was visible at its start already ({xid})"),
                (true, false) => format!("is not visible at its end ({xid})"),
            };
            let (prev, next, at) = (Tick(prev), Tick(next), clue.at(index));
            format!("{id} was delivered at {at} in the window ({prev},{next}], but {why}")
        });
    }

    /// An event is not delivered as it was appended: by what differs.
    fn differs(&mut self, index: u32, event: &Event, known: &Entry) {
        let clue = Clue(self.history);
        let (at, born) = (clue.at(index), known.born);
        let id = event.id;
        let arrival = self.memory.arrivals.of(id).unwrap_or(event.arrival);
        let (was, is) = (Content::of_entry(known, arrival), Content::of(event));
        if known.is_timer && was != is {
            self.not_intact(id, born, index, (&was, &is), "arrived");
        } else if known.attempt != event.attempt {
            self.found.violated(Property::Q11, &[born, index], || {
                format!(
                    "{id} was appended as attempt {}, and arrived at {at} as attempt {}",
                    known.attempt, event.attempt
                )
            });
        }
        if !known.is_timer && !self.memory.arrivals.agree(event) {
            self.arrived_otherwise(index, event, known);
        }
        if known.xid != event.xid && known.xid.0 != 0 {
            self.found.violated(Property::W2, &[born, index], || {
                let (delivered, appended) = (event.xid, known.xid);
                format!("{id} was appended by {appended}, and delivered at {at} as one of {delivered}")
            });
        }
        if known.workflow.0 == 0 && event.workflow.0 == 0 && known.state != event.state && !known.is_timer {
            self.found.violated(Property::Q2, &[born, index], || {
                format!("{id} was appended with payload {} and delivered at {at} with {}", known.state, event.state)
            });
        } else if known.sequence != event.sequence {
            self.found.violated(Property::W4, &[born, index], || {
                format!("{id} was appended as step {} and delivered at {at} as step {}", known.sequence, event.sequence)
            });
        } else if !known.is_timer
            && (known.workflow != event.workflow || known.step != event.step.0 || known.state != event.state)
        {
            self.found.violated(Property::W7, &[born, index], || {
                let was = (clue.workflow(known.workflow), clue.step(Step(known.step)), known.state);
                let is = (clue.workflow(event.workflow), clue.step(event.step), event.state);
                format!(
                    "{} was passed on to {} {} with state {}, and arrived at {at} as {} {} with state {}",
                    id, was.0, was.1, was.2, is.0, is.1, is.2
                )
            });
        }
    }

    /// The events of a window that a reader came to the end of must be all of them.
    pub(super) fn judge_complete(
        &mut self,
        index: u32,
        reader: (WorkerId, Token),
        queue: u8,
        prev: u32,
        next: u32,
        count: u32,
    ) {
        let history = self.history;
        let log = &self.memory.queues[queue as usize];
        let (Some(start), Some(end)) = (log.tick(prev), log.tick(next)) else { return };
        self.found.exercised(Property::Q5);
        if count >= end.end - start.end.min(end.end) || !start.is_told || !end.is_told {
            return;
        }
        let delivered = delivered_under(history, index, reader);
        let positions = start.end.max(log.seen_base)..end.end;
        for position in positions {
            let event = log.seen[(position - log.seen_base) as usize];
            let Some(known) = self.memory.events.get(event) else { continue };
            let belongs = end.sees(history, known.xid) && !start.sees(history, known.xid);
            if !belongs || delivered.contains(&event) {
                continue;
            }
            let clue = Clue(history);
            let records = [known.born, start.commit, end.commit, index];
            self.found.violated(Property::Q5, &records, || {
                let (event, xid, prev, next) = (EventId(event), known.xid, Tick(prev), Tick(next));
                format!(
                    "{event}, committed by {xid}, is visible at {next} and not at {prev}, but {} was given the window \
                     ({prev},{next}] at {} without it",
                    reader.0,
                    clue.at(index)
                )
            });
        }
    }
}

/// The events of the reader's pages up to that record, from the last first page on.
fn delivered_under(history: &History, index: u32, reader: (WorkerId, Token)) -> Vec<u32> {
    let clue = Clue(history);
    let mut events = Vec::new();
    for earlier in (0..=index).rev() {
        let Some(Reply::Events(span)) = clue.reply(earlier) else { continue };
        let Some((Op::Read { worker, token, after, .. }, _)) = clue.effect(earlier) else { continue };
        if (worker, token) == reader {
            events.extend(history.events(span).iter().map(|event| event.id.0));
            if after.0 == 0 {
                break;
            }
        }
    }
    events
}
