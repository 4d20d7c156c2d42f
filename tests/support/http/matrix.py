"""Every operation that is served, for every kind of grant, and what the grants alone say of the answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.support.http.api import NOT_BEFORE, Granted, new_key, tick
from tidemill.http.route_table import Operation
from tidemill.security.principals import Verb

FACTS, STATE, READ_MODEL, NOTHING = "market-data", "client-configs", "latest-quotes", "no-such-things"
COLLECTIONS: Final = (FACTS, STATE, READ_MODEL, NOTHING)
WRITTEN: Final = {FACTS: {"create"}, STATE: {"create", "update", "delete"}, READ_MODEL: set[str]()}
QUERY, READ_BY_QUERY = "analyses-by-status", "data-analyses"

READS: Final = (
    "getDocument",
    "listDocuments",
    "countDocuments",
    "queryDocuments",
    "queryDocumentsByQuery",
)
LATER: Final = (
    "runMigration",
    "beginTransaction",
    "getTransaction",
    "commitTransaction",
    "rollBackTransaction",
    "registerModels",
    "search",
    "aggregateDocuments",
)
OPERATORS: Final = (
    "listMigrations",
    "getMigrationStatus",
    "getStatistics",
    "getPerformance",
    "getConnections",
)

NEEDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(READS, "read"),
    **dict.fromkeys(LATER, "later"),
    **dict.fromkeys(OPERATORS, "operate"),
    "createDocument": "create",
    "replaceDocument": "update",
    "patchDocument": "update",
    "deleteDocument": "delete",
    "getSchema": "any",
    "sendCommand": "command",
    "runQuery": "query",
    **dict.fromkeys(("getSchemas", "getHealth", "getCommand", "listQueries", "openapi"), "principal"),
    **dict.fromkeys(("livez", "readyz", "docs"), "nothing"),
}
"""What an operation takes. An operation that is served and not here fails the test."""

STRANGERS: Final = ("none", "guess", "revoked token", "expired token", "revoked")
"""Those without valid credentials: without any, with a made-up token, and those that were valid once."""


def _granted() -> Iterator[tuple[str, list[Granted]]]:
    """Yield the grants of each principal: a verb for all, for each by name, and by name in place of all verbs."""
    named, every = (FACTS, STATE, READ_MODEL, READ_BY_QUERY), [*Verb]
    yield "without", []
    yield "everything", [Granted("*", every)]
    yield "elsewhere", [Granted("users", [Verb.READ, Verb.CREATE, Verb.UPDATE, Verb.DELETE])]
    for verb in Verb:
        yield f"{verb} all", [Granted("*", [verb])]
        if verb is not Verb.OPERATE:
            yield f"{verb} named", [Granted(name, [verb]) for name in named]
            yield f"{verb} instead", [Granted("*", every), *(Granted(name, [verb]) for name in named)]


PRINCIPALS: Final[Mapping[str, Sequence[Granted]]] = dict(_granted())


@dataclass(frozen=True)
class Try:
    """One request of the matrix. `collection`: that of the path, if it has one."""

    principal: str
    operation: Operation
    method: str
    collection: str | None

    @property
    def need(self) -> str:
        """Return what the operation takes."""
        return NEEDS[self.operation.name]

    @property
    def is_write(self) -> bool:
        """Tell whether it would change something, so that a refusal is noted whatever its reason."""
        return self.need in {"create", "update", "delete", "command", "later"}

    @property
    def url(self) -> str:
        """Return the path with its parameters."""
        path = self.operation.path.replace("{collection}", self.collection or "").replace("{id}", "1")
        path = path.replace("{command_id}", "unknown").replace("{transaction_id}", "unknown")
        is_bounded = self.collection == FACTS and self.operation.name in {"listDocuments", "countDocuments"}
        return f"{path}?time.gte={NOT_BEFORE}" if is_bounded else path

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Return its headers: nobody waits for an outcome."""
        content = [("content-type", "application/json")] if self.operation.body else []
        own = [("idempotency-key", new_key()), ("prefer", "respond-async")] if self.is_write else []
        return [*content, *own]

    @property
    def body(self) -> Any:
        """Return the value of its body."""
        if self.operation.name == "sendCommand":
            return {"command": "RecordMarketData", "parameters": tick("CMD")}
        if self.operation.name == "runQuery":
            return {"query": QUERY, "parameters": {"user_id": "ada", "status": "running"}}
        if self.operation.name.startswith("queryDocuments"):
            return {"where": {"time": {"gte": NOT_BEFORE}}} if self.collection == FACTS else {}
        if self.need == "create" and self.collection == FACTS:
            return tick("NEW")
        return {"name": new_key(), "config_data": {"a": 1}}


def tries(operations: Iterable[Operation], principals: Iterable[str]) -> Iterator[Try]:
    """Return every operation for every principal, those about a collection for each of them; GET as HEAD, too."""
    for operation in operations:
        for method in ("GET", "HEAD") if operation.method == "GET" else (operation.method,):
            for collection in COLLECTIONS if "{collection}" in operation.path else (None,):
                for principal in principals:
                    yield Try(principal, operation, method, collection)


def expected(one: Try) -> set[tuple[int, str]]:
    """Return the answers, as status and code, that the grants allow; no code: it is no refusal."""
    if one.need == "nothing":
        return {(200, "")}
    if one.principal in STRANGERS:
        return {(401, "UNAUTHENTICATED")}
    if one.need == "later":
        return {(501, "NOT_YET")}
    if one.need == "principal":
        return {(404, "NO_COMMAND")} if one.operation.name == "getCommand" else {(200, "")}
    if one.need == "operate":
        return {(200, "")} if "operate" in verbs_of(one.principal, "*") else {(403, "FORBIDDEN")}
    if one.need == "query":
        return {(200, "")} if "read" in verbs_of(one.principal, READ_BY_QUERY) else {(404, "NO_QUERY")}
    if one.need == "command":
        return _of_command(one.principal)
    return _of_collection(one)


def verbs_of(principal: str, collection: str) -> set[str]:
    """Return what a principal may do; nothing at all means that a collection does not exist for it."""
    grants = {granted.collection: set(granted.verbs) for granted in PRINCIPALS[principal]}
    return {str(verb) for verb in grants.get(collection, grants.get("*", set()))}


def _of_command(principal: str) -> set[tuple[int, str]]:
    verbs = verbs_of(principal, FACTS)
    if not verbs:
        return {(400, "BAD_BODY")}
    return {(202, "")} if "create" in verbs else {(403, "FORBIDDEN")}


def _of_collection(one: Try) -> set[tuple[int, str]]:
    assert one.collection is not None
    verbs = verbs_of(one.principal, one.collection)
    if not verbs or one.collection == NOTHING:
        return {(404, "NO_COLLECTION")}
    if one.need == "any":
        return {(200, "")}
    if one.need != "read" and one.need not in WRITTEN[one.collection]:
        return {(405, "NO_SUCH_VERB")}
    if one.need not in verbs:
        return {(403, "FORBIDDEN")}
    if one.operation.name == "getDocument":
        return {(404, "NO_DOCUMENT")}
    return {(200, "")} if one.need == "read" else {(202, "")}
