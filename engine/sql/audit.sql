-- Who did what to workflows from outside.
--
--   audit          all that is kept, for the owner
--   rotate_audit   a duty: what is older than it has to be goes, a table at a time
--
-- Internal: write_audit, holds_audit_since. Nothing here, or anywhere, updates or deletes a line.

create view tourbillon.audit as
select *
from tourbillon.audit_0
union all
select *
from tourbillon.audit_1;

-- Whoever goes by an old pointer writes into the table that is emptied next; no sooner than its lines are old enough.
create function tourbillon.write_audit(p_actor text, p_act text, p_workflow uuid, p_name text)
returns void
language plpgsql
volatile
as $$
begin
  if (select c.current_table from tourbillon.audit_cursor c) = 0 then
    insert into tourbillon.audit_0 (at, xid, actor, act, workflow_hash, name)
    values (tourbillon.clock(), pg_current_xact_id(), p_actor, p_act, tourbillon.workflow_hash(p_workflow), p_name);
  else
    insert into tourbillon.audit_1 (at, xid, actor, act, workflow_hash, name)
    values (tourbillon.clock(), pg_current_xact_id(), p_actor, p_act, tourbillon.workflow_hash(p_workflow), p_name);
  end if;
end;
$$;

-- A time that nobody knows is before all lines.
create function tourbillon.holds_audit_since(p_table int, p_since timestamptz)
returns boolean
language plpgsql
volatile
as $$
declare
  v_holds boolean;
begin
  execute format(
    'select exists (
      select
      from tourbillon.audit_%s a
      where (a.at <= $1) is not true)',
    p_table)
  into v_holds
  using p_since;
  return v_holds;
end;
$$;

-- Empties the older table, and makes it current, once all that it holds is older than p_keep: each line is kept for that
-- long at least, and for twice as long and a while at most.
create function tourbillon.rotate_audit(
  p_keep interval,
  p_lock_timeout interval,
  out rotated boolean,
  out audit_table smallint
)
returns record
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_lock_timeout text := current_setting('lock_timeout');
  v_since timestamptz;
begin
  perform tourbillon.require_read_committed(); -- guard: isolation_check

  -- As in a rotation of event tables.
  perform set_config(
    'lock_timeout', greatest(1, ceil(extract(epoch from p_lock_timeout) * 1000))::text, true);

  select 1 - c.current_table
  into audit_table
  from tourbillon.audit_cursor c
  for update;
  v_since := tourbillon.clock() - p_keep;

  -- A cheap look, so that a table in use is not locked for nothing.
  rotated := not tourbillon.holds_audit_since(audit_table, v_since);
  if rotated then
    execute format('lock table tourbillon.audit_%s in access exclusive mode', audit_table);
    -- A statement of its own, after the lock: whoever believed the table current has committed to it.
    rotated := not tourbillon.holds_audit_since(audit_table, v_since);
  end if;
  if rotated then
    execute format('truncate tourbillon.audit_%s', audit_table);

    update tourbillon.audit_cursor c
    set current_table = rotate_audit.audit_table;
  end if;

  perform set_config('lock_timeout', v_lock_timeout, true);
end;
$$;
