-- Timers ride the ticks.
--
--   schedule       a message for later, in the caller's transaction, at any isolation level
--   cancel         takes it back, unless it is delivered
--   drain          makes events of what is due, a page at a time
--   rotate_timers  truncates the older timer table and makes it current
--
-- Internal: insert_timer, is_timer_due, is_delivered, with_round, page_query, page, append_timers, deliver,
-- rotate_older.
--
-- A timer is the event that it will be, under the id that it has from the time when it is scheduled. Its row is written once;
-- what is delivered is told by the cursor, a row of tourbillon.drain. That none is lost, fired twice or early is argued in
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

-- The cursor with the round that is to be delivered now: the open one, else one up to the latest tick, if that is newer than
-- the done one. No open tick while the clock, having stepped back, is before it.
create function tourbillon.with_round(p_cursor tourbillon.drain)
returns tourbillon.drain
language plpgsql
volatile
as $$
begin
  if p_cursor.open_tick is null then
    select t.tick, t.at, t.snapshot
    into p_cursor.open_tick, p_cursor.open_at, p_cursor.open_snapshot
    from tourbillon.tick t
    where t.queue_id = p_cursor.queue_id
    and t.tick > p_cursor.done_tick
    order by t.tick desc
    limit 1;
  end if;
  if p_cursor.open_at > tourbillon.clock() then
    p_cursor.open_tick := null;
  end if;
  return p_cursor;
end;
$$;

-- The timers of a round behind a position, by (due, event_id): $1 how many at most; ($2, $3) the position; $4 and $5 the open
-- tick's clock and snapshot; $6 and $7 the done one's; ($8, $9) the position among the late. By the index on (due, event_id)
-- those whose time came in the round; by that on xid, as above, those that are late. They come first, so behind the first
-- that is not late there are none.
create function tourbillon.page_query(p_queue_id int, p_has_late boolean)
returns text
language plpgsql
immutable
as $$
declare
  v_parts text[];
begin
  v_parts := array(
    select format(
      '(
        select t.*
        from tourbillon.timer_%s_%s t
        where (t.due, t.event_id) > ($2, $3)
        and t.due <= $4
        and pg_visible_in_snapshot(t.xid, $5)
        order by t.due, t.event_id
        limit $1
      )',
      p_queue_id, v_table)
    from generate_series(0, 1) v_table
    order by v_table);

  -- guard: drain_late_path begin
  if p_has_late then
    v_parts := v_parts || array(
      select format(
        '(
          with recent as materialized (
            select t.*
            from tourbillon.timer_%s_%s t
            where t.xid >= pg_snapshot_xmax($7) and t.xid < pg_snapshot_xmax($5)
            or t.xid = any (array(select pg_snapshot_xip($7)))
          )
          select r.*
          from recent r
          where r.due <= $6
          and (r.due, r.event_id) > ($8, $9)
          and pg_visible_in_snapshot(r.xid, $5)
        )',
        p_queue_id, v_table)
      from generate_series(0, 1) v_table
      order by v_table);
  end if;
  -- guard: drain_late_path end

  return format(
    'select array_agg(row(p.*)::tourbillon.timer order by p.due, p.event_id)
    from (
      select *
      from (%s) u
      order by u.due, u.event_id
      limit $1
    ) p',
    array_to_string(v_parts, ' union all '));
end;
$$;

-- At most so many timers of the cursor's round behind the position; null if there are none.
create function tourbillon.page(p_cursor tourbillon.drain, p_limit int)
returns tourbillon.timer[]
language plpgsql
volatile
as $$
declare
  v_due timestamptz := p_cursor.done_at;
  v_event bigint := 9223372036854775807;
  v_page tourbillon.timer[];
begin
  if p_cursor.position_due > p_cursor.done_at then
    v_due := p_cursor.position_due;
    v_event := p_cursor.position_event;
  end if;

  execute tourbillon.page_query(p_cursor.queue_id, v_due = p_cursor.done_at)
  into v_page
  using
    p_limit,
    v_due,
    v_event,
    p_cursor.open_at,
    p_cursor.open_snapshot,
    p_cursor.done_at,
    p_cursor.done_snapshot,
    coalesce(p_cursor.position_due, '-infinity'),
    coalesce(p_cursor.position_event, 0);
  return v_page;
end;
$$;

create function tourbillon.append_timers(p_queue_id int, p_table int, p_page tourbillon.timer[])
returns void
language plpgsql
volatile
as $$
begin
  execute format(
    'insert into tourbillon.event_%s_%s (
      event_id, xid, workflow_id, sequence, step, attempt, state, arrival, payload)
    select
      t.event_id,
      pg_current_xact_id(),'
      || ' t.workflow_id, t.sequence,' -- guard: timer_keeps_fields
      -- without timer_keeps_fields: || ' null, 0,'
      || ' t.step, t.attempt, t.state, t.arrival, t.payload
    from unnest($1) t',
    p_queue_id, p_table)
  using p_page;
end;
$$;

-- A page that fails is taken back and goes timer by timer: what cannot become an event because of what it is, is a dead
-- letter. An error that says nothing about the row (a rollback, a lock, a resource, a bug) is no reason for that.
create function tourbillon.deliver(
  p_queue_id int,
  p_table int,
  p_page tourbillon.timer[],
  out fired bigint[],
  out dead bigint[]
)
returns record
language plpgsql
volatile
as $$
declare
  v_timer tourbillon.timer;
begin
  fired := '{}';
  dead := '{}';
  -- guard: drain_poison begin
  begin
  -- guard: drain_poison end
    perform tourbillon.append_timers(p_queue_id, p_table, p_page);
    fired := array(select t.event_id from unnest(p_page) t);
  -- guard: drain_poison begin
  exception
    when data_exception or integrity_constraint_violation or program_limit_exceeded or raise_exception then
      foreach v_timer in array p_page loop
        begin
          perform tourbillon.append_timers(p_queue_id, p_table, array[v_timer]);
          fired := fired || v_timer.event_id;
        exception
          when data_exception or integrity_constraint_violation or program_limit_exceeded or raise_exception then
            perform tourbillon.bury_undeliverable(
              p_queue_id,
              row (
                v_timer.event_id, null, v_timer.workflow_id, v_timer.sequence, v_timer.step, v_timer.attempt, v_timer.state,
                v_timer.arrival, v_timer.payload
              )::tourbillon.event);
            dead := dead || v_timer.event_id;
        end;
      end loop;
  end;
  -- guard: drain_poison end
end;
$$;

-- The tick is null if nothing is to be delivered; otherwise is_done says whether the round is over. resumed are the joins
-- that are complete by what is dead; undeliverable, those that could not become events.
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
  v_queue_id int;
  v_limit int := greatest(p_limit, 1);
  v_cursor tourbillon.drain;
  v_page tourbillon.timer[];
  v_last tourbillon.timer;
  v_ended tourbillon.ending[];
  v_complete tourbillon.event[];
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check
  v_queue_id := (tourbillon.queue_named(p_queue)).queue_id;

  -- A cheap look, without the lock, which would take an xid.
  select *
  into v_cursor
  from tourbillon.drain d
  where d.queue_id = v_queue_id;
  v_cursor := tourbillon.with_round(v_cursor);
  if v_cursor.open_tick is null then
    return;
  end if;

  select *
  into v_cursor
  from tourbillon.drain d
  where d.queue_id = v_queue_id
  for update;
  v_cursor := tourbillon.with_round(v_cursor);
  if v_cursor.open_tick is null then
    return;
  end if;

  v_page := tourbillon.page(v_cursor, v_limit);

  tick := v_cursor.open_tick;
  is_done := coalesce(cardinality(v_page), 0) < v_limit; -- guard: drain_position
  -- without drain_position: is_done := true;

  if v_page is not null then
    event_table := tourbillon.current_table(v_queue_id);
    select d.fired, d.dead
    into drain.fired, drain.dead
    from tourbillon.deliver(v_queue_id, event_table, v_page) d;

    if dead <> '{}' then
      v_ended := array(
        select row (t.workflow_id, 'dead', null)::tourbillon.ending
        from unnest(v_page) t
        where t.event_id = any (dead)
        and t.workflow_id is not null);
    end if;
    if v_ended <> '{}' then
      v_complete := tourbillon.report_ends(tourbillon.end_workflows(v_ended));
      select r.resumed, r.undeliverable
      into drain.resumed, drain.undeliverable
      from tourbillon.resume(v_queue_id, event_table, v_complete, false) r;
    end if;
  end if;

  if is_done then
    update tourbillon.drain d
    set
      done_tick = v_cursor.open_tick,
      done_at = v_cursor.open_at,
      done_snapshot = v_cursor.open_snapshot,
      open_tick = null,
      open_at = null,
      open_snapshot = null,
      position_due = null,
      position_event = null
    where d.queue_id = v_queue_id;
  else
    v_last := v_page[v_limit];
    update tourbillon.drain d
    set
      open_tick = v_cursor.open_tick,
      open_at = v_cursor.open_at,
      open_snapshot = v_cursor.open_snapshot,
      position_due = v_last.due,
      position_event = v_last.event_id
    where d.queue_id = v_queue_id;
  end if;
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
  into rotate_timers.rotated, rotate_timers.timer_table, rotate_timers.moved
  from tourbillon.rotate_older(v_cursor) r;

  perform set_config('lock_timeout', v_lock_timeout, true);
end;
$$;
