//! One run of a schedule: every statement to the store and to the server, every answer and every block compared.
//!
//! The store goes first and says what must happen. A session that waits is frozen on the server, and goes on when the
//! store says so; so the store's choices are imposed where PostgreSQL leaves one open, and nothing is left to chance.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::postgres::Error;
use crate::postgres::control::Expect;

use super::model::{Model, Reached};
use super::peer::{Found, Peer};
use super::schedule::{Line, Schedule, SessionIndex, Step};
use super::statement::Statement;
use super::tables::Answer;

/// How long the server's waits may differ from the store's before that counts: a deadlock check comes 1 ms late.
const DOUBT: Duration = Duration::from_millis(500);

/// What a run, or many, came across.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub statements: u64,
    /// Statements that had to wait, each wait counted.
    pub blocked: u64,
    pub deadlocks: u64,
    /// Times that several could have gone on first.
    pub choices: u64,
    pub refusals: u64,
}

impl Counts {
    pub fn add(&mut self, other: Counts) {
        self.statements += other.statements;
        self.blocked += other.blocked;
        self.deadlocks += other.deadlocks;
        self.choices += other.choices;
        self.refusals += other.refusals;
    }
}

/// Where store and server parted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// All that happened before, a line each.
    pub transcript: Vec<String>,
    pub step: String,
    pub store: String,
    pub server: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.transcript.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        write!(f, "  {}\n    store:  {}\n    server: {}", self.step, self.store, self.server)
    }
}

/// Why a run ended early.
#[derive(Debug)]
pub enum Stop {
    Difference(Box<Difference>),
    /// The server could not be used.
    Server(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Server(error)
    }
}

/// Runs a schedule on both. After a difference the server's sessions are new.
pub fn run(model: &mut Model, peer: &mut Peer, schedule: &Schedule) -> Result<Counts, Stop> {
    let session_count = schedule.session_count().max(1);
    model.begin(session_count);
    peer.begin(session_count)?;
    peer.match_xids(model.next_xid())?;
    let mut lockstep = Lockstep {
        under_way: vec![None; session_count],
        drawn: vec![Vec::new(); session_count],
        safe_value: 0,
        model,
        peer,
        counts: Counts::default(),
        transcript: Vec::new(),
        step: String::new(),
    };
    let ended = schedule.lines.iter().try_for_each(|line| lockstep.line(*line)).and_then(|()| lockstep.end());
    let counts = lockstep.counts;
    if ended.is_err() {
        peer.abandon()?;
    }
    ended.map(|()| counts)
}

struct Lockstep<'a, 'b> {
    model: &'a mut Model,
    peer: &'a mut Peer<'b>,
    /// What each session was asked and has not answered.
    under_way: Vec<Option<Statement>>,
    /// Values of the sequence that each session's open transaction has seen.
    drawn: Vec<Vec<i64>>,
    /// The highest value that a transaction saw whose commit was on disk.
    safe_value: i64,
    counts: Counts,
    transcript: Vec<String>,
    step: String,
}

impl Lockstep<'_, '_> {
    fn line(&mut self, line: Line) -> Result<(), Stop> {
        if !self.model.applies(line.step) {
            return Ok(());
        }
        self.step = line.to_string();
        match line.step {
            Step::Statement(session, statement) => self.statement(session, statement)?,
            Step::TimesOut(session) => {
                self.model.time_out(session);
                self.peer.cancel(session)?;
                self.go_on(session)?;
            }
            Step::Dies(session) => self.die(session)?,
            Step::ServerDies => self.crash()?,
            Step::Xids => self.compare_xids()?,
        }
        self.let_go(line.then)
    }

    fn statement(&mut self, session: SessionIndex, statement: Statement) -> Result<(), Stop> {
        self.counts.statements += 1;
        self.under_way[session] = Some(statement);
        let had_xid = statement == Statement::Commit && self.model.xids().contains(&session);
        let reached = self.model.start(session, statement);
        self.peer.start(session, statement);
        self.settle(session, reached)?;
        match statement {
            Statement::Commit if had_xid => self.keep_values(session),
            Statement::Commit | Statement::Rollback => self.drawn[session].clear(),
            _ => {}
        }
        Ok(())
    }

    /// The store's call has returned or waits: the server's statement must have come to the same.
    fn settle(&mut self, session: SessionIndex, reached: Reached) -> Result<(), Stop> {
        let reached = self.model.settle(session, reached);
        let statement = self.under_way[session].expect("only a statement under way can settle");
        let expect = if reached == Reached::Blocked { Expect::Block } else { Expect::Return };
        let found = self.peer.settle(session, statement, expect)?;
        match reached {
            Reached::Returned(answer) => {
                self.under_way[session] = None;
                self.compare(&describe(&answer), &describe_found(&found))?;
                self.note(session, statement, &answer);
                if self.under_way.iter().any(Option::is_some) {
                    self.compare_waits()?;
                }
            }
            Reached::Blocked => {
                self.counts.blocked += 1;
                if found != Found::Blocked {
                    return self.differ("waits".to_string(), describe_found(&found));
                }
                self.compare_waits()?;
                self.compare_blockers(session)?;
                self.peer.freeze(session)?;
            }
        }
        Ok(())
    }

    fn note(&mut self, session: SessionIndex, statement: Statement, answer: &Answer) {
        match answer {
            Answer::Refused(code) => {
                self.counts.refusals += 1;
                self.counts.deadlocks += u64::from(code == "40P01");
            }
            Answer::Rows(rows) if matches!(statement, Statement::NextValue | Statement::NextValues) => {
                self.drawn[session].push(rows[0][0]);
                if !self.model.is_in_transaction(session) {
                    self.drawn[session].clear();
                }
            }
            _ => {}
        }
    }

    fn keep_values(&mut self, session: SessionIndex) {
        self.safe_value = self.drawn[session].drain(..).fold(self.safe_value, i64::max);
    }

    /// Lets those go on that a step released, and those that they release.
    fn let_go(&mut self, mut then: u32) -> Result<(), Stop> {
        loop {
            self.counts.choices += u64::from(self.model.released().len() > 1);
            let Some(session) = self.model.next_to_go(&mut then) else { return Ok(()) };
            self.go_on(session)?;
        }
    }

    fn go_on(&mut self, session: SessionIndex) -> Result<(), Stop> {
        self.step = format!("s{} goes on", session + 1);
        self.peer.go_on(session)?;
        let reached = self.model.resume(session);
        self.settle(session, reached)
    }

    fn die(&mut self, session: SessionIndex) -> Result<(), Stop> {
        self.model.die(session);
        self.under_way[session] = None;
        self.drawn[session].clear();
        self.peer.die(session)?;
        self.transcript.push(self.step.clone());
        self.compare_waits()
    }

    fn crash(&mut self) -> Result<(), Stop> {
        self.model.crash();
        self.under_way.fill(None);
        self.drawn.iter_mut().for_each(Vec::clear);
        self.peer.crash()?;
        self.transcript.push(self.step.clone());
        let Reached::Returned(Answer::Rows(rows)) = self.model.start(0, Statement::NextValue) else {
            unreachable!("nobody is in the way after a crash");
        };
        let ours = rows[0][0];
        let theirs = self.peer.rename_next_value(ours)?;
        self.peer.match_xids(self.model.next_xid())?;
        // Both may go on where they like, as long as no value is issued twice that a commit on disk has seen.
        if ours <= self.safe_value || theirs <= self.safe_value {
            return self.differ(format!("next value {ours}"), format!("next value {theirs}"));
        }
        Ok(())
    }

    fn compare_xids(&mut self) -> Result<(), Stop> {
        let (ours, theirs) = (self.model.xids(), self.peer.xids()?);
        self.compare(&list(ours), &list(theirs))
    }

    /// Everyone whom the server lets wait must wait in the store, and nobody else.
    fn compare_waits(&mut self) -> Result<(), Stop> {
        let ours: BTreeSet<SessionIndex> =
            (0..self.under_way.len()).filter(|session| self.model.is_waiting(*session)).collect();
        let begin = Instant::now();
        let mut theirs = self.peer.waiting()?;
        while theirs != ours {
            if begin.elapsed() > DOUBT {
                let waiting = |sessions| format!("waiting: {}", list(sessions));
                return self.differ(waiting(ours), waiting(theirs));
            }
            theirs = self.peer.waiting()?;
        }
        Ok(())
    }

    /// The session waits for the same others on both sides.
    fn compare_blockers(&mut self, session: SessionIndex) -> Result<(), Stop> {
        let ours: BTreeSet<SessionIndex> = self.model.blockers(session).into_iter().collect();
        let begin = Instant::now();
        let mut theirs = self.peer.blockers(session)?;
        while theirs != ours && begin.elapsed() < DOUBT {
            theirs = self.peer.blockers(session)?;
        }
        self.compare(&format!("waits for {}", list(ours)), &format!("waits for {}", list(theirs)))
    }

    fn compare(&mut self, ours: &str, theirs: &str) -> Result<(), Stop> {
        if ours != theirs {
            return self.differ(ours.to_string(), theirs.to_string());
        }
        self.transcript.push(format!("{} => {ours}", self.step));
        Ok(())
    }

    fn differ(&mut self, store: String, server: String) -> Result<(), Stop> {
        let transcript = std::mem::take(&mut self.transcript);
        Err(Stop::Difference(Box::new(Difference { transcript, step: self.step.clone(), store, server })))
    }

    /// Commits whatever is open, then compares all that is there.
    fn end(&mut self) -> Result<(), Stop> {
        let sessions = 0..self.under_way.len();
        loop {
            let open: Vec<SessionIndex> = sessions.clone().filter(|it| self.model.is_in_transaction(*it)).collect();
            let Some(next) = open.iter().find(|it| !self.model.is_suspended(**it)) else {
                self.step = "the end".to_string();
                if !open.is_empty() {
                    // Both have overlooked a deadlock, the server because it was not given the time to see it.
                    return self.differ("nobody can go on".to_string(), "nobody can go on".to_string());
                }
                break;
            };
            self.line(Line { step: Step::Statement(*next, Statement::Commit), then: 0 })?;
        }
        for step in [Step::Statement(0, Statement::GetAll), Step::Statement(0, Statement::GetEvents), Step::Xids] {
            self.line(Line { step, then: 0 })?;
        }
        Ok(())
    }
}

fn list(sessions: impl IntoIterator<Item = SessionIndex>) -> String {
    let names: Vec<String> = sessions.into_iter().map(|session| format!("s{}", session + 1)).collect();
    if names.is_empty() { "nobody".to_string() } else { names.join(", ") }
}

fn describe(answer: &Answer) -> String {
    match answer {
        // How a cancelled statement says that its wait was too long.
        Answer::Refused(code) if code == "57014" => describe(&Answer::Refused("55P03".to_string())),
        // A savepoint that does not exist is the only thing here that does not.
        Answer::Refused(code) if code == "42704" => describe(&Answer::Refused("3B001".to_string())),
        answer => answer.to_string(),
    }
}

fn describe_found(found: &Found) -> String {
    match found {
        Found::Returned(answer) => describe(answer),
        Found::Blocked => "waits".to_string(),
    }
}
