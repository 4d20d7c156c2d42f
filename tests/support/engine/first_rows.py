"""A row for every table that random commands may leave empty: what refers to others, or has to fit them."""

from __future__ import annotations

from typing import Any, Final

from tests.support.engine.any_commands import TIME
from tests.support.engine.commands import base
from tidemill.domain.context import Context
from tidemill.domain.messages import CommandBase

KEY: Final = "first"
_SERIES, _NUMERIC = {"time_series_id": "first"}, {"time_series_id": "first-numeric"}
_HASH: Final = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43
_FRAME: Final = {"time_column": "t", "value_columns": '["a"]'}
_POINT: Final = {"column_names": ["a"], "columns": [0], "values": [1.5]}

_COMMANDS: Final[dict[str, list[tuple[str, dict[str, Any]]]]] = {
    "users": [
        ("CreateUser", {"user_id": KEY, "username": KEY, "email": "first@example.org", "hashed_password": _HASH}),
    ],
    "data_analyses": [
        ("CreateDataAnalysis", {"user_id": KEY, "data_analysis_id": KEY, "name": KEY, "kind": "k", "parameters": "{}"}),
        (
            "CreateAnalysisFile",
            {"data_analysis_id": KEY, "analysis_file_id": KEY, "filename": KEY, "file_type": "text/csv",
             "size_bytes": 1, "sha256": "0" * 64, "location": "here"},
        ),
    ],
    "tool_generations": [
        (
            "CreateToolGeneration",
            {"user_id": KEY, "tool_generation_id": KEY, "tool_type": "t", "prompt": "p", "parameters": "{}"},
        ),
    ],
    "time_series": [
        ("CreateTimeSeries", _SERIES | _FRAME),
        ("AppendTimeSeriesPoints", _SERIES | _POINT | {"times": [TIME]}),
        ("CreateTimeSeries", _NUMERIC | _FRAME | {"axis": "float64"}),
        ("AppendNumericPoints", _NUMERIC | _POINT | {"floats": [1.0]}),
    ],
}  # fmt: skip


def first_commands(context: Context) -> list[CommandBase]:
    """Return commands that fill the tables of a context, in order; no random command is about their rows."""
    models: dict[str, Any] = {spec.model.__name__: spec.model for spec in context.commands}
    return [models[name](**base(**fields)) for name, fields in _COMMANDS.get(context.name, [])]
