-- The end of workflows: what goes with them, and whom it concerns.
--
-- Internal: reports_of, end_workflows, end_and_resume.

-- What ended children report, in the order in which they ended.
create function tourbillon.reports_of(p_ended tourbillon.ending[], p_children tourbillon.workflow[])
returns tourbillon.result[]
language plpgsql
volatile
set plan_cache_mode = force_custom_plan
as $$
begin
  return array(
    select row (f.join_id, f.child_index, e.outcome, e.result)::tourbillon.result
    from unnest(p_ended) with ordinality e (workflow_id, outcome, result, position)
    join unnest(p_children) f on f.workflow_id = e.workflow_id
    -- without dead_letter_reports: where e.outcome <> 'dead'
    order by e.position);
end;
$$;

-- Live rows are locked in the order of their ids, then deleted, and with them what was promised and what emits were
-- answered. Gives back what those that are children report to their joins.
create function tourbillon.end_workflows(p_ended tourbillon.ending[])
returns tourbillon.result[]
language plpgsql
volatile
as $$
declare
  v_workflow uuid[] := array(select e.workflow_id from unnest(p_ended) e);
  v_children tourbillon.workflow[];
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
    where f.workflow_id = any (v_workflow)
    returning f.*
  )
  select array_agg(row (f.*)::tourbillon.workflow)
  into v_children
  from ended f
  where f.join_id is not null;
  if v_children is null then
    return '{}';
  end if;
  return tourbillon.reports_of(p_ended, v_children);
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
