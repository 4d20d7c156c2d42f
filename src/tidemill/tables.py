"""The old path of `fact_table` and `row_table`: import them from `tidemill.api`."""

from __future__ import annotations

from tidemill import api
from tidemill.domain.old_paths import moved

__getattr__ = moved(__name__, {"fact_table": api.fact_table, "row_table": api.row_table}, to="tidemill.api")
