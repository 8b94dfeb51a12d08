-- What is due becomes events.
--
--   drain   makes events of timers that are due, a page at a time
--
-- Internal: with_round, page_query, page, append_timers, deliver.
--
-- Why none is lost, fired twice or early is argued in engine/src/procedures/timer.rs.

-- The cursor with the round that is to be delivered now: the open one, else one up to the latest tick, if that is newer than
-- the done one. No open tick while the clock, having stepped back, is before it.
create function tourbillon.with_round(p_cursor tourbillon.drain)
returns tourbillon.drain
language plpgsql
volatile
as $$
begin
  if p_cursor.open_tick is null then
    select t.tick, t.at, t.snapshot
    into p_cursor.open_tick, p_cursor.open_at, p_cursor.open_snapshot
    from tourbillon.tick t
    where t.queue_id = p_cursor.queue_id
    and t.tick > p_cursor.done_tick
    order by t.tick desc
    limit 1;
  end if;
  if p_cursor.open_at > tourbillon.clock() then
    p_cursor.open_tick := null;
  end if;
  return p_cursor;
end;
$$;

-- The timers of a round behind a position, by (due, event_id): $1 how many at most; ($2, $3) the position; $4 and $5 the open
-- tick's clock and snapshot; $6 and $7 the done one's; ($8, $9) the position among the late. By the index on (due, event_id)
-- those whose time came in the round; by that on xid, as above, those that are late. They come first, so behind the first
-- that is not late there are none.
create function tourbillon.page_query(p_queue_id int, p_has_late boolean)
returns text
language plpgsql
immutable
as $$
declare
  v_parts text[];
begin
  v_parts := array(
    select format(
      '(
        select t.*
        from tourbillon.timer_%s_%s t
        where (t.due, t.event_id) > ($2, $3)
        and t.due <= $4
        and pg_visible_in_snapshot(t.xid, $5)
        order by t.due, t.event_id
        limit $1
      )',
      p_queue_id, v_table)
    from generate_series(0, 1) v_table
    order by v_table);

  -- guard: drain_late_path begin
  if p_has_late then
    v_parts := v_parts || array(
      select format(
        '(
          with recent as materialized (
            select t.*
            from tourbillon.timer_%s_%s t
            where t.xid >= pg_snapshot_xmax($7) and t.xid < pg_snapshot_xmax($5)
            or t.xid = any (array(select pg_snapshot_xip($7)))
          )
          select r.*
          from recent r
          where r.due <= $6
          and (r.due, r.event_id) > ($8, $9)
          and pg_visible_in_snapshot(r.xid, $5)
        )',
        p_queue_id, v_table)
      from generate_series(0, 1) v_table
      order by v_table);
  end if;
  -- guard: drain_late_path end

  return format(
    'select array_agg(row(p.*)::tourbillon.timer order by p.due, p.event_id)
    from (
      select *
      from (%s) u
      order by u.due, u.event_id
      limit $1
    ) p',
    array_to_string(v_parts, ' union all '));
end;
$$;

-- At most so many timers of the cursor's round behind the position; null if there are none.
create function tourbillon.page(p_cursor tourbillon.drain, p_limit int)
returns tourbillon.timer[]
language plpgsql
volatile
as $$
declare
  v_due timestamptz := p_cursor.done_at;
  v_event bigint := 9223372036854775807;
  v_page tourbillon.timer[];
begin
  if p_cursor.position_due > p_cursor.done_at then
    v_due := p_cursor.position_due;
    v_event := p_cursor.position_event;
  end if;

  execute tourbillon.page_query(p_cursor.queue_id, v_due = p_cursor.done_at)
  into v_page
  using
    p_limit,
    v_due,
    v_event,
    p_cursor.open_at,
    p_cursor.open_snapshot,
    p_cursor.done_at,
    p_cursor.done_snapshot,
    coalesce(p_cursor.position_due, '-infinity'),
    coalesce(p_cursor.position_event, 0);
  return v_page;
end;
$$;

create function tourbillon.append_timers(p_queue_id int, p_table int, p_page tourbillon.timer[])
returns void
language plpgsql
volatile
as $$
begin
  execute format(
    'insert into tourbillon.event_%s_%s (
      event_id, xid, workflow_id, sequence, step, attempt, state, arrival, payload)
    select
      t.event_id,
      pg_current_xact_id(),'
      || ' t.workflow_id, t.sequence,' -- guard: timer_keeps_fields
      -- without timer_keeps_fields: || ' null, 0,'
      || ' t.step, t.attempt, t.state, t.arrival, t.payload
    from unnest($1) t',
    p_queue_id, p_table)
  using p_page;
end;
$$;

-- A page that fails is taken back and goes timer by timer: what cannot become an event because of what it is, is a dead
-- letter. An error that says nothing about the row (a rollback, a lock, a resource, a bug) is no reason for that.
create function tourbillon.deliver(
  p_queue_id int,
  p_table int,
  p_page tourbillon.timer[],
  out fired bigint[],
  out dead bigint[]
)
returns record
language plpgsql
volatile
as $$
declare
  v_timer tourbillon.timer;
begin
  fired := '{}';
  dead := '{}';
  -- guard: drain_poison begin
  begin
  -- guard: drain_poison end
    perform tourbillon.append_timers(p_queue_id, p_table, p_page);
    fired := array(select t.event_id from unnest(p_page) t);
  -- guard: drain_poison begin
  exception
    when data_exception or integrity_constraint_violation or program_limit_exceeded or raise_exception then
      foreach v_timer in array p_page loop
        begin
          perform tourbillon.append_timers(p_queue_id, p_table, array[v_timer]);
          fired := fired || v_timer.event_id;
        exception
          when data_exception or integrity_constraint_violation or program_limit_exceeded or raise_exception then
            perform tourbillon.bury_undeliverable(
              p_queue_id,
              row (
                v_timer.event_id, null, v_timer.workflow_id, v_timer.sequence, v_timer.step, v_timer.attempt, v_timer.state,
                v_timer.arrival, v_timer.payload
              )::tourbillon.event);
            dead := dead || v_timer.event_id;
        end;
      end loop;
  end;
  -- guard: drain_poison end
end;
$$;

-- The tick is null if nothing is to be delivered; otherwise is_done says whether the round is over. resumed are the joins
-- that are complete by what is dead; undeliverable, those that could not become events.
create function tourbillon.drain(
  p_queue text,
  p_limit int,
  out tick bigint,
  out fired bigint[],
  out dead bigint[],
  out resumed bigint[],
  out undeliverable bigint[],
  out event_table smallint,
  out is_done boolean
)
returns record
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_queue_id int;
  v_limit int := greatest(p_limit, 1);
  v_cursor tourbillon.drain;
  v_page tourbillon.timer[];
  v_last tourbillon.timer;
  v_ended tourbillon.ending[];
  v_complete tourbillon.event[];
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check
  v_queue_id := (tourbillon.queue_named(p_queue)).queue_id;

  -- A cheap look, without the lock, which would take an xid.
  select *
  into v_cursor
  from tourbillon.drain d
  where d.queue_id = v_queue_id;
  v_cursor := tourbillon.with_round(v_cursor);
  if v_cursor.open_tick is null then
    return;
  end if;

  select *
  into v_cursor
  from tourbillon.drain d
  where d.queue_id = v_queue_id
  for update;
  v_cursor := tourbillon.with_round(v_cursor);
  if v_cursor.open_tick is null then
    return;
  end if;

  v_page := tourbillon.page(v_cursor, v_limit);

  tick := v_cursor.open_tick;
  is_done := coalesce(cardinality(v_page), 0) < v_limit; -- guard: drain_position
  -- without drain_position: is_done := true;

  if v_page is not null then
    event_table := tourbillon.current_table(v_queue_id);
    select d.fired, d.dead
    into fired, dead
    from tourbillon.deliver(v_queue_id, event_table, v_page) d;

    if dead <> '{}' then
      v_ended := array(
        select row (t.workflow_id, 'dead', null)::tourbillon.ending
        from unnest(v_page) t
        where t.event_id = any (dead)
        and t.workflow_id is not null);
    end if;
    if v_ended <> '{}' then
      v_complete := tourbillon.report_ends(tourbillon.end_workflows(v_ended));
      select r.resumed, r.undeliverable
      into resumed, undeliverable
      from tourbillon.resume(v_queue_id, event_table, v_complete, false) r;
    end if;
  end if;

  if is_done then
    update tourbillon.drain d
    set
      done_tick = v_cursor.open_tick,
      done_at = v_cursor.open_at,
      done_snapshot = v_cursor.open_snapshot,
      open_tick = null,
      open_at = null,
      open_snapshot = null,
      position_due = null,
      position_event = null
    where d.queue_id = v_queue_id;
  else
    v_last := v_page[v_limit];
    update tourbillon.drain d
    set
      open_tick = v_cursor.open_tick,
      open_at = v_cursor.open_at,
      open_snapshot = v_cursor.open_snapshot,
      position_due = v_last.due,
      position_event = v_last.event_id
    where d.queue_id = v_queue_id;
  end if;
end;
$$;
