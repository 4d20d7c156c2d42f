-- The statements of the relay: what it reads and stores.

-- name: read_packs
-- The next packs after $2, the first one whatever its size, others up to $3 positions and $4 bytes, or eight times as many
-- unpacked, as they may be sent; `rows_first`: whether a row of the outbox comes first. Parked records count, since they
-- are loaded together; headers as they are stored.
-- The outbox is named first everywhere: a drop of a generation locks it and the packs in this order, too.
select coalesce(asked.row < coalesce(p.first_position, 9223372036854775807), false) as rows_first,
       p.first_position, p.position, p.sequence_before, p.sequence, p.moved_positions, p.moved_sequences, p.timeline,
       p.chain_before, p.chain, p.event_id, p.at, p.seconds, p.first_offset, p.offsets, p.rows, p.parked, p.parked_sequences,
       p.unpacked_bytes, p.events, p.outcomes
from (
  select (select position from tm.outbox where lane = $1 and position > $2 order by position limit 1) as row) as asked
left join (
  select *, position - greatest(min(first_position) over in_order - 1, $2) as positions,
         sum(coalesce(octet_length(events), 0) + octet_length(outcomes) + case when parked is null then 0 else (
               select coalesce(sum(coalesce(octet_length(k.value), 0) + pg_column_size(k.headers)), 0) from tm.parked k
               where k.lane = $1 and k.position between next.first_position and next.position) end) over in_order as bytes,
         sum(unpacked_bytes) over in_order as unpacked, row_number() over in_order as number
  from (select * from tm.pack where lane = $1 and position > $2 order by position limit 500) as next
  window in_order as (order by position)) as p
on p.number = 1 or (p.positions <= $3 and p.bytes <= $4 and p.unpacked <= 8 * $4)
order by p.position

-- name: read_outbox
-- Whole positions only, and none behind the next pack. A decision without a record has no offset: -1 in messages, and here for processes of 0.1.0.
-- octet_length of a stored value does not read the value, so counting bytes is cheap; headers are read to be counted,
-- and therefore only up to the record with which they alone exceed the bytes ("heavy").
with first as (
  select position from tm.outbox where lane = $1 and position > $2 order by position limit 1),
heavy as (
  select position from (
    select p.position, sum(counted.bytes) over (order by p.position) as bytes
    from (select p.position from tm.parked p, first
          where p.lane = $1 and p.position >= first.position and p.position < first.position + $3
          order by p.position) as p
    cross join lateral (
      select octet_length(kept.headers::text) as bytes from tm.parked kept
      where kept.lane = $1 and kept.position = p.position offset 0) as counted) as summed
  where bytes > $4 limit 1)
select o.position, o.item, o.outcome, o.original, o.code, o.detail, o.command_id::text, o.service, o.correlation, o.sequence,
       o.at, o.seconds, coalesce(o.record_offset, -1) as record_offset, o.key, o.event_type, o.payload, o.chain, o.trace, o.client_id,
       o.rows
from first, (
  select rows.*, sum(coalesce(octet_length(rows.key), 0) + coalesce(octet_length(rows.payload), 0)
           + case when rows.outcome = 'p' then coalesce((
               select coalesce(octet_length(p.value), 0) + octet_length(p.headers::text)
               from tm.parked p where p.lane = rows.lane and p.position = rows.position), 0)
             else 0 end) over (order by rows.position) as bytes
  from first, tm.outbox as rows
  where rows.lane = $1 and rows.position >= first.position
    and rows.position < coalesce((select greatest(heavy.position, first.position + 1) from heavy), first.position + $3)
    and rows.position < coalesce((
      select p.first_position from tm.pack p where p.lane = $1 and p.position > $2 order by p.position limit 1),
      9223372036854775807)) as o
where o.bytes <= $4 or o.position = first.position
order by o.position, o.item

-- name: parked_records
-- A value that alone exceeds the limit is left out, as from a letter; headers are counted as text, which is longer.
select position, topic, partition, record_offset,
       case when octet_length(key) <= $3 then key end as key, case when octet_length(value) <= $3 then value end as value,
       case when light then headers else '[]' end as headers, code, detail,
       case when octet_length(value) > $3 then octet_length(value) end as value_bytes, not light or coalesce(octet_length(key) > $3, false) as bare
from tm.parked cross join lateral (select octet_length(headers::text) <= 2 * $3 as light offset 0) as measured
where lane = $1 and position = any($2::bigint[])

-- name: pending_lanes
select w.lane, last.position as newest
from unnest($1::smallint[], $2::bigint[]) as w (lane, position) cross join lateral (
  select greatest(
    (select o.position from tm.outbox o where o.lane = w.lane order by o.position desc limit 1),
    (select p.position from tm.pack p where p.lane = w.lane order by p.position desc limit 1)) as position) as last
where last.position > w.position

-- name: published
select position, sequence, event_id from tm.published where lane = $1

-- name: mark_published
-- The commit is not waited for until it is on disk: a mark that a crash takes is found in the topics, as one that was not
-- written yet.
insert into tm.published as p (lane, position, sequence, event_id)
select m.lane, m.position, m.sequence, m.event_id
from unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::text[]) as m (lane, position, sequence, event_id)
cross join (select set_config('synchronous_commit', 'off', true)) settings
order by m.lane  -- two processes that mark the same lanes must not deadlock
on conflict (lane) do update
set position = excluded.position, sequence = excluded.sequence, event_id = excluded.event_id, at = clock_timestamp()
where excluded.position > p.position

-- name: lane_end
-- Carried rows repeat the number of the batch they carry: the later generation is the newer row.
select l.epoch, b.position, b.sequence, b.timeline
from tm.lane l cross join lateral (
  select position, sequence, timeline from tm.batch where batch.lane = l.lane order by batch desc, gen desc limit 1) as b
where l.lane = $1

-- name: forks
select timeline, forked_at, continued_at, position, topic_sequence, topic_position
from tm.timeline where lane = $1 order by timeline

-- name: accepted_records
select topic, accepted_offset from tm.foreign_record where lane = $1 and accepted_offset is not null

-- name: events_at
-- Of a pack, from the log: its events are those of the commands that it holds.
select item, sequence, command_id::text, payload is not null as has_event
from tm.outbox where lane = $1 and position = $2
union all
select item, g.sequence - g.events + item + (g.events > 0)::int, g.command_id::text, g.events > 0
from (select * from tm.pack where lane = $1 and position >= $2 order by position limit 1) as p
join tm.log g on g.lane = p.lane and g.gen = p.gen and g.position = $2
cross join lateral generate_series(0, greatest(g.events - 1, 0)) as item
where p.first_position <= $2

-- name: halt_lane
insert into tm.halt (lane, code, detail)
select lane, $3, $4 from tm.lane where lane = $1 and epoch = $2
on conflict (lane) do nothing

-- name: halted_lanes
select lane from tm.halt where lane = any($1::smallint[])

-- name: note_sent
-- The last position of each lane in a generation is one look-up in its index.
update tm.generation g set outbox_sent_at = clock_timestamp()
where g.closed_at is not null and g.outbox_sent_at is null and not exists (
  select from tm.lane l left join tm.published p on p.lane = l.lane
  cross join lateral (
    select greatest(
      (select o.position from tm.outbox o where o.gen = g.gen and o.lane = l.lane order by o.position desc limit 1),
      (select k.position from tm.pack k where k.gen = g.gen and k.lane = l.lane order by k.position desc limit 1)) as position)
    as last
  where last.position > coalesce(p.position, 0))

-- name: droppable_generations
select gen from tm.generation
where outbox_sent_at <= clock_timestamp() - $1::interval and to_regclass(format('tm.outbox_%s', gen)) is not null
order by gen

-- name: drop_outbox_generation
call tm.drop_generation($1::int, 'outbox')
