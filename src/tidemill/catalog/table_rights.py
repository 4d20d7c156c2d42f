"""The rights that logins need on a context's tables: what lacks, and the statements that grant it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tidemill.catalog.tables import (
    READER_ROLE,
    SERVICE_ROLE,
    Declared,
    DeclaredView,
    Difference,
    FoundTable,
    Kind,
)


def table_grants(declared: Declared) -> list[str]:
    """Return the statements that grant what a new table's logins need."""
    # the audit counts the rows of every table, also of those that are only added to
    own = [_grant(declared.name, declared.rights.union({"select"}) - {"usage"})]
    return [*own, reader_grant(declared.name)] if declared.readers else own


def reader_grant(name: str) -> str:
    """Return the statement by which the reading login may select from a table or view."""
    return _grant(name, ["select"], READER_ROLE)


def service_rights(declared: Declared, found: FoundTable) -> Iterator[Difference]:
    """Yield the rights that the writing login lacks."""
    lacking = {right for right in declared.rights if not _may(right, declared, found)}
    if "usage" in lacking:
        what, sql = (
            f"{found.login} may not use schema {declared.schema}",
            schema_grant(declared.schema, SERVICE_ROLE),
        )
        undo = f"revoke usage on schema {declared.schema} from {SERVICE_ROLE}"
        yield Difference(declared.name, what, Kind.MISSING, sql, undo=undo)
    if rights := lacking - {"usage"}:
        what = f"{found.login} may not {', '.join(sorted(rights))}"
        sql, undo = _grant(declared.name, rights), _revoke(declared.name, rights)
        yield Difference(declared.name, what, Kind.MISSING, sql, undo=undo)


def reader_rights(declared: Declared | DeclaredView, actual: FoundTable) -> Iterator[Difference]:
    """Yield the rights that the reading login lacks: no write depends on them."""
    if not declared.readers:
        return
    if "usage" not in actual.readers:
        what, sql = (
            f"{READER_ROLE} may not use schema {declared.schema}",
            schema_grant(declared.schema, READER_ROLE),
        )
        undo = f"revoke usage on schema {declared.schema} from {READER_ROLE}"
        yield Difference(declared.name, what, Kind.MISSING, sql, harmless=True, undo=undo)
    if "select" not in actual.readers:
        what, undo = f"{READER_ROLE} may not select", _revoke(declared.name, ["select"], READER_ROLE)
        sql = reader_grant(declared.name)
        yield Difference(declared.name, what, Kind.MISSING, sql, harmless=True, undo=undo)


def schema_grant(schema: str, roles: str) -> str:
    """Return the statement by which roles may use a schema."""
    return f"grant usage on schema {schema} to {roles}"


def _grant(name: str, rights: Collection[str], role: str = SERVICE_ROLE) -> str:
    return f"grant {', '.join(sorted(rights))} on {name} to {role}"


def _revoke(name: str, rights: Collection[str], role: str = SERVICE_ROLE) -> str:
    return f"revoke {', '.join(sorted(rights))} on {name} from {role}"


def _may(right: str, declared: Declared, found: FoundTable) -> bool:
    """Tell whether a right exists: on the table, or on every column that it is needed for."""
    if right in found.rights:
        return True
    needed = declared.filled if right == "insert" else {each.name for each in declared.columns}
    held = {each.name for each in found.columns if right in each.rights}
    return bool(needed) and needed <= held
