"""System logs: the lines that services wrote, found by service, level and time, and by their words.

Revision ID: system_logs_0001
Revises:
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "system_logs_0001"
down_revision = None
branch_labels = ("system_logs",)
depends_on = "core_0002"

RECORDED = """
create table public.system_logs (
  time timestamptz not null, service text not null, level text not null, message text not null, details jsonb not null,
  command_id uuid not null);

-- A week to a chunk: retention is counted in months, and a chunk's indexes should fit in memory.
-- No unique key: two equal lines are two lines.
select create_hypertable('public.system_logs', by_range('time', interval '7 days'), create_default_indexes => false);
create index system_logs_service_level_time on public.system_logs (service, level, time desc);
-- 'simple': lines are of no language, so words are taken as they are.
create index system_logs_message on public.system_logs using gin (to_tsvector('simple', message));
"""

GRANTS = """
grant select, insert on public.system_logs to tidemill_service;
grant select on public.system_logs to tidemill_reader;
"""


def upgrade() -> None:
    """Create the hypertable, and prepare it for its archive."""
    run_script(RECORDED)
    run_script(GRANTS)
    run_script("call tm.prepare_late('public.system_logs')")


def downgrade() -> None:
    """Drop it with all that it holds, if nothing of it left or waits."""
    run_script(
        "call tm.refuse_to_forget('public.system_logs'); drop table tm_late.public__system_logs; "
        "drop table public.system_logs"
    )
