"""What an archiver is tried on has every type that a copy holds."""

from tests.support.archive import fidelity as edges
from tidemill.storage.retention import fidelity
from tidemill_devkit.archiver_conformance import samples

SHORT = {
    "boolean": "bool",
    "smallint": "int2",
    "integer": "int4",
    "bigint": "int8",
    "real": "float4",
    "double precision": "float8",
    '"char"': "char",
}


def names(some: tuple[samples.Sample, ...]) -> set[str]:
    """Return the names that the rules know types by; `char(n)` is `bpchar` there."""
    found = set()
    for sample in some:
        plain = sample.pg_type.partition("(")[0]
        found.add("bpchar" if plain == "char" else SHORT.get(plain, plain))
    return found


def test_every_exact_type_is_there() -> None:
    assert set(fidelity.EXACT) <= names(samples.EXACT)
    assert "numeric" in names(samples.EXACT)


def test_every_type_by_text_is_there() -> None:
    assert names(samples.BY_TEXT) >= fidelity.BY_TEXT


def test_every_kind_of_lake_type_of_the_fidelity_test_is_there() -> None:
    """An enum, arrays, ranges and domains have no names in the rules."""
    kinds = {"sample_mood", "integer[]", "text[]", "tstzrange", "datemultirange", "sample_count"}
    assert kinds <= {sample.pg_type.removeprefix("public.") for sample in samples.SAMPLES}
    assert {sample.lake for sample in edges.SAMPLES} >= {"int32", "text"}


def test_columns_have_names_of_their_own() -> None:
    columns = [sample.column for sample in samples.SAMPLES]
    assert len(set(columns)) == len(columns)
    assert samples.TIME_COLUMN not in columns
