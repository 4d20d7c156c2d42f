"""A copy as versions before 0.5 wrote it: rows and manifest in a folder of the range's year and month."""

import json
from pathlib import Path
from typing import Final

from tidemill.domain.archive.slices import SliceId
from tidemill.lakehouse.layout import Manifest

VERSION: Final = 1


def month_folder(root: Path, archive_slice: SliceId) -> Path:
    """Where such a version put the copy of a slice."""
    start = archive_slice.start
    return root / archive_slice.table / f"year={start.year:04d}" / f"month={start.month:02d}"


def move_to_former_places(root: Path, copy: Manifest) -> Path:
    """Move a copy that was just written; return its manifest, which names only the files beside it."""
    folder = month_folder(root, copy.slice)
    folder.mkdir(parents=True, exist_ok=True)
    for file in copy.files:
        Path(file.path).rename(folder / Path(file.path).name)
    (manifest,) = (root / "_tidemill" / copy.slice.table).glob(f"*{copy.event_id}.manifest.json")
    body = json.loads(manifest.read_text()) | {"version": VERSION}
    del body["folder"]
    manifest.unlink()
    former = folder / manifest.name
    former.write_text(json.dumps(body))
    return former
