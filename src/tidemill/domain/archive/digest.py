"""The digest's name and its test vectors. It is specified in `docs/archival.md`."""

from __future__ import annotations

from typing import Final, NamedTuple

from tidemill.domain.archive.slices import LakeColumn, LakeType

DIGEST_VERSION: Final = "v1"


class ValueVector(NamedTuple):
    """The hash of one value.

    `literal` is what PostgreSQL reads as `pg_type`, `hashed` the bytes that are hashed (hexadecimal), `hash` the 64
    resulting bits (hexadecimal).
    """

    pg_type: str
    literal: str
    hashed: str
    hash: str

    @property
    def columns(self) -> tuple[LakeColumn, ...]:
        """Return the one column that holds the value."""
        return vector_columns((self.pg_type,))


class RowsVector(NamedTuple):
    """The digest of some rows: `pg_types` of the columns, values as literals, None for NULL."""

    pg_types: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    digest: str

    @property
    def columns(self) -> tuple[LakeColumn, ...]:
        """Return the columns, named c0, c1, ...; c0 is the time column."""
        return vector_columns(self.pg_types)


_TYPES: Final = {
    "boolean": LakeType.BOOLEAN,
    "smallint": LakeType.INT16,
    "integer": LakeType.INT32,
    "bigint": LakeType.INT64,
    "real": LakeType.FLOAT32,
    "double precision": LakeType.FLOAT64,
    "text": LakeType.TEXT,
    "bytea": LakeType.BYTES,
    "uuid": LakeType.UUID,
    "date": LakeType.DATE,
    "time": LakeType.TIME,
    "timestamp": LakeType.TIMESTAMP,
    "timestamptz": LakeType.INSTANT,
}
_DECIMALS: Final = {"numeric(18,4)": (18, 4), "numeric(38,20)": (38, 20)}

VALUE_VECTORS: Final = (
    ValueVector("boolean", "true", "01000000", "cd0f69c48e731746"),
    ValueVector("boolean", "false", "00000000", "39a825beefbec0af"),
    ValueVector("smallint", "-32768", "0080ffff", "7557e9580b8ad156"),
    ValueVector("integer", "2147483647", "ffffff7f", "8195f04afa3b9613"),
    ValueVector("integer", "-1", "ffffffff", "e5cb8f9016fe094a"),
    ValueVector("bigint", "1", "0000000000000001", "8b724ea0ff5b62b0"),
    ValueVector("bigint", "4294967296", "0000000100000000", "f48cac393df5f5b0"),
    ValueVector("bigint", "-9223372036854775808", "8000000000000000", "b85ed89d2fcf946f"),
    ValueVector("real", "1.5", "3fc00000", "4b6e3a92adb5a9d7"),
    ValueVector("double precision", "1.5", "3ff8000000000000", "9d8f8c803c08e1ff"),
    ValueVector("double precision", "0", "0000000000000000", "61802f28ef76841c"),
    ValueVector("double precision", "-0", "8000000000000000", "b85ed89d2fcf946f"),
    ValueVector("double precision", "NaN", "7ff8000000000000", "c7cc96263f5e2154"),
    ValueVector("double precision", "-Infinity", "fff0000000000000", "2dae1e4173a6bc1c"),
    ValueVector("numeric(18,4)", "1234.5", "3132333435303030", "41c9f8f2d1148359"),
    ValueVector("numeric(18,4)", "-0.0001", "2d31", "e503cea29c1728d7"),
    ValueVector("numeric(38,20)", "0", "30", "1f0320988a88ffec"),
    ValueVector("text", "", "", "9fb1b765a7ea466d"),
    ValueVector("text", "abcdefghijk", "6162636465666768696a6b", "2b3346a5a78ef3d3"),
    ValueVector("text", "abcdefghijkl", "6162636465666768696a6b6c", "97216e83a1763ad4"),
    ValueVector("text", "Grüße, 世界 🌍", "4772c3bcc39f652c20e4b896e7958c20f09f8c8d", "245ee45471a0189e"),
    ValueVector("bytea", "\\x00ff", "00ff", "800a99bbe8c9ba5a"),
    ValueVector(
        "uuid", "6f9619ff-8b86-d011-b42d-00c04fc964ff", "6f9619ff8b86d011b42d00c04fc964ff", "01e2ce1f05c27a13"
    ),
    ValueVector("date", "2000-01-01", "00000000", "39a825beefbec0af"),
    ValueVector("date", "0001-01-01", "fff4dbf9", "d2e14c049cb110ff"),
    ValueVector("time", "12:34:56.789", "0000000a8be62608", "26c636fdf89cab52"),
    ValueVector("timestamp", "2026-03-01 12:00:00.000001", "0002eef3fa773001", "9c2ac391559e55d5"),
    ValueVector("timestamptz", "2026-03-01 12:00:00.000001+00", "0002eef3fa773001", "9c2ac391559e55d5"),
    ValueVector("timestamptz", "9999-12-31 23:59:59.999999+00", "0380e70b913b7fff", "08be15cfbb029f37"),
    ValueVector(
        "interval", "1 mon 2 days 03:04:05", "31206d6f6e203220646179732030333a30343a3035", "32b0f86ed056fa48"
    ),
    ValueVector("jsonb", '{"b":[1,2]}', "7b2262223a205b312c20325d7d", "8d6d802966132106"),
    ValueVector("integer[]", "{{1,2},{3,NULL}}", "7b7b312c327d2c7b332c4e554c4c7d7d", "ab70c7f8aa00100a"),
    ValueVector("numeric", "1e3", "31303030", "8db3d87380d297b9"),
)

_TICK: Final = ("timestamptz", "text", "double precision", "bigint")
_NOON: Final = "2026-03-01 12:00:00.000001+00"

ROWS_VECTORS: Final = (
    RowsVector(_TICK, (), "v1:0000000000000000:0000000000000000"),
    RowsVector(_TICK, ((_NOON, "AAPL", "1.5", "1"),), "v1:ed71258885da6334:ed71258885da6334"),
    RowsVector(
        _TICK,
        ((_NOON, "AAPL", "1.5", "1"), (_NOON, None, "-0", None)),
        "v1:787e114beaae2eb5:667dce4be109a8b5",
    ),
    RowsVector(  # the same values in the same columns, but the texts changed rows
        _TICK,
        ((_NOON, None, "1.5", "1"), (_NOON, "AAPL", "-0", None)),
        "v1:59fef6b32fdcf5d0:55fef14ccfdcf52e",
    ),
    RowsVector(_TICK, ((_NOON, "AAPL", "1.5", "1"),) * 2, "v1:dae24b110bb4c668:0000000000000000"),
)


def vector_columns(pg_types: tuple[str, ...]) -> tuple[LakeColumn, ...]:
    """Return columns named c0, c1, ... of types that vectors use."""
    return tuple(_column(f"c{index}", pg_type) for index, pg_type in enumerate(pg_types))


def _column(name: str, pg_type: str) -> LakeColumn:
    if pg_type in _DECIMALS:
        precision, scale = _DECIMALS[pg_type]
        return LakeColumn(name, pg_type, LakeType.DECIMAL, nullable=True, precision=precision, scale=scale)
    kind = _TYPES.get(pg_type)
    return LakeColumn(name, pg_type, kind or LakeType.TEXT, nullable=True, by_text=kind is None)
