"""How events and outcomes are compressed: for all aggregates, and for single ones."""

from __future__ import annotations

import pytest

from tidemill.domain.errors import UsageError
from tidemill.settings import load

NAME = "TIDEMILL_OUTBOX_COMPRESSION"


def test_compression_is_of_all_and_of_single_aggregates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAME, raising=False)
    assert load().outbox.codec_of("users") == "as-created"
    monkeypatch.setenv(NAME, "zstd, users=none,market-data=gzip")
    chosen = {name: load().outbox.codec_of(name) for name in ("users", "market-data", "jobs")}
    assert chosen == {"users": "none", "market-data": "gzip", "jobs": "zstd"}
    monkeypatch.setenv(NAME, "users=none")
    assert load().outbox.codec_of("jobs") == "as-created"


@pytest.mark.parametrize("wrong", ["lz4", "users=", "=zstd", "zstd,", "users:none"])
def test_another_codec_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv(NAME, wrong)
    with pytest.raises(UsageError, match="expected one of as-created, none, gzip, snappy, zstd"):
        load()
