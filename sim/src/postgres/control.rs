//! A look at the sessions from outside: who waits for whom, and who is gone.
//!
//! It is a connection of its own, as a blocked session cannot be asked. What it is not: a clock. It waits for
//! conditions, asking the server again as soon as it has answered, and gives up only after a deadline that no healthy
//! machine reaches. Invariant: it says "blocked" only on the server's word.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_postgres::Config;

use super::Error;
use super::session::{Outcome, Session};

/// After this long something is broken.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long a reply that is expected is waited for before the server is asked whether the session is blocked: longer
/// than nearly all take, so that they cost one round trip.
const QUIET: Duration = Duration::from_millis(20);

/// How long the server must keep calling a session blocked that was expected to return. Timeouts of 1 ms that end a wait
/// (`lock_timeout`, a victim's `deadlock_timeout`) have fired by then.
const DOUBT: Duration = Duration::from_millis(250);

const BLOCKED_BY: &str = "select pg_blocking_pids($1)";
const XID_OF: &str = "select backend_xid::text::int8 from pg_stat_activity where pid = $1";
const WAITS: &str = "select pid, locktype, mode from pg_locks where not granted and pid is not null order by pid";
const IS_GONE: &str = "select not exists (select from pg_stat_activity where pid = $1) \
                       and not exists (select from pg_locks where pid = $1)";
const ACTIVITY: &str = "select coalesce(state, 'unknown'), coalesce(wait_event_type || '/' || wait_event, 'nothing') \
                        from pg_stat_activity where pid = $1";
const TERMINATE: &str = "select pg_terminate_backend($1)";
const CANCEL: &str = "select pg_cancel_backend($1)";

/// What the caller knows from elsewhere. It changes what is asked first, never the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The statement should return.
    Return,
    /// The statement should block.
    Block,
}

/// Where a statement has come to rest.
#[derive(Debug)]
pub enum Rest {
    /// It is over.
    Done(Outcome),
    /// It waits for a lock that these backends hold or wait for ahead of it (pids; 0 stands for a prepared transaction).
    Blocked(Vec<i32>),
}

/// A lock that somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait {
    /// The backend that waits.
    pub pid: i32,
    /// `pg_locks.locktype`, for instance `transactionid`, `tuple`, `relation`, `advisory`.
    pub lock: String,
    /// `pg_locks.mode`, for instance `ShareLock`.
    pub mode: String,
}

/// A connection that watches others.
#[derive(Debug)]
pub struct Control {
    session: Session,
}

impl Control {
    /// Connects and prepares its statements; a few milliseconds.
    pub async fn open(config: &Config) -> Result<Control, tokio_postgres::Error> {
        let session = Session::open(config).await?;
        // A wait for a reply drops the question that it asks meanwhile, and a preparation must not be dropped.
        for statement in [BLOCKED_BY, WAITS, IS_GONE] {
            session.prepare(statement).await;
        }
        Ok(Control { session })
    }

    /// The connection itself, for statements that nobody can block.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The pids that `pid` waits for, empty if it does not wait for a lock; one round trip.
    pub async fn blocked_by(&self, pid: i32) -> Result<Vec<i32>, Error> {
        let reply = self.session.execute(BLOCKED_BY, &[&pid]).await.done()?;
        Ok(reply.rows[0].get(0))
    }

    /// The id of the transaction that a session of the same role has open, without its epoch; one round trip.
    pub async fn xid_of(&self, pid: i32) -> Result<Option<u32>, Error> {
        let reply = self.session.execute(XID_OF, &[&pid]).await.done()?;
        Ok(reply.rows.first().and_then(|row| row.get::<_, Option<i64>>(0)).map(|xid| xid as u32))
    }

    /// All waits of the server at one moment, by pid, those of strangers included; one round trip.
    pub async fn all_blocked(&self) -> Result<Vec<Wait>, Error> {
        let reply = self.session.execute(WAITS, &[]).await.done()?;
        Ok(reply.rows.iter().map(|row| Wait { pid: row.get(0), lock: row.get(1), mode: row.get(2) }).collect())
    }

    /// Waits until the statement that was started is over or the server says that it waits for a lock.
    ///
    /// A wait that a timeout is about to end counts as blocked if that is what the caller expects. So where an error is
    /// expected that ends a wait (40P01, 55P03), expect [`Expect::Return`].
    pub async fn wait_until_blocked_or_done(&self, session: &mut Session, expect: Expect) -> Result<Rest, Error> {
        let doubt = match expect {
            Expect::Block => Duration::ZERO,
            Expect::Return => match timeout(QUIET, session.outcome()).await {
                Ok(outcome) => return Ok(Rest::Done(outcome)),
                Err(_) => DOUBT,
            },
        };
        let begin = Instant::now();
        let mut blocked_since = None;
        while begin.elapsed() < PATIENCE {
            let pid = session.pid();
            let blockers = tokio::select! {
                biased;
                outcome = session.outcome() => return Ok(Rest::Done(outcome)),
                blockers = self.blocked_by(pid) => blockers?,
            };
            if blockers.is_empty() {
                blocked_since = None;
            } else if blocked_since.get_or_insert_with(Instant::now).elapsed() >= doubt {
                return Ok(Rest::Blocked(blockers));
            }
            yield_now().await;
        }
        Err(self.unsettled(session.pid(), "neither returned nor was blocked").await)
    }

    /// Waits until every statement that was started is over, its outcome ready to be taken, or blocked; returns the
    /// waits, all of one moment at which nothing moved.
    pub async fn wait_until_all_settled(&self, sessions: &mut [&mut Session]) -> Result<Vec<Wait>, Error> {
        let begin = Instant::now();
        loop {
            advance(sessions).await;
            let pending: Vec<i32> = sessions.iter().filter(|it| it.is_in_flight()).map(|it| it.pid()).collect();
            if pending.is_empty() {
                return Ok(Vec::new());
            }
            let mut waits = self.all_blocked().await?;
            waits.retain(|wait| pending.contains(&wait.pid));
            // Sessions that had returned before the moment of the query cannot move, those that wait cannot either.
            let Some(&moving) = pending.iter().find(|&&pid| waits.iter().all(|wait| wait.pid != pid)) else {
                return Ok(waits);
            };
            if begin.elapsed() >= PATIENCE {
                return Err(self.unsettled(moving, "neither returned nor was blocked").await);
            }
            yield_now().await;
        }
    }

    /// Waits for the outcome of the statement that was started, without a look at locks.
    pub async fn wait_until_done(&self, session: &mut Session) -> Result<Outcome, Error> {
        match timeout(PATIENCE, session.outcome()).await {
            Ok(outcome) => Ok(outcome),
            Err(_) => Err(self.unsettled(session.pid(), "did not return").await),
        }
    }

    /// Ends a session's backend, whatever it does, and waits until it and its locks are gone; some milliseconds.
    pub async fn terminate(&self, session: Session) -> Result<(), Error> {
        self.session.execute(TERMINATE, &[&session.pid()]).await.done()?;
        self.wait_until_gone(session.pid()).await
    }

    /// Hangs up and waits until the backend has noticed, rolled back what was open, and is gone.
    pub async fn close(&self, session: Session) -> Result<(), Error> {
        assert!(!session.is_in_flight(), "session {} has a statement in flight", session.pid());
        let pid = session.pid();
        drop(session);
        self.wait_until_gone(pid).await
    }

    /// Cancels the statement in flight. Its outcome is still to be waited for: 57014, unless it was faster.
    ///
    /// Only for a statement that is blocked: a cancellation that comes late hits the next one.
    pub async fn cancel(&self, session: &Session) -> Result<(), Error> {
        self.session.execute(CANCEL, &[&session.pid()]).await.done().map(|_| ())
    }

    pub(super) async fn wait_until_gone(&self, pid: i32) -> Result<(), Error> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let reply = self.session.execute(IS_GONE, &[&pid]).await.done()?;
            if reply.rows[0].get(0) {
                return Ok(());
            }
            yield_now().await;
        }
        Err(self.unsettled(pid, "did not end").await)
    }

    pub(super) async fn unsettled(&self, pid: i32, what: &str) -> Error {
        let activity = self.session.execute(ACTIVITY, &[&pid]).await.done();
        let activity = match activity.as_ref().map(|reply| reply.rows.first()) {
            Ok(Some(row)) => format!("it is {} and waits for {}", row.get::<_, &str>(0), row.get::<_, &str>(1)),
            Ok(None) => "its backend is gone".to_string(),
            Err(error) => error.to_string(),
        };
        Error::Unsettled(format!("the session of backend {pid} {what} for {} s: {activity}", PATIENCE.as_secs()))
    }
}

/// Lets every statement in flight go as far as it can.
async fn advance(sessions: &mut [&mut Session]) {
    poll_fn(|context| {
        sessions.iter_mut().for_each(|session| session.advance(context));
        Poll::Ready(())
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::server::Server;

    fn run(server: &Server, session: &Session, sql: &str) -> u64 {
        server.execute(session, sql, &[]).unwrap().done().unwrap_or_else(|error| panic!("{sql}: {error}")).row_count
    }

    fn refused(outcome: Outcome) -> String {
        match outcome {
            Outcome::Refused(refusal) => refusal.code,
            other => panic!("{other:?} was not refused"),
        }
    }

    fn with_table() -> Server {
        let server = Server::embedded().unwrap();
        server
            .install(
                "create table t (id int8 primary key, x int8); insert into t select i, 0 from generate_series(1, 9) i",
            )
            .unwrap();
        server
    }

    const UPDATE: &str = "update t set x = x + 1 where id = $1";

    #[test]
    fn a_blocked_statement_names_its_blocker_and_returns_when_it_is_released() {
        let server = with_table();
        let [a, mut b] = [0; 2].map(|_| server.open().unwrap());
        run(&server, &a, "begin");
        run(&server, &a, "update t set x = 1 where id = 1");
        for expect in [Expect::Block, Expect::Return] {
            server.start(&mut b, UPDATE, vec![Box::new(1i64)]);
            let rest = server.wait_until_blocked_or_done(&mut b, expect).unwrap();
            assert!(matches!(&rest, Rest::Blocked(pids) if pids == &[a.pid()]), "{rest:?}");
            let waits = server.all_blocked().unwrap();
            let wait = Wait { pid: b.pid(), lock: "transactionid".into(), mode: "ShareLock".into() };
            assert_eq!(waits, [wait]);
            server.cancel(&b).unwrap();
            assert_eq!(refused(server.wait_until_done(&mut b).unwrap()), "57014");
            assert_eq!(server.blocked_by(b.pid()).unwrap(), [0i32; 0]);
        }
        server.start(&mut b, UPDATE, vec![Box::new(1i64)]);
        assert!(b.is_in_flight() && b.take_outcome().is_none());
        run(&server, &a, "commit");
        let reply = server.wait_until_done(&mut b).unwrap().done().unwrap();
        assert_eq!(reply.row_count, 1);
    }

    #[test]
    fn a_statement_that_computes_is_not_blocked() {
        let server = with_table();
        let mut session = server.open().unwrap();
        server.start(&mut session, "select count(*) from generate_series(1, 1000000)", Vec::new());
        let rest = server.wait_until_blocked_or_done(&mut session, Expect::Block).unwrap();
        let Rest::Done(outcome) = rest else { panic!("{rest:?}") };
        assert_eq!(outcome.done().unwrap().rows[0].get::<_, i64>(0), 1_000_000);
    }

    #[test]
    fn a_terminated_backend_has_released_its_locks_when_that_returns() {
        let server = with_table();
        let probe = server.open().unwrap();
        for _ in 0..20 {
            let holder = server.open().unwrap();
            run(&server, &holder, "begin");
            run(&server, &holder, "update t set x = x + 1");
            run(&server, &holder, "select pg_advisory_lock(7)");
            server.terminate(holder).unwrap();
            assert_eq!(run(&server, &probe, "select id from t for update nowait"), 9);
            assert_eq!(run(&server, &probe, "select from pg_try_advisory_lock(7) as free where free"), 1);
            run(&server, &probe, "select pg_advisory_unlock_all()");
        }
    }

    #[test]
    fn terminated_while_it_waits_a_statement_is_unknown_and_its_session_dead() {
        let server = with_table();
        let [a, mut b] = [0; 2].map(|_| server.open().unwrap());
        run(&server, &a, "select pg_advisory_lock(1)");
        server.start(&mut b, "select pg_advisory_lock(1)", Vec::new());
        server.wait_until_blocked_or_done(&mut b, Expect::Block).unwrap();
        server.block_on(server.control().session().execute(TERMINATE, &[&b.pid()])).done().unwrap();
        assert!(matches!(server.wait_until_done(&mut b).unwrap(), Outcome::Unknown(_)));
        assert!(matches!(server.execute(&b, "select 1", &[]).unwrap(), Outcome::Unknown(_)));
        server.terminate(b).unwrap();
    }

    #[test]
    fn a_closed_session_has_rolled_back_when_that_returns() {
        let server = with_table();
        let [a, b] = [0; 2].map(|_| server.open().unwrap());
        run(&server, &a, "begin");
        run(&server, &a, "delete from t");
        server.close(a).unwrap();
        assert_eq!(run(&server, &b, "select id from t for update nowait"), 9);
    }

    #[test]
    fn locks_are_free_when_a_refusal_is_given_out() {
        let server = with_table();
        let [a, b] = [0; 2].map(|_| server.open().unwrap());
        // So many locks that to release them takes longer than a message to arrive.
        let all = "select from generate_series(1, 4000) as i where pg_try_advisory_xact_lock(i)";
        for _ in 0..20 {
            run(&server, &a, "begin");
            assert_eq!(run(&server, &a, all), 4000);
            assert_eq!(refused(server.execute(&a, "select 1 / 0", &[]).unwrap()), "22012");
            assert_eq!(run(&server, &b, all), 4000);
            assert_eq!(refused(server.execute(&a, "select 1", &[]).unwrap()), "25P02");
            run(&server, &a, "rollback");
        }
    }

    #[test]
    fn all_settle_the_released_and_those_behind_them() {
        let server = with_table();
        let mut sessions: Vec<Session> = (0..5).map(|_| server.open().unwrap()).collect();
        let lock = "select pg_advisory_xact_lock(1)";
        for session in &mut sessions {
            run(&server, session, "begin");
            server.block_on(session.prepare(lock)).done().unwrap();
            server.start(session, lock, Vec::new());
        }
        for round in 0..5 {
            let mut all: Vec<&mut Session> = sessions.iter_mut().collect();
            let waits = server.wait_until_all_settled(&mut all).unwrap();
            assert_eq!(waits.len(), 4 - round);
            let done = sessions.iter().position(|session| session.is_started() && !session.is_in_flight()).unwrap();
            sessions[done].take_outcome().unwrap().done().unwrap();
            server.start(&mut sessions[done], "commit", Vec::new());
            server.wait_until_done(&mut sessions[done]).unwrap().done().unwrap();
        }
        let mut all: Vec<&mut Session> = sessions.iter_mut().collect();
        assert_eq!(server.wait_until_all_settled(&mut all).unwrap(), []);
    }

    #[test]
    fn who_closes_a_cycle_with_a_short_deadlock_timeout_is_its_victim() {
        let server = with_table();
        let mut sessions: [Session; 2] = [0; 2].map(|_| server.open().unwrap());
        for round in 0..20 {
            for (session, id) in sessions.iter().zip([1i64, 2]) {
                run(&server, session, "begin");
                server.execute(session, UPDATE, &[&id]).unwrap().done().unwrap();
            }
            let (first, last) = sessions.split_at_mut(1);
            let (first, last) =
                if round % 2 == 0 { (&mut first[0], &mut last[0]) } else { (&mut last[0], &mut first[0]) };
            let other = |of: i64| vec![Box::new(if round % 2 == 0 { 3 - of } else { of }) as _];
            server.start(first, UPDATE, other(1));
            assert!(matches!(server.wait_until_blocked_or_done(first, Expect::Block).unwrap(), Rest::Blocked(_)));
            run(&server, last, "set local deadlock_timeout = 1");
            server.start(last, UPDATE, other(2));
            match server.wait_until_blocked_or_done(last, Expect::Return).unwrap() {
                Rest::Done(outcome) => assert_eq!(refused(outcome), "40P01"),
                blocked => panic!("{blocked:?}"),
            }
            server.wait_until_done(first).unwrap().done().unwrap();
            run(&server, first, "commit");
            run(&server, last, "rollback");
        }
    }
}
