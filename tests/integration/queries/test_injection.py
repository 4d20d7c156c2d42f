"""What a client writes never becomes SQL: only statements run that a harmless text leads to (T5)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Final

import asyncpg
import pytest

from tests.support.engine.collections import all_collections, insert, random_row
from tests.support.http.sizes import sized
from tidemill.domain.errors import RequestRefused
from tidemill.queries.reader import CollectionReader
from tidemill.queries.request import page_request
from tidemill.queries.request_body import body_request
from tidemill.storage.database.pool import create_pool
from tidemill.storage.queries.rows import CollectionDatabase

TEXTS = sized(60, 5_000)
SAMPLES = all_collections().visible("samples")
ROWS = 5

_BREAKS: Final = (
    "'",
    '"',
    "''",
    '\\"',
    "\\'",
    "')",
    '")',
    "$1",
    "$$",
    "%27",
    "\u02bc",
    "\uff07",
    "`",
    "/*",
    "E'\\x27",
    ")",
    "]",
)
_BODIES: Final = (
    " or 1=1", " or true", " union select 1,2,3", " union all select usename from pg_user", "; drop table samples",
    "; select pg_sleep(60)", " and (select pg_sleep(60)) is null", "||(select current_user)", "::regclass",
    "; set role postgres", "; reset role", "; copy samples to program 'id'", " returning *", "; commit; begin",
    " order by (select 1/0)", "; do $x$ begin perform 1; end $x$", ".pg_catalog.pg_user", "\nselect 1", " limit all",
)  # fmt: skip
_ENDS: Final = ("", "--", " -- ", "/*", ";", "'", '"', "#", "\t", "{}", "%s", "%(x)s", ":x", "\r\n")


class Asking:
    """Asks for things, and says which statements ran."""

    def __init__(self, reader: CollectionReader, statements: list[str]) -> None:
        self._reader = reader
        self._statements = statements

    async def body(self, body: dict[str, Any]) -> tuple[str, ...]:
        """Return the statements of a request as JSON; none, if it was refused."""
        return await self._ran(lambda: self._reader.page(SAMPLES, body_request(SAMPLES, body)))

    async def pairs(self, *pairs: tuple[str, str]) -> tuple[str, ...]:
        """Return the statements of a request as parameters."""
        return await self._ran(lambda: self._reader.page(SAMPLES, page_request(SAMPLES, pairs)))

    async def document(self, key: str) -> tuple[str, ...]:
        """Return the statements of a read by key."""
        return await self._ran(lambda: self._reader.document(SAMPLES, [key]))

    async def _ran(self, ask: Any) -> tuple[str, ...]:
        self._statements.clear()
        try:
            await ask()
        except RequestRefused:
            assert self._statements == [], "what is refused asks nothing"
        return tuple(self._statements)


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[Asking]:
    pool = await create_pool(f"{url}?role=tidemill_reader", application_name="reads", size=1, writes=False)
    statements: list[str] = []
    async with pool.acquire() as borrowed:
        borrowed.add_query_logger(lambda record: statements.append(record.query))
    asked = Asking(CollectionReader(CollectionDatabase(pool, pool), key=b"k"), statements)
    await asked.body({})  # the first page of a session also sets what pages need
    try:
        yield asked
    finally:
        await pool.close()


def injections(source: Random) -> Iterator[str]:
    """Yield texts as scanners send them: something that ends a literal or a name, SQL, and an end."""
    while True:
        text = source.choice(_BREAKS) + source.choice(_BODIES) + source.choice(_ENDS)
        yield source.choice((text, f"a{text}", f"name{text}", text.upper(), text.replace(" ", "/**/")))


def each_test(name: str, text: str) -> Iterator[dict[str, Any]]:
    """Yield every test of a field with a text as its value, alone and in a list."""
    for operator in sorted(SAMPLES.columns[name].type.operators):
        yield {name: {operator: text}}
        yield {name: {operator: [text]}}


@pytest.mark.timeout(3600)
async def test_a_text_in_a_value_or_a_name_never_becomes_sql(samples_url: str, seed: int) -> None:
    source = Random(seed)
    await insert(samples_url, SAMPLES, [random_row(source, number) for number in range(ROWS)])
    texts = list(itertools.islice(injections(source), TEXTS))
    async with asking(samples_url) as asked:
        for name in SAMPLES.columns:
            usual = [await asked.body({"where": test}) for test in each_test(name, "a")]
            for text in texts:
                number, test = source.choice(list(enumerate(each_test(name, text))))
                assert await asked.body({"where": test}) in {(), usual[number]}, test
        document = await asked.document("a")
        assert len(document) == 1
        for text in texts:
            assert await asked.document(text) in {(), document}
            name = source.choice(list(SAMPLES.columns))
            for body in (
                {"where": {text: {"eq": "a"}}},
                {"where": {name: {text: "a"}}},
                {"where": {f"{name}{text}": {"eq": "a"}}},
                {"sort": [text]},
                {"sort": [f"-{name}{text}"]},
                {"fields": [f"{name}{text}"]},
                {"after": text},
                {"limit": text},
            ):
                assert await asked.body(body) == (), body
            for pair in (
                (f"{name}{text}", "a"),
                (f"{name}.{text}", "a"),
                ("_sort", f"{name}{text}"),
                ("_fields", f"{name}{text}"),
                ("_after", text),
                ("_where", text),
                (text, "a"),
            ):
                assert await asked.pairs(pair) == (), pair
    owner = await asyncpg.connect(samples_url)
    assert await owner.fetchval("select count(*) from samples") == ROWS
    await owner.close()


async def test_a_statement_that_is_not_the_usual_one_is_seen(samples_url: str) -> None:
    async with asking(samples_url) as asked:
        usual = await asked.body({"where": {"name": {"eq": "a"}}})
        assert usual
        assert await asked.body({"where": {"name": {"eq": "b' or 1=1 --"}}}) == usual
        assert await asked.body({"where": {"name": {"neq": "a"}}}) != usual
