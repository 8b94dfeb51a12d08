-- Windows that have killed processes, handed out event by event.
--
--   hand_out   one event of an isolated window, alone; the end of the window when all are done
--
-- Internal: is_isolated, end_try.

-- Two processes have died with the window, or were taken for dead: one may be chance.
create function tourbillon.is_isolated(p_crashes int)
returns boolean
language sql
immutable
as $$
  select p_crashes >= 2; -- guard: isolate_window
  -- without isolate_window: select false;
$$;

-- tries counts this time too. event_id is null if the window is finished. dead are the events that were found to have no
-- try left, and are dead letters now; resumed, the joins that are complete by that; undeliverable, those that could not
-- become events. Call it in a transaction of its own: what is handed out is counted before anybody runs it, as a handler
-- that kills its process counts nothing.
create function tourbillon.hand_out(
  p_worker bigint,
  p_token uuid,
  p_max_tries int,
  out tries int,
  out dead bigint[],
  out resumed bigint[],
  out undeliverable bigint[],
  out event_table smallint,
  out event_id bigint,
  out xid xid8,
  out workflow_id uuid,
  out sequence int,
  out step text,
  out attempt int,
  out state text,
  out arrival text,
  out payload text
)
returns record
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_lease tourbillon.worker;
  v_queue_id int;
  v_events bigint[];
  v_ended tourbillon.ending[];
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check

  update tourbillon.worker w
  set heartbeat = tourbillon.clock()
  where w.worker_id = p_worker
  and w.token = p_token
  returning *
  into v_lease;
  if not found then
    perform tourbillon.raise_stale_token(p_worker);
  end if;
  if not tourbillon.is_isolated(v_lease.crashes) then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'not_isolated',
      detail = format('The window of worker %s has %s crashes.', p_worker, v_lease.crashes),
      hint = 'Read the window, and hand it off as a whole.';
  end if;

  select s.queue_id
  into v_queue_id
  from tourbillon.subscription s
  where s.subscription_id = v_lease.subscription_id;
  v_events := tourbillon.window_event_ids(v_queue_id, v_lease.prev_tick, v_lease.next_tick);
  resumed := '{}';
  undeliverable := '{}';
  insert into tourbillon.tries (subscription_id, event_id, tries, is_done)
  select v_lease.subscription_id, e, 0, false
  from unnest(v_events) e
  on conflict do nothing;

  with spent as (
    update tourbillon.tries t
    set is_done = true
    where t.subscription_id = v_lease.subscription_id
    and t.event_id = any (v_events)
    and not t.is_done
    and t.tries >= p_max_tries
    returning t.event_id
  )
  select coalesce(array_agg(s.event_id order by s.event_id), '{}')
  into dead
  from spent s;
  if dead <> '{}' then
    v_ended := tourbillon.bury(
      v_queue_id,
      v_lease.subscription_id,
      v_lease.prev_tick,
      v_lease.next_tick,
      array(select row (e, 'tries')::tourbillon.death from unnest(dead) e));
    select r.resumed, r.undeliverable, r.event_table
    into hand_out.resumed, hand_out.undeliverable, hand_out.event_table
    from tourbillon.end_and_resume(v_queue_id, v_ended) r;
  end if;

  select t.event_id, t.tries + 1
  into hand_out.event_id, hand_out.tries
  from tourbillon.tries t
  where t.subscription_id = v_lease.subscription_id
  and t.event_id = any (v_events)
  and not t.is_done
  order by t.tries, t.event_id
  limit 1;
  if not found then
    -- Nothing remembers the tries. A transaction that holds the window keeps its mark: this is not its handoff.
    delete from tourbillon.tries t
    where t.subscription_id = v_lease.subscription_id
    and t.event_id = any (v_events);
    update tourbillon.worker w
    set
      token = null,
      prev_tick = null,
      next_tick = null,
      crashes = 0
    where w.worker_id = p_worker;
    return;
  end if;

  -- guard: try_before_run begin
  update tourbillon.tries t
  set tries = hand_out.tries
  where t.subscription_id = v_lease.subscription_id
  and t.event_id = hand_out.event_id;
  -- guard: try_before_run end

  execute format(
    'select e.xid, e.workflow_id, e.sequence, e.step, e.attempt, e.state, e.arrival, e.payload
    from (%s) e
    where e.event_id = $1',
    tourbillon.window_query(v_queue_id, v_lease.prev_tick, v_lease.next_tick))
  into xid, workflow_id, sequence, step, attempt, state, arrival, payload
  using event_id;
end;
$$;

-- Flips an event that was handed out from not-done to done. The lease must be locked.
create function tourbillon.end_try(p_subscription_id int, p_event bigint, p_worker bigint)
returns void
language plpgsql
volatile
as $$
declare
  v_is_done boolean;
begin
  select t.is_done
  into v_is_done
  from tourbillon.tries t
  where t.subscription_id = p_subscription_id
  and t.event_id = p_event;
  if not found then
    perform tourbillon.raise_window_mismatch(format('Event %s was not handed out.', p_event));
  end if;
  -- guard: isolated_once begin
  if v_is_done then
    perform tourbillon.raise_stale_token(p_worker);
  end if;
  -- guard: isolated_once end

  update tourbillon.tries t
  set
    is_done = true
    -- without try_before_run: , tries = t.tries + 1
  where t.subscription_id = p_subscription_id
  and t.event_id = p_event;
end;
$$;
