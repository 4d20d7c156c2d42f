-- The columns of a table, and how their types are made: what `storage.retention.fidelity` checks.

-- name: columns
with recursive attribute as (
    select attnum, attname, atttypid, atttypmod, not attnotnull as nullable
    from pg_catalog.pg_attribute
    where attrelid = $1::oid and attnum > 0 and not attisdropped
), made as (  -- each type is made of at most one other: a domain's base, an array's element, a range's subtype
    select attnum, 1 as depth, atttypid as type, atttypmod as typmod from attribute
    union all
    select made.attnum, made.depth + 1, part.type,
        case when kind.typtype = 'd' then kind.typtypmod else -1 end
    from made
    join pg_catalog.pg_type as kind on kind.oid = made.type
    cross join lateral (select case
        when kind.typtype = 'd' then kind.typbasetype
        when kind.typtype = 'b' and kind.typcategory = 'A' then kind.typelem
        when kind.typtype = 'r' then (select rngsubtype from pg_catalog.pg_range where rngtypid = kind.oid)
        when kind.typtype = 'm' then (select rngtypid from pg_catalog.pg_range where rngmultitypid = kind.oid)
        else 0::oid end as type) as part
    where part.type <> 0
), link as (
    select made.attnum, made.depth, made.typmod,
        case when kind.typtype = 'b' and kind.typcategory = 'A' then 'a' else kind.typtype::text end as kind,
        case when space.nspname = 'pg_catalog' then '' else '.' end || kind.typname as name
    from made
    join pg_catalog.pg_type as kind on kind.oid = made.type
    join pg_catalog.pg_namespace as space on space.oid = kind.typnamespace
)
select attribute.attname::text as name, pg_catalog.format_type(atttypid, atttypmod) as pg_type, attribute.nullable,
    array_agg(link.kind || ':' || link.name order by link.depth) as chain,
    coalesce((array_agg(link.typmod order by link.depth) filter (where link.kind <> 'd'))[1], -1) as typmod
from attribute join link using (attnum)
group by attnum, attname, atttypid, atttypmod, nullable
order by attnum

-- name: encoding
select current_setting('server_encoding')

-- name: generated
select attname::text from pg_catalog.pg_attribute
where attrelid = $1::oid and attnum > 0 and not attisdropped and attgenerated <> ''
