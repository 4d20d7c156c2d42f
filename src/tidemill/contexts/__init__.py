"""The built-in contexts: one folder per bounded context.

Each holds its messages, its rules, its tables and its read models, and declares itself in its `__init__`. Its schemas
and migrations are in the top-level folders of that name. Contexts import `tidemill.api` and nothing else of Tidemill;
they do not import each other, and connect to nothing.
"""

from typing import Final

BY_DEFAULT: Final = frozenset({"market_data", "connector_profiles"})
"""Those of a deployment that chooses none; the list is fixed, so that an upgrade adds nothing."""
