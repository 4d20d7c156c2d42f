-- The statements of the intake: claims, the batch transaction, generations.

-- name: lock_lanes
-- Ascending, so that two batches over many lanes cannot wait for each other in a circle.
select lane, epoch from tm.lane where lane = any($1::smallint[]) order by lane for update

-- name: lane_standing
-- Whether a lane may be written to beside its records; a separate statement, after lock_lanes, like lane_progress.
select l.epoch, l.compared_epoch, h.code, h.detail from tm.lane l left join tm.halt h using (lane) where l.lane = $1

-- name: lane_progress
-- A separate statement, after lock_lanes: its snapshot must be taken under the lock, or it would show the ledger
-- before the previous owner's commit.
select u.lane, b.batch, b.to_offset, b.anchor_offset, b.anchor_checksum, b.position, b.sequence, b.chain, b.timeline, b.at,
       open.gen, open.opened_at, open.packs, clock_timestamp() as now
from (select gen, opened_at, packs from tm.generation where closed_at is null) as open
cross join unnest($1::smallint[]) as u (lane)
cross join lateral (
  select * from tm.batch where batch.lane = u.lane and batch.gen = open.gen order by batch.batch desc limit 1) as b

-- name: withdrawn_of_lanes
select lane, forked_at + 1 as first, continued_at as last from tm.timeline
where lane = any($1::smallint[]) and forked_at < continued_at order by lane, timeline

-- name: open_generation
-- And the types of the columns of the tables $1, as `shapes` returns them.
select gen, packs, array(
         select a.atttypid from pg_attribute a
         where a.attrelid = any($1::text[]::regclass[]) and a.attnum > 0 order by a.attrelid, a.attnum) as types
from tm.generation where closed_at is null

-- name: shapes
select array(
  select a.atttypid from pg_attribute a
  where a.attrelid = any($1::text[]::regclass[]) and a.attnum > 0 order by a.attrelid, a.attnum)

-- name: shape
select $1::text::regclass::oid,
       array(select a.atttypid from pg_attribute a where a.attrelid = $1::text::regclass and a.attnum > 0 order by a.attnum)

-- name: find_ids
-- All generations at once: a statement for each would be as many round trips as there are days in the horizon, or more.
-- The inner query stays one, so that each row looks into the index of its own generation's part and into no other.
select l.command_id, l.digest, l.outcome, l.code, l.detail, origin.aggregate || '/' || origin.partition as lane,
       l.position, l.sequence, l.rows
from unnest($1::uuid[], $2::int[]) as wanted (command_id, gen)
cross join lateral (
  select command_id, digest, outcome, code, detail, lane, position, sequence, coalesce(rows, (events > 0)::int) as rows
  from tm.log where log.command_id = wanted.command_id and log.gen = wanted.gen offset 0) as l
join tm.lane origin on origin.lane = l.lane

-- name: closed_ranges
select range_start, range_end from tm.closed_ranges($1, $2, $3)

-- name: lanes_to_claim
select lane, aggregate, partition, partitions, command_topic, event_topic, outcome_topic, dead_letter_topic,
       epoch, owner, claimed_batch, claimed_offset, barren
from tm.lane where aggregate = $1 and partition = any($2::int[]) order by lane for update

-- name: blockers
-- The sessions that block backend $1, and whether they own lanes of any stream, since owners write to other lanes, too.
select a.pid, a.application_name, exists (select from tm.lane l where l.owner = a.application_name) as is_owner
from pg_stat_activity a where a.pid = any(pg_blocking_pids($1))

-- name: end_backend
select pg_terminate_backend($1)

-- name: claim_lanes
-- claimed_batch is for processes of 0.1.0, which count by it.
update tm.lane l set epoch = l.epoch + 1, owner = $1, claimed_at = clock_timestamp(), claimed_batch = c.batch,
                     claimed_offset = c.next_offset, barren = c.barren
from unnest($2::smallint[], $3::bigint[], $4::bigint[], $5::smallint[]) as c (lane, batch, next_offset, barren)
where l.lane = c.lane returning l.lane, l.epoch

-- name: lanes_compared
-- An idle lane's claim is removed as by a clean release. In the order of batches' locks.
with held as (
  select l.lane, c.idle from tm.lane l join unnest($1::smallint[], $2::int[], $3::bool[]) as c (lane, epoch, idle) using (lane)
  where l.epoch = c.epoch order by l.lane for update of l)
update tm.lane l set compared_epoch = l.epoch,
  claimed_batch = case when not held.idle then l.claimed_batch end,
  claimed_offset = case when not held.idle then l.claimed_offset end,
  barren = case when held.idle then 0 else l.barren end
from held where l.lane = held.lane

-- name: release_lanes
update tm.lane l set owner = null, claimed_batch = null, claimed_offset = null, barren = 0, trials = 0, trial_offset = null
from unnest($1::smallint[], $2::int[]) as c (lane, epoch) where l.lane = c.lane and l.epoch = c.epoch

-- name: halted_lanes
select lane, code, detail from tm.halt where lane = any($1::smallint[])

-- name: halt_lane
insert into tm.halt (lane, code, detail)
select lane, $3, $4 from tm.lane where lane = $1 and epoch = $2
on conflict (lane) do nothing

-- name: count_attempt
update tm.lane set trials = case when trial_offset = $3 then trials + 1 else 1 end, trial_offset = $3
where lane = $1 and epoch = $2 returning trials

-- name: wait_of_lane
-- Locked, so that neither a claim nor an operator changes it before the next step.
select clock_timestamp() as now, w.record_offset, w.schema, w.type, w.service, w.detail, w.since, w.until, w.over_at, w.reason
from tm.lane l left join tm.waiting w using (lane) where l.lane = $1 and l.epoch = $2 for update of l

-- name: keep_wait
insert into tm.waiting (lane, record_offset, schema, type, service, detail, since, until, over_at, reason)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
on conflict (lane) do update
set record_offset = excluded.record_offset, schema = excluded.schema, type = excluded.type, service = excluded.service,
    detail = excluded.detail, since = excluded.since, until = excluded.until, over_at = excluded.over_at,
    reason = excluded.reason

-- name: waiting_lanes
select lane from tm.waiting where lane = any($1::smallint[]) and over_at is null and until > clock_timestamp()

-- name: clear_attempts
update tm.lane set trials = 0, trial_offset = null where lane = $1 and epoch = $2 and trials > 0

-- name: closed_generations
select gen, closed_at, filter is not null as filtered from tm.generation where closed_at is not null order by gen

-- name: filter
select filter from tm.generation where gen = $1 and closed_at = $2

-- name: open_generation_age
select g.gen, clock_timestamp() - g.opened_at as age,
       coalesce(ledger.ids, 0)::bigint as ids, coalesce(ledger.records, 0)::bigint as records
from tm.generation g cross join lateral (
  select sum(applied + rejected) as ids, sum(applied + rejected + duplicate + parked) as records
  from tm.batch b where b.gen = g.gen) as ledger
where closed_at is null

-- name: prepare_generation
call tm.prepare_generation($1::int)

-- name: roll_generation
call tm.roll_generation($1::int, $2::int)

-- name: generations_without_filter
select gen from tm.generation where closed_at is not null and filter is null order by gen

-- name: allow_time
-- For the rest of the transaction, in milliseconds.
select set_config('statement_timeout', $1, true)

-- name: count_ids
select count(command_id) from tm.log where gen = $1

-- name: packed_ids
-- The ids of a generation as few large byte strings instead of many small rows.
select string_agg(uuid_send(command_id), ''::bytea) as packed
from (select command_id, row_number() over () / 65536 as part from tm.log where gen = $1 and command_id is not null) as ids
group by part

-- name: keep_filter
update tm.generation set filter = $2, ids = $3 where gen = $1 and closed_at is not null

-- name: expired_generations
-- A clock that has just jumped ahead proves no age: the log must have rolled after the horizon, too, and
-- for $2 since then. The events of packs are looked up in the log, which stays as long as they do.
select gen from tm.generation g where closed_at < clock_timestamp() - $1::interval
   and exists (select from tm.generation n where n.gen > g.gen
               and n.opened_at between g.closed_at + $1::interval and clock_timestamp() - $2::interval)
   and coalesce(to_regclass(format('tm.log_%s', gen)), to_regclass(format('tm.batch_%s', gen))) is not null
   and not exists (select from tm.pack p where p.gen = g.gen)
order by gen

-- name: drop_generation
call tm.drop_generation($1::int, $2)

-- name: late_unfit
select tm.late_unfit($1)
