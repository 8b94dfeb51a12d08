//! Our own server, and one of somebody else.

use std::time::Instant;

use super::*;

fn url(server: &Server, user: &str, database: &str) -> String {
    let Some(Host::Unix(path)) = server.config.get_hosts().first() else { panic!("a cluster has a socket") };
    format!("host={} user={user} dbname={database}", path.display())
}

fn refusal(url: &str) -> String {
    match Server::connect_url(url) {
        Ok(_) => panic!("{url} was accepted"),
        Err(error) => error.to_string(),
    }
}

fn schemas(server: &Server) -> Vec<String> {
    let sql = "select nspname::text from pg_namespace where nspname ~ '^tourbillon_' order by 1";
    let reply = server.block_on(server.control.session().execute(sql, &[])).done().unwrap();
    reply.rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn a_crash_keeps_what_was_committed_and_nothing_else() {
    let mut server = Server::embedded().unwrap();
    assert!(server.can_crash() && server.is_superuser() && server.version_number() >= 140_000);
    server.install("create table t (x int8 primary key)").unwrap();
    for round in 0..3i64 {
        let (committer, mut waiter) = (server.open().unwrap(), server.open().unwrap());
        let insert = "insert into t values ($1)";
        server.execute(&committer, insert, &[&(10 * round)]).unwrap().done().unwrap();
        server.execute(&committer, "begin", &[]).unwrap().done().unwrap();
        server.execute(&committer, insert, &[&(10 * round + 1)]).unwrap().done().unwrap();
        server.start(&mut waiter, insert, vec![Box::new(10 * round + 1)]);
        let rest = server.wait_until_blocked_or_done(&mut waiter, Expect::Block).unwrap();
        assert!(matches!(rest, Rest::Blocked(pids) if pids == [committer.pid()]));

        server.crash().unwrap();
        assert!(matches!(server.wait_until_done(&mut waiter), Ok(Outcome::Unknown(_))));
        assert!(matches!(server.execute(&committer, "commit", &[]), Ok(Outcome::Unknown(_))));
        server.restart().unwrap();
        let session = server.open().unwrap();
        let reply = server.execute(&session, "select x from t order by x", &[]).unwrap().done().unwrap();
        let kept: Vec<i64> = reply.rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(kept, (0..=round).map(|round| 10 * round).collect::<Vec<_>>());
    }
}

#[test]
fn an_old_server_and_a_standby_are_refused() {
    let server = Server::embedded().unwrap();
    assert_eq!(objection(&server.traits), None);
    let old = Traits { version_number: 130_022, version: "13.22".into(), ..server.traits.clone() };
    assert_eq!(objection(&old).unwrap(), "the server runs PostgreSQL 13.22: 14 or later is needed");
    let standby = Traits { standby: true, ..server.traits.clone() };
    assert!(objection(&standby).unwrap().starts_with("the server is a standby"));
}

#[test]
fn what_the_user_has_set_for_sessions_does_not_show() {
    let host = Server::embedded().unwrap();
    host.install("alter role postgres set statement_timeout = 1; alter role postgres set work_mem = '2MB'").unwrap();
    host.install("alter database postgres set default_transaction_isolation = 'serializable'").unwrap();
    let guest =
        Server::connect_url(&format!("{} options='-c work_mem=3MB'", url(&host, "postgres", "postgres"))).unwrap();
    let session = guest.open().unwrap();
    let settings = ["statement_timeout", "default_transaction_isolation", "work_mem"];
    let sql = "select current_setting(name) from unnest($1::text[]) as name";
    let reply = guest.execute(&session, sql, &[&settings.as_slice()]).unwrap().done().unwrap();
    let found: Vec<String> = reply.rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(found, ["0", "read committed", "3MB"]);
}

#[test]
fn the_users_server_keeps_nothing_of_ours() {
    let host = Server::embedded().unwrap();
    let url = url(&host, "postgres", "postgres");
    let mut guest = Server::connect_url(&url).unwrap();
    assert!(!guest.can_crash());
    assert!(guest.crash().unwrap_err().to_string().starts_with("only a server that was started here"));
    let names = [guest.create_schema().unwrap(), guest.create_schema().unwrap()];
    guest.install(&format!("create table {}.t ()", names[0])).unwrap();
    guest.drop_schema(&names[1]).unwrap();

    let second = Server::connect_url(&url).unwrap();
    assert_eq!(schemas(&host), [names[0].clone()], "what a living process uses is left alone");
    drop(guest);
    assert_eq!(schemas(&host), [""; 0]);
    drop(second);
}

#[test]
fn what_a_killed_process_left_on_the_users_server_is_dropped() {
    let host = Server::embedded().unwrap();
    let url = url(&host, "postgres", "postgres");
    let mut killed = Server::connect_url(&url).unwrap();
    let name = killed.create_schema().unwrap();
    host.install("create schema tourbillon_of_the_user; create schema tourbillon_0123456789abcdef").unwrap();
    // A process that is killed does not get to drop anything.
    killed.schemas.clear();
    let pid = killed.control.session().pid();
    drop(killed);
    host.block_on(host.control.wait_until_gone(pid)).unwrap();
    assert!(schemas(&host).contains(&name));
    drop(Server::connect_url(&url).unwrap());
    assert_eq!(schemas(&host), ["tourbillon_0123456789abcdef", "tourbillon_of_the_user"], "unmarked ones stay");
}

#[test]
fn an_unusable_server_is_refused_in_one_sentence() {
    let host = Server::embedded().unwrap();
    host.install("create role guest login").unwrap();
    host.install("create database d").unwrap();
    for (url, expected) in [
        (url(&host, "guest", "d"), "user guest may not create a schema in database d: grant create on database"),
        (url(&host, "nobody", "d"), "role \"nobody\" does not exist"),
        (url(&host, "guest", "e"), "database \"e\" does not exist"),
        ("postgres://localhost:1/d".to_string(), "the PostgreSQL server at localhost:1 cannot be reached: "),
        ("mysql://localhost".to_string(), "the server's address is neither postgres://user@host/database nor"),
        (
            "host=/nonexistent user=u".to_string(),
            "the PostgreSQL server at /nonexistent/.s.PGSQL.5432 cannot be reached: ",
        ),
    ] {
        let sentence = refusal(&url);
        assert!(sentence.contains(expected), "{url}: {sentence}");
        assert!(!sentence.contains('\n'), "{sentence}");
    }
}

/// Printed rather than asserted, as a shared machine is too noisy for a bound: read them with `--nocapture`.
#[test]
fn figures() {
    measure("anywhere");
    let _claim = crate::postgres::one_cpu::OneCpu::claim();
    measure("on one processor");
}

fn measure(place: &str) {
    let time = |what: &str, count: u32, work: &mut dyn FnMut()| {
        let begin = Instant::now();
        (0..count).for_each(|_| work());
        println!("{place}: {what} {:?}", begin.elapsed() / count);
    };
    let mut server = None;
    time("start", 1, &mut || server = Some(Server::embedded().unwrap()));
    let mut server = server.unwrap();
    time("crash", 1, &mut || server.crash().unwrap());
    time("restart", 1, &mut || server.restart().unwrap());
    let mut sessions = Vec::new();
    time("open a session", 10, &mut || sessions.push(server.open().unwrap()));

    let (one, [holder, waiter]) = ("select $1::int8", &mut sessions[..2]) else { unreachable!() };
    time("execute", 10_000, &mut || drop(server.execute(holder, one, &[&1i64]).unwrap().done().unwrap()));
    time("start and wait", 10_000, &mut || {
        server.start(holder, one, vec![Box::new(1i64)]);
        let rest = server.wait_until_blocked_or_done(holder, Expect::Return).unwrap();
        assert!(matches!(rest, Rest::Done(Outcome::Done(_))));
    });
    let (lock, unlock) = ("select pg_advisory_lock(1)", "select pg_advisory_unlock(1)");
    time("lock, block, unlock, wake, unlock", 1_000, &mut || {
        server.execute(holder, lock, &[]).unwrap().done().unwrap();
        server.start(waiter, lock, Vec::new());
        let rest = server.wait_until_blocked_or_done(waiter, Expect::Block).unwrap();
        assert!(matches!(rest, Rest::Blocked(_)), "{rest:?}");
        server.execute(holder, unlock, &[]).unwrap().done().unwrap();
        server.wait_until_done(waiter).unwrap().done().unwrap();
        server.execute(waiter, unlock, &[]).unwrap().done().unwrap();
    });
    time("ask for all waits", 1_000, &mut || drop(server.all_blocked().unwrap()));
    time("terminate", 10, &mut || server.terminate(sessions.pop().unwrap()).unwrap());
    let mut server = Some(server);
    time("remove", 1, &mut || server = None);
}
