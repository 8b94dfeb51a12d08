-- Tourbillon on PostgreSQL 14 to 18: tables and sequences. No extension, no superuser.
--
-- Files, in the order in which they are installed:
--   schema.sql    what is stored (this file)
--   clock.sql     the only place that reads a clock
--   queue.sql     queues, subscriptions, ticks, windows, rotation
--   producer.sql  append and start: what an application calls in its own transaction
--   timer.sql     schedule, cancel, rotation of timers
--   drain.sql     what is due becomes events
--   dead_letter.sql  dead letters and their replay
--   end.sql       the end of workflows
--   isolation.sql  the events of an isolated window, one by one
--   worker.sql    register, heartbeat, claim, take_over, read, hold
--   audit.sql     who did what to workflows from outside
--   emit.sql      emit: what an application tells a workflow in its own transaction
--   wait.sql      what a workflow awaits, and deadlines
--   join.sql      children, and what they leave
--   handoff.sql   handoff
--   observe.sql   what live workflows wait for
--   views.sql     what people look at
--   grants.sql    nothing is for PUBLIC
-- On request: roles.sql. Not part of an installation: replay.sql, workload.sql. The schema is there before, and empty: the
-- command sql prints all of it as one transaction that creates the schema.
--
-- Order of locks, obeyed by every call, and by a worker's transaction (hold, then handoff):
--   advisory lock (of ticks, or of rotation and subscribers); subscription row; lease row (another worker's only with skip
--   locked); tries, by whoever has the lease; dead letters by id; start key; live rows by id; emit ids; box rows by workflow
--   and name; join rows by id; cursor of timers; event tables by number; timer tables by number; what was cancelled; queue
--   row, by rotation alone; the audit's cursor, by its rotation alone, and tables of the audit.
-- Ticks and pointers are read without locks. Out of order, and why it is sound:
--   readers of windows and of timers take their share of the tables first: whoever has a table for himself waits for
--     nothing that another could hold;
--   a drain writes dead letters and ends their workflows under the cursor's lock: the timer was all that was left of them;
--     joins it locks later still: whoever has a join row never waits for the cursor, and for an event table only behind a
--     rotation, which gives up;
--   an await that throws a promise away writes a line of the audit before joins are locked: for that table, too, nobody waits
--     but behind its rotation.
-- A client's transaction that emits has live rows key-shared until it ends: an end waits for it, another emit does not. With
-- several emits or starts in one transaction the order is the client's, and so are the deadlocks.
--
-- Guards: a line that prevents a known bug ends in a comment with that bug's name (engine/src/guard.rs); a block has the
-- name above and below. The installer can leave them out; a comment "without" that name is then put in their place.
--
-- There are no foreign keys: they would take key-share locks on the rows that everybody updates.

create sequence tourbillon.event_id;
create sequence tourbillon.tick_number;
create sequence tourbillon.worker_id;
-- without token_random: create sequence tourbillon.token_number;

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

-- What the event tables of a queue look like; it holds nothing itself. A constraint that an application puts on it before
-- a queue is created holds in that queue's tables.
--
-- arrival is what came of the wait before the step: emitted, and payload is what was emitted; timed_out; joined, and payload
-- is the id under which the results of the children are kept. Null for a step that waited for nothing, or for time to pass.
create table tourbillon.event (
  event_id bigint not null,
  xid xid8 not null,
  workflow_id uuid,
  sequence int not null,
  step text,
  attempt int not null,
  state text,
  arrival text,
  payload text
);

-- A row of a timer table: the event that it will be, and when. xid is that of who scheduled it.
create type tourbillon.timer as (
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
);

-- The cursor of a queue's timers: all that were due in the done tick are delivered, and of those due in the open tick all
-- up to the position. What a drain goes by of the two ticks is kept here, so that the ticks themselves may go.
-- current_table is a hint to those who schedule: 0 or 1. A drain reads both tables.
create table tourbillon.drain (
  queue_id int primary key,
  current_table smallint not null,
  done_tick bigint not null,
  done_at timestamptz not null,
  done_snapshot pg_snapshot not null,
  open_tick bigint,
  open_at timestamptz,
  open_snapshot pg_snapshot,
  position_due timestamptz,
  position_event bigint
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- A timer that was cancelled. Its place in the timer table comes back only when that is truncated, and this row goes then.
create table tourbillon.cancelled (
  queue_id int not null,
  timer_table smallint not null,
  event_id bigint not null,
  primary key (queue_id, event_id)
) with (autovacuum_vacuum_scale_factor = 0.05);

-- cursor is the tick up to which windows were claimed. Only the keys are indexed, so that moving it stays HOT.
create table tourbillon.subscription (
  subscription_id int generated always as identity primary key,
  queue_id int not null,
  name text not null unique,
  cursor bigint not null
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- A lease. token, prev_tick and next_tick are null together, while the worker has no window open. Tokens are compared
-- in the row that the worker's id finds, never searched for, so the id alone is indexed and every update is HOT. crashes
-- says how often the window was taken over. held is the transaction that holds the window and has not handed it off.
create table tourbillon.worker (
  worker_id bigint primary key,
  subscription_id int not null,
  token uuid,
  prev_tick bigint,
  next_tick bigint,
  heartbeat timestamptz not null,
  crashes int not null,
  held xid8
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- What a key started, for ever: also after the workflow has ended.
create table tourbillon.start_key (
  queue_id int not null,
  key text not null,
  workflow_id uuid not null,
  primary key (queue_id, key)
);

-- One row for each live workflow. Steps do not touch it; its end deletes it. key is null for a child, and for what the
-- replay of a dead letter began. join_id and child_index say to which join it reports, as which child.
create table tourbillon.workflow (
  workflow_id uuid primary key,
  queue_id int not null,
  key text,
  join_id bigint,
  child_index int
) with (autovacuum_vacuum_scale_factor = 0.05);

-- An event of an isolated window: how often it was handed out, and whether it was handed off. The rows outlive a takeover;
-- the end of their window deletes them.
create table tourbillon.tries (
  subscription_id int not null,
  event_id bigint not null,
  tries int not null,
  is_done boolean not null,
  primary key (subscription_id, event_id)
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- An event that will not be delivered again. subscription_id is 0 for a timer that could not become a message.
-- workflow_hash is the SHA-256 of the workflow's id, in hexadecimal; null for a message. replayed_as is the event that it
-- lives on as.
create table tourbillon.dead_letter (
  queue_id int not null,
  subscription_id int not null,
  event_id bigint not null,
  reason text not null check (reason in ('attempts', 'tries', 'rejected', 'undeliverable')),
  workflow_hash text,
  sequence int not null,
  step text,
  attempt int not null,
  arrival text,
  join_id bigint,
  child_index int,
  replayed_as bigint,
  primary key (subscription_id, event_id)
);

-- What its workflow carries: for its replay alone, so that whoever is shown a dead letter is shown no secret.
create table tourbillon.dead_letter_content (
  subscription_id int not null,
  event_id bigint not null,
  state text,
  payload text,
  primary key (subscription_id, event_id)
);

-- An event that is to become a dead letter, and why.
create type tourbillon.death as (
  event_id bigint,
  reason text
);

-- What is between a workflow and those who emit a name to it. A wait is the event that it will be, under the id that it has
-- from the handoff on; a promise is what was emitted while nobody waited. One row for both: its key is the lock, also for
-- who cannot see the other's row. token_hash is the SHA-256 of the token that a wait asks for, or that a promise came with.
create table tourbillon.box (
  workflow_id uuid not null,
  name text not null,
  queue_id int not null,
  kind text not null check (kind in ('wait', 'promise')),
  since timestamptz not null,
  token_hash bytea,
  event_id bigint,
  sequence int,
  step text,
  state text,
  deadline timestamptz,
  payload text,
  primary key (workflow_id, name) -- guard: box_unique
  -- without box_unique: primary key (workflow_id, name, kind)
) with (autovacuum_vacuum_scale_factor = 0.05);
create index box_deadline on tourbillon.box (queue_id, deadline) where deadline is not null;

-- What an emit was answered, for as long as the workflow lives.
create table tourbillon.emitted (
  workflow_id uuid not null,
  emit_id text not null,
  answer text not null check (answer in ('pending', 'resumed', 'promised', 'second')),
  primary key (workflow_id, emit_id)
) with (autovacuum_vacuum_scale_factor = 0.05);

-- A workflow that waits for its children: the event that it will be, how many children there are, and how many have ended.
-- Only the key is indexed, so that the count stays HOT.
create table tourbillon.open_join (
  join_id bigint primary key,
  workflow_id uuid not null,
  queue_id int not null,
  since timestamptz not null,
  sequence int not null,
  step text,
  state text,
  total int not null,
  ended int not null
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- What a child left: nothing if it is dead. The rows outlive the join: the handoff of the parent's next step deletes them.
create table tourbillon.result (
  join_id bigint not null,
  child_index int not null,
  outcome text not null check (outcome in ('completed', 'failed', 'dead')),
  result text,
  primary key (join_id, child_index)
) with (autovacuum_vacuum_scale_factor = 0.05);

-- Who did what to a workflow from outside, and what was thrown away; actor is null for the engine itself, and for whoever
-- gives no name. Written once, read
-- by people: no index. The two tables are alike, and one of them is current.
create table tourbillon.audit_0 (
  at timestamptz not null,
  xid xid8 not null,
  actor text,
  act text not null check (
    act in ('emit_resumed', 'emit_promised', 'emit_second', 'emit_forged', 'emit_dead', 'discard')
  ),
  workflow_hash text not null,
  name text not null
);
create table tourbillon.audit_1 (like tourbillon.audit_0 including constraints);

-- One row. current_table is a hint to those who write the audit: 0 or 1.
create table tourbillon.audit_cursor (
  is_it boolean primary key default true check (is_it),
  current_table smallint not null
) with (fillfactor = 20);
insert into tourbillon.audit_cursor (current_table) values (0);

-- A workflow that is to end, how, and what it leaves.
create type tourbillon.ending as (
  workflow_id uuid,
  outcome text,
  result text
);

-- An event that says: all children of this join have ended.
create type tourbillon.joined as (
  event_id bigint,
  join_id bigint
);
