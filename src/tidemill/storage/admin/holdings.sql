-- Where the rows of a table are: in the hypertable, among the late rows, in the lake.

-- name: slice_counts
-- Files are (path, bytes, rows, digest); a copy that was reported only by its location has none.
select table_name, state, held_from, count(*) as slices, coalesce(sum(row_count), 0)::bigint as rows,
       min(sealed_at) as oldest_seal,
       coalesce(sum((select sum((file->>1)::bigint) from jsonb_array_elements(copy->'files') as file)), 0)::bigint as lake_bytes
from tm.archive where table_name = any($1::text[])
group by table_name, state, held_from order by table_name, state, held_from

-- name: late_tables
-- The table of late rows of each table that has one.
select wanted as table_name, to_regclass(tm.late_table(wanted))::text as late, pg_total_relation_size(to_regclass(tm.late_table(wanted))) as bytes
from unnest($1::text[]) as wanted where to_regclass(tm.late_table(wanted)) is not null

-- name: hot
-- The oldest end is not that of restored rows. A chunk that is dropped meanwhile is in this snapshot's catalogue, but gone.
-- Compressed rows are in another table.
select format('%s.%s', hypertable_schema, hypertable_name) as table_name,
       coalesce(sum(pg_total_relation_size(to_regclass(format('%I.%I', chunk_schema, chunk_name)))), 0)::bigint
       + coalesce(sum(pg_total_relation_size(packed.compress_relid)), 0)::bigint as bytes,
       min(range_end) filter (where not exists (
         select from tm.archive a where a.table_name = format('%s.%s', hypertable_schema, hypertable_name)
           and a.range_start = c.range_start and 'restored' in (a.state, a.held_from))) as oldest_end
from timescaledb_information.chunks c
left join _timescaledb_catalog.compression_settings packed
  on packed.relid = to_regclass(format('%I.%I', c.chunk_schema, c.chunk_name))
where format('%s.%s', hypertable_schema, hypertable_name) = any($1::text[]) group by 1

-- name: mismatches
select table_name, count(*) as times from tm.archive_trail
where after = 'quarantined' and before <> 'held' and table_name = any($1::text[]) group by 1
