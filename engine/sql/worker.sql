-- Workers and their leases on windows.
--
--   register   an identity of its own for a process that starts
--   heartbeat  "I am alive", between steps
--   claim      a window: a dead worker's, or the next one with events
--   take_over  a dead worker's window: the first half of claim, as a duty of its own
--   read       a page of the window's events
--   hold       locks the lease, before a step with effects in the database
--
-- Internal: raise_stale_token, raise_window_open, free_worker, fresh_token, dead_before, has_stale_worker, lock_subscription,
-- take_over_stale, open_window, refuse_held_window.

create function tourbillon.raise_stale_token(p_worker bigint)
returns void
language plpgsql
volatile
as $$
begin
  raise exception using
    errcode = 'object_not_in_prerequisite_state',
    message = 'stale_token',
    detail = format('Worker %s holds no window under this token.', p_worker),
    hint = 'The window was finished or taken over: drop it, roll back, claim another.';
end;
$$;

create function tourbillon.register(p_consumer text, out worker_id bigint)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_subscription_id int;
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check

  select s.subscription_id
  into v_subscription_id
  from tourbillon.subscription s
  where s.name = p_consumer;
  if not found then
    perform tourbillon.raise_undefined('consumer', p_consumer);
  end if;

  worker_id := nextval('tourbillon.worker_id');
  insert into tourbillon.worker (worker_id, subscription_id, heartbeat, crashes)
  values (register.worker_id, v_subscription_id, tourbillon.clock(), 0);
end;
$$;

create function tourbillon.heartbeat(p_worker bigint, p_token uuid) -- guard: server_clock
-- without server_clock: create function tourbillon.heartbeat(p_worker bigint, p_token uuid, p_at timestamptz)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check
  -- without server_clock: perform set_config('tourbillon.caller_clock', p_at::text, true);

  update tourbillon.worker w
  set heartbeat = tourbillon.lease_clock() -- guard: wall_clock_heartbeat
  -- without wall_clock_heartbeat: set heartbeat = tourbillon.transaction_clock()
  where w.worker_id = p_worker
  and w.token = p_token;
  if not found then
    perform tourbillon.raise_stale_token(p_worker);
  end if;
end;
$$;

-- The subscription of a worker that has no window open.
create function tourbillon.free_worker(p_worker bigint, out subscription_id int, out queue_id int)
returns record
language plpgsql
volatile
as $$
declare
  v_open bigint;
begin
  select w.subscription_id, s.queue_id, w.next_tick
  into free_worker.subscription_id, free_worker.queue_id, v_open
  from tourbillon.worker w
  join tourbillon.subscription s on s.subscription_id = w.subscription_id
  where w.worker_id = p_worker;
  if not found then
    perform tourbillon.raise_undefined('worker', p_worker::text);
  end if;
  if v_open is not null then
    perform tourbillon.raise_window_open(p_worker);
  end if;
end;
$$;

-- A crash sets a sequence back to what was flushed, so that a number could be issued twice.
create function tourbillon.fresh_token()
returns uuid
language sql
volatile
as $$
  select gen_random_uuid(); -- guard: token_random
  -- without token_random: select lpad(to_hex(nextval('tourbillon.token_number')), 32, '0')::uuid;
$$;

-- A lease whose last heartbeat lies before this time may be taken over.
create function tourbillon.dead_before(p_dead_interval interval)
returns timestamptz
language sql
volatile
as $$
  select tourbillon.lease_clock() - p_dead_interval; -- guard: takeover_not_early
  -- without takeover_not_early: select tourbillon.lease_clock() - p_dead_interval / 2;
$$;

create function tourbillon.has_stale_worker(p_subscription_id int, p_dead_interval interval)
returns boolean
language plpgsql
volatile
as $$
declare
  v_dead_before timestamptz := tourbillon.dead_before(p_dead_interval);
begin
  return exists (
    select
    from tourbillon.worker w
    where w.subscription_id = p_subscription_id
    and w.next_tick is not null
    and w.heartbeat < v_dead_before
  );
end;
$$;

-- Gives back the cursor.
create function tourbillon.lock_subscription(p_subscription_id int)
returns bigint
language plpgsql
volatile
as $$
declare
  v_cursor bigint;
begin
  select s.cursor
  into v_cursor
  from tourbillon.subscription s
  where s.subscription_id = p_subscription_id
  for update; -- guard: claim_lock
  -- without claim_lock: ;
  return v_cursor;
end;
$$;

-- The subscription must be locked. The token is null if no lease is stale. A locked lease is alive, however old its
-- heartbeat.
create function tourbillon.take_over_stale(
  p_worker bigint,
  p_subscription_id int,
  p_dead_interval interval,
  out token uuid,
  out prev_tick bigint,
  out next_tick bigint,
  out victim bigint,
  out isolated boolean
)
returns record
language plpgsql
volatile
as $$
declare
  v_dead_before timestamptz := tourbillon.dead_before(p_dead_interval);
  v_stale tourbillon.worker;
  v_crashes int := 0;
begin
  isolated := false;
  select *
  into v_stale
  from tourbillon.worker w
  where w.subscription_id = p_subscription_id
  and w.next_tick is not null
  and w.heartbeat < v_dead_before
  order by w.worker_id
  limit 1
  for update skip locked;
  if not found then
    return;
  end if;

  token := tourbillon.fresh_token(); -- guard: takeover_fresh_token
  -- without takeover_fresh_token: token := v_stale.token;
  prev_tick := v_stale.prev_tick;
  next_tick := v_stale.next_tick;
  victim := v_stale.worker_id;
  v_crashes := v_stale.crashes + 1; -- guard: crash_counted
  isolated := tourbillon.is_isolated(v_crashes);
  perform tourbillon.open_window(p_worker, token, prev_tick, next_tick, v_crashes);
  -- guard: takeover_clears_victim begin
  update tourbillon.worker w
  set
    token = null,
    prev_tick = null,
    next_tick = null
  where w.worker_id = take_over_stale.victim;
  -- guard: takeover_clears_victim end
end;
$$;

-- The token is null if there is no lease to take over.
create function tourbillon.take_over(
  p_worker bigint,
  p_dead_interval interval,
  -- without server_clock: p_at timestamptz,
  out token uuid,
  out prev_tick bigint,
  out next_tick bigint,
  out victim bigint,
  out isolated boolean
)
returns record
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_subscription_id int;
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check
  -- without server_clock: perform set_config('tourbillon.caller_clock', p_at::text, true);

  isolated := false;
  v_subscription_id := (tourbillon.free_worker(p_worker)).subscription_id;
  if not tourbillon.has_stale_worker(v_subscription_id, p_dead_interval) then
    return;
  end if;

  perform tourbillon.lock_subscription(v_subscription_id);
  select t.*
  into take_over.token, take_over.prev_tick, take_over.next_tick, take_over.victim, take_over.isolated
  from tourbillon.take_over_stale(p_worker, v_subscription_id, p_dead_interval) t;
end;
$$;

-- The token is null if there is nothing to claim; victim is null unless the window was taken over. The events of an
-- isolated window are handed out one by one.
create function tourbillon.claim(
  p_worker bigint,
  p_dead_interval interval,
  -- without server_clock: p_at timestamptz,
  out token uuid,
  out prev_tick bigint,
  out next_tick bigint,
  out victim bigint,
  out isolated boolean
)
returns record
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_own record;
  v_cursor bigint;
  v_prev bigint;
  v_next bigint;
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check
  -- without server_clock: perform set_config('tourbillon.caller_clock', p_at::text, true);

  isolated := false;
  v_own := tourbillon.free_worker(p_worker);

  -- A cheap look, without locks: idle workers must not queue for the subscription.
  if not tourbillon.has_stale_worker(v_own.subscription_id, p_dead_interval)
    and not exists (
      select
      from tourbillon.tick t
      join tourbillon.subscription s on s.queue_id = t.queue_id
      where s.subscription_id = v_own.subscription_id
      and t.tick > s.cursor
    )
  then
    return;
  end if;

  v_cursor := tourbillon.lock_subscription(v_own.subscription_id);

  select t.*
  into claim.token, claim.prev_tick, claim.next_tick, claim.victim, claim.isolated
  from tourbillon.take_over_stale(p_worker, v_own.subscription_id, p_dead_interval) t;
  if token is not null then
    return;
  end if;

  -- Walk to the next window that holds an event; those that hold none are closed here. However old a window is, it is
  -- handed out: after an outage the backlog is late, not stale.
  v_prev := v_cursor;
  loop
    select min(t.tick)
    into v_next
    from tourbillon.tick t
    where t.queue_id = v_own.queue_id
    and t.tick > v_prev;
    if v_next is null then
      if v_prev <> v_cursor then
        update tourbillon.subscription s
        set cursor = v_prev
        where s.subscription_id = v_own.subscription_id;
      end if;
      return;
    end if;
    -- without no_staleness_gate: if (select t.at from tourbillon.tick t where t.queue_id = v_own.queue_id and t.tick = v_next) < tourbillon.clock() - 4 * p_dead_interval then perform tourbillon.bury_window(v_own.queue_id, v_own.subscription_id, v_prev, v_next); v_prev := v_next; continue; end if;
    exit when tourbillon.window_has_events(v_own.queue_id, v_prev, v_next); -- guard: empty_window
    -- without empty_window: exit;
    v_prev := v_next;
  end loop;

  update tourbillon.subscription s
  set cursor = v_next
  where s.subscription_id = v_own.subscription_id;

  token := tourbillon.fresh_token();
  prev_tick := v_prev;
  next_tick := v_next;
  perform tourbillon.open_window(p_worker, token, prev_tick, next_tick, 0);
end;
$$;

create function tourbillon.raise_window_open(p_worker bigint)
returns void
language plpgsql
volatile
as $$
begin
  raise exception using
    errcode = 'object_not_in_prerequisite_state',
    message = 'window_open',
    detail = format('Worker %s has a window open.', p_worker),
    hint = 'Hand it off first, or register another worker.';
end;
$$;

-- The worker may have been given a window by another of its sessions while this one waited for the subscription.
create function tourbillon.open_window(p_worker bigint, p_token uuid, p_prev bigint, p_next bigint, p_crashes int)
returns void
language plpgsql
volatile
as $$
begin
  update tourbillon.worker w
  set
    token = p_token,
    prev_tick = p_prev,
    next_tick = p_next,
    heartbeat = tourbillon.lease_clock(), -- guard: wall_clock_heartbeat
    -- without wall_clock_heartbeat: heartbeat = tourbillon.transaction_clock(),
    crashes = p_crashes
  where w.worker_id = p_worker
  and w.next_tick is null;
  if not found then
    perform tourbillon.raise_window_open(p_worker);
  end if;
end;
$$;

create function tourbillon.read(
  p_worker bigint,
  p_token uuid,
  p_after bigint,
  p_limit int
)
returns table (
  event_id bigint,
  xid xid8,
  workflow_id uuid,
  sequence int,
  step text,
  attempt int,
  state text,
  arrival text,
  payload text
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_window record;
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check

  select s.queue_id, w.prev_tick, w.next_tick
  into v_window
  from tourbillon.worker w
  join tourbillon.subscription s on s.subscription_id = w.subscription_id
  where w.worker_id = p_worker
  and w.token = p_token;
  if not found then
    perform tourbillon.raise_stale_token(p_worker);
  end if;

  return query execute format(
    'select e.event_id, e.xid, e.workflow_id, e.sequence, e.step, e.attempt, e.state, e.arrival, e.payload
    from (%s) e
    where e.event_id > $1
    order by e.event_id
    limit $2',
    tourbillon.window_query(v_window.queue_id, v_window.prev_tick, v_window.next_tick))
  using p_after, p_limit;
end;
$$;

-- held says which transaction holds the window: that one must hand it off before it commits. A client that falls silent
-- would keep the lease for as long as its connection lives; the server ends it after a minute of silence.
create function tourbillon.hold(p_worker bigint, p_token uuid) -- guard: server_clock
-- without server_clock: create function tourbillon.hold(p_worker bigint, p_token uuid, p_at timestamptz)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check
  -- without server_clock: perform set_config('tourbillon.caller_clock', p_at::text, true);
  perform set_config('idle_in_transaction_session_timeout', '1min', true);

  -- The row is locked until the transaction ends: nobody takes the window over meanwhile.
  -- guard: hold_lock begin
  update tourbillon.worker w
  set
    heartbeat = tourbillon.lease_clock(),
    held = pg_current_xact_id()
  where w.worker_id = p_worker
  and w.token = p_token;
  -- guard: hold_lock end
  -- without hold_lock: perform from tourbillon.worker w where w.worker_id = p_worker and w.token = p_token;
  if not found then
    perform tourbillon.raise_stale_token(p_worker);
  end if;
end;
$$;

-- At the commit. The row is looked at as it is then: a handoff has taken the mark away, unless it was rolled back. Who
-- commits need not be allowed to look.
create function tourbillon.refuse_held_window()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (
      select
      from tourbillon.worker w
      where w.worker_id = new.worker_id
      and w.held = pg_current_xact_id_if_assigned()
    )
  then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'held_window',
      detail = format('The transaction holds the window of worker %s and has not handed it off.', new.worker_id),
      hint = 'Call handoff in the same transaction, or roll it back.';
  end if;
  return null;
end;
$$;

-- guard: held_must_finish begin
create constraint trigger held_must_finish
after update on tourbillon.worker
deferrable initially deferred
for each row
when (new.held is not null)
execute function tourbillon.refuse_held_window();
-- guard: held_must_finish end
