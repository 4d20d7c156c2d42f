"""What a client accepts: JSON, with numbers as texts where JavaScript would round them, or as they are."""

from __future__ import annotations

from typing import Final

from tidemill.domain.errors import RequestRefused
from tidemill.domain.request_codes import RequestCode

_JSON: Final = frozenset({"application/json", "application/*", "*/*"})


def demand_json(header: str | None) -> bool:
    """Return whether numbers are wanted as number tokens (`application/json;numbers=native`).

    Raises `RequestRefused` (`NOT_ACCEPTABLE`): the client takes no JSON.
    """
    if header is None:
        return False
    accepted = False
    for part in header.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if media_type not in _JSON or "q=0" in parameters:
            continue
        if "numbers=native" in parameters:
            return True
        accepted = True
    if not accepted:
        raise RequestRefused(RequestCode.NOT_ACCEPTABLE, "there is only application/json here")
    return False
