//! Who may do what: by what the catalog says, and by trying it.

use super::{Decision, PEOPLE, Site, Who};
use tokio_postgres::error::SqlState;

const WORKER: [&str; 18] = [
    "claim",
    "counts_rows",
    "drain",
    "expire_waits",
    "hand_out",
    "handoff",
    "heartbeat",
    "hold",
    "read",
    "read_results",
    "register",
    "rotate",
    "rotate_audit",
    "rotate_timers",
    "running_rows",
    "take_over",
    "tick",
    "waiting_rows",
];
const CLIENT: [&str; 8] =
    ["append", "cancel", "counts_rows", "emit", "running_rows", "schedule", "start", "waiting_rows"];
const VIEWS: [&str; 3] = ["counts", "running", "waiting"];

/// Whatever PUBLIC may do in the schema.
const OF_PUBLIC: &str = "
    select 'the schema' from (values ('usage'), ('create')) v (privilege)
    where has_schema_privilege('public', 'tourbillon', privilege)
    union all
    select p.oid::regprocedure::text from pg_proc p
    where p.pronamespace = 'tourbillon'::regnamespace and has_function_privilege('public', p.oid, 'execute')
    union all
    select c.oid::regclass::text from pg_class c
    where c.relnamespace = 'tourbillon'::regnamespace and c.relkind in ('r', 'v')
    and has_table_privilege('public', c.oid, 'select, insert, update, delete, truncate, references, trigger')
    union all
    select c.oid::regclass::text from pg_class c
    where c.relnamespace = 'tourbillon'::regnamespace
    and case when c.relkind = 'S' then has_sequence_privilege('public', c.oid, 'usage, select, update') end
    union all
    select t.oid::regtype::text from pg_type t
    where t.typnamespace = 'tourbillon'::regnamespace and has_type_privilege('public', t.oid, 'usage')";

const FORBIDDEN: &SqlState = &SqlState::INSUFFICIENT_PRIVILEGE;

const fn functions_of(who: Who) -> &'static [&'static str] {
    match who {
        Who::Worker => &WORKER,
        Who::Client => &CLIENT,
        Who::Owner | Who::Stranger => &[],
    }
}

/// Names of what the query gives one by one, each with the rest of its row.
fn listed(site: &Site, query: &str) -> Vec<(String, String)> {
    let rows = site.told(Who::Owner, query);
    rows.iter().map(|row| row.split_once('|').expect("it has columns")).map(|(a, b)| (a.into(), b.into())).collect()
}

#[test]
fn each_function_is_for_its_role_alone() {
    let Some(site) = Site::new() else { return };
    let functions = listed(
        &site,
        "select p.proname, format('select tourbillon.%I(%s)', p.proname, (
           select string_agg(format('(select null::%s)', format_type(t, null)), ', ') from unnest(p.proargtypes) t))
         from pg_proc p where p.pronamespace = 'tourbillon'::regnamespace order by 1",
    );
    assert!(functions.len() > 80, "{functions:#?}");
    for who in PEOPLE {
        let allowed = functions_of(who);
        let query = format!(
            "select p.proname from pg_proc p
             where p.pronamespace = 'tourbillon'::regnamespace and has_function_privilege('{}', p.oid, 'execute')
             order by 1",
            who.login()
        );
        assert_eq!(site.told(Who::Owner, &query), allowed, "{who:?}");
        for (name, call) in &functions {
            if !allowed.contains(&name.as_str()) {
                site.refused(who, call, FORBIDDEN);
            }
        }
    }
}

#[test]
fn nobody_but_the_owner_touches_a_table() {
    let Some(site) = Site::new() else { return };
    let tables = listed(
        &site,
        "select c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum = 1
         where c.relnamespace = 'tourbillon'::regnamespace and c.relkind = 'r' order by 1",
    );
    assert!(tables.len() > 28, "{tables:#?}");
    for who in PEOPLE {
        for (table, column) in &tables {
            for statement in [
                format!("select from tourbillon.{table}"),
                format!("insert into tourbillon.{table} default values"),
                format!("update tourbillon.{table} set {column} = default"),
                format!("delete from tourbillon.{table}"),
                format!("truncate tourbillon.{table}"),
                format!("do 'begin lock table tourbillon.{table} in access share mode; end'"),
                format!("create index on tourbillon.{table} ({column})"),
            ] {
                site.refused(who, &statement, FORBIDDEN);
            }
        }
        for sequence in ["event_id", "tick_number", "worker_id"] {
            site.told(Who::Owner, &format!("select nextval('tourbillon.{sequence}')"));
            for call in ["nextval('tourbillon.NAME')", "setval('tourbillon.NAME', 1)"] {
                site.refused(who, &format!("select {}", call.replace("NAME", sequence)), FORBIDDEN);
            }
            // From 18 on who may not know the last value is told that there is none.
            let last = site.ask(who, &format!("select pg_sequence_last_value('tourbillon.{sequence}')"));
            assert!(last == Err(FORBIDDEN.clone()) || last == Ok(vec![String::new()]), "{who:?}: {last:?}");
        }
        let allowed = if who == Who::Stranger { &[][..] } else { &VIEWS };
        for view in ["audit", "counts", "running", "waiting"] {
            let answer = site.ask(who, &format!("select * from tourbillon.{view}"));
            assert_eq!(answer.is_ok(), allowed.contains(&view), "{who:?}: {view}: {answer:?}");
        }
        let query = format!(
            "select c.relname from pg_class c
             where c.relnamespace = 'tourbillon'::regnamespace and c.relkind in ('r', 'v')
             and (
               has_table_privilege('{0}', c.oid, 'select, insert, update, delete, truncate, references, trigger')
               or has_any_column_privilege('{0}', c.oid, 'select, insert, update, references'))
             order by 1",
            who.login()
        );
        assert_eq!(site.told(Who::Owner, &query), allowed, "{who:?}");
    }
}

#[test]
fn public_may_do_nothing() {
    let Some(site) = Site::new() else { return };
    assert_eq!(site.told(Who::Owner, OF_PUBLIC), [""; 0]);
}

#[test]
fn a_role_makes_nothing_and_becomes_nobody_else() {
    let Some(site) = Site::new() else { return };
    for who in PEOPLE {
        for statement in [
            "create table tourbillon.mine ()",
            "create view tourbillon.mine as select 1",
            "create function tourbillon.mine() returns int language sql return 1",
            "create or replace function tourbillon.clock() returns timestamptz language sql return now()",
            "create type tourbillon.mine as (a int)",
            "create sequence tourbillon.mine",
            "create trigger mine before insert on tourbillon.worker for each row execute function tourbillon.mine()",
            "drop function tourbillon.tick",
            "drop schema tourbillon cascade",
            "alter function tourbillon.tick security invoker",
            "set role postgres",
        ] {
            let code = site.ask(who, statement).expect_err(statement);
            let is_unseen = who == Who::Stranger || statement.contains("function tourbillon.mine()");
            assert!(
                code == *FORBIDDEN || is_unseen && code == SqlState::UNDEFINED_FUNCTION,
                "{who:?}: {statement}: {code:?}"
            );
        }
    }
    for (who, role) in [
        (Who::Worker, "tourbillon_client"),
        (Who::Client, "tourbillon_worker"),
        (Who::Stranger, "tourbillon_worker"),
        (Who::Stranger, "tourbillon_client"),
    ] {
        site.refused(who, &format!("set role {role}"), FORBIDDEN);
    }
    // No error where somebody may do it himself, only a warning.
    let _ = site.ask(Who::Worker, "grant execute on function tourbillon.tick to public");
    let _ = site.ask(Who::Client, "grant select on tourbillon.waiting to public");
    assert_eq!(site.told(Who::Owner, OF_PUBLIC), [""; 0]);
    let query = "select rolname from pg_roles where rolname in ('tourbillon_worker', 'tourbillon_client')
                 and (rolcanlogin or rolsuper or rolcreaterole or rolcreatedb or rolbypassrls or rolreplication)";
    assert_eq!(site.told(Who::Owner, query), [""; 0]);
}

#[test]
fn what_runs_as_the_owner_looks_where_the_owner_says() {
    let Some(site) = Site::new() else { return };
    let wrong = "select p.proname from pg_proc p
                 where p.pronamespace = 'tourbillon'::regnamespace and p.prosecdef
                 and array_to_string(p.proconfig, ';') not like '%search_path=pg_catalog, pg_temp%'";
    assert_eq!(site.told(Who::Owner, wrong), [""; 0]);
    for who in [Who::Worker, Who::Client] {
        let query = format!(
            "select p.proname from pg_proc p
             where p.pronamespace = 'tourbillon'::regnamespace and has_function_privilege('{}', p.oid, 'execute')
             and not p.prosecdef",
            who.login()
        );
        assert_eq!(site.told(Who::Owner, &query), [""; 0]);
    }
}

/// Puts what is called like something of the server's before it, for one session.
fn shadow(site: &Site, who: Who) {
    let schema = format!("of_{}", who.login());
    site.told(Who::Owner, &format!("create schema {schema} authorization {}", who.login()));
    let loud = |name: &str, arguments: &str, result: &str| {
        let body = "begin raise exception $_$shadowed$_$; end";
        let create =
            format!("create function {schema}.{name}({arguments}) returns {result} language plpgsql as '{body}'");
        site.told(who, &create);
    };
    for (name, arguments, result) in [
        ("clock_timestamp", "", "timestamptz"),
        ("pg_current_xact_id", "", "xid8"),
        ("pg_current_snapshot", "", "pg_snapshot"),
        ("current_setting", "text", "text"),
        ("set_config", "text, text, bool", "text"),
        ("sha256", "bytea", "bytea"),
        ("octet_length", "text", "int"),
        ("format", "text, variadic text[]", "text"),
        ("nextval", "regclass", "bigint"),
        ("gen_random_uuid", "", "uuid"),
        ("unnest", "anyarray", "int"),
        ("count", "", "bigint"),
    ] {
        loud(name, arguments, result);
    }
    for of in ["text", "uuid", "int", "bigint", "timestamptz"] {
        loud(&format!("same_{of}"), &format!("{of}, {of}"), "bool");
        let create =
            format!("create operator {schema}.= (leftarg = {of}, rightarg = {of}, function = {schema}.same_{of})");
        site.told(who, &create);
    }
    for table in ["workflow", "queue", "box", "audit_0", "pg_class", "pg_proc"] {
        site.told(who, &format!("create temporary table {table} (a int)"));
    }
    site.told(who, &format!("set search_path = {schema}, pg_temp, pg_catalog, tourbillon"));
    for vain in ["select sha256('a'::bytea)", "select 'a'::text = 'b'::text", "select clock_timestamp()"] {
        site.refused(who, vain, &SqlState::RAISE_EXCEPTION);
    }
}

#[test]
fn names_of_the_callers_own_do_not_get_into_what_runs_as_the_owner() {
    let Some(site) = Site::new() else { return };
    shadow(&site, Who::Client);
    shadow(&site, Who::Worker);
    let workflow = site.start("k", "s");
    for call in [
        format!("select * from tourbillon.emit('{workflow}', 'go', 'p', 'e', 'x', 'carl')"),
        "select * from tourbillon.append('mail', 'm')".to_owned(),
        "select * from tourbillon.schedule('mail', 'm', '1h')".to_owned(),
        "select * from tourbillon.cancel('mail', 3, '2000-01-01')".to_owned(),
        "table tourbillon.waiting".to_owned(),
        "table tourbillon.running".to_owned(),
        "table tourbillon.counts".to_owned(),
    ] {
        site.told(Who::Client, &call);
    }
    site.told(Who::Worker, "select tourbillon.register('shop')");
    let window = site.window();
    let token = &window.token;
    for call in [
        format!("select * from tourbillon.heartbeat(1, '{token}')"),
        format!("select * from tourbillon.read_results(1, '{token}')"),
        format!("begin; select tourbillon.hold(1, '{token}')"),
    ] {
        site.told(Who::Worker, &call);
    }
    let wait = Decision { name: "go", delay_seconds: 9, token: "t", ..window.events[0].then("await", "next", "s") };
    site.handed_off(&window, &[wait]);
    for call in [
        "commit",
        "select * from tourbillon.take_over(1, '1h')",
        "select * from tourbillon.rotate('orders', '1s')",
        "select * from tourbillon.drain('orders', 10)",
        "select * from tourbillon.rotate_timers('orders', '1s')",
        "select * from tourbillon.expire_waits('orders', 10)",
        "select * from tourbillon.rotate_audit('1h', '1s')",
    ] {
        site.told(Who::Worker, call);
    }
}
