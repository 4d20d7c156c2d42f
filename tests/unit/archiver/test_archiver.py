"""What the archiver does with requests, on fakes: copies, answers, failures, repeats, drains."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fakes.archiver import Rows, measure
from tests.support.archive.archival import DAY, START, TABLE, chunk, request
from tests.support.archive.archiver_scenes import Scene, SlowReader
from tests.support.waiting import HANGING_S, eventually
from tidemill.archiver.archiver import ArchiverTimeouts
from tidemill.domain.archive.messages import ArchivalStatus
from tidemill.domain.errors import Unavailable, Unreadable

COMPLETED, FAILED, IN_PROGRESS = ArchivalStatus.COMPLETED, ArchivalStatus.FAILED, ArchivalStatus.IN_PROGRESS


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_a_request_is_copied_and_confirmed_chunk_by_chunk(scene: Scene) -> None:
    asked = request(scene.day(1), scene.day(2), attempt=3)
    scene.requests.add(asked)
    async with scene.running():
        await scene.settled()
    started, answer = scene.replies.sent
    assert (started.status, started.event_id, started.attempt) == (IN_PROGRESS, asked.event_id, 3)
    assert (answer.status, answer.archiver_id, answer.attempt) == (COMPLETED, "archiver-1", 3)
    assert (answer.lakehouse_path, answer.lake_format) == (f"memory://lake/{TABLE}", "parquet")
    assert answer.replayed is False
    assert [(each.chunk_name, each.status, each.digest, each.row_count) for each in answer.chunks] == [
        (each.chunk_name, COMPLETED, each.digest, 3) for each in asked.chunks
    ]
    assert [file.row_count for each in answer.chunks for file in each.files] == [3, 3]
    assert len(scene.lake.rows(TABLE)) == 6


async def test_an_empty_chunk_is_confirmed_without_a_file(scene: Scene) -> None:
    empty = scene.day(1, row_count=0, digest=measure([]).digest)
    scene.reader.answers["select 1"] = []
    scene.requests.add(request(empty))
    async with scene.running():
        await scene.settled()
    [result] = scene.replies.sent[-1].chunks
    assert (result.status, result.row_count, result.files, result.min_time) == (COMPLETED, 0, (), None)


async def test_a_chunk_that_differs_fails_by_itself_and_leaves_nothing(scene: Scene) -> None:
    wrong = scene.day(2, digest="v1:0000000000000000:0000000000000000")
    scene.requests.add(request(scene.day(1), wrong, scene.day(3)))
    async with scene.running():
        await scene.settled()
    answer = scene.replies.sent[-1]
    assert answer.status is COMPLETED
    assert [each.error_code for each in answer.chunks] == [None, "DIGEST_DIFFERS", None]
    assert answer.chunks[1].files == ()
    assert len(scene.lake.copies) == 2
    assert len(scene.lake.rows(TABLE)) == 6


async def test_a_digest_that_nobody_gave_is_not_compared(scene: Scene) -> None:
    scene.requests.add(request(scene.day(1, digest=None, row_count=None)))
    async with scene.running():
        await scene.settled()
    assert scene.replies.sent[-1].status is COMPLETED
    assert scene.replies.sent[-1].chunks[0].digest == next(iter(scene.lake.copies.values())).measured.digest


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"columns": ()}, "NO_COLUMNS"),
        ({"time_column": None}, "NO_COLUMNS"),
        ({"time_column": "other"}, "NO_COLUMNS"),
        ({"digest_version": "v2"}, "UNKNOWN_DIGEST"),
        ({"table_name": "readings"}, "UNKNOWN_TABLE"),
        ({"table_name": "../public.readings"}, "UNKNOWN_TABLE"),
        ({"table_name": "public...readings"}, "UNKNOWN_TABLE"),
        ({"event_id": "../../else"}, "BAD_EVENT_ID"),
        ({"supersedes": ("a/b",)}, "BAD_EVENT_ID"),
        ({"chunks": tuple(chunk(number) for number in range(1, 66))}, "TOO_MANY_CHUNKS"),
    ],
)
async def test_what_can_never_be_done_is_answered_at_once(
    scene: Scene, change: dict[str, Any], code: str
) -> None:
    scene.requests.add(request(**{"chunks": (scene.day(1),)} | change))
    async with scene.running():
        await scene.settled()
    [answer] = scene.replies.sent
    assert (answer.status, answer.error_code, answer.retryable) == (FAILED, code, False)
    assert scene.reader.reads == []
    assert scene.lake.writes == 0


async def test_chunks_that_cannot_be_told_apart_or_read_fail_by_themselves(scene: Scene) -> None:
    twice = scene.day(1)
    scene.requests.add(
        request(twice, twice.model_copy(update={"chunk_name": "b"}), scene.day(2, read_sql=None))
    )
    async with scene.running():
        await scene.settled()
    codes = {each.chunk_name: each.error_code for each in scene.replies.sent[-1].chunks}
    assert codes == {twice.chunk_name: None, "b": "REPEATED_SLICE", chunk(2).chunk_name: "NO_READ_SQL"}


@pytest.mark.parametrize(
    ("fault", "code", "retryable"),
    [
        (Unavailable("database", "away"), "DATABASE_AWAY", True),
        (ValueError("1e400 is no float"), "NOT_REPRESENTABLE", False),
        (RuntimeError("a bug"), "CRASHED", True),
    ],
)
async def test_what_reading_raises_is_answered(
    scene: Scene, fault: Exception, code: str, retryable: bool
) -> None:
    asked = request(scene.day(1))
    scene.reader.answers["select 1"] = [Rows(((START, 1),)), fault]
    scene.requests.add(asked)
    async with scene.running():
        await scene.settled()
    answer = scene.replies.sent[-1]
    assert (answer.status, answer.error_code, answer.retryable) == (FAILED, code, retryable)
    assert [each.error_code for each in answer.chunks] == [code]
    assert scene.lake.copies == {}
    assert scene.reader.ended == ["select 1"]


async def test_a_query_that_is_refused_may_be_allowed_later(scene: Scene) -> None:
    scene.requests.add(request(chunk(7)))
    async with scene.running():
        await scene.settled()
    answer = scene.replies.sent[-1]
    assert (answer.status, answer.error_code, answer.retryable) == (FAILED, "READ_REFUSED", True)


async def test_a_server_that_is_away_is_not_waited_for_again_for_every_chunk(scene: Scene) -> None:
    chunks = [scene.day(number) for number in range(1, 5)]
    scene.reader.answers["select 2"] = [Unavailable("database", "away")]
    scene.requests.add(request(*chunks))
    async with scene.running():
        await scene.settled()
    answer = scene.replies.sent[-1]
    assert answer.status is COMPLETED
    assert [each.error_code for each in answer.chunks] == [None, *["DATABASE_AWAY"] * 3]
    assert scene.reader.reads == ["select 1", "select 2"]


async def test_what_was_not_published_is_not_confirmed_and_found_by_the_next_try(scene: Scene) -> None:
    asked = request(scene.day(1))
    scene.lake.publishing = Unavailable("lake", "the commit may or may not be there")
    scene.requests.add(asked)
    async with scene.running():
        await scene.settled()
        answer = scene.replies.sent[-1]
        assert (answer.status, answer.error_code, answer.retryable) == (FAILED, "LAKE_AWAY", True)
        assert [each.status for each in answer.chunks] == [FAILED]
        scene.lake.publishing = None
        scene.requests.add(asked.model_copy(update={"attempt": 2}))
        await scene.settled()
    assert scene.lake.writes == 1
    assert (scene.replies.sent[-1].status, scene.replies.sent[-1].replayed) == (COMPLETED, True)


# --- again -----------------------------------------------------------------------------------------------------------


async def test_what_is_no_new_request_is_left_alone(scene: Scene) -> None:
    asked = request(scene.day(1))
    others = [asked.model_copy(update={"status": status}) for status in (COMPLETED, FAILED, IN_PROGRESS)]
    scene.requests.add(*others, Unreadable("MALFORMED", "noise"), asked, asked)
    async with scene.running():
        await scene.settled()
    assert scene.said() == [IN_PROGRESS, COMPLETED]
    assert scene.lake.writes == 1


async def test_another_attempt_is_answered_with_the_copy_that_is_there(scene: Scene) -> None:
    asked = request(scene.day(1))
    scene.requests.add(asked, asked.model_copy(update={"attempt": 2}))
    async with scene.running():
        await scene.settled()
    first, second = (each for each in scene.replies.sent if each.status is COMPLETED)
    assert (first.replayed, second.replayed) == (False, True)
    assert (second.attempt, second.chunks) == (2, first.chunks)
    assert scene.lake.writes == 1


async def test_a_crash_before_the_reply_leaves_one_copy(scene: Scene) -> None:
    """The reply does not get through: the service fails, another one is made, the record comes again."""
    scene.requests.add(request(scene.day(1)))

    async def lose(confirmation: Any) -> None:
        if confirmation.status is COMPLETED:
            raise Unavailable("kafka", "away")

    whole, scene.replies.send = scene.replies.send, lose  # type: ignore[method-assign]
    async with scene.running() as work:
        await asyncio.wait({work}, timeout=HANGING_S)
        with pytest.raises(Unavailable):
            work.result()
    assert (scene.requests.committed, len(scene.lake.copies)) == (0, 1)
    scene.replies.send = whole  # type: ignore[method-assign]
    async with scene.running():
        await scene.settled()
    answer = scene.replies.sent[-1]
    assert (answer.status, answer.replayed, scene.lake.writes) == (COMPLETED, True, 1)
    assert len(scene.lake.rows(TABLE)) == 3


async def test_a_copy_of_other_rows_under_the_same_id_is_refused_and_left_as_it_is(scene: Scene) -> None:
    asked = request(scene.day(1))
    scene.requests.add(asked)
    async with scene.running():
        await scene.settled()
        rows = ((START, 9),)
        scene.reader.answers["select 1"] = [Rows(rows)]
        measured = measure(rows)
        before, seen = dict(scene.lake.copies), scene.lake.rows(TABLE)
        changed = asked.chunks[0].model_copy(update={"row_count": 1, "digest": measured.digest})
        scene.requests.add(asked.model_copy(update={"chunks": (changed,), "attempt": 2}))
        await scene.settled()
    answer = scene.replies.sent[-1]
    assert (answer.status, answer.error_code, answer.retryable) == (FAILED, "COPY_STANDS", False)
    assert "there is another copy" in (answer.error_message or "")
    assert "registry id of its own" in (answer.error_message or "")
    assert [each.error_code for each in answer.chunks] == ["COPY_STANDS"]
    assert (scene.lake.copies, scene.lake.rows(TABLE), scene.lake.writes) == (before, seen, 1)


async def test_a_superseded_copy_goes_when_the_new_one_is_complete_and_no_other_does(scene: Scene) -> None:
    first = request(scene.day(1), scene.day(2), event_id="first")
    scene.requests.add(first)
    async with scene.running():
        await scene.settled()
        again = scene.day(2)
        failing = again.model_copy(update={"digest": "v1:0000000000000000:0000000000000000"})
        scene.requests.add(request(failing, event_id="second", supersedes=("first",)))
        await scene.settled()
        assert {event for _, event in scene.lake.copies} == {"first"}
        assert len(scene.lake.rows(TABLE)) == 6
        scene.requests.add(request(again, event_id="third", supersedes=("first", "second")))
        await scene.settled()
    assert sorted((each.start, event) for each, event in scene.lake.copies) == [
        (START, "first"),
        (START + DAY, "third"),
    ]
    assert len(scene.lake.rows(TABLE)) == 6


async def test_an_answer_that_no_topic_takes_is_a_failure(scene: Scene) -> None:
    scene.replies.largest = 1
    scene.requests.add(request(scene.day(1), scene.day(2)))
    async with scene.running():
        await scene.settled()
    assert (scene.replies.sent[-1].status, scene.replies.sent[-1].error_code) == (FAILED, "TOO_LARGE")


# --- while it copies -------------------------------------------------------------------------------------------------


async def test_it_says_now_and_then_that_it_works(scene: Scene) -> None:
    scene.reader, scene.options = SlowReader(), {"timeouts": ArchiverTimeouts(heartbeat_s=0.02)}
    scene.requests.add(request(scene.day(1)))
    async with scene.running():
        await scene.replies.until(4)
        assert set(scene.said()) == {IN_PROGRESS}
        scene.replies.away = True
        await asyncio.to_thread(scene.reader.reading.wait, 5)
        scene.replies.away = False
        scene.reader.on.set()
        await scene.settled()
    assert scene.said()[-1] is COMPLETED


async def test_a_drain_ends_the_copy_without_an_answer(scene: Scene) -> None:
    scene.reader = SlowReader()
    scene.requests.add(request(scene.day(1)))
    async with scene.running():
        await asyncio.to_thread(scene.reader.reading.wait, 5)
        asyncio.get_running_loop().call_later(0.05, scene.reader.on.set)
    assert scene.said() == [IN_PROGRESS]
    assert (scene.requests.committed, scene.lake.copies, scene.requests.closed) == (0, {}, 1)
    scene.reader.on.set()
    async with scene.running():
        await scene.settled()
    assert scene.said() == [IN_PROGRESS, IN_PROGRESS, COMPLETED]


async def test_a_drain_does_not_wait_for_the_pace(scene: Scene) -> None:
    scene.options = {"max_bytes_per_second": 1}
    scene.requests.add(request(scene.day(1), max_bytes_per_second=1_000_000))
    async with scene.running():
        await eventually(lambda: scene.reader.reads, what="it reads")
    assert scene.said() == [IN_PROGRESS]


async def test_what_was_given_to_somebody_else_is_released(scene: Scene) -> None:
    scene.reader, scene.options = SlowReader(), {"timeouts": ArchiverTimeouts(heartbeat_s=0.02)}
    scene.requests.add(request(scene.day(1)))
    async with scene.running():
        await asyncio.to_thread(scene.reader.reading.wait, 5)
        scene.requests.taken_away = True
        beats = len(scene.replies.sent)
        await scene.replies.until(beats + 2)
        scene.reader.on.set()
        await eventually(lambda: scene.reader.ended, what="the copy ends")
    assert COMPLETED not in scene.said()
    assert (scene.requests.committed, scene.lake.copies) == (0, {})


async def test_kafka_away_fails_the_service(scene: Scene) -> None:
    async with scene.running() as work:
        scene.requests.away = True
        await asyncio.wait({work}, timeout=HANGING_S)
        with pytest.raises(Unavailable):
            work.result()
