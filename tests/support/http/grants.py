"""Every operation of the description for every kind of principal, and what the grants alone say of the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx2

from tests.support.http.api import NOT_BEFORE, Granted, bearer, new_key, tick

FACTS, STATE, READ_MODEL, NOTHING = "market-data", "connector-profiles", "latest-quotes", "no-such-things"
COLLECTIONS: Final = (FACTS, STATE, READ_MODEL, NOTHING)
WRITTEN: Final = {FACTS: {"create"}, STATE: {"create", "update", "delete"}, READ_MODEL: set[str]()}
KEYS: Final = {FACTS: "1", STATE: "kept", READ_MODEL: "KEPT", NOTHING: "1"}

NEEDS: Final[Mapping[str, str]] = {
    "getDocument": "read",
    "listDocuments": "read",
    "countDocuments": "read",
    "queryDocuments": "read",
    "createDocument": "create",
    "replaceDocument": "update",
    "patchDocument": "update",
    "deleteDocument": "delete",
    "getSchema": "any",
    "sendCommand": "command",
    "listMigrations": "operate",
    "getMigrationStatus": "operate",
    "getStatistics": "operate",
    "getPerformance": "operate",
    "getConnections": "operate",
    "getSchemas": "principal",
    "getHealth": "principal",
    "getCommand": "principal",
    "livez": "nothing",
    "readyz": "nothing",
} | dict.fromkeys(
    (
        "runMigration",
        "beginTransaction",
        "getTransaction",
        "commitTransaction",
        "rollBackTransaction",
        "registerModels",
        "search",
        "aggregateDocuments",
    ),
    "later",
)
"""What an operation takes. An operation that is described and not here fails the test."""

PRINCIPALS: Final[Mapping[str, Sequence[Granted]]] = {
    "without": [],
    "reader": [Granted("*", ["read"])],
    "creator": [Granted(FACTS, ["create"]), Granted(STATE, ["create"])],
    "updater": [Granted(STATE, ["update"])],
    "deleter": [Granted(STATE, ["delete"])],
    "half-blind": [Granted(FACTS, ["read"], ["source"]), Granted(STATE, ["read"], ["profile_data", "name"])],
    "operator": [Granted("*", ["read", "operate"])],
    "revoked": [Granted("*")],
}
STRANGERS: Final = ("none", "bad token", "revoked")


@dataclass(frozen=True)
class Try:
    """One request of the matrix."""

    principal: str
    operation: str
    method: str
    path: str
    collection: str | None

    @property
    def writes(self) -> bool:
        """Tell whether it would change something, so that a refusal is noted whatever its reason."""
        return NEEDS[self.operation] in {"create", "update", "delete", "command"} or (
            NEEDS[self.operation] == "later"
        )

    def send(self, client: httpx2.Client, token: str | None) -> httpx2.Response:
        """Send it."""
        return client.request(
            self.method,
            self.path,
            headers=bearer(token) | ({"Idempotency-Key": new_key()} if self.writes else {}),
            params={"time.gte": NOT_BEFORE} if self._is_bounded else None,
            json=self._body(),
        )

    @property
    def _is_bounded(self) -> bool:
        return self.operation in {"listDocuments", "countDocuments"} and self.collection == FACTS

    def _body(self) -> dict[str, Any] | None:
        if self.operation == "sendCommand":
            return {"command": "RecordMarketData", "parameters": tick("CMD")}
        if self.operation == "createDocument":
            key = new_key()
            return tick("NEW") if self.collection != STATE else {"name": key, "profile_data": {}}
        if self.operation == "queryDocuments":
            return {"where": {"time": {"gte": NOT_BEFORE}}} if self.collection == FACTS else {}
        if self.method in {"PUT", "PATCH"}:
            return {"name": new_key(), "profile_data": {}}
        return {} if self.method == "POST" else None


def tries(description: Mapping[str, Any]) -> Iterator[Try]:
    """Return every operation for every principal, those about a collection for each of them."""
    for path, item in description["paths"].items():
        for method, operation in item.items():
            for principal in [*PRINCIPALS, *STRANGERS[:2]]:
                for collection in COLLECTIONS if "{collection}" in path else (None,):
                    key = "absent" if method == "delete" else KEYS.get(collection or "", "")
                    url = path.replace("{collection}", collection or "").replace("{id}", key)
                    url = url.replace("{command_id}", "unknown").replace("{transaction_id}", "unknown")
                    yield Try(principal, operation["operationId"], method.upper(), url, collection)
