"""The tables of market data as the engine reads and writes them; the migrations make them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    DateTime,
    Double,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    Uuid,
)

metadata = MetaData(schema="public")


def _read_model() -> tuple[Column[object], ...]:
    """Return the columns that every read model has and the engine fills."""
    return (
        Column("id", BigInteger, nullable=False),
        Column("uuid", Uuid, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False),
        Column("updated_at", DateTime(timezone=True), nullable=False),
        Column("version", BigInteger, nullable=False),
    )


market_data = Table(
    "market_data",
    metadata,
    Column("time", DateTime(timezone=True), nullable=False),
    Column("symbol", Text, nullable=False),
    Column("price", Double, nullable=False),
    Column("open", Double),
    Column("high", Double),
    Column("low", Double),
    Column("volume", Double),
    Column("source", Text, nullable=False),
    Column("command_id", Uuid, nullable=False),
)

latest_quotes = Table(
    "latest_quotes",
    metadata,
    Column("symbol", Text, primary_key=True),
    Column("time", DateTime(timezone=True), nullable=False),
    Column("price", Double, nullable=False),
    Column("open", Double),
    Column("high", Double),
    Column("low", Double),
    Column("volume", Double),
    Column("source", Text, nullable=False),
    Column("lane", Integer, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    *_read_model(),
)

daily_bars = Table(
    "daily_bars",
    metadata,
    Column("symbol", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("open", Double, nullable=False),
    Column("high", Double, nullable=False),
    Column("low", Double, nullable=False),
    Column("close", Double, nullable=False),
    Column("volume", Numeric, nullable=False),
    Column("ticks", BigInteger, nullable=False),
    Column("open_time", DateTime(timezone=True), nullable=False),
    Column("open_lane", Integer, nullable=False),
    Column("open_sequence", BigInteger, nullable=False),
    Column("close_time", DateTime(timezone=True), nullable=False),
    Column("close_lane", Integer, nullable=False),
    Column("close_sequence", BigInteger, nullable=False),
    *_read_model(),
)
