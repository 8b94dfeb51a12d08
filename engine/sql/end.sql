-- The end of workflows: what goes with them, and whom it concerns.
--
-- Internal: end_workflows, end_and_resume.

-- Live rows are locked in the order of their ids, then deleted, and with them what was promised and what emits were
-- answered. Gives back what those that are children report to their joins.
create function tourbillon.end_workflows(p_ended tourbillon.ending[])
returns tourbillon.result[]
language plpgsql
volatile
as $$
declare
  v_workflow uuid[] := array(select e.workflow_id from unnest(p_ended) e);
  v_reports tourbillon.result[];
begin
  perform
  from tourbillon.workflow f
  where f.workflow_id = any (v_workflow)
  order by f.workflow_id
  for update;

  with emits as (
    delete from tourbillon.emitted e
    where e.workflow_id = any (v_workflow)
  ), promises as (
    delete from tourbillon.box b
    where b.workflow_id = any (v_workflow)
  ), ended as (
    delete from tourbillon.workflow f
    using unnest(p_ended) with ordinality e (workflow_id, outcome, result, position)
    where f.workflow_id = e.workflow_id
    returning f.join_id, f.child_index, e.outcome, e.result, e.position
  )
  select array_agg(row (e.join_id, e.child_index, e.outcome, e.result)::tourbillon.result order by e.position)
  into v_reports
  from ended e
  where e.join_id is not null; -- guard: dead_letter_reports
  -- without dead_letter_reports: where e.join_id is not null and e.outcome <> 'dead';
  return coalesce(v_reports, '{}');
end;
$$;

-- As end_workflows, where nothing else is to be appended: parents go on at once.
create function tourbillon.end_and_resume(
  p_queue_id int,
  p_ended tourbillon.ending[],
  out resumed bigint[],
  out event_table smallint
)
returns record
language plpgsql
volatile
as $$
declare
  v_complete tourbillon.event[] := tourbillon.report_ends(tourbillon.end_workflows(p_ended));
begin
  resumed := array(select e.event_id from unnest(v_complete) e);
  if resumed <> '{}' then
    event_table := tourbillon.current_table(p_queue_id);
    perform tourbillon.append_events(p_queue_id, event_table, v_complete);
  end if;
end;
$$;
