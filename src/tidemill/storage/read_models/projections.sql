-- Read models: what is recorded about them. Their rows are written by generated statements.

-- name: record_projection
insert into tm.projection (projection, aggregate, incarnation, read_table) values ($1, $2, 1, $3)
on conflict (projection) do nothing

-- name: read_projection
-- SHARE waits for a running swap, so that no process continues with the incarnation it replaces.
select aggregate, incarnation, read_table, to_regclass(read_table) is not null as is_there
from tm.projection where projection = $1 for share

-- name: add_checkpoints
insert into tm.checkpoint (projection, incarnation, aggregate, partition)
select $1, $2, $3, generate_series(0, $4::int - 1)
on conflict (projection, incarnation, partition) do nothing

-- name: read_checkpoints
select partition, sequence, next_offset from tm.checkpoint where projection = $1 and incarnation = $2

-- name: ledger_checkpoints
-- The progress of the state of an aggregate: that of its lanes.
select l.partition, newest.sequence
from tm.lane l
cross join lateral (
  select sequence from tm.batch where batch.lane = l.lane order by batch desc, gen desc limit 1) as newest
where l.aggregate = $1

-- name: hold_lanes
-- All lanes of an aggregate, in the order of batches' locks, with the code of a halt.
with held as (select lane, partition from tm.lane where aggregate = $1 order by lane for update)
select held.partition, h.code from held left join tm.halt h using (lane) order by held.partition

-- name: halted_lanes
select l.partition, h.code from tm.lane l join tm.halt h using (lane) where l.aggregate = $1 order by l.partition

-- name: read_halts
select partition, code, expected, got, detail from tm.projection_halt where projection = $1

-- name: advance
-- The settings hold for the rest of the transaction. Rows are found by their primary key: else a plan that was made
-- while the table had five rows reads all of it for every batch, also when it has a million, until it is analyzed.
-- The commit is not waited for until it is on disk: what a crash takes is folded again, rows and checkpoint alike.
update tm.checkpoint c set sequence = s.sequence, next_offset = s.next_offset, updated_at = clock_timestamp()
from unnest($3::int[], $4::bigint[], $5::bigint[], $6::bigint[]) s (partition, before, sequence, next_offset)
cross join (select set_config('enable_seqscan', 'off', true), set_config('synchronous_commit', 'off', true)) settings
where c.projection = $1 and c.incarnation = $2 and c.partition = s.partition and c.sequence = s.before

-- name: lane_histories
-- The end of the log; a limit only if the lane was processed, or found restored.
select l.partition, newest.sequence as "end",
       newest.sequence > 0 or coalesce(h.code in ('HISTORY_BEHIND', 'HISTORY_FORKED'), false) as binds,
       newest.timeline > 1 as forked
from tm.lane l
cross join lateral (
  select sequence, timeline from tm.batch where batch.lane = l.lane order by batch desc, gen desc limit 1) as newest
left join tm.halt h on h.lane = l.lane
where l.aggregate = $1 and l.partition = any($2::int[])

-- name: lane_forks
select l.partition, t.forked_at, t.continued_at, t.topic_sequence
from tm.timeline t join tm.lane l using (lane)
where l.aggregate = $1 and l.partition = any($2::int[]) order by l.partition, t.timeline

-- name: note_foreign
-- Records that are read again are not counted again.
insert into tm.foreign_record as f (lane, topic, records, first_offset, last_offset, last_seen)
select l.lane, l.event_topic, count(*), min(n.record_offset), max(n.record_offset), clock_timestamp()
from unnest($2::int[], $3::bigint[]) as n (partition, record_offset)
join tm.lane l on l.aggregate = $1 and l.partition = n.partition
left join tm.foreign_record known on known.lane = l.lane and known.topic = l.event_topic
where known.last_offset is null or n.record_offset > known.last_offset
group by l.lane, l.event_topic
on conflict (lane, topic) do update
set records = f.records + excluded.records, first_offset = coalesce(f.first_offset, excluded.first_offset),
    last_offset = greatest(f.last_offset, excluded.last_offset), last_seen = excluded.last_seen

-- name: halt
-- Only for the incarnation that is live; the time of an equal halt is kept.
insert into tm.projection_halt (projection, partition, code, expected, got, detail)
select $1, $3, $4, $5, $6, $7 from tm.projection where projection = $1 and incarnation = $2
on conflict (projection, partition) do update
  set code = excluded.code, expected = excluded.expected, got = excluded.got, detail = excluded.detail,
      since = clock_timestamp()
  where (projection_halt.code, projection_halt.expected, projection_halt.got, projection_halt.detail)
     is distinct from (excluded.code, excluded.expected, excluded.got, excluded.detail)

-- name: clear_halts
delete from tm.projection_halt where projection = $1 and partition = any($2::int[])

-- Rebuilding a read model. $1 is the projection, or the quoted name of its live table.

-- name: lock_rebuild
select pg_try_advisory_lock(hashtextextended('tidemill workshop ' || $1::text, 0))

-- name: unlock_rebuild
select pg_advisory_unlock(hashtextextended('tidemill workshop ' || $1::text, 0))

-- name: next_incarnation
-- Never one that was used before: a process that still uses an abandoned one finds no checkpoint.
select p.incarnation as live, greatest(p.incarnation, max(c.incarnation)) + 1 as next
from tm.projection p left join tm.checkpoint c using (projection)
where p.projection = $1 group by p.incarnation

-- name: drop_other_checkpoints
delete from tm.checkpoint c using tm.projection p
where c.projection = $1 and p.projection = c.projection and c.incarnation <> p.incarnation

-- name: obstacles
-- What a table has that would be lost, or would stay with the old table, when another replaces it.
with live as (select * from pg_class where oid = $1::text::regclass)
select 'it is not a plain table' as obstacle from live where relkind <> 'r' or relispartition or relhassubclass
union all
select 'trigger ' || quote_ident(tgname) from pg_trigger join live on tgrelid = live.oid where not tgisinternal
union all
select 'foreign key ' || quote_ident(conname) || ' of ' || conrelid::regclass
from pg_constraint join live on live.oid in (conrelid, confrelid) where contype = 'f'
union all
select 'row security' from live where relrowsecurity
union all
select distinct 'view ' || r.ev_class::regclass
from pg_depend d join live on d.refobjid = live.oid join pg_rewrite r on r.oid = d.objid
where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
union all
select 'sequence ' || d.objid::regclass
from pg_depend d join live on d.refobjid = live.oid join pg_class s on s.oid = d.objid and s.relkind = 'S'
where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
union all
select 'publication ' || quote_ident(p.pubname)
from pg_publication_rel r join live on r.prrelid = live.oid join pg_publication p on p.oid = r.prpubid

-- name: shadow_definition
-- The statements that give tm_shadow.<name>, created LIKE the live table without indexes, all else that the live one
-- has, under the same names.
with live as (
  select c.oid, c.relname, n.nspname, c.reloptions, c.relacl, c.relowner
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = $1::text::regclass)
select statement from (
  select 1 as rank, format('alter table tm_shadow.%I set (%s)', relname, array_to_string(reloptions, ', ')) as statement
  from live where reloptions is not null
  union all
  select 2, format('alter table tm_shadow.%I add constraint %I %s', relname, conname, pg_get_constraintdef(con.oid))
  from live join pg_constraint con on con.conrelid = live.oid where contype in ('p', 'u', 'x')
  union all
  select 3, replace(pg_get_indexdef(i.indexrelid), format(' ON %I.%I ', nspname, relname), format(' ON tm_shadow.%I ', relname))
  from live join pg_index i on i.indrelid = live.oid
  where not exists (select from pg_constraint con where con.conindid = i.indexrelid and con.contype in ('p', 'u', 'x'))
  union all
  select 4, format('comment on table tm_shadow.%I is %L', relname, obj_description(oid, 'pg_class'))
  from live where obj_description(oid, 'pg_class') is not null
  union all
  select 5, format('alter table tm_shadow.%I owner to %I', relname, pg_get_userbyid(relowner)) from live
  where relowner <> (select oid from pg_roles where rolname = current_user)
  union all
  -- privileges of the new table by default that the live one does not have
  select 6, format('revoke all on tm_shadow.%I from %s', live.relname, who.name)
  from live
  join pg_class s on s.oid = to_regclass(format('tm_shadow.%I', live.relname)),
  aclexplode(s.relacl) held,
  lateral (select case held.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(held.grantee)) end as name) who
  where held.grantee <> s.relowner
  union all
  select 7, format('grant %s on tm_shadow.%I to %s%s', held.privilege_type, relname, who.name,
                   case when held.is_grantable then ' with grant option' else '' end)
  from live, aclexplode(relacl) held,
  lateral (select case held.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(held.grantee)) end as name) who
  where held.grantee <> relowner
  union all
  select 8, format('grant %s (%I) on tm_shadow.%I to %s%s', held.privilege_type, a.attname, relname, who.name,
                   case when held.is_grantable then ' with grant option' else '' end)
  from live join pg_attribute a on a.attrelid = live.oid and a.attnum > 0 and not a.attisdropped,
  aclexplode(a.attacl) held,
  lateral (select case held.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(held.grantee)) end as name) who
  where held.grantee <> relowner
) ddl order by rank, statement

-- name: hold_checkpoints
select c.partition, c.sequence, c.next_offset
from tm.checkpoint c join tm.projection p on p.projection = c.projection and p.incarnation = c.incarnation
where c.projection = $1 order by c.partition for update of c

-- name: withdrawn_checkpoints
select c.partition
from tm.checkpoint c join tm.projection p using (projection, incarnation)
join tm.lane l on l.aggregate = c.aggregate and l.partition = c.partition join tm.timeline t on t.lane = l.lane
where c.projection = $1 and c.sequence > t.forked_at and c.sequence <= t.continued_at

-- name: adopt_incarnation
update tm.projection set incarnation = $2, rebuilt_at = clock_timestamp() where projection = $1

-- name: forget_halts
delete from tm.projection_halt where projection = $1

-- name: note_verified
update tm.projection set verified_at = clock_timestamp() where projection = $1
