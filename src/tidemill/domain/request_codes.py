"""Every code of a request that is refused over HTTP and is not the outcome of a command, each defined once.

Status and `retry` follow docs/http.md, whose table is checked against these by a test.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from tidemill.domain.rejections import Code


class Retry(StrEnum):
    """What a client may do after a refusal."""

    SAME_KEY = "same-key"
    """Send the same request again, with the same Idempotency-Key."""
    NEW_KEY = "new-key"
    """Correct the request, then send it with a new Idempotency-Key."""
    LATER = "later"
    """Send the same request again after `Retry-After`."""
    NEVER = "never"
    """Do not send it again: it would be refused again."""


class RequestCode(Code):
    """Why a request was refused, and what its sender should do. `status`: of HTTP."""

    status: int
    retry: Retry

    def __new__(cls, text: str, status: int, retry: Retry, advice: str) -> Self:
        """Keep status, retry and advice beside the code."""
        member = str.__new__(cls, text)
        member._value_ = text
        member.status = status
        member.retry = retry
        member.advice = advice
        return member

    BAD_BODY = "BAD_BODY", 400, Retry.NEW_KEY, "correct the body as `errors` says"
    BAD_PARAMETER = "BAD_PARAMETER", 400, Retry.NEW_KEY, "correct the parameter or header that `errors` names"
    NO_SUCH_FIELD = "NO_SUCH_FIELD", 400, Retry.NEW_KEY, "see the fields in `/api/db/schema/{collection}`"
    NOT_FILTERABLE = (
        "NOT_FILTERABLE",
        400,
        Retry.NEW_KEY,
        "see each field's operators in `/api/db/schema/{collection}`",
    )
    BAD_VALUE = "BAD_VALUE", 400, Retry.NEW_KEY, "write the value as the field's type demands"
    CURSOR_MISMATCH = (
        "CURSOR_MISMATCH",
        400,
        Retry.NEW_KEY,
        "begin again without `_after`: a cursor fits the request that it came from",
    )
    LIMIT_TOO_LARGE = "LIMIT_TOO_LARGE", 400, Retry.NEW_KEY, "ask for fewer rows, and follow `next`"
    TIME_BOUND_REQUIRED = (
        "TIME_BOUND_REQUIRED",
        400,
        Retry.NEW_KEY,
        "bound the time column from below: TIME.gte=...",
    )
    KEY_REQUIRED = "KEY_REQUIRED", 400, Retry.NEW_KEY, "send an Idempotency-Key, best a UUIDv7"
    WRONG_ETAG = "WRONG_ETAG", 400, Retry.NEW_KEY, "If-Match takes the ETag of a state collection"
    BAD_TOKEN = (
        "BAD_TOKEN",
        400,
        Retry.NEW_KEY,
        "send Tidemill-Seen as an answer gave it, or leave it out",
    )
    UNAUTHENTICATED = "UNAUTHENTICATED", 401, Retry.NEVER, "send `Authorization: Bearer TOKEN`"
    FORBIDDEN = "FORBIDDEN", 403, Retry.NEVER, "ask the operator for the grant"
    SERVICE_MISMATCH = (
        "SERVICE_MISMATCH",
        403,
        Retry.NEVER,
        "leave out `service_name`, or send the principal's own",
    )
    NO_COLLECTION = "NO_COLLECTION", 404, Retry.NEVER, "see `/api/db/schema`"
    NO_QUERY = "NO_QUERY", 404, Retry.NEVER, "see the declared queries in `/api/db/schema`"
    NO_DOCUMENT = "NO_DOCUMENT", 404, Retry.NEW_KEY, "nothing has this key"
    NO_COMMAND = (
        "NO_COMMAND",
        404,
        Retry.NEW_KEY,
        "no command with this id has arrived; it may still be on its way",
    )
    NO_ROUTE = "NO_ROUTE", 404, Retry.NEVER, "see `/docs`"
    NO_SUCH_VERB = "NO_SUCH_VERB", 405, Retry.NEVER, "see the header Allow"
    NOT_ACCEPTABLE = "NOT_ACCEPTABLE", 406, Retry.NEW_KEY, "accept application/json"
    BODY_TOO_LARGE = "BODY_TOO_LARGE", 413, Retry.NEW_KEY, "send less in one request"
    URL_TOO_LONG = "URL_TOO_LONG", 414, Retry.NEW_KEY, "use POST `/api/db/{collection}/query`"
    MEDIA_TYPE = (
        "MEDIA_TYPE",
        415,
        Retry.NEW_KEY,
        "send what the header Accept-Post or Accept-Patch names",
    )
    MATCH_FAILED = "MATCH_FAILED", 412, Retry.NEW_KEY, "read it again, and decide anew"
    MATCH_REQUIRED = (
        "MATCH_REQUIRED",
        428,
        Retry.NEW_KEY,
        "read the document, and send its ETag as If-Match; `*` for any version",
    )
    ID_TAKEN = (
        "ID_TAKEN",
        409,
        Retry.SAME_KEY,
        "send the command again with the same key, and wait: the answer says what became of it",
    )
    REPLACED = "REPLACED", 409, Retry.NEW_KEY, "begin again without `_after`"
    WITHDRAWN = (
        "WITHDRAWN",
        409,
        Retry.NEW_KEY,
        "what the token names was withdrawn when a database was restored: read without it",
    )
    ARCHIVED = "ARCHIVED", 422, Retry.NEVER, "these rows left for the lake: read them there"
    QUERY_TIMEOUT = "QUERY_TIMEOUT", 422, Retry.NEW_KEY, "name a key or times, or ask for fewer rows"
    RATE_LIMITED = (
        "RATE_LIMITED",
        429,
        Retry.LATER,
        "try again after Retry-After; the header RateLimit-Policy says how much a principal may ask for",
    )
    OVERLOADED = "OVERLOADED", 503, Retry.SAME_KEY, "try again after Retry-After"
    BEHIND = "BEHIND", 503, Retry.LATER, "try again after Retry-After, or send `Prefer: stale-ok`"
    LANE_HALTED = (
        "LANE_HALTED",
        503,
        Retry.SAME_KEY,
        "an operator must resume the lane: `tidemill lanes list`",
    )
    QUERY_UNFIT = (
        "QUERY_UNFIT",
        503,
        Retry.LATER,
        "an operator must bring query and tables into agreement: the log says how they differ",
    )
    BUS_AWAY = "BUS_AWAY", 503, Retry.SAME_KEY, "try again after Retry-After"
    DATABASE_AWAY = "DATABASE_AWAY", 503, Retry.SAME_KEY, "try again after Retry-After"
    KEYS_AWAY = (
        "KEYS_AWAY",
        503,
        Retry.SAME_KEY,
        "try again after Retry-After, or send a token instead of a JWT",
    )
    STARTING = "STARTING", 503, Retry.SAME_KEY, "try again after Retry-After"
    DRAINING = "DRAINING", 503, Retry.SAME_KEY, "try again: another process answers, or this one again soon"
    JOURNAL_AWAY = (
        "JOURNAL_AWAY",
        503,
        Retry.SAME_KEY,
        "nothing is written that cannot be journalled: try again after Retry-After",
    )
    INTERNAL = "INTERNAL", 500, Retry.NEVER, "report the id to the operator: the log has it"
    NOT_YET = "NOT_YET", 501, Retry.NEVER, "this version does not do it yet"
