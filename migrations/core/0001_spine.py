"""The spine: lanes, ledger, log, outbox, parked records, checkpoints, and the two roles.

Revision ID: core_0001
Revises:
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "core_0001"
down_revision = None
branch_labels = ("core",)
depends_on = None

ROLES = """
-- The role that migrates owns everything; those who work or read are members of one of these. Roles belong to the
-- server, so that another database may make them at the same moment.
do $$
declare name text;
begin
  foreach name in array array['tidemill_service', 'tidemill_reader'] loop
    if not exists (select from pg_catalog.pg_roles where rolname = name) then
      begin
        execute format('create role %I nologin', name);
      exception when duplicate_object or unique_violation then null;
      end;
    end if;
  end loop;
end $$;
"""

TABLES = """
create extension if not exists timescaledb;
create schema tm;

comment on schema tm is 'Tidemill: lanes, ledger, log, outbox. Contexts keep their own tables elsewhere.';
create schema tm_shadow;
comment on schema tm_shadow is 'Tidemill: read models under construction; nothing here outlives a rebuild or a verification.';

-- A lane changes at claims only: SELECT ... FOR UPDATE of it is the mutex, so that no batch leaves a dead row version
-- here, even under a snapshot that somebody holds for hours.
create table tm.lane (
  lane smallint generated always as identity primary key,
  aggregate text not null, partition int not null, partitions int not null,
  command_topic text not null, event_topic text not null, outcome_topic text not null, dead_letter_topic text not null,
  epoch int not null default 0, owner text, claimed_at timestamptz,
  claimed_batch bigint,                       -- newest batch at the last claim; null after a clean release
  barren smallint not null default 0,         -- claims in a row that ended without a batch
  trial_offset bigint, trials smallint not null default 0,   -- the record tried alone, and how often
  unique (aggregate, partition)
) with (fillfactor = 50);

create table tm.halt (
  lane smallint primary key references tm.lane, code text not null, detail text not null,
  since timestamptz not null default clock_timestamp());

-- Generations: exactly one is open; a closed one is immutable and has a filter of its ids. Their number is an int: at
-- 10,000 commands a second a log that rolls every 5,000,000 ids would use up a smallint in 190 days, an int in 34,000
-- years; beside a lane it takes no byte more.
create table tm.generation (
  gen int primary key, opened_at timestamptz not null default clock_timestamp(), closed_at timestamptz,
  ids bigint, filter bytea,
  outbox_sent_at timestamptz);   -- when all of its outbox was first seen to be published: its part leaves 72 h later
create unique index one_generation_is_open on tm.generation ((true)) where closed_at is null;

-- The ledger: one row per batch and lane, append-only. The newest row of a lane is its state; from/to offsets form the
-- chain that audit checks. reason is set on rows that are no batch: 'created', 'carried', 'skipped: ...', 'reconciled: ...'.
create table tm.batch (
  lane smallint not null, gen int not null, batch bigint not null, epoch int not null, timeline int not null,
  from_offset bigint not null, to_offset bigint not null, anchor_offset bigint, anchor_checksum bigint,
  position bigint not null, sequence bigint not null, chain bigint not null,
  applied int not null, rejected int not null, duplicate int not null, parked int not null, events int not null,
  at timestamptz not null, reason text,
  primary key (lane, batch, gen)
) partition by list (gen);

-- One row per record that arrived. A duplicate's or ID_REUSE's row leaves the id null and names the first in repeats.
create table tm.log (
  lane smallint not null, gen int not null, position bigint not null,
  command_id uuid, digest bigint not null, outcome "char" not null,
  events smallint not null, sequence bigint not null, at timestamptz not null,
  type text, service text, code text, detail text, repeats uuid
) partition by list (gen);
create unique index log_command_id on tm.log (command_id, gen);
create index log_lane on tm.log using brin (lane, position) with (pages_per_range = 16, autosummarize = on);

-- What the relay sends. Item 0 carries a record's outcome and its first event; further events follow as items 1...
create table tm.outbox (
  lane smallint not null, gen int not null, position bigint not null, item smallint not null,
  outcome "char", original "char", code text, detail text,
  command_id uuid, service text, correlation text,
  sequence bigint not null, at timestamptz not null, seconds real not null, record_offset bigint not null,
  key bytea, event_type text, payload bytea, chain bigint not null, trace text,
  client_id text   -- the id as the client wrote it, where that is not the text of command_id
) partition by list (gen);
create index outbox_lane on tm.outbox (lane, position, item);

-- A hint, written every second or so: the truth is the tail of the topic.
create table tm.published (
  lane smallint primary key references tm.lane, position bigint not null, sequence bigint not null,
  event_id text, at timestamptz not null default clock_timestamp()
) with (fillfactor = 20);

-- Reconciliations: where the history of a lane goes on otherwise than its topics say. Events up to forked_at stay in
-- force; those behind it, up to continued_at, were withdrawn; the timeline's own follow continued_at. The rest is what
-- the topics held and the hint said at that moment, so that the next comparison knows what was known.
create table tm.timeline (
  lane smallint not null references tm.lane, timeline int not null,
  forked_at bigint not null, continued_at bigint not null, position bigint not null,
  topic_sequence bigint not null, topic_position bigint, at timestamptz not null default clock_timestamp(),
  primary key (lane, timeline), check (forked_at <= continued_at));

-- Records in topics of ours that somebody else wrote: seen by read models, accepted by an operator up to an offset.
create table tm.foreign_record (
  lane smallint not null references tm.lane, topic text not null,
  records bigint not null default 0, first_offset bigint, last_offset bigint, last_seen timestamptz,
  accepted_offset bigint, accepted_at timestamptz, reason text,
  primary key (lane, topic));

create table tm.parked (
  lane smallint not null, position bigint not null, topic text not null, partition int not null,
  record_offset bigint not null, key bytea, value bytea, headers jsonb not null,
  code text not null, detail text not null, at timestamptz not null, state text not null default 'parked',
  primary key (lane, position), check (state in ('parked', 'redriven', 'discarded')));

-- One row per projection, incarnation and partition of its event topic; moves in the read model's own transaction.
create table tm.checkpoint (
  projection text not null, incarnation int not null, aggregate text not null, partition int not null,
  sequence bigint not null default 0, next_offset bigint not null default 0,
  updated_at timestamptz not null default clock_timestamp(),
  primary key (projection, incarnation, partition)
) with (fillfactor = 20);

create table tm.projection (
  projection text primary key, aggregate text not null, incarnation int not null,
  read_table text not null, rebuilt_at timestamptz, verified_at timestamptz);

create table tm.projection_halt (
  projection text not null, partition int not null, code text not null, expected bigint not null, got bigint not null,
  detail text not null, since timestamptz not null default clock_timestamp(), primary key (projection, partition));

-- Totals of ledger generations that were dropped, so that the audit still balances from the first record on.
create table tm.ledger_total (
  lane smallint primary key references tm.lane, records bigint not null, applied bigint not null, rejected bigint not null,
  duplicate bigint not null, parked bigint not null, events bigint not null);
"""

ROUTINES = """
-- The service role has no right to create or drop: these procedures do it instead, as their owner. Every name in them is
-- written out, and nobody else may call them.

-- Prepared ahead of the roll, outside of its lock. Attaching lets readers and writers pass, CREATE ... PARTITION OF would
-- not: a dump that reads for an hour would stop every lane behind it.
create procedure tm.prepare_generation(g int) language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare what text;
begin
  perform pg_advisory_xact_lock(7018643071);  -- one at a time: whoever comes second finds it done
  foreach what in array array['log', 'outbox', 'batch'] loop
    if to_regclass(format('tm.%s_%s', what, g)) is null then
      execute format('create table tm.%s_%s (like tm.%s including defaults including constraints)', what, g, what);
      execute format('alter table tm.%s attach partition tm.%s_%s for values in (%s)', what, what, g, g);
    end if;
  end loop;
end $$;

-- Close the open generation and open the next one. SHARE waits for the writers in flight and stops new ones; those that
-- had already chosen the old generation look again as their last statement and redo their batch.
create procedure tm.roll_generation(old int, new int) language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
begin
  call tm.prepare_generation(new);
  execute format('lock table tm.log_%s in share mode', old);
  update tm.generation set closed_at = clock_timestamp() where gen = old and closed_at is null;
  if not found then raise exception 'generation % is not open', old using errcode = 'TM001'; end if;
  insert into tm.generation (gen) values (new);
  insert into tm.batch
    select distinct on (lane) lane, new, batch, epoch, timeline, to_offset, to_offset, anchor_offset, anchor_checksum,
           position, sequence, chain, 0, 0, 0, 0, 0, at, 'carried'
    from tm.batch where gen = old order by lane, batch desc;
end $$;

-- Let one part of a closed generation go: 'log', 'outbox' or 'batch'. When is policy, and the caller's; what would lose
-- something is refused here. The generation's own row goes with its last part.
create procedure tm.drop_generation(g int, what text) language plpgsql
security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare unpublished bigint;
begin
  if what is null or what not in ('log', 'outbox', 'batch') then
    raise exception 'a generation has no part %', what using errcode = '22023';
  end if;
  perform pg_advisory_xact_lock(7018643071);  -- one at a time: whoever comes second finds it done
  if not exists (select from tm.generation where gen = g and closed_at is not null) then
    raise exception 'generation % is not closed', g using errcode = 'TM002';
  end if;
  if to_regclass(format('tm.%s_%s', what, g)) is null then return; end if;
  if what = 'outbox' then
    execute format('select count(*) from (select lane, max(position) as last from tm.outbox_%s group by lane) held
                    left join tm.published using (lane) where last > coalesce(published.position, 0)', g) into unpublished;
    if unpublished > 0 then
      raise exception 'the outbox of generation % holds rows of % lanes that are not known to be published', g, unpublished
        using errcode = 'TM003';
    end if;
  elsif what = 'batch' then
    insert into tm.ledger_total as total (lane, records, applied, rejected, duplicate, parked, events)
      select lane, sum(applied + rejected + duplicate + parked), sum(applied), sum(rejected), sum(duplicate), sum(parked),
             sum(events)
      from tm.batch where gen = g group by lane
    on conflict (lane) do update set records = total.records + excluded.records, applied = total.applied + excluded.applied,
      rejected = total.rejected + excluded.rejected, duplicate = total.duplicate + excluded.duplicate,
      parked = total.parked + excluded.parked, events = total.events + excluded.events;
  end if;
  execute format('drop table tm.%s_%s', what, g);
  if coalesce(to_regclass(format('tm.log_%s', g)), to_regclass(format('tm.outbox_%s', g)),
              to_regclass(format('tm.batch_%s', g))) is null then
    delete from tm.generation where gen = g;
  end if;
end $$;

call tm.prepare_generation(1);
call tm.prepare_generation(2);
insert into tm.generation (gen) values (1);
"""

GRANTS = """
grant usage on schema tm to tidemill_service;
grant select on public.tidemill_version, public.tidemill_migration to tidemill_service;  -- to check, never to migrate
grant select, insert, update, delete on all tables in schema tm to tidemill_service;
alter default privileges in schema tm grant select, insert, update, delete on tables to tidemill_service;
revoke execute on all routines in schema tm from public;
grant execute on all routines in schema tm to tidemill_service;
"""


def upgrade() -> None:
    """Create the spine."""
    for part in (ROLES, TABLES, ROUTINES, GRANTS):
        run_script(part)


def downgrade() -> None:
    """Drop the spine. The roles stay: other databases of the server use them."""
    run_script("drop schema tm, tm_shadow cascade")
