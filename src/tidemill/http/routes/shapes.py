"""Parameters and answers that several operations share, for the description."""

from __future__ import annotations

from typing import Any, Final

from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.http.exchange import Exchange
from tidemill.http.route_table import Parameter

COLLECTION: Final = Parameter("collection", "path", "The name of a collection, such as `market-data`.")
ID: Final = Parameter("id", "path", "The key of a document; values of a composite one are joined by a comma.")
FIELDS: Final = Parameter("_fields", "query", "Names of fields, separated by commas; all by default.")
WHERE: Final = Parameter("_where", "query", "A filter as JSON, beside those of `field.operator=value`.")
PREFER: Final = Parameter(
    "Prefer",
    "header",
    "`wait=SECONDS`, `respond-async`, `return=representation`, `handling=strict`, `stale-ok`, `seen=all`.",
)
SEEN: Final = Parameter(
    "Tidemill-Seen", "header", "What the client has seen, as an answer gave it: the answer is not older."
)
IDEMPOTENCY_KEY: Final = Parameter(
    "Idempotency-Key",
    "header",
    "The identity of the command: a repeat with the same key is answered with the first outcome. Made if it is absent.",
    {"type": "string", "minLength": 1, "maxLength": 202},
)
IF_MATCH: Final = Parameter(
    "If-Match", "header", 'The ETag of the version to change, such as `"v3"`, or `*`.'
)
IF_NONE_MATCH: Final = Parameter("If-None-Match", "header", "An ETag: 304 if the document still has it.")

READ_CODES: Final = (
    RequestCode.NO_COLLECTION,
    RequestCode.FORBIDDEN,
    RequestCode.NO_SUCH_FIELD,
    RequestCode.NOT_ACCEPTABLE,
    RequestCode.BAD_TOKEN,
    RequestCode.WITHDRAWN,
    RequestCode.BEHIND,
    RequestCode.LANE_HALTED,
    RequestCode.ARCHIVED,
    RequestCode.QUERY_TIMEOUT,
)
"""What any read may be refused with."""

PAGE_CODES: Final = (
    *READ_CODES,
    RequestCode.NOT_FILTERABLE,
    RequestCode.BAD_VALUE,
    RequestCode.CURSOR_MISMATCH,
    RequestCode.REPLACED,
    RequestCode.LIMIT_TOO_LARGE,
    RequestCode.TIME_BOUND_REQUIRED,
)

WRITE_CODES: Final = (
    RequestCode.NO_COLLECTION,
    RequestCode.FORBIDDEN,
    RequestCode.NO_SUCH_VERB,
    RequestCode.SERVICE_MISMATCH,
    RequestCode.BAD_BODY,
    RequestCode.BODY_TOO_LARGE,
    RequestCode.MEDIA_TYPE,
    RequestCode.KEY_REQUIRED,
    RequestCode.BUS_AWAY,
    RequestCode.LANE_HALTED,
    RequestCode.JOURNAL_AWAY,
)
"""What any write may be refused with, beside the codes of its command."""


def demand_own_service(exchange: Exchange, service_name: str) -> None:
    """Return if a body names its sender, or nobody. Raises `RequestRefused` (`SERVICE_MISMATCH`)."""
    own = exchange.caller.name
    if service_name not in {"", own}:
        fault = RequestFault("pointer", "/service_name", f"must be {own}, or be left out")
        raise RequestRefused(RequestCode.SERVICE_MISMATCH, f"requests of {own} have its name", fault)


DOCUMENT: Final[dict[str, Any]] = {"type": "object", "additionalProperties": True}
"""A document: its fields are those of the collection's schema."""
