"""Measures rows in the database: what a copy would look like, whether it can hold the values, and what proves it.

Each function runs in the caller's transaction (one is needed: settings are pinned for its length) and sets no timeout.
"""

from __future__ import annotations

from collections.abc import Sequence

from tidemill.domain.archive import LakeColumn, Measured, Refusal
from tidemill.storage.fidelity import Shape
from tidemill.storage.pool import Connection


async def columns_of(connection: Connection, table: str) -> Shape:
    """Return the columns of `table` (`schema.table`, as people write it), in its order.

    Raises:
        ContractError: there is no such table.
    """
    raise NotImplementedError


async def preflight(connection: Connection, columns: Sequence[LakeColumn], source: str) -> list[Refusal]:
    """Return the columns with values that no copy can hold, with counts; empty if all is well."""
    raise NotImplementedError


async def measure(
    connection: Connection, columns: Sequence[LakeColumn], time_column: str, source: str
) -> Measured:
    """Measure the rows of a source in one scan."""
    raise NotImplementedError


async def check_vectors(connection: Connection) -> None:
    """Make sure that this server computes the published digests.

    Raises:
        ContractError: it computes others, so nothing may be archived from it.
    """
    raise NotImplementedError
