"""`If-Match`: the version of a document that its sender has seen."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.request_codes import RequestCode

_HEADER: Final = "If-Match"
_TAG: Final = re.compile(r'(?:W/)?"v([1-9][0-9]{0,18})(?:-[A-Za-z0-9]+)?"')
_MAX_VERSION: Final = 2**63 - 1


class Precondition(NamedTuple):
    """What must hold of a document before it changes.

    `version`: its version, None for any. `exists`: whether there must be one, as `If-Match: *` demands.
    """

    version: int | None = None
    exists: bool = False


ANY: Final = Precondition()


def precondition(if_match: str | None, *, demanded: bool = False) -> Precondition:
    """Return what a header demands: `"v3"`, also as proxies change it (`W/"v3"`, `"v3-gzip"`), or `*`.

    Raises:
        RequestRefused: `WRONG_ETAG`; `MATCH_REQUIRED` if there is no header and one is `demanded`.
    """
    if if_match is None:
        if demanded:
            raise RequestRefused(
                RequestCode.MATCH_REQUIRED,
                f"this deployment changes no document without {_HEADER}",
                RequestFault("header", _HEADER, "it is missing", RequestCode.MATCH_REQUIRED),
            )
        return ANY
    if if_match.strip() == "*":
        return Precondition(exists=True)
    tag = _TAG.fullmatch(if_match.strip())
    if tag is None or int(tag[1]) > _MAX_VERSION:
        detail = 'it must be one ETag of a document of a state collection, such as "v3", or *'
        raise RequestRefused(
            RequestCode.WRONG_ETAG,
            f"{_HEADER} is not the ETag of a document",
            RequestFault("header", _HEADER, detail, RequestCode.WRONG_ETAG),
        )
    return Precondition(version=int(tag[1]), exists=True)
