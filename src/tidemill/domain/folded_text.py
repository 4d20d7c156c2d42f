"""Texts without regard to case: what is equal of them, and the columns that hold it."""

from __future__ import annotations

import unicodedata


def folded(text: str) -> str:
    """Return what is equal of texts that differ in case or in how their characters are composed."""
    if text.isascii():  # most are, and the rules have only this to say of them
        return text.lower()
    return unicodedata.normalize("NFKC", text).casefold()


def folded_column(name: str) -> str:
    """Return the column that holds the folded text of another one."""
    return f"{name}_folded"
