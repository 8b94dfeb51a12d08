//! The server's side of a run: the same sessions on real connections, each frozen while it waits.
//!
//! Connections are kept from one schedule to the next; a session that died gets a new one. Who waits is the server's
//! word, read from its lock table. Only one backend runs at a time, so what this side does is determined by what it is
//! told, whose turn it is included.

use std::collections::BTreeSet;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::postgres::Error;
use crate::postgres::control::{Expect, Rest};
use crate::postgres::server::Server;
use crate::postgres::session::{Outcome, Reply, Session, Wanted};

use super::schedule::SessionIndex;
use super::statement::{FIRST_CELLS, Statement};
use super::tables::{Answer, RESET, SCHEMA};

/// How far a statement has come on the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    Returned(Answer),
    Blocked,
}

struct Connection {
    session: Session,
    frozen: bool,
}

/// A server with the tables of schedules, and connections to it.
pub struct Peer<'a> {
    server: &'a mut Server,
    schema: String,
    connections: Vec<Connection>,
    /// What the server's transaction ids are ahead of the store's, which takes as many, in the same order.
    xids_ahead: i64,
}

impl<'a> Peer<'a> {
    pub fn new(server: &'a mut Server) -> Result<Peer<'a>, Error> {
        if !server.can_crash() {
            let sentence = "store parity stops and kills backends: it needs a server that is started for it";
            return Err(Error::Unavailable(sentence.into()));
        }
        let schema = server.create_schema()?;
        server.install(&format!("set search_path = {schema}; {SCHEMA}"))?;
        let peer = Peer { server, schema, connections: Vec::new(), xids_ahead: 0 };
        // A checkpoint would make the next `nextval` log, and so take a transaction id.
        peer.ask("alter system set checkpoint_timeout = '1d'", &[])?;
        peer.ask("select pg_reload_conf()", &[])?;
        Ok(peer)
    }

    /// Puts the first rows into empty tables, and has so many sessions.
    pub fn begin(&mut self, session_count: usize) -> Result<(), Error> {
        self.server
            .install(&format!("{RESET}; insert into cells select id, 0 from generate_series(1, {FIRST_CELLS}) id"))?;
        self.connect(session_count)
    }

    fn connect(&mut self, session_count: usize) -> Result<(), Error> {
        while self.connections.len() < session_count {
            let session = self.open()?;
            self.connections.push(Connection { session, frozen: false });
        }
        Ok(())
    }

    fn open(&self) -> Result<Session, Error> {
        let session = self.server.open()?;
        let setting = format!("set search_path = {}; set deadlock_timeout = 1", self.schema);
        self.server.block_on(session.execute_script(&setting)).done()?;
        Ok(session)
    }

    /// Sends a statement.
    pub fn start(&mut self, session: SessionIndex, statement: Statement) {
        let wanted = if statement.returns_rows() { Wanted::Rows } else { Wanted::Count };
        let sql = statement.to_string();
        self.server.block_on(self.connections[session].session.start_once(&sql, wanted));
    }

    /// Waits until the session's statement has returned or is blocked.
    pub fn settle(&mut self, session: SessionIndex, statement: Statement, expect: Expect) -> Result<Found, Error> {
        let rest = self.server.wait_until_blocked_or_done(&mut self.connections[session].session, expect)?;
        Ok(match rest {
            Rest::Done(outcome) => Found::Returned(self.answer(outcome, statement)?),
            Rest::Blocked(_) => Found::Blocked,
        })
    }

    fn answer(&self, outcome: Outcome, statement: Statement) -> Result<Answer, Error> {
        Ok(match outcome {
            Outcome::Done(reply) if statement.returns_xids() => Answer::Rows(rows(&reply, self.xids_ahead)),
            Outcome::Done(reply) if statement.returns_rows() => Answer::Rows(rows(&reply, 0)),
            Outcome::Done(reply) if statement.counts() => Answer::Changed(reply.row_count),
            Outcome::Done(_) => Answer::Done,
            Outcome::Refused(refusal) => Answer::Refused(refusal.code),
            Outcome::Unknown(reason) => return Err(Error::Lost(reason)),
        })
    }

    /// Nobody is in a transaction now, and the store's next transaction id is this.
    pub fn match_xids(&mut self, next: i64) -> Result<(), Error> {
        let reply = self.ask("select pg_snapshot_xmax(pg_current_snapshot())::text::int8", &[])?;
        self.xids_ahead = reply.rows[0].get::<_, i64>(0) - next;
        Ok(())
    }

    fn of(&self, pid: i32) -> Option<SessionIndex> {
        self.connections.iter().position(|connection| connection.session.pid() == pid)
    }

    /// Who waits for a lock, all at one moment.
    pub fn waiting(&self) -> Result<BTreeSet<SessionIndex>, Error> {
        Ok(self.server.all_blocked()?.iter().filter_map(|wait| self.of(wait.pid)).collect())
    }

    /// Whom a session waits for, in the order of their numbers.
    pub fn blockers(&self, session: SessionIndex) -> Result<BTreeSet<SessionIndex>, Error> {
        let pids = self.server.blocked_by(self.connections[session].session.pid())?;
        Ok(pids.into_iter().filter_map(|pid| self.of(pid)).collect())
    }

    /// The session waits: it stands still until [`Peer::go_on`].
    pub fn freeze(&mut self, session: SessionIndex) -> Result<(), Error> {
        self.connections[session].frozen = true;
        self.server.freeze(&self.connections[session].session)
    }

    pub fn go_on(&mut self, session: SessionIndex) -> Result<(), Error> {
        self.connections[session].frozen = false;
        self.server.thaw(&self.connections[session].session)
    }

    /// Ends a wait: the session's statement fails as it goes on.
    pub fn cancel(&mut self, session: SessionIndex) -> Result<(), Error> {
        self.server.cancel(&self.connections[session].session)
    }

    /// Terminates the session's backend, and gives it another.
    pub fn die(&mut self, session: SessionIndex) -> Result<(), Error> {
        let fresh = self.open()?;
        let old = std::mem::replace(&mut self.connections[session], Connection { session: fresh, frozen: false });
        self.end(old)
    }

    fn end(&self, connection: Connection) -> Result<(), Error> {
        if connection.frozen {
            // It must meet its end before it goes on.
            self.ask("select pg_terminate_backend($1)", &[&connection.session.pid()])?;
            self.server.thaw(&connection.session)?;
        }
        self.server.terminate(connection.session)
    }

    /// Kills the server, and starts it again. All sessions are new.
    pub fn crash(&mut self) -> Result<(), Error> {
        let session_count = self.connections.len();
        self.server.crash()?;
        self.connections.clear();
        self.server.restart()?;
        self.server.install(&format!("set search_path = {}", self.schema))?;
        self.connect(session_count)
    }

    /// The next value of the sequence, which is then set so that it would be `instead`.
    pub fn rename_next_value(&mut self, instead: i64) -> Result<i64, Error> {
        let reply = self.ask("select nextval('numbers')", &[])?;
        let sql = "select setval('numbers', greatest($1::int8 - 1, 1), $1::int8 > 1), nextval('numbers')";
        self.ask(sql, &[&instead])?;
        Ok(reply.rows[0].get(0))
    }

    /// Sessions with a transaction id, in the order of the ids.
    pub fn xids(&self) -> Result<Vec<SessionIndex>, Error> {
        let sql = "select pid from pg_stat_activity where backend_xid is not null order by backend_xid::text::int8";
        let reply = self.ask(sql, &[])?;
        Ok(reply.rows.iter().filter_map(|row| self.of(row.get(0))).collect())
    }

    /// On the control connection.
    pub(super) fn ask(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Reply, Error> {
        self.server.block_on(self.server.control().session().execute(sql, parameters)).done()
    }

    /// Ends all sessions, whatever they do: after a difference, nothing is known of them.
    pub fn abandon(&mut self) -> Result<(), Error> {
        std::mem::take(&mut self.connections).into_iter().try_for_each(|connection| self.end(connection))
    }
}

fn rows(reply: &Reply, ahead: i64) -> Vec<Vec<i64>> {
    let value = |row: &Row, column| row.get::<_, i64>(column) - ahead;
    reply.rows.iter().map(|row| (0..row.len()).map(|column| value(row, column)).collect()).collect()
}
