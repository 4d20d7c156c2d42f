"""Operations of the API, and the table that finds one by method and path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidemill.domain.errors import RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.http.answer import HttpAnswer
from tidemill.http.exchange import Exchange

Handler = Callable[[Exchange], Awaitable[HttpAnswer]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter, for the description. `place`: `query`, `path` or `header`. `schema`: JSON Schema."""

    name: str
    place: str
    text: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    required: bool = False


@dataclass(frozen=True, slots=True)
class Media:
    """The content of an answer that is not JSON, for the description. `schema`: JSON Schema."""

    media_type: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One thing that may be asked: a method and a path, what it takes, what it answers, and who does it.

    `path`: with names in braces. `open`: without a principal. `abandoned`: it ends when its client leaves; a write
    does not. `body`: media type -> JSON Schema or model. `answers`: status -> description and model or `Media`, None
    for none; the first is the usual one. `codes`: the refusals that are its own. `decides`: it may answer with the
    rejection of a command. `units`: what it costs of a principal's allowance.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    tag: str = "data"
    open: bool = False
    abandoned: bool = True
    parameters: tuple[Parameter, ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict)
    answers: Mapping[int, tuple[str, Any]] = field(default_factory=dict)
    codes: tuple[RequestCode, ...] = ()
    decides: bool = False
    described: bool = True
    units: float = 1.0

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the segments of the path."""
        return tuple(self.path.split("/")[1:])


class RouteTable:
    """Finds operations: a fixed segment comes before a named one, whatever the order in which they were declared."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        """Refuse two operations of one method and path."""
        self.operations = tuple(operations)
        self._root: _Node = _Node()
        for operation in self.operations:
            self._root.add(operation)

    def find(self, method: str, segments: tuple[bytes, ...]) -> tuple[Operation, dict[str, bytes]]:
        """Return the operation and the raw values of its named segments; HEAD finds that of GET.

        Raises `RequestRefused`: no such path, or not with this method (`methods` of the error has those that exist).
        """
        node = self._root.find(segments)
        if node is None or not node.operations:
            raise RequestRefused(RequestCode.NO_ROUTE, "there is nothing at this path")
        operation = node.operations.get("GET" if method == "HEAD" else method)
        if operation is None:
            raise NoSuchVerb(method, node.methods)
        raw = {
            part[1:-1]: segment
            for part, segment in zip(operation.parts, segments, strict=True)
            if part.startswith("{")
        }
        return operation, raw


class NoSuchVerb(RequestRefused):
    """The path exists, and not with this method. `methods`: those that it has."""

    def __init__(self, method: str, methods: tuple[str, ...]) -> None:
        """Name both."""
        super().__init__(
            RequestCode.NO_SUCH_VERB, f"{method[:20]} is not possible here; possible is {', '.join(methods)}"
        )
        self.methods = methods


class _Node:
    """A segment of paths: what follows it, and what ends with it."""

    def __init__(self) -> None:
        self.fixed: dict[bytes, _Node] = {}
        self.named: _Node | None = None
        self.operations: dict[str, Operation] = {}

    @property
    def methods(self) -> tuple[str, ...]:
        head = ("HEAD",) if "GET" in self.operations else ()
        return tuple(sorted((*self.operations, *head)))

    def add(self, operation: Operation) -> None:
        node = self
        for part in operation.parts:
            node = node._under(part)
        assert operation.method not in node.operations, operation
        node.operations[operation.method] = operation

    def _under(self, part: str) -> _Node:
        if not part.startswith("{"):
            return self.fixed.setdefault(part.encode(), _Node())
        if self.named is None:
            self.named = _Node()
        return self.named

    def find(self, segments: tuple[bytes, ...]) -> _Node | None:
        if not segments:
            return self
        rest = segments[1:]
        below = self.fixed.get(segments[0])
        node = None if below is None else below.find(rest)
        if node is not None and node.operations:
            return node
        return self.named.find(rest) if self.named is not None and segments[0] else None
