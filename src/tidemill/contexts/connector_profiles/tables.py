"""The tables of connector profiles as the engine reads and writes them; the migrations make them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, DateTime, MetaData, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(schema="public")

connector_profiles = Table(
    "connector_profiles",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("service_name", Text, nullable=False),
    Column("profile_data", JSONB, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)

connector_directory = Table(
    "connector_directory",
    metadata,
    Column("profile_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("service_name", Text, nullable=False),
    Column("type", Text),
    Column("active", Boolean, nullable=False),
    Column("id", BigInteger, nullable=False),
    Column("uuid", Uuid, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("version", BigInteger, nullable=False),
)
