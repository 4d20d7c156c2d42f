"""Which collection a request is about, and whether its principal may do that: deny by default.

Without any grant a collection does not exist: the answer is that of a name that nothing has, before anything is asked.
"""

from __future__ import annotations

from tidemill.domain.errors import RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.http.exchange import Exchange
from tidemill.queries.collections import Collections, VisibleCollection
from tidemill.security.principals import Principal, Verb


def no_collection() -> RequestRefused:
    """Return the refusal of a name that nothing has, or nothing that the principal may know of."""
    return RequestRefused(RequestCode.NO_COLLECTION, "there is no such collection")


def known(collections: Collections, exchange: Exchange) -> VisibleCollection:
    """Return the collection of the path as the principal sees it. Raises `RequestRefused` (`NO_COLLECTION`)."""
    name = exchange.segment("collection")
    grant = exchange.caller.grant(name)
    if grant is None:
        raise no_collection()
    return collections.visible(name, grant.hidden)


def readable(collections: Collections, exchange: Exchange) -> VisibleCollection:
    """Return the collection of the path. Raises `RequestRefused` (`NO_COLLECTION`, `FORBIDDEN`)."""
    collection = known(collections, exchange)
    demand(exchange.caller, Verb.READ, collection.name)
    return collection


def demand(principal: Principal, verb: Verb, collection: str) -> None:
    """Return if a principal may do this. Raises `RequestRefused` (`FORBIDDEN`)."""
    if not principal.may(verb, collection):
        raise RequestRefused(RequestCode.FORBIDDEN, f"this takes the grant `{verb}` on `{collection}`")
