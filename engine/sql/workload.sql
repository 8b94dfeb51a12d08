-- What a test needs beside the engine; never part of an installation.
--
--   ledger      the application's table: effects of steps, without a unique key, so that a double effect shows
--   peek        an application's read of an event table
--   lock_table  maintenance's lock on an event table
--   resolve     what became of a transaction whose commit was never answered
--   events      all event tables of all queues, for the comparison of states
--   timers      the same of all timer tables

create table tourbillon.ledger (
  workflow_id uuid,
  sequence int not null,
  step text not null,
  xid xid8 not null
) with (autovacuum_enabled = false);

-- A rule of the application's: what breaks it cannot become an event.
alter table tourbillon.event add constraint application_rule check (state <> '18446744073709551615');

create function tourbillon.peek(p_queue text, p_table int, out count bigint)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_queue_id int := (tourbillon.queue_named(p_queue)).queue_id;
begin
  execute format('select count(*) from tourbillon.event_%s_%s', v_queue_id, p_table)
  into peek.count;
end;
$$;

create function tourbillon.lock_table(p_queue text, p_table int, p_mode text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_queue_id int := (tourbillon.queue_named(p_queue)).queue_id;
begin
  if p_mode not in ('access share', 'row share', 'row exclusive', 'share', 'access exclusive') then
    perform tourbillon.raise_undefined('lock mode', p_mode);
  end if;
  execute format('lock table tourbillon.event_%s_%s in %s mode', v_queue_id, p_table, p_mode);
end;
$$;

-- A number that was never given, as after a crash that lost its transaction, is that of an aborted one.
create function tourbillon.resolve(p_xid xid8, out outcome text)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  outcome := pg_xact_status(p_xid);
exception
  when invalid_parameter_value then
    outcome := 'aborted';
end;
$$;

create function tourbillon.events()
returns table (
  queue text,
  event_table smallint,
  event_id bigint,
  xid xid8,
  workflow_id uuid,
  sequence int,
  step text,
  attempt int,
  state text,
  arrival text,
  payload text
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_queue tourbillon.queue;
begin
  for v_queue in select * from tourbillon.queue q order by q.name loop
    for v_table in 0..2 loop
      return query execute format(
        'select $1, $2, e.* from tourbillon.event_%s_%s e order by e.event_id',
        v_queue.queue_id, v_table)
      using v_queue.name, v_table::smallint;
    end loop;
  end loop;
end;
$$;

create function tourbillon.timers()
returns table (
  queue text,
  timer_table smallint,
  due timestamptz,
  event_id bigint,
  xid xid8,
  workflow_id uuid,
  sequence int,
  step text,
  attempt int,
  state text,
  arrival text,
  payload text
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_queue tourbillon.queue;
begin
  for v_queue in select * from tourbillon.queue q order by q.name loop
    for v_table in 0..1 loop
      return query execute format(
        'select $1, $2, t.* from tourbillon.timer_%s_%s t order by t.due, t.event_id',
        v_queue.queue_id, v_table)
      using v_queue.name, v_table::smallint;
    end loop;
  end loop;
end;
$$;

revoke all on tourbillon.ledger from public;
revoke all
on function tourbillon.peek, tourbillon.lock_table, tourbillon.resolve, tourbillon.events, tourbillon.timers
from public;
