"""A message with invalid fields: what its declared checks say of the others, so that one answer has every fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from pydantic import BaseModel, ValidationError, create_model

from tidemill.domain.checks import FieldCheck, OfRecords, TimedCheck
from tidemill.domain.messages import Message
from tidemill.domain.records import record_fields

Path = tuple[int | str, ...]
"""Where a fault is: names of fields, and numbers of records."""

_ANY_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)


class PartialMessage:
    """Reads the valid fields of a message one by one, when a check asks for them.

    An invalid one raises `AttributeError`; of a list of records with an invalid one each record is such a message.
    """

    def __init__(self, model: type[BaseModel], values: Mapping[str, Any], faults: Iterable[Path]) -> None:
        """`values`: as they were sent. `faults`: where the invalid ones are."""
        self._model = model
        self._values = values
        self._faults = list(faults)

    def __getattr__(self, name: str) -> Any:
        """Return the value of a field, and keep it."""
        within = [path[1:] for path in self._faults if path[:1] == (name,)]
        value = self._records(name, within) if within else _value(self._model, name, self._values)
        setattr(self, name, value)
        return value

    def _records(self, name: str, faults: Sequence[Path]) -> list[Any]:
        record, items = record_fields(self._model).get(name), self._values.get(name)
        if record is None or () in faults or not isinstance(items, list | tuple):
            raise AttributeError(f"{name} is invalid")
        by_number: dict[Any, list[Path]] = {}
        for number, *path in faults:
            by_number.setdefault(number, []).append(tuple(path))
        return [PartialMessage(record, item, by_number.get(n, ())) for n, item in enumerate(items)]


class InvalidMessage:
    """What is wrong with a message that has invalid fields: `faults` at any time, and what only the clock knows."""

    def __init__(
        self,
        model: type[Message],
        values: Mapping[str, Any],
        field_faults: Sequence[tuple[Path, str]],
        timed: Sequence[TimedCheck],
    ) -> None:
        """`field_faults`: what is wrong with its fields, and where. `timed`: checks by the time of a batch."""
        self._message = PartialMessage(model, values, [path for path, _ in field_faults if path])
        self._timed = timed
        self.faults = [text for _, text in field_faults]
        known_texts = "; ".join(self.faults)
        checks = (check for check in model.checks if isinstance(check, FieldCheck))
        further = filter(None, (_tried(check.fault, self._message) for check in checks))
        self.faults += [fault for fault in further if fault not in known_texts]
        self.faults_at(
            _ANY_TIME
        )  # reads what it needs now: `faults_at` is asked again while lanes are locked

    def faults_at(self, at: datetime) -> list[str]:
        """Return what is wrong at this time, beside `faults`."""
        return [fault for check in self._timed if (fault := self._timed_fault(check, at))]

    def _timed_fault(self, check: TimedCheck, at: datetime) -> str | None:
        if not isinstance(check, OfRecords):
            fault: str | None = _tried(check.fault_at, self._message, at)
            return fault
        records = _tried(getattr, self._message, check.field) or ()
        faults = {number: _tried(check.check.fault_at, record, at) for number, record in enumerate(records)}
        return check.text_of({number: fault for number, fault in faults.items() if fault})


def faults_of_valid_fields(
    model: type[Message], values: Mapping[str, Any], error: ValidationError
) -> list[str]:
    """Return what declared checks say of the valid fields of a refused message; pydantic asks them only if all are.

    `values`: as they were sent. What only the clock knows is left to the batch.
    """
    known = [(fault["loc"], fault["msg"]) for fault in error.errors(include_url=False, include_input=False)]
    return InvalidMessage(model, values, known, ()).faults[len(known) :]


def _tried(ask: Callable[..., Any], *arguments: Any) -> Any:
    """Return an answer, None where there is none: what is asked about is invalid, or a check is not made for it."""
    try:
        return ask(*arguments)
    except Exception:  # noqa: BLE001  the message is refused without this answer, too
        return None


def _value(model: type[BaseModel], name: str, values: Mapping[str, Any]) -> Any:
    given = {name: values[name]} if name in values else {}
    return getattr(_alone(model, name).model_validate(given), name)


@lru_cache(maxsize=1_000)
def _alone(model: type[BaseModel], name: str) -> type[BaseModel]:
    """Return a class with one field of another one."""
    if name not in model.model_fields:
        raise AttributeError(f"{model.__name__} has no field {name}")
    info = model.model_fields[name]
    fields: dict[str, Any] = {name: (info.annotation, info)}
    alone: type[BaseModel] = create_model(model.__name__, __config__=model.model_config, **fields)
    return alone
