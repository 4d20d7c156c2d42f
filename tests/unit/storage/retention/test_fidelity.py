"""The rules for types: each is judged by how it is made, and the page says the same as the code."""

from dataclasses import replace
from pathlib import Path

import pytest

from tidemill.domain.archive.slices import LakeColumn, LakeType, Refusal, schema_fingerprint
from tidemill.storage.retention import digest_sql
from tidemill.storage.retention.fidelity import BY_TEXT, EXACT, Attribute, shape_of

PAGE = (Path(__file__).parents[4] / "docs" / "archival.md").read_text(encoding="utf-8")
SPELLED = {
    "bool": "boolean",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "bpchar": "char(n)",
    "char": '"char"',
}


def judged(*chain: str, typmod: int = -1) -> LakeColumn | Refusal:
    shape = shape_of([Attribute("x", "its type", True, chain, typmod)])
    return shape.columns[0] if shape.columns else shape.refused[0]


def numeric(precision: int, scale: int) -> LakeColumn | Refusal:
    return judged("b:numeric", typmod=(precision << 16 | scale & 0x7FF) + 4)


@pytest.mark.parametrize(
    ("chain", "kind"),
    [
        (("b:int4",), LakeType.INT32),
        (("d:.posint", "d:.number", "b:int4"), LakeType.INT32),
        (("b:json",), "text"),
        (("a:_int4", "b:int4"), "text"),
        (("d:.numbers", "a:_int4", "b:int4"), "text"),
        (("m:int4multirange", "r:int4range", "b:int4"), "text"),
        (("e:.mood",), "text"),
        (("a:._mood", "e:.mood"), "text"),
    ],
)
def test_a_type_is_judged_by_how_it_is_made(chain: tuple[str, ...], kind: LakeType | str) -> None:
    found = judged(*chain)
    assert isinstance(found, LakeColumn)
    assert ("text" if found.by_text else found.type) == kind


@pytest.mark.parametrize(
    "chain",
    [
        ("b:money",),
        ("d:.cash", "b:money"),
        ("a:_money", "b:money"),
        ("r:.cash_range", "b:money"),
        ("c:.pair",),
        ("a:._pair", "c:.pair"),
        ("p:anyarray",),
        ("b:.geometry",),
        ("b:.text",),
        ("b:regclass",),
    ],
)
def test_a_type_is_refused_by_what_it_holds_in_the_end(chain: tuple[str, ...]) -> None:
    found = judged(*chain)
    assert isinstance(found, Refusal)
    assert found.reason.startswith("type its type is refused: ")


@pytest.mark.parametrize(("precision", "scale"), [(1, 0), (38, 0), (38, 38), (18, 4)])
def test_a_decimal_of_at_most_38_digits_is_exact(precision: int, scale: int) -> None:
    found = numeric(precision, scale)
    assert isinstance(found, LakeColumn)
    assert (found.type, found.precision, found.scale) == (LakeType.DECIMAL, precision, scale)


@pytest.mark.parametrize(("precision", "scale"), [(39, 0), (5, -2), (3, 5), (1000, 1000)])
def test_any_other_number_is_held_by_its_text(precision: int, scale: int) -> None:
    found = numeric(precision, scale)
    assert isinstance(found, LakeColumn)
    assert found.by_text


@pytest.mark.parametrize("name", sorted({*EXACT, *BY_TEXT}))
def test_the_page_has_every_type(name: str) -> None:
    assert f"`{SPELLED.get(name, name)}`" in PAGE[PAGE.index("## Types") :]


def test_the_page_has_every_setting_that_is_pinned() -> None:
    for name, value in digest_sql.PINNED.items():
        assert f"`{name} {value.split(',')[0]}`" in PAGE


def test_the_fingerprint_changes_with_all_that_matters() -> None:
    column = LakeColumn("x", "integer", LakeType.INT32, nullable=True)
    others = [
        replace(column, name="y"),
        replace(column, pg_type="posint"),
        replace(column, type=LakeType.INT64),
        replace(column, nullable=False),
        replace(column, by_text=True),
    ]
    columns = [[column], *([each] for each in others), [column, others[0]], [others[0], column], []]
    assert len({schema_fingerprint(each) for each in columns}) == len(columns)
