"""Series over HTTP: saved, asked for by declared queries, page by page, and exactly as they were sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import pytest

from tests.support.http.api import Granted, new_key, served
from tidemill_devkit.stack import Stack

WAITING = {"Prefer": "wait=30"}
VERBS = ("read", "create", "update", "delete")
COLUMN = {"column_name": "level"}
DAY = "2026-01-05T"
HUGE = 2**53 + 1


@pytest.fixture(scope="module")
def client(
    stack: Stack,
    new_database: Callable[[], AbstractContextManager[str]],
    unique_name: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[httpx2.Client]:
    folder, principals = tmp_path_factory.mktemp("http"), {"gauge": [Granted("*", [*VERBS, "operate"])]}
    own = {"TIDEMILL_CONTEXTS": "time_series"}
    with (
        new_database() as database,
        served(stack, database, unique_name("http"), folder, principals, servers=1, environment=own) as (
            api,
            tokens,
        ),
        api.client(tokens["gauge"]) as client,
    ):
        yield client


def posted(client: httpx2.Client, command: str, **parameters: Any) -> httpx2.Response:
    body = {"command": command, "parameters": parameters}
    return client.post("/api/db/commands", json=body, headers=WAITING | {"Idempotency-Key": new_key()})


def send(client: httpx2.Client, command: str, **parameters: Any) -> str:
    """Send a command that is applied; return the token of its answer."""
    answer = posted(client, command, **parameters)
    assert answer.status_code == 200, answer.text
    return str(answer.headers["tidemill-seen"])


def made(client: httpx2.Client, series: str, axis: str) -> dict[str, Any]:
    """Create a series; return what names its one column in each command."""
    send(
        client, "CreateTimeSeries", time_series_id=series, time_column="t", value_columns=["level"], axis=axis
    )
    return {"time_series_id": series, "column_names": ["level"]}


def ask(client: httpx2.Client, query: str, seen: str, page: str = "", **parameters: Any) -> httpx2.Response:
    body = {"query": query, "parameters": COLUMN | parameters}
    return client.post(f"/api/db/query{page}", json=body, headers=WAITING | {"Tidemill-Seen": seen})


def rows(answer: httpx2.Response) -> list[list[str]]:
    """Return the values of each row as they stand in the text: numbers as well."""
    assert answer.status_code == 200, answer.text
    read = json.loads(answer.text, parse_int=str, parse_float=str)["data"]["rows"]
    return [list(row.values()) for row in read]


def test_points_at_times_come_back_as_they_were_sent(client: httpx2.Client) -> None:
    """NaN is null, which an absent point is not; each float has its own text."""
    series = made(client, "times", "datetime")
    values: list[Any] = [-0.0, HUGE - 1, 1e300, None, 5e-324, 0.1]
    times = [f"{DAY}09:00:00.00000{number}Z" for number in range(len(values))]
    seen = send(
        client, "SaveTimeSeriesPoints", **series, columns=[0] * len(values), values=values, times=times
    )
    span = {"time_series_id": "times", "since": f"{DAY}00:00:00Z", "until": f"{DAY}10:00:00Z"}
    answer = ask(client, "points-of-series", seen, **span)
    written = ["-0", "9.007199254740992e+15", "1e+300", None, "5e-324", "0.1"]
    assert rows(answer) == [
        [time, value, "1", str(number)]
        for number, (time, value) in enumerate(zip(times, written, strict=True))
    ]
    digits = posted(client, "AppendTimeSeriesPoints", **series, columns=[0], values=[HUGE], times=times[:1])
    assert digits.json()["errors"][0]["detail"] == "has more digits than the field: round it"
    buckets = rows(ask(client, "series-by-bucket", seen, **span, bucket_s=60))
    assert [bucket[:3] for bucket in buckets] == [[f"{DAY}09:00:00.000000Z", "6", "5"]]


def test_what_is_behind_a_view_of_points_is_counted_and_described(client: httpx2.Client) -> None:
    series = made(client, "counted", "datetime")
    times = [f"{DAY}09:00:{second:02}Z" for second in range(60)]
    lists = {"columns": [0] * 60, "values": [0.5] * 60, "times": times}
    seen = send(client, "SaveTimeSeriesPoints", **series, **lists)
    url, about = "/api/db/time-series-data-points/count?_mode=estimated", WAITING | {"Tidemill-Seen": seen}
    counted = client.get(url, headers=about)
    assert counted.json()["count"] > 0, "the view has no statistics"
    stats = client.get("/api/db/stats").json()["collections"]
    (points,) = [each for each in stats if each["name"] == "time-series-data-points"]
    assert (points["bytes"] > 0, points["chunks"]) == (True, 1)
    schema = client.get("/api/db/schema/time-series-data-points").json()
    assert schema["hypertable"]["table_name"] == "public.time_series_data_points"
    assert len(schema["chunks"]) == 1
    assert schema["indexes"]


@pytest.mark.parametrize(
    ("axis", "kind", "positions", "written"),
    [
        ("float64", "float", ["-Infinity", -0.0, 0.5, "Infinity"], ["-Infinity", "-0", "0.5", "Infinity"]),
        (
            "int64",
            "integer",
            [str(number) for number in (-(2**63), -1, HUGE, 2**63 - 1)],
            [str(number) for number in (-(2**63), -1, HUGE, 2**63 - 1)],
        ),
    ],
)
def test_points_of_numeric_axes_come_back_as_they_were_sent(
    client: httpx2.Client, axis: str, kind: str, positions: list[Any], written: list[str]
) -> None:
    series = made(client, axis, axis)
    lists = {"floats": [], "integers": []} | {f"{kind}s": positions}
    columns = {"columns": [0] * len(positions), "values": [1.5, -0.0, None, 2.5]}
    seen = send(client, "SaveNumericPoints", **series, **columns, **lists)
    whole = rows(ask(client, "numeric-points-of-series", seen, time_series_id=axis))
    assert [row[0 if kind == "float" else 1] for row in whole] == written
    assert [row[2] for row in whole] == ["1.5", "-0", None, "2.5"]
    span = {"time_series_id": axis, "since": positions[1], "until": positions[3]}
    between = rows(ask(client, f"{kind}-points-of-series", seen, **span))
    assert [row[:2] for row in between] == [[written[1], "-0"], [written[2], None]]
    buckets = rows(ask(client, f"{kind}-series-by-bucket", seen, **span, width=1_000))
    for width in (0, -1):
        assert (
            ask(client, f"{kind}-series-by-bucket", seen, **span, width=width).json()["code"] == "BAD_VALUE"
        )
    assert [(row[1], row[2]) for row in buckets] == (
        [("2", "1")] if kind == "float" else [("1", "1"), ("1", "0")]
    )


def test_a_series_is_read_page_by_page_and_a_save_amid_it_is_told(client: httpx2.Client) -> None:
    series = made(client, "paged", "datetime")
    columns = {"columns": [0] * 50, "values": [float(number) for number in range(50)]}
    times = [f"{DAY}09:00:{number:02d}Z" for number in range(50)]
    seen = send(client, "SaveTimeSeriesPoints", **series, **columns, times=times)
    span = {"time_series_id": "paged", "since": f"{DAY}00:00:00Z", "until": f"{DAY}10:00:00Z"}
    first = ask(client, "points-of-series", seen, "?_limit=20", **span)
    cursor = first.json()["data"]["next"]
    seconds = [row[1] for row in rows(first)]
    after, pages = cursor, 1
    while after is not None:
        answer = ask(client, "points-of-series", seen, f"?_limit=20&_after={after}", **span)
        seconds += [row[1] for row in rows(answer)]
        after, pages = answer.json()["data"]["next"], pages + 1
    assert (seconds, pages) == ([str(number) for number in range(50)], 3)
    send(client, "AppendTimeSeriesPoints", **series, columns=[0], values=[9.5], times=[f"{DAY}09:30:00Z"])
    assert ask(client, "points-of-series", seen, f"?_limit=20&_after={cursor}", **span).status_code == 200
    buckets = ask(client, "series-by-bucket", seen, "?_limit=20", **span, bucket_s=1).json()["data"]["next"]
    seen = send(client, "SaveTimeSeriesPoints", **series, **columns, times=times)
    mixed = ask(client, "series-by-bucket", seen, f"?_limit=20&_after={buckets}", **span, bucket_s=1)
    assert (mixed.status_code, mixed.json()["code"]) == (409, "REPLACED")
    refused = ask(client, "points-of-series", seen, f"?_limit=20&_after={cursor}", **span)
    assert (refused.status_code, refused.json()["code"]) == (409, "REPLACED")
    other = ask(client, "points-of-series", seen, f"?_after={cursor}", **span | {"until": f"{DAY}11:00:00Z"})
    assert (other.status_code, other.json()["code"]) == (400, "CURSOR_MISMATCH")


@pytest.mark.parametrize("sort", ["", "&_sort=number"])
def test_rows_of_a_series_are_read_page_by_page_and_a_save_amid_them_is_told(
    client: httpx2.Client, sort: str
) -> None:
    key = f"rows{len(sort)}"
    series = made(client, key, "datetime")
    columns = {"columns": [0] * 5, "values": [1.5] * 5}
    times = [f"{DAY}09:00:{number:02d}Z" for number in range(5)]

    def page(seen: str, after: str = "") -> httpx2.Response:
        where = f"time_series_id={key}&timestamp.gte={DAY}00:00:00Z&_limit=2{sort}{after}"
        wanted = WAITING | {"Tidemill-Seen": seen}
        return client.get(f"/api/db/time-series-data-points?{where}", headers=wanted)

    seen = send(client, "SaveTimeSeriesPoints", **series, **columns, times=times)
    cursor = f"&_after={page(seen).json()['data']['next']}"
    assert len(rows(page(seen, cursor))) == 2
    seen = send(
        client, "AppendTimeSeriesPoints", **series, columns=[0], values=[9.5], times=[f"{DAY}08:00:00Z"]
    )
    assert page(seen, cursor).status_code == 200, "appended points do not replace the others"
    seen = send(client, "SaveTimeSeriesPoints", **series, **columns, times=times)
    refused = page(seen, cursor)
    assert (refused.status_code, refused.json()["code"]) == (409, "REPLACED")
