"""Documents become commands on a real broker, a serving process applies them, and their outcomes come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import Counter

from tests.support.clients.submitting import Submitting, submitting
from tests.support.engine.submissions import SERVICE, caller
from tests.support.faults.broker_wire import BrokerWire
from tests.support.servers.installation import Installation
from tests.support.waiting import HANGING_S, eventually
from tidemill.domain.errors import RequestRefused
from tidemill.domain.messages import Outcome
from tidemill.domain.request_codes import RequestCode
from tidemill.runtime.telemetry.metrics import SUBMISSION_OUTCOMES
from tidemill.security.principals import Principal, PrincipalKind
from tidemill.submissions.preconditions import Precondition
from tidemill.submissions.requests import DocumentVerb, SubmissionResult

CREATE, REPLACE, PATCH, DELETE = DocumentVerb
WRITES = 300


@pytest.fixture
async def http(served: Installation) -> AsyncIterator[Submitting]:
    async with submitting(served) as opened:
        yield opened


@pytest.fixture
def symbol() -> str:
    """A symbol that no other test of the module uses."""
    return "T" + uuid4().hex[:8].upper()


def tick(symbol: str, **fields: Any) -> dict[str, Any]:
    return {"symbol": symbol, "time": "2026-11-30T10:00:00Z", "price": 10.5, "source": "test"} | fields


def config(**fields: Any) -> dict[str, Any]:
    return {"name": uuid4().hex, "config_data": {"type": "rest", "limits": [1, 2.5]}} | fields


def rows(served: Installation, symbol: str) -> int:
    found = served.fetch("select count(*) as rows from public.market_data where symbol = $1", symbol)
    return int(found[0]["rows"])


def outcome_of(result: SubmissionResult) -> tuple[Outcome | None, Outcome | None, str | None]:
    return result.outcome, result.original, result.code


@contextmanager
def counted(source: str) -> Iterator[list[float]]:
    """Count the outcomes that came from a source while the block ran."""
    counter: Counter = SUBMISSION_OUTCOMES.labels(source)
    before = counter._value.get()
    found: list[float] = []
    yield found
    found.append(counter._value.get() - before)


async def test_a_fact_is_applied_once_however_often_it_is_sent(
    http: Submitting, served: Installation, symbol: str
) -> None:
    who = caller(str(uuid4()))
    first = await http.write("market-data", CREATE, tick(symbol), who=who)
    assert outcome_of(first) == (Outcome.APPLIED, None, None)
    assert first.affected_rows == 1
    assert first.token is not None
    assert first.transaction_id is not None
    again = await http.write("market-data", CREATE, tick(symbol), who=who)
    assert outcome_of(again) == (Outcome.DUPLICATE, Outcome.APPLIED, None)
    reused = await http.write("market-data", CREATE, tick(symbol, price=1.0), who=who)
    assert outcome_of(reused) == (Outcome.REJECTED, None, "ID_REUSE")
    assert rows(served, symbol) == 1


async def test_a_second_service_with_one_uuid_is_told_of_its_own_command_alone(
    http: Submitting, served: Installation, symbol: str
) -> None:
    key, bank = str(uuid4()), Principal("bank", PrincipalKind.SERVICE, SERVICE.grants)
    assert (await http.write("market-data", CREATE, tick(symbol), who=caller(key))).applied
    other = await http.write("market-data", CREATE, tick(symbol, price=1.0), who=caller(key, bank))
    assert outcome_of(other) == (Outcome.REJECTED, None, "ID_REUSE")
    assert other.message == "the id was first used for another command"
    equal = await http.write("market-data", CREATE, tick(symbol), who=caller(key, bank))
    assert outcome_of(equal) == (Outcome.DUPLICATE, Outcome.APPLIED, None)
    assert rows(served, symbol) == 1
    with pytest.raises(RequestRefused) as refused:
        await http.use_cases.status.outcome_of(key, bank)
    assert refused.value.request_code is RequestCode.ID_TAKEN


async def test_two_with_one_key_at_once_have_one_effect(
    http: Submitting, served: Installation, symbol: str
) -> None:
    who = caller(str(uuid4()))
    results = await asyncio.gather(
        *(http.write("market-data", CREATE, tick(symbol), who=who) for _ in range(5))
    )
    assert all(result.applied for result in results)
    assert sum(result.outcome is Outcome.APPLIED for result in results) == 1
    assert rows(served, symbol) == 1


async def test_a_rejection_comes_with_its_code(http: Submitting, symbol: str) -> None:
    result = await http.write("market-data", CREATE, tick(symbol, time="1901-01-01T00:00:00Z"))
    assert outcome_of(result) == (Outcome.REJECTED, None, "INVALID")
    assert "time 1901-01-01" in (result.message or "")


async def test_a_document_lives_through_all_of_its_verbs(http: Submitting, served: Installation) -> None:
    created = await http.write("client-configs", CREATE, config())
    key = created.key
    assert key is not None
    assert (created.outcome, created.version) == (Outcome.APPLIED, 1)
    patched = await http.write(
        "client-configs",
        PATCH,
        {"config_data": {"b": 1, "a": 2}},
        key,
        precondition=Precondition(1, exists=True),
    )
    assert (patched.outcome, patched.version) == (Outcome.APPLIED, 2)
    stale = await http.write(
        "client-configs", PATCH, {"name": "late"}, key, precondition=Precondition(1, exists=True)
    )
    assert outcome_of(stale) == (Outcome.REJECTED, None, "VERSION_CONFLICT")
    replaced = await http.write(
        "client-configs", REPLACE, config(name="whole"), key, precondition=Precondition(exists=True)
    )
    assert replaced.outcome is Outcome.APPLIED
    (row,) = served.fetch(
        "select name, config_data::text as data, version from public.client_configs where id = $1", key
    )
    assert (row["name"], row["version"]) == ("whole", 3)
    deleted = await http.write("client-configs", DELETE, None, key)
    assert deleted.outcome is Outcome.APPLIED
    gone = await http.write("client-configs", DELETE, None, key)
    assert outcome_of(gone) == (Outcome.REJECTED, None, "NOT_FOUND")


async def test_a_part_is_deleted_by_its_own_key_and_a_repeat_is_answered(http: Submitting) -> None:
    user = await http.write("users", CREATE, user_body())
    analysis = await http.write("data-analyses", CREATE, {"user_id": user.key, "name": "a", "kind": "k"})
    assert analysis.outcome is Outcome.APPLIED, analysis
    file = {
        "data_analysis_id": analysis.key,
        "filename": "f.csv",
        "file_type": "text/csv",
        "size_bytes": "12",
        "sha256": "0" * 64,
        "location": "s3://bucket/f.csv",
    }
    made = await http.write("analysis-files", CREATE, file)
    assert made.outcome is Outcome.APPLIED, made
    who = caller(str(uuid4()))
    first = await http.write("analysis-files", DELETE, None, made.key, who=who)
    again = await http.write("analysis-files", DELETE, None, made.key, who=who)
    assert (first.outcome, again.applied) == (Outcome.APPLIED, True)
    with pytest.raises(RequestRefused) as refused:
        await http.write("analysis-files", DELETE, None, made.key)
    assert refused.value.request_code is RequestCode.NO_DOCUMENT


def user_body() -> dict[str, Any]:
    name = uuid4().hex
    hashed = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQxMjM0NTY$L1pPYb0Tg6W0s8Zb5w0u2wZ0Z5c0n0m1q2r3s4t5u6w"
    return {"username": name, "email": f"{name}@example.org", "hashed_password": hashed}


async def test_a_step_of_a_life_is_a_command_by_its_name(http: Submitting) -> None:
    proposal = await http.write("service-proposals", CREATE, {"title": "t", "proposal_data": {"a": 1}})
    result = await http.use_cases.writes.command(
        "SubmitServiceProposal", {"service_proposal_id": proposal.key}, caller(), 30.0
    )
    assert result.outcome is Outcome.APPLIED
    result = await http.use_cases.writes.command(
        "AcceptServiceProposal", {"service_proposal_id": proposal.key}, caller(), 30.0
    )
    assert result.outcome is Outcome.APPLIED


async def test_lines_are_applied_each_once(
    http: Submitting, served: Installation, symbol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a repeat that is looked up before its acknowledgement cannot be told from the first one
    monkeypatch.setattr("tidemill.submissions.waits.LOOKS_S", (20.0,))
    lines = [http.request("market-data", CREATE, tick(symbol, price=float(price))) for price in range(200)]
    for expected in (Outcome.APPLIED, Outcome.DUPLICATE):
        results = await http.use_cases.writes.lines(lines, caller(f"batch {symbol}"), 60.0)
        assert {getattr(result, "outcome", result) for result in results} == {expected}
    assert rows(served, symbol) == 200


async def test_a_wait_that_is_over_is_answered_by_the_id(http: Submitting, symbol: str) -> None:
    who = caller(str(uuid4()))
    result = await http.write("market-data", CREATE, tick(symbol), who=who, wait_s=0)
    assert result.outcome is None
    found = await http.until_known(http.request("market-data", CREATE, tick(symbol)), who)
    assert found.applied
    told = await http.use_cases.status.outcome_of(result.command_id, SERVICE)
    assert told.outcome is Outcome.APPLIED


async def test_without_replies_the_log_tells_every_outcome(served: Installation, symbol: str) -> None:
    async with submitting(served, with_replies=False) as http:
        with counted("log") as by_log, counted("reply") as by_reply:
            results = await asyncio.gather(
                *(http.write("market-data", CREATE, tick(symbol, price=float(price))) for price in range(20))
            )
        assert {result.outcome for result in results} == {Outcome.APPLIED}
        assert (by_log, by_reply) == ([20.0], [0.0])
        assert all(result.token is not None for result in results)


async def test_a_reply_ends_a_wait_without_the_log(
    http: Submitting, symbol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replies are best effort: a busy process drops some, so it is tried until one comes."""
    monkeypatch.setattr("tidemill.submissions.waits.LOOKS_S", ())

    async def came() -> bool:
        with counted("reply") as by_reply:
            result = await http.write("market-data", CREATE, tick(symbol), wait_s=5.0)
        assert result.outcome in {Outcome.APPLIED, None}
        return by_reply == [1.0]

    await eventually(came, what="a reply")


async def test_a_halted_lane_is_told_at_once(http: Submitting, served: Installation, symbol: str) -> None:
    lane = (await http.write("market-data", CREATE, tick(symbol))).token
    assert lane is not None
    served.execute(
        "insert into tm.halt (lane, code, detail) select lane, 'UNFETCHABLE', 'by design' from tm.lane "
        f"where aggregate = 'market-data' and partition = {lane.partition}"
    )
    http.use_cases.submitter._halted._asked_s = float("-inf")
    with pytest.raises(RequestRefused) as refused:
        await http.write("market-data", CREATE, tick(symbol))
    served.execute("delete from tm.halt")
    assert refused.value.request_code is RequestCode.LANE_HALTED


async def test_a_broker_that_is_unavailable_is_told_and_the_same_key_is_applied_once(
    served: Installation, symbol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = BrokerWire(served.environment["TIDEMILL_KAFKA_BOOTSTRAP"], Random(1))
    who = caller(str(uuid4()))
    async with wire.open(monkeypatch), submitting(served, call_timeout_s=5.0) as http:
        sender = http.use_cases.submitter._parts.sender
        monkeypatch.setattr(sender, "_timeout_s", 1.0)
        request = http.request("market-data", CREATE, tick(symbol))
        await http.write("market-data", CREATE, tick(symbol, price=1.0))
        wire.loss = 1.0
        wire.cut()
        with pytest.raises(RequestRefused) as refused:
            await http.use_cases.writes.write(request, who, 1.0)
        assert refused.value.request_code is RequestCode.BUS_AWAY
        wire.loss = 0.0
        assert (await asyncio.wait_for(http.until_known(request, who), HANGING_S)).applied
    assert rows(served, symbol) == 2


async def test_every_key_is_applied_once_though_answers_are_lost_at_random(
    served: Installation, symbol: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = BrokerWire(served.environment["TIDEMILL_KAFKA_BOOTSTRAP"], Random(seed))
    at_once = asyncio.Semaphore(20)
    async with wire.open(monkeypatch), submitting(served, call_timeout_s=5.0) as http:
        sender = http.use_cases.submitter._parts.sender
        monkeypatch.setattr(sender, "_timeout_s", 2.0)
        wire.loss = 0.05
        wire.lose_next()

        async def written(number: int) -> SubmissionResult:
            request = http.request("market-data", CREATE, tick(symbol, price=float(number)))
            async with at_once:
                return await http.until_known(request, caller(f"{symbol} {number}"))

        results = await asyncio.gather(*(written(number) for number in range(WRITES)))
        wire.loss = 0.0
    assert wire.losses > 0
    assert {result.applied for result in results} == {True}
    found = served.fetch(
        "select count(*) as rows, count(distinct price) as prices from public.market_data where symbol = $1",
        symbol,
    )
    assert (found[0]["rows"], found[0]["prices"]) == (WRITES, WRITES)


async def test_a_process_that_stops_forgets_nothing_that_it_accepted(
    served: Installation, symbol: str
) -> None:
    async with submitting(served) as http:
        writing = [
            asyncio.create_task(http.write("market-data", CREATE, tick(symbol, price=float(price))))
            for price in range(50)
        ]
        while http.use_cases.submitter.in_flight < 50:
            await asyncio.wait(writing, timeout=0.001)
        await asyncio.wait_for(http.use_cases.submitter.drain(), HANGING_S)
        assert all(task.done() for task in writing)
        with pytest.raises(RequestRefused) as refused:
            await http.write("market-data", CREATE, tick(symbol))
    assert refused.value.request_code is RequestCode.DRAINING
    assert {task.result().outcome for task in writing} <= {Outcome.APPLIED, None}
    assert len(http.journal.entries) == 50
