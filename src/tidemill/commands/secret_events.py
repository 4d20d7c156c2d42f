"""Secret values of events, encrypted between a rule and everything that is made of its decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tidemill.commands.ports import UnitOfWork
from tidemill.domain.carried_fields import changed_message
from tidemill.domain.decision import Accepted, Rejected
from tidemill.domain.errors import MasterKeyMissing
from tidemill.domain.messages import EventBase
from tidemill.domain.rejections import RejectionCode
from tidemill.domain.secrets import Secret
from tidemill.domain.state import State
from tidemill.domain.stream import Stream
from tidemill.security.data_keys import DataKey, Place
from tidemill.security.master_keys import MasterKeys
from tidemill.security.ports import DataKeyStore
from tidemill.security.values import NOT_THE_STORED, SealedElsewhere, sealed


class RowKeys:
    """The data keys of rows, loaded and stored set-wise in a batch's transaction."""

    def __init__(self, masters: MasterKeys, open_store: Callable[[Any], DataKeyStore]) -> None:
        """`open_store`: makes the store of what a transaction is joined with."""
        self._masters = masters
        self._open_store = open_store

    async def load(self, work: UnitOfWork, state: State, keys: Sequence[str]) -> dict[str, DataKey]:
        """Return the key of each row, a new one where it has none that is in use.

        Raises:
            MasterKeyMissing: one cannot be unwrapped here.
        """
        newest = {row.key: row for row in await work.join(self._open_store).load(state.name, keys)}
        data_keys = {}
        for key in keys:
            row = newest.get(key)  # rows come in the order of their generations
            if row is None or row.wrapped is None:
                data_keys[key] = DataKey.fresh(1 if row is None else row.generation + 1)
            else:
                data_keys[key] = self._masters.unwrap(row)
        return data_keys

    async def store(self, work: UnitOfWork, state: State, data_keys: Mapping[str, DataKey]) -> None:
        """Store the new ones among the keys of these rows."""
        new = [
            self._masters.wrap(data_key, state.name, key)
            for key, data_key in data_keys.items()
            if data_key.is_new
        ]
        if new:
            await work.join(self._open_store).add(self._masters.first, new)


class EventSealer:
    """Encrypts the secret fields of a stream's events."""

    def __init__(self, states: Sequence[State], secrets: Mapping[str, Mapping[str, Secret]]) -> None:
        """`secrets`: name of a state -> its secret fields."""
        self._names = [state.name for state in states]
        self._fields = [secrets.get(name, {}) for name in self._names]

    def filled(self, state: int, message: Any) -> bool:
        """Tell whether a command or event of a state, by its number, holds a secret value."""
        for name in self._fields[state]:  # noqa: SIM110  a generator takes three times as long
            if getattr(message, name, None) is not None:
                return True
        return False

    def seal(
        self, state: int, key: str, data_key: DataKey, decision: Accepted, row: Any
    ) -> Accepted | Rejected:
        """Return the decision with encrypted events; `row`: before them.

        Rejected is a value that was encrypted before, elsewhere or for another row.
        """
        try:
            events = tuple([self._sealed(state, key, data_key, event, row) for event in decision.events])
        except SealedElsewhere as foreign:
            return Rejected(RejectionCode.INVALID, f"{foreign.field}: {NOT_THE_STORED}")
        return Accepted(events, decision.rows)

    def _sealed(self, state: int, key: str, data_key: DataKey, event: EventBase, row: Any) -> EventBase:
        values = {}
        for name, secret in self._fields[state].items():
            if (text := getattr(event, name, None)) is not None:
                place = Place(self._names[state], key, name)
                values[name] = sealed(secret, data_key, place, text, getattr(row, name, None))
        return changed_message(event, values) if values else event


def sealer_of(stream: Stream, row_keys: RowKeys | None) -> EventSealer | None:
    """Return what encrypts the events of a stream; None if it has no secrets, or they may stay in clear.

    Raises:
        MasterKeyMissing: there are no keys, and it has secrets that may not.
    """
    if not stream.secrets:
        return None
    if row_keys is None:
        if stream.requires_keys:
            raise MasterKeyMissing(f"{stream.aggregate} has secrets, and no master key is set")
        return None
    return EventSealer(stream.states, stream.secrets)
