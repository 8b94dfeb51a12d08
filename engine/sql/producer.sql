-- What an application calls inside its own transaction, at any isolation level.
--
--   append  a message into a plain queue
--   start   a workflow, once for each key
--
-- Internal: require_kind, current_table, insert_event, append_events, fresh_workflow_id.

create function tourbillon.require_kind(p_queue tourbillon.queue, p_kind text)
returns void
language plpgsql
volatile
as $$
begin
  if p_queue.kind <> p_kind then
    raise exception using
      errcode = 'wrong_object_type',
      message = 'wrong_queue_kind',
      detail = format('Queue %s is a %s queue.', p_queue.name, p_queue.kind),
      hint = 'Messages are appended to plain queues, workflows are started in workflow queues.';
  end if;
end;
$$;

-- A hint: by the time of the insert the table may have been rotated away, and is read all the same.
create function tourbillon.current_table(p_queue_id int)
returns smallint
language plpgsql
volatile
as $$
declare
  v_table smallint;
begin
  select q.current_table
  into v_table
  from tourbillon.queue q
  where q.queue_id = p_queue_id;
  return v_table;
end;
$$;

create function tourbillon.insert_event(
  p_queue_id int,
  p_table int,
  p_workflow uuid,
  p_sequence int,
  p_step text,
  p_state text,
  p_arrival text,
  p_payload text
)
returns bigint
language plpgsql
volatile
as $$
declare
  v_event_id bigint;
begin
  execute format(
    'insert into tourbillon.event_%s_%s (event_id, xid, workflow_id, sequence, step, attempt, state, arrival, payload)
    values (nextval(''tourbillon.event_id''), pg_current_xact_id(), $1, $2, $3, 1, $4, $5, $6)
    returning event_id',
    p_queue_id, p_table)
  into v_event_id
  using p_workflow, p_sequence, p_step, p_state, p_arrival, p_payload;
  return v_event_id;
end;
$$;

-- Events under ids that were drawn before.
create function tourbillon.append_events(p_queue_id int, p_table int, p_events tourbillon.event[])
returns void
language plpgsql
volatile
as $$
begin
  execute format(
    'insert into tourbillon.event_%s_%s (
      event_id, xid, workflow_id, sequence, step, attempt, state, arrival, payload)
    select
      e.event_id, pg_current_xact_id(), e.workflow_id, e.sequence, e.step, e.attempt, e.state, e.arrival, e.payload
    from unnest($1) e',
    p_queue_id, p_table)
  using p_events;
end;
$$;

-- Whoever knows a workflow's id may emit to it: it cannot be guessed.
create function tourbillon.fresh_workflow_id()
returns uuid
language sql
volatile
as $$
  select gen_random_uuid();
$$;

create function tourbillon.append(p_queue text, p_state text, out event_id bigint, out event_table smallint)
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

  event_table := v_queue.current_table;
  event_id := tourbillon.insert_event(v_queue.queue_id, event_table, null, 0, null, p_state, null, null);
end;
$$;

-- event_id and event_table are null if the key was known: then the workflow had been started before.
create function tourbillon.start(
  p_queue text,
  p_key text,
  p_step text,
  p_state text,
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
  v_queue tourbillon.queue;
begin
  v_queue := tourbillon.queue_named(p_queue);
  perform tourbillon.require_kind(v_queue, 'workflow');
  if octet_length(p_state) > 1048576 then
    perform tourbillon.raise_limit_exceeded('A state has at most 1,048,576 bytes.');
  end if;
  if greatest(octet_length(p_key), octet_length(p_step)) > 200 then
    perform tourbillon.raise_limit_exceeded('A key and the name of a step have at most 200 bytes each.');
  end if;

  -- Waits for a transaction that is starting the same key. Under REPEATABLE READ a key that the transaction cannot see
  -- is a serialization failure.
  workflow_id := tourbillon.fresh_workflow_id();
  insert into tourbillon.start_key (queue_id, key, workflow_id)
  values (v_queue.queue_id, p_key, start.workflow_id)
  on conflict do nothing;
  -- guard: start_key begin
  if not found then
    select k.workflow_id
    into start.workflow_id
    from tourbillon.start_key k
    where k.queue_id = v_queue.queue_id
    and k.key = p_key;
    return;
  end if;
  -- guard: start_key end

  insert into tourbillon.workflow (workflow_id, queue_id, key)
  values (start.workflow_id, v_queue.queue_id, p_key);

  event_table := tourbillon.current_table(v_queue.queue_id);
  event_id := tourbillon.insert_event(v_queue.queue_id, event_table, workflow_id, 1, p_step, p_state, null, null);
end;
$$;
