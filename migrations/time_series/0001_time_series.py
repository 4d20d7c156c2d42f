"""Time series: what their frames look like, and their points on datetime and numeric axes.

Revision ID: time_series_0001
Revises:
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "time_series_0001"
down_revision = None
branch_labels = ("time_series",)
depends_on = "core_0002"

METADATA = """
create table public.time_series_metadata (
  id text primary key, service_name text not null, name text, description text, time_column text not null,
  value_columns jsonb not null, axis text not null, revision bigint not null, points bigint not null,
  newest_revision bigint not null, open_save text, open_points bigint not null, open_expires_at timestamptz,
  deleted boolean not null, version bigint not null, created_at timestamptz not null, updated_at timestamptz not null)
  with (fillfactor = 80);
create index idx_time_series_metadata_created_at on public.time_series_metadata (created_at);
create index idx_time_series_metadata_time_column on public.time_series_metadata (time_column);
create view public.time_series_metadata_view as
  select id, service_name, name, description, time_column, value_columns, axis, revision, points, newest_revision,
    open_save, open_points, open_expires_at, version, created_at, updated_at
  from public.time_series_metadata where not deleted;
"""

# No foreign key to the metadata, and no id of their own: see ADR 10.
POINTS = """
create table public.time_series_data_points (
  timestamp timestamptz not null, time_series_id text not null, column_name text not null, value double precision,
  revision bigint not null, number bigint not null);

-- Half a year to a chunk: times of two centuries are then some 400 chunks, whose locks one transaction can hold.
select create_hypertable('public.time_series_data_points', by_range('timestamp', interval '180 days'),
                         create_default_indexes => false);
create index idx_time_series_data_points_timestamp on public.time_series_data_points (timestamp);
create index idx_time_series_data_points_series_time on public.time_series_data_points (time_series_id, timestamp);
create index idx_time_series_data_points_series_column on public.time_series_data_points (time_series_id, column_name);
create index idx_time_series_data_points_series_column_time
  on public.time_series_data_points (time_series_id, column_name, timestamp);

-- Readers see the points of the revision that the series names, so that a save replaces all of them at once.
create view public.time_series_data_points_view as
  select timestamp, time_series_id, column_name, value, revision, number
  from public.time_series_data_points
  where exists (select 1 from public.time_series_metadata owner
                where owner.id = time_series_data_points.time_series_id
                  and owner.revision = time_series_data_points.revision and not owner.deleted);
"""

NUMERIC_POINTS = """
create table public.time_series_numeric_points (
  float_position double precision, integer_position bigint, time_series_id text not null, column_name text not null,
  value double precision, revision bigint not null, number bigint not null);
create index idx_time_series_numeric_points_series_column_revision
  on public.time_series_numeric_points (time_series_id, column_name, revision);
create view public.time_series_numeric_points_view as
  select float_position, integer_position, time_series_id, column_name, value, revision, number
  from public.time_series_numeric_points
  where exists (select 1 from public.time_series_metadata owner
                where owner.id = time_series_numeric_points.time_series_id
                  and owner.revision = time_series_numeric_points.revision and not owner.deleted);
"""

GRANTS = """
grant select, insert, update, delete on public.time_series_metadata to tidemill_service;
grant select, insert on public.time_series_data_points, public.time_series_numeric_points to tidemill_service;
grant select on public.time_series_metadata_view, public.time_series_data_points_view,
  public.time_series_numeric_points_view to tidemill_reader;
"""


def upgrade() -> None:
    """Create the tables, and what readers see of them; prepare the hypertable for its archive."""
    for part in (METADATA, POINTS, NUMERIC_POINTS, GRANTS):
        run_script(part)
    run_script("call tm.prepare_late('public.time_series_data_points')")


def downgrade() -> None:
    """Drop them with all that they hold, if nothing of it left or waits."""
    run_script("call tm.refuse_to_forget('public.time_series_data_points')")
    run_script(
        "drop view public.time_series_numeric_points_view, public.time_series_data_points_view, "
        "public.time_series_metadata_view"
    )
    run_script(
        "drop table tm_late.public__time_series_data_points; drop table public.time_series_data_points; "
        "drop table public.time_series_numeric_points, public.time_series_metadata"
    )
