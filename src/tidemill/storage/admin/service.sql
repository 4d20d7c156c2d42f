-- The catalogue's facts about the tables of collections, and what the server says of itself. $1, $2: schemas and names.

-- name: service_tables
select n.nspname as schema, c.relname as name
from unnest($1::text[], $2::text[]) as wanted (schema, name)
join pg_namespace n on n.nspname = wanted.schema join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name

-- name: service_columns
select n.nspname as schema, c.relname as table, a.attname as name, format_type(a.atttypid, a.atttypmod) as type,
       case when a.attgenerated = '' then pg_get_expr(d.adbin, d.adrelid) end as default
from unnest($1::text[], $2::text[]) as wanted (schema, name)
join pg_namespace n on n.nspname = wanted.schema join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
order by c.oid, a.attnum

-- name: service_constraints
-- Not-null ones aside, which are said of the column. A constraint that names no column is not one of the table's rows.
select n.nspname as schema, c.relname as table, pg_get_constraintdef(k.oid, true) as definition,
       array(select a.attname from unnest(k.conkey) with ordinality as key (num, at)
             join pg_attribute a on a.attrelid = c.oid and a.attnum = key.num order by key.at) as columns
from unnest($1::text[], $2::text[]) as wanted (schema, name)
join pg_namespace n on n.nspname = wanted.schema join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
join pg_constraint k on k.conrelid = c.oid and k.contype in ('c', 'u', 'p', 'f') and k.conkey is not null
order by c.oid, k.conname

-- name: service_indexes
select n.nspname as schema, c.relname as table, i.relname as name,
       array(select coalesce(a.attname, pg_get_indexdef(x.indexrelid, at, true)) from generate_series(1, x.indnkeyatts) as at
             left join pg_attribute a on a.attrelid = x.indrelid and a.attnum = x.indkey[at - 1] order by at) as columns,
       x.indisunique as unique, x.indpred is null and x.indexprs is null and x.indnatts = x.indnkeyatts as plain
from unnest($1::text[], $2::text[]) as wanted (schema, name)
join pg_namespace n on n.nspname = wanted.schema join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
join pg_index x on x.indrelid = c.oid and x.indisvalid and x.indisready join pg_class i on i.oid = x.indexrelid
order by c.oid, i.relname

-- name: service_hypertables
select h.hypertable_schema as schema, h.hypertable_name as table, d.column_name as time_column,
       d.time_interval::text as chunk_interval, h.compression_enabled, h.num_chunks::int as chunks,
       (select max(c.chunk_creation_time) from timescaledb_information.chunks c
        where c.hypertable_schema = h.hypertable_schema and c.hypertable_name = h.hypertable_name) as last_chunk_created
from unnest($1::text[], $2::text[]) as wanted (schema, name)
join timescaledb_information.hypertables h on h.hypertable_schema = wanted.schema and h.hypertable_name = wanted.name
join timescaledb_information.dimensions d on d.hypertable_schema = wanted.schema and d.hypertable_name = wanted.name
  and d.dimension_number = 1 and d.time_interval is not null

-- name: service_chunks
-- $3: how many of each, newest first. One that is dropped meanwhile has no size.
select c.hypertable_schema as schema, c.hypertable_name as table, format('%s.%s', c.chunk_schema, c.chunk_name) as chunk_name,
       c.range_start, c.range_end, c.is_compressed as compressed,
       coalesce(pg_total_relation_size(to_regclass(format('%I.%I', c.chunk_schema, c.chunk_name))), 0) as size_bytes
from unnest($1::text[], $2::text[]) as wanted (schema, name)
cross join lateral (
  select * from timescaledb_information.chunks c
  where c.hypertable_schema = wanted.schema and c.hypertable_name = wanted.name and c.range_start is not null
  order by c.range_start desc limit $3::int) as c

-- name: service_aggregates
select v.hypertable_schema as schema, v.hypertable_name as table, format('%s.%s', v.view_schema, v.view_name) as view_name,
       v.materialized_only as materialized,
       case when j.job_id is not null then
         jsonb_build_object('schedule_interval', j.schedule_interval, 'start_offset', j.config -> 'start_offset',
                            'end_offset', j.config -> 'end_offset') end as refresh_policy
from unnest($1::text[], $2::text[]) as wanted (schema, name)
join timescaledb_information.continuous_aggregates v
  on v.hypertable_schema = wanted.schema and v.hypertable_name = wanted.name
left join timescaledb_information.jobs j on j.proc_name = 'policy_refresh_continuous_aggregate'
  and (j.hypertable_schema, j.hypertable_name) in (
    (v.view_schema, v.view_name), (v.materialization_hypertable_schema, v.materialization_hypertable_name))
order by view_name

-- name: service_branches
select branch, min(applied_at) as first_applied from public.tidemill_migration group by branch

-- name: service_sizes
-- By the statistics of autovacuum and ANALYZE: no row is read. The rows of a hypertable are those of its chunks.
select n.nspname as schema, c.relname as table,
       case when of_chunks.chunks > 0 then of_chunks.rows
            when exists (select from timescaledb_information.hypertables h
                         where h.hypertable_schema = n.nspname and h.hypertable_name = c.relname) then 0
            when c.relkind in ('r', 'p') and c.reltuples >= 0 then c.reltuples::bigint end as rows,
       case when c.relkind in ('r', 'p', 'm') then pg_total_relation_size(c.oid) else 0 end
         + coalesce(of_chunks.bytes, 0) as bytes,
       coalesce(of_chunks.chunks, 0)::int as chunks
from unnest($1::text[], $2::text[]) as wanted (schema, name)
join pg_namespace n on n.nspname = wanted.schema join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
cross join lateral (
  select count(*) as chunks, sum(pg_total_relation_size(k.oid))::bigint as bytes,
         sum(k.reltuples) filter (where k.reltuples >= 0)::bigint as rows
  from timescaledb_information.chunks h join pg_namespace s on s.nspname = h.chunk_schema
  join pg_class k on k.relnamespace = s.oid and k.relname = h.chunk_name
  where h.hypertable_schema = n.nspname and h.hypertable_name = c.relname) as of_chunks

-- name: service_server
select current_database() as database, (select extversion from pg_extension where extname = 'timescaledb') as timescaledb,
       (select count(*) from pg_stat_activity where datname = current_database() and state = 'active')::int as active
