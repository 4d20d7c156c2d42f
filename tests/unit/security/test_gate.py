"""A stream with secrets waits while this process lacks a master key, and says which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.engine.secret_contexts import BOTH, NEW, NEW_ONLY, OLD
from tidemill.domain.errors import MasterKeyMissing
from tidemill.runtime.telemetry.metrics import REGISTRY
from tidemill.security.gate import SecretGate
from tidemill.security.master_keys import MasterKey, MasterKeys


class Registered:
    """The names of the master keys in use."""

    def __init__(self, *keys: MasterKey) -> None:
        self.keys = {key.name: key.check_value() for key in keys}

    async def masters(self) -> Mapping[str, bytes]:
        return self.keys


def gate(registered: Any, masters: MasterKeys | None, *, required: bool = True) -> SecretGate:
    return SecretGate("doors", registered, masters, required=required)


def missing() -> float | None:
    return REGISTRY.get_sample_value("tidemill_secret_keys_missing", {"aggregate": "doors"})


@pytest.mark.parametrize("required", [True, False])
async def test_it_is_open_with_all_keys(required: bool) -> None:
    assert await gate(Registered(OLD, NEW), BOTH, required=required).look()
    assert missing() == 0


async def test_without_any_key_it_depends_on_whether_a_value_may_stay_in_clear() -> None:
    assert not await gate(Registered(), None).look()
    assert await gate(Registered(), None, required=False).look()


async def test_what_was_encrypted_before_is_never_written_in_clear_again() -> None:
    shut = gate(Registered(OLD), None, required=False)
    assert not await shut.look()
    assert "secrets that need old" in shut.standing()["reason"]


async def test_a_key_that_is_missing_shuts_it_until_it_is_there() -> None:
    registered = Registered(OLD)
    waiting = gate(registered, NEW_ONLY)
    assert not await waiting.look()
    assert missing() == 1
    assert waiting.standing() == {
        "code": "SECRET_KEYS_MISSING",
        "reason": "master key old is not set",
        "next": "add the master keys to TIDEMILL_SECRET_KEYS; `tidemill secrets forget` gives up one that is lost",
    }
    registered.keys.clear()
    assert await waiting.look()
    assert missing() == 0


async def test_a_wrong_key_shuts_it_and_is_called_so() -> None:
    shut = gate(Registered(OLD), MasterKeys([MasterKey("old", NEW.secret)]))
    assert not await shut.look()
    assert shut.standing()["code"] == "SECRET_KEY_WRONG"


async def test_an_error_of_a_batch_is_its_reason_and_other_errors_are_not() -> None:
    blamed = gate(Registered(), BOTH)
    assert await blamed.look()
    assert not blamed.blame(ValueError("another"))
    assert blamed.blame(MasterKeyMissing("master key lost is not set"))
    assert blamed.standing()["reason"] == "master key lost is not set"
