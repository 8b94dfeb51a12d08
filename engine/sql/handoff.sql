-- The end of a window, or of one event of an isolated one.
--
--   handoff    successors and acknowledgement of the whole window, in one statement
--
-- Internal: window_event_ids, raise_window_mismatch, require_covered, require_decisions, fates.

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

create function tourbillon.raise_window_mismatch(p_detail text)
returns void
language plpgsql
volatile
as $$
begin
  raise exception using
    errcode = 'object_not_in_prerequisite_state',
    message = 'window_mismatch',
    detail = p_detail,
    hint = 'Read all pages of the window and hand off one decision for each of its events; '
      'of an isolated window hand off the event that was handed out.';
end;
$$;

-- Each event of the window is decided exactly once, and nothing else is; of an isolated window it is one event.
create function tourbillon.require_covered(
  p_queue_id int,
  p_prev bigint,
  p_next bigint,
  p_isolated boolean,
  p_event bigint[]
)
returns void
language plpgsql
volatile
as $$
declare
  v_events bigint[] := tourbillon.window_event_ids(p_queue_id, p_prev, p_next);
  v_decided bigint[] := array(select event_id from unnest(p_event) event_id order by event_id);
  v_covers boolean;
begin
  if p_isolated then
    v_covers := cardinality(v_decided) = 1 and v_decided <@ v_events;
  else
    v_covers := v_decided = v_events;
  end if;
  if not v_covers then
    perform tourbillon.raise_window_mismatch(
      format('The window holds %s events, %s were decided.', cardinality(v_events), cardinality(v_decided)));
  end if;
end;
$$;

-- A shorter array, or a verb that is none, would silently acknowledge what was meant to continue.
create function tourbillon.require_decisions(
  p_event bigint[],
  p_verb text[],
  p_workflow uuid[],
  p_sequence int[],
  p_step text[],
  p_attempt int[],
  p_max_attempts int[],
  p_delay_us bigint[],
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
      cardinality(p_attempt),
      cardinality(p_max_attempts),
      cardinality(p_delay_us),
      cardinality(p_state)
    ])) is not true
    or exists (
      select
      from unnest(p_verb, p_sequence, p_attempt, p_max_attempts, p_delay_us)
        d (verb, sequence, attempt, max_attempts, delay_us)
      where case
        when d.verb in ('acknowledge', 'complete', 'fail', 'reject') then false
        when d.verb = 'goto' then num_nulls(d.sequence, d.attempt) > 0
        when d.verb = 'sleep' then num_nulls(d.sequence, d.attempt, d.delay_us) > 0
        when d.verb = 'retry' then num_nulls(d.sequence, d.attempt, d.delay_us, d.max_attempts) > 0
        else true
      end
    )
  then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'malformed_decisions',
      hint = 'One element for each event in every array; a verb is goto, sleep, retry, complete, fail, reject or '
        'acknowledge. What continues has a sequence and an attempt; what sleeps or is retried has a delay; what is '
        'retried, a number of attempts that it may have.';
  end if;
end;
$$;

-- What each decision comes to: event, timer, dead, end; null for a message that was dealt with.
create function tourbillon.fates(p_verb text[], p_attempt int[], p_max_attempts int[], p_delay_us bigint[])
returns text[]
language sql
immutable
as $$
  select coalesce(
    array_agg(
      case
        when d.verb = 'goto' then 'event'
        when d.verb = 'sleep' then 'timer'
        when d.verb = 'retry' and d.attempt > d.max_attempts then 'dead'
        when d.verb = 'retry' and d.delay_us > 0 then 'timer'
        when d.verb = 'retry' then 'event'
        when d.verb = 'reject' then 'dead'
        when d.verb in ('complete', 'fail') then 'end'
      end
      order by d.position),
    '{}')
  from unnest(p_verb, p_attempt, p_max_attempts, p_delay_us) with ordinality
    d (verb, attempt, max_attempts, delay_us, position);
$$;

-- Decisions come as parallel arrays, one element each. workflow, sequence, step, attempt and state are those of the
-- successor; complete, fail and reject use the workflow only, acknowledge none. appended is in the order of the decisions
-- that continue a workflow: the id of the event, or of the event that a timer will be; 0 for a retry that has become a
-- dead letter. The tables are null where nothing went.
create function tourbillon.handoff(
  p_worker bigint,
  p_token uuid,
  p_event bigint[],
  p_verb text[],
  p_workflow uuid[],
  p_sequence int[],
  p_step text[],
  p_attempt int[],
  p_max_attempts int[],
  p_delay_us bigint[],
  p_state text[],
  out appended bigint[],
  out event_table smallint,
  out timer_table smallint
)
returns record
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_own record;
  v_lease tourbillon.worker;
  v_isolated boolean;
  v_fate text[];
  v_ended uuid[];
  v_now timestamptz;
  v_id bigint[];
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check
  perform tourbillon.require_decisions(
    p_event, p_verb, p_workflow, p_sequence, p_step, p_attempt, p_max_attempts, p_delay_us, p_state);

  select s.subscription_id, s.queue_id
  into v_own
  from tourbillon.worker w
  join tourbillon.subscription s on s.subscription_id = w.subscription_id
  where w.worker_id = p_worker;
  if not found then
    perform tourbillon.raise_undefined('worker', p_worker::text);
  end if;

  select *
  into v_lease
  from tourbillon.worker w
  where w.worker_id = p_worker
  and w.token = p_token
  for update;
  -- guard: fence_checked begin
  if not found then
    perform tourbillon.raise_stale_token(p_worker);
  end if;
  -- guard: fence_checked end

  v_isolated := coalesce(tourbillon.is_isolated(v_lease.crashes), false);
  perform tourbillon.require_covered(v_own.queue_id, v_lease.prev_tick, v_lease.next_tick, v_isolated, p_event); -- guard: ack_what_was_read
  if v_isolated then
    perform tourbillon.end_try(v_own.subscription_id, p_event[1], p_worker);
  end if;

  v_fate := tourbillon.fates(p_verb, p_attempt, p_max_attempts, p_delay_us);
  if 'end' = any (v_fate) or 'dead' = any (v_fate) then
    v_ended := array(
      select d.workflow_id
      from unnest(v_fate, p_workflow) d (fate, workflow_id)
      where d.fate = 'end');
    if 'dead' = any (v_fate) then
      v_ended := v_ended || tourbillon.bury(
        v_own.queue_id,
        v_own.subscription_id,
        v_lease.prev_tick,
        v_lease.next_tick,
        array(
          select row (d.event_id, case d.verb when 'retry' then 'attempts' else 'rejected' end)::tourbillon.death
          from unnest(p_event, p_verb, v_fate) d (event_id, verb, fate)
          where d.fate = 'dead'));
    end if;
    perform tourbillon.end_workflows(v_ended);
  end if;

  if 'event' = any (v_fate) or 'timer' = any (v_fate) then
    v_now := tourbillon.clock();
    -- In the order of the decisions, and before a table is waited for.
    v_id := array(
      select case when d.fate in ('event', 'timer') then nextval('tourbillon.event_id') end
      from (
        select u.fate
        from unnest(v_fate) with ordinality u (fate, position)
        order by u.position
      ) d);
    -- without retry_fresh_sequence: p_sequence := array(select u.sequence - (u.verb = 'retry')::int from unnest(p_verb, p_sequence) with ordinality u (verb, sequence, position) order by u.position);
  end if;

  if 'event' = any (v_fate) then
    select q.current_table
    into event_table
    from tourbillon.queue q
    where q.queue_id = v_own.queue_id;
    execute format(
      'insert into tourbillon.event_%s_%s (event_id, xid, workflow_id, sequence, step, attempt, state)
      select d.event_id, pg_current_xact_id(), d.workflow_id, d.sequence, d.step, d.attempt, d.state
      from unnest($1, $2, $3, $4, $5, $6, $7) d (fate, event_id, workflow_id, sequence, step, attempt, state)
      where d.fate = ''event''',
      v_own.queue_id, event_table)
    using v_fate, v_id, p_workflow, p_sequence, p_step, p_attempt, p_state;
  end if;

  if 'timer' = any (v_fate) then
    select d.current_table
    into timer_table
    from tourbillon.drain d
    where d.queue_id = v_own.queue_id;
    execute format(
      'insert into tourbillon.timer_%s_%s (due, event_id, xid, workflow_id, sequence, step, attempt, state)
      select
        $1 + d.delay_us * interval ''1 microsecond'',
        d.event_id, pg_current_xact_id(), d.workflow_id, d.sequence, d.step, d.attempt, d.state
      from unnest($2, $3, $4, $5, $6, $7, $8, $9)
        d (fate, delay_us, event_id, workflow_id, sequence, step, attempt, state)
      where d.fate = ''timer''',
      v_own.queue_id, timer_table)
    using v_now, v_fate, p_delay_us, v_id, p_workflow, p_sequence, p_step, p_attempt, p_state;
  end if;

  appended := array(
    select coalesce(v_id[u.position], 0)
    from unnest(p_verb) with ordinality u (verb, position)
    where u.verb in ('goto', 'sleep', 'retry')
    order by u.position);

  -- The lease of an isolated window stays until all of its events are done: see hand_out.
  update tourbillon.worker w
  set
    token = case when v_isolated then w.token end,
    prev_tick = case when v_isolated then w.prev_tick end,
    next_tick = case when v_isolated then w.next_tick end,
    crashes = case when v_isolated then w.crashes else 0 end,
    held = null
  where w.worker_id = p_worker
  and w.token = p_token;
end;
$$;
