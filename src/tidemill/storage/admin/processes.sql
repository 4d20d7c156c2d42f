-- The statements about processes that serve.

-- name: note_process
-- Two processes may remove the same rows at once: neither waits for the other.
with gone as (
  delete from tm.process where process in (
    select process from tm.process where at < clock_timestamp() - interval '10 minutes' and process <> $1
    for update skip locked))
insert into tm.process (process, names, version, open_files, file_limit) values ($1, $2::text[], $3, $4, $5)
on conflict (process) do update set names = excluded.names, open_files = excluded.open_files,
  file_limit = excluded.file_limit, at = clock_timestamp()

-- name: forget_process
delete from tm.process where process = $1

-- name: processes
-- A dead process leaves a row that is soon too old; one that reports nothing is found by its connections' names.
with told as (
  select * from tm.process where at > clock_timestamp() - interval '2 minutes'),
held as (
  select application_name as name, count(*)::int as held from pg_stat_activity
  where datname = current_database() and application_name ~ '^tidemill (all|commands|projections|retention|archiver) '
  group by 1)
select t.process, coalesce((select sum(held.held) from held where held.name = any(t.names)), 0)::int as connections,
       t.version, t.open_files, t.file_limit, t.started_at, t.at
from told t
union all
select held.name, held.held, null, null, null, null, null from held
where not exists (select from told t where held.name = any(t.names))
order by 1
