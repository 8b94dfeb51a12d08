-- Dead letters: what will not be delivered again, and the other life that it may be given.
--
--   replay_dead_letter   as a message, or as a workflow of its own
--
-- Internal: workflow_hash, bury, bury_undeliverable.

-- The id of a workflow is a capability: only hot tables have it raw.
create function tourbillon.workflow_hash(p_workflow uuid)
returns text
language sql
immutable
as $$
  select encode(sha256(p_workflow::text::bytea), 'hex');
$$;

-- Makes dead letters of these events of a window, each once. Gives back how their workflows end; that of a message is null.
create function tourbillon.bury(
  p_queue_id int,
  p_subscription_id int,
  p_prev bigint,
  p_next bigint,
  p_dead tourbillon.death[]
)
returns tourbillon.ending[]
language plpgsql
volatile
as $$
declare
  v_ended tourbillon.ending[];
begin
  execute format(
    'with dead as materialized (
      select e.*, d.reason, f.join_id, f.child_index
      from (%s) e
      join unnest($3) d on d.event_id = e.event_id
      left join tourbillon.workflow f on f.workflow_id = e.workflow_id
    ), written as (
      insert into tourbillon.dead_letter (
        queue_id, subscription_id, event_id, reason, workflow_hash, sequence, step, attempt, arrival, join_id, child_index)
      select
        $1, $2, event_id, reason, tourbillon.workflow_hash(workflow_id), sequence, step, attempt, arrival, join_id,
        child_index
      from dead
      order by event_id
      on conflict do nothing
      returning event_id
    ), kept as (
      insert into tourbillon.dead_letter_content (subscription_id, event_id, state, payload)
      select $2, event_id, d.state, d.payload
      from written
      join dead d using (event_id)
    )
    select array_agg(row (workflow_id, ''dead'', null)::tourbillon.ending order by event_id)
    from dead',
    tourbillon.window_query(p_queue_id, p_prev, p_next))
  into v_ended
  using p_queue_id, p_subscription_id, p_dead;
  return coalesce(v_ended, '{}');
end;
$$;
-- without no_staleness_gate: create function tourbillon.bury_window(p_queue_id int, p_subscription_id int, p_prev bigint, p_next bigint) returns void language plpgsql volatile as $$ begin perform tourbillon.end_workflows(tourbillon.bury(p_queue_id, p_subscription_id, p_prev, p_next, array(select row (e, 'attempts')::tourbillon.death from unnest(tourbillon.window_event_ids(p_queue_id, p_prev, p_next)) e))); end; $$;

-- A timer, a wait or a join that cannot become an event. It was its workflow's one continuation, so nobody else ends that;
-- the caller does.
create function tourbillon.bury_undeliverable(p_queue_id int, p_event tourbillon.event)
returns void
language plpgsql
volatile
as $$
declare
  v_subscription_id int := coalesce(
    (
      select s.subscription_id
      from tourbillon.subscription s
      where s.queue_id = p_queue_id
      and p_event.workflow_id is not null
      limit 1
    ),
    0);
begin
  insert into tourbillon.dead_letter (
    queue_id, subscription_id, event_id, reason, workflow_hash, sequence, step, attempt, arrival, join_id, child_index
  )
  select
    p_queue_id,
    v_subscription_id,
    p_event.event_id,
    'undeliverable',
    tourbillon.workflow_hash(p_event.workflow_id),
    p_event.sequence,
    p_event.step,
    p_event.attempt,
    p_event.arrival,
    f.join_id,
    f.child_index
  from (select) one
  left join tourbillon.workflow f on f.workflow_id = p_event.workflow_id
  on conflict do nothing;
  if found then
    insert into tourbillon.dead_letter_content (subscription_id, event_id, state, payload)
    values (v_subscription_id, p_event.event_id, p_event.state, p_event.payload);
  end if;
end;
$$;

-- A message is appended again; a step begins a workflow of its own. workflow_id is null for a message. If the step
-- was a child's, so is that workflow: its end reports again, and where the join has the child's result, counts for nothing.
create function tourbillon.replay_dead_letter(
  p_consumer text,
  p_event bigint,
  out workflow_id uuid,
  out event_id bigint,
  out event_table smallint
)
returns record
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_own record;
  v_dead tourbillon.dead_letter;
  v_content tourbillon.dead_letter_content;
  v_queue tourbillon.queue;
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check

  select s.subscription_id, s.queue_id
  into v_own
  from tourbillon.subscription s
  where s.name = p_consumer;
  if not found then
    perform tourbillon.raise_undefined('consumer', p_consumer);
  end if;

  -- It is nobody's if it never became a message.
  select *
  into v_dead
  from tourbillon.dead_letter d
  where d.subscription_id in (v_own.subscription_id, 0)
  and d.event_id = p_event
  and d.queue_id = v_own.queue_id
  and d.replayed_as is null -- guard: replay_moves
  for update;
  if not found then
    perform tourbillon.raise_undefined('dead letter', p_event::text);
  end if;

  select *
  into v_content
  from tourbillon.dead_letter_content c
  where c.subscription_id = v_dead.subscription_id
  and c.event_id = p_event;

  select *
  into v_queue
  from tourbillon.queue q
  where q.queue_id = v_own.queue_id;
  event_table := v_queue.current_table;
  if v_queue.kind = 'workflow' then
    workflow_id := tourbillon.fresh_workflow_id();
    insert into tourbillon.workflow (workflow_id, queue_id, join_id, child_index)
    values (replay_dead_letter.workflow_id, v_queue.queue_id, v_dead.join_id, v_dead.child_index);
    event_id := tourbillon.insert_event(
      v_queue.queue_id, event_table, workflow_id, 1, v_dead.step, v_content.state, v_dead.arrival, v_content.payload);
  else
    event_id := tourbillon.insert_event(v_queue.queue_id, event_table, null, 0, null, v_content.state, null, null);
  end if;

  update tourbillon.dead_letter d
  set replayed_as = replay_dead_letter.event_id
  where d.subscription_id = v_dead.subscription_id
  and d.event_id = p_event;
end;
$$;
