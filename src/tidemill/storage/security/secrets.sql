-- The statements of data keys and master keys.

-- name: load_keys
-- A batch holds what it uses: an erasure waits for it, and a batch that waited for an erasure sees it. A rotation does
-- not wait. In the order of generations, so that the newest of a key comes last.
select s.collection, s.key, s.generation, s.wrapped, s.master
from unnest($2::text[]) as k (key) join tm.secret_key s on s.collection = $1 and s.key = k.key
order by s.key, s.generation for key share of s

-- name: hold_master
-- Until the transaction ends nobody removes the name.
select check_value from tm.secret_master where name = $1 for key share

-- name: register_master
insert into tm.secret_master (name, check_value) values ($1, $2) on conflict (name) do nothing

-- name: masters
select name, check_value from tm.secret_master order by name

-- name: stored_keys
select collection, key, generation, wrapped, master from tm.secret_key
where collection = $1 and key = $2 order by generation

-- name: count_keys
select collection, master, count(*) filter (where wrapped is not null) as keys,
       count(*) filter (where wrapped is null) as erased
from tm.secret_key group by collection, master order by collection, master

-- name: keys_of_others
-- What other master keys wrap, after a place, locked against each other's rotation only.
select collection, key, generation, wrapped, master from tm.secret_key
where (collection, key, generation) > ($2, $3, $4) and master <> $1 and wrapped is not null
order by collection, key, generation limit $5 for no key update

-- name: rewrap_keys
update tm.secret_key s set wrapped = n.wrapped, master = n.master
from unnest($1::text[], $2::text[], $3::int[], $4::bytea[], $5::text[]) as n (collection, key, generation, wrapped, master)
where s.collection = n.collection and s.key = n.key and s.generation = n.generation

-- name: erase_keys
update tm.secret_key s set wrapped = null, erased_at = clock_timestamp()
from (select collection, key, generation from tm.secret_key
      where collection = $1 and key = $2 and wrapped is not null order by generation for update) as held
where s.collection = held.collection and s.key = held.key and s.generation = held.generation
returning 1

-- name: lock_masters
select name from tm.secret_master where name <> $1 order by name for update

-- name: lock_master
select name from tm.secret_master where name = $1 for update

-- name: erase_keys_of_master
update tm.secret_key s set wrapped = null, erased_at = clock_timestamp()
from (select collection, key, generation from tm.secret_key
      where master = $1 and wrapped is not null order by collection, key, generation for update) as held
where s.collection = held.collection and s.key = held.key and s.generation = held.generation
returning 1

-- name: drop_master
delete from tm.secret_master where name = $1

-- name: drop_unused_masters
-- A separate statement, after lock_masters: its snapshot must show what was committed before the locks were taken.
delete from tm.secret_master m
where m.name = any($1::text[])
  and not exists (select from tm.secret_key s where s.master = m.name and s.wrapped is not null)
returning m.name
