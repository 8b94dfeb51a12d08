-- Virtual time, and ids of workflows in the order of their making, for a statement-exact replay only; never part of an
-- installation.
--
-- The control session sets the clock, in microseconds since the Unix epoch:
-- select setval('tourbillon.virtual_clock', 42). A sequence is seen at once by calls that are blocked or run at REPEATABLE
-- READ, and an unlogged one takes no xid. PostgreSQL 14 has only logged ones. After a crash of the server the clock has no
-- value until it is set again.

create unlogged sequence tourbillon.virtual_clock minvalue 0;

create or replace function tourbillon.clock()
returns timestamptz
language plpgsql
volatile
as $$
declare
  v_micros bigint := pg_sequence_last_value('tourbillon.virtual_clock');
begin
  if v_micros is null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'the virtual clock is not set',
      hint = 'select setval(''tourbillon.virtual_clock'', MICROSECONDS)';
  end if;
  return timestamptz 'epoch' + v_micros * interval '1 microsecond';
end;
$$;

-- Where something goes by the start of a transaction, its session is told just before, outside of any transaction:
-- select set_config('tourbillon.transaction_clock', 'MICROSECONDS', false).
create or replace function tourbillon.transaction_clock()
returns timestamptz
language sql
volatile
as $$
  select coalesce(
    timestamptz 'epoch' + current_setting('tourbillon.transaction_clock', true)::bigint * interval '1 microsecond',
    tourbillon.clock());
$$;

-- Rows are locked in the order of their keys: two sides that compare what blocks must have workflows in the same order.
create or replace function tourbillon.fresh_workflow_id()
returns uuid
language sql
volatile
as $$
  select lpad(to_hex(nextval('tourbillon.event_id')), 32, '0')::uuid;
$$;
