-- Timers ride the ticks.
--
--   schedule       a message for later, in the caller's transaction, at any isolation level
--   cancel         takes it back, unless it is delivered
--   rotate_timers  truncates the older timer table and makes it current
--
-- Internal: insert_timer, is_timer_due, is_delivered, rotate_older.
--
-- A timer is the event that it will be, under the id that it has from the time when it is scheduled. Its row is written once;
-- what is delivered is told by the cursor, a row of tourbillon.drain, which drain.sql moves on. That none is lost, fired twice or early is argued in
-- engine/src/procedures/timer.rs, step by step.

-- The event's id is drawn here. The pointer is a hint: by the time of the insert the table may have been rotated away, and
-- is read all the same.
create function tourbillon.insert_timer(
  p_queue_id int,
  p_due timestamptz,
  p_workflow uuid,
  p_sequence int,
  p_step text,
  p_attempt int,
  p_state text,
  out event_id bigint,
  out timer_table smallint
)
returns record
language plpgsql
volatile
as $$
begin
  select d.current_table
  into timer_table
  from tourbillon.drain d
  where d.queue_id = p_queue_id;

  execute format(
    'insert into tourbillon.timer_%s_%s (due, event_id, xid, workflow_id, sequence, step, attempt, state)
    values ($1, nextval(''tourbillon.event_id''), pg_current_xact_id(), $2, $3, $4, $5, $6)
    returning event_id',
    p_queue_id, timer_table)
  into event_id
  using p_due, p_workflow, p_sequence, p_step, p_attempt, p_state;
end;
$$;

create function tourbillon.schedule(
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
begin
  v_queue := tourbillon.queue_named(p_queue);
  perform tourbillon.require_kind(v_queue, 'plain');
  if octet_length(p_state) > 1048576 then
    perform tourbillon.raise_limit_exceeded('A message has at most 1,048,576 bytes.');
  end if;

  due := tourbillon.clock() + p_delay;
  select i.event_id, i.timer_table
  into schedule.event_id, schedule.timer_table
  from tourbillon.insert_timer(v_queue.queue_id, schedule.due, null, 0, null, 1, p_state) i;
end;
$$;

-- Whether a tick taken now would have a timer due that this one has not: its time has come since, or its transaction was
-- in progress then. These are few: materialized, or the planner might walk all that was ever due instead.
create function tourbillon.is_timer_due(p_queue_id int, p_tick bigint)
returns boolean
language plpgsql
volatile
as $$
declare
  v_tick tourbillon.tick;
  v_found boolean;
begin
  select *
  into v_tick
  from tourbillon.tick t
  where t.queue_id = p_queue_id
  and t.tick = p_tick;

  execute format(
    'select exists (%s)',
    (
      select string_agg(
        format(
          'select
          from tourbillon.timer_%1$s_%2$s t
          where t.due > $1
          and t.due <= $2
          union all
          (
            with recent as materialized (
              select t.due
              from tourbillon.timer_%1$s_%2$s t
              where t.xid >= pg_snapshot_xmax($3)
              or t.xid = any (array(select pg_snapshot_xip($3)))
            )
            select
            from recent r
            where r.due <= $1
          )',
          p_queue_id, v_table),
        ' union all '
        order by v_table)
      from generate_series(0, 1) v_table
    ))
  into v_found
  using v_tick.at, tourbillon.clock(), v_tick.snapshot;
  return v_found;
end;
$$;

create function tourbillon.is_delivered(p_cursor tourbillon.drain, p_due timestamptz, p_event bigint, p_xid xid8)
returns boolean
language sql
immutable
as $$
  select p_due <= (p_cursor).done_at
    and pg_visible_in_snapshot(p_xid, (p_cursor).done_snapshot)
    or coalesce(
      (p_due, p_event) <= ((p_cursor).position_due, (p_cursor).position_event)
      and pg_visible_in_snapshot(p_xid, (p_cursor).open_snapshot),
      false);
$$;

-- For a transaction of its own: until it ends, nothing of the queue is drained.
create function tourbillon.cancel(p_queue text, p_event bigint, p_due timestamptz, out cancelled boolean)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_queue tourbillon.queue;
  v_cursor tourbillon.drain;
  v_count bigint;
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check
  v_queue := tourbillon.queue_named(p_queue);
  perform tourbillon.require_kind(v_queue, 'plain');

  select *
  into v_cursor
  from tourbillon.drain d
  where d.queue_id = v_queue.queue_id
  for update; -- guard: cancel_lock
  -- without cancel_lock: ;

  for v_table in 0..1 loop
    execute format(
      'delete from tourbillon.timer_%s_%s t
      where t.due = $1
      and t.event_id = $2
      and not tourbillon.is_delivered($3, t.due, t.event_id, t.xid)',
      v_queue.queue_id, v_table)
    using p_due, p_event, v_cursor;
    get diagnostics v_count = row_count;
    cancelled := v_count > 0;
    if cancelled then
      -- A row of its own, not a number in the cursor: a snapshot held open would keep all versions of that.
      insert into tourbillon.cancelled (queue_id, timer_table, event_id)
      values (v_queue.queue_id, v_table, p_event)
      on conflict do nothing;
      exit;
    end if;
  end loop;
end;
$$;

-- What rotate_timers does once it has the cursor's lock.
create function tourbillon.rotate_older(
  p_cursor tourbillon.drain,
  out rotated boolean,
  out timer_table smallint,
  out moved bigint
)
returns record
language plpgsql
volatile
as $$
declare
  v_is_to_move text;
  v_over bigint;
  v_count bigint;
begin
  v_is_to_move := 'not tourbillon.is_delivered($1, t.due, t.event_id, t.xid)'; -- guard: timer_move_whole
  -- without timer_move_whole: v_is_to_move := 't.due > coalesce(($1).open_at, ($1).done_at)';
  timer_table := 1 - p_cursor.current_table;

  -- A cheap look, so that a table in use is not locked for nothing: is there more to be moved than is over, delivered or
  -- cancelled, in either table? It costs what is over, not what is pending.
  rotated := false;
  select count(*)
  into v_over
  from tourbillon.cancelled c
  where c.queue_id = p_cursor.queue_id;
  for v_table in 0..1 loop
    execute format(
      'select count(*)
      from tourbillon.timer_%s_%s t
      where t.due <= $2
      and not (%s)',
      p_cursor.queue_id, v_table, v_is_to_move)
    into v_count
    using p_cursor, greatest(p_cursor.done_at, p_cursor.position_due);
    v_over := v_over + v_count;
  end loop;
  execute format(
    'select count(*)
    from (
      select
      from tourbillon.timer_%s_%s t
      where %s
      limit $2
    ) p',
    p_cursor.queue_id, timer_table, v_is_to_move)
  into v_count
  using p_cursor, v_over + 1;
  if v_count > v_over then
    return;
  end if;

  execute format('lock table tourbillon.timer_%s_%s in access exclusive mode', p_cursor.queue_id, timer_table);

  -- A statement of its own, after the lock: whoever believed the table current has committed to it, or finds it later.
  execute format(
    'insert into tourbillon.timer_%1$s_%2$s
    select t.*
    from tourbillon.timer_%1$s_%3$s t
    where %4$s',
    p_cursor.queue_id, p_cursor.current_table, timer_table, v_is_to_move)
  using p_cursor;
  get diagnostics moved = row_count;

  execute format('truncate tourbillon.timer_%s_%s', p_cursor.queue_id, timer_table);

  delete from tourbillon.cancelled c
  where c.queue_id = p_cursor.queue_id
  and c.timer_table = rotate_older.timer_table;

  update tourbillon.drain d
  set current_table = rotate_older.timer_table
  where d.queue_id = p_cursor.queue_id;

  rotated := true;
end;
$$;

-- When at least as much is over, delivered or cancelled, as must be moved, never by period alone. What is over counts in
-- whichever table it lies: one timer that is due in a year would otherwise keep the older table, and all that ever came to
-- the current one. It counts in two rotations at most, as each table is truncated in every other.
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
  v_queue_id int;
  v_lock_timeout text := current_setting('lock_timeout');
  v_cursor tourbillon.drain;
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check
  v_queue_id := (tourbillon.queue_named(p_queue)).queue_id;

  -- As in a rotation of event tables.
  perform set_config(
    'lock_timeout', greatest(1, ceil(extract(epoch from p_lock_timeout) * 1000))::text, true);

  select *
  into v_cursor
  from tourbillon.drain d
  where d.queue_id = v_queue_id
  for update;

  select r.rotated, r.timer_table, r.moved
  into rotated, timer_table, moved
  from tourbillon.rotate_older(v_cursor) r;

  perform set_config('lock_timeout', v_lock_timeout, true);
end;
$$;
