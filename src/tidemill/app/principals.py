"""Who may what, from settings and the catalogue: what can be granted, and how JWTs are verified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from tidemill.admin.principals import PrincipalManagement, keep_change
from tidemill.catalog.collections import collections_of
from tidemill.catalog.streams import StreamCatalog
from tidemill.runtime.clock import Clock
from tidemill.security.authenticator import Authenticator
from tidemill.security.by_hand import operator
from tidemill.security.directory import PrincipalDirectory
from tidemill.security.journal_writer import Journal
from tidemill.security.key_sets import SigningKeys
from tidemill.security.ports import KeySetSource, PrincipalReader
from tidemill.security.web_tokens import WebTokenConfig, WebTokenVerifier
from tidemill.settings import JwtSettings
from tidemill.storage.database.pool import Lender
from tidemill.storage.security.principals import PrincipalDatabase
from tidemill.transport.jwks import JwksAddress, JwksFile


def grantable(catalog: StreamCatalog) -> Mapping[str, Sequence[str]]:
    """Return the collections of a deployment, each with the columns that may be hidden: all but those of its key."""
    return {
        name: [column for column in collection.columns if column not in collection.key]
        for name, collection in collections_of(catalog).items()
    }


def principal_management(
    pool: Lender, catalog: StreamCatalog, clock: Clock, journal: Journal | None
) -> PrincipalManagement:
    """Return an operator's decisions about principals. `pool`: of a login that may change them."""
    return PrincipalManagement(
        store=PrincipalDatabase(pool),
        collections=grantable(catalog),
        clock=clock,
        actor=operator(),
        journal=None if journal is None else partial(keep_change, journal),
    )


def open_authenticator(
    reader: PrincipalReader, settings: JwtSettings, clock: Clock, *, development: bool
) -> Authenticator:
    """Return what finds the principal of a request; nothing is read yet. `development`: as the bind policy allows.

    Raises: `UsageError` if the certificates of the settings cannot be read.
    """
    return Authenticator(
        PrincipalDirectory(reader, clock),
        clock,
        web_tokens=_verifier(settings, clock),
        development=development,
    )


def _verifier(settings: JwtSettings, clock: Clock) -> WebTokenVerifier | None:
    source = _source(settings)
    if source is None or settings.issuer is None or settings.audience is None:
        return None
    config = WebTokenConfig(
        issuer=settings.issuer,
        audience=settings.audience,
        subject_claim=settings.subject_claim,
        max_life_s=settings.max_life_s,
    )
    return WebTokenVerifier(SigningKeys(source, clock), config, clock)


def _source(settings: JwtSettings) -> KeySetSource | None:
    if settings.jwks_file is not None:
        return JwksFile(settings.jwks_file)
    return None if settings.jwks_url is None else JwksAddress(settings.jwks_url, ca_file=settings.ca_file)
