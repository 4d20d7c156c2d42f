"""Every error as `application/problem+json` (RFC 9457), with a code and what the client may do next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from tidemill.domain.errors import RequestFault, RequestRefused, Unavailable
from tidemill.domain.rejections import PARKED, REJECTED, ParkingCode, RejectionCode
from tidemill.domain.request_codes import RequestCode, Retry
from tidemill.http.answer import HttpAnswer

MEDIA_TYPE: Final = b"application/problem+json"

REJECTION_STATUS: Final[Mapping[str, tuple[int, Retry]]] = {
    RejectionCode.INVALID: (422, Retry.NEW_KEY),
    RejectionCode.ID_REUSE: (422, Retry.NEW_KEY),
    RejectionCode.STALE: (422, Retry.NEW_KEY),
    RejectionCode.RANGE_CLOSED: (409, Retry.NEVER),
    RejectionCode.STILL_REFERRED_TO: (409, Retry.NEW_KEY),
    RejectionCode.TOO_LARGE: (413, Retry.NEW_KEY),
    RejectionCode.WRONG_KEY: (500, Retry.NEVER),
    RejectionCode.WRONG_PARTITION: (500, Retry.NEVER),
    ParkingCode.TOO_BIG: (413, Retry.NEW_KEY),
    ParkingCode.MALFORMED: (500, Retry.NEVER),
    ParkingCode.UNKNOWN_SCHEMA: (500, Retry.NEVER),
    ParkingCode.NEWER_SCHEMA: (500, Retry.NEVER),
    ParkingCode.CRASHED: (500, Retry.NEVER),
    "NOT_FOUND": (404, Retry.NEW_KEY),
}
"""The status of each code of an outcome; those that a context declares are 409 unless they are listed."""

NO_CODES: Final[Mapping[str, str]] = {}

_RETRY_AFTER_S: Final = 1.0


def rejection_status(code: str) -> tuple[int, Retry]:
    """Return the status of a command's rejection or parking."""
    return REJECTION_STATUS.get(code, (409, Retry.NEW_KEY))


def rejections_by_status() -> dict[int, list[str]]:
    """Return the codes of outcomes, for the description; a context may have more of 409."""
    by_status: dict[int, list[str]] = {409: []}
    for code, (status, _) in REJECTION_STATUS.items():
        by_status.setdefault(status, []).append(code)
    return by_status


def advice_of(code: str, own: Mapping[str, str] = NO_CODES) -> str:
    """Return what to do about the code of an outcome. `own`: the codes of the command's context."""
    return {**own, **REJECTED, **PARKED}.get(
        code, "read `detail`, correct the command, send it with a new key"
    )


def refusal(error: RequestRefused, *, instance: str) -> HttpAnswer:
    """Return the answer to a refused request."""
    code = error.request_code
    return problem(
        code.status,
        str(code),
        error.detail,
        retry=code.retry,
        instance=instance,
        faults=error.faults,
        retry_after_s=error.retry_after_s,
        advice=code.advice,
    )


def unavailable(error: Unavailable, *, instance: str) -> HttpAnswer:
    """Return the answer while a server is unavailable; it says which, not where."""
    code = RequestCode.DATABASE_AWAY if error.server == "database" else RequestCode.BUS_AWAY
    detail = f"{error.server} is not available"
    return problem(code.status, str(code), detail, retry=code.retry, instance=instance, advice=code.advice)


def internal(*, instance: str) -> tuple[str, HttpAnswer]:
    """Return an id for the log, and the answer that names it."""
    fault_id = uuid4().hex
    code = RequestCode.INTERNAL
    detail = f"something went wrong here; the log has it under {fault_id}"
    return fault_id, problem(
        code.status, str(code), detail, retry=code.retry, instance=instance, advice=code.advice
    )


def problem(  # noqa: PLR0913  the members of the document
    status: int,
    code: str,
    detail: str,
    *,
    retry: Retry,
    instance: str,
    faults: tuple[RequestFault, ...] = (),
    retry_after_s: float | None = None,
    advice: str = "",
    more: Mapping[str, Any] | None = None,
) -> HttpAnswer:
    """Return a problem document. `more`: members beside the usual ones."""
    content = {
        "type": f"urn:tidemill:problem:{code.lower().replace('_', '-')}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": instance,
        "code": code,
        "retry": str(retry),
        "advice": advice,
        "errors": [_member(fault) for fault in faults],
        "success": False,
        "error_message": detail,
        **(more or {}),
    }
    headers = []
    if status == 503 or retry_after_s is not None:
        seconds = max(1, round(retry_after_s if retry_after_s is not None else _RETRY_AFTER_S))
        headers.append((b"retry-after", str(seconds).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return HttpAnswer(
        status, json.dumps(content, ensure_ascii=False).encode(), headers=headers, media_type=MEDIA_TYPE
    )


def _member(fault: RequestFault) -> dict[str, str]:
    code = {"code": str(fault.code)} if fault.code else {}
    return {fault.kind: fault.where, **code, "detail": fault.detail}
