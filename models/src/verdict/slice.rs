//! The part of a history that proves a violation, as text: a call and its reply in one line.
//!
//! A short history is told whole. Of a longer one, the records that the sentence speaks of come first, then what else their
//! transactions did, as far as forty lines go.
//! The names are those of the plan: processes, workflows and steps.

use crate::history::History;
use crate::name::{EventId, Micros, WaitToken, WorkflowId};
use crate::op::{Decision, Op, Verb};
use crate::property::Clue;
use crate::record::{ClockOffset, Fault, Happening, Link, Note, Record, Side, Span};
use crate::reply::{ChildResult, Event, LiveCounts, Reply};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A person reads no more than that.
pub const TOLD_LINES: u64 = 40;
const LINES: usize = TOLD_LINES as usize;
/// So many items of a list are shown.
const ITEMS: usize = 6;

pub(super) fn slice(history: &History, records: &[u32]) -> String {
    let chosen = choose(history, records);
    let mut text = String::new();
    for index in chosen {
        text.push_str(&line(history, index, records));
        text.push('\n');
    }
    text
}

/// How many lines a history takes that is told whole: a call and its reply are one. That somebody works on what he was handed
/// goes without saying.
pub fn lines(history: &History) -> u64 {
    history.records.iter().filter(|record| has_line(record)).count() as u64
}

const fn has_line(record: &Record) -> bool {
    !matches!(record.what, Happening::Return(_) | Happening::Note(Note::WorkStarted { .. } | Note::WorkEnded { .. }))
}

/// The records to show, as calls or as what has no call; at most [`LINES`].
fn choose(history: &History, records: &[u32]) -> BTreeSet<u32> {
    let clue = Clue(history);
    if lines(history) <= TOLD_LINES {
        let told = history.records.iter().zip(0..).filter(|(record, _)| has_line(record)).map(|(_, index)| index);
        return told.chain(records.iter().map(|index| head(clue, *index))).collect();
    }
    let own = records.iter().map(|index| head(clue, *index));
    let around = records.iter().flat_map(|index| transaction(clue, head(clue, *index)));
    let mut chosen = BTreeSet::new();
    for index in own.chain(around) {
        if chosen.len() < LINES && clue.record(index).is_some() {
            chosen.insert(index);
        }
    }
    chosen
}

/// The record under which a line stands: the call of a return, else the record itself.
fn head(clue: Clue<'_>, index: u32) -> u32 {
    match clue.record(index).map(|record| record.what) {
        Some(Happening::Return(_)) => clue.call_of(index).unwrap_or(index),
        _ => index,
    }
}

/// The calls of the same transaction: those of the session between `begin` and its end.
fn transaction(clue: Clue<'_>, index: u32) -> Vec<u32> {
    let Some(record) = clue.record(index) else { return Vec::new() };
    let session = record.session;
    let calls = |index: &u32| {
        let record = &clue.0.records[*index as usize];
        record.session == session && matches!(record.what, Happening::Call(_))
    };
    let mut before: Vec<u32> = Vec::new();
    for earlier in (0..=index).rev().filter(calls).take(LINES) {
        before.push(earlier);
        match clue.op(earlier) {
            Some(Op::Begin { .. }) => break,
            Some(Op::Commit | Op::Rollback) if earlier != index => return Vec::new(),
            _ => {}
        }
    }
    if !matches!(before.last().and_then(|first| clue.op(*first)), Some(Op::Begin { .. })) {
        return Vec::new();
    }
    let end = clue.0.records.len() as u32;
    let is_end = matches!(clue.op(index), Some(Op::Commit | Op::Rollback));
    let after = if is_end { end..end } else { index + 1..end };
    for later in after.filter(calls).take(LINES) {
        before.push(later);
        if matches!(clue.op(later), Some(Op::Commit | Op::Rollback)) {
            break;
        }
    }
    before
}

fn line(history: &History, index: u32, marked: &[u32]) -> String {
    let clue = Clue(history);
    let record = &history.records[index as usize];
    let answer = match record.what {
        Happening::Call(_) => clue.return_of(index),
        _ => None,
    };
    let mark = if marked.contains(&index) || answer.is_some_and(|answer| marked.contains(&answer)) { '>' } else { ' ' };
    let process = format!("{}{}", clue.process(index), incarnation(record));
    let xid = answer.map_or(record.xid, |answer| history.records[answer as usize].xid);
    let xid = if xid.0 == 0 { String::new() } else { xid.to_string() };
    let at = record.at.to_string();
    let session = record.session.to_string();
    format!("{mark}{index:>6} {at:>10} {process:<14} {session:<5} {xid:<6} {}", what(history, index, answer))
}

fn incarnation(record: &Record) -> String {
    match record.incarnation {
        0 => String::new(),
        deaths => format!("'{deaths}"),
    }
}

fn what(history: &History, index: u32, answer: Option<u32>) -> String {
    let record = &history.records[index as usize];
    match record.what {
        Happening::Call(op) => {
            let call = call(history, &op);
            let answered = answer.map(|answer| &history.records[answer as usize]);
            match answered.map(|answered| (answered.what, answered.at)) {
                Some((Happening::Return(given), at)) => {
                    let later = if at > record.at { format!(" (at {at})") } else { String::new() };
                    format!("{call} → {}{later}", reply(history, &given))
                }
                _ => format!("{call} → (no reply)"),
            }
        }
        Happening::Return(given) => format!("→ {}", reply(history, &given)),
        Happening::Blocked => "waits for a lock".into(),
        Happening::Choice { among } => format!("goes first, out of {among}"),
        Happening::Fault(fault) => self::fault(fault),
        Happening::Note(note) => self::note(note),
    }
}

fn fault(fault: Fault) -> String {
    match fault {
        Fault::Crash => "the process dies".into(),
        Fault::Pause { until } => format!("the process stands still until {until}"),
        Fault::LostReply => "the next reply is lost".into(),
        Fault::SessionEnd => "the server ends the session, idle in its transaction".into(),
        Fault::ServerCrash => "the server dies".into(),
        Fault::LogFlush => "the server's log reaches the disk".into(),
        Fault::ServerRestart => "the server answers again".into(),
        Fault::ClockStep(ClockOffset::NONE) => "the server's clock is set right".into(),
        Fault::ClockStep(ClockOffset { ahead, behind: Micros(0) }) => {
            format!("the server's clock is set, {ahead} ahead")
        }
        Fault::ClockStep(ClockOffset { behind, .. }) => format!("the server's clock is set, {behind} behind"),
        Fault::CrashUnseen => "the process dies, and the server does not know".into(),
        Fault::Link { link, until } => format!("{} until {until}", self::link(link)),
        Fault::HalfOpen { gone_for: Side::Process } => "the connection is gone, and the server does not know".into(),
        Fault::HalfOpen { gone_for: Side::Server } => {
            "the server drops the connection, and the process does not know".into()
        }
        Fault::SessionLost => "the server has heard nothing for so long that it gives the connection up".into(),
        Fault::End => "the faults end".into(),
    }
}

const fn link(link: Link) -> &'static str {
    match link {
        Link::Cut => "nothing passes between the process and the server",
        Link::CutToServer => "nothing that the process sends arrives",
        Link::CutToProcess => "nothing that the server sends to the process arrives",
        Link::Held => "what the process and the server send each other is held",
        Link::Slow => "what the process and the server send each other takes long",
        Link::Late => "what the process and the server send each other at this moment arrives late",
    }
}

fn note(note: Note) -> String {
    match note {
        Note::WorkStarted { event } => format!("external work for {event} starts"),
        Note::WorkEnded { event, version: 0 } => format!("external work for {event} ends"),
        Note::WorkEnded { event, version } => format!("external work for {event} ends, by version {version}"),
        Note::Resolved { outcome } => format!("the session's transaction is found {outcome:?}"),
        Note::Dropped => "gives its window up".into(),
    }
}

fn call(history: &History, op: &Op<Span>) -> String {
    let clue = Clue(history);
    let name = |workflow: WorkflowId| clue.workflow(workflow);
    match *op {
        Op::Begin { isolation } => format!("begin {isolation:?}"),
        Op::Savepoint { level } => format!("savepoint {level}"),
        Op::RollbackTo { level } => format!("rollback to {level}"),
        Op::Commit => "commit".into(),
        Op::Rollback => "rollback".into(),
        Op::CreateQueue { queue, kind } => format!("create queue {queue} {kind:?}"),
        Op::Subscribe { queue, consumer } => format!("subscribe {consumer} to {queue}"),
        Op::Append { queue, payload } => format!("append {payload} to {queue}"),
        Op::Start { queue, key, step, state } => format!("start {key} on {queue} at {} ({state})", clue.step(step)),
        Op::Schedule { queue, payload, delay } => format!("schedule {payload} on {queue} in {delay}"),
        Op::Cancel { queue, event, due } => format!("cancel {event} of {queue}, due at {due}"),
        Op::Effect { workflow, sequence, step } => {
            format!("effect of {} step {sequence} {}", name(workflow), clue.step(step))
        }
        Op::Register { consumer } => format!("register for {consumer}"),
        Op::Heartbeat { worker, token, .. } => format!("heartbeat {worker} {token}"),
        Op::Claim { worker, dead_interval, .. } => format!("claim {worker} (dead after {dead_interval})"),
        Op::TakeOver { worker, dead_interval, .. } => format!("take over for {worker} (dead after {dead_interval})"),
        Op::Read { worker, token, after, limit } => format!("read {worker} {token} after {after}, {limit} at most"),
        Op::HandOut { worker, token, max_tries } => format!("hand out {worker} {token} ({max_tries} tries at most)"),
        Op::Hold { worker, token, .. } => format!("hold {worker} {token}"),
        Op::Handoff { worker, token, decisions } => {
            let decisions = history.decisions(decisions);
            format!("handoff {worker} {token} [{}]", list(decisions, |decision| decided(history, decision)))
        }
        Op::Tick { queue } => format!("tick {queue}"),
        Op::Rotate { queue, lock_timeout } => format!("rotate {queue} (waits {lock_timeout})"),
        Op::Drain { queue, limit } => format!("drain {queue}, {limit} at most"),
        Op::RotateTimers { queue, lock_timeout } => format!("rotate timers of {queue} (waits {lock_timeout})"),
        Op::Emit { workflow, name, payload, emit, token, actor } => {
            let shown = if token == WaitToken::NONE { String::new() } else { format!(", shows {token}") };
            let to = if workflow.0 == 0 { "the last one".into() } else { Clue(history).workflow(workflow) };
            format!("emit {} {payload} as {emit} to {to} by {actor}{shown}", Clue(history).name(name))
        }
        Op::ReadResults { worker, token } => format!("read results {worker} {token}"),
        Op::ExpireWaits { queue, limit } => format!("expire waits of {queue}, {limit} at most"),
        Op::RotateAudit { keep, lock_timeout } => format!("rotate the audit, keep {keep} (waits {lock_timeout})"),
        Op::Observe { queue } => format!("observe {queue}"),
        Op::ReplayDeadLetter { consumer, event } => format!("replay dead letter {event} of {consumer}"),
        Op::Peek { queue, table } => format!("peek into table {table} of {queue}"),
        Op::LockTable { queue, table, mode } => format!("lock table {table} of {queue} in {mode:?}"),
        Op::Resolve { xid } => format!("what became of {xid}?"),
    }
}

fn decided(history: &History, decision: &Decision) -> String {
    let clue = Clue(history);
    let Decision { event, verb, workflow, sequence, step, attempt, max_attempts, delay, state, name, .. } = *decision;
    let to = || format!("{} step {sequence} {} ({state})", clue.workflow(workflow), clue.step(step));
    match verb {
        Verb::Acknowledge => event.to_string(),
        Verb::Complete => format!("{event}: complete"),
        Verb::Fail => format!("{event}: fail"),
        Verb::Reject => format!("{event}: reject"),
        Verb::Goto => format!("{event}: {}", to()),
        Verb::Sleep => format!("{event}: in {delay} {}", to()),
        Verb::Await if delay == Micros(0) => format!("{event}: await {} {}", clue.name(name), to()),
        Verb::Await => format!("{event}: await {} for {delay} {}", clue.name(name), to()),
        Verb::Spawn => format!("{event}: when its children have ended {}", to()),
        Verb::Child => format!("{event}: child {sequence} {} ({state})", clue.step(step)),
        Verb::Retry => format!("{event}: attempt {attempt} of {max_attempts} in {delay} {}", to()),
    }
}

fn reply(history: &History, reply: &Reply<Span, Span, Span>) -> String {
    let ids = |span| list(history.ids(span), |id| EventId(*id).to_string());
    let some = |word: &str, span: Span| if span.len == 0 { String::new() } else { format!("; {word} {}", ids(span)) };
    let resumes = |span: Span, dead: Span| some("resumes", span) + &some("cannot deliver", dead);
    match *reply {
        Reply::Done => "done".into(),
        Reply::Committed => "committed".into(),
        Reply::RolledBack => "rolled back".into(),
        Reply::Subscribed { cursor } => format!("from {cursor}"),
        Reply::Appended { event, table } => format!("{event} in table {table}"),
        Reply::Started { workflow, event: EventId(0), .. } => format!("known as {workflow}"),
        Reply::Started { workflow, event, table } => format!("{workflow}, {event} in table {table}"),
        Reply::Registered { worker } => worker.to_string(),
        Reply::Claimed { token, prev, next, victim, isolated } => {
            let from = if victim.0 == 0 { String::new() } else { format!(" from {victim}") };
            let isolated = if isolated { ", isolated" } else { "" };
            format!("({prev},{next}]{from} under {token}{isolated}")
        }
        Reply::Idle => "nothing to do".into(),
        Reply::Events(events) => format!("[{}]", list(history.events(events), |event| delivered(history, event))),
        Reply::HandedOut { events, tries, dead, resumed, undeliverable, .. } => {
            let events = list(history.events(events), |event| delivered(history, event));
            format!("[{events}], tried {tries} ×; dead [{}]{}", ids(dead), resumes(resumed, undeliverable))
        }
        Reply::Results(results) => format!("[{}]", list(history.results(results), result)),
        Reply::HandedOff { appended, children, resumed, undeliverable, table, timer_table } => {
            let timers = if timer_table == 0 { String::new() } else { format!(" or timer table {timer_table}") };
            let children = match children.len {
                0 => String::new(),
                _ => format!("; starts {}", list(history.ids(children), |id| WorkflowId(*id).to_string())),
            };
            format!("[{}] in table {table}{timers}{children}{}", ids(appended), resumes(resumed, undeliverable))
        }
        Reply::Scheduled { event, due, table } => format!("{event} in timer table {table}, due at {due}"),
        Reply::Cancelled => "cancelled".into(),
        Reply::TooLate => "too late".into(),
        Reply::Drained { tick, fired, dead, resumed, undeliverable, table, is_done } => {
            let rest = if is_done { "that is all" } else { "there is more" };
            let dead = format!("[{}]{}", ids(dead), resumes(resumed, undeliverable));
            format!("due at {tick}: [{}] in table {table}, dead {dead}, {rest}", ids(fired))
        }
        Reply::Emitted { answer, repeated, event, table } => {
            let again = if repeated { ", as before" } else { "" };
            let place = if event.0 == 0 { String::new() } else { format!(" {event} in table {table}") };
            format!("{answer:?}{place}{again}").to_lowercase()
        }
        Reply::Expired { resumed, undeliverable, table } => {
            format!("[{}] in table {table}{}", ids(resumed), some("cannot deliver", undeliverable))
        }
        Reply::Observed(LiveCounts { ready, sleeping, waiting, joining }) => {
            format!("{ready} ready, {sleeping} asleep, {waiting} waiting, {joining} joining")
        }
        Reply::TimersRotated { table, moved } => format!("timer table {table} truncated, {moved} moved"),
        Reply::TimersKept => "not rotated, too much would move".into(),
        Reply::AuditRotated { table } => format!("table {table} of the audit truncated"),
        Reply::AuditKept => "not rotated, too young".into(),
        Reply::Replayed { workflow: WorkflowId(0), event, table } => format!("as {event} in table {table}"),
        Reply::Replayed { workflow, event, table } => format!("as {workflow}, {event} in table {table}"),
        Reply::Ticked { tick, at, snapshot } => {
            let open = history.ids(snapshot.in_progress);
            format!("{tick} at {at}, sees below {} without [{}]", snapshot.xmax, list(open, |id| format!("x{id}")))
        }
        Reply::Rotated { table, horizon } => format!("table {table} truncated, horizon {horizon}"),
        Reply::NotRotated { horizon } => format!("not rotated, needed at {horizon}"),
        Reply::Counted { rows } => format!("{rows} rows"),
        Reply::Resolved(outcome) => format!("{outcome:?}"),
        Reply::Refused(refusal) => format!("refused: {refusal:?} ({})", refusal.sqlstate()),
        Reply::Unknown => "no answer came".into(),
    }
}

fn result(result: &ChildResult) -> String {
    let ChildResult { join, index, outcome, result } = result;
    format!("{join} child {index} {outcome:?} ({result})").to_lowercase()
}

fn delivered(history: &History, event: &Event) -> String {
    let clue = Clue(history);
    match event.workflow.0 {
        0 => format!("{} ({})", event.id, event.xid),
        _ => {
            let (workflow, step) = (clue.workflow(event.workflow), clue.step(event.step));
            format!("{} ({}) {workflow} step {} {step}", event.id, event.xid, event.sequence)
        }
    }
}

fn list<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    let mut shown: Vec<String> = items.iter().take(ITEMS).map(text).collect();
    if items.len() > ITEMS {
        shown.push(format!("and {} more", items.len() - ITEMS));
    }
    shown.join(", ")
}
