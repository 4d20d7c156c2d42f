"""The description is OpenAPI 3.1, and says of each operation what it takes, answers and refuses."""

from __future__ import annotations

import re
from dataclasses import replace

from pydantic import BaseModel

from tests.support.asgi_client import Client, OneToken
from tidemill.domain.request_codes import RequestCode
from tidemill.http.answer import HttpAnswer, json_answer
from tidemill.http.exchange import Exchange
from tidemill.http.gateway import Gateway
from tidemill.http.openapi import document
from tidemill.http.route_table import Media, Operation, Parameter, RouteTable
from tidemill.http.routes.probes import description_operation, probe_operations


class Shown(BaseModel):
    """A thing."""

    name: str


async def _nothing(_: Exchange) -> HttpAnswer:
    return json_answer({})


THING = Operation(
    method="POST",
    path="/things/{id}",
    name="changeThing",
    summary="Change a thing",
    handler=_nothing,
    parameters=(Parameter("id", "path", "Which."), Parameter("deep", "query", "How.", {"type": "boolean"})),
    body={"application/json": {"type": "object"}},
    answers={200: ("The thing.", Shown)},
    codes=(RequestCode.NO_DOCUMENT,),
)


def test_an_operation_is_described() -> None:
    described = document([THING], "1.2.3")
    assert described["openapi"].startswith("3.1")
    assert described["info"]["version"] == "1.2.3"
    operation = described["paths"]["/things/{id}"]["post"]
    assert [(each["name"], each["in"], each["required"]) for each in operation["parameters"]] == [
        ("id", "path", True),
        ("deep", "query", False),
    ]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {"type": "object"}
    assert operation["security"] == [{"bearer": []}]
    shown = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert shown == {"$ref": "#/components/schemas/Shown"}
    assert {"Shown", "Problem", "ProblemFault"} <= described["components"]["schemas"].keys()
    problem = operation["responses"]["404"]
    assert "`NO_DOCUMENT`" in problem["description"]
    assert "application/problem+json" in problem["content"]
    assert {"401", "500", "503"} <= operation["responses"].keys()
    assert "422" not in operation["responses"]


def test_what_a_command_may_be_rejected_with_is_described() -> None:
    described = document([replace(THING, decides=True)], "1.2.3")
    responses = described["paths"]["/things/{id}"]["post"]["responses"]
    assert {"409", "413", "422"} <= responses.keys()
    assert "`ID_REUSE`" in responses["422"]["description"]
    assert {"`NO_DOCUMENT`", "`NOT_FOUND`"} <= set(re.findall("`[A-Z_]+`", responses["404"]["description"]))


def test_an_answer_has_the_media_type_and_the_problems_of_its_status() -> None:
    lines = Media("application/x-ndjson", {"type": "string"})
    answers = {201: ("The thing.", Shown), 200: ("Lines.", lines), 503: ("It is not well.", Shown)}
    described = document([replace(THING, answers=answers)], "1.2.3")
    responses = described["paths"]["/things/{id}"]["post"]["responses"]
    assert responses["200"]["content"] == {"application/x-ndjson": {"schema": {"type": "string"}}}
    assert responses["503"]["content"].keys() == {"application/json", "application/problem+json"}
    assert responses["503"]["description"].startswith("It is not well.; `DATABASE_AWAY`")


async def test_it_is_served_to_principals_and_the_probes_to_all() -> None:
    up = True
    probes = probe_operations(lambda: (up, {}))
    operations = [*probes, THING, description_operation([*probes, THING], "1.2.3")]
    client = Client(Gateway(RouteTable(operations), OneToken()))
    described = await client.ask("GET", "/openapi.json")
    assert described is not None
    assert set(described.json()["paths"]) == {"/livez", "/readyz", "/things/{id}"}
    refused = await client.ask("GET", "/openapi.json", token=None)
    assert refused is not None
    assert refused.status == 401
    statuses = [await client.ask("GET", path, token=None) for path in ("/livez", "/readyz")]
    up = False
    statuses.append(await client.ask("GET", "/readyz", token=None))
    assert [each.status for each in statuses if each is not None] == [200, 200, 503]
