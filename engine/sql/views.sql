-- What people look at. Ids of workflows appear as hashes: who has the id itself may emit to the workflow.
--
--   waiting   each workflow that is for nobody to run: what for, since when, until when, whether that has passed. A timer
--             does not know since when.
--   running   each worker that has a window
--   counts    each queue of workflows: how many are alive, by what they wait for, and how many dead letters nobody has
--             replayed
--
-- A view calls its functions as whoever reads it; the functions read the tables as their owner. Internal: waiting_rows,
-- running_rows, counts_rows.

create function tourbillon.waiting_rows()
returns table (
  queue text,
  workflow_hash text,
  waits_for text,
  name text,
  since timestamptz,
  until timestamptz,
  is_overdue boolean,
  children int,
  ended int
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_sleeping text;
begin
  select string_agg(
    format(
      'select
        q.name queue, t.workflow_id, ''time'' waits_for, null::text name, null::timestamptz since, t.due until,
        null::int children, null::int ended
      from (select * from tourbillon.timer_%1$s_0 union all select * from tourbillon.timer_%1$s_1) t
      join tourbillon.queue q on q.queue_id = %1$s
      join tourbillon.drain d on d.queue_id = %1$s
      where t.workflow_id is not null
      and not tourbillon.is_delivered(d, t.due, t.event_id, t.xid)',
      q.queue_id),
    ' union all ')
  into v_sleeping
  from tourbillon.queue q
  where q.kind = 'workflow';

  -- In one statement, so that each workflow is told once, as of one time.
  return query execute format(
    'select
      w.queue, tourbillon.workflow_hash(w.workflow_id), w.waits_for, w.name, w.since, w.until,
      coalesce(w.until <= tourbillon.clock(), false), w.children, w.ended
    from (%s) w
    order by w.queue, w.until, w.since, w.workflow_id',
    concat_ws(
      ' union all ',
      v_sleeping,
      'select
        q.name queue, b.workflow_id, ''emit'' waits_for, b.name, b.since, b.deadline until, null::int children,
        null::int ended
      from tourbillon.box b
      join tourbillon.queue q on q.queue_id = b.queue_id
      where b.kind = ''wait''',
      'select q.name, j.workflow_id, ''children'', null, j.since, null, j.total, j.ended
      from tourbillon.open_join j
      join tourbillon.queue q on q.queue_id = j.queue_id'));
end;
$$;

create view tourbillon.waiting as
select *
from tourbillon.waiting_rows();

create function tourbillon.running_rows()
returns table (
  consumer text,
  worker_id bigint,
  prev_tick bigint,
  next_tick bigint,
  heartbeat timestamptz,
  silent_for interval,
  crashes int,
  is_isolated boolean
)
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
  select
    s.name, w.worker_id, w.prev_tick, w.next_tick, w.heartbeat, tourbillon.clock() - w.heartbeat, w.crashes,
    coalesce(tourbillon.is_isolated(w.crashes), false)
  from tourbillon.worker w
  join tourbillon.subscription s on s.subscription_id = w.subscription_id
  where w.token is not null
  order by s.name, w.worker_id;
$$;

create view tourbillon.running as
select *
from tourbillon.running_rows();

create function tourbillon.counts_rows()
returns table (
  queue text,
  ready bigint,
  sleeping bigint,
  waiting bigint,
  joining bigint,
  dead bigint
)
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
  select
    q.name, o.ready, o.sleeping, o.waiting, o.joining,
    (select count(*) from tourbillon.dead_letter d where d.queue_id = q.queue_id and d.replayed_as is null)
  from tourbillon.queue q,
  lateral tourbillon.observe(q.name) o
  where q.kind = 'workflow'
  order by q.name;
$$;

create view tourbillon.counts as
select *
from tourbillon.counts_rows();
