"""The built-in contexts by kind: in the suite a run's seed takes one of each kind, `make trials` takes all."""

from __future__ import annotations

import os
from typing import Final

from tests.support.seeds import chosen_of_each
from tidemill.app.context_loader import ALL, load_contexts
from tidemill.domain.context import Context

FULL: Final = os.environ.get("TIDEMILL_CONTEXT_TRIALS") == "full"

KINDS: Final = {
    "entity": ("cache_entries", "client_configs", "service_proposals", "tool_generations", "users"),
    "family": ("data_analyses",),
    "facts": ("market_data", "news_articles", "system_logs", "telemetry_events"),
    "decide": ("connector_profiles",),
    "series": ("time_series",),
}

BUILT_IN: Final = {context.name: context for context in load_contexts(ALL)}
PARENTS: Final = {"data_analyses": "users", "tool_generations": "users"}
"""Contexts that refer to rows of another one."""


def chosen_contexts() -> list[Context]:
    """Return one context of each kind, or all."""
    names = sorted(BUILT_IN) if FULL else chosen_of_each(*KINDS.values())
    return [BUILT_IN[name] for name in names]


def with_parents(contexts: list[Context]) -> list[Context]:
    """Return contexts with those that they refer to: otherwise nearly all of their commands are rejected."""
    names = {context.name for context in contexts}
    return [BUILT_IN[name] for name in sorted(names | {PARENTS[name] for name in names & PARENTS.keys()})]
