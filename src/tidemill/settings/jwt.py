"""The settings of JWTs."""

from __future__ import annotations

from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, FilePath, model_validator

from tidemill.settings.database_urls import is_local
from tidemill.settings.groups import Group
from tidemill.settings.values import HttpUrl


class JwtSettings(Group):
    """JWTs over HTTP ([security](security.md#jwts)): who signs them; not set: only tokens are accepted."""

    jwks_url: HttpUrl | None = Field(
        None, description="address of the key set, `https://...`; the only one that is ever asked"
    )
    jwks_file: FilePath | None = Field(None, description="the key set as a file, instead of an address")
    ca_file: FilePath | None = Field(
        None,
        description="certificates that may sign that of the address, as a PEM file; else those of the package certifi",
    )
    issuer: str | None = Field(None, description="what `iss` must be; required with a key set")
    audience: str | None = Field(None, description="what `aud` must have; required with a key set")
    subject_claim: str = Field(
        "sub", min_length=1, description="claim that names the principal, such as `azp`"
    )
    max_life_s: float = Field(
        900.0, gt=0, le=86_400, description="seconds from `iat` to `exp`; a JWT that lives longer is refused"
    )

    @model_validator(mode="after")
    def _demand_all_or_none(self) -> Self:
        if self.jwks_url and self.jwks_file:
            raise ValueError("TIDEMILL_JWT_JWKS_FILE: expected it, or TIDEMILL_JWT_JWKS_URL, not both")
        has_keys = bool(self.jwks_url or self.jwks_file)
        for name, value in (("ISSUER", self.issuer), ("AUDIENCE", self.audience)):
            if has_keys and not value:
                raise ValueError(f"TIDEMILL_JWT_{name}: expected a value, since JWTs are to be accepted")
            if value and not has_keys:
                raise ValueError(
                    f"TIDEMILL_JWT_{name}: expected TIDEMILL_JWT_JWKS_URL or .._JWKS_FILE with it"
                )
        return self

    @model_validator(mode="after")
    def _demand_encryption(self) -> Self:
        url = urlsplit(self.jwks_url or "")
        if url.scheme == "http" and not is_local(url.hostname or ""):
            raise ValueError(
                "TIDEMILL_JWT_JWKS_URL: expected https://..., since whoever changes it signs JWTs"
            )
        return self
