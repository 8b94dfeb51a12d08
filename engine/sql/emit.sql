-- What an application tells a workflow in its own transaction, at any isolation level.
--
--   emit   a name and a payload, once for each id, to whom awaits it or will
--
-- Internal: require_unknown, require_promises_left.
--
-- An emit and an await meet in one row of tourbillon.box, and who comes second finds the first:
--   1. an emit deletes the wait, an await the promise: what it finds it resumes, and nobody else does;
--   2. where there is none, it inserts its own half; the key makes it wait for an end of whoever is doing the same;
--   3. if that one committed, it begins again.
-- At REPEATABLE READ the row of somebody whom the snapshot does not see is a serialization failure, not a missed wake-up.

-- A workflow that an old snapshot does not see may have been started since: its key tells, by a serialization failure.
create function tourbillon.require_unknown(p_workflow uuid)
returns void
language plpgsql
volatile
as $$
begin
  if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
    insert into tourbillon.workflow (workflow_id, queue_id)
    values (p_workflow, 0)
    on conflict do nothing;

    delete from tourbillon.workflow f
    where f.workflow_id = p_workflow
    and f.queue_id = 0;
  end if;
end;
$$;

create function tourbillon.require_promises_left(p_workflow uuid)
returns void
language plpgsql
volatile
as $$
begin
  if (
      select count(*)
      from tourbillon.box b
      where b.workflow_id = p_workflow
      and b.kind = 'promise'
    ) > 64
  then
    perform tourbillon.raise_limit_exceeded('A workflow has at most 64 promises at a time.');
  end if;
end;
$$;

-- answer says what became of it: resumed, and event_id is the continuation's; promised to whoever awaits it; second, where
-- another is promised already; forged, where the wait asks for another token; dead, where no such workflow is alive. The
-- last two leave nothing but a line of the audit. is_repeated: the same id was emitted before, and was answered this.
create function tourbillon.emit(
  p_workflow uuid,
  p_name text,
  p_payload text,
  p_emit text,
  p_token text default null,
  p_actor text default null,
  out answer text,
  out is_repeated boolean,
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
  v_hash bytea := sha256(convert_to(p_token, 'UTF8'));
  v_queue_id int;
  v_wait tourbillon.box;
begin
  is_repeated := false;
  if octet_length(p_payload) > 1048576 then
    perform tourbillon.raise_limit_exceeded('A payload has at most 1,048,576 bytes.');
  end if;
  if greatest(octet_length(p_name), octet_length(p_emit), octet_length(p_actor)) > 200 then
    perform tourbillon.raise_limit_exceeded('A name, the id of an emit and an actor have at most 200 bytes each.');
  end if;

  -- The workflow cannot end before this transaction does.
  select f.queue_id
  into v_queue_id
  from tourbillon.workflow f
  where f.workflow_id = p_workflow
  for key share; -- guard: emit_live
  -- without emit_live: ;
  -- guard: emit_live begin
  if not found then
    perform tourbillon.require_unknown(p_workflow); -- guard: emit_unseen
    answer := 'dead';
    perform tourbillon.write_audit(p_actor, 'emit_dead', p_workflow, p_name);
    return;
  end if;
  -- guard: emit_live end
  -- without emit_live: v_queue_id := coalesce(v_queue_id, 0);

  -- guard: emit_id begin
  insert into tourbillon.emitted (workflow_id, emit_id, answer)
  values (p_workflow, p_emit, 'pending')
  on conflict do nothing;
  if not found then
    select e.answer
    into emit.answer
    from tourbillon.emitted e
    where e.workflow_id = p_workflow
    and e.emit_id = p_emit;
    is_repeated := true;
    return;
  end if;
  -- guard: emit_id end

  loop
    -- Whoever deletes the wait resumes it: a deadline's duty may be at it, too.
    -- guard: wait_delete_returning begin
    delete from tourbillon.box b
    where b.workflow_id = p_workflow
    and b.name = p_name
    and b.kind = 'wait'
    and tourbillon.is_shown(b.token_hash, v_hash)
    returning *
    into v_wait;
    -- guard: wait_delete_returning end
    -- without wait_delete_returning: select * into v_wait from tourbillon.box b where b.workflow_id = p_workflow and b.name = p_name and b.kind = 'wait' and tourbillon.is_shown(b.token_hash, v_hash);
    -- without wait_delete_returning: delete from tourbillon.box b where b.workflow_id = p_workflow and b.name = p_name and b.event_id = v_wait.event_id;
    if v_wait.event_id is not null then
      answer := 'resumed';
      event_id := v_wait.event_id;
      event_table := tourbillon.current_table(v_wait.queue_id);
      perform tourbillon.append_events(
        v_wait.queue_id, event_table, array[tourbillon.continuation(v_wait, 'emitted', p_payload)]);
      exit;
    end if;

    insert into tourbillon.box (workflow_id, name, queue_id, kind, since, token_hash, payload, deadline)
    values (
      p_workflow, p_name, v_queue_id, 'promise', tourbillon.clock(), v_hash, p_payload,
      null -- guard: promise_until_end
      -- without promise_until_end: tourbillon.clock() + interval '1 second'
    )
    on conflict do nothing;
    if found then
      perform tourbillon.require_promises_left(p_workflow);
      answer := 'promised';
      exit;
    end if;

    -- Neither if it has come, or gone, since: then again.
    select
      case
        when b.kind = 'promise' then 'second'
        when not tourbillon.is_shown(b.token_hash, v_hash) then 'forged'
      end
    into emit.answer
    from tourbillon.box b
    where b.workflow_id = p_workflow
    and b.name = p_name
    order by b.kind
    limit 1;
    exit when answer is not null;
  end loop;
  -- without first_write_wins: if answer = 'second' then update tourbillon.box b set payload = p_payload, token_hash = v_hash where b.workflow_id = p_workflow and b.name = p_name and b.kind = 'promise'; answer := 'promised'; end if;

  -- What a wait turns away leaves its id to the true one. What is promised with a token that no wait will ask for does not:
  -- nobody can know.
  if answer = 'forged' then
    delete from tourbillon.emitted e
    where e.workflow_id = p_workflow
    and e.emit_id = p_emit;
  else
    update tourbillon.emitted e
    set answer = emit.answer
    where e.workflow_id = p_workflow
    and e.emit_id = p_emit;
  end if;
  perform tourbillon.write_audit(p_actor, 'emit_' || answer, p_workflow, p_name);
end;
$$;
