-- Two roles, on request: part of an installation only where it is asked for. Roles belong to the whole server, so those that
-- are there are taken as they are. Neither can log in, neither owns anything, neither reads or writes a table.
--
--   tourbillon_worker   runs steps, and the duties
--   tourbillon_client   starts workflows, emits to them, appends and schedules messages; and looks at the views
--
-- Creating queues, subscribing, replaying dead letters and reading the audit stay with the owner.

do $$
declare
  v_role text;
begin
  foreach v_role in array array['tourbillon_worker', 'tourbillon_client'] loop
    if not exists (select from pg_roles r where r.rolname = v_role) then
      execute format('create role %I nologin', v_role);
    end if;
  end loop;
end;
$$;

grant usage
on schema tourbillon
to tourbillon_worker, tourbillon_client;

grant execute
on function
  tourbillon.register,
  tourbillon.heartbeat,
  tourbillon.claim,
  tourbillon.take_over,
  tourbillon.read,
  tourbillon.read_results,
  tourbillon.hand_out,
  tourbillon.hold,
  tourbillon.handoff,
  tourbillon.tick,
  tourbillon.rotate,
  tourbillon.drain,
  tourbillon.rotate_timers,
  tourbillon.expire_waits,
  tourbillon.rotate_audit
to tourbillon_worker;

grant execute
on function
  tourbillon.append,
  tourbillon.start,
  tourbillon.emit,
  tourbillon.schedule,
  tourbillon.cancel
to tourbillon_client;

grant execute
on function
  tourbillon.waiting_rows,
  tourbillon.running_rows,
  tourbillon.counts_rows
to tourbillon_worker, tourbillon_client;

grant select
on
  tourbillon.waiting,
  tourbillon.running,
  tourbillon.counts
to tourbillon_worker, tourbillon_client;
