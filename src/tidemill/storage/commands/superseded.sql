-- The statements about where facts of superseded revisions may be removed.

-- name: removable_parts
-- Of the table $1, in SQL $2. Where a range is closed, the archive has counted the rows, or will not expect any; a hold is
-- on all rows; a row of a compressed chunk has no place.
select format('%I.%I', c.chunk_schema, c.chunk_name) as name, c.range_start, c.range_end
from timescaledb_information.chunks c
where format('%s.%s', c.hypertable_schema, c.hypertable_name) = $1 and not c.is_compressed
  and not exists (select from tm.archive a where a.table_name = $1 and a.closed
                  and a.range_start < c.range_end and a.range_end > c.range_start)
  and not exists (select from tm.archive_hold h where h.table_name = $1
                  and coalesce(h.range_start < c.range_end, true) and coalesce(h.range_end > c.range_start, true))
union all
select $2, null, null
where not exists (select from timescaledb_information.hypertables h
                  where format('%s.%s', h.hypertable_schema, h.hypertable_name) = $1)
order by 2, 1
