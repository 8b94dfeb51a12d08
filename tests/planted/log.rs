//! The log, its windows and the leases on them.

use super::{Mutator, Planted, Soil, mutator, planted};
use tourbillon::fuzz::edit::Draft;
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::{EventId, Micros, Token, Xid};
use tourbillon_models::op::Op;
use tourbillon_models::property::Property;
use tourbillon_models::record::{Happening, Note, RecordOf};
use tourbillon_models::reply::Reply;

pub const MUTATORS: &[Mutator] = &[
    mutator("lose an event from a page", "messages", Soil::Calm, lose_event),
    mutator("repeat an event in a later window", "messages", Soil::Calm, repeat_event),
    mutator("deliver what nobody appended", "messages", Soil::Calm, phantom),
    mutator("deliver what was rolled back", "rolled-back-start", Soil::Any, aborted),
    mutator("change a payload on its way", "messages", Soil::Calm, payload),
    mutator("lose an acknowledgement", "messages", Soil::Calm, lose_acknowledgement),
    mutator("acknowledge an event again", "messages", Soil::Any, acknowledge_again),
    mutator("swap the windows of two claims", "messages", Soil::Calm, swap_windows),
    mutator("read a window again, and less of it", "messages", Soil::Calm, read_again),
    mutator("a tick that sees what came later", "messages", Soil::Calm, tick_out_of_order),
    mutator("number a tick as the one before", "messages", Soil::Calm, tick_again),
    mutator("a tick whose clock is early", "messages", Soil::Calm, tick_early),
    mutator("give a token out again", "messages", Soil::Calm, token_again),
    mutator("give an event's id out again", "messages", Soil::Calm, id_again),
    mutator("hand off under another token", "messages", Soil::Calm, another_token),
    mutator("a heartbeat after the handoff", "messages", Soil::Calm, resurrect),
    mutator("take a window over early", "zombie", Soil::Any, takeover_early),
    mutator("truncate what is not finished", "messages", Soil::Calm, truncate),
    mutator("start external work again", "external-call", Soil::Calm, work_again),
];

/// Each call with its answer: where they stand, and what they say.
pub fn calls(draft: &Draft) -> Vec<(usize, usize, PlainOp, PlainReply)> {
    let calls = draft.records.iter().enumerate().filter_map(|(place, record)| match &record.what {
        Happening::Call(op) => Some((place, op.clone())),
        _ => None,
    });
    let answered = calls.filter_map(|(place, op)| {
        let answer = draft.answer(place)?;
        match &draft.records[answer].what {
            Happening::Return(reply) => Some((place, answer, op, reply.clone())),
            _ => None,
        }
    });
    answered.collect()
}

pub fn answer(draft: &mut Draft, place: usize, reply: PlainReply) {
    draft.records[place].what = Happening::Return(reply);
}

pub fn ask(draft: &mut Draft, place: usize, op: PlainOp) {
    draft.records[place].what = Happening::Call(op);
}

fn lose_event(draft: &mut Draft) -> Option<Planted> {
    let (place, mut events) = calls(draft).into_iter().find_map(|(_, place, op, reply)| match (op, reply) {
        (Op::Read { limit, .. }, Reply::Events(events)) if events.len() > 1 && events.len() < limit as usize => {
            Some((place, events))
        }
        _ => None,
    })?;
    let lost = events.remove(0);
    answer(draft, place, Reply::Events(events));
    planted(Property::Q5, [lost.id.to_string()])
}

fn pages(draft: &Draft) -> Vec<(usize, Vec<tourbillon_models::reply::Event>)> {
    let pages = calls(draft).into_iter().filter_map(|(_, place, op, reply)| match (op, reply) {
        (Op::Read { .. }, Reply::Events(events)) if !events.is_empty() => Some((place, events)),
        _ => None,
    });
    pages.collect()
}

fn repeat_event(draft: &mut Draft) -> Option<Planted> {
    let pages = pages(draft);
    let (_, first) = pages.first()?;
    let (place, mut last) = pages.last().cloned()?;
    let event = first[0];
    if last.iter().any(|other| other.id <= event.id) {
        return None;
    }
    last.insert(0, event);
    answer(draft, place, Reply::Events(last));
    planted(Property::Q5, [event.id.to_string()])
}

fn phantom(draft: &mut Draft) -> Option<Planted> {
    let (place, mut events) = pages(draft).pop()?;
    let last = *events.last()?;
    events.push(tourbillon_models::reply::Event { id: EventId(900_001), xid: Xid(900_001), ..last });
    answer(draft, place, Reply::Events(events));
    planted(Property::Q2, ["e900001".to_owned()])
}

fn aborted(draft: &mut Draft) -> Option<Planted> {
    let calls = calls(draft);
    // A start in a transaction that its client rolls back, before somebody reads.
    let (begun, event) = calls.iter().find_map(|(call, _, op, reply)| match (op, reply) {
        (Op::Start { .. }, Reply::Started { event, .. }) if event.0 != 0 && draft.is_in_transaction(*call) => {
            let session = draft.records[*call].session;
            let mut later = calls.iter().filter(|(later, ..)| later > call && draft.records[*later].session == session);
            let end = later.find(|(_, _, op, _)| matches!(op, Op::Commit | Op::Rollback))?;
            let is_elsewhere = calls.iter().filter(|(.., reply)| {
                matches!(reply, Reply::Started { event: other, .. } | Reply::Appended { event: other, .. } if other == event)
            });
            (matches!(end.3, Reply::RolledBack) && is_elsewhere.count() == 1).then_some((end.1, *event))
        }
        _ => None,
    })?;
    let (place, mut events) =
        pages(draft).into_iter().find(|(place, events)| *place > begun && events[0].id > event)?;
    let is_known = |other: &(usize, Vec<tourbillon_models::reply::Event>)| other.1.iter().any(|it| it.id == event);
    if pages(draft).iter().any(is_known) {
        return None;
    }
    events.insert(0, tourbillon_models::reply::Event { id: event, ..events[0] });
    answer(draft, place, Reply::Events(events));
    planted(Property::D2, [event.to_string()])
}

fn payload(draft: &mut Draft) -> Option<Planted> {
    let appended = calls(draft).into_iter().find_map(|(.., reply)| match reply {
        Reply::Appended { event, .. } => Some(event),
        _ => None,
    })?;
    let (place, mut events) = pages(draft).into_iter().find(|(_, events)| events.iter().any(|it| it.id == appended))?;
    events.iter_mut().filter(|it| it.id == appended).for_each(|it| it.state += 1);
    let state = events.iter().find(|it| it.id == appended)?.state;
    answer(draft, place, Reply::Events(events));
    planted(Property::Q2, [appended.to_string(), state.to_string()])
}

fn handoffs(draft: &Draft) -> Vec<(usize, usize, PlainOp, PlainReply)> {
    let is_handoff = |reply: &PlainReply| matches!(reply, Reply::HandedOff { .. });
    calls(draft).into_iter().filter(|(.., reply)| is_handoff(reply)).collect()
}

fn lose_acknowledgement(draft: &mut Draft) -> Option<Planted> {
    let (call, _, op, _) = handoffs(draft).into_iter().next()?;
    let Op::Handoff { worker, token, mut decisions } = op else { return None };
    let lost = decisions.pop()?;
    ask(draft, call, Op::Handoff { worker, token, decisions });
    planted(Property::Q1, [lost.event.to_string()])
}

fn acknowledge_again(draft: &mut Draft) -> Option<Planted> {
    let handoffs = handoffs(draft);
    let (first, .., op, _) = handoffs.first()?;
    let Op::Handoff { decisions, .. } = op else { return None };
    let event = decisions.first()?.event;
    let (call, _, op, _) = handoffs.iter().find(|(call, _, other, _)| {
        let consumer = |call: usize| draft.records[call].process;
        call != first && consumer(*call) == consumer(*first) && matches!(other, Op::Handoff { .. })
    })?;
    let Op::Handoff { worker, token, mut decisions } = op.clone() else { return None };
    let copy = tourbillon_models::op::Decision::new(event, tourbillon_models::op::Verb::Acknowledge);
    decisions.push(copy);
    ask(draft, *call, Op::Handoff { worker, token, decisions });
    planted(Property::Q3, [event.to_string(), token.to_string()])
}

fn claims(draft: &Draft) -> Vec<(usize, usize, PlainOp, PlainReply)> {
    calls(draft).into_iter().filter(|(.., reply)| matches!(reply, Reply::Claimed { .. })).collect()
}

fn swap_windows(draft: &mut Draft) -> Option<Planted> {
    let claims = claims(draft);
    let (one, other) = (claims.first()?, claims.get(1)?);
    let (
        Reply::Claimed { prev: a, next: b, token: t, victim: v, .. },
        Reply::Claimed { prev: c, next: d, token: u, victim: w, .. },
    ) = (&one.3, &other.3)
    else {
        return None;
    };
    // Of one subscription, the earlier before the later.
    if b != c || v.0 + w.0 != 0 {
        return None;
    }
    let claimed = |token: &Token, prev, next| Reply::Claimed { token: *token, prev, next, victim: *v, isolated: false };
    answer(draft, one.1, claimed(t, *a, *d));
    answer(draft, other.1, claimed(u, *a, *d));
    planted(Property::Q4, [format!("({a},{d}]")])
}

fn read_again(draft: &mut Draft) -> Option<Planted> {
    let (call, place, events) = calls(draft).into_iter().find_map(|(call, place, op, reply)| match (op, reply) {
        (Op::Read { limit, after, .. }, Reply::Events(events)) if events.len() < limit as usize && after.0 == 0 => {
            (!events.is_empty() && !draft.is_in_transaction(call)).then_some((call, place, events))
        }
        _ => None,
    })?;
    let at = draft.records[place].at;
    let records = [call, place].map(|place| RecordOf { at, ..draft.records[place].clone() });
    draft.records.splice(place + 1..place + 1, records);
    let (window, rest) = (claims(draft), events[1..].to_vec());
    answer(draft, place + 2, Reply::Events(rest));
    let Op::Read { token, .. } = calls(draft).into_iter().find(|it| it.0 == call)?.2 else { return None };
    let window = window.into_iter().find_map(|(.., reply)| match reply {
        Reply::Claimed { token: other, prev, next, .. } if other == token => Some(format!("({prev},{next}]")),
        _ => None,
    })?;
    planted(Property::Q6, [window])
}

fn ticks(draft: &Draft) -> Vec<(usize, usize, PlainOp, PlainReply)> {
    calls(draft).into_iter().filter(|(.., reply)| matches!(reply, Reply::Ticked { .. })).collect()
}

/// An append that committed.
struct Appended {
    answer: usize,
    event: EventId,
    table: u8,
    /// The call that began its transaction, and the record by which it had committed.
    begun: usize,
    committed: usize,
    xid: Xid,
}

fn appends(draft: &Draft) -> Vec<Appended> {
    let calls = calls(draft);
    let appends = calls.iter().filter_map(|(call, answer, _, reply)| {
        let Reply::Appended { event, table } = reply else { return None };
        let session = draft.records[*call].session;
        let own = || calls.iter().filter(|(place, ..)| draft.records[*place].session == session);
        let (begun, committed) = match draft.is_in_transaction(*call) {
            false => (*call, *answer),
            true => {
                let begin = own().rfind(|(place, _, op, _)| place < call && matches!(op, Op::Begin { .. }))?;
                let end = own().find(|(place, _, op, _)| place > call && matches!(op, Op::Commit | Op::Rollback))?;
                matches!(end.3, Reply::Committed).then_some((begin.0, end.1))?
            }
        };
        let xid = draft.records[committed].xid;
        // Not of a part that was rolled back to a savepoint.
        pages(draft).iter().flat_map(|(_, events)| events).find(|delivered| delivered.id == *event)?;
        Some(Appended { answer: *answer, event: *event, table: *table, begun, committed, xid })
    });
    appends.collect()
}

fn tick_out_of_order(draft: &mut Draft) -> Option<Planted> {
    let appends = appends(draft);
    let ticks = ticks(draft);
    // Two that one tick is the first to see, the one committed before the other was begun.
    let (place, first, second) = ticks.iter().enumerate().find_map(|(index, (call, place, ..))| {
        let since = index.checked_sub(1).map_or(0, |before| ticks[before].1);
        let mut new = appends.iter().filter(|it| it.begun > since && it.committed < *call && it.xid.0 != 0);
        let first = new.next()?;
        let second = new.find(|it| it.begun > first.committed)?;
        Some((*place, first, second))
    })?;
    let Reply::Ticked { tick, at, mut snapshot } = ticks.iter().find(|it| it.1 == place)?.3.clone() else {
        return None;
    };
    snapshot.in_progress.push(first.xid.0);
    snapshot.in_progress.sort_unstable();
    answer(draft, place, Reply::Ticked { tick, at, snapshot });
    planted(Property::Q7, [first.event.to_string(), second.event.to_string()])
}

fn tick_again(draft: &mut Draft) -> Option<Planted> {
    let ticks = ticks(draft);
    let (Reply::Ticked { tick, .. }, Reply::Ticked { at, snapshot, .. }) = (&ticks.first()?.3, &ticks.get(1)?.3) else {
        return None;
    };
    answer(draft, ticks[1].1, Reply::Ticked { tick: *tick, at: *at, snapshot: snapshot.clone() });
    planted(Property::Q14, [tick.to_string()])
}

fn tick_early(draft: &mut Draft) -> Option<Planted> {
    let (_, place, _, reply) = ticks(draft).into_iter().nth(2)?;
    let Reply::Ticked { tick, snapshot, .. } = reply else { return None };
    answer(draft, place, Reply::Ticked { tick, at: Micros(1), snapshot });
    planted(Property::Q14, [tick.to_string()])
}

fn token_again(draft: &mut Draft) -> Option<Planted> {
    let claims = claims(draft);
    let Reply::Claimed { token, .. } = claims.first()?.3 else { return None };
    let (_, place, _, reply) = claims.last().cloned()?;
    let Reply::Claimed { prev, next, victim, isolated, token: other } = reply else { return None };
    answer(draft, place, Reply::Claimed { token, prev, next, victim, isolated });
    (token != other).then(|| planted(Property::D5, [token.to_string()]))?
}

fn id_again(draft: &mut Draft) -> Option<Planted> {
    let appends = appends(draft);
    let (first, second) = (appends.first()?, appends.iter().find(|it| it.begun > appends[0].committed)?);
    answer(draft, second.answer, Reply::Appended { event: first.event, table: second.table });
    planted(Property::D5, [first.event.to_string()])
}

fn another_token(draft: &mut Draft) -> Option<Planted> {
    let (call, _, op, _) = handoffs(draft).pop()?;
    let Op::Handoff { worker, decisions, .. } = op else { return None };
    let token = Token(0x00ab_cdef << 40);
    ask(draft, call, Op::Handoff { worker, token, decisions });
    planted(Property::Q9, [worker.to_string(), token.to_string()])
}

fn resurrect(draft: &mut Draft) -> Option<Planted> {
    let (call, place, op, _) = handoffs(draft).into_iter().find(|(call, ..)| !draft.is_in_transaction(*call))?;
    let Op::Handoff { worker, token, .. } = op else { return None };
    let copies = [call, place].map(|from| RecordOf { at: draft.records[place].at, ..draft.records[from].clone() });
    draft.records.splice(place + 1..place + 1, copies);
    ask(draft, place + 1, Op::Heartbeat { worker, token, at: Micros(0) });
    answer(draft, place + 2, Reply::Done);
    planted(Property::Q8, [worker.to_string(), token.to_string()])
}

fn takeover_early(draft: &mut Draft) -> Option<Planted> {
    let (call, victim, op) = claims(draft).into_iter().find_map(|(call, _, op, reply)| match reply {
        Reply::Claimed { victim, .. } if victim.0 != 0 => Some((call, victim, op)),
        _ => None,
    })?;
    let dead_interval = Micros::from_secs(100_000);
    let op = match op {
        Op::Claim { worker, at, .. } => Op::Claim { worker, dead_interval, at },
        Op::TakeOver { worker, at, .. } => Op::TakeOver { worker, dead_interval, at },
        _ => return None,
    };
    ask(draft, call, op);
    planted(Property::Q10, [victim.to_string()])
}

fn truncate(draft: &mut Draft) -> Option<Planted> {
    // At once after an append has committed, its table goes.
    let Appended { event, table, committed, .. } = appends(draft).into_iter().next()?;
    let session = draft.spare_session();
    let copy = RecordOf { session, ..draft.records[committed].clone() };
    draft.records.splice(committed + 1..committed + 1, [copy.clone(), copy]);
    let queue = tourbillon::generate::QUEUE;
    ask(draft, committed + 1, Op::Rotate { queue, lock_timeout: Micros(1_000) });
    answer(draft, committed + 2, Reply::Rotated { table, horizon: tourbillon_models::name::Tick(1) });
    planted(Property::Q13, [event.to_string()])
}

fn work_again(draft: &mut Draft) -> Option<Planted> {
    let (place, event) = draft.records.iter().enumerate().find_map(|(place, record)| match record.what {
        Happening::Note(Note::WorkStarted { event }) => Some((place, event)),
        _ => None,
    })?;
    let copy = draft.records[place].clone();
    draft.records.insert(place + 1, copy);
    planted(Property::W6, [event.to_string()])
}
