-- Tourbillon on PostgreSQL 14 to 18: tables and sequences. No extension, no superuser.
--
-- Files, in the order in which they are installed:
--   schema.sql    what is stored (this file)
--   clock.sql     the only place that reads a clock
--   queue.sql     queues, subscriptions, ticks, windows, rotation
--   producer.sql  append and start: what an application calls in its own transaction
--   worker.sql    register, heartbeat, claim, read, hold, handoff
--   grants.sql    nothing is for PUBLIC
-- Not part of an installation: replay_clock.sql, workload.sql. The schema is there before, and empty: the
-- command sql prints all of it as one transaction that creates the schema.
--
-- Order of locks, obeyed everywhere: advisory lock (of ticks, or of rotation and subscribers); subscription row; lease
-- row (another worker's only with skip locked); start key; live rows by id; event tables by number; queue row, by
-- rotation alone. Ticks and the pointer are read without locks. Readers of windows take their share of the event tables
-- earlier than that, which is sound: whoever has a table for himself waits for nothing that another could hold.
--
-- Guards: a line that prevents a known bug ends in a comment with that bug's name (engine/src/guard.rs); a block has the
-- name above and below. The installer can leave them out; a comment "without" that name is then put in their place.
--
-- There are no foreign keys: they would take key-share locks on the rows that everybody updates.

create sequence tourbillon.event_id;
create sequence tourbillon.tick_number;
create sequence tourbillon.worker_id;

-- current_table is a hint to producers: 0, 1 or 2. A window reads all three tables, whoever wrote where.
create table tourbillon.queue (
  queue_id int generated always as identity primary key,
  name text not null unique,
  kind text not null check (kind in ('plain', 'workflow')),
  current_table smallint not null
) with (fillfactor = 20);

-- last_event is the last event id drawn before the snapshot was taken, in any queue.
create table tourbillon.tick (
  queue_id int not null,
  tick bigint not null,
  at timestamptz not null,
  snapshot pg_snapshot not null,
  last_event bigint not null,
  primary key (queue_id, tick)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- cursor is the tick up to which windows were claimed. Only the keys are indexed, so that moving it stays HOT.
create table tourbillon.subscription (
  subscription_id int generated always as identity primary key,
  queue_id int not null,
  name text not null unique,
  cursor bigint not null
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- A lease. token, prev_tick and next_tick are null together, while the worker has no window open. Tokens are compared
-- in the row that the worker's id finds, never searched for, so the id alone is indexed and every update is HOT.
create table tourbillon.worker (
  worker_id bigint primary key,
  subscription_id int not null,
  token uuid,
  prev_tick bigint,
  next_tick bigint,
  heartbeat timestamptz not null,
  crashes int not null
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- What a key started, for ever: also after the workflow has ended.
create table tourbillon.start_key (
  queue_id int not null,
  key text not null,
  workflow_id uuid not null,
  primary key (queue_id, key)
);

-- One row for each live workflow. Steps do not touch it; its end deletes it.
create table tourbillon.workflow (
  workflow_id uuid primary key,
  queue_id int not null,
  key text not null
) with (autovacuum_vacuum_scale_factor = 0.05);
