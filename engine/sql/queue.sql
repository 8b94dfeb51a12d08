-- The rotating log.
--
--   create_queue  a queue, its three event tables and two timer tables, its first tick, its cursor of timers
--   subscribe     a consumer with a cursor of its own
--   tick          stores a snapshot: the end of one window and the start of the next
--   rotate        truncates the oldest event table and makes it current
--
-- Internal: require_read_committed, require_nothing_written, raise_undefined, raise_limit_exceeded, queue_named, last_event,
-- is_idle, snapshot_at, window_query, window_has_events, horizon, holds_later, rotate_oldest.

-- Under REPEATABLE READ a duty would go by what was true when its transaction began.
create function tourbillon.require_read_committed()
returns void
language plpgsql
volatile
as $$
begin
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    raise exception using
      errcode = 'feature_not_supported',
      message = 'isolation_level',
      detail = format('The transaction runs at %s.', current_setting('transaction_isolation')),
      hint = 'Workers and duties run at READ COMMITTED.';
  end if;
end;
$$;

-- A transaction's own xid may count as over in its own snapshot, and what it writes later is then in no window.
create function tourbillon.require_nothing_written()
returns void
language plpgsql
volatile
as $$
begin
  if pg_current_xact_id_if_assigned() is not null then
    raise exception using
      errcode = 'active_sql_transaction',
      message = 'wrote_before',
      detail = 'The transaction has written, or locked a row, before it takes its snapshot.',
      hint = 'Call this first in its transaction, or in one of its own.';
  end if;
end;
$$;

create function tourbillon.raise_undefined(p_what text, p_name text)
returns void
language plpgsql
volatile
as $$
begin
  raise exception using
    errcode = 'undefined_object',
    message = 'undefined_object',
    detail = format('There is no %s %s.', p_what, p_name);
end;
$$;

create function tourbillon.raise_limit_exceeded(p_detail text)
returns void
language plpgsql
volatile
as $$
begin
  raise exception using
    errcode = 'program_limit_exceeded',
    message = 'limit_exceeded',
    detail = p_detail,
    hint = 'Nothing was stored. Keep what is large, or many, elsewhere, and hand on a reference.';
end;
$$;

create function tourbillon.queue_named(p_queue text)
returns tourbillon.queue
language plpgsql
volatile
as $$
declare
  v_queue tourbillon.queue;
begin
  select *
  into v_queue
  from tourbillon.queue q
  where q.name = p_queue;
  if not found then
    perform tourbillon.raise_undefined('queue', p_queue);
  end if;
  return v_queue;
end;
$$;

create function tourbillon.create_queue(p_queue text, p_kind text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_last_event bigint;
  v_snapshot pg_snapshot;
  v_queue_id int;
  v_first tourbillon.tick;
begin
  perform tourbillon.require_nothing_written();
  v_last_event := tourbillon.last_event();
  v_snapshot := pg_current_snapshot();

  insert into tourbillon.queue (name, kind, current_table)
  values (p_queue, p_kind, 0)
  returning queue.queue_id into v_queue_id;

  -- Truncation resets these tables; vacuum would only take xids and locks.
  for v_table in 0..2 loop
    execute format(
      'create table tourbillon.event_%1$s_%2$s (like tourbillon.event including constraints)
      with (autovacuum_enabled = false, toast.autovacuum_enabled = false);
      create index event_%1$s_%2$s_xid on tourbillon.event_%1$s_%2$s (xid);
      revoke all on table tourbillon.event_%1$s_%2$s from public;
      revoke all on type tourbillon.event_%1$s_%2$s from public;',
      v_queue_id, v_table);
  end loop;
  for v_table in 0..1 loop
    execute format(
      'create table tourbillon.timer_%1$s_%2$s of tourbillon.timer (
        due with options not null,
        event_id with options not null,
        xid with options not null,
        sequence with options not null,
        attempt with options not null
      ) with (autovacuum_enabled = false, toast.autovacuum_enabled = false);
      create index timer_%1$s_%2$s_due on tourbillon.timer_%1$s_%2$s (due, event_id);
      create index timer_%1$s_%2$s_xid on tourbillon.timer_%1$s_%2$s (xid);
      revoke all on table tourbillon.timer_%1$s_%2$s from public;
      revoke all on type tourbillon.timer_%1$s_%2$s from public;',
      v_queue_id, v_table);
  end loop;

  insert into tourbillon.tick (queue_id, tick, at, snapshot, last_event)
  values (v_queue_id, nextval('tourbillon.tick_number'), tourbillon.clock(), v_snapshot, v_last_event)
  returning *
  into v_first;

  insert into tourbillon.drain (queue_id, current_table, done_tick, done_at, done_snapshot)
  values (v_queue_id, 0, v_first.tick, v_first.at, v_first.snapshot);
end;
$$;

create function tourbillon.subscribe(p_queue text, p_consumer text, out cursor bigint)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_queue tourbillon.queue;
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check
  v_queue := tourbillon.queue_named(p_queue);

  -- The lock of rotation. 1. A subscriber reads the latest tick, and stays open. 2. Ticks and claims go on. 3. Rotation
  -- does not see the new cursor and deletes its tick: the subscriber's first window would be empty, and its events lost.
  -- It also lets two subscribers of one queue come one after the other.
  perform pg_advisory_xact_lock('tourbillon.queue'::regclass::oid::int, v_queue.queue_id);

  -- guard: one_consumer begin
  if v_queue.kind = 'workflow'
    and exists (select from tourbillon.subscription s where s.queue_id = v_queue.queue_id)
  then
    raise exception using
      errcode = 'duplicate_object',
      message = 'one_consumer',
      detail = format('Queue %s carries workflows and has its consumer.', p_queue),
      hint = 'More workers may share the consumer; a second consumer would run every step again.';
  end if;
  -- guard: one_consumer end

  select max(t.tick)
  into subscribe.cursor
  from tourbillon.tick t
  where t.queue_id = v_queue.queue_id;

  insert into tourbillon.subscription (queue_id, name, cursor)
  values (v_queue.queue_id, p_consumer, subscribe.cursor);
end;
$$;

create function tourbillon.last_event()
returns bigint
language sql
volatile
as $$
  select coalesce(pg_sequence_last_value('tourbillon.event_id'), 0);
$$;

-- Whether a tick would end an empty window. Ids are a cheap look: in a queue that is busy one was drawn since the latest
-- tick. If none was, a transaction that was in progress at that tick may have committed, or a timer's time have come.
create function tourbillon.is_idle(p_queue_id int, p_last_event bigint)
returns boolean
language plpgsql
volatile
as $$
declare
  v_latest record;
begin
  select t.tick, t.last_event
  into v_latest
  from tourbillon.tick t
  where t.queue_id = p_queue_id
  order by t.tick desc
  limit 1;
  if v_latest.last_event <> p_last_event then
    return false;
  end if;
  -- guard: idle_tick begin
  if tourbillon.holds_later(p_queue_id, array[0, 1, 2], v_latest.tick) then
    return false;
  end if;
  -- guard: idle_tick end
  return not tourbillon.is_timer_due(p_queue_id, v_latest.tick); -- guard: idle_timer
  -- without idle_timer: return true;
end;
$$;

-- All null if the queue is idle: then the latest tick stands for this one.
create function tourbillon.tick(p_queue text, out tick bigint, out at timestamptz, out snapshot pg_snapshot)
returns record
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_queue tourbillon.queue;
  v_last_event bigint;
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check
  v_queue := tourbillon.queue_named(p_queue);

  -- An advisory lock, whose class is the table that it guards: a row lock would take an xid before the snapshot.
  perform pg_advisory_xact_lock('tourbillon.tick'::regclass::oid::int, v_queue.queue_id); -- guard: tick_lock

  perform tourbillon.require_nothing_written();

  -- Before the snapshot, so that an id drawn in between counts as drawn since.
  v_last_event := tourbillon.last_event();
  if tourbillon.is_idle(v_queue.queue_id, v_last_event) then
    return;
  end if;

  -- A statement of its own, after the lock: no older snapshot may stand under a higher number.
  select pg_current_snapshot()
  into tick.snapshot;

  select greatest(tourbillon.clock(), max(t.at))
  into tick.at
  from (
    select l.at
    from tourbillon.tick l
    where l.queue_id = v_queue.queue_id
    order by l.tick desc
    limit 1
  ) t;

  tick := nextval('tourbillon.tick_number');
  insert into tourbillon.tick (queue_id, tick, at, snapshot, last_event)
  values (v_queue.queue_id, tick.tick, tick.at, tick.snapshot, v_last_event);
end;
$$;

-- Null for a tick that is gone: then nothing lies after it or before it.
create function tourbillon.snapshot_at(p_queue_id int, p_tick bigint)
returns pg_snapshot
language sql
stable
as $$
  select t.snapshot
  from tourbillon.tick t
  where t.queue_id = p_queue_id
  and t.tick = p_tick;
$$;

-- The events of the window (prev, next] as a query; none if one of the ticks is gone. Every reader of windows runs this
-- one, so that what is looked for, handed out and checked at the end is the same. The condition stands outside the union,
-- from where the planner takes it to each table's index on xid; inside, each table would be a query of its own to parse and
-- to plan, which costs more than to look for an event.
create function tourbillon.window_query(p_queue_id int, p_prev bigint, p_next bigint)
returns text
language plpgsql
volatile
as $$
declare
  v_from xid8;
  v_to xid8;
  v_next pg_snapshot;
  v_in_progress xid8[];
  v_tables text;
begin
  select
    pg_snapshot_xmax(p.snapshot),
    pg_snapshot_xmax(n.snapshot),
    n.snapshot,
    nullif(array(select pg_snapshot_xip(p.snapshot)), '{}')
  into v_from, v_to, v_next, v_in_progress
  from tourbillon.tick p
  join tourbillon.tick n on n.queue_id = p.queue_id
  where p.queue_id = p_queue_id
  and p.tick = p_prev
  and n.tick = p_next;

  v_tables := 'event_%1$s_0 union all select * from tourbillon.event_%1$s_1 union all select * from tourbillon.event_%1$s_2'; -- guard: read_all_tables
  -- without read_all_tables: v_tables := (select format('event_%%1$s_%s union all select * from tourbillon.event_%%1$s_%s', least(q.current_table, (q.current_table + 2) % 3), greatest(q.current_table, (q.current_table + 2) % 3)) from tourbillon.queue q where q.queue_id = p_queue_id);
  return format(
    'select e.*
    from (select * from tourbillon.' || v_tables || ') e
    where (
      e.xid >= %2$L and e.xid < %3$L'
      || coalesce(' or e.xid = any (' || quote_literal(v_in_progress) || ')', '') -- guard: in_progress_set
    || ')
    and pg_visible_in_snapshot(e.xid, %4$L)',
    p_queue_id, v_from, v_to, v_next);
end;
$$;

create function tourbillon.window_has_events(p_queue_id int, p_prev bigint, p_next bigint)
returns boolean
language plpgsql
volatile
as $$
declare
  v_found boolean;
begin
  execute format('select exists (%s)', tourbillon.window_query(p_queue_id, p_prev, p_next))
  into v_found;
  return v_found;
end;
$$;

-- The lowest tick that anybody still needs.
create function tourbillon.horizon(p_queue_id int)
returns bigint
language sql
volatile
as $$
  select least(
    (
      select min(s.cursor)
      from tourbillon.subscription s
      where s.queue_id = p_queue_id
    ),
    -- guard: rotation_min_cursor begin
    (
      select min(w.prev_tick)
      from tourbillon.worker w
      join tourbillon.subscription s on s.subscription_id = w.subscription_id
      where s.queue_id = p_queue_id
    ),
    -- guard: rotation_min_cursor end
    (
      select max(t.tick)
      from tourbillon.tick t
      where t.queue_id = p_queue_id
    )
  );
$$;

-- Whether one of the tables holds an event that the tick does not see.
create function tourbillon.holds_later(p_queue_id int, p_tables int[], p_tick bigint)
returns boolean
language plpgsql
volatile
as $$
declare
  v_found boolean;
begin
  execute format(
    'select exists (%s)',
    (
      select string_agg(
        format(
          'select
          from tourbillon.event_%1$s_%2$s e
          where e.xid >= pg_snapshot_xmax($1)
          union all
          select
          from tourbillon.event_%1$s_%2$s e
          where e.xid = any (array(select pg_snapshot_xip($1)))',
          p_queue_id, v_table),
        ' union all '
        order by v_table)
      from unnest(p_tables) v_table
    ))
  into v_found
  using tourbillon.snapshot_at(p_queue_id, p_tick);
  return v_found;
end;
$$;

-- What rotate does once it has the queue's lock.
create function tourbillon.rotate_oldest(
  p_queue_id int,
  out rotated boolean,
  out event_table smallint,
  out horizon bigint
)
returns record
language plpgsql
volatile
as $$
begin
  select (q.current_table + 1) % 3
  into event_table
  from tourbillon.queue q
  where q.queue_id = p_queue_id;

  -- A cheap look, so that a table in use is not locked for nothing.
  rotated := false;
  horizon := tourbillon.horizon(p_queue_id);
  if tourbillon.holds_later(p_queue_id, array[event_table::int], horizon) then
    return;
  end if;

  execute format('lock table tourbillon.event_%s_%s in access exclusive mode', p_queue_id, event_table); -- guard: rotation_lock_timeout
  -- without rotation_lock_timeout: execute format('lock table tourbillon.event_%s_%s in access exclusive mode nowait', p_queue_id, event_table);

  -- guard: rotation_look_after_lock begin
  -- While the lock was waited for, a producer that believed the table current may have committed to it.
  horizon := tourbillon.horizon(p_queue_id);
  if tourbillon.holds_later(p_queue_id, array[event_table::int], horizon) then
    return;
  end if;
  -- guard: rotation_look_after_lock end

  execute format('truncate tourbillon.event_%s_%s', p_queue_id, event_table);

  update tourbillon.queue q
  set current_table = rotate_oldest.event_table
  where q.queue_id = p_queue_id;

  delete from tourbillon.tick t
  where t.queue_id = p_queue_id
  and t.tick < rotate_oldest.horizon;

  rotated := true;
end;
$$;

create function tourbillon.rotate(
  p_queue text,
  p_lock_timeout interval,
  out rotated boolean,
  out event_table smallint,
  out horizon bigint
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
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check
  v_queue_id := (tourbillon.queue_named(p_queue)).queue_id;

  -- Locks are waited for neither nowait, which starves under overlapping readers, nor for ever (0 to PostgreSQL), which
  -- stalls all who queue behind.
  perform set_config(
    'lock_timeout', greatest(1, ceil(extract(epoch from p_lock_timeout) * 1000))::text, true);
  perform pg_advisory_xact_lock('tourbillon.queue'::regclass::oid::int, v_queue_id);

  select r.rotated, r.event_table, r.horizon
  into rotate.rotated, rotate.event_table, rotate.horizon
  from tourbillon.rotate_oldest(v_queue_id) r;

  perform set_config('lock_timeout', v_lock_timeout, true);
end;
$$;
