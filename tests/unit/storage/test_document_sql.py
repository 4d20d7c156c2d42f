"""The query of one document: names are quoted, and come from the declaration."""

from __future__ import annotations

import pytest

from tests.support.engine.entity_contexts import items
from tests.support.engine.submissions import COLLECTIONS
from tidemill.domain.errors import ContractError
from tidemill.storage.submissions.documents import document_sql


def test_a_document_is_read_by_its_key() -> None:
    table = COLLECTIONS["analysis-files"].table
    assert document_sql(table, ("id",), ("data_analysis_id", "version")) == (
        "select data_analysis_id, version from public.analysis_files_view where id = $1"
    )
    assert document_sql(table, ("id",), ()) == "select 1 from public.analysis_files_view where id = $1"


def test_words_of_sql_are_quoted() -> None:
    view = items.view
    assert view is not None
    assert document_sql(view.table, ("id",), ("order",)) == (
        f'select "order" from public.{view.table.name} where id = $1'
    )


@pytest.mark.parametrize(("key", "names"), [((), ()), (("id", "name"), ()), (("id",), ("no_such",))])
def test_only_declared_columns_are_read(key: tuple[str, ...], names: tuple[str, ...]) -> None:
    with pytest.raises(ContractError):
        document_sql(COLLECTIONS["users"].table, key, names)
