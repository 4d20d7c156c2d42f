"""The gate before a stream with secrets, whose master keys a process may not have.

It takes no lanes meanwhile: another process may have the keys. The names of the keys in use are read again every few
seconds, so that it also stops once another process has begun to use a key that this one lacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import MasterKeyMissing
from tidemill.domain.stream import Stream
from tidemill.runtime.gates import AllOf
from tidemill.runtime.service import Gate
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import SECRET_KEYS_MISSING
from tidemill.security.master_keys import MasterKeys
from tidemill.security.ports import SecretKeys

_log = logger(__name__)

_NOT_SET: Final = "TIDEMILL_SECRET_KEYS is not set"


@dataclass(frozen=True)
class SecretFault:
    """A stream whose secrets need master keys that are not set here, or are wrong."""

    aggregate: str
    code: str
    reason: str
    advice: str


def secret_faults(
    streams: Iterable[Stream], masters: MasterKeys | None, registered: Mapping[str, bytes]
) -> list[SecretFault]:
    """Return which streams a process with these keys would not serve; `registered`: the names in use."""
    faults = [
        (stream, fault_of(masters, registered, required=stream.requires_keys))
        for stream in streams
        if stream.secrets
    ]
    return [
        SecretFault(stream.aggregate, str(code), reason, code.advice)
        for stream, (code, reason) in faults
        if reason
    ]


def fault_of(
    masters: MasterKeys | None, registered: Mapping[str, bytes], *, required: bool
) -> tuple[ErrorCode, str]:
    """Return why a stream with secrets has to wait; an empty text if it has not to."""
    if masters is None:
        needed = ", ".join(sorted(registered))
        reason = f"{_NOT_SET}, and the database has secrets that need {needed}" if needed else ""
        return ErrorCode.SECRET_KEYS_MISSING, reason or (_NOT_SET if required else "")
    faults = masters.faults(registered)
    missing = registered.keys() - set(masters.names)
    code = ErrorCode.SECRET_KEYS_MISSING if missing or not faults else ErrorCode.SECRET_KEY_WRONG
    return code, "; ".join(f"master key {name} {fault}" for name, fault in faults.items())


class SecretGate:
    """A `Gate`: open while this process has every master key that the database's secrets need."""

    def __init__(
        self, aggregate: str, keys: SecretKeys, masters: MasterKeys | None, *, required: bool
    ) -> None:
        """`required`: the stream has secrets that may not be kept in clear. `masters`: None where none is set."""
        self._aggregate = aggregate
        self._keys = keys
        self._masters = masters
        self._required = required
        self._reason = ""
        self._code = ErrorCode.SECRET_KEYS_MISSING
        self._said_clear = False

    async def look(self) -> bool:
        """See `Gate`."""
        code, reason = fault_of(self._masters, await self._keys.masters(), required=self._required)
        if reason and reason != self._reason:
            self._say(code, reason)
        elif self._reason and not reason:
            _log.warning(Log.MASTER_KEYS_FIT, aggregate=self._aggregate)
        self._reason = reason
        SECRET_KEYS_MISSING.labels(self._aggregate).set(int(bool(reason)))
        if not reason and self._masters is None:
            self._say_that_it_is_clear()
        return not reason

    def blame(self, error: BaseException) -> bool:
        """See `Gate`."""
        if not isinstance(error, MasterKeyMissing):
            return False
        if not self._reason:
            code = error.code if isinstance(error.code, ErrorCode) else error.kind
            self._reason = error.detail
            self._say(code, error.detail)
            SECRET_KEYS_MISSING.labels(self._aggregate).set(1)
        return True

    def standing(self) -> Mapping[str, Any]:
        """See `Gate`."""
        return {"code": str(self._code), "reason": self._reason, "next": self._code.advice}

    def _say(self, code: ErrorCode, reason: str) -> None:
        self._code = code
        _log.error(
            Log.MASTER_KEYS_MISSING,
            aggregate=self._aggregate,
            code=str(code),
            reason=reason,
            next=code.advice,
        )

    def _say_that_it_is_clear(self) -> None:
        if not self._said_clear:
            self._said_clear = True
            _log.warning(
                Log.SECRETS_IN_CLEAR,
                aggregate=self._aggregate,
                next="set TIDEMILL_SECRET_KEYS to encrypt them",
            )


def with_secrets(tables: Gate, stream: Stream, keys: SecretKeys, masters: MasterKeys | None) -> Gate:
    """Return what a stream waits for: `tables`, its other gate, and the keys if it has secrets."""
    if not stream.secrets:
        return tables
    return AllOf((tables, SecretGate(stream.aggregate, keys, masters, required=stream.requires_keys)))
