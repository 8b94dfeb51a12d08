-- What workflows await, and deadlines. The other side is emit.sql.
--
--   expire_waits   a duty: what has not been emitted by its deadline
--
-- Internal: is_shown, continuation, waits_of, register_waits.

-- Whether a token is that which is asked for; hashes of both. Where none is asked for, any will do.
create function tourbillon.is_shown(p_asked bytea, p_shown bytea)
returns boolean
language sql
immutable
as $$
  select coalesce(p_asked = p_shown, p_asked is null); -- guard: emit_token
  -- without emit_token: select coalesce(p_asked = p_shown, true);
$$;

-- What a wait goes on as.
create function tourbillon.continuation(p_wait tourbillon.box, p_arrival text, p_payload text)
returns tourbillon.event
language sql
immutable
as $$
  select row (
    (p_wait).event_id, null, (p_wait).workflow_id, (p_wait).sequence, (p_wait).step, 1, (p_wait).state, p_arrival, p_payload
  )::tourbillon.event;
$$;

-- Box rows of the decisions that wait.
create function tourbillon.waits_of(
  p_queue_id int,
  p_now timestamptz,
  p_fate text[],
  p_id bigint[],
  p_workflow uuid[],
  p_sequence int[],
  p_step text[],
  p_delay_us bigint[],
  p_state text[],
  p_name text[],
  p_token_hash text[]
)
returns tourbillon.box[]
language plpgsql
volatile
as $$
begin
  return array(
    select row (
      d.workflow_id, d.name, p_queue_id, 'wait', p_now, decode(d.token_hash, 'hex'), d.id, d.sequence, d.step, d.state,
      p_now + nullif(d.delay_us, 0) * interval '1 microsecond', null
    )::tourbillon.box
    from (
      select
        unnest(p_fate) fate,
        unnest(p_id) id,
        unnest(p_workflow) workflow_id,
        unnest(p_sequence) sequence,
        unnest(p_step) step,
        unnest(p_delay_us) delay_us,
        unnest(p_state) state,
        unnest(p_name) name,
        unnest(p_token_hash) token_hash
    ) d
    where d.fate = 'wait');
end;
$$;

-- Registers waits, and gives back what those go on as to whom the awaited was promised already. What is promised without
-- the token that the wait asks for is thrown away.
--
-- Here, and wherever arrays are joined: a plan for arrays of any length would be one for short ones.
create function tourbillon.register_waits(p_waits tourbillon.box[])
returns tourbillon.event[]
language plpgsql
volatile
set plan_cache_mode = force_custom_plan
as $$
declare
  v_pending tourbillon.box[] := p_waits;
  v_promises tourbillon.box[];
  v_resumed tourbillon.event[] := '{}';
  v_done bigint[];
begin
  if exists (select from unnest(p_waits) w where octet_length(w.name) > 200) then
    perform tourbillon.raise_limit_exceeded('A name has at most 200 bytes.');
  end if;

  loop
    perform
    from tourbillon.box b
    join unnest(v_pending) w on w.workflow_id = b.workflow_id and w.name = b.name
    where b.kind = 'promise'
    order by b.workflow_id, b.name
    for update of b;
    if found then
      with promise as (
        delete from tourbillon.box b
        using unnest(v_pending) w
        where b.workflow_id = w.workflow_id
        and b.name = w.name
        and b.kind = 'promise'
        returning b.*
      )
      select array_agg(row (p.*)::tourbillon.box order by p.workflow_id, p.name)
      into v_promises
      from promise p;

      v_done := array(
        select w.event_id
        from unnest(v_pending) w
        join unnest(v_promises) p on p.workflow_id = w.workflow_id and p.name = w.name
        where tourbillon.is_shown(w.token_hash, p.token_hash));
      v_resumed := v_resumed || array(
        select tourbillon.continuation(w, 'emitted', p.payload)
        from unnest(v_pending) w
        join unnest(v_promises) p on p.workflow_id = w.workflow_id and p.name = w.name
        where w.event_id = any (v_done));

      perform tourbillon.write_audit(null, 'discard', w.workflow_id, w.name)
      from unnest(v_pending) w
      join unnest(v_promises) p on p.workflow_id = w.workflow_id and p.name = w.name
      where not w.event_id = any (v_done)
      order by w.workflow_id, w.name;

      v_pending := array(select w from unnest(v_pending) w where not w.event_id = any (v_done));
    end if;

    -- Waits for an emit that is under way, and lets its promise be.
    with registered as (
      insert into tourbillon.box
      select w.*
      from unnest(v_pending) w
      order by w.workflow_id, w.name
      on conflict do nothing
      returning box.event_id
    )
    select coalesce(array_agg(r.event_id), '{}')
    into v_done
    from registered r;
    v_pending := array(select w from unnest(v_pending) w where not w.event_id = any (v_done));
    exit when cardinality(v_pending) = 0;

    -- A workflow has one continuation. That of a zombie must not make this one look for a promise for ever.
    if exists (
        select
        from tourbillon.box b
        join unnest(v_pending) w on w.workflow_id = b.workflow_id and w.name = b.name
        where b.kind = 'wait'
      )
    then
      raise exception using
        errcode = 'unique_violation',
        message = 'box_unique',
        detail = 'A workflow awaits a name that it awaits already.';
    end if;
  end loop;
  return v_resumed;
end;
$$;

-- At most so many, those first whose deadline passed first. A wait that somebody has locked is being resumed. What cannot
-- become an event ends its workflow, unless somebody has that locked, who may be about to resume it: then it is left.
-- resumed are also joins that are complete by such an end.
create function tourbillon.expire_waits(
  p_queue text,
  p_limit int,
  out resumed bigint[],
  out undeliverable bigint[],
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
  v_now timestamptz;
  v_due tourbillon.box[];
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check
  v_queue_id := (tourbillon.queue_named(p_queue)).queue_id;
  v_now := tourbillon.clock();
  resumed := '{}';
  undeliverable := '{}';

  v_due := array(
    select row (d.*)::tourbillon.box
    from (
      select *
      from tourbillon.box b
      where b.queue_id = v_queue_id
      and b.kind = 'wait'
      and b.deadline <= v_now
      order by b.deadline, b.event_id
      limit greatest(p_limit, 1)
      for update skip locked
    ) d);
  if cardinality(v_due) > 0 then
    event_table := tourbillon.current_table(v_queue_id);
    select r.resumed, r.undeliverable
    into expire_waits.resumed, expire_waits.undeliverable
    from tourbillon.resume(
      v_queue_id,
      event_table,
      array(select tourbillon.continuation(d, 'timed_out', null) from unnest(v_due) d),
      true) r;

    delete from tourbillon.box b
    using unnest(v_due) d
    where b.workflow_id = d.workflow_id
    and b.name = d.name
    and b.kind = 'wait'
    and d.event_id = any (resumed);
  end if;
  -- without promise_until_end: delete from tourbillon.box b where b.queue_id = v_queue_id and b.kind = 'promise' and b.deadline <= v_now;
end;
$$;
