-- What the waiting of submissions asks of the log.

-- name: submitted_outcomes
-- One query for all that wait. Of a restored database, which may hold two histories, the newest. The outbox still has
-- the record's offset, by which a command tells its own outcome from that of an equal one before it.
select w.id, g.digest, g.outcome, g.code, g.detail, l.aggregate, l.partition, g.position, g.sequence, g.at, g.type,
       g.service, coalesce(g.rows, case when g.outcome = 'a' and g.events > 0 then 1 else 0 end) as rows,
       o.record_offset, o.seconds
from unnest($1::uuid[]) as w (id)
cross join lateral (
  select * from tm.log where log.command_id = w.id order by log.gen desc, log.position desc limit 1) as g
join tm.lane l on l.lane = g.lane
left join lateral (
  select nullif(outbox.record_offset, -1) as record_offset, outbox.seconds from tm.outbox
  where outbox.lane = g.lane and outbox.position = g.position and outbox.item = 0
  union all
  select nullif(coalesce(pack.offsets[g.position - pack.first_position + 1],
                         pack.first_offset + g.position - pack.first_position), -1), pack.seconds
  from (select first_position, first_offset, offsets, seconds from tm.pack p
        where p.lane = g.lane and p.gen = g.gen and p.position >= g.position
        order by p.position limit 1) as pack
  where pack.first_position <= g.position) as o on true

-- name: lanes_halted
select l.aggregate, l.partition from tm.halt h join tm.lane l on l.lane = h.lane

-- name: intended
-- Whether a command was about to be sent, by a principal unless that is null.
select exists (
  select from tm.journal
  where kind = 'intent' and command_id = $1
    and ($2::text is null or principal = $2)) as intended
