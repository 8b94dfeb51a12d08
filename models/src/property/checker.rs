//! The single pass: each record once, to the nouns that it concerns.
//!
//! The checker keeps its memory between runs, because it sits on the simulator's hot path. It keeps no text: what a
//! sentence needs is looked up in the history when something is wrong.

use super::arrival::Arrivals;
use super::connection::Connections;
use super::dead_letter::DeadLetters;
use super::dense::Dense;
use super::emit::Emits;
use super::fate::Known;
use super::isolation::Tries;
use super::join::Joins;
use super::judge::Findings;
use super::lease::Worker;
use super::log::{Entry, Queue};
use super::lost::Missing;
use super::server_clock::ServerClock;
use super::start::Keys;
use super::storage::Doubt;
use super::suffix::Suffix;
use super::takeover::Suspicion;
use super::timer::Timers;
use super::tokens::Tokens;
use super::transactions::{NONE, SessionState, Write};
use super::wait::Waits;
use super::window::Subscription;
use super::workflow::{LedgerLine, Workflow};
use super::{Property, Reach};
use crate::history::History;
use crate::name::{Micros, Session, Xid};
use crate::op::Op;
use crate::record::{Happening, Note, Span};
use crate::reply::{Outcome, Reply};
use crate::verdict::Verdict;
use crate::workload::{Program, Workload};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// Checks histories, one after the other, and keeps its memory between them.
pub struct Checker {
    memory: Box<Memory>,
}

/// What is live at the record that the pass has reached.
pub(super) struct Memory {
    /// By number; those that were used, in the order of their first call, stand in the list after it.
    pub(super) sessions: Vec<SessionState>,
    pub(super) used_sessions: Vec<Session>,
    pub(super) session_of_process: [Option<Session>; 256],
    /// As whom each process last called; a note may come when the session of that call is gone.
    pub(super) worker_of_process: [u32; 256],
    /// The notes that say what became of a transaction: (session, record, outcome), in that order.
    pub(super) notes: Option<Vec<(u16, u32, Outcome)>>,
    pub(super) outcomes: Dense<Known>,
    /// Transactions whose fate nobody told.
    pub(super) in_doubt: Vec<u32>,
    pub(super) queues: Vec<Queue>,
    pub(super) events: Dense<Entry>,
    /// All events before that id were over by that record.
    pub(super) leaving: VecDeque<(u32, u32)>,
    pub(super) missing: Vec<Missing>,
    /// How many events were delivered that come from nowhere, and where the last one that was looked for was appended.
    pub(super) strangers: u32,
    pub(super) stranger_birth: Option<u32>,
    pub(super) subscriptions: Vec<Option<Subscription>>,
    pub(super) workers: Dense<Worker>,
    pub(super) tokens: Tokens,
    pub(super) suspicions: Vec<Suspicion>,
    pub(super) workflows: Dense<Workflow>,
    pub(super) keys: Keys,
    pub(super) ledger: Vec<LedgerLine>,
    /// Effects of the transaction that is being committed: the step's event, and the effect's record.
    pub(super) effects: Vec<(u32, u32)>,
    pub(super) doubts: Vec<Doubt>,
    pub(super) timers: Timers,
    pub(super) waits: Waits,
    pub(super) emits: Emits,
    pub(super) joins: Joins,
    pub(super) arrivals: Arrivals,
    pub(super) dead_letters: DeadLetters,
    pub(super) tries: Tries,
    pub(super) suffix: Suffix,
    pub(super) server_clock: ServerClock,
    /// The version of the program by which a process did the work for an event, where it is not the first that did.
    pub(super) versions: BTreeMap<(u32, u8), u16>,
    pub(super) connections: Connections,
    /// A hand-out of this history was lost: it may have counted a try, or ended its window.
    pub(super) has_lost_hand_out: bool,
    /// Committed effects whose transaction's number nobody told: the ledger cannot be compared row by row.
    pub(super) has_unnumbered_effects: bool,
    /// A claim of this history was lost and committed: a lease may have moved without a record of it.
    pub(super) has_lost_claim: bool,
}

/// Where in the history something took effect: between `call` and `ret` it ran, between `commit_call` and `commit` it
/// became visible to others. For a lost reply `ret` is none, and `commit` is the note that says it committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) call: u32,
    pub(super) ret: u32,
    /// The call that began the transaction.
    pub(super) begun: u32,
    pub(super) commit_call: u32,
    pub(super) commit: u32,
    pub(super) xid: Xid,
}

impl Done {
    /// The record that tells of it best.
    pub(super) fn record(&self) -> u32 {
        if self.ret == NONE { self.call } else { self.ret }
    }

    /// The record by which it had run; none if nobody knows.
    pub(super) fn end(&self) -> u32 {
        if self.ret == NONE { self.commit } else { self.ret }
    }
}

pub(super) struct Pass<'h> {
    pub(super) history: &'h History,
    pub(super) program: Option<&'h dyn Program>,
    pub(super) memory: &'h mut Memory,
    pub(super) found: Findings,
    /// The record that the pass has reached.
    pub(super) now: u32,
}

impl Checker {
    pub fn new() -> Self {
        Checker { memory: Box::new(Memory::new()) }
    }

    /// Judges a history. The program is the one that its header names, if this crate has it. Cost: tens of nanoseconds a
    /// record.
    pub fn check(&mut self, history: &History) -> Verdict {
        let program = Workload::by_name(&history.header.workload).and_then(|workload| workload.program());
        self.check_program(history, program.map(|program| program as &dyn Program))
    }

    /// Judges a history of a program of the caller's own; with none, W7 does not ask what the program would say.
    pub fn check_program(&mut self, history: &History, program: Option<&dyn Program>) -> Verdict {
        self.memory.clear();
        let mut pass = Pass { history, program, memory: &mut self.memory, found: Findings::new(), now: 0 };
        pass.run();
        pass.found.verdict(history.records.len() as u64, history.state.is_some())
    }
}

impl Default for Checker {
    fn default() -> Self {
        Checker::new()
    }
}

impl Memory {
    fn new() -> Self {
        Memory {
            sessions: Vec::new(),
            used_sessions: Vec::new(),
            session_of_process: [None; 256],
            worker_of_process: [0; 256],
            notes: None,
            outcomes: Dense::new(),
            in_doubt: Vec::new(),
            queues: Vec::new(),
            events: Dense::new(),
            leaving: VecDeque::new(),
            missing: Vec::new(),
            strangers: 0,
            stranger_birth: None,
            subscriptions: Vec::new(),
            workers: Dense::new(),
            tokens: Tokens::default(),
            suspicions: Vec::new(),
            workflows: Dense::new(),
            keys: Keys::new(),
            ledger: Vec::new(),
            effects: Vec::new(),
            doubts: Vec::new(),
            timers: Timers::default(),
            waits: Waits::default(),
            emits: Emits::default(),
            joins: Joins::default(),
            arrivals: Arrivals::default(),
            dead_letters: DeadLetters::default(),
            tries: Tries::default(),
            suffix: Suffix::default(),
            server_clock: ServerClock::default(),
            versions: BTreeMap::new(),
            connections: Connections::default(),
            has_lost_hand_out: false,
            has_unnumbered_effects: false,
            has_lost_claim: false,
        }
    }

    fn clear(&mut self) {
        for session in self.used_sessions.drain(..) {
            self.sessions[session.0 as usize].reset();
        }
        self.session_of_process = [None; 256];
        self.worker_of_process = [0; 256];
        self.notes = None;
        self.outcomes.clear();
        self.in_doubt.clear();
        self.queues.iter_mut().for_each(Queue::reset);
        self.events.clear();
        self.leaving.clear();
        self.missing.clear();
        self.strangers = 0;
        self.stranger_birth = None;
        self.subscriptions.clear();
        self.workers.clear();
        self.tokens.clear();
        self.suspicions.clear();
        self.workflows.clear();
        self.keys.clear();
        self.ledger.clear();
        self.effects.clear();
        self.doubts.clear();
        self.timers.clear();
        self.waits.clear();
        self.emits.clear();
        self.joins.clear();
        self.arrivals.clear();
        self.dead_letters.clear();
        self.tries.clear();
        self.suffix.clear();
        self.server_clock.clear();
        self.versions.clear();
        self.connections.clear();
        self.has_lost_hand_out = false;
        self.has_unnumbered_effects = false;
        self.has_lost_claim = false;
    }
}

impl Memory {
    pub(super) fn no_doubt(&mut self, call: u32) {
        self.in_doubt.retain(|doubt| *doubt != call);
    }
}

impl Pass<'_> {
    fn run(&mut self) {
        let history = self.history;
        self.memory.suffix.read(history);
        self.memory.server_clock.read(history);
        let (mut now, processes) = (Micros(0), history.header.processes.len());
        for (record, index) in history.records.iter().zip(0u32..) {
            if record.at < now {
                self.found.ill_formed(index, "its time lies before the last record's");
            }
            if usize::from(record.process.0) >= processes {
                self.found.ill_formed(index, "the header names no such process");
            }
            now = record.at;
            self.now = index;
            match &record.what {
                Happening::Call(op) => self.called(index, record, op),
                Happening::Return(reply) => self.returned(index, record, reply),
                Happening::Blocked => self.blocked(record.session),
                Happening::Choice { .. } => self.found.sees(Reach::OpenChoice),
                Happening::Fault(fault) => self.fault(index, record, fault),
                Happening::Note(Note::WorkStarted { event }) => self.work_started(index, record, *event),
                Happening::Note(Note::WorkEnded { event, version }) => self.work_ended(record, *event, *version),
                Happening::Note(Note::Dropped) => self.excuse(record.session),
                Happening::Note(Note::Resolved { outcome }) => self.resolved(index, record, *outcome),
            }
        }
        self.finish();
    }

    /// The least and the most that the server's clock showed while a call ran.
    pub(super) fn server_time(&self, done: Done) -> (Micros, Micros) {
        let clock = &self.memory.server_clock;
        (clock.earliest(self.history, done.call, done.end()), clock.latest(self.history, done.call, done.end()))
    }

    /// What a reply shows at once, whatever becomes of its transaction.
    pub(super) fn observe(
        &mut self,
        index: u32,
        session: Session,
        call: u32,
        op: &Op<Span>,
        reply: &Reply<Span, Span, Span>,
    ) {
        if self.memory.suffix.is_doomed(index) {
            return;
        }
        match (op, reply) {
            (Op::Read { worker, token, after, limit }, Reply::Events(events)) => {
                self.token_accepted(index, session, call, *worker, *token);
                self.read(index, session, (*worker, *token), (*after, *limit), *events);
            }
            (Op::ReadResults { worker, token }, Reply::Results(results)) => {
                self.token_accepted(index, session, call, *worker, *token);
                self.results_read(index, session, (*worker, *token), *results);
            }
            (Op::Observe { queue }, Reply::Observed(counts)) => self.observed(index, session, call, *queue, *counts),
            (Op::Hold { worker, token, .. } | Op::Heartbeat { worker, token, .. }, _) => {
                self.token_accepted(index, session, call, *worker, *token);
                self.lock(index, session, *worker);
            }
            (Op::HandOut { worker, token, .. }, Reply::HandedOut { events, .. }) => {
                self.token_accepted(index, session, call, *worker, *token);
                self.read_alone(index, session, (*worker, *token), *events);
            }
            (
                Op::Claim { worker, dead_interval, .. } | Op::TakeOver { worker, dead_interval, .. },
                Reply::Claimed { token, victim, .. },
            ) => {
                self.token_issued(index, *token);
                if victim.0 != 0 {
                    self.takeover_ran(index, session, call, *victim, *dead_interval);
                }
                self.lock(index, session, *worker);
            }
            (Op::Resolve { xid }, Reply::Resolved(outcome)) => {
                self.see_answer(*outcome);
                self.answered_about(index, *xid, *outcome, call);
            }
            (Op::Rotate { queue, .. }, Reply::NotRotated { .. }) => self.not_rotated(*queue, index, false),
            (Op::Tick { .. }, Reply::Ticked { .. }) if self.session(session).in_transaction => {
                self.found.sees(Reach::TickInTransaction);
            }
            _ => {}
        }
    }

    /// The effects first: a handoff of the same transaction asks whether its step had one.
    pub(super) fn apply_transaction(&mut self, writes: &[Write], done: Done) {
        let history = self.history;
        let mut is_fenced = false;
        for write in writes {
            if let Happening::Call(op) = &history.records[write.call as usize].what {
                let is_lease = matches!(op, Op::Hold { .. } | Op::Claim { .. } | Op::TakeOver { .. });
                is_fenced |= is_lease || matches!(op, Op::Handoff { .. });
            }
        }
        // To judge a call may take that of another transaction, whose commit is still under way.
        let first = self.memory.effects.len();
        for write in writes {
            if let Happening::Call(Op::Effect { workflow, sequence, step }) = &history.records[write.call as usize].what
            {
                let done = Done { call: write.call, ret: write.ret, ..done };
                self.effect(done, (*workflow, *sequence, *step), is_fenced, writes);
            }
        }
        for write in writes {
            let Happening::Call(op) = &history.records[write.call as usize].what else { continue };
            let Happening::Return(reply) = &history.records[write.ret as usize].what else { continue };
            if !matches!(op, Op::Effect { .. }) {
                self.apply(op, reply, Done { call: write.call, ret: write.ret, ..done });
            }
        }
        self.effects_committed(writes, done, first);
        self.memory.effects.truncate(first);
    }

    /// What is judged at the end of the history.
    fn finish(&mut self) {
        self.now = self.history.records.len() as u32;
        self.settle_isolation();
        self.history.state.iter().for_each(|state| self.find_waits(state));
        self.history.state.iter().for_each(|state| self.find_undeliverable(state));
        self.judge_complete_joins();
        self.judge_unseen();
        let doubts = self.doubts();
        let has_doubts = !doubts.is_empty();
        if has_doubts {
            self.found.unknown(Property::D3);
            self.found.doubts = doubts;
        }
        self.leftovers(has_doubts);
        if let Some(state) = &self.history.state {
            self.compare_state(state, has_doubts);
        }
        self.liveness(has_doubts);
    }
}
