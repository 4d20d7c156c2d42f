"""The accounts of a collection: `api.SignInRows`."""

from __future__ import annotations

from tidemill.api.sign_in import Account
from tidemill.domain.folded_text import folded
from tidemill.domain.state import SignInColumns, State
from tidemill.storage.database.errors import on_tables
from tidemill.storage.database.pool import Lender, connection
from tidemill.storage.database.table_sql import select_account


class AccountDatabase:
    """Finds accounts among the rows of a state, each call on a connection that it borrows."""

    def __init__(self, pool: Lender, state: State, columns: SignInColumns) -> None:
        """`columns`: those of the state."""
        self._pool = pool
        self._statement = select_account(state, columns)

    async def account(self, name: str) -> Account | None:
        """See `SignInRows`. Raises `TableMisfit`, too."""
        wanted = folded(name)
        if not _is_storable(wanted):
            return None
        async with connection(self._pool) as borrowed:
            with on_tables():
                row = await borrowed.fetchrow(self._statement, wanted)
        return None if row is None else Account(**row)


def _is_storable(text: str) -> bool:
    """Tell whether PostgreSQL can hold a text: it refuses the others, so no row has them."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
