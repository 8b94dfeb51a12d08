-- Workers and their leases on windows.
--
--   register   an identity of its own for a process that starts
--   heartbeat  "I am alive", between steps
--   claim      a window: a dead worker's, or the next one with events
--   read       a page of the window's events
--   hold       locks the lease, before a step with effects in the database
--   handoff    successors and acknowledgement of the whole window, in one statement
--
-- Internal: raise_stale_token, raise_window_open, open_window, window_event_ids, require_decisions.

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

create function tourbillon.heartbeat(p_worker bigint, p_token uuid)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check

  update tourbillon.worker w
  set heartbeat = tourbillon.clock()
  where w.worker_id = p_worker
  and w.token = p_token;
  if not found then
    perform tourbillon.raise_stale_token(p_worker);
  end if;
end;
$$;

-- The token is null if there is nothing to claim; victim is null unless the window was taken over.
create function tourbillon.claim(
  p_worker bigint,
  p_dead_interval interval,
  out token uuid,
  out prev_tick bigint,
  out next_tick bigint,
  out victim bigint
)
returns record
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_own record;
  v_stale tourbillon.worker;
  v_cursor bigint;
  v_prev bigint;
  v_next bigint;
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check

  select w.subscription_id, s.queue_id, w.next_tick
  into v_own
  from tourbillon.worker w
  join tourbillon.subscription s on s.subscription_id = w.subscription_id
  where w.worker_id = p_worker;
  if not found then
    perform tourbillon.raise_undefined('worker', p_worker::text);
  end if;
  if v_own.next_tick is not null then
    perform tourbillon.raise_window_open(p_worker);
  end if;

  -- A cheap look, without locks: idle workers must not queue for the subscription.
  if not exists (
      select
      from tourbillon.worker w
      where w.subscription_id = v_own.subscription_id
      and w.next_tick is not null
      and w.heartbeat < tourbillon.clock() - p_dead_interval
    )
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

  select s.cursor
  into v_cursor
  from tourbillon.subscription s
  where s.subscription_id = v_own.subscription_id
  for update; -- guard: claim_lock
  -- without claim_lock: ;

  -- Takeover. A locked lease is alive, however old its heartbeat.
  select *
  into v_stale
  from tourbillon.worker w
  where w.subscription_id = v_own.subscription_id
  and w.next_tick is not null
  and w.heartbeat < tourbillon.clock() - p_dead_interval
  order by w.worker_id
  limit 1
  for update skip locked;
  if found then
    token := gen_random_uuid(); -- guard: takeover_fresh_token
    -- without takeover_fresh_token: token := v_stale.token;
    prev_tick := v_stale.prev_tick;
    next_tick := v_stale.next_tick;
    victim := v_stale.worker_id;
    perform tourbillon.open_window(p_worker, token, prev_tick, next_tick, v_stale.crashes + 1);
    -- guard: takeover_clears_victim begin
    update tourbillon.worker w
    set
      token = null,
      prev_tick = null,
      next_tick = null
    where w.worker_id = claim.victim;
    -- guard: takeover_clears_victim end
    return;
  end if;

  -- Walk to the next window that holds an event; those that hold none are closed here.
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
    exit when tourbillon.window_has_events(v_own.queue_id, v_prev, v_next); -- guard: empty_window
    -- without empty_window: exit;
    v_prev := v_next;
  end loop;

  update tourbillon.subscription s
  set cursor = v_next
  where s.subscription_id = v_own.subscription_id;

  token := gen_random_uuid();
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
    heartbeat = tourbillon.clock(),
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
  state text
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
    'select e.event_id, e.xid, e.workflow_id, e.sequence, e.step, e.attempt, e.state
    from (%s) e
    where e.event_id > $1
    order by e.event_id
    limit $2',
    tourbillon.window_query(v_window.queue_id, v_window.prev_tick, v_window.next_tick))
  using p_after, p_limit;
end;
$$;

create function tourbillon.hold(p_worker bigint, p_token uuid)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check

  -- The row is locked until the transaction ends: nobody takes the window over meanwhile.
  update tourbillon.worker w
  set heartbeat = tourbillon.clock()
  where w.worker_id = p_worker
  and w.token = p_token;
  if not found then
    perform tourbillon.raise_stale_token(p_worker);
  end if;
end;
$$;

-- The ids of the window's events, in order; null without a window.
create function tourbillon.window_event_ids(p_queue_id int, p_prev bigint, p_next bigint)
returns bigint[]
language plpgsql
volatile
strict
as $$
declare
  v_events bigint[];
begin
  execute format(
    'select array_agg(e.event_id order by e.event_id)
    from (%s) e',
    tourbillon.window_query(p_queue_id, p_prev, p_next))
  into v_events;
  return coalesce(v_events, '{}');
end;
$$;

-- A shorter array, or a verb that is none, would silently acknowledge what was meant to continue.
create function tourbillon.require_decisions(
  p_event bigint[],
  p_verb text[],
  p_workflow uuid[],
  p_sequence int[],
  p_step text[],
  p_state text[]
)
returns void
language plpgsql
volatile
as $$
begin
  if (cardinality(p_event) = all (array[
      cardinality(p_verb),
      cardinality(p_workflow),
      cardinality(p_sequence),
      cardinality(p_step),
      cardinality(p_state)
    ])) is not true
    or exists (
      select
      from unnest(p_verb) verb
      where (verb in ('goto', 'complete', 'acknowledge')) is not true
    )
  then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'malformed_decisions',
      hint = 'One element for each event in every array; a verb is goto, complete or acknowledge.';
  end if;
end;
$$;

-- Decisions come as parallel arrays, one element each. workflow, sequence, step and state are those of the successor;
-- complete uses the workflow only, acknowledge none.
create function tourbillon.handoff(
  p_worker bigint,
  p_token uuid,
  p_event bigint[],
  p_verb text[],
  p_workflow uuid[],
  p_sequence int[],
  p_step text[],
  p_state text[],
  out appended bigint[],
  out event_table smallint
)
returns record
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_queue_id int;
  v_prev bigint;
  v_next bigint;
  v_events bigint[];
  v_ended uuid[];
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check
  perform tourbillon.require_decisions(p_event, p_verb, p_workflow, p_sequence, p_step, p_state);

  select s.queue_id
  into v_queue_id
  from tourbillon.worker w
  join tourbillon.subscription s on s.subscription_id = w.subscription_id
  where w.worker_id = p_worker;
  if not found then
    perform tourbillon.raise_undefined('worker', p_worker::text);
  end if;

  select w.prev_tick, w.next_tick
  into v_prev, v_next
  from tourbillon.worker w
  where w.worker_id = p_worker
  and w.token = p_token
  for update;
  -- guard: fence_checked begin
  if not found then
    perform tourbillon.raise_stale_token(p_worker);
  end if;
  -- guard: fence_checked end

  -- guard: ack_what_was_read begin
  v_events := tourbillon.window_event_ids(v_queue_id, v_prev, v_next);
  if v_events <> array(select event_id from unnest(p_event) event_id order by event_id) then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'window_mismatch',
      detail = format('The window holds %s events, %s were decided.', cardinality(v_events), cardinality(p_event)),
      hint = 'Read all pages of the window and hand off one decision for each of its events.';
  end if;
  -- guard: ack_what_was_read end

  select array_agg(d.workflow_id)
  into v_ended
  from unnest(p_verb, p_workflow) d (verb, workflow_id)
  where d.verb = 'complete';
  if v_ended is not null then
    perform
    from tourbillon.workflow f
    where f.workflow_id = any (v_ended)
    order by f.workflow_id
    for update;
    delete from tourbillon.workflow f
    where f.workflow_id = any (v_ended);
  end if;

  appended := '{}';
  if 'goto' = any (p_verb) then
    select q.current_table
    into event_table
    from tourbillon.queue q
    where q.queue_id = v_queue_id;
    execute format(
      'with appended as (
        insert into tourbillon.event_%s_%s (event_id, xid, workflow_id, sequence, step, attempt, state)
        select nextval(''tourbillon.event_id''), pg_current_xact_id(), d.workflow_id, d.sequence, d.step, 1, d.state
        from (
          select u.*
          from unnest($1, $2, $3, $4, $5) with ordinality u (verb, workflow_id, sequence, step, state, position)
          where u.verb = ''goto''
          order by u.position
        ) d
        returning event_id
      )
      select array_agg(event_id order by event_id)
      from appended',
      v_queue_id, event_table)
    into appended
    using p_verb, p_workflow, p_sequence, p_step, p_state;
  end if;

  update tourbillon.worker w
  set
    token = null,
    prev_tick = null,
    next_tick = null,
    crashes = 0
  where w.worker_id = p_worker
  and w.token = p_token;
end;
$$;
