"""Packs: what the relay sends of a batch, in one row with the records as they stand in a Kafka batch.

The rows of `tm.outbox` stay, for what is not packed, and for processes of the version before, which cannot read packs: a
generation says in which form it is written. A database without lanes begins with packs, another goes on with rows until
an operator decides.

Revision ID: core_0012
Revises: core_0011
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "core_0012"
down_revision = "core_0011"
branch_labels = None
depends_on = None

# A reconciliation may split a pack: both parts hold all its records, and the columns say which of them are in force.
# `chain_before`, `chain`, `event_id`, `timeline`, `parked`: of the records as they were encoded; `moved_positions`,
# `moved_sequences`: by how much the numbers were raised since. `offsets`: null if they are dense. `unpacked_bytes`: of the
# records, events and outcomes, before compression.
PACKS = """
create table tm.pack (
  lane smallint not null, gen int not null,
  first_position bigint not null, position bigint not null,
  sequence_before bigint not null, sequence bigint not null,
  moved_positions bigint not null default 0, moved_sequences bigint not null default 0,
  timeline int not null, chain_before bigint not null, chain bigint not null, event_id text,
  at timestamptz not null, seconds real not null, first_offset bigint not null, offsets bigint[],
  rows bigint not null, parked bigint[], parked_sequences bigint[], unpacked_bytes bigint not null,
  events bytea, outcomes bytea not null
) partition by list (gen);
comment on table tm.pack is 'The outbox in packs: Kafka records of one batch and lane, compressed (zstd).';
alter table tm.pack alter column events set storage external, alter column outcomes set storage external;
create index pack_lane on tm.pack (lane, position);

-- Compression is a change for subscribers: lanes that are there keep none until a setting says otherwise.
alter table tm.lane add column compressed boolean not null default false;
alter table tm.generation add column packs boolean not null default false;
update tm.generation set packs = true where closed_at is null and not exists (select from tm.lane);

grant select on tm.pack to tidemill_service;
grant insert, update (first_position, position, sequence_before, sequence, moved_positions, moved_sequences, rows, first_offset,
                     offsets)
  on tm.pack to tidemill_service;
grant select (lane, gen, first_position, position, first_offset, offsets, seconds) on tm.pack to tidemill_http;
"""

PARTITIONS = """
do $$
declare g int;
begin
  for g in select substr(c.relname, 8)::int from pg_class c
           where c.relnamespace = 'tm'::regnamespace and c.relname ~ '^outbox_[0-9]+$' and c.relkind = 'r' loop
    execute format('create table tm.pack_%s (like tm.pack including defaults including constraints including storage)', g);
    execute format('alter table tm.pack attach partition tm.pack_%s for values in (%s)', g, g);
  end loop;
end $$;
"""

PREPARE = """
create or replace procedure tm.prepare_generation(g int) language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare what text;
begin
  perform pg_advisory_xact_lock(7018643071);  -- one at a time: whoever comes second finds it done
  foreach what in array array['log', 'outbox', 'batch'{pack}] loop
    if to_regclass(format('tm.%s_%s', what, g)) is null then
      execute format('create table tm.%s_%s (like tm.%s including defaults including constraints{storage})', what, g, what);
      execute format('alter table tm.%s attach partition tm.%s_%s for values in (%s)', what, what, g, g);
    end if;
  end loop;
end $$;

-- Close the open generation and open the next one. SHARE waits for the writers in flight and stops new ones; those that
-- had already chosen the old generation look again as their last statement and redo their batch.
create or replace procedure tm.roll_generation(old int, new int) language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
begin
  call tm.prepare_generation(new);
  execute format('lock table tm.log_%s in share mode', old);
  update tm.generation set closed_at = clock_timestamp() where gen = old and closed_at is null;
  if not found then raise exception 'generation % is not open', old using errcode = 'TM001'; end if;
  {open};
  insert into tm.batch
    select distinct on (lane) lane, new, batch, epoch, timeline, to_offset, to_offset, anchor_offset, anchor_checksum,
           position, sequence, chain, 0, 0, 0, 0, 0, at, 'carried'
    from tm.batch where gen = old order by lane, batch desc;
end $$;
"""

DROP = """
-- Let one part of a closed generation go: 'log', 'outbox' or 'batch'. When is policy, and the caller's; what would lose
-- something is refused here. The generation's own row goes with its last part.
create or replace procedure tm.drop_generation(g int, what text) language plpgsql
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
    execute format('select count(*) from ({held}) held
                    left join tm.published using (lane) where last > coalesce(published.position, 0)', {gens}) into unpublished;
    if unpublished > 0 then
      raise exception 'the outbox of generation % holds rows of % lanes that are not known to be published', g, unpublished
        using errcode = 'TM003';
    end if;{drop_packs}
  elsif what = 'batch' then
    insert into tm.ledger_total as total (lane, records, applied, rejected, duplicate, parked, events, rows)
      select lane, sum(applied + rejected + duplicate + parked), sum(applied), sum(rejected), sum(duplicate), sum(parked),
             sum(events), case when bool_or(rows is not null) then sum(coalesce(rows, applied)) end
      from tm.batch where gen = g group by lane
    on conflict (lane) do update set records = total.records + excluded.records, applied = total.applied + excluded.applied,
      rejected = total.rejected + excluded.rejected, duplicate = total.duplicate + excluded.duplicate,
      parked = total.parked + excluded.parked, events = total.events + excluded.events,
      rows = case when coalesce(total.rows, excluded.rows) is not null
                  then coalesce(total.rows, total.applied) + coalesce(excluded.rows, excluded.applied) end;
  end if;
  execute format('drop table tm.%s_%s', what, g);
  if coalesce(to_regclass(format('tm.log_%s', g)), to_regclass(format('tm.outbox_%s', g)),
              to_regclass(format('tm.batch_%s', g))) is null then
    delete from tm.generation where gen = g;
  end if;
end $$;
"""

_LAST = "select lane, max(position) as last from tm.outbox_%s group by lane"
_LAST_OF_BOTH = (
    "select lane, max(position) as last from (select lane, position from tm.outbox_%s union all "
    "select lane, position from tm.pack_%s) sent group by lane"
)
_DROP_PACKS = """
    lock table only tm.outbox, only tm.pack in access exclusive mode;  -- in the order in which readers lock them
    execute format('drop table if exists tm.pack_%s', g);"""

UNSENT = """
do $$
begin
  lock table tm.pack in access exclusive mode;
  if exists (select from tm.pack p left join tm.published s using (lane) where p.position > coalesce(s.position, 0)) then
    raise exception 'packs are unsent, which the version before cannot read'
      using hint = 'Run tidemill generations use rows, and wait until tidemill generations show says that no pack is unsent.';
  end if;
end $$;
"""


FORM = """
-- Write packs, or rows, from now on. SHARE waits for the writers in flight and stops new ones; those that had already
-- chosen the other form look again as their last statement and redo their batch.
create procedure tm.write_packs(wanted bool) language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform pg_advisory_xact_lock(7018643071);  -- not beside a roll, which would open a generation of the form before
  lock table tm.log in share mode;
  update tm.generation set packs = wanted where closed_at is null and packs <> wanted;
end $$;
revoke execute on procedure tm.write_packs(bool) from public;
grant execute on procedure tm.write_packs(bool) to tidemill_service;
"""


def procedures(*, packs: bool) -> str:
    """Return the procedures as of this revision, or, without packs, as of the one before."""
    opening = (
        "insert into tm.generation (gen, packs) select new, packs from tm.generation where gen = old"
        if packs
        else "insert into tm.generation (gen) values (new)"
    )
    made = PREPARE.replace("{pack}", ", 'pack'" if packs else "").replace("{open}", opening)
    made = made.replace("{storage}", " including storage" if packs else "")
    dropped = DROP.replace("{held}", _LAST_OF_BOTH if packs else _LAST)
    dropped = dropped.replace("{gens}", "g, g" if packs else "g")
    return made + dropped.replace("{drop_packs}", _DROP_PACKS if packs else "")


def upgrade() -> None:
    """Add the table, in each generation, and what writes and drops it; no generation is prepared meanwhile."""
    run_script("select pg_advisory_xact_lock(7018643071)")
    run_script(PACKS)
    run_script(PARTITIONS)
    run_script(procedures(packs=True))
    run_script(FORM)


def downgrade() -> None:
    """Drop the packs, of which none may be unsent."""
    run_script(UNSENT)
    run_script(procedures(packs=False))
    run_script(
        "drop procedure tm.write_packs; drop table tm.pack; "
        "alter table tm.generation drop column packs; alter table tm.lane drop column compressed"
    )
