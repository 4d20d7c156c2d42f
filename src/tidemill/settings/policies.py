"""The setting that holds policies: JSON by table, each with some fields of a `RetentionPolicy`."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import ValidationError

from tidemill.domain.archive.policy import RetentionPolicy

_EXPECTED: Final = 'expected {"schema.table": {"enabled": true, "retention_period_days": 90}}'
_LEAST: Final = {"enabled": True, "retention_period_days": 1}


def policy_text(value: str) -> str:
    """Return the text if each of its policies is one. Raises `ValueError` with table and field."""
    try:
        parsed = json.loads(value or "{}")
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise ValueError(_EXPECTED)  # noqa: TRY004  pydantic wants a ValueError
    for table, fields in parsed.items():
        if not isinstance(fields, dict):
            raise ValueError(f"{_EXPECTED}; {table} is not an object")  # noqa: TRY004  as above
        try:
            RetentionPolicy.model_validate(_LEAST | fields)
        except ValidationError as error:
            wrong = error.errors()[0]
            place = ".".join(map(str, wrong["loc"]))
            raise ValueError(f"{_EXPECTED}; {table}, {place}: {wrong['msg']}") from None
    return value


def policies_told(value: str) -> dict[str, dict[str, Any]]:
    """Return the fields of each policy that a checked text sets, by table (`schema.table`)."""
    return dict(json.loads(value or "{}"))
