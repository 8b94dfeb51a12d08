//! Comparison of what the model and the server said, up to the renaming of ids.

use super::renaming::{Mismatch, Pairing, Renaming, same_snapshot};
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{EventId, WorkflowId, Xid};
use tourbillon_models::op::{Decision, Op};
use tourbillon_models::reply::{Arrival, ChildResult, EmitAnswer, Event, Refusal, Reply};
use tourbillon_models::state::{Act, BoxContent, Parent, State};

/// A server's answer in the vocabulary; the error's text where the engine knows no such error.
pub enum Ready {
    Reply(PlainReply, Option<Xid>),
    Refused(Refusal),
    Cancelled,
    Strange(String),
}

/// The model's answer, and its transaction.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    pub reply: &'a PlainReply,
    pub xid: Xid,
}

/// The operation with the server's ids in it.
pub fn for_server(op: &PlainOp, renaming: &Renaming) -> PlainOp {
    let decision = |decision: &Decision| Decision {
        event: renaming.events.to_server(decision.event),
        workflow: renaming.server_workflow(decision.workflow),
        arrival: match decision.arrival {
            Arrival::Joined { join } => Arrival::Joined { join: renaming.events.to_server(join) },
            other => other,
        },
        ..*decision
    };
    match op {
        Op::Effect { workflow, sequence, step } => {
            Op::Effect { workflow: renaming.server_workflow(*workflow), sequence: *sequence, step: *step }
        }
        Op::Emit { workflow, name, payload, emit, token, actor } => Op::Emit {
            workflow: renaming.server_workflow(*workflow),
            name: *name,
            payload: *payload,
            emit: *emit,
            token: *token,
            actor: *actor,
        },
        Op::Heartbeat { worker, token, at } => Op::Heartbeat {
            worker: renaming.workers.to_server(*worker),
            token: renaming.tokens.to_server(*token),
            at: *at,
        },
        Op::Claim { worker, dead_interval, at } => {
            Op::Claim { worker: renaming.workers.to_server(*worker), dead_interval: *dead_interval, at: *at }
        }
        Op::Read { worker, token, after, limit } => Op::Read {
            worker: renaming.workers.to_server(*worker),
            token: renaming.tokens.to_server(*token),
            after: renaming.events.to_server(*after),
            limit: *limit,
        },
        Op::Cancel { queue, event, due } => {
            Op::Cancel { queue: *queue, event: renaming.events.to_server(*event), due: *due }
        }
        Op::ReplayDeadLetter { consumer, event } => {
            Op::ReplayDeadLetter { consumer: *consumer, event: renaming.events.to_server(*event) }
        }
        Op::TakeOver { worker, dead_interval, at } => {
            Op::TakeOver { worker: renaming.workers.to_server(*worker), dead_interval: *dead_interval, at: *at }
        }
        Op::HandOut { worker, token, max_tries } => Op::HandOut {
            worker: renaming.workers.to_server(*worker),
            token: renaming.tokens.to_server(*token),
            max_tries: *max_tries,
        },
        Op::ReadResults { worker, token } => {
            Op::ReadResults { worker: renaming.workers.to_server(*worker), token: renaming.tokens.to_server(*token) }
        }
        Op::Hold { worker, token, at } => {
            let (worker, token) = (renaming.workers.to_server(*worker), renaming.tokens.to_server(*token));
            Op::Hold { worker, token, at: *at }
        }
        Op::Handoff { worker, token, decisions } => Op::Handoff {
            worker: renaming.workers.to_server(*worker),
            token: renaming.tokens.to_server(*token),
            decisions: decisions.iter().map(decision).collect(),
        },
        Op::Resolve { xid } => Op::Resolve { xid: renaming.xids.to_server(*xid) },
        other => other.clone(),
    }
}

/// Whether the server has answered as the model; pairs the ids that both show.
pub fn same_answer(pairing: &mut Pairing<'_>, op: &PlainOp, model: Side<'_>, ready: &Ready) -> Result<(), Mismatch> {
    let Side { reply: model, xid } = model;
    match (model, ready) {
        (Reply::Refused(Refusal::Deadlock | Refusal::LockNotAvailable), Ready::Cancelled) => Ok(()),
        (Reply::Refused(ours), Ready::Refused(theirs)) if ours == theirs => Ok(()),
        (model, Ready::Reply(server, server_xid)) => {
            if !op.is_transaction_control() && !matches!(op, Op::Read { .. } | Op::ReadResults { .. }) {
                same_xid(pairing, xid, *server_xid)?;
            }
            same_reply(pairing, model, server)
        }
        (model, Ready::Refused(refusal)) => {
            Err(Mismatch(format!("the model answers {model:?} and the server refuses: {refusal:?}")))
        }
        (model, Ready::Cancelled) => Err(Mismatch(format!("the model answers {model:?}, the server was cancelled"))),
        (model, Ready::Strange(text)) => Err(Mismatch(format!("the model answers {model:?} and the server: {text}"))),
    }
}

/// Whether two replies say the same; pairs the ids that they show.
fn same_reply(pairing: &mut Pairing<'_>, model: &PlainReply, server: &PlainReply) -> Result<(), Mismatch> {
    match (model, server) {
        (Reply::Subscribed { cursor: ours }, Reply::Subscribed { cursor: theirs }) => pairing.tick(*ours, *theirs),
        (Reply::Appended { event: ours, table }, Reply::Appended { event: theirs, table: other }) => {
            pairing.event(*ours, *theirs)?;
            same("event table", table, other)
        }
        (
            Reply::Started { workflow: ours, event, table },
            Reply::Started { workflow: theirs, event: their_event, table: other },
        ) => {
            pairing.workflow(*ours, *theirs)?;
            pairing.event(*event, *their_event)?;
            same("event table", table, other)
        }
        (Reply::Registered { worker: ours }, Reply::Registered { worker: theirs }) => pairing.worker(*ours, *theirs),
        (
            Reply::Claimed { token, prev, next, victim, isolated },
            Reply::Claimed {
                token: their_token,
                prev: their_prev,
                next: their_next,
                victim: their_victim,
                isolated: theirs,
            },
        ) => {
            same("isolation", isolated, theirs)?;
            pairing.token(*token, *their_token)?;
            pairing.tick(*prev, *their_prev)?;
            pairing.tick(*next, *their_next)?;
            pairing.worker(*victim, *their_victim)
        }
        (Reply::Events(ours), Reply::Events(theirs)) => {
            same("number of events", &ours.len(), &theirs.len())?;
            ours.iter().zip(theirs).try_for_each(|(ours, theirs)| same_event(pairing, ours, theirs))
        }
        (
            Reply::HandedOff { appended: ours, children, resumed, undeliverable, table, timer_table },
            Reply::HandedOff {
                appended: theirs,
                children: their_children,
                resumed: their_resumed,
                undeliverable: their_undeliverable,
                table: other,
                timer_table: their_timer_table,
            },
        ) => {
            same_events(pairing, ours, theirs)?;
            same_workflows(pairing, children, their_children)?;
            same_events(pairing, resumed, their_resumed)?;
            same_events(pairing, undeliverable, their_undeliverable)?;
            same("event table", table, other)?;
            same("timer table", timer_table, their_timer_table)
        }
        (
            Reply::HandedOut { events: ours, tries, dead, resumed, undeliverable, table },
            Reply::HandedOut {
                events: theirs,
                tries: their_tries,
                dead: their_dead,
                resumed: their_resumed,
                undeliverable: their_undeliverable,
                table: other,
            },
        ) => {
            same("number of events", &ours.len(), &theirs.len())?;
            ours.iter().zip(theirs).try_for_each(|(ours, theirs)| same_event(pairing, ours, theirs))?;
            same("tries", tries, their_tries)?;
            same_events(pairing, dead, their_dead)?;
            same_events(pairing, resumed, their_resumed)?;
            same_events(pairing, undeliverable, their_undeliverable)?;
            same("event table", table, other)
        }
        (Reply::Results(ours), Reply::Results(theirs)) => {
            same("number of results", &ours.len(), &theirs.len())?;
            ours.iter().zip(theirs).try_for_each(|(ours, theirs)| same_result(pairing, ours, theirs))
        }
        (
            Reply::Emitted { answer, repeated, event, table },
            Reply::Emitted { answer: their_answer, repeated: their_repeated, event: their_event, table: other },
        ) => {
            same("answer", answer, their_answer)?;
            same("repetition", repeated, their_repeated)?;
            pairing.event(*event, *their_event)?;
            same("event table", table, other)
        }
        (
            Reply::Expired { resumed, undeliverable, table },
            Reply::Expired { resumed: their_resumed, undeliverable: their_undeliverable, table: other },
        ) => {
            same_events(pairing, resumed, their_resumed)?;
            same_events(pairing, undeliverable, their_undeliverable)?;
            same("event table", table, other)
        }
        (
            Reply::Scheduled { event, due, table },
            Reply::Scheduled { event: their_event, due: their_due, table: other },
        ) => {
            pairing.event(*event, *their_event)?;
            same("due time", due, their_due)?;
            same("timer table", table, other)
        }
        (
            Reply::Drained { tick, fired, dead, resumed, undeliverable, table, is_done },
            Reply::Drained {
                tick: their_tick,
                fired: their_fired,
                dead: their_dead,
                resumed: their_resumed,
                undeliverable: their_undeliverable,
                table: other,
                is_done: their_done,
            },
        ) => {
            pairing.tick(*tick, *their_tick)?;
            same_events(pairing, fired, their_fired)?;
            same_events(pairing, dead, their_dead)?;
            same_events(pairing, resumed, their_resumed)?;
            same_events(pairing, undeliverable, their_undeliverable)?;
            same("event table", table, other)?;
            same("end of the round", is_done, their_done)
        }
        (
            Reply::Replayed { workflow, event, table },
            Reply::Replayed { workflow: their_workflow, event: their_event, table: other },
        ) => {
            pairing.workflow(*workflow, *their_workflow)?;
            pairing.event(*event, *their_event)?;
            same("event table", table, other)
        }
        (
            Reply::Ticked { tick, at, snapshot },
            Reply::Ticked { tick: their_tick, at: their_at, snapshot: their_snapshot },
        ) => {
            pairing.tick(*tick, *their_tick)?;
            same("time of the tick", at, their_at)?;
            same_snapshot(&pairing.renaming.xids, snapshot, their_snapshot)
        }
        (Reply::Rotated { table, horizon }, Reply::Rotated { table: other, horizon: their_horizon }) => {
            same("event table", table, other)?;
            pairing.tick(*horizon, *their_horizon)
        }
        (Reply::NotRotated { horizon }, Reply::NotRotated { horizon: theirs }) => pairing.tick(*horizon, *theirs),
        (model, server) => same("reply", model, server),
    }
}

/// Whether the transactions of both sides have an id, or neither.
fn same_xid(pairing: &mut Pairing<'_>, model: Xid, server: Option<Xid>) -> Result<(), Mismatch> {
    pairing.xid(model, server.unwrap_or(Xid(0)))
}

fn same_events(pairing: &mut Pairing<'_>, ours: &[u32], theirs: &[u32]) -> Result<(), Mismatch> {
    same("number of events", &ours.len(), &theirs.len())?;
    ours.iter().zip(theirs).try_for_each(|(ours, theirs)| pairing.event(EventId(*ours), EventId(*theirs)))
}

fn same_workflows(pairing: &mut Pairing<'_>, ours: &[u32], theirs: &[u32]) -> Result<(), Mismatch> {
    same("number of workflows", &ours.len(), &theirs.len())?;
    ours.iter().zip(theirs).try_for_each(|(ours, theirs)| pairing.workflow(WorkflowId(*ours), WorkflowId(*theirs)))
}

fn same_result(pairing: &mut Pairing<'_>, ours: &ChildResult, theirs: &ChildResult) -> Result<(), Mismatch> {
    pairing.event(ours.join, theirs.join)?;
    let rest = |result: &ChildResult| (result.index, result.outcome, result.result);
    same("child's place, end and result", &rest(ours), &rest(theirs))
}

fn same_event(pairing: &mut Pairing<'_>, ours: &Event, theirs: &Event) -> Result<(), Mismatch> {
    pairing.event(ours.id, theirs.id)?;
    pairing.xid(ours.xid, theirs.xid)?;
    pairing.workflow(ours.workflow, theirs.workflow)?;
    let rest = |event: &Event| (event.sequence, event.step, event.attempt, event.state);
    same("event's sequence, step, attempt and state", &rest(ours), &rest(theirs))?;
    match (ours.arrival, theirs.arrival) {
        (Arrival::Joined { join: ours }, Arrival::Joined { join: theirs }) => pairing.event(ours, theirs),
        (ours, theirs) => same("event's arrival", &ours, &theirs),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, model: &T, server: &T) -> Result<(), Mismatch> {
    match model == server {
        true => Ok(()),
        false => Err(Mismatch(format!("{what}: the model says {model:?} and the server {server:?}"))),
    }
}

/// The first row that is not the same, or missing on one side.
fn same_rows<T: PartialEq + std::fmt::Debug>(what: &str, model: &[T], server: &[T]) -> Result<(), Mismatch> {
    (0..model.len().max(server.len())).try_for_each(|index| same(what, &model.get(index), &server.get(index)))
}

/// Whether two states hold the same rows. Snapshots are compared by what they see.
pub fn same_state(renaming: &Renaming, model: &State, server: State) -> Result<(), Mismatch> {
    let mut model = model.clone();
    for row in model.audit.iter_mut().filter(|row| !renaming.workflows.is_known(row.workflow)) {
        row.workflow = WorkflowId(0);
    }
    let mut model = in_order(model);
    let mut server = in_order(for_model(renaming, server)?);
    for (ours, theirs) in model.ticks.iter_mut().zip(&mut server.ticks) {
        same_snapshot(&renaming.xids, &ours.snapshot, &theirs.snapshot)?;
        ours.snapshot = theirs.snapshot.clone();
    }
    same_rows("queues", &model.queues, &server.queues)?;
    same_rows("ticks", &model.ticks, &server.ticks)?;
    same_rows("subscriptions", &model.subscriptions, &server.subscriptions)?;
    same_rows("workers", &model.workers, &server.workers)?;
    same_rows("start keys", &model.start_keys, &server.start_keys)?;
    same_rows("workflows", &model.workflows, &server.workflows)?;
    same_rows("events", &model.events, &server.events)?;
    same_rows("ledger", &model.ledger, &server.ledger)?;
    same_rows("timers", &model.timers, &server.timers)?;
    same_rows("cursors of timers", &model.drains, &server.drains)?;
    same_rows("tries", &model.tries, &server.tries)?;
    same_rows("dead letters", &model.dead_letters, &server.dead_letters)?;
    same_rows("cancelled timers", &model.cancelled, &server.cancelled)?;
    same_rows("waits and promises", &model.boxes, &server.boxes)?;
    same_rows("emits", &model.emits, &server.emits)?;
    same_rows("joins", &model.joins, &server.joins)?;
    same_rows("results of children", &model.results, &server.results)?;
    same_rows("lines of the audit", &model.audit, &server.audit)
}

/// Rows without an order of their own are put into one.
fn in_order(mut state: State) -> State {
    state.ticks.sort_by_key(|row| (row.queue, row.tick));
    state.workers.sort_by_key(|row| row.worker);
    state.start_keys.sort_by_key(|row| (row.queue, row.key));
    state.workflows.sort_by_key(|row| row.workflow);
    state.events.sort_by_key(|row| (row.queue, row.table, row.event.id));
    state.ledger.sort_by_key(|row| (row.xid, row.workflow, row.sequence, row.step));
    state.timers.sort_by_key(|row| (row.queue, row.table, row.due, row.event.id));
    state.tries.sort_by_key(|row| (row.consumer, row.event));
    state.dead_letters.sort_by_key(|row| (row.consumer, row.event));
    state.cancelled.sort_by_key(|row| (row.queue, row.event));
    state.boxes.sort_by_key(|row| (row.workflow, row.name, matches!(row.content, BoxContent::Wait { .. })));
    state.emits.sort_by_key(|row| (row.workflow, row.emit));
    state.joins.sort_by_key(|row| row.join);
    state.results.sort_by_key(|row| (row.join, row.index));
    state.audit.sort_by_key(|row| (row.table, row.at, row.workflow, row.name, row.actor, act(row.act)));
    state
}

/// Acts have no order of their own.
fn act(act: Act) -> Option<EmitAnswer> {
    match act {
        Act::Emit(answer) => Some(answer),
        Act::Discard => None,
    }
}

fn for_model(renaming: &Renaming, mut state: State) -> Result<State, Mismatch> {
    for row in &mut state.ticks {
        row.tick = renaming.ticks.to_model(row.tick)?;
    }
    for row in &mut state.subscriptions {
        row.cursor = renaming.ticks.to_model(row.cursor)?;
    }
    for row in &mut state.workers {
        row.worker = renaming.workers.to_model(row.worker)?;
        if let Some((token, prev, next)) = &mut row.window {
            *token = renaming.tokens.to_model(*token)?;
            *prev = renaming.ticks.to_model(*prev)?;
            *next = renaming.ticks.to_model(*next)?;
        }
    }
    for row in &mut state.start_keys {
        row.workflow = renaming.workflows.to_model(row.workflow)?;
    }
    for row in &mut state.workflows {
        row.workflow = renaming.workflows.to_model(row.workflow)?;
        parent_for_model(renaming, &mut row.parent)?;
    }
    let events = state.events.iter_mut().map(|row| &mut row.event);
    let timers = state.timers.iter_mut().map(|row| &mut row.event);
    for event in events.chain(timers) {
        event.id = renaming.events.to_model(event.id)?;
        event.xid = renaming.xids.to_model(event.xid)?;
        if event.workflow != WorkflowId(0) {
            event.workflow = renaming.workflows.to_model(event.workflow)?;
        }
        arrival_for_model(renaming, &mut event.arrival)?;
    }
    for row in &mut state.drains {
        row.done = renaming.ticks.to_model(row.done)?;
        row.open = row.open.map(|tick| renaming.ticks.to_model(tick)).transpose()?;
        if let Some((_, event)) = &mut row.position {
            *event = renaming.events.to_model(*event)?;
        }
    }
    for row in &mut state.tries {
        row.event = renaming.events.to_model(row.event)?;
    }
    for row in &mut state.cancelled {
        row.event = renaming.events.to_model(row.event)?;
    }
    for row in &mut state.dead_letters {
        row.event = renaming.events.to_model(row.event)?;
        if row.replayed_as != EventId(0) {
            row.replayed_as = renaming.events.to_model(row.replayed_as)?;
        }
        arrival_for_model(renaming, &mut row.arrival)?;
        parent_for_model(renaming, &mut row.parent)?;
    }
    for row in &mut state.boxes {
        row.workflow = renaming.workflows.to_model(row.workflow)?;
        if let BoxContent::Wait { event, .. } = &mut row.content {
            *event = renaming.events.to_model(*event)?;
        }
    }
    for row in &mut state.emits {
        row.workflow = renaming.workflows.to_model(row.workflow)?;
    }
    for row in &mut state.joins {
        row.join = renaming.events.to_model(row.join)?;
        row.workflow = renaming.workflows.to_model(row.workflow)?;
    }
    for row in &mut state.results {
        row.join = renaming.events.to_model(row.join)?;
    }
    for row in &mut state.audit {
        row.workflow = renaming.workflows.to_model(row.workflow).unwrap_or(WorkflowId(0));
    }
    for row in &mut state.ledger {
        if row.workflow != WorkflowId(0) {
            row.workflow = renaming.workflows.to_model(row.workflow)?;
        }
        row.xid = renaming.xids.to_model(row.xid)?;
    }
    Ok(state)
}

fn arrival_for_model(renaming: &Renaming, arrival: &mut Arrival) -> Result<(), Mismatch> {
    if let Arrival::Joined { join } = arrival {
        *join = renaming.events.to_model(*join)?;
    }
    Ok(())
}

fn parent_for_model(renaming: &Renaming, parent: &mut Option<Parent>) -> Result<(), Mismatch> {
    if let Some(parent) = parent {
        parent.join = renaming.events.to_model(parent.join)?;
    }
    Ok(())
}
