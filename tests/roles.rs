//! Who may do what on a real server: each of the two roles does its part, is refused everything else, and is shown no secret.
//!
//! An engine as the command `sql --roles` installs it, on a virtual clock, and one session each for its owner, for two who log
//! in as members of the roles, and for one who is a member of nothing.

mod limits;
mod rights;
mod views;

use crate::stage::server;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use tourbillon::postgres::server::Server;
use tourbillon_engine::guard::Guards;
use tourbillon_engine::sql::install::{Roles, replay, script};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Owner,
    Worker,
    Client,
    Stranger,
}

const PEOPLE: [Who; 3] = [Who::Worker, Who::Client, Who::Stranger];

impl Who {
    /// The name under which one logs in.
    const fn login(self) -> &'static str {
        match self {
            Who::Owner => "postgres",
            Who::Worker => "wendy",
            Who::Client => "carl",
            Who::Stranger => "sam",
        }
    }
}

/// With a queue of workflows, `orders`, whose consumer is `shop`, and one of messages, `mail`.
struct Site {
    server: Server,
    sessions: [Client; 4],
}

impl Site {
    fn new() -> Option<Site> {
        let server = server()?;
        server.install(&script("tourbillon", Guards::ALL, Roles::Made)).expect("the engine can be installed");
        server.install(&replay("tourbillon", server.version_number() as u32 / 10_000)).expect("so can a clock");
        let people = "create role wendy login in role tourbillon_worker;
                      create role carl login in role tourbillon_client;
                      create role sam login";
        server.install(people).expect("the server is ours");
        let sessions = [Who::Owner, Who::Worker, Who::Client, Who::Stranger].map(|who| connect(&server, who));
        let site = Site { server, sessions };
        site.set_clock(100);
        for sql in
            ["create_queue('orders', 'workflow')", "create_queue('mail', 'plain')", "subscribe('orders', 'shop')"]
        {
            site.told(Who::Owner, &format!("select tourbillon.{sql}"));
        }
        Some(site)
    }

    /// In seconds.
    fn set_clock(&self, now: u64) {
        self.told(Who::Owner, &format!("select setval('tourbillon.virtual_clock', {now} * 1000000)"));
    }

    /// Rows, their columns with `|` in between; or the SQLSTATE with which it was refused.
    fn ask(&self, who: Who, sql: &str) -> Result<Vec<String>, SqlState> {
        let text = |message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|index| row.get(index).unwrap_or("")).collect::<Vec<_>>().join("|"))
            }
            _ => None,
        };
        match self.server.block_on(self.sessions[who as usize].simple_query(sql)) {
            Ok(messages) => Ok(messages.into_iter().filter_map(text).collect()),
            Err(error) => Err(error.code().unwrap_or_else(|| panic!("{who:?}: {sql}: {error}")).clone()),
        }
    }

    #[track_caller]
    fn told(&self, who: Who, sql: &str) -> Vec<String> {
        self.ask(who, sql).unwrap_or_else(|code| panic!("{who:?} is refused with {}: {sql}", code.code()))
    }

    /// The one row.
    #[track_caller]
    fn one(&self, who: Who, sql: &str) -> String {
        let rows = self.told(who, sql);
        assert_eq!(rows.len(), 1, "{who:?}: {sql}: {rows:?}");
        rows.into_iter().next().expect("there is one")
    }

    #[track_caller]
    fn refused(&self, who: Who, sql: &str, code: &SqlState) {
        assert_eq!(self.ask(who, sql), Err(code.clone()), "{who:?}: {sql}");
    }

    fn start(&self, key: &str, state: &str) -> String {
        let sql = format!("select workflow_id from tourbillon.start('orders', '{key}', 'begin', '{state}')");
        self.one(Who::Client, &sql)
    }

    /// What the next window of `orders` delivers to the worker.
    fn window(&self) -> Window {
        self.told(Who::Worker, "select tourbillon.tick('orders')");
        let token = self.one(Who::Worker, "select token from tourbillon.claim(1, '1h')");
        let sql = format!(
            "select event_id, workflow_id, sequence, step, state, arrival, payload
             from tourbillon.read(1, '{token}', 0, 2000)"
        );
        let events = self.told(Who::Worker, &sql).iter().map(|row| Event::of(row)).collect();
        Window { token, events }
    }

    /// The ids of what follows, and those of children.
    fn hand_off(&self, window: &Window, decisions: &[Decision]) -> Result<String, SqlState> {
        let rows: Vec<String> = decisions.iter().enumerate().map(|(position, it)| it.row(position)).collect();
        let sql = format!(
            "with d (
               position, event_id, verb, workflow_id, sequence, step, attempt, max_attempts, delay_us, state, arrival,
               payload, name, token_hash) as (values {})
             select h.appended, h.children
             from (
               select
                 array_agg(event_id order by position) event_id,
                 array_agg(verb order by position) verb,
                 array_agg(workflow_id order by position) workflow_id,
                 array_agg(sequence order by position) sequence,
                 array_agg(step order by position) step,
                 array_agg(attempt order by position) attempt,
                 array_agg(max_attempts order by position) max_attempts,
                 array_agg(delay_us order by position) delay_us,
                 array_agg(state order by position) state,
                 array_agg(arrival order by position) arrival,
                 array_agg(payload order by position) payload,
                 array_agg(name order by position) name,
                 array_agg(token_hash order by position) token_hash
               from d
             ) a,
             tourbillon.handoff(
               1, '{}', a.event_id::int8[], a.verb, a.workflow_id::uuid[], a.sequence, a.step, a.attempt, a.max_attempts,
               a.delay_us::int8[], a.state, a.arrival, a.payload, a.name, a.token_hash) h",
            rows.join(", "),
            window.token
        );
        let rows = self.ask(Who::Worker, &sql)?;
        Ok(rows.into_iter().next().expect("a handoff answers"))
    }

    /// For what stands in nobody's way.
    #[track_caller]
    fn handed_off(&self, window: &Window, decisions: &[Decision]) -> String {
        self.hand_off(window, decisions).unwrap_or_else(|code| panic!("refused with {}", code.code()))
    }
}

fn connect(server: &Server, who: Who) -> Client {
    let mut config = server.config().clone();
    config.user(who.login());
    server.block_on(async {
        let (client, connection) = config.connect(NoTls).await.expect("who has a login may connect");
        tokio::spawn(connection);
        client
    })
}

struct Window {
    token: String,
    events: Vec<Event>,
}

#[derive(Clone, Debug)]
struct Event {
    id: String,
    workflow: String,
    sequence: u32,
    step: String,
    state: String,
    arrival: String,
    payload: String,
}

impl Event {
    fn of(row: &str) -> Event {
        let columns: Vec<&str> = row.split('|').collect();
        let column = |index: usize| columns[index].to_owned();
        Event {
            id: column(0),
            workflow: column(1),
            sequence: columns[2].parse().expect("it is a number"),
            step: column(3),
            state: column(4),
            arrival: column(5),
            payload: column(6),
        }
    }

    /// The workflow goes on as `step`, or ends, as the verb says.
    fn then<'a>(&self, verb: &'a str, step: &'a str, state: &'a str) -> Decision<'a> {
        let sequence = self.sequence + 1;
        let (event, workflow) = (self.id.clone(), self.workflow.clone());
        Decision { event, verb, workflow, sequence, step, state, attempt: 1, ..Decision::default() }
    }

    /// One child of the spawn that is decided for it.
    fn child<'a>(&self, place: u32, state: &'a str) -> Decision<'a> {
        let event = self.id.clone();
        Decision { event, verb: "child", sequence: place, step: "begin", state, attempt: 1, ..Decision::default() }
    }
}

/// What is empty is null.
#[derive(Clone, Default)]
struct Decision<'a> {
    event: String,
    verb: &'a str,
    workflow: String,
    sequence: u32,
    step: &'a str,
    attempt: u32,
    max_attempts: u32,
    delay_seconds: u64,
    state: &'a str,
    arrival: String,
    payload: String,
    name: &'a str,
    token: &'a str,
}

impl Decision<'_> {
    fn row(&self, position: usize) -> String {
        let text = |text: &str| if text.is_empty() { "null::text".to_owned() } else { format!("'{text}'::text") };
        let hash = match self.token {
            "" => "null".to_owned(),
            token => format!("encode(pg_catalog.sha256('{token}'), 'hex')"),
        };
        format!(
            "({position}, {}, {}, {}, {}, {}, {}, {}, {}::int8 * 1000000, {}, {}, {}, {}, {hash})",
            self.event,
            text(self.verb),
            text(&self.workflow),
            self.sequence,
            text(self.step),
            self.attempt,
            self.max_attempts,
            self.delay_seconds,
            text(self.state),
            text(&self.arrival),
            text(&self.payload),
            text(self.name),
        )
    }
}
