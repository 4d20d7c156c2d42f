"""`Json`: the text of a JSON object, kept as jsonb."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, ValidationInfo
from sqlalchemy.dialects.postgresql import JSONB

from tidemill.domain.field_rules import FieldRule
from tidemill.domain.json_text import is_storable_object, json_object


def _checked(text: str, field: ValidationInfo) -> str:
    if not is_storable_object(text):
        json_object(text, field.field_name or "the text")
    return text


Json = Annotated[
    str, AfterValidator(_checked), JSONB(), FieldRule("A JSON object, at most 64 KiB, no key twice.")
]
"""The text of a JSON object that PostgreSQL can keep: at most 64 KiB, no key twice, no number out of range."""
