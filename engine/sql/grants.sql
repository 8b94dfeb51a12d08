-- Nothing is executable by PUBLIC: whoever installs grants what a role needs.
--   worker: register, heartbeat, claim, read, hold, handoff, and the duties tick and rotate
--   client: append, start
-- By name, so that nothing is touched that is not ours.
revoke all
on function
  tourbillon.clock,
  tourbillon.transaction_clock,
  tourbillon.require_read_committed,
  tourbillon.require_nothing_written,
  tourbillon.raise_undefined,
  tourbillon.queue_named,
  tourbillon.create_queue,
  tourbillon.subscribe,
  tourbillon.last_event,
  tourbillon.is_idle,
  tourbillon.tick,
  tourbillon.snapshot_at,
  tourbillon.window_query,
  tourbillon.window_has_events,
  tourbillon.horizon,
  tourbillon.holds_later,
  tourbillon.rotate_oldest,
  tourbillon.rotate,
  tourbillon.require_kind,
  tourbillon.insert_event,
  tourbillon.append,
  tourbillon.start,
  tourbillon.raise_stale_token,
  tourbillon.register,
  tourbillon.heartbeat,
  tourbillon.claim,
  tourbillon.raise_window_open,
  tourbillon.open_window,
  tourbillon.read,
  tourbillon.hold,
  tourbillon.window_event_ids,
  tourbillon.require_decisions,
  tourbillon.handoff
from public;
