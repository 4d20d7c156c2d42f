"""The files of the package `bokeh_sampledata`: real data sets, in the public domain."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tidemill.domain.errors import UsageError


def sample_file(name: str) -> Path:
    """Return the path of a data set. Raises `UsageError` if the package is not installed."""
    missing = [needed for needed in ("bokeh_sampledata", "pandas") if find_spec(needed) is None]
    if missing:
        raise UsageError(f"the demo needs {' and '.join(missing)}: pip install 'tidemill[demo]'")
    package = find_spec("bokeh_sampledata")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "_data" / name
