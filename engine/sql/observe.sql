-- What live workflows wait for.
--
--   observe   how many of a queue are ready, sleeping, waiting, joining

-- In one statement, so that each workflow is counted once, at one time. What owns no timer, no wait and no open join owns
-- an event. Costs what is live, for people and dashboards.
create function tourbillon.observe(
  p_queue text,
  out ready bigint,
  out sleeping bigint,
  out waiting bigint,
  out joining bigint
)
returns record
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_queue_id int := (tourbillon.queue_named(p_queue)).queue_id;
  v_live bigint;
begin
  execute format(
    'select
      (select count(*) from tourbillon.workflow f where f.queue_id = $1),
      (
        select count(*)
        from (select * from tourbillon.timer_%1$s_0 union all select * from tourbillon.timer_%1$s_1) t
        join tourbillon.drain d on d.queue_id = $1
        where t.workflow_id is not null
        and not tourbillon.is_delivered(d, t.due, t.event_id, t.xid)
      ),
      (select count(*) from tourbillon.box b where b.queue_id = $1 and b.kind = ''wait''),
      (select count(*) from tourbillon.open_join j where j.queue_id = $1)',
    v_queue_id)
  into v_live, sleeping, waiting, joining
  using v_queue_id;
  ready := v_live - sleeping - waiting - joining;
end;
$$;
