"""JWTs: whether one was signed by a key of the operator's set, for this service, now; and whom it names.

What it may do is never taken from it. Every check that the library makes by the machine's clock is made here, by ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, TypeGuard

import jwt

from tidemill.runtime.clock import Clock
from tidemill.security.credential_faults import CredentialFault
from tidemill.security.key_sets import ALGORITHMS, SigningKeys

SKEW_S: Final = 30.0
MAX_CACHED: Final = 10_000
_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
_EXTENSIONS: Final = frozenset({"crit", "b64", "zip"})
_CHECKS: Final[dict[str, Any]] = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_sub": False,
    "verify_jti": False,
}


@dataclass(frozen=True, kw_only=True)
class WebTokenConfig:
    """What a JWT must say. `subject_claim`: where it names the principal. `max_life_s`: from `iat` to `exp`."""

    issuer: str
    audience: str
    subject_claim: str = "sub"
    max_life_s: float = 900.0


@dataclass(frozen=True, slots=True)
class WebSubject:
    """Whom a JWT names, and until when. `ends_at`: seconds since 1970, with the tolerated difference of clocks."""

    name: str
    ends_at: float


@dataclass
class _Accepted:
    """Those that were verified, by their SHA-256, while the same keys are in force."""

    version: int = -1
    subjects: dict[bytes, WebSubject] = field(default_factory=dict, repr=False)

    def keep(self, key: bytes, subject: WebSubject, now: float) -> None:
        if len(self.subjects) >= MAX_CACHED:
            self.subjects = {name: kept for name, kept in self.subjects.items() if now < kept.ends_at}
        if len(self.subjects) >= MAX_CACHED:
            self.subjects.clear()
        self.subjects[key] = subject


class WebTokenVerifier:
    """Verifies JWTs. The result for the same bytes is kept until the token ends or the keys change."""

    def __init__(self, keys: SigningKeys, config: WebTokenConfig, clock: Clock) -> None:
        """Nothing is read."""
        self._keys = keys
        self._config = config
        self._clock = clock
        self._accepted = _Accepted()

    async def verify(self, text: str) -> WebSubject | CredentialFault:
        """Return whom a JWT names, or why it counts for nothing. Raises `RequestRefused` with `KEYS_AWAY`."""
        await self._keys.refresh()
        key = sha256(text.encode("utf-8", "surrogatepass")).digest()
        kept = self._kept(key)
        if kept is not None:
            return kept
        result = await self._verified(text)
        if isinstance(result, WebSubject):
            self._accepted.keep(key, result, self._clock.now().timestamp())
        return result

    async def close(self) -> None:
        """Close what reads the keys."""
        await self._keys.close()

    def _kept(self, key: bytes) -> WebSubject | None:
        if self._accepted.version != self._keys.version:
            self._accepted = _Accepted(self._keys.version)
        kept = self._accepted.subjects.get(key)
        if kept is None or not self._keys.are_in_force():
            return None
        return kept if self._clock.now().timestamp() < kept.ends_at else None

    async def _verified(self, text: str) -> WebSubject | CredentialFault:
        try:
            header = jwt.get_unverified_header(text)
        except (jwt.PyJWTError, ValueError, RecursionError):
            return CredentialFault.MALFORMED
        fault = _fault_of_header(header)
        if fault is not None:
            return fault
        key = await self._keys.key(header["kid"], header["alg"])
        return CredentialFault.UNKNOWN_KEY if key is None else self._signed(text, key, header["alg"])

    def _signed(self, text: str, key: jwt.PyJWK, algorithm: str) -> WebSubject | CredentialFault:
        try:
            claims = jwt.decode(
                text,
                key,
                algorithms=[algorithm],
                audience=self._config.audience,
                issuer=self._config.issuer,
                options=_CHECKS,  # type: ignore[arg-type]  # a typed dictionary of the library's
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            return _refusal_of(error)
        return self._subject(claims)

    def _subject(self, claims: Mapping[str, Any]) -> WebSubject | CredentialFault:
        now = self._clock.now()
        fault = self._fault_of_times(claims, now)
        if fault is not None:
            return fault
        name = claims.get(self._config.subject_claim)
        if not isinstance(name, str) or not name:
            return CredentialFault.NO_SUBJECT
        return WebSubject(name, claims["exp"] + SKEW_S)

    def _fault_of_times(self, claims: Mapping[str, Any], now: datetime) -> CredentialFault | None:
        exp, iat, nbf = claims.get("exp"), claims.get("iat"), claims.get("nbf", 0)
        if not (_is_time(exp) and _is_time(iat) and _is_time(nbf)):
            return CredentialFault.WRONG_TIMES
        now_s = now.timestamp()
        if now_s >= exp + SKEW_S:
            return CredentialFault.JWT_EXPIRED
        if max(iat, nbf) > now_s + SKEW_S:
            return CredentialFault.WRONG_TIMES
        return CredentialFault.LIFE_TOO_LONG if exp - iat > self._config.max_life_s else None


def _fault_of_header(header: Mapping[str, Any]) -> CredentialFault | None:
    """Look at what was not signed yet: it decides which key is taken, and nothing else."""
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        return CredentialFault.WRONG_ALGORITHM
    kind = header.get("typ", "")
    if not isinstance(kind, str) or kind.lower() not in _TYPES or _EXTENSIONS & header.keys():
        return CredentialFault.WRONG_TYPE
    return None if isinstance(header.get("kid"), str) else CredentialFault.UNKNOWN_KEY


def _is_time(value: Any) -> TypeGuard[float]:
    """Tell whether a claim is seconds since 1970, before the year 5000: no infinity, no text, no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e11


def _refusal_of(error: Exception) -> CredentialFault:
    if isinstance(error, jwt.InvalidIssuerError):
        return CredentialFault.WRONG_ISSUER
    if isinstance(error, jwt.InvalidAudienceError):
        return CredentialFault.WRONG_AUDIENCE
    if isinstance(error, jwt.MissingRequiredClaimError):
        return CredentialFault.WRONG_ISSUER if error.claim == "iss" else CredentialFault.WRONG_AUDIENCE
    return (
        CredentialFault.WRONG_SIGNATURE
        if isinstance(error, jwt.InvalidTokenError)
        else CredentialFault.MALFORMED
    )
