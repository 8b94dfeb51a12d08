//! A worker, answered by hand.

use super::options::*;
use super::*;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use tourbillon_models::name::{Consumer, Step, Tick, Token, WorkflowId, Xid};
use tourbillon_models::workload::{Chain, Next, StepInput, StepOutcome};

const TOKEN: Token = Token(7);

fn options() -> WorkerOptions {
    WorkerOptions {
        poll_interval: Micros(10),
        dead_interval: Micros(1_000),
        heartbeat_interval: Micros(250),
        work_duration: Micros(1),
        page_limit: 10,
        ..WorkerOptions::plain(Consumer(0))
    }
}

fn event(id: u32) -> Event {
    let (workflow, sequence) = (WorkflowId(id), 1);
    Event {
        id: EventId(id),
        xid: Xid(1),
        workflow,
        sequence,
        step: Step(0),
        attempt: 1,
        state: 5,
        arrival: tourbillon_models::reply::Arrival::Direct,
    }
}

fn claimed(isolated: bool) -> PlainReply {
    Reply::Claimed { token: TOKEN, prev: Tick(1), next: Tick(2), victim: WorkerId(0), isolated }
}

fn handed_out(events: Vec<Event>) -> PlainReply {
    Reply::HandedOut { events, tries: 1, dead: vec![], resumed: vec![], undeliverable: Vec::new(), table: 0 }
}

fn handed_off(appended: Vec<u32>) -> PlainReply {
    Reply::HandedOff {
        appended,
        children: vec![],
        resumed: vec![],
        undeliverable: Vec::new(),
        table: 0,
        timer_table: 0,
    }
}

/// What it calls until the replies run out, in a word each; other actions in brackets.
fn calls(worker: &mut Worker, replies: Vec<PlainReply>) -> Vec<String> {
    let (mut now, mut answered, mut replies, mut told) = (Micros(0), None, replies.into_iter(), Vec::new());
    loop {
        match worker.poll(now, answered.take().as_mut()) {
            Action::Sleep(until) => now = until,
            Action::Note(Note::Dropped) => told.push(String::from("[dropped]")),
            Action::Note(_) => {}
            Action::Call(op) => {
                let text = format!("{op:?}");
                told.push(String::from(text.split([' ', '{']).next().unwrap_or_default()));
                let Some(reply) = replies.next() else { return told };
                answered = Some(Answered { reply, xid: Xid(0) });
            }
            end => {
                told.push(format!("[{end:?}]"));
                return told;
            }
        }
    }
}

fn worker(options: WorkerOptions) -> Worker {
    Worker::new(options, Some(Rc::new(Chain)))
}

const REGISTERED: PlainReply = Reply::Registered { worker: WorkerId(1) };

#[test]
fn an_isolated_window_is_worked_event_by_event() {
    let replies = vec![
        REGISTERED,
        claimed(true),
        handed_out(vec![event(4)]),
        Reply::Done,
        Reply::Done,
        Reply::Done,
        handed_off(vec![9]),
        Reply::Committed,
        handed_out(vec![]),
    ];
    let told = calls(&mut worker(options()), replies);
    let expected = ["Register", "Claim", "HandOut", "Begin", "Hold", "Effect", "Handoff", "Commit", "HandOut", "Claim"];
    assert_eq!(told, expected);
}

#[test]
fn a_forgotten_handoff_is_refused_and_not_forgotten_again() {
    let mut worker = worker(WorkerOptions { handoff: HandoffHabit::Forgotten, ..options() });
    let window = || vec![claimed(false), Reply::Events(vec![event(4)]), Reply::Done, Reply::Done, Reply::Done];
    let mut replies = vec![REGISTERED];
    replies.extend(window());
    replies.push(Reply::Refused(Refusal::HeldWindow));
    replies.extend(window());
    let told = calls(&mut worker, replies);
    assert_eq!(told[5..9], ["Effect", "Commit", "[dropped]", "Claim"]);
    assert_eq!(told[12..], ["Effect", "Handoff"]);
}

#[test]
fn a_swallowed_error_is_committed_over() {
    let mut worker = worker(WorkerOptions { errors: ErrorHabit::Swallowed, ..options() });
    let mut replies = vec![REGISTERED, claimed(false), Reply::Events(vec![event(4)])];
    // Begin, hold, and an effect and the handoff with a savepoint before each.
    replies.extend([Reply::Done, Reply::Done, Reply::Done, Reply::Done, Reply::Done]);
    replies.extend([Reply::Refused(Refusal::WindowMismatch), Reply::Done, Reply::Refused(Refusal::HeldWindow)]);
    let told = calls(&mut worker, replies);
    let expected = ["Savepoint", "Effect", "Savepoint", "Handoff", "RollbackTo", "Commit", "[dropped]", "Claim"];
    assert_eq!(told[5..], expected);
}

#[test]
fn a_failed_hold_is_heeded_by_everyone() {
    let mut worker = worker(WorkerOptions { errors: ErrorHabit::Swallowed, ..options() });
    let stale = Reply::Refused(Refusal::StaleToken);
    let replies = vec![REGISTERED, claimed(false), Reply::Events(vec![event(4)]), Reply::Done, stale];
    assert_eq!(calls(&mut worker, replies)[3..], ["Begin", "Hold", "Rollback"]);
}

#[test]
fn a_dead_letter_is_replayed_twice_once_it_is_committed() {
    let until = Micros(1_000_000);
    let mut worker = worker(WorkerOptions { burial: BurialHabit::ReplayedTwice { until }, ..options() });
    let mut replies = vec![REGISTERED, claimed(false), Reply::Events(vec![event(4)])];
    replies.extend([Reply::Done, Reply::Done, Reply::Done, handed_off(vec![0]), Reply::Committed]);
    replies.extend([Reply::Unknown, Reply::Refused(Refusal::UndefinedObject)]);
    let told = calls(&mut worker, replies);
    assert_eq!(told[7..], ["Commit", "ReplayDeadLetter", "ReplayDeadLetter", "Claim"]);
}

/// Takes its process down.
struct Deadly;

impl Program for Deadly {
    fn name(&self) -> &str {
        "deadly"
    }

    fn summary(&self) -> &str {
        "dies at once"
    }

    fn steps(&self) -> &[&str] {
        &["die"]
    }

    fn start(&self, _index: u32, _size: u64) -> (Step, u64) {
        (Step(0), 0)
    }

    fn decide(&self, _input: StepInput) -> StepOutcome {
        StepOutcome { effect: false, next: Next::Die }
    }
}

#[test]
fn a_deadly_step_is_the_processs_end() {
    let mut worker = Worker::new(options(), Some(Rc::new(Deadly)));
    let replies = || vec![REGISTERED, claimed(false), Reply::Events(vec![event(4)])];
    assert_eq!(calls(&mut worker, replies()), ["Register", "Claim", "Read", "[Die]"]);
    worker.restart(Micros(100));
    assert_eq!(calls(&mut worker, replies())[0], "Register");
}
