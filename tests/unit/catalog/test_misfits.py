"""Tables that are not as declared: whose they are, what would put them right, and the gate before their stream."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tidemill.catalog.misfits import Misfit, MisfitReader, advice_on
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.catalog.table_gate import TableGate
from tidemill.catalog.tables import Difference, Kind
from tidemill.contexts.market_data import context
from tidemill.domain.errors import TableMisfit
from tidemill.domain.projection import Projection
from tidemill.domain.stream import Stream

STREAM = Stream.of(context)
CATALOG = StreamCatalog({context.aggregate: ContextStream(context, STREAM)})
LACKS = Difference("public.market_data", "column price is missing", Kind.MISSING, sql="alter table ...")
UNSEEN = Difference("public.users_view", "the view is missing", Kind.MISSING, harmless=True)
EXTRA = Difference("public.market_data", "column note is not declared", Kind.EXTRA)


class Tables:
    """Tables with these differences, and revisions that are not applied."""

    def __init__(
        self,
        stream: Sequence[Difference] = (),
        read_model: Sequence[Difference] = (),
        lacks: Sequence[str] = (),
    ) -> None:
        self.stream, self.read_model, self.lacks = list(stream), list(read_model), lacks
        self.asked = 0

    async def stream_differences(self, stream: Stream) -> list[Difference]:
        return self.stream

    async def projection_differences(self, projection: Projection) -> list[Difference]:
        return self.read_model if projection.name == "latest-quotes" else []

    async def missing(self) -> Sequence[str]:
        self.asked += 1
        return self.lacks


async def misfits(tables: Tables) -> list[Misfit]:
    return await MisfitReader(tables, tables).of(CATALOG)


async def test_revisions_are_looked_up_once_however_many_misfits_there_are() -> None:
    tables, fitting = Tables([LACKS], [LACKS]), Tables([EXTRA])
    assert len(await misfits(tables)) == 2
    assert await misfits(fitting) == []
    assert (tables.asked, fitting.asked) == (1, 0)


async def test_only_what_breaks_a_promise_is_a_misfit() -> None:
    assert await misfits(Tables([EXTRA], [EXTRA])) == []


async def test_what_breaks_nothing_is_told_apart_and_what_is_extra_is_not_told() -> None:
    tables = Tables([LACKS, UNSEEN, EXTRA], [UNSEEN])
    survey = await MisfitReader(tables, tables).survey(CATALOG)
    assert [list(misfit.differences) for misfit in survey.misfits] == [[LACKS]]
    assert survey.harmless == [UNSEEN, UNSEEN]


async def test_a_misfit_says_whose_it_is() -> None:
    found = await misfits(Tables([LACKS, EXTRA], [LACKS]))
    assert [(each.aggregate, each.projection) for each in found] == [
        ("market-data", None),
        ("market-data", "latest-quotes"),
    ]
    assert [list(each.differences) for each in found] == [[LACKS], [LACKS]]


@pytest.mark.parametrize(
    ("differences", "missing", "said"),
    [
        ([LACKS], ["m002", "m003"], "run `tidemill migrate`: m002, m003 are not applied"),
        ([LACKS], [], "no migration is pending; this would fix it: alter table ..."),
        ([EXTRA], [], "change it to what is declared, or deploy a version that declares the present table"),
    ],
)
def test_the_advice_is_to_migrate_only_where_that_would_do_something(
    differences: Sequence[Difference], missing: Sequence[str], said: str
) -> None:
    assert advice_on(differences, missing) == said


async def test_the_gate_is_shut_while_a_promise_cannot_be_kept_and_opens_by_itself() -> None:
    tables = Tables([LACKS], lacks=["m002"])
    gate = TableGate(STREAM, tables, tables)
    assert not await gate.look()
    assert gate.standing() == {
        "code": "TABLE_MISFIT",
        "differences": [str(LACKS)],
        "next": "run `tidemill migrate`: m002 are not applied",
    }
    with pytest.raises(TableMisfit, match="price is missing"):
        await gate.demand()
    tables.stream = [EXTRA]
    assert await gate.look()
    await gate.demand()


async def test_an_error_that_is_not_about_tables_is_not_the_gates() -> None:
    gate = TableGate(STREAM, Tables(), Tables())
    assert not gate.blame(ValueError("another"))
    assert gate.blame(TableMisfit("no such column"))
    assert gate.standing()["differences"] == ["no such column"]
