-- Nothing is executable by PUBLIC: whoever installs grants what a role needs.
--   worker: register, heartbeat, claim, read, hold, handoff, and the duties tick and rotate
--   client: append, start
revoke all on all functions in schema tourbillon from public;
