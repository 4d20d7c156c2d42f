-- The statements of the journal.

-- name: server_time
select clock_timestamp() as at

-- name: append_entries
-- One statement, so that all rows are stored or none.
insert into tm.journal
  (writer, number, at, kind, principal, action, collection, command_id, of_writer, of_number, detail, hash)
select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[],
                     $9::uuid[], $10::bigint[], $11::jsonb[], $12::bytea[])

-- name: entry_hash
select hash from tm.journal where writer = $1 and number = $2

-- name: count_entries
select count(*) from tm.journal

-- name: walk_entries
-- A time that Python does not know was put there by a change, and is null: so its hash does not follow.
select writer, number, case when at between '0001-01-02' and '9999-12-30' then at end as at, kind, principal, action,
       collection, command_id, of_writer, of_number, detail::text as detail, hash
from tm.journal order by writer, number

-- name: open_intents
-- The id of a command is unique within a generation of the log; of several the first decided.
select i.writer, i.number, i.at, i.kind, i.principal, i.action, i.collection, i.command_id, i.of_writer, i.of_number,
       i.detail::text as detail, i.hash, g.outcome, g.code, g.at as logged_at,
       (select min(opened_at) from tm.generation where to_regclass(format('tm.log_%s', gen)) is not null) as log_begins
from tm.journal i
left join lateral (
  select outcome, code, at from tm.log where log.command_id = i.command_id order by gen limit 1) as g on true
where i.kind = 'intent'
  and not exists (select from tm.journal o where o.of_writer = i.writer and o.of_number = i.number)
order by i.writer, i.number
