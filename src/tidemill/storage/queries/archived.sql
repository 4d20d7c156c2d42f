-- What of a table of facts is not in it: see `queries/archived.py`.

-- name: archive_mark
-- All that changes the registry holds the archive's lane, so entries of the trail are in the order of their commits.
select coalesce((select max(entry) from tm.archive_trail), 0) as entry, to_regclass($1) is not null as has_late

-- name: ranges_left
-- $1 the table, $2 the mark, $3 and $4 the span. A slice that was opened since the mark may have got late rows back.
select range_start, range_end from tm.archive a
where a.table_name = $1 and ($3::timestamptz is null or a.range_end > $3) and ($4::timestamptz is null or a.range_start < $4)
  and (a.state = 'dropped' or exists (
    select from tm.archive_trail t where t.entry > $2::bigint and t.table_name = a.table_name
      and t.range_start = a.range_start and t.generation = a.generation
      and ('dropped' in (t.before, t.after) or t.after = 'aborted')))

-- name: command_applied
select exists (
  select from tm.log g join tm.lane l on l.lane = g.lane
  where g.command_id = $1 and g.outcome = 'a' and coalesce(g.rows, 1) > 0 and l.aggregate = $2)
