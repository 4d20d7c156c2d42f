"""The journal: what was done by hand or over HTTP, and by whom; and the role of the process that serves HTTP.

Revision ID: core_0011
Revises: core_0010
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "core_0011"
down_revision = "core_0010"
branch_labels = None
depends_on = None

ROLE = """
-- What serves HTTP reads what readers read: a new context grants its tables to tidemill_reader, and needs no line for
-- this role. Both roles may have been made by a superuser, who then makes the one a member of the other.
do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'tidemill_http') then
    begin
      create role tidemill_http nologin;
    exception
      when duplicate_object or unique_violation then null;
      when insufficient_privilege then
        raise exception 'the role tidemill_http is missing, and this login may make none'
          using errcode = '42501', hint = 'a superuser makes it: create role tidemill_http nologin in role tidemill_reader';
    end;
  end if;
  if not pg_has_role('tidemill_http', 'tidemill_reader', 'member') then
    begin
      grant tidemill_reader to tidemill_http;
    exception when unique_violation then null;  -- another database of the server was migrated at the same moment
    end;
  end if;
end $$;
"""

TABLES = """
-- One chain for each start of a process (`writer`): numbers are dense from 1, and the first entry is its anchor. `hash`
-- covers the row and the hash before it (tidemill.security.journal.row_hash), so that a change, a removal or another
-- order is seen by whoever walks the chain. `of_*`: the intent that an outcome belongs to.
create table tm.journal (
  writer uuid not null, number bigint not null, at timestamptz not null, kind text not null,
  principal text, action text not null, collection text, command_id uuid, of_writer uuid, of_number bigint,
  detail jsonb not null default '{}', hash bytea not null,
  primary key (writer, number),
  check (number > 0 and octet_length(hash) = 32),
  check (kind in ('anchor', 'intent', 'outcome', 'refusal', 'change')),
  check ((kind = 'outcome') = (of_number is not null) and (of_writer is null) = (of_number is null)),
  check (octet_length(detail::text) <= 4096));
-- Which intents have an outcome, and whether a command was sent; entries of a time are found by their place, since they are stored as they are made.
create index journal_outcome on tm.journal (of_writer, of_number) where of_number is not null;
create index journal_intent on tm.journal (command_id) where kind = 'intent' and command_id is not null;
create index journal_at on tm.journal using brin (at) with (pages_per_range = 32, autosummarize = on);

comment on table tm.journal is 'Tidemill: who did what by hand or over HTTP; append-only, checked by tidemill audit --journal';

-- No login but the owner's could do it; the owner does not do it by mistake.
create function tm.refuse_journal_change() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'tm.journal is append-only' using errcode = '42501';
end $$;
create trigger append_only before update or delete or truncate on tm.journal
  for each statement execute function tm.refuse_journal_change();
"""

GRANTS = """
revoke execute on function tm.refuse_journal_change() from public;
grant select, insert on tm.journal to tidemill_service;

grant usage on schema tm to tidemill_http;
grant select on public.tidemill_version, public.tidemill_migration to tidemill_http;
grant insert, select (writer, number, hash, kind, command_id, principal) on tm.journal to tidemill_http;
grant select on tm.principal, tm.principal_grant, tm.principal_token, tm.principal_version to tidemill_http;
grant select on tm.lane, tm.halt, tm.waiting, tm.batch, tm.log, tm.published, tm.timeline, tm.projection, tm.checkpoint,
  tm.projection_halt, tm.archive, tm.archive_trail to tidemill_http;
grant select (lane, position, item, record_offset, seconds) on tm.outbox to tidemill_http;  -- where a record was
grant select, insert, update, delete on tm.process to tidemill_http;   -- what a process says of itself
"""

LATE = """
-- Which times have late rows is part of an answer about facts: their ranges are read, and nothing else of them. As in
-- core_0002, with the grant of the last line.
create or replace procedure tm.prepare_late(hypertable regclass) language plpgsql as $$
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
  execute format('grant select (tm_range_start) on %s to tidemill_http', late);
end $$;

do $$
declare late regclass;
begin
  for late in select c.oid from pg_class c where c.relnamespace = 'tm_late'::regnamespace and c.relkind = 'r' loop
    execute format('grant select (tm_range_start) on %s to tidemill_http', late);
  end loop;
end $$;
grant usage on schema tm_late to tidemill_http;
"""

FORMER_LATE = """
create or replace procedure tm.prepare_late(hypertable regclass) language plpgsql as $$
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

do $$
declare late regclass;
begin
  for late in select c.oid from pg_class c where c.relnamespace = 'tm_late'::regnamespace and c.relkind = 'r' loop
    execute format('revoke select (tm_range_start) on %s from tidemill_http', late);
  end loop;
end $$;
revoke usage on schema tm_late from tidemill_http;
"""

LEAVE = """
drop table tm.journal;
drop function tm.refuse_journal_change();
revoke all on all tables in schema tm from tidemill_http;
revoke usage on schema tm from tidemill_http;
revoke select on public.tidemill_version, public.tidemill_migration from tidemill_http;
"""


def upgrade() -> None:
    """Add the journal and the role."""
    for part in (ROLE, TABLES, GRANTS, LATE):
        run_script(part)


def downgrade() -> None:
    """Drop the journal. The role stays: other databases of the server use it."""
    for part in (FORMER_LATE, LEAVE):
        run_script(part)
