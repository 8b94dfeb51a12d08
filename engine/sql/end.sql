-- The end of workflows: what goes with them, and whom it concerns.
--
-- Internal: reports_of, end_workflows, is_free_to_end, resume, end_and_resume.

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

-- Whether a workflow can be ended now without waiting: nobody else has its live row, or there is none.
create function tourbillon.is_free_to_end(p_workflow uuid)
returns boolean
language plpgsql
volatile
as $$
begin
  perform
  from tourbillon.workflow f
  where f.workflow_id = p_workflow
  for update skip locked;
  return found or not exists (select from tourbillon.workflow f where f.workflow_id = p_workflow);
end;
$$;

-- What was waited for is here: appends the continuations. Those that cannot become events because of what they are, are dead
-- letters, end their workflows and keep nobody: it may be that by this the parents go on, or cannot either. A workflow
-- whose live row somebody else has is waited for, or, if so asked, left as it was: it is in neither list.
create function tourbillon.resume(
  p_queue_id int,
  p_table int,
  p_events tourbillon.event[],
  p_leaves_locked boolean,
  out resumed bigint[],
  out undeliverable bigint[]
)
returns record
language plpgsql
volatile
as $$
declare
  v_events tourbillon.event[] := p_events;
  v_event tourbillon.event;
  v_ended tourbillon.ending[];
  v_reports tourbillon.result[];
begin
  resumed := '{}';
  undeliverable := '{}';
  while v_events <> '{}' loop
    v_ended := '{}';
    -- guard: drain_poison begin
    begin
    -- guard: drain_poison end
      perform tourbillon.append_events(p_queue_id, p_table, v_events);
      resumed := resumed || array(select e.event_id from unnest(v_events) e);
    -- guard: drain_poison begin
    exception
      when data_exception or integrity_constraint_violation or program_limit_exceeded or raise_exception then
        foreach v_event in array v_events loop
          begin
            perform tourbillon.append_events(p_queue_id, p_table, array[v_event]);
            resumed := resumed || v_event.event_id;
          exception
            when data_exception or integrity_constraint_violation or program_limit_exceeded or raise_exception then
              if not p_leaves_locked or tourbillon.is_free_to_end(v_event.workflow_id) then
                perform tourbillon.bury_undeliverable(p_queue_id, v_event);
                undeliverable := undeliverable || v_event.event_id;
                v_ended := v_ended || row (v_event.workflow_id, 'dead', null)::tourbillon.ending;
              end if;
          end;
        end loop;
    end;
    -- guard: drain_poison end

    exit when v_ended = '{}';
    v_reports := tourbillon.end_workflows(v_ended);
    -- Others are locked already, so in no order that everybody keeps: whoever would have to wait begins anew.
    -- guard: join_lock begin
    perform
    from tourbillon.open_join j
    where j.join_id in (select r.join_id from unnest(v_reports) r)
    order by j.join_id
    for update nowait;
    -- guard: join_lock end
    v_events := tourbillon.report_ends(v_reports);
  end loop;
end;
$$;

-- As end_workflows, where nothing else is to be appended: parents go on at once.
create function tourbillon.end_and_resume(
  p_queue_id int,
  p_ended tourbillon.ending[],
  out resumed bigint[],
  out undeliverable bigint[],
  out event_table smallint
)
returns record
language plpgsql
volatile
as $$
declare
  v_complete tourbillon.event[] := tourbillon.report_ends(tourbillon.end_workflows(p_ended));
begin
  if v_complete <> '{}' then
    event_table := tourbillon.current_table(p_queue_id);
  end if;
  select r.resumed, r.undeliverable
  into end_and_resume.resumed, end_and_resume.undeliverable
  from tourbillon.resume(p_queue_id, event_table, v_complete, false) r;
end;
$$;
