"""Telemetry events: what programs measured.

Revision ID: telemetry_events_0001
Revises:
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "telemetry_events_0001"
down_revision = None
branch_labels = ("telemetry_events",)
depends_on = "core_0002"

RECORDED = """
create table public.telemetry_events (
  time timestamptz not null, source text not null, name text not null, value double precision, attributes jsonb not null,
  command_id uuid not null);

-- A week to a chunk: retention is counted in months, and a chunk's indexes should fit in memory.
-- No unique key: two equal events are two events.
select create_hypertable('public.telemetry_events', by_range('time', interval '7 days'), create_default_indexes => false);
create index telemetry_events_source_name_time on public.telemetry_events (source, name, time desc);
"""

GRANTS = """
grant select, insert on public.telemetry_events to tidemill_service;
grant select on public.telemetry_events to tidemill_reader;
"""


def upgrade() -> None:
    """Create the hypertable, and prepare it for its archive."""
    run_script(RECORDED)
    run_script(GRANTS)
    run_script("call tm.prepare_late('public.telemetry_events')")


def downgrade() -> None:
    """Drop it with all that it holds, if nothing of it left or waits."""
    run_script(
        "call tm.refuse_to_forget('public.telemetry_events'); drop table tm_late.public__telemetry_events; "
        "drop table public.telemetry_events"
    )
