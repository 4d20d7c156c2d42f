"""What `schemas check` refuses: one broken folder per rule."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tidemill.catalog.avro import parse
from tidemill.catalog.lint import dangers
from tidemill.catalog.schemas import check_schemas, contexts_in, load_messages
from tidemill.domain.errors import ContractError
from tidemill.runtime.resources import schemas_dir

COMMAND = "market_data/commands/RecordMarketData.avsc"
EVENT = "market_data/events/MarketDataRecorded.avsc"
OUTCOME = "outcome/CommandOutcome.avsc"
REQUEST = "archival/ArchivalEvent.avsc"
CONFIRMATION = "archival/ArchivalConfirmation.avsc"
Document = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(schemas_dir(), tmp_path / "schemas"))


def change(path: Path, how: Callable[[Document], Any]) -> None:
    document = json.loads(path.read_text())
    how(document)
    path.write_text(json.dumps(document))


def append(**field: Any) -> Callable[[Document], Any]:
    return lambda document: document["fields"].append({"doc": "what it is", **field})


def alter(name: str, **changes: Any) -> Callable[[Document], Any]:
    def how(document: Document) -> None:
        [field] = [field for field in document["fields"] if field["name"] == name]
        field.update(changes)

    return how


def remove(name: str, key: str = "") -> Callable[[Document], Any]:
    def how(document: Document) -> None:
        [field] = [field for field in document["fields"] if field["name"] == name]
        if key:
            del field[key]
        else:
            document["fields"].remove(field)

    return how


def swap(document: Document) -> None:
    fields = document["fields"]
    fields[4], fields[5] = fields[5], fields[4]


def codes(folder: Path) -> set[tuple[str, str]]:
    return {(finding.path, finding.code) for finding in check_schemas(folder)}


NULLS = {"type": "array", "items": "null"}
EMPTY = {"type": "array", "items": {"type": "record", "name": "Empty", "fields": []}}
NO_BYTES = {"type": "array", "items": {"type": "fixed", "name": "NoBytes", "size": 0}}
DIGITS = {"type": "bytes", "logicalType": "decimal", "precision": 1_001}
TERABYTE = {"type": "fixed", "name": "Terabyte", "size": 1 << 40}
DEEP = json.loads('{"type": "map", "values": ' * 70 + '"int"' + "}" * 70)
WIDE = {
    "type": "record",
    "name": "Wide",
    "fields": [{"name": f"f{number}", "type": "int"} for number in range(2_000)],
}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
OPTIONAL = {"name": "venue", "type": ["null", "string"], "default": None}


@pytest.mark.parametrize(
    ("path", "how", "code"),
    [
        (COMMAND, append(name="next", type=["null", "RecordMarketData"], default=None), "RECURSIVE"),
        (COMMAND, append(name="x", type=NULLS, default=[]), "ZERO_WIDTH"),
        (COMMAND, append(name="x", type=EMPTY, default=[]), "ZERO_WIDTH"),
        (COMMAND, append(name="x", type=NO_BYTES, default=[]), "ZERO_WIDTH"),
        (COMMAND, append(name="x", type=DIGITS, default=""), "TOO_PRECISE"),
        (COMMAND, append(name="x", type=TERABYTE, default=""), "TOO_LARGE"),
        (COMMAND, append(name="x", type=DEEP, default={}), "TOO_DEEP"),
        (COMMAND, append(name="x", type=WIDE, default={}), "TOO_WIDE"),
        (COMMAND, append(name="x", type="string", default="x" * (1 << 20)), "TOO_LARGE"),
        (COMMAND, append(name="x", type=MILLIS, default=0), "LOGICAL_TYPE"),
        (
            COMMAND,
            append(name="x", type={"type": "string", "logicalType": "uuid"}, default=""),
            "LOGICAL_TYPE",
        ),
        (
            COMMAND,
            append(name="x", type={"type": "int", "logicalType": "time-millis"}, default=0),
            "LOGICAL_TYPE",
        ),
        (
            COMMAND,
            append(
                name="x",
                type=["null", {"type": "fixed", "name": "F", "size": 12, "logicalType": "duration"}],
                default=None,
            ),
            "LOGICAL_TYPE",
        ),
        (COMMAND, append(name="x", type=["null", "string", "long"], default=None), "UNION"),
        (COMMAND, append(name="x", type=["string", "null"], default=""), "UNION"),
        (COMMAND, append(name="x", type=["null", "string"]), "UNION"),
        (COMMAND, append(**OPTIONAL, aliases=["market"]), "ALIASES"),
        (COMMAND, remove("price", "doc"), "UNDOCUMENTED"),
        (COMMAND, lambda document: document.pop("doc"), "UNDOCUMENTED"),
        (COMMAND, lambda document: document.update(name="RecordTick"), "MISNAMED"),
        (COMMAND, lambda document: document.pop("namespace"), "MISNAMED"),
        (COMMAND, lambda document: document["fields"].pop(0), "BASE_FIELDS"),
        (COMMAND, alter("timestamp", type="long"), "BASE_FIELDS"),
        (EVENT, lambda document: document["fields"].reverse(), "BASE_FIELDS"),
        (COMMAND, append(name="venue", type="string"), "INCOMPATIBLE"),
        (COMMAND, alter("price", type="string"), "INCOMPATIBLE"),
        (COMMAND, remove("source"), "FIELDS_MOVED"),
        (COMMAND, swap, "FIELDS_MOVED"),
        (COMMAND, alter("time", type="long"), "SAME_FINGERPRINT"),
        (COMMAND, alter("source", default="unknown"), "SAME_FINGERPRINT"),
        (EVENT, append(name="venue", type="string"), "INCOMPATIBLE"),
        (EVENT, remove("source"), "INCOMPATIBLE"),
        (EVENT, alter("open", type=["null", "float"]), "INCOMPATIBLE"),
        (OUTCOME, remove("sequence"), "INCOMPATIBLE"),
        (OUTCOME, alter("partition", type="long"), "INCOMPATIBLE"),
        (REQUEST, remove("attempt"), "FIELDS_MOVED"),
        (REQUEST, append(name="priority", type="string"), "INCOMPATIBLE"),
        (CONFIRMATION, append(name="rows", type="long"), "INCOMPATIBLE"),
        (CONFIRMATION, lambda document: document["fields"].pop(0), "FIELDS_MOVED"),
        (COMMAND, alter("price", type="float"), "FIELDS_REWRITTEN"),
        (COMMAND, alter("source", default="unknown"), "FIELDS_REWRITTEN"),
    ],
)
def test_is_refused(folder: Path, path: str, how: Callable[[Document], Any], code: str) -> None:
    change(folder / path, how)
    assert (path, code) in codes(folder)


@pytest.mark.parametrize("path", [COMMAND, EVENT, OUTCOME, REQUEST, CONFIRMATION])
def test_a_field_with_a_default_at_the_end_is_welcome(folder: Path, path: str) -> None:
    change(folder / path, append(**OPTIONAL))
    change(folder / path, append(name="count", type="long", default=0))
    assert check_schemas(folder) == []


def test_a_changed_doc_is_welcome(folder: Path) -> None:
    change(folder / COMMAND, alter("price", doc="Said better."))
    assert check_schemas(folder) == []


def test_every_released_version_counts_in_the_order_of_numbers(folder: Path) -> None:
    released = folder / "released/market_data/RecordMarketData"
    change(folder / COMMAND, append(**OPTIONAL))
    for version in range(2, 11):
        shutil.copy(folder / COMMAND, released / f"v{version}.avsc")
    assert check_schemas(folder) == []
    message = load_messages(folder, "market_data")["tidemill.market_data.RecordMarketData"]
    assert [len(schema.record.fields) for schema in message.released] == [12] + [13] * 9
    assert [len(schema.record.fields) for schema in message.versions] == [12, 13]
    change(folder / COMMAND, remove("venue"))
    assert (COMMAND, "FIELDS_MOVED") in codes(folder)


def test_a_removed_message_is_refused(folder: Path) -> None:
    (folder / COMMAND).unlink()
    assert codes(folder) == {("released/market_data/RecordMarketData", "ORPHANED")}


def test_what_is_no_schema_is_refused(folder: Path) -> None:
    (folder / COMMAND).write_text("{")
    (folder / EVENT).write_bytes(b"\xff")
    (folder / "released/outcome/CommandOutcome/vx.avsc").write_text("{}")
    assert codes(folder) == {(COMMAND, "NOT_AVRO"), (EVENT, "NOT_AVRO"), (OUTCOME, "NOT_AVRO")}
    with pytest.raises(ContractError, match=r"RecordMarketData.avsc: not an Avro schema"):
        load_messages(folder, "market_data")


def test_a_context_without_schemas_is_an_error(folder: Path) -> None:
    built_in = [each.name for each in schemas_dir().iterdir() if each.is_dir() and each.name != "released"]
    assert contexts_in(folder) == sorted(built_in)
    with pytest.raises(ContractError, match="tidemill schemas new"):
        load_messages(folder, "weather")


def test_a_finding_reads_as_one_line(folder: Path) -> None:
    change(folder / COMMAND, remove("price", "doc"))
    assert [str(finding) for finding in check_schemas(folder)] == [
        f"{COMMAND}: UNDOCUMENTED: price: say in `doc` what it is, with its unit"
    ]


def test_a_small_schema_that_would_be_a_billion_types_is_dangerous_and_found_quickly() -> None:
    kind: Any = "int"
    for depth in range(40):
        fields = [{"name": "a", "type": kind}, {"name": "b", "type": f"R{depth - 1}" if depth else "int"}]
        kind = {"type": "record", "name": f"R{depth}", "fields": fields}
    assert [code for code, _ in dangers(parse(kind))] == ["TOO_WIDE"]
