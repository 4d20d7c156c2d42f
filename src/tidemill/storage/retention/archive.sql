-- The statements of the archive's registry.

-- name: slice
select * from tm.archive where table_name = $1 and range_start = $2 and generation = $3

-- name: slices_of_table
select * from tm.archive where table_name = $1 order by range_start, generation

-- name: slices_of_event
select * from tm.archive where event_id = $1 or superseded @> array[$1] order by range_start, generation

-- name: dropped_under
-- From the trail: a slice that was restored and changed has another state now, and later another request.
select a.* from tm.archive a where exists (
  select from tm.archive_trail t where t.event_id = $1 and t.after = 'dropped'
    and t.table_name = a.table_name and t.range_start = a.range_start and t.generation = a.generation)

-- name: slices_of_range
select * from tm.archive where table_name = $1 and range_start = $2 order by generation

-- name: store_new
insert into tm.archive (table_name, range_start, range_end, generation, state, closed, since, source, chunk, size_bytes,
                        columns, seal, sealed_at, row_count, digest, min_time, max_time, event_id, attempt, deadline,
                        superseded, copy, verified, held_from, restore_until, reason, compressed,
                        left_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27,
        $28)
on conflict do nothing returning generation

-- name: store
-- Compare and set: another step of the same slice has changed state, seal or attempt, or its deadline.
update tm.archive set range_end = $3, state = $5, closed = $6, since = $7, source = $8, chunk = $9, size_bytes = $10,
  columns = $11, seal = $12, sealed_at = $13, row_count = $14, digest = $15, min_time = $16, max_time = $17, event_id = $18,
  attempt = $19, deadline = $20, superseded = $21, copy = $22, verified = $23, held_from = $24, restore_until = $25,
  reason = $26, compressed = $27, left_at = $28
where table_name = $1 and range_start = $2 and generation = $4 and state = $29 and seal = $30 and attempt = $31
returning generation

-- name: trail
insert into tm.archive_trail (table_name, range_start, generation, before, after, event_id, who, why)
values ($1, $2, $3, $4, $5, $6, $7, $8)

-- name: trail_of
select before, after, event_id, who, why, at from tm.archive_trail
where table_name = $1 and range_start = $2 and generation = $3 order by entry

-- name: holds
select table_name, range_start, range_end, reason, who, since from tm.archive_hold where table_name = $1 order by hold

-- name: add_hold
insert into tm.archive_hold (table_name, range_start, range_end, reason, who, since) values ($1, $2, $3, $4, $5, $6)

-- name: remove_holds
delete from tm.archive_hold
where table_name = $1 and ($2::timestamptz is null or range_start >= $2) and ($3::timestamptz is null or range_end <= $3)
returning table_name, range_start, range_end, reason, who, since

-- name: lock_ranges
select tm.lock_ranges($1)

-- name: lock_slice
call tm.lock_slice($1, $2)

-- name: freeze_slice
call tm.freeze_slice($1, $2, $3)

-- name: can_freeze
select tm.can_freeze()

-- name: drop_slice
call tm.drop_slice($1, $2, $3)

-- name: registry
-- A dump restored elsewhere, or a database created from this one as its template, is another registry.
select concat_ws('/', registry, (select system_identifier from pg_control_system()),
                 (select oid from pg_database where datname = current_database()))
from tm.archive_registry

-- name: chunks
-- A chunk that is dropped meanwhile is in this snapshot's catalogue, but gone. Compressed rows are in another
-- table; indexes do not count.
select format('%I.%I', c.chunk_schema, c.chunk_name) as chunk, c.range_start, c.range_end, c.is_compressed, activity.since as last_write,
       coalesce(pg_table_size(to_regclass(format('%I.%I', c.chunk_schema, c.chunk_name))), 0)
       + coalesce(pg_table_size(packed.compress_relid), 0) as size_bytes
from timescaledb_information.chunks c
left join _timescaledb_catalog.compression_settings packed
  on packed.relid = to_regclass(format('%I.%I', c.chunk_schema, c.chunk_name))
left join tm.archive_activity activity on activity.chunk = format('%I.%I', c.chunk_schema, c.chunk_name)
where format('%s.%s', c.hypertable_schema, c.hypertable_name) = $1 order by c.range_start

-- name: database_name
select current_database()

-- name: note_writes
-- Backends report their writes some seconds late, and a reset count is treated as a write: both only delay it.
with old as (
  select format('%I.%I', c.chunk_schema, c.chunk_name) as chunk,
         to_regclass(format('%I.%I', c.chunk_schema, c.chunk_name)) as rows_of, packed.compress_relid as packed_in
  from timescaledb_information.chunks c
  left join _timescaledb_catalog.compression_settings packed
    on packed.relid = to_regclass(format('%I.%I', c.chunk_schema, c.chunk_name))
  where format('%s.%s', c.hypertable_schema, c.hypertable_name) = $1 and c.range_end <= $2
), counted as (
  select chunk, sum(pg_stat_get_tuples_inserted(part) + pg_stat_get_tuples_updated(part)
                    + pg_stat_get_tuples_deleted(part)) as writes
  from old cross join unnest(array[rows_of, packed_in]) as part where part is not null group by 1
), forgotten as (
  delete from tm.archive_activity a
  where a.table_name = $1 and not exists (select from counted where counted.chunk = a.chunk)
)
insert into tm.archive_activity as a (chunk, table_name, writes, since)
select chunk, $1, writes, clock_timestamp() from counted
on conflict (chunk) do update set writes = excluded.writes, since = excluded.since where a.writes <> excluded.writes

-- name: has_late
select to_regclass(tm.late_table($1)) is not null

-- name: late_unfit
select tm.late_unfit($1)

-- name: views
-- Jobs of a view are listed under its materialisation's name, or under its own, depending on the version.
select format('%I.%I', v.view_schema, v.view_name) as view,
       case when bool_and(j.config->>'start_offset' is not null)
         then max(now() - (now() - (j.config->>'start_offset')::interval)) end as reaches_back
from timescaledb_information.continuous_aggregates v
left join timescaledb_information.jobs j on j.proc_name = 'policy_refresh_continuous_aggregate'
  and (j.hypertable_schema, j.hypertable_name) in ((v.view_schema, v.view_name),
                                                   (v.materialization_hypertable_schema, v.materialization_hypertable_name))
where format('%s.%s', v.hypertable_schema, v.hypertable_name) = $1 group by 1 order by 1

-- name: drop_jobs
select job_id, coalesce(config->>'drop_after', config->>'drop_created_before') as after
from timescaledb_information.jobs
where proc_name = 'policy_retention' and format('%s.%s', hypertable_schema, hypertable_name) = $1 order by 1

-- name: shared_columns
-- The columns of a late row for the hypertable; generated ones are generated again.
select string_agg(quote_ident(h.name), ', ' order by h.attnum)
from tm.column_rules($1::text::regclass) as h join tm.column_rules($2::text::regclass) as l using (name)
where not h.generated

-- name: is_connected
select exists (select from pg_stat_activity where datname = current_database() and application_name = $1)
