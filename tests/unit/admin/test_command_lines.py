"""Lines of JSON become commands; a wrong one is found before anything is sent."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from pydantic import Field

from tidemill.admin.records.command_lines import LineReader
from tidemill.domain import checks
from tidemill.domain.errors import UsageError
from tidemill.domain.messages import CommandBase, Message

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Clock(Message):
    left: Decimal
    read: float = 0.0


class Move(CommandBase):
    checks = (checks.Zoned("to"), checks.NotBelow("rank", "floor"))

    piece: str
    to: datetime
    clocks: list[Clock] = Field(default_factory=list)
    rank: int | None = None
    floor: int | None = None


def reader(service: str = "cli") -> LineReader:
    return LineReader(Move, service=service, now=lambda: NOW)


def commands(*lines: str) -> list[CommandBase]:
    return [line.command for line in reader().read(lines, "moves.jsonl")]


LINE = '{"piece": "rook", "to": "2020-01-01T00:00:00Z"}'


def test_what_a_line_does_not_say_is_filled_in() -> None:
    (move,) = commands(LINE)
    assert isinstance(move, Move)
    assert (move.service_name, move.timestamp, move.correlation_id) == ("cli", NOW, None)
    assert move.to == datetime(2020, 1, 1, tzinfo=UTC)
    assert UUID(move.command_id).version == 5


def test_minus_zero_keeps_its_sign_without_a_point() -> None:
    (move,) = commands(LINE[:-1] + ', "clocks": [{"left": -0, "read": -0}]}')
    assert isinstance(move, Move)
    assert (move.clocks[0].left, str(move.clocks[0].read)) == (Decimal(0), "-0.0")


def test_what_a_field_can_hold_is_not_cut() -> None:
    whole = LINE.replace("00Z", "00.123456000Z")[:-1]
    (move,) = commands(whole + ', "clocks": [{"left": 0.25, "read": 0.1}, {"left": "3.10", "read": 7}]}')
    assert isinstance(move, Move)
    assert move.to == datetime(2020, 1, 1, microsecond=123_456, tzinfo=UTC)
    assert [clock.left for clock in move.clocks] == [Decimal("0.25"), Decimal("3.10")]


def test_what_a_line_says_is_kept() -> None:
    (move,) = commands('{"command_id": "x-1", "service_name": "chess", ' + LINE[1:])
    assert (move.command_id, move.service_name) == ("x-1", "chess")


def test_the_same_file_gives_the_same_ids() -> None:
    lines = [LINE, LINE.replace("rook", "king"), LINE]
    first, again = commands(*lines), commands(*lines)
    assert [move.command_id for move in first] == [move.command_id for move in again]
    assert len({move.command_id for move in first}) == 3, "equal lines are commands of their own"


def test_a_command_whose_fields_say_its_id_has_that_one_unless_its_line_gives_another() -> None:
    own = LineReader(Move, service="cli", now=lambda: NOW, own_id=lambda move: f"of {vars(move)['piece']}")
    lines = [LINE, LINE, LINE.replace("{", '{"command_id": "x-1", ', 1)]
    for repeated in (own, own.fresh()):
        read = list(repeated.read(lines, "moves.jsonl"))
        assert [line.command.command_id for line in read] == ["of rook", "of rook", "x-1"]


def test_an_id_does_not_depend_on_the_order_of_fields_nor_on_the_place_of_other_lines() -> None:
    swapped = '{"to": "2020-01-01T00:00:00Z", "piece": "rook"}'
    assert commands(swapped)[0].command_id == commands(LINE)[0].command_id
    assert commands(LINE.replace("rook", "king"), LINE)[1].command_id == commands(LINE)[0].command_id


def test_blank_lines_are_skipped_and_counted() -> None:
    lines = list(reader().read(["\n", LINE, "  \n", LINE], "moves.jsonl"))
    assert [line.number for line in lines] == [2, 4]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "moves.jsonl:2: invalid JSON: Expecting property name enclosed in double quotes at column 2"),
        ('{"piece": \n', "moves.jsonl:2: invalid JSON: Expecting value at column 10"),
        ("[1]", "moves.jsonl:2: expected an object, {...}"),
        ('{"piece": "rook"}', "moves.jsonl:2: to: Field required"),
        ('{"piece": 7, "to": "2020-01-01T00:00:00Z"}', "moves.jsonl:2: piece: expected a valid string"),
        (LINE[:-1] + ', "form": 1}', "moves.jsonl:2: form: Extra inputs are not permitted"),
        (LINE[:-1] + ', "piece": "king"}', "moves.jsonl:2: piece: given 2 times"),
        (
            LINE[:-1] + ', "clocks": [{"left": 1, "left": 1}]}',
            "moves.jsonl:2: left: given 2 times",
        ),
        (
            LINE.replace("00Z", "00.123456789Z"),
            "moves.jsonl:2: to: 2020-01-01T00:00:00.123456789Z is finer than a microsecond: round it",
        ),
        (
            LINE[:-1] + ', "clocks": [{"left": 1}, {"left": 0.1000000000000000000001}]}',
            "moves.jsonl:2: clocks.1.left: 0.1000000000000000000001 has more digits than the field: round it",
        ),
        (
            LINE[:-1] + ', "clocks": [{"left": 1, "read": 9007199254740993}]}',
            "moves.jsonl:2: clocks.0.read: 9007199254740993 has more digits than the field: round it",
        ),
        (
            LINE[:-1] + ', "command_id": ""}',
            "moves.jsonl:2: command_id: String should have at least 1 character",
        ),
    ],
)
def test_a_wrong_line_is_named(line: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        commands(LINE, line, LINE)
    assert str(caught.value).splitlines()[0] == said


def test_all_that_is_wrong_with_a_line_is_told_at_once() -> None:
    wrong = '{"piece": 7, "to": "2020-01-01T00:00:00", "rank": 1, "floor": 2, "clocks": [{}]}'
    with pytest.raises(UsageError) as caught:
        commands(wrong, '{"piece": "king", "to": "2020-01-01T00:00:00", "rank": 1, "floor": 2}')
    assert str(caught.value).splitlines()[:-1] == [
        "moves.jsonl:1: piece: expected a valid string",
        "moves.jsonl:1: clocks.0.left: Field required",
        "moves.jsonl:1: to has no time zone: say which, or Z",
        "moves.jsonl:1: rank 1 is below floor 2",
        "moves.jsonl:2: to has no time zone: say which, or Z; rank 1 is below floor 2",
    ]


def test_many_mistakes_are_told_up_to_ten() -> None:
    with pytest.raises(UsageError) as caught:
        commands(*["{"] * 50)
    told = str(caught.value).splitlines()
    assert len(told) == 11
    assert told[-1].startswith("no later line was sent")
