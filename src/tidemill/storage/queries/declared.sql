-- What a declared query reads.

-- name: relations_read
-- Asked in the transaction that has planned it: what this session has locked, views included, beside $1 and what its
-- views are made of. Locks of a hypertable's chunks, and of the catalogue, do not count.
with recursive allowed as (
  select to_regclass(named)::oid as oid from unnest($1::text[]) as named
  union
  select d.refobjid from allowed a
  join pg_rewrite r on r.ev_class = a.oid
  join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
  where d.refobjid <> a.oid)
select distinct l.relation::regclass::text as name
from pg_locks l join pg_class c on c.oid = l.relation join pg_namespace n on n.oid = c.relnamespace
where l.pid = pg_backend_pid() and l.locktype = 'relation' and c.relkind in ('r', 'v', 'm', 'p', 'f')
  and l.database = (select oid from pg_database where datname = current_database())
  and n.nspname not in ('pg_catalog', 'pg_toast') and not starts_with(n.nspname, '_timescaledb_')
  and l.relation not in (select oid from allowed where oid is not null)
order by 1
