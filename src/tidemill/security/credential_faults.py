"""Why a request is not from any principal: for logs and metrics, never for the one who asks."""

from __future__ import annotations

from enum import StrEnum


class CredentialFault(StrEnum):
    """What is wrong with the credentials of a request."""

    MISSING = "missing"
    MALFORMED = "malformed"
    """Neither a token nor a JWT, or a token with a wrong checksum, as a typing error gives."""
    UNKNOWN_TOKEN = "unknown_token"  # noqa: S105  the name of a fault, no token  it is the name of a reason
    TOKEN_EXPIRED = "token_expired"  # noqa: S105  the name of a fault, no token
    TOKEN_REVOKED = "token_revoked"  # noqa: S105  the name of a fault, no token
    PRINCIPAL_REVOKED = "principal_revoked"
    NO_JWT_EXPECTED = "no_jwt_expected"
    """A JWT, although no key set is configured."""
    WRONG_ALGORITHM = "wrong_algorithm"
    WRONG_TYPE = "wrong_type"
    """A JWT made for something else than access, or with an extension that must be understood."""
    UNKNOWN_KEY = "unknown_key"
    WRONG_SIGNATURE = "wrong_signature"
    WRONG_AUDIENCE = "wrong_audience"
    WRONG_ISSUER = "wrong_issuer"
    WRONG_TIMES = "wrong_times"
    """A time of a JWT is missing, or is not a number, or lies ahead."""
    JWT_EXPIRED = "jwt_expired"
    LIFE_TOO_LONG = "life_too_long"
    NO_SUBJECT = "no_subject"
    UNKNOWN_SUBJECT = "unknown_subject"
