//! Timers on a server.

use super::{Delay, Measured, PAGE, QUEUE, Site, costs, ratios};
use crate::cli::bench::connected::{self, Connected};
use crate::postgres::server::Server;
use anyhow::Result;
use std::time::{Duration, Instant};
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::op::{Op, QueueKind};

/// What the page of an open round would be read by. The arguments of the query are those of the function `page`, where a
/// round begins.
const EXPLAIN: &str = "create function tourbillon.bench_explain(p_limit int)
returns setof text
language plpgsql
as $$
declare
  v_line text;
  v_cursor tourbillon.drain;
begin
  select * into v_cursor from tourbillon.drain;
  v_cursor := tourbillon.with_round(v_cursor);
  for v_line in
    execute 'explain ' || tourbillon.page_query(v_cursor.queue_id, true)
    using
      p_limit, v_cursor.done_at, 9223372036854775807, v_cursor.open_at, v_cursor.open_snapshot, v_cursor.done_at,
      v_cursor.done_snapshot, '-infinity'::timestamptz, 0::bigint
  loop
    return next v_line;
  end loop;
end;
$$;";

/// The delay must be of the row, or the function would be called once for all.
const SCHEDULE_NOW: &str = "select count(s.event_id) from generate_series(1, {count}) i,
    lateral tourbillon.schedule('q0', i::text, interval '0') s";

const SCHEDULE_FAR: &str = "select count(s.event_id) from generate_series({first}, {last}) i,
    lateral tourbillon.schedule('q0', i::text, interval '10 days' + i * 7919::bigint % 1000003 * interval '1 second') s";

const SNAPSHOT: &str = "begin isolation level repeatable read; select count(*) from tourbillon.tick";

const TIMER_ROWS: &str =
    "select (select count(*) from tourbillon.timer_1_0) + (select count(*) from tourbillon.timer_1_1)";

struct OnServer<'a> {
    session: Connected<'a>,
    holder: Connected<'a>,
    scheduled: u64,
}

pub fn measure(server: &mut Server) -> Result<Measured> {
    let site = connected::Site::install(server, &[])?;
    let mut timers = OnServer { session: Connected::open(&site)?, holder: Connected::open(&site)?, scheduled: 0 };
    timers.session.script(EXPLAIN)?;
    timers.session.call(&Op::CreateQueue { queue: QUEUE, kind: QueueKind::Plain })?;
    let mut plan = Vec::new();
    let costs = costs(&mut timers, |timers| {
        let rows = timers.session.rows(&format!("select * from tourbillon.bench_explain({PAGE})"))?;
        plan = rows.iter().map(|row| row.get(0)).collect();
        Ok(())
    })?;
    let ratios = ratios(&costs);
    let (indexes, is_plan_bad) = (indexes(&plan), plan.iter().any(|line| is_scan_of_all(line)));
    let place = format!("PostgreSQL {}, synchronous commit off", server.version());
    server.drop_schema(site.schema())?;
    let scheduling = "schedule one: 1,000 calls in one statement";
    Ok(Measured { place, scheduling, costs, ratios, is_plan_bad: is_plan_bad || indexes.is_empty(), plan, indexes })
}

/// Of each line of a plan that names one.
fn indexes(plan: &[String]) -> Vec<String> {
    let named = plan.iter().filter_map(|line| {
        let (_, after) = line.split_once("Scan using ").or_else(|| line.split_once("Bitmap Index Scan on "))?;
        after.split_whitespace().next().map(str::to_owned)
    });
    let mut indexes: Vec<String> = named.collect();
    indexes.sort_unstable();
    indexes.dedup();
    indexes
}

fn is_scan_of_all(line: &str) -> bool {
    line.contains("Seq Scan on timer_")
}

impl Site for OnServer<'_> {
    fn hold_snapshot(&mut self) -> Result<()> {
        self.holder.script(SNAPSHOT)
    }

    fn let_go(&mut self) -> Result<()> {
        self.holder.script("commit")
    }

    /// A page in a transaction.
    fn schedule(&mut self, count: u32, delay: Delay) -> Result<Duration> {
        let mut spent = Duration::ZERO;
        for _ in 0..count / PAGE {
            let first = self.scheduled + 1;
            self.scheduled += u64::from(PAGE);
            let sql = match delay {
                Delay::None => SCHEDULE_NOW.replace("{count}", &PAGE.to_string()),
                Delay::Days => {
                    SCHEDULE_FAR.replace("{first}", &first.to_string()).replace("{last}", &self.scheduled.to_string())
                }
            };
            let begun = Instant::now();
            self.session.script(&sql)?;
            spent += begun.elapsed();
        }
        Ok(spent)
    }

    fn timed(&mut self, op: &PlainOp) -> Result<(PlainReply, Duration)> {
        self.session.timed(op)
    }

    fn timer_rows(&mut self) -> Result<u64> {
        Ok(self.session.rows(TIMER_ROWS)?[0].get::<_, i64>(0) as u64)
    }
}
