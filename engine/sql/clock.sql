-- The only file that reads a clock.

-- The server's wall clock: what leases and ticks go by. It moves while a call waits for a lock.
create function tourbillon.clock()
returns timestamptz
language sql
volatile
as $$
  select clock_timestamp();
$$;

-- What leases go by: the server's clock, whatever the caller's says.
create function tourbillon.lease_clock()
returns timestamptz
language sql
volatile
as $$
  select tourbillon.clock(); -- guard: server_clock
  -- without server_clock: select current_setting('tourbillon.caller_clock')::timestamptz;
$$;

-- When the caller's transaction began; no lease and no deadline may go by it.
create function tourbillon.transaction_clock()
returns timestamptz
language sql
stable
as $$
  select transaction_timestamp();
$$;
