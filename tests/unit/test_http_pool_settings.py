"""The pools of `serve http` as settings have them: a number is named, the others keep their defaults."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from tidemill.admin.service.pool_config import POOLS, PoolConfig
from tidemill.settings.http_pools import HttpPoolSettings


def test_without_settings_each_class_has_its_default() -> None:
    assert HttpPoolSettings().pools() == POOLS
    assert {pool.name: pool.size for pool in POOLS} == {
        "read": 8,
        "page": 8,
        "count": 2,
        "stream": 2,
        "write": 4,
    }


def test_each_class_is_set_by_itself() -> None:
    settings = HttpPoolSettings(
        pool_read="size=16, min_size=4, overflow=8,acquire_s=0.5,recycle_s=60,ping_after_s=5"
    )
    read, *others = settings.pools()
    given = PoolConfig(
        name="read", size=16, min_size=4, overflow=8, acquire_s=0.5, recycle_s=60.0, ping_after_s=5.0
    )
    assert read == replace(given, cleans=False), "what is no setting stays as the class has it"
    assert tuple(others) == POOLS[1:]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("16", "NAME=NUMBER with a name of size, min_size"),
        ("sizes=3", "got 'sizes=3'"),
        ("cleans=0", "got 'cleans=0'"),
        ("size=many", "expected a number for size, got 'many'"),
        ("size=1.5", "expected a number for size, got '1.5'"),
        ("size=0", "size from 1 to 1000"),
        ("overflow=-1", "overflow from 0"),
        ("min_size=9", "min_size from 0 to size, which is 8"),
        ("acquire_s=0", "acquire_s up to 60"),
        ("acquire_s=nan", "acquire_s up to 60"),
        ("recycle_s=0", "recycle_s from 1"),
        ("ping_after_s=-1", "not negative"),
    ],
)
def test_a_wrong_number_is_refused_and_the_names_are_listed(text: str, expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        HttpPoolSettings(pool_read=text)
