"""The old path of `run_script`: import it from `tidemill.migration`."""

from __future__ import annotations

from tidemill import migration
from tidemill.domain.old_paths import moved

__getattr__ = moved(__name__, {"run_script": migration.run_script}, to="tidemill.migration")
