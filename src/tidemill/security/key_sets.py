"""The keys that sign JWTs: read from the one place that the operator has fixed, and from nowhere else.

A token can say which key it was signed with, by its `kid`; where keys are is never taken from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import jwt

from tidemill.domain.errors import RequestRefused, TransientError
from tidemill.domain.request_codes import RequestCode
from tidemill.runtime.clock import Clock
from tidemill.runtime.shared_call import SharedCall
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.security.ports import KeySetSource

_log = logger(__name__)

REFRESH_S: Final = 300.0
RETRY_S: Final = 60.0
MAX_AGE_S: Final = 86_400.0
MAX_KEYS: Final = 100
MIN_RSA_BITS: Final = 2_048

_ALGORITHMS: Final = {("RSA", ""): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
"""Kind of key and curve -> the one algorithm that it is used with. Symmetric keys have none."""
ALGORITHMS: Final = frozenset(_ALGORITHMS.values())
_NAMES: Final = {"EdDSA": {"EdDSA", "Ed25519"}}

Keys = Mapping[tuple[str, str], jwt.PyJWK]
"""Keys by kid and algorithm."""


def parse_keys(text: bytes) -> Keys:
    """Return the keys of a set that can verify a JWT; the others are left out.

    Raises:
        ValueError: it is not a key set.
    """
    parsed = json.loads(text)
    listed = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise ValueError(f"expected an object with `keys`, a list of at most {MAX_KEYS}")
    keys: dict[tuple[str, str], jwt.PyJWK] = {}
    for kid, algorithm, key in _usable(listed):
        keys.setdefault(
            (kid, algorithm), key
        )  # of two with one name the first, so that the result is certain
    return keys


def _usable(listed: list[Any]) -> Iterator[tuple[str, str, jwt.PyJWK]]:
    for described in listed:
        if not isinstance(described, dict):
            continue
        algorithm = _algorithm_of(described)
        kid = described.get("kid")
        if algorithm is None or not isinstance(kid, str) or not kid:
            continue
        try:
            key = jwt.PyJWK(described, algorithm)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        if getattr(key.key, "key_size", MIN_RSA_BITS) >= MIN_RSA_BITS or algorithm != "RS256":
            yield kid, algorithm, key


def _algorithm_of(described: Mapping[str, Any]) -> str | None:
    """Return the algorithm of a key, None if it verifies nothing here: symmetric, private, or for something else."""
    kind, curve = described.get("kty"), described.get("crv", "")
    algorithm = _ALGORITHMS.get((kind, curve)) if isinstance(kind, str) and isinstance(curve, str) else None
    if algorithm is None or "d" in described or described.get("use", "sig") != "sig":
        return None
    names = _NAMES.get(algorithm, {algorithm})
    return algorithm if described.get("alg", algorithm) in names else None


class SigningKeys:
    """The keys in force. They are read again every few minutes, and at most once a minute for a key that is unknown.

    While their place is unavailable those that were read last stay in force, but no longer than a day.
    """

    def __init__(self, source: KeySetSource, clock: Clock) -> None:
        """Nothing is read before the first JWT. `version`: another number after each change of the keys."""
        self.version = 0
        self._source = source
        self._clock = clock
        self._text = b""
        self._keys: Keys | None = None
        self._read_at_s = float("-inf")
        self._tried_at_s = float("-inf")
        self._is_failing = False
        self._reading = SharedCall(self._read)

    async def key(self, kid: str, algorithm: str) -> jwt.PyJWK | None:
        """Return a key, None if the set does not have it.

        Raises: `RequestRefused` with `KEYS_AWAY` if no keys are in force.
        """
        await self.refresh()
        if (kid, algorithm) not in self._in_force() and self._may_try(RETRY_S):
            self._reading.begin()
            await self._reading.wait()
        return self._in_force().get((kid, algorithm))

    async def refresh(self) -> None:
        """Begin to read keys that are some minutes old; if none are in force, wait for them."""
        if self._age_s() > REFRESH_S and self._may_try(RETRY_S):
            self._reading.begin()
        if self._age_s() > MAX_AGE_S:
            await self._reading.wait()

    async def close(self) -> None:
        """End a reading that is under way, and close connections."""
        await self._reading.close()
        await self._source.close()

    def are_in_force(self) -> bool:
        """Tell whether keys were read within a day."""
        return self._keys is not None and self._age_s() <= MAX_AGE_S

    def _in_force(self) -> Keys:
        if self._keys is None or not self.are_in_force():
            raise RequestRefused(
                RequestCode.KEYS_AWAY, "the keys that sign JWTs cannot be read", retry_after_s=RETRY_S
            )
        return self._keys

    def _age_s(self) -> float:
        return self._clock.monotonic_s() - self._read_at_s

    def _may_try(self, pause_s: float) -> bool:
        return self._clock.monotonic_s() - self._tried_at_s >= pause_s

    async def _read(self) -> None:
        self._tried_at_s = began_s = self._clock.monotonic_s()
        try:
            text = await self._source.key_set()
            keys = self._keys if text == self._text and self._keys is not None else parse_keys(text)
        except (TransientError, ValueError, RecursionError) as error:
            self._note_failure(error)
            return
        if keys is not self._keys:
            self.version += 1
        self._keys, self._text, self._read_at_s = keys, text, began_s
        if self._is_failing:
            self._is_failing = False
            _log.warning(Log.SIGNING_KEYS_READ_AGAIN)

    def _note_failure(self, error: BaseException) -> None:
        if not self._is_failing:
            self._is_failing = True
            _log.error(
                Log.SIGNING_KEYS_NOT_READ,
                reason=str(error) or type(error).__name__,
                next="see TIDEMILL_JWT_JWKS_URL and TIDEMILL_JWT_JWKS_FILE",
                in_force_s=MAX_AGE_S,
            )
