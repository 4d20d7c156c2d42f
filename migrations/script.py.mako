"""${message}.

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}

Before you write it:
- Old and new code run side by side while this is rolled out. Expand (add), migrate (copy), contract (drop) are three
  releases. Nothing is renamed or dropped that the released code still names.
- Waiting for a lock ends after four seconds, for everybody's sake: whoever queues behind a waiting ALTER TABLE waits
  too. A statement ends after five minutes: move old rows in batches, outside of a revision.
- A new column is nullable or has a constant default. NOT NULL: `add constraint ... check (... is not null) not valid`
  in one revision, `validate constraint` and `set not null` in the next. Foreign keys likewise: `not valid` first.
- An index on a large plain table: `create index concurrently` inside `op.get_context().autocommit_block()`. On a
  hypertable that is refused: `with (timescaledb.transaction_per_chunk)`, in the same kind of block, never unique.
- Hypertables: `create_default_indexes => false` and indexes of your own; a unique key holds the time column; no foreign
  keys (dropping a chunk would lock the other table). Never touch `_timescaledb_*`, never DROP TABLE a chunk.
- A hypertable whose context has `retention=`: `call tm.prepare_late('schema.table')` in its revision, which depends on
  `core_0002`, and again in each one that alters it. What is renamed there is renamed in `tm_late` first.
- Grants belong to the table's revision: `tidemill_service` reads and writes, `tidemill_reader` reads read models only.
- `downgrade` undoes exactly this revision; a test goes up, down and up again.
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    run_script("""
    """)


def downgrade() -> None:
    run_script("""
    """)
