//! Backends that stand still while they wait, so that who goes on first after a release is for the schedule to say.
//!
//! PostgreSQL leaves open which of several waiters that one commit released runs first, and lets them run truly at once.
//! A backend that is stopped (SIGSTOP) once it waits still gets its lock, as the releaser hands it over, but does nothing
//! with it until it is continued. So the order can be imposed on the server instead of being learned from it, and a
//! released call runs to its end, or to its next wait, before another one does. What it is not: for a server that the
//! user runs, whose processes are not ours to stop. Invariant: only a backend that the server has called blocked is
//! stopped; then it sleeps, and has nothing in hand that others need for a moment, such as a latch on a page.
//!
//! Sessions used so best run with `deadlock_timeout = 1`: only who runs looks for a deadlock, so who closes a cycle is its
//! victim, also where the cycle closes after a wake-up.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Error;
use super::server::Server;
use super::session::Session;

impl Server {
    /// Stops the backend of a session that is blocked; some microseconds.
    pub fn freeze(&self, session: &Session) -> Result<(), Error> {
        self.signal(session, Signal::SIGSTOP)
    }

    /// Lets a backend that was stopped go on. What it was sent meanwhile, a cancellation or its end, comes first.
    pub fn thaw(&self, session: &Session) -> Result<(), Error> {
        self.signal(session, Signal::SIGCONT)
    }

    fn signal(&self, session: &Session, signal: Signal) -> Result<(), Error> {
        self.signal_process(session.pid(), signal)
    }

    pub(super) fn signal_process(&self, pid: i32, signal: Signal) -> Result<(), Error> {
        assert!(self.can_crash(), "only the processes of a server that was started here are ours to stop");
        kill(Pid::from_raw(pid), signal)
            .map_err(|error| Error::Unavailable(format!("process {pid} cannot be sent {signal}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::control::{Expect, Rest};

    #[test]
    fn who_goes_on_first_is_imposed_where_the_server_leaves_it_open() {
        let server = Server::embedded().unwrap();
        server.install("create table t (id int8 primary key)").unwrap();
        let mut sessions: [Session; 4] = [0; 4].map(|_| server.open().unwrap());
        let insert = "insert into t values (1) on conflict do nothing";
        for order in [[1, 2, 3], [3, 1, 2], [2, 3, 1]] {
            server.execute(&sessions[0], "begin", &[]).unwrap().done().unwrap();
            server.execute(&sessions[0], insert, &[]).unwrap().done().unwrap();
            for waiter in &mut sessions[1..] {
                server.start(waiter, insert, Vec::new());
                let rest = server.wait_until_blocked_or_done(waiter, Expect::Block).unwrap();
                assert!(matches!(rest, Rest::Blocked(_)), "{rest:?}");
                server.freeze(waiter).unwrap();
            }
            server.execute(&sessions[0], "rollback", &[]).unwrap().done().unwrap();
            assert_eq!(server.all_blocked().unwrap(), []);
            for (place, index) in order.into_iter().enumerate() {
                server.thaw(&sessions[index]).unwrap();
                let reply = server.wait_until_done(&mut sessions[index]).unwrap().done().unwrap();
                assert_eq!(reply.row_count, u64::from(place == 0));
            }
            server.execute(&sessions[0], "delete from t", &[]).unwrap().done().unwrap();
        }
    }
}
