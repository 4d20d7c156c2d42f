-- The statements behind status, lanes, audit, dead-letters, projections and command show.

-- name: lanes
-- Carried rows repeat the number of their batch: the later generation is the newer row. An owner that has no connection
-- does not serve; a standby does not see those of its primary.
select l.lane, l.aggregate, l.partition, l.partitions, l.command_topic, l.event_topic, l.outcome_topic, l.dead_letter_topic,
       l.epoch, l.owner, l.claimed_at, b.gen, b.batch, b.timeline, b.to_offset as next_offset, b.anchor_offset,
       b.anchor_checksum, b.position, b.sequence, b.chain, b.at, p.position as published_position,
       p.sequence as published_sequence, p.at as published_at,
       h.code as halt_code, h.detail as halt_detail, h.since as halted_since,
       w.record_offset as waits_before, w.schema as waits_schema, w.type as waits_type, w.service as waits_service,
       w.detail as waits_detail, w.since as waits_since, w.until as waits_until,
       case when not pg_is_in_recovery() then l.owner in (
         select application_name from pg_stat_activity where datname = current_database()) end as served,
       l.compressed
from tm.lane l
cross join lateral (
  select * from tm.batch where batch.lane = l.lane order by batch.batch desc, batch.gen desc limit 1) as b
left join tm.published p on p.lane = l.lane
left join tm.halt h on h.lane = l.lane
left join tm.waiting w on w.lane = l.lane and w.over_at is null and w.record_offset >= b.to_offset
where ($1::text is null or l.aggregate = $1) and ($2::smallint is null or l.lane = $2)
order by l.aggregate, l.partition

-- name: unpublished_since
select w.lane, first.at
from unnest($1::smallint[], $2::bigint[]) as w (lane, position) cross join lateral (
  select least(
    (select o.at from tm.outbox o where o.lane = w.lane and o.position > w.position order by o.position limit 1),
    (select p.at from tm.pack p where p.lane = w.lane and p.position > w.position order by p.position limit 1)) as at) as first
where first.at is not null

-- name: unfolded_since
-- There is no index by sequence: from the newest batch back, as far as an operator's question may cost.
select w.lane, min(b.at) as at
from unnest($1::smallint[], $2::bigint[]) as w (lane, sequence) cross join lateral (
  select at, sequence from tm.batch where batch.lane = w.lane order by batch desc, gen desc limit 1000) as b
where b.sequence > w.sequence group by w.lane

-- name: lane_of_partition
select lane from tm.lane where aggregate = $1 and partition = $2

-- name: lane_ledger
select gen, batch, epoch, timeline, from_offset, to_offset, position, sequence, applied, rejected, duplicate, parked, events,
       at, reason
from tm.batch where lane = $1 order by batch desc, gen desc limit $2

-- name: commands_logged
-- By id; in the generations of the horizon there is at most one.
select g.lane, l.aggregate, l.partition, g.gen, g.position, g.command_id, g.outcome, g.events, g.sequence, g.at, g.type,
       g.service, g.code, g.detail, coalesce(g.rows, case when g.outcome = 'a' and g.events > 0 then 1 else 0 end) as rows
from tm.log g join tm.lane l using (lane)
where g.command_id = $1 order by g.gen, g.position

-- name: logged_at
-- By place; of a restored database, which may hold two histories, the newer one.
select g.lane, l.aggregate, l.partition, g.gen, g.position, g.command_id, g.outcome, g.events, g.sequence, g.at, g.type,
       g.service, g.code, g.detail, coalesce(g.rows, case when g.outcome = 'a' and g.events > 0 then 1 else 0 end) as rows
from tm.log g join tm.lane l using (lane)
where g.lane = $1 and g.position = $2 order by g.gen desc limit 1

-- name: repeats_logged
-- Reads the whole log: there is no index for it, since only operators ask.
select g.lane, l.aggregate, l.partition, g.gen, g.position, g.outcome, g.at, g.type, g.service, g.code, g.detail
from tm.log g join tm.lane l using (lane)
where g.repeats = $1 order by g.at, g.lane, g.position limit $2

-- name: sent
select item, outcome, original, sequence, at, nullif(record_offset, -1) as record_offset, key, event_type, payload,
       correlation, client_id, trace
from tm.outbox where lane = $1 and position = $2 order by item

-- name: pack_of_position
select first_position, position, sequence_before, sequence, moved_positions, moved_sequences, timeline, chain_before, chain,
       event_id, at, seconds, first_offset, offsets, rows, parked, parked_sequences, unpacked_bytes, events, outcomes
from (select * from tm.pack where lane = $1 and position >= $2 order by position limit 1) as next
where first_position <= $2

-- name: dead_letters
select d.lane, l.aggregate, d.position, d.topic, d.partition, d.record_offset, d.code, d.detail, d.at, d.state,
       octet_length(d.value) as bytes
from tm.parked d join tm.lane l using (lane)
where ($1::text is null or l.aggregate = $1) and ($2::text is null or d.code = $2)
order by d.at desc, d.lane, d.position desc limit $3

-- name: dead_letter
select d.lane, l.aggregate, d.position, d.topic, d.partition, d.record_offset, d.code, d.detail, d.at, d.state,
       octet_length(d.value) as bytes, d.key, d.value, d.headers
from tm.parked d join tm.lane l using (lane)
where d.lane = $1 and d.position = $2

-- name: dead_letter_of
select d.lane, l.aggregate, d.position, d.topic, d.partition, d.record_offset, d.code, d.detail, d.at, d.state,
       octet_length(d.value) as bytes, d.key, d.value, d.headers
from tm.parked d join tm.lane l using (lane)
where d.topic = $1 and d.partition = $2 and d.record_offset = $3
order by d.at desc limit 1

-- name: projections
select projection, aggregate, incarnation, read_table, rebuilt_at, verified_at from tm.projection order by projection

-- name: checkpoints
select c.projection, c.partition, c.sequence, c.next_offset, c.updated_at
from tm.checkpoint c join tm.projection p using (projection, incarnation)
order by c.projection, c.partition

-- name: projection_halts
select projection, partition, code, expected, got, detail, since from tm.projection_halt order by projection, partition

-- name: generations_kept
select gen, opened_at, closed_at, to_regclass(format('tm.log_%s', gen)) is not null as has_log,
       to_regclass(format('tm.outbox_%s', gen)) is not null as has_outbox,
       to_regclass(format('tm.batch_%s', gen)) is not null as has_ledger
from tm.generation order by gen

-- name: ledger_sums
-- The ledger of every lane, added up, and where rows do not follow each other. A reconciliation may skip some.
with rows as (
  select *, applied + rejected + duplicate + parked as records, coalesce(reason like 'reconciled:%', false) as leaps,
         lag(to_offset) over one_after_the_other as offset_before, lag(position) over one_after_the_other as position_before,
         lag(sequence) over one_after_the_other as sequence_before
  from tm.batch window one_after_the_other as (partition by lane order by batch, gen)),
judged as (
  select *, coalesce(from_offset <> offset_before, false) as torn,
         not leaps and (coalesce(position - position_before <> records, false)
                        or coalesce(sequence - sequence_before <> events, false)) as miscounted,
         position_before is null as first
  from rows)
select lane, sum(records)::bigint as records, sum(applied)::bigint as applied, sum(rejected)::bigint as rejected,
       sum(duplicate)::bigint as duplicate, sum(parked)::bigint as parked, sum(events)::bigint as events,
       sum(coalesce(rows, applied))::bigint as rows, max(position - records) filter (where first) as base_position,
       max(sequence - events) filter (where first) as base_sequence,
       bool_or(leaps) as leapt, min(batch) filter (where torn) as torn_at, min(batch) filter (where miscounted) as miscounted_at
from judged group by lane order by lane

-- name: ledger_by_generation
select lane, gen, sum(applied)::bigint as applied, sum(rejected)::bigint as rejected, sum(duplicate)::bigint as duplicate,
       sum(parked)::bigint as parked, sum(events)::bigint as events, sum(coalesce(rows, applied))::bigint as rows
from tm.batch group by lane, gen

-- name: ledger_totals
select lane, records, applied, rejected, duplicate, parked, events, coalesce(rows, applied) as rows from tm.ledger_total

-- name: log_by_generation
select lane, gen, type, outcome, count(*) as records, sum(events)::bigint as events,
       case when outcome = 'a' then sum(coalesce(rows, 1)) else 0 end::bigint as rows,
       coalesce(sum(rows), 0)::bigint as counted_rows
from tm.log group by lane, gen, type, outcome

-- name: outbox_by_generation
select lane, gen, sum(outcomes)::bigint as outcomes, sum(events)::bigint as events, sum(rows)::bigint as rows from (
  select lane, gen, count(*) filter (where item = 0) as outcomes, count(payload) as events,
         coalesce(sum(coalesce(rows, 1)) filter (where outcome = 'a'), 0) as rows
  from tm.outbox group by lane, gen
  union all
  select lane, gen, sum(position - first_position + 1), sum(sequence - sequence_before), sum(rows)
  from tm.pack group by lane, gen) as sent group by lane, gen

-- name: parked_by_lane
select lane, count(*) as records from tm.parked group by lane

-- name: hold_log
-- Before the generation, as a roll does, and after the lane, as a batch does: so the three never wait in a circle.
lock table tm.log in row exclusive mode

-- name: hold_generation
-- Locks out rolls of the log while a row is written to the open generation, and other operators' changes.
select gen from tm.generation where closed_at is null for update

-- name: lanes_created
select partition, partitions, command_topic, event_topic, outcome_topic, dead_letter_topic
from tm.lane where aggregate = $1 order by partition

-- name: create_lanes
insert into tm.lane (aggregate, partition, partitions, command_topic, event_topic, outcome_topic, dead_letter_topic, compressed)
select $1, partition, $2, $3, $4, $5, $6, true from generate_series(0, $2::int - 1) as partition order by partition
returning lane, partition

-- name: open_ledgers
-- The first row of each lane's ledger: it begins at the first offset of the command topic.
insert into tm.batch (lane, gen, batch, epoch, timeline, from_offset, to_offset, position, sequence, chain,
                      applied, rejected, duplicate, parked, events, at, reason)
select n.lane, $1, 0, 0, 1, n.first, n.first, 0, 0, 0, 0, 0, 0, 0, 0, clock_timestamp(), 'created'
from unnest($2::smallint[], $3::bigint[]) as n (lane, first)

-- name: open_hints
insert into tm.published (lane, position, sequence) select lane, 0, 0 from unnest($1::smallint[]) as n (lane)

-- name: lock_lane
select epoch from tm.lane where lane = $1 for update

-- name: lane_seen
select l.epoch, max(b.batch) from tm.lane l join tm.batch b using (lane) where l.lane = $1 group by l.epoch

-- name: fence_lane
update tm.lane set epoch = epoch + 1, owner = null, claimed_batch = null, claimed_offset = null, barren = 0, trials = 0,
                   trial_offset = null
where lane = $1 returning epoch

-- name: halt_of
select code, detail, since from tm.halt where lane = $1

-- name: clear_halt
delete from tm.halt where lane = $1 returning code, detail, since

-- name: end_wait
-- Nothing happens if the lane does not wait: an owner that knows the schema may have continued meanwhile.
update tm.waiting w set over_at = clock_timestamp(), reason = $3
where w.lane = $1 and w.over_at is null
  and w.record_offset >= (select to_offset from tm.batch where lane = $1 and gen = $2 order by batch desc limit 1)
returning record_offset, schema, type

-- name: enter_skip
-- The skipped records are unknown: there is no record to compare with at the next claim.
insert into tm.batch (lane, gen, batch, epoch, timeline, from_offset, to_offset, position, sequence, chain,
                      applied, rejected, duplicate, parked, events, at, reason)
select lane, gen, batch + 1, $3, timeline, to_offset, $4, position, sequence, chain, 0, 0, 0, 0, 0,
       greatest(at, clock_timestamp()), $5
from tm.batch where lane = $1 and gen = $2 order by batch desc limit 1
returning from_offset, to_offset

-- name: enter_note
-- A row that changes nothing, to store an operator's decision.
insert into tm.batch (lane, gen, batch, epoch, timeline, from_offset, to_offset, anchor_offset, anchor_checksum,
                      position, sequence, chain, applied, rejected, duplicate, parked, events, at, reason)
select lane, gen, batch + 1, $3, timeline, to_offset, to_offset, anchor_offset, anchor_checksum,
       position, sequence, chain, 0, 0, 0, 0, 0, greatest(at, clock_timestamp()), $4
from tm.batch where lane = $1 and gen = $2 order by batch desc limit 1

-- name: accept_records
insert into tm.foreign_record (lane, topic, accepted_offset, accepted_at, reason) values ($1, $2, $3, clock_timestamp(), $4)
on conflict (lane, topic) do update
set accepted_offset = greatest(foreign_record.accepted_offset, excluded.accepted_offset),
    accepted_at = excluded.accepted_at, reason = excluded.reason

-- name: foreign_records
select f.lane, l.aggregate, l.partition, f.topic, f.records, f.first_offset, f.last_offset, f.last_seen,
       f.accepted_offset, f.accepted_at, f.reason
from tm.foreign_record f join tm.lane l using (lane) order by l.aggregate, l.partition, f.topic

-- name: points_of_lane
-- The points of its history in the log: the ends of batches, and of the positions that rows of the outbox still hold.
-- A reconciliation raises the numbers of log and outbox, but not of the ledger: of an earlier batch they are raised here,
-- by as much as each reconciliation since has raised those behind the place from which the lane continued.
with recursive ledger as (
  select batch, gen, position, sequence, chain, timeline, position - lag(position) over one_after_the_other as by_position,
         sequence - lag(sequence) over one_after_the_other as by_sequence, coalesce(reason like 'reconciled:%', false) as moves
  from tm.batch where lane = $1 window one_after_the_other as (order by batch, gen)),
moves as (
  select m.batch, m.by_position, m.by_sequence, t.position - m.by_position as behind,
         row_number() over (order by m.batch) as number
  from ledger m join tm.timeline t on t.lane = $1 and t.timeline = m.timeline
  where m.moves and (m.by_position, m.by_sequence) <> (0, 0)),
moved as (
  select batch, position, sequence, chain, 0::bigint as number from ledger where position > 0
  union all
  select p.batch, p.position + case when raised then m.by_position else 0 end,
         p.sequence + case when raised then m.by_sequence else 0 end, p.chain, m.number
  from moved p join moves m on m.number = p.number + 1
  cross join lateral (select p.batch < m.batch and p.position > m.behind as raised) as judged)
select position, sequence, chain from moved where number = (select count(*) from moves)
union
select position, max(sequence), (array_agg(chain order by item desc))[1] from tm.outbox where lane = $1
group by position having bool_or(payload is not null)
order by sequence, position

-- name: events_between
select position, command_id, events, sequence from tm.log
where lane = $1 and position > $2 and position <= $3 and events > 0 order by position, gen

-- name: enter_fork
insert into tm.timeline (lane, timeline, forked_at, continued_at, position, topic_sequence, topic_position)
values ($1, $2, $3, $4, $5, $6, $7)

-- name: read_topic_again
-- Read models beyond the topic's end must not look for lost events: repeats are dropped by their numbers.
update tm.checkpoint c set next_offset = $2 from tm.lane l
where l.lane = $1 and c.aggregate = l.aggregate and c.partition = l.partition and c.next_offset > $2

-- name: halt_views_of_withdrawn
insert into tm.projection_halt (projection, partition, code, expected, got, detail)
select c.projection, c.partition, 'WITHDRAWN', $2::bigint + 1, c.sequence,
       format('events %s to %s were withdrawn, and it has folded up to %s', $2::bigint + 1, $3::bigint, c.sequence)
from tm.checkpoint c join tm.projection p using (projection, incarnation) join tm.lane l on l.aggregate = c.aggregate
where l.lane = $1 and c.partition = l.partition and c.sequence > $2::bigint and c.sequence <= $3::bigint
on conflict (projection, partition) do update
set code = excluded.code, expected = excluded.expected, got = excluded.got, detail = excluded.detail, since = clock_timestamp()

-- name: enter_reconciliation
insert into tm.batch (lane, gen, batch, epoch, timeline, from_offset, to_offset, anchor_offset, anchor_checksum,
                      position, sequence, chain, applied, rejected, duplicate, parked, events, at, reason)
select lane, gen, batch + 1, $3, $7, to_offset, to_offset, anchor_offset, anchor_checksum,
       position + $4, sequence + $5, chain, 0, 0, 0, 0, 0, greatest(at, clock_timestamp()), $6
from tm.batch where lane = $1 and gen = $2 order by batch desc limit 1
returning position, sequence, timeline

-- name: events_of_position
-- Of a pack, from the log.
select item, sequence, command_id, payload is not null as has_event
from tm.outbox where lane = $1 and position = $2
union all
select item, g.sequence - g.events + item + (g.events > 0)::int, g.command_id, g.events > 0
from (select * from tm.pack where lane = $1 and position >= $2 order by position limit 1) as p
join tm.log g on g.lane = p.lane and g.gen = p.gen and g.position = $2
cross join lateral generate_series(0, greatest(g.events - 1, 0)) as item
where p.first_position <= $2
order by item

-- name: before_outbox
-- Where the outbox begins; an empty one begins after the end of the ledger.
select position, sequence from (
  select 1 as rank, position - 1 as position, sequence - (payload is not null)::int as sequence
  from (select * from tm.outbox where lane = $1 order by position, item limit 1) as first
  union all
  select 1, first_position - 1, sequence_before
  from (select * from tm.pack where lane = $1 order by position limit 1) as first_pack
  union all
  select 2, position, sequence from (
    select * from tm.batch where lane = $1 and gen = $2 order by batch desc limit 1) as newest) as found
order by rank, position limit 1

-- name: hint
select coalesce(max(position), 0) as position, coalesce(max(sequence), 0) as sequence from tm.published where lane = $1

-- name: end_of_lane
select position, sequence, timeline from tm.batch where lane = $1 and gen = $2 order by batch desc limit 1

-- name: count_behind
select (select count(*) from tm.outbox where lane = $1 and position > $2)
     + (select coalesce(sum(position - greatest(first_position - 1, $2)), 0) from tm.pack
        where lane = $1 and position > $2)::bigint

-- name: move_outbox
update tm.outbox set position = position + $3, sequence = sequence + $4 where lane = $1 and position > $2

-- name: split_pack
-- A pack that begins before position $2 and ends behind it becomes two with the same records; $3: the last event up to $2.
with divided as (
  select p.*, (select coalesce(sum(coalesce(g.rows, 1)), 0) from tm.log g
               where g.lane = p.lane and g.gen = p.gen and g.outcome = 'a'
                 and g.position between p.first_position and $2) as rows_before
  from tm.pack p where p.lane = $1 and p.first_position <= $2 and p.position > $2),
front as (
  insert into tm.pack (lane, gen, first_position, position, sequence_before, sequence, moved_positions, moved_sequences,
                       timeline, chain_before, chain, event_id, at, seconds, first_offset, offsets, rows, parked,
                       parked_sequences, unpacked_bytes, events, outcomes)
  select lane, gen, first_position, $2, sequence_before, $3, moved_positions, moved_sequences, timeline, chain_before, chain,
         event_id, at, seconds, first_offset, offsets, rows_before, parked, parked_sequences, unpacked_bytes, events, outcomes
  from divided)
update tm.pack p set first_position = $2 + 1, sequence_before = $3, rows = p.rows - d.rows_before,
                     first_offset = coalesce(p.offsets[$2 + 2 - p.first_position], p.first_offset + $2 + 1 - p.first_position),
                     offsets = p.offsets[$2 + 2 - p.first_position :]
from divided d where p.lane = d.lane and p.gen = d.gen and p.first_position = d.first_position and p.position = d.position

-- name: move_packs
update tm.pack set first_position = first_position + $3, position = position + $3,
                   sequence_before = sequence_before + $4, sequence = sequence + $4,
                   moved_positions = moved_positions + $3, moved_sequences = moved_sequences + $4
where lane = $1 and first_position > $2

-- name: move_log
update tm.log set position = position + $3, sequence = sequence + $4 where lane = $1 and position > $2

-- name: move_parked
-- Through negative numbers: a moved key must not conflict with one that has not moved yet.
update tm.parked set position = -(position + $3) where lane = $1 and position > $2

-- name: settle_parked
update tm.parked set position = -position where lane = $1 and position < 0

-- name: rewrite_hint
insert into tm.published as p (lane, position, sequence, event_id) values ($1, $2, $3, $4)
on conflict (lane) do update set position = excluded.position, sequence = excluded.sequence, event_id = excluded.event_id,
                                 at = clock_timestamp()

-- name: outbox_form
select g.gen, g.packs, (
  select count(*) from tm.lane l left join tm.published s using (lane)
  join tm.pack p on p.lane = l.lane and p.position > coalesce(s.position, 0)) as unsent_packs
from tm.generation g where g.closed_at is null

-- name: use_packs
call tm.write_packs($1::bool)
