-- Delayed delivery by two tables and a watermark, as the draft in PgQue's pull request 237 has it, in the place of the
-- engine's timers. It loses timers: engine/src/designs/delayed_rotation.rs says how, and what differs from the draft.
--
--   schedule, cancel, drain, rotate_timers
--
-- Installed last, and only where the draft is asked for. A queue of workflows keeps the engine's timers.

alter table tourbillon.drain
  add column watermark timestamptz not null default tourbillon.clock(),
  add column window_end timestamptz not null default tourbillon.clock() + interval '1 second';

alter function tourbillon.drain(text, int) rename to drain_by_ticks;
alter function tourbillon.rotate_timers(text, interval) rename to rotate_timers_by_ticks;

create or replace function tourbillon.schedule(
  p_queue text,
  p_state text,
  p_delay interval,
  out event_id bigint,
  out due timestamptz,
  out timer_table smallint
)
returns record
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_queue tourbillon.queue;
  v_cursor tourbillon.drain;
begin
  v_queue := tourbillon.queue_named(p_queue);
  perform tourbillon.require_kind(v_queue, 'plain');
  due := tourbillon.clock() + p_delay;

  select *
  into v_cursor
  from tourbillon.drain d
  where d.queue_id = v_queue.queue_id
  for share;

  timer_table := case when due <= v_cursor.window_end then v_cursor.current_table else 1 - v_cursor.current_table end;
  execute format(
    'insert into tourbillon.timer_%s_%s (due, event_id, xid, workflow_id, sequence, step, attempt, state)
    values ($1, nextval(''tourbillon.event_id''), pg_current_xact_id(), null, 0, null, 1, $2)
    returning event_id',
    v_queue.queue_id, timer_table)
  into event_id
  using due, p_state;
end;
$$;

create or replace function tourbillon.cancel(p_queue text, p_event bigint, p_due timestamptz, out cancelled boolean)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_queue tourbillon.queue;
  v_count bigint;
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check
  v_queue := tourbillon.queue_named(p_queue);
  perform tourbillon.require_kind(v_queue, 'plain');

  for v_table in 0..1 loop
    execute format(
      'delete from tourbillon.timer_%s_%s t
      where t.due = $1
      and t.event_id = $2',
      v_queue.queue_id, v_table)
    using p_due, p_event;
    get diagnostics v_count = row_count;
    cancelled := v_count > 0;
    exit when cancelled;
  end loop;
end;
$$;

create function tourbillon.drain(
  p_queue text,
  p_limit int,
  out tick bigint,
  out fired bigint[],
  out dead bigint[],
  out resumed bigint[],
  out undeliverable bigint[],
  out event_table smallint,
  out is_done boolean
)
returns record
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_queue tourbillon.queue;
  v_cursor tourbillon.drain;
  v_now timestamptz;
  v_page tourbillon.timer[];
begin
  v_queue := tourbillon.queue_named(p_queue);
  if v_queue.kind <> 'plain' then
    select d.tick, d.fired, d.dead, d.resumed, d.undeliverable, d.event_table, d.is_done
    into tick, fired, dead, resumed, undeliverable, event_table, is_done
    from tourbillon.drain_by_ticks(p_queue, p_limit) d;
    return;
  end if;
  perform tourbillon.require_read_committed(); -- guard: isolation_check

  select *
  into v_cursor
  from tourbillon.drain d
  where d.queue_id = v_queue.queue_id
  for update;
  v_now := tourbillon.clock();

  execute format(
    'select array_agg(p.timer order by (p.timer).due, (p.timer).event_id)
    from (
      select (t.*)::tourbillon.timer timer
      from tourbillon.timer_%s_%s t
      where t.due > $1
      and t.due <= $2
      order by t.due, t.event_id
      limit $3
    ) p',
    v_queue.queue_id, v_cursor.current_table)
  into v_page
  using v_cursor.watermark, v_now, greatest(p_limit, 1);

  if v_page is not null then
    select q.current_table
    into event_table
    from tourbillon.queue q
    where q.queue_id = v_queue.queue_id;
    perform tourbillon.append_timers(v_queue.queue_id, event_table, v_page);
    fired := array(select t.event_id from unnest(v_page) t order by t.due, t.event_id);
  end if;

  update tourbillon.drain d
  set watermark = v_now
  where d.queue_id = v_queue.queue_id;
  tick := 0;
  is_done := true;
end;
$$;

create function tourbillon.rotate_timers(
  p_queue text,
  p_lock_timeout interval,
  out rotated boolean,
  out timer_table smallint,
  out moved bigint
)
returns record
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_queue tourbillon.queue;
  v_cursor tourbillon.drain;
  v_now timestamptz;
  v_found boolean;
  v_lock_timeout text := current_setting('lock_timeout');
begin
  v_queue := tourbillon.queue_named(p_queue);
  if v_queue.kind <> 'plain' then
    select r.rotated, r.timer_table, r.moved
    into rotated, timer_table, moved
    from tourbillon.rotate_timers_by_ticks(p_queue, p_lock_timeout) r;
    return;
  end if;
  perform tourbillon.require_read_committed(); -- guard: isolation_check
  perform set_config(
    'lock_timeout', greatest(1, ceil(extract(epoch from p_lock_timeout) * 1000))::text, true);

  select *
  into v_cursor
  from tourbillon.drain d
  where d.queue_id = v_queue.queue_id
  for update;
  v_now := tourbillon.clock();
  rotated := false;
  timer_table := v_cursor.current_table;

  if v_now >= v_cursor.window_end then
    execute format(
      'select exists (select from tourbillon.timer_%s_%s t where t.due > $1 and t.due <= $2)',
      v_queue.queue_id, timer_table)
    into v_found
    using v_cursor.watermark, v_now;

    if not v_found then
      execute format(
        'insert into tourbillon.timer_%1$s_%2$s
        select t.*
        from tourbillon.timer_%1$s_%3$s t
        where t.due > $1',
        v_queue.queue_id, timer_table, 1 - timer_table)
      using v_cursor.window_end + interval '1 second';
      get diagnostics moved = row_count;
      execute format('truncate tourbillon.timer_%s_%s', v_queue.queue_id, timer_table);

      update tourbillon.drain d
      set
        current_table = 1 - v_cursor.current_table,
        watermark = v_cursor.window_end,
        window_end = v_cursor.window_end + interval '1 second'
      where d.queue_id = v_queue.queue_id;
      rotated := true;
    end if;
  end if;

  perform set_config('lock_timeout', v_lock_timeout, true);
end;
$$;
