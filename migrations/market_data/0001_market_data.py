"""Market data: what was recorded, the latest quote and the daily bar of every symbol.

Revision ID: market_data_0001
Revises:
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "market_data_0001"
down_revision = None
branch_labels = ("market_data",)
depends_on = "core_0001"

RECORDED = """
create table public.market_data (
  time timestamptz not null, symbol text not null, price double precision not null,
  open double precision, high double precision, low double precision, volume double precision,
  source text not null, command_id uuid not null);

-- A year to a chunk: from 2000 until today they are some two dozen, so that a batch which reaches back opens few.
-- No unique key: two commands with equal facts are two facts. No default index: time alone is never asked for.
select create_hypertable('public.market_data', by_range('time', interval '365 days'), create_default_indexes => false);
create index market_data_symbol_time on public.market_data (symbol, time desc);
"""

READ_MODELS = """
create table public.latest_quotes (
  symbol text primary key, time timestamptz not null, price double precision not null,
  open double precision, high double precision, low double precision, volume double precision,
  source text not null, lane int not null, sequence bigint not null,   -- of the tick that won
  id bigint not null, uuid uuid not null, created_at timestamptz not null, updated_at timestamptz not null,
  version bigint not null);

create table public.daily_bars (
  symbol text not null, day date not null,
  open double precision not null, high double precision not null, low double precision not null,
  close double precision not null, volume numeric not null, ticks bigint not null,
  open_time timestamptz not null, open_lane int not null, open_sequence bigint not null,
  close_time timestamptz not null, close_lane int not null, close_sequence bigint not null,
  id bigint not null, uuid uuid not null, created_at timestamptz not null, updated_at timestamptz not null,
  version bigint not null,
  primary key (symbol, day));
"""

GRANTS = """
grant select, insert on public.market_data to tidemill_service;
grant select, insert, update, delete on public.latest_quotes, public.daily_bars to tidemill_service;
grant select on public.latest_quotes, public.daily_bars to tidemill_reader;
"""


def upgrade() -> None:
    """Create the hypertable and its read models."""
    for part in (RECORDED, READ_MODELS, GRANTS):
        run_script(part)


def downgrade() -> None:
    """Drop them, with all that they hold."""
    run_script("drop table public.daily_bars, public.latest_quotes; drop table public.market_data")
