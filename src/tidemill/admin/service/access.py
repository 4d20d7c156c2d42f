"""Who may ask about the service: operators about all of it, others about the collections that they have a grant for."""

from __future__ import annotations

from tidemill.domain.errors import RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.security.principals import ALL_COLLECTIONS, Principal, Verb


def demand_operator(principal: Principal) -> None:
    """Return if a principal may look at what is an operator's. Raises `RequestRefused`: `FORBIDDEN`."""
    if not principal.may(Verb.OPERATE, ALL_COLLECTIONS):
        raise RequestRefused(
            RequestCode.FORBIDDEN, "this is for operators: it takes the grant `operate` on `*`"
        )
