"""A sealed chunk is frozen where TimescaleDB can do that (its Community edition), and thawed when its range opens.

Revision ID: core_0003
Revises: core_0002
"""

from __future__ import annotations

from tidemill.migration import run_script

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

create or replace procedure tm.thaw(chunk regclass) language plpgsql set search_path = pg_catalog, pg_temp as $$
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

GRANTS = """
revoke execute on procedure tm.freeze_slice(text, timestamptz, int) from public;
revoke execute on function tm.can_freeze() from public;
grant execute on function tm.can_freeze() to tidemill_service;
grant execute on procedure tm.freeze_slice(text, timestamptz, int) to tidemill_retention;
"""


def upgrade() -> None:
    """Add what freezes and thaws. What is sealed already is frozen with its next seal."""
    run_script(FREEZE)
    run_script(GRANTS)


def downgrade() -> None:
    """Thaw what is sealed: nothing is frozen any more."""
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
    run_script("""
      create or replace procedure tm.thaw(chunk regclass) language plpgsql set search_path = pg_catalog, pg_temp as $$
      begin
      end $$;
      drop procedure tm.freeze_slice(text, timestamptz, int);
      drop function tm.can_freeze();
    """)
