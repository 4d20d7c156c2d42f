"""How many rows a command wrote: counted in log, outbox, ledger and totals, since a command may write more than one.

Null means one each, as everything that was stored before: a row of log or outbox is of a command that wrote one row, if
any; a row of the ledger or of the totals, of commands that wrote one row each. So processes of the version before may
run beside this, and where every command has one row nothing more is stored.

Revision ID: core_0007
Revises: core_0006
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "core_0007"
down_revision = "core_0006"
branch_labels = None
depends_on = None

# A batch reads the ledger before it writes log and outbox; in that order it and this do not wait for each other.
COLUMNS = """
lock table tm.batch, tm.log, tm.outbox, tm.ledger_total in access exclusive mode;
alter table tm.log add column rows int;
alter table tm.outbox add column rows int;
alter table tm.batch add column rows int;
alter table tm.ledger_total add column rows bigint;
"""

DROP_GENERATION = """
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
    execute format('select count(*) from (select lane, max(position) as last from tm.outbox_%s group by lane) held
                    left join tm.published using (lane) where last > coalesce(published.position, 0)', g) into unpublished;
    if unpublished > 0 then
      raise exception 'the outbox of generation % holds rows of % lanes that are not known to be published', g, unpublished
        using errcode = 'TM003';
    end if;
  elsif what = 'batch' then
    insert into tm.ledger_total as total (lane, records, applied, rejected, duplicate, parked, events{column})
      select lane, sum(applied + rejected + duplicate + parked), sum(applied), sum(rejected), sum(duplicate), sum(parked),
             sum(events){value}
      from tm.batch where gen = g group by lane
    on conflict (lane) do update set records = total.records + excluded.records, applied = total.applied + excluded.applied,
      rejected = total.rejected + excluded.rejected, duplicate = total.duplicate + excluded.duplicate,
      parked = total.parked + excluded.parked, events = total.events + excluded.events{update};
  end if;
  execute format('drop table tm.%s_%s', what, g);
  if coalesce(to_regclass(format('tm.log_%s', g)), to_regclass(format('tm.outbox_%s', g)),
              to_regclass(format('tm.batch_%s', g))) is null then
    delete from tm.generation where gen = g;
  end if;
end $$;
"""


COUNTED = {
    "{column}": ", rows",
    "{value}": ", case when bool_or(rows is not null) then sum(coalesce(rows, applied)) end",
    "{update}": """,
      rows = case when coalesce(total.rows, excluded.rows) is not null
                  then coalesce(total.rows, total.applied) + coalesce(excluded.rows, excluded.applied) end""",
}
"""What the totals hold of rows."""


def drop_generation(*, counted: bool) -> str:
    """Return the procedure as of this revision, or, without counted rows, as of the one before."""
    script = DROP_GENERATION
    for place, text in COUNTED.items():
        script = script.replace(place, text if counted else "")
    return script


def upgrade() -> None:
    """Add the columns, and count them in the totals."""
    run_script(COLUMNS)
    run_script(drop_generation(counted=True))


def downgrade() -> None:
    """Drop the columns: how many rows each command wrote is not known any more."""
    run_script(drop_generation(counted=False))
    for table in ("log", "outbox", "batch", "ledger_total"):
        run_script(f"alter table tm.{table} drop column rows")
