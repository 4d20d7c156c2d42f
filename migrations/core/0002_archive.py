"""The archive: what of a hypertable left, how far the rest is, who said so; rows that came too late; two roles.

Revision ID: core_0002
Revises: core_0001
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "core_0002"
down_revision = "core_0001"
branch_labels = None
depends_on = None

ROLES = """
-- The archiver reads hypertables and nothing else. The right to drop belongs to a role of its own, which is also a
-- service, since it owns the archive's lane.
do $$
declare name text;
begin
  foreach name in array array['tidemill_archiver', 'tidemill_retention'] loop
    if not exists (select from pg_catalog.pg_roles where rolname = name) then
      begin
        execute format('create role %I nologin', name);
      exception when duplicate_object or unique_violation then null;
      end;
    end if;
  end loop;
  if not pg_has_role('tidemill_retention', 'tidemill_service', 'member') then  -- who made the roles may have said it
    begin
      grant tidemill_service to tidemill_retention;
    exception when unique_violation then null;  -- another database of the server was migrated at the same moment
    end;
  end if;
end $$;
"""

TABLES = """
create schema tm_late;
comment on schema tm_late is 'Tidemill: rows that came for a span of time that is sealed or gone; they are archived too.';

-- One row per slice: a span of a hypertable (that of one chunk) and the how-manieth archival of it. While any slice of a
-- span is closed, batches put rows of that span into tm_late. Rows of dropped slices stay: they are the tombstones.
create table tm.archive (
  table_name text not null, range_start timestamptz not null, range_end timestamptz not null, generation int not null,
  state text not null, closed boolean not null, since timestamptz not null,
  source text not null check (source in ('chunk', 'late')), chunk text not null, size_bytes bigint not null,
  compressed boolean not null default false,
  columns jsonb not null, seal int not null, sealed_at timestamptz,
  row_count bigint, digest text, min_time timestamptz, max_time timestamptz,   -- as measured under this seal
  event_id text, attempt int not null, deadline timestamptz,
  superseded text[] not null, left_at text[] not null default '{}',   -- earlier requests, and where their copies were
  copy jsonb, verified jsonb,                 -- what the archiver says, and what we read back ourselves
  held_from text, restore_until timestamptz, reason text,
  primary key (table_name, range_start, generation));
create index archive_event on tm.archive (event_id) where event_id is not null;
create index archive_closed on tm.archive (table_name, range_end) where closed;

-- Who asks for copies: part of the ids of all requests, and so of the names of copies. A clone of the database that
-- archives into the same lake needs another one.
create table tm.archive_registry (
  registry uuid not null default gen_random_uuid(), one boolean primary key default true check (one));
insert into tm.archive_registry default values;

create table tm.archive_trail (
  entry bigint generated always as identity primary key,
  table_name text not null, range_start timestamptz not null, generation int not null,
  before text, after text not null, event_id text, who text not null, why text not null,
  at timestamptz not null default clock_timestamp());
create index archive_trail_slice on tm.archive_trail (table_name, range_start, generation);
create index archive_trail_dropped on tm.archive_trail (event_id) where after = 'dropped';

create table tm.archive_hold (
  hold bigint generated always as identity primary key,
  table_name text not null, range_start timestamptz, range_end timestamptz,   -- null: without bound
  reason text not null, who text not null, since timestamptz not null default clock_timestamp(),
  check (range_start < range_end));
"""

ROUTINES = """
-- The mutex between batches and the archive, per hypertable: a batch shares it until it commits, whoever opens or closes
-- a span holds it alone. Two statements in one call: the second one's snapshot is taken when the lock is held, which
-- needs READ COMMITTED: a transaction's only snapshot would be older than the lock.
create function tm.closed_ranges(wanted text, first timestamptz, last timestamptz)
returns table (range_start timestamptz, range_end timestamptz) language plpgsql volatile as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'closed ranges of % are asked for under %: that snapshot may be older than a seal, use read committed',
      wanted, current_setting('transaction_isolation') using errcode = 'TM008';
  end if;
  perform pg_advisory_xact_lock_shared(7018643, hashtext(wanted));
  return query select distinct a.range_start, a.range_end from tm.archive a
    where a.table_name = wanted and a.closed and a.range_end > first and a.range_start <= last order by 1;
end $$;

create function tm.lock_ranges(wanted text) returns void language sql volatile as $$
  select pg_advisory_xact_lock(7018643, hashtext(wanted))
$$;

create function tm.late_table(wanted text) returns text language sql immutable as $$
  select format('tm_late.%I', replace(wanted, '.', '__'))
$$;

-- What a table does with a row: two that agree in this keep the same values, and refuse the same ones.
create function tm.column_rules(relation regclass)
returns table (attnum smallint, name name, type text, required boolean, made text, generated boolean)
language sql stable set search_path = pg_catalog, pg_temp as $$
  select a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
    case when a.attidentity <> '' then format('nextval(%L::regclass)', pg_get_serial_sequence(relation::text, a.attname))
         else pg_get_expr(d.adbin, d.adrelid) end, a.attgenerated <> ''
  from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
$$;

create function tm.check_rules(relation regclass) returns table (name name, rule text)
language sql stable set search_path = pg_catalog, pg_temp as $$
  select conname, coalesce(substring(obj_description(oid, 'pg_constraint') from '^As the table has it: (.*)'),
                           pg_get_expr(conbin, conrelid))
  from pg_constraint where conrelid = relation and contype = 'c'
$$;

-- Null if late rows of a hypertable are kept as the hypertable would; else what is wrong, and what to do.
create function tm.late_unfit(wanted text) returns text language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  named text := format('%I.%I', split_part(wanted, '.', 1), substr(wanted, strpos(wanted, '.') + 1));
  hypertable regclass := to_regclass(named); late regclass := to_regclass(tm.late_table(wanted)); wrong text;
begin
  if late is null then
    wrong := 'it does not exist';
  else
    select string_agg(what, ', ' order by what) into wrong from (
      select 'column ' || h.name || case when l.name is null then ' is missing'
        when l.type <> h.type then format(' is %s and not %s', l.type, h.type)
        else ' has another default, expression or NOT NULL' end as what
      from tm.column_rules(hypertable) h left join tm.column_rules(late) l using (name)
      where (h.type, h.required, h.made, h.generated) is distinct from (l.type, l.required, l.made, l.generated)
      union all
      select format('column %s is not the table''s', l.name) from tm.column_rules(late) l
      where l.required and l.made is null and l.name <> 'tm_range_start'
        and not exists (select from tm.column_rules(hypertable) h where h.name = l.name)
      union all
      select format('check %s differs', coalesce(h.name, l.name)) from tm.check_rules(hypertable) h
      full join tm.check_rules(late) l on h = l where h is null or l is null) as misfit;
  end if;
  if wrong is null or hypertable is null then
    return null;
  end if;
  return format('late rows of %s cannot be kept in %s: %s; have the login that migrates run: call tm.prepare_late(%L)',
                wanted, tm.late_table(wanted), wrong, named);
end $$;

-- Give the late table the rules that the hypertable has by now. A new check is none for the rows that are there: they must
-- be able to leave, and what the hypertable does not take back stays late.
create procedure tm.keep_alike(hypertable regclass, late regclass) language plpgsql as $$
declare each record; altered text := format('alter table %s ', late);
begin
  for each in select l.name from tm.check_rules(late) l
      where not exists (select from tm.check_rules(hypertable) h where h = l) loop
    execute altered || format('drop constraint %I', each.name);
  end loop;
  for each in
      select h.*, l.name is null as missing, l.generated as was_generated, l.type is distinct from h.type as retyped
      from tm.column_rules(hypertable) h left join tm.column_rules(late) l using (name)
      where (h.type, h.required, h.made, h.generated) is distinct from (l.type, l.required, l.made, l.generated)
      order by h.attnum loop
    if each.generated and not each.missing then
      execute altered || format('drop column %I', each.name);  -- computed again below
      each.missing := true;
    elsif each.was_generated then
      execute altered || format('alter column %I drop expression', each.name);
    end if;
    if each.missing then
      execute altered || format('add column %I %s ', each.name, each.type)
        || format(case when each.generated then 'generated always as (%s) stored'
                       when each.made is not null then 'default %s' else '' end, each.made);
    else
      execute altered || format('alter column %I drop default', each.name);
      if each.retyped then
        execute altered || format('alter column %I type %s', each.name, each.type);
      end if;
      if each.made is not null then
        execute altered || format('alter column %I set default %s', each.name, each.made);
      end if;
    end if;
    execute altered || format('alter column %I %s not null', each.name, case when each.required then 'set' else 'drop' end);
  end loop;
  for each in select l.name from tm.column_rules(late) l
      where l.required and l.made is null and l.name <> 'tm_range_start'
        and not exists (select from tm.column_rules(hypertable) h where h.name = l.name) loop
    execute altered || format('alter column %I drop not null', each.name);
  end loop;
  for each in select h.name, h.rule from tm.check_rules(hypertable) h
      where not exists (select from tm.check_rules(late) l where l = h) loop
    execute format('lock table %s in access exclusive mode', late);
    execute altered || format('add constraint %I check (tm_at < %L or (%s))', each.name, clock_timestamp(), each.rule);
    execute format('comment on constraint %I on %s is %L', each.name, late, 'As the table has it: ' || each.rule);
  end loop;
end $$;

-- For a context's migration: the place for late rows of a hypertable, and who may do what there. Again after a column or check was
-- added. A batch adds late rows and no more; which slice they belong to, and when they leave, is the archive's.
create procedure tm.prepare_late(hypertable regclass) language plpgsql as $$
declare wanted text; late text; described text; columns text;
begin
  select format('%s.%s', n.nspname, c.relname) into wanted
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = hypertable;
  late := tm.late_table(wanted);
  described := format('late rows of %s', wanted);
  if octet_length(replace(wanted, '.', '__')) > 63 then
    raise exception 'the name of % is too long: with two bytes for its dot it may have 63', wanted using errcode = 'TM010';
  elsif coalesce(obj_description(to_regclass(late), 'pg_class'), described) <> described then
    raise exception '% takes the %, and can take none of %: rename one of them', late,
      obj_description(to_regclass(late), 'pg_class'), wanted using errcode = 'TM010';
  end if;
  execute format('create table if not exists %s (like %s, tm_range_start timestamptz not null, tm_generation int,
                  tm_at timestamptz not null default clock_timestamp())', late, hypertable);
  call tm.keep_alike(hypertable, late);
  execute format('comment on table %s is %L', late, described);
  if not exists (select from pg_index where indrelid = late::regclass) then
    execute format('create index on %s (tm_range_start, tm_generation)', late);
  end if;
  select string_agg(quote_ident(attname), ', ') into columns from pg_attribute
    where attrelid = late::regclass and attnum > 0 and not attisdropped and attname not in ('tm_generation', 'tm_at');
  execute format('grant insert (%s) on %s to tidemill_service', columns, late);
  execute format('grant update (tm_generation), delete on %s to tidemill_retention', late);
  execute format('grant select on %s, %s to tidemill_service, tidemill_archiver', late, hypertable);
  execute format('grant usage on schema %I to tidemill_archiver', split_part(wanted, '.', 1));
end $$;

-- For the way down: what is only written here must not be dropped unseen. Null: all tables, and the holds.
create procedure tm.refuse_to_forget(wanted text) language plpgsql as $$
declare held text; late regclass; waiting bigint;
begin
  lock table tm.archive in share mode;
  select string_agg(format('%s %s of %s', slices, state, table_name), ', ') into held from (
    select table_name, state, count(*) as slices from tm.archive
    where state not in ('live', 'eligible', 'aborted') and table_name = coalesce(wanted, table_name)
    group by 1, 2 order by 1, 2) known;
  for late in select c.oid from pg_class c where c.relnamespace = 'tm_late'::regnamespace and c.relkind = 'r'
      and (wanted is null or c.oid = to_regclass(tm.late_table(wanted))) order by c.relname loop
    execute format('lock table %s in access exclusive mode', late);
    execute format('select count(*) from %s', late) into waiting;
    if waiting > 0 then
      held := concat_ws(', ', held, format('%s rows in %s', waiting, late));
    end if;
  end loop;
  if wanted is null and exists (select from tm.archive_hold) then
    held := concat_ws(', ', held, 'holds');
  end if;
  if held is not null then
    raise exception 'the archive holds what is written nowhere else: %. Restore what you want back, save tm.archive, '
      'tm.archive_trail, tm.archive_hold and tm_late.* with pg_dump, delete these rows as their owner, and migrate down '
      'again', held using errcode = 'TM011';
  end if;
end $$;

create procedure tm.demand_chunk(wanted text, chunk text) language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (select from timescaledb_information.chunks c
      where format('%s.%s', c.hypertable_schema, c.hypertable_name) = wanted
        and format('%I.%I', c.chunk_schema, c.chunk_name) = chunk) then
    raise exception '% is no chunk of %', chunk, wanted using errcode = 'TM004';
  end if;
end $$;

-- Writers wait, readers do not. Needs the right to write to a chunk, which nobody but the owner has.
create procedure tm.lock_slice(wanted text, chunk text) language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
begin
  call tm.demand_chunk(wanted, chunk);
  execute format('lock table %s in share mode', chunk::regclass);
end $$;

-- What a chunk needs before it can be dropped: nothing, as long as none is frozen.
create procedure tm.thaw(chunk regclass) language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
end $$;

-- Let the rows of one slice go: exactly that chunk, or the late rows that were archived. Who calls it has compared the
-- rows with the verified copy, in this transaction and under lock_slice; what the registry forbids is refused here.
create procedure tm.drop_slice(wanted text, start timestamptz, gen int) language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare slice tm.archive%rowtype; deleted bigint;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'slice % of % is to be dropped under %: that snapshot may be older than the lock, use read committed',
      start, wanted, current_setting('transaction_isolation') using errcode = 'TM008';
  end if;
  select * into slice from tm.archive a
    where a.table_name = wanted and a.range_start = start and a.generation = gen for update;
  if not found or slice.state not in ('verified', 'restored') or slice.verified is null then
    raise exception 'slice % of % (generation %) is not verified', start, wanted, gen using errcode = 'TM005';
  end if;
  if exists (select from tm.archive_hold h where h.table_name = wanted
             and (h.range_start is null or h.range_start < slice.range_end)
             and (h.range_end is null or h.range_end > slice.range_start)) then
    raise exception 'slice % of % is held', start, wanted using errcode = 'TM006';
  end if;
  if slice.source = 'late' and slice.state = 'verified' then
    execute format('delete from %s where tm_range_start = $1 and tm_generation = $2', tm.late_table(wanted))
      using start, gen;
    get diagnostics deleted = row_count;
    if deleted is distinct from slice.row_count then
      raise exception 'slice % of % (generation %) has % late rows now, % were sealed', start, wanted, gen, deleted,
        slice.row_count using errcode = 'TM009';
    end if;
  elsif slice.source = 'chunk' then  -- restored late rows are in the chunk of their range, and leave with that
    call tm.demand_chunk(wanted, slice.chunk);
    call tm.thaw(slice.chunk::regclass);
    perform _timescaledb_functions.drop_chunk(slice.chunk::regclass);
  end if;
end $$;
"""

GRANTS = """
revoke execute on all routines in schema tm from public;
grant execute on all routines in schema tm to tidemill_service;
revoke execute on procedure tm.lock_slice(text, text), tm.drop_slice(text, timestamptz, int), tm.prepare_late(regclass),
  tm.keep_alike(regclass, regclass), tm.refuse_to_forget(text), tm.demand_chunk(text, text),
  tm.thaw(regclass) from tidemill_service;
grant execute on procedure tm.lock_slice(text, text), tm.drop_slice(text, timestamptz, int) to tidemill_retention;
grant usage on schema tm_late to tidemill_service, tidemill_archiver;
-- What the registry says lets rows go. So the service only reads it, and nobody deletes a tombstone or rewrites the trail.
revoke insert, update, delete on tm.archive, tm.archive_trail, tm.archive_hold from tidemill_service;
grant insert, update on tm.archive to tidemill_retention;
grant insert on tm.archive_trail to tidemill_retention;
grant insert, delete on tm.archive_hold to tidemill_retention;
revoke insert, update, delete on tm.archive_registry from tidemill_service;
"""

ACTIVITY = """
-- Since when a chunk's count of written rows has not changed: its quiet period. PostgreSQL counts, and forgets after a
-- crash; then the period begins anew.
create table tm.archive_activity (
  chunk text primary key, table_name text not null, writes bigint not null, since timestamptz not null);
revoke insert, update, delete on tm.archive_activity from tidemill_service;
grant insert, update, delete on tm.archive_activity to tidemill_retention;
"""


def upgrade() -> None:
    """Create the registry of the archive."""
    for part in (ROLES, TABLES, ROUTINES, GRANTS, ACTIVITY):
        run_script(part)


def downgrade() -> None:
    """Drop the registry, if nothing depends on it. The roles stay: other databases of the server use them."""
    run_script("""
      call tm.refuse_to_forget(null);
      drop schema tm_late cascade;
      drop table tm.archive_activity;
      drop procedure tm.drop_slice(text, timestamptz, int);
      drop procedure tm.thaw(regclass);
      drop procedure tm.lock_slice(text, text);
      drop procedure tm.demand_chunk(text, text);
      drop procedure tm.refuse_to_forget(text);
      drop procedure tm.prepare_late(regclass);
      drop procedure tm.keep_alike(regclass, regclass);
      drop function tm.late_unfit(text);
      drop function tm.check_rules(regclass);
      drop function tm.column_rules(regclass);
      drop function tm.late_table(text);
      drop function tm.lock_ranges(text);
      drop function tm.closed_ranges(text, timestamptz, timestamptz);
      drop table tm.archive_hold, tm.archive_trail, tm.archive_registry, tm.archive;
    """)
