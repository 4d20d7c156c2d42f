"""What the API says of itself, tried by schemathesis: every check, valid and invalid data, and chains of requests.

The description has one path for all collections. So that requests reach further than a refusal, each chosen collection
gets paths of its own beside the general ones, whose bodies are those that its own schema lists.
"""

from __future__ import annotations

import copy
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2
import schemathesis
from schemathesis.engine import events, from_schema

from tests.support.http.api import NOT_BEFORE, bearer
from tests.support.waiting import HANGING_S
from tidemill.domain.messages import BASE_FIELDS

REFUSED: Final = ["400", "404", "405", "406", "409", "412", "413", "414", "415", "422", "503"]
"""What a request may be answered that keeps the description: a generic one cannot say which columns there are, and
whether a document exists is not in it."""

_GENERAL: Final = "/api/db/{collection}"
_VERBS: Final = {"post": "create", "put": "update", "patch": "update"}


@dataclass
class Tried:
    """What schemathesis sent, and what it found."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    by_operation: Counter[tuple[str, int]] = field(default_factory=Counter)
    by_phase: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def note(self, event: object) -> None:
        """Take what one event of the engine tells."""
        if isinstance(event, events.ScenarioFinished):
            self._note_scenario(event)
        elif isinstance(event, events.NonFatalError | events.FatalError):
            self.failures.append(f"schemathesis itself: {getattr(event, 'value', event)!r}")

    def _note_scenario(self, event: events.ScenarioFinished) -> None:
        recorder = event.recorder
        for case_id, interaction in recorder.interactions.items():
            self.requests += 1
            self.by_phase[str(event.phase)] += 1
            if interaction.response is not None:
                status = interaction.response.status_code
                self.statuses[status] += 1
                node = recorder.cases.get(case_id)
                self.by_operation[node.value.operation.label if node else "?", status] += 1
        for case_id, checks in recorder.checks.items():
            node = recorder.cases.get(case_id)
            body = node.value.body if node else None
            self.failures += [
                f"{check.name}: {check.failure_info.failure.title}\n{check.failure_info.failure.message}\n"
                f"{check.failure_info.code_sample}"
                for check in checks
                if check.failure_info is not None
                and not _is_about_query(check.failure_info.failure)
                and not _counts_what_is_cleaned(check.failure_info.failure, body)
            ]


def _is_about_query(failure: object) -> bool:
    """Tell whether it is only that QUERY (RFC 10008) is possible: OpenAPI 3.1 has no word for it."""
    return "methods advertised: QUERY\n" in f"{getattr(failure, 'message', '')}\n"


def _counts_what_is_cleaned(failure: object, body: object) -> bool:
    """Tell whether a text was too long only as it was sent: lengths are of clean texts, which a schema cannot say."""
    if "violates `maxLength`" not in f"{getattr(failure, 'message', '')}" or not isinstance(body, Mapping):
        return False
    texts = [value for value in body.values() if isinstance(value, str)]
    return any(len(_without_controls(text.strip())) < len(text) for text in texts)


def _without_controls(text: str) -> str:
    composed = unicodedata.normalize("NFC", text)
    return "".join(one for one in composed if unicodedata.category(one) != "Cc")


def try_described(
    url: str,
    token: str,
    seed: int,
    collections: Sequence[str],
    *,
    service: str,
    examples: int,
    stateful: int,
) -> Tried:
    """Send what the description allows and what it does not; `service`: whose token it is. `examples`:
    for an operation, `stateful`: chains."""
    with httpx2.Client(base_url=url, headers=bearer(token), timeout=HANGING_S) as client:
        description = client.get("/openapi.json").raise_for_status().json()
        known = client.get("/api/db/schema").raise_for_status().json()["collections"]
    document = with_collections(description, known, collections)
    for model in ("CommandRequest", "QueryRequest"):
        named = document["components"]["schemas"][model]["properties"]["service_name"]
        named["enum"] = ["", service]  # another name is refused, since it is another's
    config = schemathesis.Config.from_dict(_configuration(url, token, seed, examples, stateful))
    schema = schemathesis.openapi.from_dict(document, config=config)
    tried = Tried()
    for event in from_schema(schema).execute():
        tried.note(event)
    return tried


def with_collections(
    description: Mapping[str, Any], known: Iterable[Mapping[str, Any]], chosen: Sequence[str]
) -> dict[str, Any]:
    """Return the description with paths for each chosen collection, and links from what creates to what was created."""
    document = copy.deepcopy(dict(description))
    general = {path: item for path, item in document["paths"].items() if path.startswith(_GENERAL)}
    for schema in known:
        if schema["name"] in chosen:
            for path, item in general.items():
                own = path.replace("{collection}", schema["name"])
                document["paths"][own] = _path_of(item, schema)
    return document


def _path_of(item: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    own = copy.deepcopy(dict(item))
    for method, operation in own.items():
        operation["operationId"] += f" {schema['name']}"
        operation["parameters"] = list(_parameters_of(operation, schema))
        command = schema["commands"].get(_VERBS.get(method, ""))
        if command is not None and "/query" not in operation["operationId"]:
            for body in operation["requestBody"]["content"].values():
                if body["schema"].get("type") == "object":
                    body["schema"] = _body_of(command["body"])
    _link(own, schema)
    return own


def _parameters_of(operation: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the parameters with values that this collection takes; what only an answer can give is left out."""
    fields = [column["name"] for column in schema["fields"]]
    sorted_by = [column["name"] for column in schema["fields"] if column["sortable"]]
    values: Mapping[str, list[str]] = {
        "_fields": [*fields, ",".join(fields)],
        "_sort": [*sorted_by, f"-{sorted_by[0]}"],
        "_where": [
            "{}",
            json.dumps({fields[0]: {"is": "notnull"}}),
            json.dumps({"_not": {fields[0]: {"is": "null"}}}),
        ],
        "If-Match": ["*", '"v1"', 'W/"v2-gzip"'],
    }
    for parameter in operation["parameters"]:
        if parameter["name"] in values:
            yield {**parameter, "schema": {"type": "string", "enum": values[parameter["name"]]}}
        elif parameter["name"] not in {"collection", "_after", "Tidemill-Seen"}:
            yield parameter
    if schema["time_column"] and operation["operationId"].startswith(("list", "count")):
        name = f"{schema['time_column']}.gte"
        yield {
            "name": name,
            "in": "query",
            "required": operation["operationId"].startswith("list"),  # an estimated count needs no bound
            "schema": {"type": "string", "enum": [NOT_BEFORE]},
        }


def _body_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a command without what the server alone says."""
    kept = {name: kind for name, kind in body["properties"].items() if name not in BASE_FIELDS}
    required = [name for name in body.get("required", ()) if name in kept]
    return {**body, "properties": kept, "required": required}


def _link(item: dict[str, Any], schema: Mapping[str, Any]) -> None:
    """A document is read, changed and deleted where `Location` says."""
    name = schema["name"]
    links = {
        verb: {
            "operationId": f"{verb}Document {name}",
            "parameters": {"path.id": "$response.header.Location#regex:/([^/]+)$"},
        }
        for verb in ("get", "patch", "replace", "delete")
    }
    created = item.get("post", {}).get("responses", {}).get("201")
    if created is not None and schema["key"]:
        created["links"] = links


def _configuration(url: str, token: str, seed: int, examples: int, stateful: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "base-url": url,
        "headers": bearer(token),
        "continue-on-failure": True,
        "request-timeout": HANGING_S,
        "generation": {"mode": "all", "max-examples": examples, "no-shrink": True, "database": "none"},
        "phases": {
            "coverage": {"unexpected-methods": ["put", "patch", "delete", "trace"]},
            "stateful": {"generation": {"max-examples": stateful}},
        },
        "checks": {
            "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "501", "503"]},
            "positive_data_acceptance": {"expected-statuses": ["2xx", "304", *REFUSED, "501"]},
            "negative_data_rejection": {"expected-statuses": [*REFUSED, "401", "403", "501"]},
        },
    }
