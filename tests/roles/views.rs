//! A workflow's life through the two roles alone: after every step the views say what was done, and nothing says a secret.

use super::{Decision, Site, Who};
use std::cell::RefCell;

/// None of these may be found by whom it is not for.
const SECRETS: [&str; 6] =
    ["secret-state", "secret-payload", "secret-promise", "secret-result", "secret-child", "secret-token"];

/// A site, and the workflows that are known by letters.
struct Tale {
    site: Site,
    workflows: RefCell<Vec<(String, &'static str)>>,
}

impl Tale {
    fn call(&self, workflow: &str, letter: &'static str) {
        self.workflows.borrow_mut().push((workflow.to_owned(), letter));
    }

    /// With letters in the place of the hashes of workflows.
    fn lettered(&self, rows: Vec<String>) -> Vec<String> {
        let hash = |workflow: &str| self.site.one(Who::Owner, &format!("select encode(sha256('{workflow}'), 'hex')"));
        let workflows = self.workflows.borrow();
        let letters: Vec<(String, &str)> = workflows.iter().map(|(id, letter)| (hash(id), *letter)).collect();
        let lettered = |row: String| letters.iter().fold(row, |row, (hash, letter)| row.replace(hash, letter));
        rows.into_iter().map(lettered).collect()
    }

    /// Both roles are shown the same.
    fn shown(&self, sql: &str) -> Vec<String> {
        let rows = self.site.told(Who::Client, sql);
        assert_eq!(self.site.told(Who::Worker, sql), rows);
        self.lettered(rows)
    }

    #[track_caller]
    fn expect(&self, waiting: &[&str], running: &[&str], counts: &str) {
        let sql = "select
                     queue, workflow_hash, waits_for, name, extract(epoch from since)::int, extract(epoch from until)::int,
                     is_overdue, children, ended
                   from tourbillon.waiting";
        assert_eq!(self.shown(sql), waiting);
        let sql = "select consumer, worker_id, silent_for, crashes, is_isolated from tourbillon.running";
        assert_eq!(self.shown(sql), running);
        assert_eq!(self.shown("select * from tourbillon.counts"), [format!("orders|{counts}")]);
        self.assert_hidden();
    }

    /// Whatever is kept for long or shown to others has no secret in it, and no id of a workflow; a token is nowhere.
    #[track_caller]
    fn assert_hidden(&self) {
        let ids: Vec<String> = self.workflows.borrow().iter().map(|(id, _)| id.clone()).collect();
        for table in ["dead_letter", "audit", "audit_0", "audit_1", "waiting", "running", "counts"] {
            let text = self.rows_of(table);
            let forbidden = SECRETS.iter().map(|secret| (*secret).to_owned()).chain(ids.iter().cloned());
            forbidden.for_each(|word| assert!(!text.contains(&word), "{table} says {word}: {text}"));
        }
        let tables = "select relname from pg_class
                      where relnamespace = 'tourbillon'::regnamespace and relkind in ('r', 'v')";
        for table in self.site.told(Who::Owner, tables) {
            let text = self.rows_of(&table);
            assert!(!text.contains("secret-token"), "{table}: {text}");
        }
    }

    fn rows_of(&self, table: &str) -> String {
        self.site.told(Who::Owner, &format!("select t::text from tourbillon.{table} t")).join("\n")
    }

    fn emit(&self, workflow: &str, name: &str, payload: &str, emit: &str, token: &str) -> String {
        let sql = format!(
            "select answer from tourbillon.emit('{workflow}', '{name}', '{payload}', '{emit}', nullif('{token}', ''), 'carl')"
        );
        self.site.one(Who::Client, &sql)
    }
}

#[test]
fn the_views_say_what_was_done_and_nothing_says_a_secret() {
    let Some(site) = Site::new() else { return };
    let tale = Tale { site, workflows: RefCell::default() };
    let site = &tale.site;
    site.told(Who::Worker, "select tourbillon.register('shop')");
    tale.expect(&[], &[], "0|0|0|0|0");

    let parent = site.start("order 1", "secret-state");
    assert_eq!(site.start("order 1", "secret-state"), parent, "a key is for one workflow");
    tale.call(&parent, "P");
    tale.expect(&[], &[], "1|0|0|0|0");

    let window = site.window();
    site.set_clock(103);
    tale.expect(&[], &["shop|1|00:00:03|0|f"], "1|0|0|0|0");
    site.told(Who::Worker, &format!("select tourbillon.heartbeat(1, '{}')", window.token));
    tale.expect(&[], &["shop|1|00:00:00|0|f"], "1|0|0|0|0");

    // It awaits two things, one after the other: the first comes too late.
    let wait = Decision { name: "late", delay_seconds: 10, ..window.events[0].then("await", "begin", "secret-state") };
    site.handed_off(&window, &[wait]);
    tale.expect(&["orders|P|emit|late|103|113|f||"], &[], "0|0|1|0|0");
    site.set_clock(114);
    tale.expect(&["orders|P|emit|late|103|113|t||"], &[], "0|0|1|0|0");
    site.told(Who::Worker, "select * from tourbillon.expire_waits('orders', 10)");
    tale.expect(&[], &[], "1|0|0|0|0");

    let window = site.window();
    assert_eq!(window.events[0].arrival, "timed_out");
    let wait = Decision { name: "go", token: "secret-token", ..window.events[0].then("await", "paid", "secret-state") };
    site.handed_off(&window, &[wait]);
    tale.expect(&["orders|P|emit|go|114||f||"], &[], "0|0|1|0|0");
    assert_eq!(tale.emit(&parent, "go", "secret-payload", "e1", "secret-guess"), "forged");
    assert_eq!(tale.emit(&parent, "go", "secret-payload", "e1", ""), "forged");
    assert_eq!(tale.emit(&parent, "go", "secret-payload", "e1", "secret-token"), "resumed");
    assert_eq!(tale.emit(&parent, "go", "secret-payload", "e1", "secret-token"), "resumed");
    // Nobody ever awaits this one; its token is as secret.
    assert_eq!(tale.emit(&parent, "never", "secret-promise", "e2", "secret-token"), "promised");
    tale.expect(&[], &[], "1|0|0|0|0");

    // Two children: one leaves a result, the other is a dead letter.
    let window = site.window();
    let event = &window.events[0];
    assert_eq!((event.arrival.as_str(), event.payload.as_str()), ("emitted", "secret-payload"));
    site.set_clock(120);
    let answer = site.handed_off(
        &window,
        &[
            event.then("spawn", "joined", "secret-state"),
            event.child(0, "secret-child"),
            event.child(1, "secret-child"),
        ],
    );
    let children = answer.split_once("|{").expect("ids of events, then of children").1.trim_end_matches('}');
    for (child, letter) in children.split(',').zip(["A", "B"]) {
        tale.call(child, letter);
    }
    tale.expect(&["orders|P|children||120||f|2|0"], &[], "2|0|0|1|0");
    let window = site.window();
    let [completes, dies] = &window.events[..] else { panic!("two children have an event each") };
    let decisions = [completes.then("complete", "", "secret-result"), dies.then("reject", "", "")];
    site.told(Who::Worker, &format!("begin; select tourbillon.hold(1, '{}')", window.token));
    site.handed_off(&window, &decisions[..]);
    site.told(Who::Worker, "commit");
    tale.expect(&[], &[], "1|0|0|0|1");

    // The parent reads what they left, and sleeps.
    let window = site.window();
    assert_eq!(window.events[0].arrival, "joined");
    let results = format!("select child_index, outcome, result from tourbillon.read_results(1, '{}')", window.token);
    assert_eq!(site.told(Who::Worker, &results), ["0|completed|secret-result", "1|dead|"]);
    let sleep = Decision { delay_seconds: 30, ..window.events[0].then("sleep", "wake", "secret-state") };
    site.handed_off(&window, &[sleep]);
    tale.expect(&["orders|P|time|||150|f||"], &[], "0|1|0|0|1");
    site.set_clock(151);
    tale.expect(&["orders|P|time|||150|t||"], &[], "0|1|0|0|1");
    site.told(Who::Worker, "select tourbillon.tick('orders')");
    site.told(Who::Worker, "select * from tourbillon.drain('orders', 10)");
    tale.expect(&[], &[], "1|0|0|0|1");

    // What it was told last dies with it.
    let window = site.window();
    let wait = Decision { name: "word", ..window.events[0].then("await", "last", "secret-state") };
    site.handed_off(&window, &[wait]);
    assert_eq!(tale.emit(&parent, "word", "secret-payload", "e3", ""), "resumed");
    let window = site.window();
    let event = &window.events[0];
    let (arrival, payload) = (event.arrival.clone(), event.payload.clone());
    let retry =
        Decision { attempt: 3, max_attempts: 2, arrival, payload, ..event.then("retry", "last", "secret-state") };
    site.handed_off(&window, &[retry]);
    tale.expect(&[], &[], "0|0|0|0|2");
    assert_eq!(tale.emit(&parent, "go", "secret-payload", "e4", "secret-token"), "dead");
    let audit = tale.lettered(site.told(Who::Owner, "select actor, act, workflow_hash, name from tourbillon.audit"));
    assert_eq!(
        audit,
        [
            "carl|emit_forged|P|go",
            "carl|emit_forged|P|go",
            "carl|emit_resumed|P|go",
            "carl|emit_promised|P|never",
            "carl|emit_resumed|P|word",
            "carl|emit_dead|P|go",
        ]
    );
    let letters = "select workflow_hash, reason, step, arrival from tourbillon.dead_letter order by event_id";
    assert_eq!(tale.lettered(site.told(Who::Owner, letters)), ["B|rejected|begin|", "P|attempts|last|emitted"]);

    // The owner gives it another life, in which it is told the same.
    let replay = format!("select workflow_id from tourbillon.replay_dead_letter('shop', {})", event.id);
    let again = site.one(Who::Owner, &replay);
    tale.call(&again, "Q");
    tale.expect(&[], &[], "1|0|0|0|1");
    let window = site.window();
    let event = &window.events[0];
    let carried = [&event.workflow, &event.step, &event.state, &event.arrival, &event.payload];
    assert_eq!(carried, [&again, "last", "secret-state", "emitted", "secret-payload"]);
    site.handed_off(&window, &[event.then("complete", "", "secret-result")]);
    tale.expect(&[], &[], "0|0|0|0|1");
}

#[test]
fn each_role_has_what_the_rest_of_its_work_takes() {
    let Some(site) = Site::new() else { return };
    site.told(Who::Client, "select * from tourbillon.append('mail', 'hello')");
    let timer = site.one(Who::Client, "select event_id, due from tourbillon.schedule('mail', 'later', '1h')");
    let (id, due) = timer.split_once('|').expect("two columns");
    let cancel = format!("select cancelled from tourbillon.cancel('mail', {id}, '{due}')");
    assert_eq!([site.one(Who::Client, &cancel), site.one(Who::Client, &cancel)], ["t", "f"]);

    for _worker in ["the first", "the second"] {
        site.told(Who::Worker, "select tourbillon.register('shop')");
    }
    site.start("order 1", "s");
    site.window();
    // Two crashes isolate the window.
    let take_over = |worker: u32| format!("select token, victim, isolated from tourbillon.take_over({worker}, '0')");
    for (worker, seen) in [(2, "|1|f"), (1, "|2|t")] {
        site.set_clock(100 + 10 * u64::from(3 - worker));
        let taken = site.one(Who::Worker, &take_over(worker));
        assert!(taken.ends_with(seen), "{taken}");
    }
    let running = "select worker_id, crashes, is_isolated from tourbillon.running";
    assert_eq!(site.told(Who::Client, running), ["1|2|t"]);
    let token = site.one(Who::Owner, "select token from tourbillon.worker where worker_id = 1");
    let hand_out = format!("select tries, step, state from tourbillon.hand_out(1, '{token}', 3)");
    assert_eq!(site.told(Who::Worker, &hand_out), ["1|begin|s"]);
    for duty in ["rotate('orders', '1s')", "rotate_timers('orders', '1s')", "rotate_audit('1h', '1s')"] {
        site.told(Who::Worker, &format!("select * from tourbillon.{duty}"));
    }
}
