"""A sealed chunk is frozen where TimescaleDB can do that (its Community edition), and thawed when its range opens.

Revision ID: core_0003
Revises: core_0002
"""

from __future__ import annotations

from tidemill.storage.revisions import run_script

revision = "core_0003"
down_revision = "core_0002"
branch_labels = None
depends_on = None

FREEZE = """
-- Whether sealed chunks are frozen here. The Apache edition has these functions too, and they raise.
create function tm.can_freeze() returns boolean language sql stable set search_path = pg_catalog, pg_temp as $$
  select coalesce(current_setting('timescaledb.license', true) = 'timescale', false)
    and to_regprocedure('_timescaledb_functions.freeze_chunk(regclass)') is not null
$$;

-- Make a slice's chunk what the registry says, in the transaction that says it: frozen while the slice is closed. Whoever
-- may call this can do no more than that.
create procedure tm.freeze_slice(wanted text, start timestamptz, gen int) language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare slice tm.archive%rowtype; rows_of regclass;
begin
  select * into slice from tm.archive a
    where a.table_name = wanted and a.range_start = start and a.generation = gen and a.source = 'chunk';
  rows_of := to_regclass(slice.chunk);
  if rows_of is null then
    return;  -- late rows, or somebody else dropped the chunk: there is nothing to protect
  end if;
  if not slice.closed then
    call tm.thaw(rows_of);
  elsif slice.state <> 'dropped' and tm.can_freeze() then
    perform _timescaledb_functions.freeze_chunk(rows_of);
  end if;
end $$;

create procedure tm.thaw(chunk regclass) language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if _timescaledb_functions.chunk_status(chunk) & 4 = 0 then
    return;
  end if;
  if not tm.can_freeze() then
    raise exception 'chunk % was frozen by TimescaleDB''s Community edition, which alone can thaw it: set '
      'timescaledb.license to ''timescale'' again', chunk using errcode = 'TM007';
  end if;
  perform _timescaledb_functions.unfreeze_chunk(chunk);
end $$;
"""

DROP = """
-- Let the rows of one slice go: exactly that chunk, or the late rows that were archived. Who calls it has compared the
-- rows with the verified copy, in this transaction and under lock_slice; what the registry forbids is refused here.
create or replace procedure tm.drop_slice(wanted text, start timestamptz, gen int) language plpgsql
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
  else
    call tm.demand_chunk(wanted, slice.chunk);
    [thaw]
    perform _timescaledb_functions.drop_chunk(slice.chunk::regclass);
  end if;
end $$;
"""

GRANTS = """
revoke execute on procedure tm.freeze_slice(text, timestamptz, int), tm.thaw(regclass) from public;
revoke execute on function tm.can_freeze() from public;
grant execute on function tm.can_freeze() to tidemill_service;
grant execute on procedure tm.freeze_slice(text, timestamptz, int) to tidemill_retention;
"""


def upgrade() -> None:
    """Add what freezes and thaws. What is sealed already is frozen with its next seal."""
    run_script(FREEZE)
    run_script(DROP.replace("[thaw]", "call tm.thaw(slice.chunk::regclass);"))
    run_script(GRANTS)


def downgrade() -> None:
    """Thaw what is sealed, and drop as before."""
    run_script("""
      do $$
      declare frozen regclass;
      begin
        for frozen in select to_regclass(a.chunk) from tm.archive a
            where a.source = 'chunk' and a.closed and to_regclass(a.chunk) is not null loop
          call tm.thaw(frozen);
        end loop;
      end $$;
    """)
    run_script(DROP.replace("[thaw]", ""))
    run_script("""
      drop procedure tm.freeze_slice(text, timestamptz, int);
      drop procedure tm.thaw(regclass);
      drop function tm.can_freeze();
    """)
