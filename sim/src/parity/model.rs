//! The store's side of a run: sessions by their number in the schedule, statements in, answers out.
//!
//! It does what a caller of procedures must do around them: it opens a transaction for a statement outside of one, fixes
//! the snapshot under REPEATABLE READ, and refuses everything but an end in a failed transaction.

use tourbillon_engine::store::executor::{Executor, Progress};
use tourbillon_engine::store::locks::Slot;
use tourbillon_engine::store::statement::{Policy, Tx};
use tourbillon_models::name::Xid;
use tourbillon_models::op::Isolation;
use tourbillon_models::reply::Refusal;

use super::schedule::{Line, SessionIndex, Step};
use super::statement::{FIRST_CELLS, Statement};
use super::tables::{Answer, ParityTables, call, furnish, key};

/// How far a call has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reached {
    Returned(Answer),
    Blocked,
}

/// A store and the sessions of one schedule. Its memory is kept from one schedule to the next.
#[derive(Default)]
pub struct Model {
    executor: Executor<ParityTables, Answer>,
    slots: Vec<Slot>,
}

impl Model {
    /// Forgets everything, and has so many sessions and the first rows.
    pub fn begin(&mut self, session_count: usize) {
        self.executor.clear();
        self.slots.clear();
        for _ in 0..session_count {
            let slot = self.connect();
            self.slots.push(slot);
        }
        assert!(FIRST_CELLS > 0 && session_count > 0, "somebody must insert the first rows");
        let slot = self.slots[0];
        self.executor.store_mut().begin(slot, Isolation::ReadCommitted, false);
        let mut furnished = Answer::Rows(Vec::new());
        let progress = self.executor.start(slot, Box::pin(furnish(self.handle(slot))), &mut furnished);
        assert_eq!((progress, furnished), (Progress::Returned, Answer::Done), "nobody is in the way yet");
    }

    fn connect(&mut self) -> Slot {
        self.executor.store_mut().transactions.connect().expect("there are more places than sessions")
    }

    fn handle(&self, slot: Slot) -> Tx<ParityTables> {
        Tx::new(self.executor.share(), slot)
    }

    pub fn is_in_transaction(&self, session: SessionIndex) -> bool {
        self.executor.store().transactions.of(self.slots[session]).is_open()
    }

    /// Has a call that has not returned.
    pub fn is_suspended(&self, session: SessionIndex) -> bool {
        self.executor.is_suspended(self.slots[session])
    }

    /// Waits for a lock, as opposed to having been released.
    pub fn is_waiting(&self, session: SessionIndex) -> bool {
        self.executor.store().transactions.waiting >> self.slots[session] & 1 != 0
    }

    /// Whom a session waits for: who holds what it wants, and who wants it before.
    pub fn blockers(&self, session: SessionIndex) -> Vec<SessionIndex> {
        let waits_for = self.executor.store().waits_for(self.slots[session]);
        let mask = waits_for.holders | waits_for.ahead;
        (0..self.slots.len()).filter(|other| mask >> self.slots[*other] & 1 != 0).collect()
    }

    /// Sessions whose wait is over.
    pub fn released(&self) -> Vec<SessionIndex> {
        let session = |slot| self.slots.iter().position(|own| *own == slot).expect("a released session is one of ours");
        self.executor.released().into_iter().map(session).collect()
    }

    /// Sessions with a transaction id, in the order of the ids.
    pub fn xids(&self) -> Vec<SessionIndex> {
        let store = self.executor.store();
        let xid = |session: &SessionIndex| store.transactions.of(self.slots[*session]).xid;
        let open = |session: &SessionIndex| store.transactions.of(self.slots[*session]).is_open();
        let mut with: Vec<SessionIndex> = (0..self.slots.len()).filter(|it| open(it) && xid(it) != Xid(0)).collect();
        with.sort_by_key(xid);
        with
    }

    /// While nobody is in a transaction: the id that the next to write will get.
    pub fn next_xid(&self) -> i64 {
        self.executor.store().current_snapshot(self.slots[0]).xmax.0.into()
    }

    /// Runs a statement until it returns or waits.
    pub fn start(&mut self, session: SessionIndex, statement: Statement) -> Reached {
        let slot = self.slots[session];
        if statement.is_transaction_control() {
            return Reached::Returned(self.control(slot, statement).unwrap_or_else(Answer::from));
        }
        {
            let mut store = self.executor.store_mut();
            if store.transactions.of(slot).is_open() && store.transactions.of(slot).failed {
                return Reached::Returned(Refusal::FailedTransaction.into());
            }
            if !store.transactions.of(slot).is_open() {
                store.begin(slot, Isolation::ReadCommitted, false);
            }
            // The one statement that neither reads nor writes.
            if !matches!(statement, Statement::LockTable(..)) {
                store.transactions.fix_snapshot(slot);
            }
        }
        let call = call(self.handle(slot), statement);
        let mut answer = Answer::Done;
        let progress = self.executor.start(slot, call, &mut answer);
        reached(progress, answer)
    }

    fn control(&mut self, slot: Slot, statement: Statement) -> Result<Answer, Refusal> {
        let mut store = self.executor.store_mut();
        let failed = store.transactions.of(slot).failed;
        match statement {
            Statement::Begin(isolation) => store.begin(slot, isolation, true),
            Statement::Commit => drop(store.commit(slot)?),
            Statement::Rollback => store.rollback(slot),
            Statement::Savepoint(_) if failed => return Err(Refusal::FailedTransaction),
            Statement::Savepoint(name) => store.savepoint(slot, name),
            Statement::RollbackTo(name) => store.rollback_to(slot, name)?,
            _ => unreachable!("{statement} is not transaction control"),
        }
        Ok(Answer::Done)
    }

    /// Whether a step means anything as things are.
    pub fn applies(&self, step: Step) -> bool {
        match step {
            Step::Statement(session, statement) => {
                !self.is_suspended(session)
                    && statement.fits(self.is_in_transaction(session))
                    && !self.depends_on_version(session, statement)
            }
            Step::TimesOut(session) => self.is_waiting(session),
            Step::Dies(session) => self.is_suspended(session) || self.is_in_transaction(session),
            Step::ServerDies | Step::Xids => true,
        }
    }

    /// From PostgreSQL 17 on, a request that does not want to wait passes those who wait for the session that makes it.
    fn depends_on_version(&self, session: SessionIndex, statement: Statement) -> bool {
        let Statement::LockTable(table, _, Policy::NoWait) = statement else { return false };
        let locks = &self.executor.store().locks;
        locks.holds(self.slots[session], key(table)) && locks.queue(key(table)).next().is_some()
    }

    /// Does what a line says, without a server: the store is the same afterwards as in a run on both.
    pub fn play(&mut self, line: Line) {
        if !self.applies(line.step) {
            return;
        }
        match line.step {
            Step::Statement(session, statement) => {
                let reached = self.start(session, statement);
                self.settle(session, reached);
            }
            Step::TimesOut(session) => {
                self.time_out(session);
                let reached = self.resume(session);
                self.settle(session, reached);
            }
            Step::Dies(session) => self.die(session),
            Step::ServerDies => self.crash(),
            Step::Xids => {}
        }
        let mut then = line.then;
        while let Some(session) = self.next_to_go(&mut then) {
            let reached = self.resume(session);
            self.settle(session, reached);
        }
    }

    /// A call that is released as soon as it waits only stood back for others, or was served before them after all: it
    /// goes on before anyone else, as its backend, which never stopped, does.
    pub fn settle(&mut self, session: SessionIndex, mut reached: Reached) -> Reached {
        while reached == Reached::Blocked && self.released().contains(&session) {
            reached = self.resume(session);
        }
        reached
    }

    /// Who of the released goes on first; takes one choice from `then`.
    pub fn next_to_go(&self, then: &mut u32) -> Option<SessionIndex> {
        let released = self.released();
        let count = u32::try_from(released.len()).expect("sessions are few");
        let place = then.checked_rem(count)?;
        *then /= count;
        Some(released[place as usize])
    }

    /// Whether the session's transaction takes nothing but its end.
    pub fn is_failed(&self, session: SessionIndex) -> bool {
        self.executor.store().transactions.of(self.slots[session]).failed
    }

    /// Goes on with a released session.
    pub fn resume(&mut self, session: SessionIndex) -> Reached {
        let mut answer = Answer::Done;
        let progress = self.executor.resume(self.slots[session], &mut answer);
        reached(progress, answer)
    }

    /// Ends a session's wait.
    pub fn time_out(&mut self, session: SessionIndex) {
        self.executor.time_out(self.slots[session]);
    }

    /// The session's backend is gone, and its client has another.
    pub fn die(&mut self, session: SessionIndex) {
        self.executor.disconnect(self.slots[session]);
        self.slots[session] = self.connect();
    }

    pub fn crash(&mut self) {
        self.executor.crash();
        for index in 0..self.slots.len() {
            self.slots[index] = self.connect();
        }
    }
}

fn reached(progress: Progress, answer: Answer) -> Reached {
    match progress {
        Progress::Returned => Reached::Returned(answer),
        Progress::Blocked => Reached::Blocked,
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Answer::Refused(refusal.sqlstate().to_string())
    }
}
