"""Who sends a request: from its header `Authorization` to a principal. Deny by default.

Every refusal reads alike for the one who asks, and takes its reason only to the log and the metric; credentials are in
neither.
"""

from __future__ import annotations

from contextlib import suppress
from hmac import compare_digest
from typing import Final

from tidemill.domain.errors import RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.runtime.clock import Clock
from tidemill.runtime.rate_limits import RateLimiter
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import UNAUTHENTICATED
from tidemill.security.credential_faults import CredentialFault
from tidemill.security.directory import PrincipalDirectory
from tidemill.security.principal_rows import KnownPrincipals
from tidemill.security.principals import DEVELOPMENT, Principal
from tidemill.security.tokens import PREFIX, digest, id_of, is_well_formed
from tidemill.security.web_tokens import WebTokenVerifier

_log = logger(__name__)

MAX_BYTES: Final = 8_192
_TEXT: Final = "no valid credentials were sent"
_DOTS_OF_A_JWT: Final = 2


class Authenticator:
    """Finds the principal of a request. Open one for each process, and close it at the end."""

    def __init__(
        self,
        directory: PrincipalDirectory,
        clock: Clock,
        *,
        web_tokens: WebTokenVerifier | None = None,
        development: bool = False,
    ) -> None:
        """`web_tokens`: None if no JWT is accepted.

        `development`: while no principal was ever added, each request is from the development principal; as
        `BindPolicy.allows_development` says, and never where JWTs are accepted.
        """
        self._directory = directory
        self._clock = clock
        self._web_tokens = web_tokens
        self._development = development and web_tokens is None
        self._lines = RateLimiter(clock, burst=3, every_s=60.0)

    async def authenticate(self, authorization: str | None) -> Principal:
        """Return the principal that a header names; None: there is no such header.

        Raises:
            RequestRefused: `UNAUTHENTICATED`; or `DATABASE_AWAY`, `KEYS_AWAY` if it cannot be known.
        """
        known = await self._directory.current()
        if self._development and not known.are_configured:
            return DEVELOPMENT
        identified = await self._identified(known, authorization)
        if isinstance(identified, Principal):
            return identified
        self._note(identified)
        raise RequestRefused(RequestCode.UNAUTHENTICATED, _TEXT)

    async def serves_development(self) -> bool:
        """Tell whether each request is now from the development principal. Raises `RequestRefused`."""
        return self._development and not (await self._directory.current()).are_configured

    async def warn_of_development(self) -> None:
        """Log at start that requests without credentials may do everything; each answer says it, too."""
        with suppress(RequestRefused):  # while the principals cannot be read, nothing is answered
            if await self.serves_development():
                _log.warning(Log.HTTP_UNPROTECTED, principal=DEVELOPMENT.name)

    async def close(self) -> None:
        """End what is being read."""
        await self._directory.close()
        if self._web_tokens is not None:
            await self._web_tokens.close()

    async def _identified(
        self, known: KnownPrincipals, authorization: str | None
    ) -> Principal | CredentialFault:
        if not authorization:
            return CredentialFault.MISSING
        scheme, _, credentials = authorization.partition(" ")
        credentials = credentials.strip(" ")
        if scheme.lower() != "bearer" or not credentials or len(credentials) > MAX_BYTES:
            return CredentialFault.MALFORMED
        if credentials.startswith(PREFIX):
            return self._of_token(known, credentials)
        return await self._of_web_token(known, credentials)

    def _of_token(self, known: KnownPrincipals, text: str) -> Principal | CredentialFault:
        row = known.tokens.get(id_of(text))
        if row is None or not compare_digest(row.hash, digest(text)):
            return CredentialFault.UNKNOWN_TOKEN if is_well_formed(text) else CredentialFault.MALFORMED
        if row.revoked_at is not None:
            return CredentialFault.TOKEN_REVOKED
        if not row.is_in_force(self._clock.now()):
            return CredentialFault.TOKEN_EXPIRED
        return known.by_name.get(row.principal, CredentialFault.PRINCIPAL_REVOKED)

    async def _of_web_token(self, known: KnownPrincipals, text: str) -> Principal | CredentialFault:
        if text.count(".") != _DOTS_OF_A_JWT:
            return CredentialFault.MALFORMED
        if self._web_tokens is None:
            return CredentialFault.NO_JWT_EXPECTED
        subject = await self._web_tokens.verify(text)
        if isinstance(subject, CredentialFault):
            return subject
        is_revoked = subject.name in known.revoked
        otherwise = CredentialFault.PRINCIPAL_REVOKED if is_revoked else CredentialFault.UNKNOWN_SUBJECT
        return known.by_subject.get(subject.name, otherwise)

    def _note(self, refusal: CredentialFault) -> None:
        """Count it; log a few of each reason, since whoever guesses must not fill the disk."""
        UNAUTHENTICATED.labels(str(refusal)).inc()
        if not self._lines.take(refusal):
            _log.warning(Log.REQUEST_UNAUTHENTICATED, reason=str(refusal))
