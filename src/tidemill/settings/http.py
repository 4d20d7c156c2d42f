"""The settings of the HTTP API."""

from __future__ import annotations

from typing import Self

from pydantic import Field, FilePath, SecretStr, model_validator

from tidemill.settings.http_pools import HttpPoolSettings


class HttpSettings(HttpPoolSettings):
    """The HTTP API (`tidemill serve http`)."""

    host: str = Field(
        "127.0.0.1",
        description="address to listen at; any other than one of this machine alone needs TLS or a trusted proxy",
    )
    port: int = Field(
        0,
        ge=0,
        le=65_535,
        description="port to listen at; 0: any free one, which the log names, and no API in `serve all`",
    )
    cert_file: FilePath | None = Field(None, description="certificate for TLS, as a PEM file")
    key_file: FilePath | None = Field(None, description="key of that certificate, as a PEM file")
    trusted_proxies: str = Field(
        "",
        description="networks of proxies that end TLS, `10.0.0.0/8[,...]`; only they may connect without TLS",
    )
    demand_idempotency_key: bool = Field(
        default=False, description="refuse a write without an Idempotency-Key instead of making one"
    )
    demand_if_match: bool = Field(
        default=False, description="refuse a change or deletion of a document without If-Match, with 428"
    )
    cursor_key: SecretStr | None = Field(
        None,
        description="signs cursors, at least 32 characters, the same for all processes; not set: each process has a "
        "random one, and its cursors end with it",
    )
    timeout_s: float = Field(5.0, gt=0, le=30, description="seconds that the database may take for a read")
    units_per_s: float = Field(
        100.0,
        gt=0,
        le=1_000_000,
        description="what a principal may ask of one process on average: a document or a write costs 1 unit, a page 2, "
        "a count 10; a minute's worth at once",
    )
    max_waiting: int = Field(
        1_000, ge=1, le=100_000, description="writes that may wait for their outcome in one process"
    )

    def proxies(self) -> list[str]:
        """Return the networks of trusted proxies."""
        return [network.strip() for network in self.trusted_proxies.split(",") if network.strip()]

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("TIDEMILL_HTTP_KEY_FILE: expected together with TIDEMILL_HTTP_CERT_FILE")
        if self.cursor_key is not None and len(self.cursor_key.get_secret_value()) < 32:
            raise ValueError("TIDEMILL_HTTP_CURSOR_KEY: expected at least 32 characters")
        return self
