"""Where the files of a copy are, and the manifest beside them.

    <root>/<schema>.<table>/year=2026/month=03/<range start>-g<generation>-<event id>-<n>.parquet
    <root>/<schema>.<table>/year=2026/month=03/<range start>-g<generation>-<event id>.manifest.json

Names depend on nothing but slice, event and number: a second attempt overwrites the first. A copy without manifest is
none: the manifest is written last.
"""

from __future__ import annotations

from dataclasses import dataclass

from tidemill.domain.archive import LakeColumn, LakeFile, Measured, SliceId


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a copy is. `files` have paths that can be opened as they stand (URLs, or paths of this machine)."""

    slice: SliceId
    event_id: str
    time_column: str
    columns: tuple[LakeColumn, ...]
    measured: Measured
    files: tuple[LakeFile, ...]
