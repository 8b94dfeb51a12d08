-- The end of a window, or of one event of an isolated one.
--
--   handoff    successors and acknowledgement of the whole window, in one statement
--
-- Internal: window_event_ids, raise_window_mismatch, require_covered, raise_malformed_decisions, fates.

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

-- Each event of the window is decided exactly once, and nothing else is; of an isolated window it is one event. As many
-- decisions as events, and one for each event, leave no room for a second one. Nothing is required without a window. Gives
-- back those events of the window that say that children have ended; null if there are none.
create function tourbillon.require_covered(
  p_queue_id int,
  p_prev bigint,
  p_next bigint,
  p_isolated boolean,
  p_event bigint[]
)
returns tourbillon.joined[]
language plpgsql
volatile
strict
as $$
declare
  v_events bigint;
  v_decided bigint;
  v_joined tourbillon.joined[];
begin
  execute format(
    'select
      count(*),
      count(*) filter (where e.event_id = any ($1)),
      array_agg(row (e.event_id, e.payload)::tourbillon.joined) filter (where e.arrival = ''joined'')
    from (%s) e',
    tourbillon.window_query(p_queue_id, p_prev, p_next))
  into v_events, v_decided, v_joined
  using p_event;
  if v_decided <> cardinality(p_event) or v_decided <> (case when p_isolated then 1 else v_events end) then
    perform tourbillon.raise_window_mismatch(
      format('The window holds %s events, %s were decided.', v_events, cardinality(p_event)));
  end if;
  return v_joined;
end;
$$;

create function tourbillon.raise_malformed_decisions()
returns text
language plpgsql
volatile
as $$
begin
  raise exception using
    errcode = 'invalid_parameter_value',
    message = 'malformed_decisions',
    hint = 'One element for each event and each child in every array; a verb is goto, sleep, retry, await, spawn, child, '
      'complete, fail, reject or acknowledge. What continues has a sequence; what goes on, sleeps or is retried has an '
      'attempt; what sleeps, is retried or awaits, a delay; what is retried, a number of attempts that it may have; what '
      'awaits, a name. The children of a spawn have its event, and are numbered by their sequences, from 0.';
end;
$$;

-- What each decision comes to: event, timer, wait, join, end; child, which is none of its own; attempts or rejected, the
-- reason of a dead letter; null for a message that was dealt with. A verb that is none, or lacks what it needs, would silently acknowledge what was meant to continue.
--
-- Arrays are walked side by side by unnest in the select list, which gives their elements in order and, unlike unnest in
-- the from list, keeps no copy of them.
create function tourbillon.fates(
  p_verb text[],
  p_sequence int[],
  p_attempt int[],
  p_max_attempts int[],
  p_delay_us bigint[],
  p_name text[]
)
returns text[]
language plpgsql
volatile
as $$
begin
  return array(
    select
      case
        when d.verb = 'goto' and d.sequence is not null and d.attempt is not null then 'event'
        when d.verb = 'sleep' and num_nulls(d.sequence, d.attempt, d.delay_us) = 0 then 'timer'
        when d.verb = 'retry' and num_nulls(d.sequence, d.attempt, d.max_attempts, d.delay_us) = 0 then
          case
            when d.attempt > d.max_attempts then 'attempts'
            when d.delay_us > 0 then 'timer'
            else 'event'
          end
        when d.verb = 'await' and num_nulls(d.sequence, d.delay_us, d.name) = 0 then 'wait'
        when d.verb = 'spawn' and d.sequence is not null then 'join'
        when d.verb = 'child' and d.sequence is not null then 'child'
        when d.verb = 'reject' then 'rejected'
        when d.verb in ('complete', 'fail') then 'end'
        when d.verb = 'acknowledge' then null
        else tourbillon.raise_malformed_decisions()
      end
    from (
      select
        unnest(p_verb) verb,
        unnest(p_sequence) sequence,
        unnest(p_attempt) attempt,
        unnest(p_max_attempts) max_attempts,
        unnest(p_delay_us) delay_us,
        unnest(p_name) name
    ) d
  );
end;
$$;

-- Decisions come as parallel arrays, one element each. workflow, sequence, step, attempt and state are those of the
-- successor; complete and fail use the workflow, and the state as the result; reject uses the workflow only, acknowledge
-- nothing. arrival and payload are those of an event that is retried. A wait has its name, the SHA-256 of the token that it
-- asks for, in hexadecimal, and as its delay the time to its deadline, 0 for none. A spawn is followed by its children.
-- The last four arrays may be null as a whole.
--
-- appended is in the order of the decisions that continue a workflow, and the children: the id of the event, or of the event
-- that a timer, a wait or a join will be; 0 for a retry that has become a dead letter. children are their workflows.
-- resumed are the waits and spawns of this handoff that became events at once, then the joins that it has completed;
-- undeliverable, those of the joins that could not become events, and are dead letters. The tables are null where nothing went.
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
  p_arrival text[] default null,
  p_payload text[] default null,
  p_name text[] default null,
  p_token_hash text[] default null,
  out appended bigint[],
  out children uuid[],
  out resumed bigint[],
  out undeliverable bigint[],
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
  v_is_usual boolean;
  v_waits_for_more boolean;
  v_own_event bigint[] := p_event;
  v_joined tourbillon.joined[];
  v_ended tourbillon.ending[];
  v_dead tourbillon.death[];
  v_reports tourbillon.result[];
  v_now timestamptz;
  v_id bigint[];
  v_child uuid[];
  v_more tourbillon.event[] := '{}';
  v_complete tourbillon.event[];
  v_joined_now record;
  v_has_event boolean;
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check
  -- A shorter array would do as a verb that is none.
  if (cardinality(p_event) = all (array[
      cardinality(p_verb),
      cardinality(p_workflow),
      cardinality(p_sequence),
      cardinality(p_step),
      cardinality(p_attempt),
      cardinality(p_max_attempts),
      cardinality(p_delay_us),
      cardinality(p_state),
      coalesce(cardinality(p_arrival), cardinality(p_event)),
      coalesce(cardinality(p_payload), cardinality(p_event)),
      coalesce(cardinality(p_name), cardinality(p_event)),
      coalesce(cardinality(p_token_hash), cardinality(p_event))
    ])) is not true
  then
    perform tourbillon.raise_malformed_decisions();
  end if;
  -- All of them together are usually less than one may be.
  if greatest(pg_column_size(p_state), pg_column_size(p_payload)) > 1048576
    and exists (select from unnest(p_state || p_payload) c where octet_length(c) > 1048576)
  then
    perform tourbillon.raise_limit_exceeded('A state, a payload and a result have at most 1,048,576 bytes each.');
  end if;
  v_fate := tourbillon.fates(p_verb, p_sequence, p_attempt, p_max_attempts, p_delay_us, p_name);
  -- Most windows only go on: nothing more is then looked for, decision by decision.
  v_is_usual := v_fate <@ array['event', 'timer'];
  v_waits_for_more := not v_is_usual and v_fate && array['wait', 'join', 'child'];
  children := '{}';
  resumed := '{}';
  undeliverable := '{}';
  if v_waits_for_more and 'child' = any (v_fate) then
    perform tourbillon.require_children(v_fate, p_event, p_sequence);
    v_own_event := array(
      select d.event_id
      from (select unnest(v_fate) fate, unnest(p_event) event_id) d
      where d.fate is distinct from 'child');
  end if;

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
  v_joined := tourbillon.require_covered(v_own.queue_id, v_lease.prev_tick, v_lease.next_tick, v_isolated, v_own_event); -- guard: ack_what_was_read
  if v_isolated then
    perform tourbillon.end_try(v_own.subscription_id, v_own_event[1], p_worker);
  end if;

  if not v_is_usual and v_fate && array['end', 'attempts', 'rejected'] then
    v_ended := array(
      select row (d.workflow_id, case d.verb when 'complete' then 'completed' else 'failed' end, d.state)::tourbillon.ending
      from (
        select unnest(v_fate) fate, unnest(p_verb) verb, unnest(p_workflow) workflow_id, unnest(p_state) state
      ) d
      where d.fate = 'end');
    v_dead := array(
      select row (d.event_id, d.fate)::tourbillon.death
      from (select unnest(v_fate) fate, unnest(p_event) event_id) d
      where d.fate in ('attempts', 'rejected'));
    if v_dead <> '{}' and v_lease.next_tick is not null then
      v_ended := v_ended || tourbillon.bury(
        v_own.queue_id, v_own.subscription_id, v_lease.prev_tick, v_lease.next_tick, v_dead);
    end if;
    v_reports := tourbillon.end_workflows(v_ended);
  end if;

  -- In the order of the decisions, and before a table is waited for.
  v_now := tourbillon.clock();
  v_id := array(
    select
      case
        when d.fate in ('event', 'timer', 'wait', 'join', 'child') then nextval('tourbillon.event_id')
        when d.fate = 'attempts' then 0
      end
    from (select unnest(v_fate) fate) d);
  appended := array_remove(v_id, null);
  -- without retry_fresh_sequence: p_sequence := array(select u.sequence - (u.verb = 'retry')::int from unnest(p_verb, p_sequence) with ordinality u (verb, sequence, position) order by u.position);

  if v_waits_for_more and 'child' = any (v_fate) then
    v_child := array(
      select case when d.fate = 'child' then tourbillon.fresh_workflow_id() end
      from (select unnest(v_fate) fate) d);
    children := array_remove(v_child, null);
  end if;

  if v_joined is not null then
    perform tourbillon.drop_results(v_joined, p_event, p_verb); -- guard: results_until_read
    -- without results_until_read: null;
  end if;
  if v_waits_for_more and 'wait' = any (v_fate) then
    v_more := tourbillon.register_waits(tourbillon.waits_of(
      v_own.queue_id, v_now, v_fate, v_id, p_workflow, p_sequence, p_step, p_delay_us, p_state, p_name, p_token_hash));
  end if;
  if v_waits_for_more and 'join' = any (v_fate) then
    v_more := v_more || tourbillon.spawn(
      v_own.queue_id, v_now, v_fate, p_event, v_id, p_workflow, v_child, p_sequence, p_step, p_state);
  end if;
  if v_reports <> '{}' then
    v_complete := tourbillon.report_ends(v_reports);
  end if;

  v_has_event := 'event' = any (v_fate);
  if v_has_event or v_more <> '{}' or v_complete <> '{}' then
    event_table := tourbillon.current_table(v_own.queue_id);
  end if;
  if v_has_event then
    execute format(
      'insert into tourbillon.event_%s_%s (
        event_id, xid, workflow_id, sequence, step, attempt, state, arrival, payload)
      select
        d.event_id, pg_current_xact_id(), d.workflow_id, d.sequence, d.step, d.attempt, d.state, d.arrival, d.payload
      from (
        select
          unnest($1) fate,
          unnest($2) event_id,
          unnest($3) workflow_id,
          unnest($4) sequence,
          unnest($5) step,
          unnest($6) attempt,
          unnest($7) state,
          unnest($8) arrival,
          unnest($9) payload
      ) d
      where d.fate = ''event''',
      v_own.queue_id, event_table)
    using v_fate, v_id, p_workflow, p_sequence, p_step, p_attempt, p_state, p_arrival, p_payload;
  end if;
  if v_more <> '{}' then
    perform tourbillon.append_events(v_own.queue_id, event_table, v_more);
    resumed := array(select e.event_id from unnest(v_more) e where e.arrival is not null order by e.event_id);
  end if;
  if v_complete <> '{}' then
    select *
    into v_joined_now
    from tourbillon.resume(v_own.queue_id, event_table, v_complete, false);
    resumed := resumed || v_joined_now.resumed;
    undeliverable := v_joined_now.undeliverable;
  end if;

  if 'timer' = any (v_fate) then
    select d.current_table
    into timer_table
    from tourbillon.drain d
    where d.queue_id = v_own.queue_id;
    execute format(
      'insert into tourbillon.timer_%s_%s (
        due, event_id, xid, workflow_id, sequence, step, attempt, state, arrival, payload)
      select
        $1 + d.delay_us * interval ''1 microsecond'',
        d.event_id, pg_current_xact_id(), d.workflow_id, d.sequence, d.step, d.attempt, d.state, d.arrival, d.payload
      from (
        select
          unnest($2) fate,
          unnest($3) delay_us,
          unnest($4) event_id,
          unnest($5) workflow_id,
          unnest($6) sequence,
          unnest($7) step,
          unnest($8) attempt,
          unnest($9) state,
          unnest($10) arrival,
          unnest($11) payload
      ) d
      where d.fate = ''timer''',
      v_own.queue_id, timer_table)
    using v_now, v_fate, p_delay_us, v_id, p_workflow, p_sequence, p_step, p_attempt, p_state, p_arrival, p_payload;
  end if;

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
