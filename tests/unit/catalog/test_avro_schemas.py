"""Schemas as values: read, told apart, and the same fingerprints as everybody else's."""

from __future__ import annotations

import json
from typing import Any

import avro.schema
import pytest
from fastavro.schema import fingerprint as fastavro_fingerprint
from fastavro.schema import to_parsing_canonical_form

from tests.support.faults import hostile
from tidemill.catalog.avro import Enumeration, Primitive, Record, Union, parse, parse_record
from tidemill.catalog.drafts import draft_schema
from tidemill.catalog.fingerprints import canonical_form, fingerprint, layout, meaning
from tidemill.domain.errors import ContractError
from tidemill.runtime.resources import schemas_dir

FILES = sorted(schemas_dir().rglob("*.avsc"))
NESTED = {
    "type": "record",
    "name": "Outer",
    "namespace": "a.b",
    "fields": [
        {
            "name": "one",
            "type": {"type": "record", "name": "Inner", "fields": [{"name": "x", "type": "int"}]},
        },
        {"name": "two", "type": ["null", "Inner"], "default": None},
        {"name": "three", "type": {"type": "array", "items": "a.b.Inner"}},
        {
            "name": "four",
            "type": {"type": "enum", "name": "other.Kind", "symbols": ["A", "B"], "default": "A"},
        },
        {"name": "five", "type": {"type": "fixed", "name": "Five", "size": 5}},
        {
            "name": "six",
            "type": {"type": "map", "values": {"type": "long", "logicalType": "timestamp-micros"}},
        },
        {"name": "seven", "type": {"type": {"type": "string"}}},
    ],
}


JAVA = {
    "connector_profiles/ConnectorProfileDeactivated": "e0da8347f62b2cc4",
    "connector_profiles/ConnectorProfileRegistered": "5d67909c92b1a574",
    "connector_profiles/ConnectorProfileUpdated": "fa9e294f4a4b19e5",
    "connector_profiles/DeactivateConnectorProfile": "e3216ca5e278a296",
    "connector_profiles/RegisterConnectorProfile": "416e499f0c7de4fc",
    "connector_profiles/UpdateConnectorProfile": "d90fb8559a7f0fa9",
    "market_data/MarketDataRecorded": "acc5bd7b88dbe267",
    "market_data/RecordMarketData": "db1115c13d0cc3ff",
    "outcome/CommandOutcome": "3a83e543ccbab847",
}
"""What Avro 1.12.0 for Java gives for the first released versions (`SchemaNormalization.parsingFingerprint`)."""


@pytest.mark.parametrize(("name", "expected"), JAVA.items())
def test_fingerprints_of_released_versions_are_javas(name: str, expected: str) -> None:
    text = (schemas_dir() / "released" / name / "v1.avsc").read_text()
    assert fingerprint(parse_record(text)).hex() == expected


@pytest.mark.parametrize(
    "document",
    [
        {**NESTED, "fields": NESTED["fields"][:-1]},
        draft_schema(hostile.SendProbe, hostile.NAMESPACE),
        *(json.loads(path.read_text()) for path in FILES),
    ],
    ids=lambda document: document["name"],
)
def test_fingerprints_are_fastavros(document: dict[str, Any]) -> None:
    canonical = canonical_form(parse(document))
    assert canonical == to_parsing_canonical_form(document)
    assert fingerprint(parse(document)).hex() == fastavro_fingerprint(canonical, "CRC-64-AVRO")


def test_fingerprints_are_those_of_the_avro_package_where_it_follows_the_specification() -> None:
    # It writes {"type": "long"} for a long with a logical type, where the specification and Java write "long".
    document = {**NESTED, "fields": NESTED["fields"][:5]}
    assert fingerprint(parse(document)) == avro.schema.parse(json.dumps(document)).fingerprint("CRC-64-AVRO")


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("int", "7275d51a3f395c8f"),
        ("float", "4d7c02cb3ea8d790"),
        ("long", "d054e14493f41db7"),
        ("double", "8e7535c032ab957e"),
        ("bytes", "4fc016dac3201965"),
        ("string", "8f014872634503c7"),
        ("boolean", "9f42fc78a4d4f764"),
        ("null", "63dd24e7cc258f8a"),
    ],
)
def test_vectors_of_the_specification(document: str, expected: str) -> None:
    assert fingerprint(parse(document))[::-1].hex() == expected


def test_names_are_resolved_within_their_namespace() -> None:
    outer = parse(NESTED)
    assert isinstance(outer, Record)
    kinds = {field.name: field.type for field in outer.fields}
    assert isinstance(kinds["two"], Union)
    assert kinds["two"].branches[1] == kinds["one"]
    assert isinstance(kinds["four"], Enumeration)
    assert kinds["four"].name == "other.Kind"
    assert kinds["seven"] == Primitive("string")


def test_meaning_sees_what_the_canonical_form_drops() -> None:
    plain = {"type": "record", "name": "R", "fields": [{"name": "x", "type": "long", "doc": "a"}]}
    timed = {**plain, "fields": [{"name": "x", "type": {"type": "long", "logicalType": "timestamp-micros"}}]}
    defaulted = {**plain, "fields": [{"name": "x", "type": "long", "default": 0}]}
    documented = {**plain, "doc": "what it is"}
    forms = [parse(each) for each in (plain, timed, defaulted, documented)]
    assert len({canonical_form(form) for form in forms}) == 1
    assert [meaning(form) == meaning(forms[0]) for form in forms] == [True, False, False, True]


def test_layout_is_blind_to_names_of_the_record_and_to_defaults() -> None:
    one = parse_record(
        '{"type": "record", "name": "a.One", "fields": [{"name": "x", "type": "long", "default": 1}]}'
    )
    two = parse_record('{"type": "record", "name": "b.Two", "fields": [{"name": "x", "type": "long"}]}')
    three = parse_record('{"type": "record", "name": "b.Two", "fields": [{"name": "y", "type": "long"}]}')
    assert layout(one) == layout(two) != layout(three)


def holding(kind: str) -> str:
    return f'{{"type": "record", "name": "R", "fields": [{{"name": "x", "type": {kind}}}]}}'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not an Avro schema"),
        ("[" * 40_000, "not an Avro schema"),
        ('"string"', "must be a record"),
        (holding('{"type": ' * 70 + '"int"' + "}" * 70), "more than 64 deep"),
        ('{"type": "record", "name": "R"}', "list of fields"),
        ('{"type": "record", "name": "R", "fields": [1]}', "list of fields"),
        ('{"type": "record", "name": "a-b", "fields": []}', "not an Avro name"),
        ('{"type": "record", "fields": []}', "not an Avro name"),
        ('{"type": "record", "name": "R", "fields": [{"name": "x"}]}', "None is not an Avro type"),
        (holding('"int"}, {"name": "x", "type": "int"'), "two fields of one name"),
        (holding('"strnig"'), r"R.x: type strnig"),
        (holding("[]"), "at least one branch"),
        (holding('["int", ["null"]]'), "at least one branch"),
        (holding('["int", "int"]'), "of one kind"),
        (holding('{"type": "record", "name": "R", "fields": []}'), "defined twice"),
        (holding('{"type": "enum", "name": "E"}'), "different symbols"),
        (holding('{"type": "enum", "name": "E", "symbols": ["A", "A"]}'), "different symbols"),
        (
            holding('{"type": "enum", "name": "E", "symbols": ["A"], "default": "B"}'),
            "not one of its symbols",
        ),
        (holding('{"type": "fixed", "name": "F"}'), "needs a size"),
        (
            holding('{"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 3}'),
            "a decimal needs",
        ),
    ],
)
def test_what_is_no_schema_says_why(text: str, why: str) -> None:
    with pytest.raises(ContractError, match=why):
        parse_record(text)
