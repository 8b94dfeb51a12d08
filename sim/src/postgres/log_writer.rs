//! The process that flushes the log of asynchronous commits, held so that a crash loses exactly what a plan says.
//!
//! With `synchronous_commit = off` a commit is acknowledged when it stands in the log's buffers, and is on disk when the
//! `walwriter` has been there, some hundred milliseconds later. Stopped (SIGSTOP), it never has; then the log is flushed by
//! a synchronous commit alone, and by a transaction that removes a table's file. What it is not: for a server that
//! the user runs. Invariant: it is stopped only in its sleep; while it writes it holds a lock that every flush needs.

use nix::sys::signal::Signal;
use std::time::Instant;

use super::Error;
use super::control::PATIENCE;
use super::server::Server;

impl Server {
    /// From now on the log reaches the disk when [`Server::flush_log`] says so. Until a crash, or [`Server::release_log`].
    pub fn hold_log(&self) -> Result<(), Error> {
        self.stop_log_writer()?;
        self.flush_log()?;
        self.install("set synchronous_commit = off")
    }

    pub fn release_log(&self) -> Result<(), Error> {
        self.install("reset synchronous_commit")?;
        let Some(LogWriter { pid, .. }) = self.log_writer()? else { return Ok(()) };
        self.signal_process(pid, Signal::SIGCONT)
    }

    /// A synchronous commit of a transaction that has logged something.
    pub fn flush_log(&self) -> Result<(), Error> {
        self.install(
            "begin; set local synchronous_commit = on; select pg_logical_emit_message(true, 'flush', ''); commit",
        )
    }

    /// It may be a moment in coming.
    fn stop_log_writer(&self) -> Result<(), Error> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let Some(LogWriter { pid, .. }) = self.log_writer()? else { continue };
            self.signal_process(pid, Signal::SIGSTOP)?;
            if self.log_writer()?.is_some_and(|writer| writer.is_asleep) {
                return Ok(());
            }
            self.signal_process(pid, Signal::SIGCONT)?;
        }
        Err(Error::Unavailable("the process that writes the server's log does not come to rest".to_owned()))
    }

    fn log_writer(&self) -> Result<Option<LogWriter>, Error> {
        let find = "select pid, wait_event is not distinct from 'WalWriterMain' \
                    from pg_stat_activity where backend_type = 'walwriter'";
        let reply = self.execute(self.control().session(), find, &[])?.done()?;
        Ok(reply.rows.first().map(|row| LogWriter { pid: row.get(0), is_asleep: row.get(1) }))
    }
}

/// The process that flushes the log of asynchronous commits.
struct LogWriter {
    pid: i32,
    is_asleep: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_loses_what_was_not_flushed() {
        let mut server = Server::embedded().unwrap();
        server.install("create table t (id int8); create table u (id int8)").unwrap();
        server.hold_log().unwrap();
        let session = server.open().unwrap();
        let run = |server: &Server, sql: &str| server.execute(&session, sql, &[]).unwrap().done().unwrap();
        run(&server, "set synchronous_commit = off");
        run(&server, "insert into t values (1)");
        server.flush_log().unwrap();
        run(&server, "insert into t values (2)");
        run(&server, "truncate u");
        run(&server, "insert into t values (3)");
        run(&server, "insert into t values (4)");
        server.crash().unwrap();
        server.restart().unwrap();
        let session = server.open().unwrap();
        let rows = server.execute(&session, "select id from t order by id", &[]).unwrap().done().unwrap().rows;
        let kept: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(kept, [1, 2], "a truncation flushes, too");
    }
}
