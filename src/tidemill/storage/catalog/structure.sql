-- The catalogue's facts about the declared tables of contexts, for all of them at once.

-- name: tables
-- By name and not by regclass, which refuses the names of a schema that this login may not use. Rights are those of the
-- role $3, if there is such a role, or else of the present login.
select n.nspname as schema, c.relname as name, c.relkind as kind, role.rolname as login,
       array_remove(array[
         case when has_schema_privilege(whose.oid, n.oid, 'usage') then 'usage' end,
         case when has_table_privilege(whose.oid, c.oid, 'select') then 'select' end,
         case when has_table_privilege(whose.oid, c.oid, 'insert') then 'insert' end,
         case when has_table_privilege(whose.oid, c.oid, 'update') then 'update' end,
         case when has_table_privilege(whose.oid, c.oid, 'delete') then 'delete' end], null) as rights,
       array_remove(array[
         case when has_schema_privilege(reader.oid, n.oid, 'usage') then 'usage' end,
         case when has_any_column_privilege(reader.oid, c.oid, 'select') then 'select' end], null) as readers,
       exists (select from pg_class l join pg_namespace s on s.oid = l.relnamespace
               where s.nspname = 'tm_late' and l.relname = n.nspname || '__' || c.relname) as late,
       (select d.column_name from timescaledb_information.dimensions d
        where d.hypertable_schema = n.nspname and d.hypertable_name = c.relname and d.dimension_number = 1) as divided_by,
       case when c.relkind = 'v' then pg_get_viewdef(c.oid, true) end as definition
from unnest($1::text[], $2::text[]) as wanted (schema, name)
join pg_namespace n on n.nspname = wanted.schema join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
left join pg_roles role on role.rolname = $3::text
join pg_roles whose on whose.rolname = coalesce(role.rolname, current_user)
left join pg_roles reader on reader.rolname = 'tidemill_reader'

-- name: columns
-- A domain is its base type: its other conditions are checks like any other.
with recursive wanted as (
  select c.oid, n.nspname, c.relname
  from unnest($1::text[], $2::text[]) as wanted (schema, name)
  join pg_namespace n on n.nspname = wanted.schema join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name),
plain as (
  select a.attrelid, a.attnum, a.atttypid as type, a.atttypmod as modifier
  from wanted join pg_attribute a on a.attrelid = wanted.oid and a.attnum > 0 and not a.attisdropped
  union all
  select p.attrelid, p.attnum, t.typbasetype, greatest(p.modifier, t.typtypmod)
  from plain p join pg_type t on t.oid = p.type and t.typtype = 'd')
select wanted.nspname as schema, wanted.relname as table, a.attname as name, format_type(p.type, null) as type,
       substring(format_type(p.type, p.modifier) from '[(]([^)]*)[)]') as lengths,
       not a.attnotnull as nullable, a.atthasdef or a.attidentity <> '' as made, a.attgenerated <> '' as computed,
       array_remove(array[
         case when has_column_privilege(whose.oid, a.attrelid, a.attnum, 'select') then 'select' end,
         case when has_column_privilege(whose.oid, a.attrelid, a.attnum, 'insert') then 'insert' end,
         case when has_column_privilege(whose.oid, a.attrelid, a.attnum, 'update') then 'update' end], null) as rights
from wanted join pg_attribute a on a.attrelid = wanted.oid join plain p using (attrelid, attnum)
left join pg_roles role on role.rolname = $3::text
join pg_roles whose on whose.rolname = coalesce(role.rolname, current_user)
join pg_type t on t.oid = p.type and t.typtype <> 'd'
order by a.attrelid, a.attnum

-- name: indexes
select n.nspname as schema, c.relname as table, i.relname as name,
       array(select coalesce(a.attname, pg_get_indexdef(x.indexrelid, at, true)) from generate_series(1, x.indnkeyatts) as at
             left join pg_attribute a on a.attrelid = x.indrelid and a.attnum = x.indkey[at - 1] order by at) as columns,
       array(select x.indkey[at - 1] <> 0 from generate_series(1, x.indnkeyatts) as at order by at) as plain,
       m.amname as method,
       x.indisunique as unique, pg_get_expr(x.indpred, x.indrelid) as where,
       x.indisvalid and x.indisready as valid, x.indimmediate as immediate
from unnest($1::text[], $2::text[]) as wanted (schema, name)
join pg_namespace n on n.nspname = wanted.schema join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
join pg_index x on x.indrelid = c.oid join pg_class i on i.oid = x.indexrelid join pg_am m on m.oid = i.relam
order by c.oid, i.relname

-- name: types
-- The server's names of types that can be written in many ways; null for an unknown one.
select written, format_type(to_regtype(written), null) as type, substring(written from '[(]([^)]*)[)]') as lengths
from unnest($1::text[]) as written
