"""Writing: a document, lines of documents, or a command by its name; each is a command on Kafka, and waited for."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from tidemill.admin.service.query_records import QueryOperation as Work
from tidemill.admin.service.query_records import QueryRecorder
from tidemill.domain.collection import CollectionKind
from tidemill.domain.errors import RequestFault, RequestRefused, Unavailable
from tidemill.domain.messages import CommandBase
from tidemill.domain.request_codes import RequestCode
from tidemill.http.access import known
from tidemill.http.answer import HttpAnswer
from tidemill.http.exchange import Exchange
from tidemill.http.json_body import object_of
from tidemill.http.model_body import model_of
from tidemill.http.models import CommandRequest, CommandResponse
from tidemill.http.outcomes import ContextAdvice, WriteContext, answer_of, response_of, seen_of
from tidemill.http.preferences import WRITE_WAIT_S
from tidemill.http.route_table import Media, NoSuchVerb, Operation, Parameter
from tidemill.http.routes import shapes
from tidemill.queries.collections import Collections, VisibleCollection, parse_key
from tidemill.queries.reader import CollectionReader
from tidemill.queries.seen import format_seen
from tidemill.security.principals import Verb
from tidemill.submissions.identifiers import idempotency_key
from tidemill.submissions.lookup import CommandStatus
from tidemill.submissions.preconditions import precondition
from tidemill.submissions.requests import Caller, DocumentRequest, DocumentVerb, SubmissionResult
from tidemill.submissions.writes import Writes

NDJSON: Final = "application/x-ndjson"

_TRACE: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_METHODS: Final = {"PUT": DocumentVerb.REPLACE, "PATCH": DocumentVerb.PATCH, "DELETE": DocumentVerb.DELETE}
_WORK: Final = {
    DocumentVerb.CREATE: Work.INSERT,
    DocumentVerb.REPLACE: Work.UPDATE,
    DocumentVerb.PATCH: Work.UPDATE,
    DocumentVerb.DELETE: Work.DELETE,
}


@dataclass(frozen=True, kw_only=True)
class WriteRoutes:
    """The operations that write.

    `advice`: see `WriteContext`. `demand_key`: a write without an Idempotency-Key is refused. `demand_match`: a change
    without If-Match is.
    """

    collections: Collections
    writes: Writes
    status: CommandStatus
    reader: CollectionReader
    recorder: QueryRecorder
    advice: ContextAdvice
    demand_key: bool = False
    demand_match: bool = False

    def operations(self) -> list[Operation]:
        """Return them."""
        return [
            Operation(
                method="POST",
                path="/api/db/{collection}",
                name="createDocument",
                summary="Create a document, or one for each line",
                handler=self._create,
                abandoned=False,
                parameters=(shapes.COLLECTION, shapes.IDEMPOTENCY_KEY, shapes.PREFER),
                body={"application/json": shapes.DOCUMENT, NDJSON: {"type": "string"}},
                answers={
                    201: (
                        "It was created; Location, ETag and Tidemill-Seen are in the headers.",
                        CommandResponse,
                    ),
                    200: ("A CommandResponse for each line, in order.", Media(NDJSON, {"type": "string"})),
                    202: _LATER,
                },
                codes=shapes.WRITE_CODES,
                decides=True,
            ),
            *self._changes(),
            Operation(
                method="POST",
                path="/api/db/commands",
                name="sendCommand",
                summary="Send a command by its name",
                handler=self._command,
                tag="commands",
                abandoned=False,
                parameters=(shapes.IDEMPOTENCY_KEY, shapes.PREFER),
                body={"application/json": CommandRequest},
                answers={200: ("It was applied.", CommandResponse), 202: _LATER},
                codes=(*shapes.WRITE_CODES, RequestCode.NOT_YET),
                decides=True,
            ),
            Operation(
                method="GET",
                path="/api/db/commands/{command_id}",
                name="getCommand",
                summary="The outcome of a command",
                handler=self._outcome,
                tag="commands",
                parameters=(
                    Parameter("command_id", "path", "Its id: the Idempotency-Key."),
                    Parameter("service", "query", "Whose command it is; for operators."),
                ),
                answers={200: ("It is known.", CommandResponse), 202: _LATER},
                codes=(RequestCode.NO_COMMAND, RequestCode.ID_TAKEN, RequestCode.FORBIDDEN),
            ),
        ]

    def _changes(self) -> list[Operation]:
        described = {
            "PUT": ("replaceDocument", "Replace a document: every field that is absent is emptied"),
            "PATCH": ("patchDocument", "Change fields of a document; null empties one"),
            "DELETE": ("deleteDocument", "Delete a document"),
        }
        bodies = {
            "PUT": {"application/json": shapes.DOCUMENT},
            "PATCH": {"application/merge-patch+json": shapes.DOCUMENT, "application/json": shapes.DOCUMENT},
            "DELETE": {},
        }
        return [
            Operation(
                method=method,
                path="/api/db/{collection}/{id}",
                name=name,
                summary=summary,
                handler=self._change,
                abandoned=False,
                parameters=(
                    shapes.COLLECTION,
                    shapes.ID,
                    shapes.IDEMPOTENCY_KEY,
                    shapes.IF_MATCH,
                    shapes.PREFER,
                ),
                body=bodies[method],
                answers={200: ("It was applied.", CommandResponse), 202: _LATER},
                codes=(
                    *shapes.WRITE_CODES,
                    RequestCode.NO_DOCUMENT,
                    RequestCode.MATCH_FAILED,
                    *((RequestCode.MATCH_REQUIRED,) if self.demand_match else ()),
                    RequestCode.WRONG_ETAG,
                ),
                decides=True,
            )
            for method, (name, summary) in described.items()
        ]

    # --- documents -----------------------------------------------------------------------------------------------

    async def _create(self, exchange: Exchange) -> HttpAnswer:
        collection = known(self.collections, exchange)
        exchange.parameters()
        self._demand_verb(collection, exchange, DocumentVerb.CREATE)
        media_type = exchange.demand_type("application/json", NDJSON)
        if media_type == NDJSON:
            return await self._lines(collection, exchange)
        request = DocumentRequest(
            collection=collection.collection, verb=DocumentVerb.CREATE, body=await exchange.object()
        )
        return await self._write(collection, request, exchange)

    async def _change(self, exchange: Exchange) -> HttpAnswer:
        collection, verb = known(self.collections, exchange), _METHODS[exchange.method]
        exchange.parameters()
        self._demand_verb(collection, exchange, verb)
        (key,) = parse_key(collection, exchange.raw["id"])
        request = DocumentRequest(
            collection=collection.collection,
            verb=verb,
            key=key,
            body=None
            if verb is DocumentVerb.DELETE
            else await exchange.object(patch=verb is DocumentVerb.PATCH),
            precondition=precondition(exchange.header("if-match"), demanded=self.demand_match),
        )
        return await self._write(collection, request, exchange)

    async def _write(
        self, collection: VisibleCollection, request: DocumentRequest, exchange: Exchange
    ) -> HttpAnswer:
        body_id = (request.body or {}).get("command_id")
        create = request.collection.crud.create if request.verb is DocumentVerb.CREATE else None
        caller = self._caller(exchange, body_id, own_id_of=create)
        began_s = time.perf_counter()
        try:
            result = await self.writes.write(request, caller, _wait_s(exchange))
        except (RequestRefused, Unavailable):
            self._note(collection.name, _WORK[request.verb], exchange, began_s)
            raise
        self._note(collection.name, _WORK[request.verb], exchange, began_s, result)
        _say_own_id(exchange, caller, body_id, result)
        created = request.verb is DocumentVerb.CREATE
        matched = request.precondition.exists
        asked = WriteContext(instance=exchange.instance, advice=self.advice, created=created, matched=matched)
        answer = answer_of(result, asked)
        if created and result.applied and result.key is not None:
            answer.add(b"location", f"/api/db/{collection.name}/{quote(result.key, safe='')}")
        await self._represent(answer, collection, result, exchange)
        return _applied_preferences(answer, exchange, result)

    async def _represent(
        self, answer: HttpAnswer, collection: VisibleCollection, result: SubmissionResult, exchange: Exchange
    ) -> None:
        """Put the document into the answer, if the client asks for it and may read it."""
        is_state = collection.collection.kind is CollectionKind.STATE
        may_read = exchange.caller.may(Verb.READ, collection.name)
        if not (exchange.prefer.representation and result.applied and is_state and may_read):
            return
        document = await self.reader.document(collection, [result.key or ""])
        if document is not None:
            answer.body = response_of(result, json.loads(document.body)).model_dump_json().encode()
            answer.add(b"preference-applied", "return=representation")

    def _demand_verb(self, collection: VisibleCollection, exchange: Exchange, verb: DocumentVerb) -> None:
        crud = collection.collection.crud
        possible = {
            DocumentVerb.CREATE: crud.create,
            DocumentVerb.REPLACE: crud.update,
            DocumentVerb.PATCH: crud.update,
            DocumentVerb.DELETE: crud.delete,
        }
        if possible[verb] is not None:
            return
        if verb is DocumentVerb.CREATE:
            raise NoSuchVerb(exchange.method, ("GET", "HEAD", "QUERY"))
        changes = tuple(method for method, other in _METHODS.items() if possible[other] is not None)
        raise NoSuchVerb(exchange.method, ("GET", "HEAD", *changes))

    async def _lines(self, collection: VisibleCollection, exchange: Exchange) -> HttpAnswer:
        requests = [_line(collection, line) for line in (await exchange.body()).splitlines()]
        caller = self._caller(exchange, None, own_id_of=collection.collection.crud.create)
        began_s = time.perf_counter()
        answers = await self.writes.lines(requests, caller, _wait_s(exchange))
        results = [answer for answer in answers if isinstance(answer, SubmissionResult)]
        for result in results:
            self._note(collection.name, Work.INSERT, exchange, began_s, result)
        body = b"".join(_line_answer(answer) for answer in answers)
        answer = HttpAnswer(200, body, media_type=NDJSON.encode())
        if seen := seen_of(results):
            answer.add(b"tidemill-seen", format_seen(seen))
        return answer

    # --- commands ------------------------------------------------------------------------------------------------

    async def _command(self, exchange: Exchange) -> HttpAnswer:
        exchange.parameters()
        request = await model_of(CommandRequest, exchange)
        shapes.demand_own_service(exchange, request.service_name)
        if request.transaction_id is not None:
            raise RequestRefused(RequestCode.NOT_YET, "transactions are not taken yet")
        caller = self._caller(exchange, request.command_id, request.correlation_id, own_id_of=request.command)
        parameters = dict(request.parameters or {})
        if request.command_id is not None:
            parameters.setdefault("command_id", request.command_id)
        wait_s = _wait_s(exchange) if request.timeout is None else float(request.timeout)
        began_s = time.perf_counter()
        result = await self.writes.command(request.command, parameters, caller, wait_s)
        self._note(request.command, Work.UPDATE, exchange, began_s, result)
        _say_own_id(exchange, caller, request.command_id, result)
        asked = WriteContext(instance=exchange.instance, advice=self.advice)
        return _applied_preferences(answer_of(result, asked), exchange, result)

    async def _outcome(self, exchange: Exchange) -> HttpAnswer:
        service = exchange.parameters("service").get("service")
        result = await self.status.outcome_of(
            exchange.segment("command_id"), exchange.caller, service=service
        )
        if result.outcome is None:
            return answer_of(result, WriteContext(instance=exchange.instance, advice=self.advice))
        answer = HttpAnswer(200, response_of(result).model_dump_json().encode())
        if result.token is not None and result.token.sequence > 0:
            answer.add(b"tidemill-seen", str(result.token))
        answer.add(b"cache-control", "no-store")
        return answer

    # --- who asks ------------------------------------------------------------------------------------------------

    def _caller(
        self,
        exchange: Exchange,
        body_id: object,
        correlation_id: str | None = None,
        *,
        own_id_of: type[CommandBase] | str | None = None,
    ) -> Caller:
        """Return the caller. `own_id_of`: the command; if its fields say its id, a request without one needs none."""
        header = exchange.header("idempotency-key")
        key = None if header is None else idempotency_key(header)
        own_id = own_id_of is not None and self.writes.documents.has_own_id(own_id_of)
        if key is None and body_id is None and not own_id:
            if self.demand_key:
                raise RequestRefused(
                    RequestCode.KEY_REQUIRED,
                    "there is no Idempotency-Key",
                    RequestFault("header", "Idempotency-Key", "is required"),
                )
            key = self.writes.documents.new_id()
        if key is not None or body_id is not None:
            exchange.outgoing.append((b"idempotency-key", (key or _text(body_id) or "").encode()))
        trace = exchange.header("traceparent")
        client = exchange.scope.get("client")
        return Caller(
            principal=exchange.caller,
            idempotency_key=key,
            correlation_id=correlation_id or exchange.header("x-correlation-id"),
            trace=trace if trace is not None and _TRACE.fullmatch(trace) else None,
            address=client[0] if client else None,
        )

    def _note(
        self,
        collection: str,
        work: Work,
        exchange: Exchange,
        began_s: float,
        result: SubmissionResult | None = None,
    ) -> None:
        self.recorder.note_command(
            exchange.caller.name,
            collection,
            work,
            time.perf_counter() - began_s,
            rows=0 if result is None else result.affected_rows,
            failed=result is None or (result.outcome is not None and not result.applied),
        )


def _say_own_id(exchange: Exchange, caller: Caller, body_id: object, result: SubmissionResult) -> None:
    """Tell the id that the fields of a command said, for which no request had to give one."""
    if caller.idempotency_key is None and body_id is None:
        exchange.outgoing.append((b"idempotency-key", result.command_id.encode()))


def _line(collection: VisibleCollection, line: bytes) -> DocumentRequest | RequestRefused:
    try:
        body = object_of(line)
    except RequestRefused as refused:
        return refused
    return DocumentRequest(collection=collection.collection, verb=DocumentVerb.CREATE, body=body)


def _line_answer(answer: SubmissionResult | RequestRefused) -> bytes:
    if isinstance(answer, SubmissionResult):
        return response_of(answer).model_dump_json().encode() + b"\n"
    response = CommandResponse(
        success=False,
        affected_rows=0,
        execution_time=0.0,
        error_message="; ".join(
            [answer.detail, *(f"{fault.where} {fault.detail}".strip() for fault in answer.faults)]
        ),
        code=str(answer.request_code),
    )
    return response.model_dump_json().encode() + b"\n"


def _wait_s(exchange: Exchange) -> float:
    if exchange.prefer.respond_async:
        return 0.0
    return WRITE_WAIT_S if exchange.prefer.wait_s is None else exchange.prefer.wait_s


def _applied_preferences(answer: HttpAnswer, exchange: Exchange, result: SubmissionResult) -> HttpAnswer:
    if exchange.prefer.respond_async and result.outcome is None:
        answer.add(b"preference-applied", "respond-async")
    elif exchange.prefer.wait_s is not None:
        answer.add(b"preference-applied", f"wait={exchange.prefer.wait_s:g}")
    return answer


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.isprintable() and value.isascii() else None


_LATER: Final = ("The outcome is not known yet: ask at Location.", CommandResponse)
