"""The writes of HTTP: a document, a command by its name, or lines of documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tidemill.domain.errors import RequestFault, RequestRefused, TransientError
from tidemill.domain.identity import identify
from tidemill.domain.request_codes import RequestCode
from tidemill.submissions.documents import Documents
from tidemill.submissions.identifiers import line_id
from tidemill.submissions.lookup import result_of
from tidemill.submissions.ports import DocumentReader, OutcomeLog
from tidemill.submissions.requests import Caller, DocumentRequest, Submission, SubmissionResult
from tidemill.submissions.sender import Answered, Submitter

MAX_LINES: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class Writes:
    """The writes of a process."""

    documents: Documents
    submitter: Submitter
    reader: DocumentReader
    log: OutcomeLog

    async def write(self, request: DocumentRequest, caller: Caller, wait_s: float) -> SubmissionResult:
        """Create, replace, patch or delete a document.

        `wait_s`: how long to wait for the outcome; 0: only until the command is acknowledged.

        Raises:
            RequestRefused: as `Documents.submission` and `Submitter.submit`; also `NO_DOCUMENT`, `MATCH_FAILED` for
                `If-Match: *` without a document, `DATABASE_AWAY`.
        """
        missing = self.documents.missing(request, caller)
        exists_only = request.precondition.exists and request.precondition.version is None
        if missing or exists_only:
            try:
                document = await self.reader.values(request.collection, request.key or "", missing)
                if document is None:
                    return await self._without_document(request, caller, wait_s, known=not missing)
            except TransientError as error:
                raise _database_away() from error
            request = replace(request, given={**request.given, **document})
        return await self.submitter.submit(self.documents.submission(request, caller), wait_s)

    async def command(
        self, name: str, parameters: Mapping[str, Any], caller: Caller, wait_s: float
    ) -> SubmissionResult:
        """Send a command by its name, short or full. Raises `RequestRefused`, see `write`."""
        return await self.submitter.submit(self.documents.command(name, parameters, caller), wait_s)

    async def lines(
        self, requests: Sequence[DocumentRequest | RequestRefused], caller: Caller, wait_s: float
    ) -> list[Answered]:
        """Create a document per line, sent together; not atomic. A line that cannot be read is its refusal.

        The id of line n follows from the request's key and n, so a repeat of all lines repeats each of them; without a
        key, the fields of a line say its id, if its command declares that they do.

        Raises:
            RequestRefused: `BODY_TOO_LARGE` for more than 1,000 lines; `DRAINING`, `OVERLOADED`, `JOURNAL_AWAY`.
        """
        if len(requests) > MAX_LINES:
            raise RequestRefused(RequestCode.BODY_TOO_LARGE, f"at most {MAX_LINES} lines are taken at once")
        batch_id = caller.idempotency_key or self.documents.new_id()
        read = [
            self._line(request, caller, line_id(batch_id, caller.principal.name, number))
            for number, request in enumerate(requests, start=1)
        ]
        sent = [one for one in read if isinstance(one, Submission)]
        answers = iter(await self.submitter.submit_all(sent, wait_s) if sent else [])
        return [next(answers) if isinstance(one, Submission) else one for one in read]

    def _line(
        self, request: DocumentRequest | RequestRefused, caller: Caller, command_id: str
    ) -> Submission | RequestRefused:
        if isinstance(request, RequestRefused):
            return request
        if "command_id" in (request.body or {}):
            fault = RequestFault("pointer", "/command_id", "follows from the key of the request")
            return RequestRefused(RequestCode.BAD_BODY, "a line has no id of its own", fault)
        create = request.collection.crud.create
        own_id = caller.idempotency_key is None and create is not None and self.documents.has_own_id(create)
        try:
            return self.documents.submission(
                request, replace(caller, idempotency_key=None if own_id else command_id)
            )
        except RequestRefused as refusal:
            return refusal

    async def _without_document(
        self, request: DocumentRequest, caller: Caller, wait_s: float, *, known: bool
    ) -> SubmissionResult:
        """Answer a write of a document that is not there: refuse it, unless this very command has deleted it."""
        chosen = caller.idempotency_key or (request.body or {}).get("command_id")
        if isinstance(chosen, str):
            identity = identify(chosen, caller.principal.name)
            logged = (await self.log.outcomes([identity])).get(identity)
            if logged is not None and known:
                return await self.submitter.submit(self.documents.submission(request, caller), wait_s)
            if logged is not None and logged.service == caller.principal.name:
                return replace(result_of(chosen, logged), key=request.key)
        code = RequestCode.MATCH_FAILED if request.precondition.exists else RequestCode.NO_DOCUMENT
        raise RequestRefused(code, f"{request.collection.name} has no document {request.key}")


def _database_away() -> RequestRefused:
    return RequestRefused(
        RequestCode.DATABASE_AWAY, "the document in force cannot be read", retry_after_s=1.0
    )
