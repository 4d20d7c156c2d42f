"""A body of JSON becomes a command: its fields, its id and its key, or every fault with the place of it.

Pure. The same request with the same id makes the same content, base fields aside, so that a repeat is a duplicate and
not another command of that id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from tidemill.domain.collection import CollectionKind, Crud
from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.messages import BASE_FIELDS, CommandBase
from tidemill.domain.request_codes import RequestCode
from tidemill.submissions.command_fields import command_of
from tidemill.submissions.command_index import CommandIndex, CommandTarget, demand_grant
from tidemill.submissions.identifiers import document_key
from tidemill.submissions.requests import Caller, DocumentRequest, DocumentVerb, Submission

_MATCH_HINT: Final = "is no field of a document: send If-Match"
_CLEAR_HINT: Final = "is no field of a document: send null for what is to be emptied"


class Documents:
    """Makes commands of requests."""

    def __init__(
        self, index: CommandIndex, *, now: Callable[[], datetime], new_id: Callable[[], str]
    ) -> None:
        """`new_id`: makes the id of a request that has none."""
        self._index = index
        self._now = now
        self.new_id = new_id

    def submission(self, request: DocumentRequest, caller: Caller) -> Submission:
        """Return the command of a write.

        Raises:
            RequestRefused: `NO_COLLECTION`, `FORBIDDEN`, `NO_SUCH_VERB`, `WRONG_ETAG`, `SERVICE_MISMATCH`,
                `BAD_PARAMETER` (two ids), `BAD_BODY` with a fault for each field.
        """
        target = self.target(request, caller)
        sender = _Sender(caller, request.body or {}, self.new_id, self._now())
        crud = request.collection.crud
        content = _Content(request, target.model)
        if request.verb is DocumentVerb.CREATE:
            fields = content.created(sender.command_id, sender.service, target.name)
        else:
            fields = content.changed()
        command = command_of(target.model, fields, sender.base, request.collection.written, content.faults)
        command = sender.identified(command, target)
        key = request.key if crud.key is None or request.key is not None else getattr(command, crud.key)
        return Submission(
            command=command,
            target=target,
            principal=caller.principal,
            key=key,
            version=_version_after(request),
            trace=caller.trace,
            address=caller.address,
        )

    def target(self, request: DocumentRequest, caller: Caller) -> CommandTarget:
        """Return the command that a write sends. Raises `RequestRefused` as `submission` does."""
        collection = request.collection
        demand_grant(caller.principal, request.verb.granted_by, collection.name)
        model = _model_of(collection.crud, request.verb)
        if model is None:
            raise RequestRefused(
                RequestCode.NO_SUCH_VERB, f"documents of {collection.name} have no {request.verb}"
            )
        _check_precondition(request)
        return self._index.of(model)

    def has_own_id(self, command: type[CommandBase] | str) -> bool:
        """Tell whether the fields of a command say its id, so that a request without one needs none."""
        return self._index.has_own_id(command)

    def missing(self, request: DocumentRequest, caller: Caller) -> tuple[str, ...]:
        """Return the fields that the command needs and only the document in force may have, such as its parent."""
        if request.verb is DocumentVerb.CREATE:
            return ()
        model = self.target(request, caller).model
        crud, body = request.collection.crud, request.body or {}
        present = {*BASE_FIELDS, crud.key, crud.match, *body, *request.given}
        required = (name for name, info in model.model_fields.items() if info.is_required())
        return tuple(name for name in required if name not in present and name in request.collection.columns)

    def command(self, name: str, parameters: Mapping[str, Any], caller: Caller) -> Submission:
        """Return a command by its name, short or full; `parameters`: its fields.

        Raises:
            RequestRefused: as `submission`, with pointers below `/parameters`.
        """
        target = self._index.named(name, caller.principal)
        sender = _Sender(caller, parameters, self.new_id, self._now(), "/parameters")
        fields = {field: value for field, value in parameters.items() if field not in BASE_FIELDS}
        table = None if target.collection is None else target.collection.written
        command = command_of(target.model, fields, sender.base, table, (), "/parameters")
        command = sender.identified(command, target)
        crud = Crud() if target.collection is None else target.collection.crud
        return Submission(
            command=command,
            target=target,
            principal=caller.principal,
            key=None if crud.key is None else getattr(command, crud.key, None),
            trace=caller.trace,
            address=caller.address,
        )


class _Sender:
    """The base fields of a command."""

    def __init__(
        self,
        caller: Caller,
        body: Mapping[str, Any],
        new_id: Callable[[], str],
        now: datetime,
        under: str = "",
    ) -> None:
        self.service = caller.principal.name
        if body.get("service_name") not in (None, self.service):
            fault = _fault(f"{under}/service_name", f"must be {self.service}, or be left out")
            raise RequestRefused(
                RequestCode.SERVICE_MISMATCH, f"commands of {self.service} have its name", fault
            )
        if "timestamp" in body:
            fault = _fault(f"{under}/timestamp", "is set by the server", RequestCode.NO_SUCH_FIELD)
            raise RequestRefused(RequestCode.BAD_BODY, "the body cannot be used", fault)
        given = _chosen_id(caller, body, under)
        self._given = given is not None
        self.command_id = given or new_id()
        self.base = {
            "command_id": self.command_id,
            "service_name": self.service,
            "timestamp": now,
            "correlation_id": body.get("correlation_id", caller.correlation_id),
        }

    def identified(self, command: CommandBase, target: CommandTarget) -> CommandBase:
        """Return a command with the id that its fields say, unless its sender gave one, which counts."""
        own_id = None if self._given else target.spec.own_id(target.name, command)
        return command if own_id is None else command.model_copy(update={"command_id": own_id})


def _chosen_id(caller: Caller, body: Mapping[str, Any], under: str) -> str | None:
    inside, key = body.get("command_id"), caller.idempotency_key
    if inside is not None and not isinstance(inside, str):
        fault = _fault(f"{under}/command_id", "must be a text")
        raise RequestRefused(RequestCode.BAD_BODY, "the id cannot be used", fault)
    if inside is None or key is None:
        return key if inside is None else inside
    if inside != key:
        raise RequestRefused(
            RequestCode.BAD_PARAMETER,
            "Idempotency-Key and `command_id` are two ids",
            RequestFault("header", "Idempotency-Key", "must be the body's command_id", RequestCode.BAD_VALUE),
            _fault(f"{under}/command_id", "must be the Idempotency-Key"),
        )
    return key


class _Content:
    """The fields of a command about a document. `faults`: what the body has or lacks that no field says."""

    def __init__(self, request: DocumentRequest, model: type[CommandBase]) -> None:
        self._request = request
        self._model = model
        self._crud = request.collection.crud
        self._body = {name: value for name, value in (request.body or {}).items() if name not in BASE_FIELDS}
        self.faults: list[RequestFault] = []

    def created(self, command_id: str, service: str, command: str) -> dict[str, Any]:
        """Return the fields of a creation; a key that the body leaves out follows from the command's id."""
        key = self._crud.key
        if key is None or self._body.get(key) is not None:
            return self._body
        return {**self._body, key: document_key(command_id, service, command)}

    def changed(self) -> dict[str, Any]:
        """Return the fields of an update or a deletion."""
        fields = {**self._request.given, **self._body}
        self._check_engine_fields(fields)
        self._take_key(fields)
        if self._crud.match is not None and self._request.precondition.version is not None:
            fields[self._crud.match] = self._request.precondition.version
        if self._request.verb is not DocumentVerb.DELETE:
            self._empty(fields)
        return fields

    def _check_engine_fields(self, fields: dict[str, Any]) -> None:
        for name, hint in ((self._crud.match, _MATCH_HINT), (self._crud.clear, _CLEAR_HINT)):
            if name is not None and name in fields:
                self.faults.append(_fault(f"/{name}", hint, RequestCode.NO_SUCH_FIELD))
                del fields[name]

    def _take_key(self, fields: dict[str, Any]) -> None:
        name = self._crud.key
        if name is None:
            return
        if fields.get(name) not in (None, self._request.key):
            self.faults.append(_fault(f"/{name}", f"must be {self._request.key}, as in the URL"))
        fields[name] = self._request.key

    def _empty(self, fields: dict[str, Any]) -> None:
        """Name what is null, and of a replacement what is absent, as to be emptied; or note that it cannot be."""
        able = _emptied_by(self._crud)
        whole = self._request.verb is DocumentVerb.REPLACE
        emptied = []
        for name in self._content_names():
            if fields.get(name) is not None or (name not in fields and not whole):
                continue
            absent = name not in fields
            fields.pop(name, None)
            if name in able:
                emptied.append(name)
            else:
                self.faults.append(
                    _fault(f"/{name}", "is required" if absent else "cannot be null: it cannot be emptied")
                )
        if emptied and self._crud.clear is not None:
            fields[self._crud.clear] = emptied

    def _content_names(self) -> Iterable[str]:
        """Return the fields of an update that say what the document holds."""
        engines = {*BASE_FIELDS, self._crud.key, self._crud.match, self._crud.clear}
        return [
            name
            for name, info in self._model.model_fields.items()
            if name not in engines and not info.is_required()
        ]


def _model_of(crud: Crud, verb: DocumentVerb) -> type[CommandBase] | None:
    if verb is DocumentVerb.CREATE:
        return crud.create
    return crud.delete if verb is DocumentVerb.DELETE else crud.update


def _check_precondition(request: DocumentRequest) -> None:
    """Only a state has versions that its commands can demand, and what is created has none yet."""
    if not request.precondition.exists:
        return
    fits = request.collection.kind is CollectionKind.STATE and request.collection.crud.match is not None
    if not fits or request.verb is DocumentVerb.CREATE:
        detail = f"a {request.verb} in {request.collection.name} takes no If-Match"
        fault = RequestFault("header", "If-Match", detail, RequestCode.WRONG_ETAG)
        raise RequestRefused(RequestCode.WRONG_ETAG, detail, fault)


def _version_after(request: DocumentRequest) -> int | None:
    """Return the version that follows: each of these commands is accepted by one event."""
    seen, collection = request.precondition.version, request.collection
    if request.verb is DocumentVerb.CREATE:
        return 1 if collection.kind is CollectionKind.STATE and not collection.crud.reused else None
    return None if seen is None or request.verb is DocumentVerb.DELETE else seen + 1


@lru_cache(maxsize=1_000)
def _emptied_by(crud: Crud) -> frozenset[str]:
    """Return the fields that an update can empty: those that may be null where the document is created."""
    if crud.clear is None or crud.create is None:
        return frozenset()
    fields = crud.create.model_fields
    return frozenset(name for name, info in fields.items() if _may_be_null(info.annotation))


def _may_be_null(kind: Any) -> bool:
    if get_origin(kind) is Annotated:
        return _may_be_null(get_args(kind)[0])
    return get_origin(kind) in (Union, UnionType) and NoneType in get_args(kind)


def _fault(where: str, detail: str, code: str = RequestCode.BAD_VALUE) -> RequestFault:
    return RequestFault("pointer", where, detail, code)
