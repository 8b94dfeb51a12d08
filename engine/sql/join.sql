-- Children, and what they leave.
--
--   read_results   what the children left whose joins the open window's events come from
--
-- Internal: require_children, spawn, report_ends, drop_results.

-- Each child belongs to a spawn, and has its place among the children as its sequence.
create function tourbillon.require_children(p_fate text[], p_event bigint[], p_sequence int[])
returns void
language plpgsql
volatile
as $$
declare
  v_misplaced boolean;
  v_most bigint;
begin
  select
    bool_or(c.sequence <> c.place or c.is_spawned is not true),
    max(c.place) + 1
  into v_misplaced, v_most
  from (
    select
      d.fate,
      d.sequence,
      row_number() over (partition by d.event_id, d.fate order by d.position) - 1 place,
      bool_or(d.fate = 'join') over (partition by d.event_id) is_spawned
    from unnest(p_fate, p_event, p_sequence) with ordinality d (fate, event_id, sequence, position)
  ) c
  where c.fate = 'child';
  if v_misplaced then
    perform tourbillon.raise_malformed_decisions();
  end if;
  if v_most > 1024 then
    perform tourbillon.raise_limit_exceeded('A spawn has at most 1,024 children.');
  end if;
end;
$$;

-- Opens the joins of what is spawned, and begins the children. Gives back the events: the children's first, and what those
-- go on as that have none. Elements are those of the decisions; p_child has the ids of children.
create function tourbillon.spawn(
  p_queue_id int,
  p_now timestamptz,
  p_fate text[],
  p_event bigint[],
  p_id bigint[],
  p_workflow uuid[],
  p_child uuid[],
  p_sequence int[],
  p_step text[],
  p_state text[]
)
returns tourbillon.event[]
language plpgsql
volatile
set plan_cache_mode = force_custom_plan
as $$
declare
  v_joins tourbillon.open_join[];
begin
  v_joins := array(
    select row (s.id, s.workflow_id, p_queue_id, p_now, s.sequence, s.step, s.state, coalesce(c.total, 0), 0)
      ::tourbillon.open_join
    from (
      select
        unnest(p_fate) fate,
        unnest(p_event) event_id,
        unnest(p_id) id,
        unnest(p_workflow) workflow_id,
        unnest(p_sequence) sequence,
        unnest(p_step) step,
        unnest(p_state) state
    ) s
    left join (
      select d.event_id, count(*) total
      from (select unnest(p_fate) fate, unnest(p_event) event_id) d
      where d.fate = 'child'
      group by d.event_id
    ) c on c.event_id = s.event_id
    where s.fate = 'join');

  insert into tourbillon.open_join
  select j.*
  from unnest(v_joins) j
  where j.total > 0;

  insert into tourbillon.workflow (workflow_id, queue_id, join_id, child_index)
  select c.workflow_id, p_queue_id, s.id, c.child_index
  from (
    select
      unnest(p_fate) fate,
      unnest(p_event) event_id,
      unnest(p_child) workflow_id,
      unnest(p_sequence) child_index
  ) c
  join (select unnest(p_fate) fate, unnest(p_event) event_id, unnest(p_id) id) s on s.event_id = c.event_id
  where c.fate = 'child'
  and s.fate = 'join';

  return array(
    select row (j.join_id, null, j.workflow_id, j.sequence, j.step, 1, j.state, 'joined', j.join_id::text)::tourbillon.event
    from unnest(v_joins) j
    where j.total = 0
    union all
    select row (c.id, null, c.workflow_id, 1, c.step, 1, c.state, null, null)::tourbillon.event
    from (
      select
        unnest(p_fate) fate,
        unnest(p_id) id,
        unnest(p_child) workflow_id,
        unnest(p_step) step,
        unnest(p_state) state
    ) c
    where c.fate = 'child');
end;
$$;

-- Tells the joins what their children left. Gives back what those go on as that are complete now, by join. A child whose
-- join is complete has reported before.
create function tourbillon.report_ends(p_reports tourbillon.result[])
returns tourbillon.event[]
language plpgsql
volatile
set plan_cache_mode = force_custom_plan
as $$
declare
  v_ids bigint[] := array(select r.join_id from unnest(p_reports) r);
  v_joins tourbillon.open_join[];
begin
  if cardinality(v_ids) = 0 then
    return '{}';
  end if;

  -- Whoever counts has the row for himself: 1. two transactions insert the last two results; 2. neither sees the other's.
  v_joins := array(
    select row (j.*)::tourbillon.open_join
    from (
      select *
      from tourbillon.open_join j
      where j.join_id = any (v_ids)
      order by j.join_id -- guard: sorted_locks
      -- without sorted_locks: order by array_position(v_ids, j.join_id)
      for update -- guard: join_lock
    ) j);

  with written as (
    insert into tourbillon.result
    select r.*
    from unnest(p_reports) r
    where r.join_id in (select j.join_id from unnest(v_joins) j)
    order by r.join_id, r.child_index
    on conflict do nothing
    returning join_id
  )
  select array_agg(
    row (
      j.join_id, j.workflow_id, j.queue_id, j.since, j.sequence, j.step, j.state, j.total, j.ended + coalesce(w.count, 0)
    )::tourbillon.open_join
    order by j.join_id)
  into v_joins
  from unnest(v_joins) j
  left join (
    select w.join_id, count(*)
    from written w -- guard: join_distinct
    -- without join_distinct: from unnest(p_reports) w
    group by w.join_id
  ) w on w.join_id = j.join_id;

  -- without join_lock: perform from tourbillon.open_join o where o.join_id = any (v_ids) order by o.join_id for update;
  update tourbillon.open_join o
  set ended = j.ended
  from unnest(v_joins) j
  where o.join_id = j.join_id
  and j.ended < j.total;

  delete from tourbillon.open_join o
  using unnest(v_joins) j
  where o.join_id = j.join_id
  and j.ended >= j.total;
  -- without results_until_read: delete from tourbillon.result r where r.join_id in (select j.join_id from unnest(v_joins) j where j.ended >= j.total);

  return array(
    select row (j.join_id, null, j.workflow_id, j.sequence, j.step, 1, j.state, 'joined', j.join_id::text)::tourbillon.event
    from unnest(v_joins) j
    where j.ended >= j.total);
end;
$$;

-- The parents have read what their children left, unless the step is retried or a dead letter: then it is read again.
create function tourbillon.drop_results(p_joined tourbillon.joined[], p_event bigint[], p_verb text[])
returns void
language plpgsql
volatile
set plan_cache_mode = force_custom_plan
as $$
begin
  delete from tourbillon.result r
  where r.join_id = any (array(
    select j.join_id
    from unnest(p_joined) j
    join (select unnest(p_event) event_id, unnest(p_verb) verb) d on d.event_id = j.event_id
    where d.verb not in ('retry', 'reject', 'child')));
end;
$$;

create function tourbillon.read_results(p_worker bigint, p_token uuid)
returns table (
  join_id bigint,
  child_index int,
  outcome text,
  result text
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
    'select r.join_id, r.child_index, r.outcome, r.result
    from tourbillon.result r
    where r.join_id = any (array(select e.payload::bigint from (%s) e where e.arrival = ''joined''))
    order by r.join_id, r.child_index',
    tourbillon.window_query(v_window.queue_id, v_window.prev_tick, v_window.next_tick));
end;
$$;
