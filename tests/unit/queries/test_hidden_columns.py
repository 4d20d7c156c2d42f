"""What is hidden from a principal does not exist for it, and one collection is made for each set of hidden columns."""

from __future__ import annotations

from tests.support.engine.collections import all_collections, samples


def test_a_hidden_column_is_not_there() -> None:
    collections = all_collections()
    visible = collections.visible(samples.name, frozenset({"name", "no_such_column"}))
    assert visible.column("name") is None
    assert set(visible.columns) == set(samples.columns) - {"name"}
    assert visible.hidden == {"name"}


def test_equal_hidden_columns_have_one_collection() -> None:
    collections = all_collections()
    hidden = collections.visible(samples.name, frozenset({"name"}))
    assert collections.visible(samples.name, frozenset({"name", "other"})) is hidden
    assert collections.visible(samples.name, frozenset({"other"})) is collections.visible(samples.name)
