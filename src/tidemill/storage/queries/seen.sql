-- How far lanes and read models are, for readers that wait, and for the tokens of answers.

-- name: lane_progress
-- For all readers at once. Forks are few, and most lanes have none. An empty projection asks for the lane alone.
select w.aggregate, w.partition, w.projection, newest.sequence, newest.timeline,
       l.compared_epoch is not distinct from l.epoch as compared, h.lane is not null as halted,
       case when w.projection <> '' then coalesce(c.sequence, 0) end as folded,
       case when newest.timeline > 1 then (
         select json_agg(json_build_array(t.timeline, t.forked_at, t.continued_at) order by t.timeline)
         from tm.timeline t where t.lane = l.lane) end as forks
from unnest($1::text[], $2::int[], $3::text[]) as w (aggregate, partition, projection)
join tm.lane l on l.aggregate = w.aggregate and l.partition = w.partition
cross join lateral (
  select sequence, timeline from tm.batch where batch.lane = l.lane order by batch desc, gen desc limit 1) as newest
left join tm.halt h on h.lane = l.lane
left join tm.projection p on p.projection = w.projection
left join tm.checkpoint c
  on c.projection = p.projection and c.incarnation = p.incarnation and c.partition = w.partition

-- name: ends_of_forks
-- The last sequence of a lane right after a reconciliation; its row of the ledger leaves with the generation.
select l.aggregate, l.partition, b.timeline, min(b.sequence) as sequence
from unnest($1::text[], $2::int[], $3::int[]) as w (aggregate, partition, timeline)
join tm.lane l on l.aggregate = w.aggregate and l.partition = w.partition
join tm.batch b on b.lane = l.lane and b.timeline = w.timeline and b.reason like 'reconciled:%'
group by 1, 2, 3

-- name: lanes_seen
-- The token of facts and state: $1 the aggregate.
select coalesce(string_agg(format('%s.%s=%s%s', l.aggregate, l.partition, newest.sequence,
                                  case when newest.timeline > 1 then format(';t=%s', newest.timeline) end),
                           ', ' order by l.partition), '')
from tm.lane l
cross join lateral (
  select sequence, timeline from tm.batch where batch.lane = l.lane order by batch desc, gen desc limit 1) as newest
where l.aggregate = $1::text and newest.sequence > 0

-- name: checkpoints_seen
-- The token of a read model: $1 its name. A number belongs to the newest timeline that it is after the beginning of.
select coalesce(string_agg(format('%s.%s=%s%s', c.aggregate, c.partition, c.sequence, forks.latest),
                           ', ' order by c.partition), '')
from tm.projection p
join tm.checkpoint c on c.projection = p.projection and c.incarnation = p.incarnation
left join lateral (
  select format(';t=%s', max(t.timeline)) as latest from tm.lane l join tm.timeline t on t.lane = l.lane
  where l.aggregate = c.aggregate and l.partition = c.partition and c.sequence > t.continued_at
  having count(*) > 0) as forks on true
where p.projection = $1::text and c.sequence > 0
