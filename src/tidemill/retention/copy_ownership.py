"""The request of a file: a copy of another request may be deleted when that is superseded, and proves nothing.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tidemill.retention.requests import OWN_DIGITS
from tidemill.retention.slices import Slice

_ANEW = "deleting that copy would delete the only one; copy the rows again, under names with the event_id"


def why_not_own(archive_slice: Slice, file: str, left_at: Iterable[str]) -> str | None:
    """Return why a file that holds rows of a slice is not a copy for its present request, None if it may be.

    `left_at`: the stated locations of copies for its earlier requests, files or folders, spelt like `file`. A file
    with the present request's id in its name, and no other, is new wherever it is.
    """
    named = _requests(archive_slice, file)
    other = next((event for event in named if event != archive_slice.event_id), None)
    if other is not None:
        superseded = ", which this one supersedes" if other in archive_slice.superseded else ""
        return f"it was copied for request {other}{superseded}: {_ANEW}"
    if not named and any(_is_at(file, place) for place in left_at):
        return f"a copy for an earlier request, which this one supersedes, was reported there: {_ANEW}"
    return None


def _requests(archive_slice: Slice, file: str) -> list[str]:
    """Return the requests whose ids are in a file's name: earlier ones of the slice, and any of this registry's."""
    event_id = archive_slice.event_id or ""
    own, rest = re.escape(event_id[:OWN_DIGITS]), max(len(event_id) - OWN_DIGITS, 0)
    alike = re.findall(f"{own}[^/]{{{rest}}}", file) if own else []
    return [*(each for each in archive_slice.superseded if each in file), *alike]


def _is_at(file: str, place: str) -> bool:
    return file == place or file.startswith(place.rstrip("/") + "/")
