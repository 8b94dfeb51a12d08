-- Nothing is for PUBLIC: roles.sql says what two roles may do, and whoever installs may grant it to others. The schema was
-- empty before, so all that is in it is ours.

revoke all on all functions in schema tourbillon from public;
revoke all on all tables in schema tourbillon from public;
revoke all on all sequences in schema tourbillon from public;

-- A row of a table or of a view is a type, too. Arrays have the privileges of their elements.
do $$
declare
  v_type regtype;
begin
  for v_type in
    select t.oid
    from pg_type t
    where t.typnamespace = 'tourbillon'::regnamespace
    and t.typelem = 0
  loop
    execute format('revoke all on type %s from public', v_type);
  end loop;
end;
$$;
