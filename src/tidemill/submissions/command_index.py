"""The commands of a deployment, by name and by collection, and what a principal must be allowed for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from tidemill.domain.collection import Collection, CollectionKind
from tidemill.domain.context import CommandSpec, DecideSpec
from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.messages import CommandBase
from tidemill.domain.request_codes import RequestCode
from tidemill.domain.stream import Stream
from tidemill.security.principals import ALL_COLLECTIONS, Principal, Verb

_NO_SUCH_COMMAND: Final = "there is no such command"


@dataclass(frozen=True)
class CommandTarget:
    """A command and where it goes. `name`: full. `collection`: None of one that changes no collection by itself."""

    name: str
    spec: CommandSpec
    model: type[CommandBase]
    stream: Stream
    collection: Collection | None
    verb: Verb

    @property
    def granted_on(self) -> str:
        """Return the name of the collection that a grant must name."""
        return ALL_COLLECTIONS if self.collection is None else self.collection.name


class CommandIndex:
    """Finds commands."""

    def __init__(self, streams: Mapping[str, Stream], collections: Iterable[Collection]) -> None:
        """`streams`: by aggregate, each with its lanes as created."""
        self._by_name: dict[str, CommandTarget] = {}
        self._by_model: dict[type[CommandBase], CommandTarget] = {}
        of_aggregate: dict[str, list[Collection]] = {}
        for collection in collections:
            of_aggregate.setdefault(collection.aggregate, []).append(collection)
        for stream in streams.values():
            for name, spec in stream.commands.items():
                if issubclass(spec.model, CommandBase):
                    self._add(_target(name, spec, stream, of_aggregate.get(stream.aggregate, [])))

    def of(self, model: type[CommandBase]) -> CommandTarget:
        """Return where a command of a collection goes."""
        return self._by_model[model]

    def has_own_id(self, command: type[CommandBase] | str) -> bool:
        """Tell whether the fields of a command, given by its class or a name, say its id."""
        if not isinstance(command, str):
            return self._by_model[command].spec.has_own_id
        targets = [target for full, target in self._by_name.items() if command in _names(full)]
        return bool(targets) and all(target.spec.has_own_id for target in targets)

    def named(self, name: str, principal: Principal) -> CommandTarget:
        """Return a command by its name, short or full, for a principal that may send it.

        Raises:
            RequestRefused: `BAD_BODY` if there is none, two contexts have one of this short name, or the principal may
                not know that there is one; `FORBIDDEN` if it may not send it.
        """
        targets = [
            target
            for full, target in self._by_name.items()
            if name in _names(full) and principal.grant(target.granted_on) is not None
        ]
        if len(targets) != 1:
            detail = "several contexts have one: give its full name" if targets else _NO_SUCH_COMMAND
            fault = RequestFault("pointer", "/command", detail, RequestCode.BAD_VALUE)
            raise RequestRefused(RequestCode.BAD_BODY, "`command` does not name one command", fault)
        demand_grant(principal, targets[0].verb, targets[0].granted_on)
        return targets[0]

    def _add(self, target: CommandTarget) -> None:
        self._by_name[target.name] = target
        self._by_model[target.model] = target


def demand_grant(principal: Principal, verb: Verb, collection: str) -> None:
    """Refuse what a principal may not do. Raises `RequestRefused`: `NO_COLLECTION` or `FORBIDDEN`."""
    if principal.grant(collection) is None:
        raise RequestRefused(RequestCode.NO_COLLECTION, "there is no such collection")
    if not principal.may(verb, collection):
        raise RequestRefused(RequestCode.FORBIDDEN, f"{principal.name} may not {verb} in {collection}")


def _names(full: str) -> set[str]:
    """Return what a command may be called: its full name, or the last part of it."""
    return {full, full.rpartition(".")[2]}


def _target(name: str, spec: CommandSpec, stream: Stream, collections: list[Collection]) -> CommandTarget:
    assert issubclass(spec.model, CommandBase)
    collection = _collection_of(spec, stream, collections)
    return CommandTarget(name, spec, spec.model, stream, collection, _verb_of(spec.model, collection))


def _collection_of(spec: CommandSpec, stream: Stream, collections: list[Collection]) -> Collection | None:
    """Return the collection that a command changes: that of its state, or that of the facts that it appends."""
    tables = [spec.appends_to] if spec.appends_to is not None else []
    if isinstance(spec, DecideSpec) and stream.states:
        state = spec.state or stream.states[0]
        tables = [state.table] if state.view is None else [state.view.table, state.table]
    by_table = (one for table in tables for one in collections if one.table is table)
    by_verbs = (one for one in collections if spec.model in one.crud.commands)
    return next(by_verbs, None) or next(by_table, None)


def _verb_of(model: type[CommandBase], collection: Collection | None) -> Verb:
    if collection is None:
        return Verb.UPDATE
    if model is collection.crud.create or collection.kind is CollectionKind.FACTS:
        return Verb.CREATE
    return Verb.DELETE if model is collection.crud.delete else Verb.UPDATE
