"""The old path of a context's retention: import it from `tidemill.api`."""

from __future__ import annotations

from tidemill.domain.archive import policy
from tidemill.domain.old_paths import moved

_NAMES = ("LateRule", "QuietHours", "Retention", "RetentionPolicy")

__getattr__ = moved(__name__, {name: getattr(policy, name) for name in _NAMES}, to="tidemill.api")
