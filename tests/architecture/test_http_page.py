"""The tables of docs/http.md and docs/codes.md about HTTP say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from tests.architecture.test_readme import CODES_PAGE, codes, rows, section
from tidemill.domain.request_codes import RequestCode, Retry
from tidemill.http.limits import FIXED, limits_of
from tidemill.http.preferences import preferences
from tidemill.http.problems import REJECTION_STATUS, rejection_status
from tidemill.http.routes.shapes import PREFER
from tidemill.queries.collections import RESERVED
from tidemill.queries.encodings import BY_TYPE
from tidemill.queries.value_types import OPERATORS, value_type
from tidemill.settings.http import HttpSettings

PAGE = Path("docs/http.md")
FAMILIES = {
    "integers": ("smallint", "integer", "bigint"),
    "floats": ("real", "double precision"),
    "times": ("timestamptz", "timestamp", "time"),
    "dates": ("date",),
    "arrays": ("text[]", "bigint[]"),
}
"""The types that a word of the page stands for; other words are types themselves."""


def cells(title: str) -> list[list[str]]:
    """The rows of the tables below a heading, without heads: those whose first cell is in back quotes."""
    lines = re.findall(r"^\| `.*\|$", section(PAGE, title), re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_refusal_of_a_request_has_its_row() -> None:
    listed = [row for row in rows(section(PAGE, "Problems")) if len(row) == 4]
    assert listed == [
        [str(code), str(code.status), str(code.retry), code.advice.strip("`")] for code in RequestCode
    ]


def test_every_status_of_an_outcome_has_its_row() -> None:
    listed = rows(section(PAGE, "Outcomes"))
    assert listed == [
        [str(code), str(status), str(retry)] for code, (status, retry) in REJECTION_STATUS.items()
    ]


def test_a_code_that_no_table_has_is_a_conflict() -> None:
    assert rejection_status("A_CODE_OF_A_CONTEXT") == (409, Retry.NEW_KEY)


def test_the_page_of_codes_maps_every_code_to_its_status() -> None:
    outcomes = dict.fromkeys(code for code, *_ in codes())
    listed = rows(section(CODES_PAGE, "Outcomes over HTTP"))
    assert listed == [[code, *map(str, rejection_status(code))] for code in outcomes]
    requests = rows(section(CODES_PAGE, "Requests over HTTP"))
    assert requests == [[str(code), str(code.status), code.advice.strip("`")] for code in RequestCode]


def test_no_code_of_a_request_is_one_of_a_record() -> None:
    """Whoever reads a code knows which table it is in."""
    assert not {str(code) for code in RequestCode} & {code for code, *_ in codes()}


def test_limits_are_those_that_are_enforced() -> None:
    default = HttpSettings()
    limits = limits_of(
        query_s=default.timeout_s, units_per_s=default.units_per_s, max_waiting=default.max_waiting
    )
    listed = {names(name)[0]: float(value.replace(",", "")) for name, value, *_ in cells("Limits")}
    assert listed == limits
    assert list(listed) == list(limits)
    assert limits.keys() > FIXED.keys()


def test_encodings_are_those_of_the_schema() -> None:
    listed = {name: text for row in cells("Encodings") for name in names(row[0]) for text in row[1:]}
    assert listed == dict(BY_TYPE)


def test_preferences_are_those_that_are_understood() -> None:
    listed = [names(row[0])[0] for row in cells("Prefer")]
    assert [*re.findall(r"`([^`]+)`", PREFER.text)] == listed
    for name in listed:
        assert preferences(name.replace("SECONDS", "3")) != preferences(None), name


def test_each_answer_of_retry_is_explained() -> None:
    page = section(PAGE, "Send it again").split("\n## ")[0]
    _, *listed = re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \|$", page, re.MULTILINE)
    assert sorted(name for name, _ in listed) == sorted(map(str, Retry))
    meaning = dict(listed)
    assert "Retry-After" in meaning[Retry.LATER]
    assert "new key" in meaning[Retry.NEW_KEY]


def operators_of(cell: str, above: set[str]) -> set[str]:
    """Read a cell of the table of operators; `above`: those of the row before, which are `the same`."""
    plain = re.sub(r"\(.*\)", "", cell)
    own = {name for group in names(plain) for name in group.split()}
    return own | above if plain.startswith("the same") else own


def test_each_type_has_the_operators_that_the_page_lists() -> None:
    table = section(PAGE, "A page").split("| type of the field | operators |")[1].split("\n\n")[0]
    listed: dict[str, set[str]] = {}
    above: set[str] = set()
    for words, cell in re.findall(r"^\| ([a-z][^|]*) \| ([^|]*) \|$", table, re.MULTILINE):
        above = operators_of(cell, above)
        for word in re.findall(r"[a-z]+", re.sub(r"others ", "", words)):
            listed |= dict.fromkeys(FAMILIES.get(word, (word,)), above)
    assert listed == {name: set(value_type(name).operators) for name in listed}
    assert {kind.name for kind in map(value_type, BY_TYPE)} <= listed.keys()
    assert set().union(*listed.values()) == OPERATORS


def test_the_names_that_no_collection_may_have_are_listed() -> None:
    listed = section(PAGE, "Start").split("no collection may have one:")[1].split("\n\n")[0]
    assert names(listed) == sorted(RESERVED)
