"""A REST catalog by configuration: what is asked of it, with which credential, and what becomes of its answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pytest
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.types import NestedField, TimestamptzType

from tests.support.archive.archival import DAY, START, TABLE
from tidemill.app.lake import catalog_of, open_lake
from tidemill.domain.archive.slices import LakeColumn, LakeType, SliceId
from tidemill.domain.errors import Unavailable
from tidemill.lakehouse.iceberg import IcebergLake, committed, name_of, unregistered
from tidemill.settings import Settings

EVENT = "event-1"
DAY_ONE = SliceId(TABLE, START, START + DAY)
COLUMNS = (LakeColumn("time", "timestamp with time zone", LakeType.INSTANT, nullable=False),)
PATH = f"/v1/namespaces/{TABLE.partition('.')[0]}/tables/{TABLE.partition('.')[2]}"

Asked = tuple[str, str | None, dict[str, list[str]]]


@dataclass
class Rest:
    """A stub of the catalog. `answers`: path -> status and body; `asked`: what was, with which credential."""

    url: str
    answers: dict[str, tuple[int, Any]]
    asked: list[Asked]
    commits: list[dict[str, Any]]

    def settings(self, root: Path) -> Settings:
        lake = {
            "root": str(root),
            "format": "iceberg",
            "catalog_url": self.url,
            "catalog_options": '{"token": "secret"}',
        }
        return Settings.model_validate({"lake": lake})


@contextmanager
def serving(root: Path) -> Iterator[Rest]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked.append((parts.path, self.headers.get("Authorization"), parse_qs(parts.query)))
            self.answer(*made.get(parts.path, (404, error("NoSuchTableException", 404))))

        def do_POST(self) -> None:
            """A commit, which is done though its answer is lost."""
            asked_for = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            commits.append(asked_for)
            told: dict[str, str] = {}
            for update in asked_for["updates"]:
                told |= update.get("updates", {})
            made[PATH] = (200, loaded(root, **told))
            self.answer(504, error("GatewayTimeout", 504))

        def answer(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    made: dict[str, tuple[int, Any]] = {"/v1/config": (200, {"defaults": {}, "overrides": {}})}
    asked: list[Asked] = []
    commits: list[dict[str, Any]] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        rest = Rest(f"http://127.0.0.1:{server.server_port}", made, asked, commits)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield rest
        server.shutdown()
        thread.join()


def error(kind: str, code: int) -> dict[str, Any]:
    return {"error": {"message": kind, "type": kind, "code": code}}


def loaded(root: Path, **properties: str) -> dict[str, Any]:
    """What the catalog says of a table that nothing was added to."""
    metadata = new_table_metadata(
        Schema(NestedField(1, "time", TimestamptzType(), required=True)),
        UNPARTITIONED_PARTITION_SPEC,
        UNSORTED_SORT_ORDER,
        f"file://{root}/{TABLE}",
        properties,
    )
    location = f"file://{root}/{TABLE}/metadata/0.json"
    return {"metadata-location": location, "metadata": metadata.model_dump(mode="json"), "config": {}}


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with serving(tmp_path) as made:
        yield made


async def test_the_lake_of_the_settings_asks_the_catalog_at_the_url(rest: Rest, tmp_path: Path) -> None:
    assert isinstance(await open_lake(rest.settings(tmp_path)), IcebergLake)
    assert rest.asked == [("/v1/config", "Bearer secret", {"warehouse": [f"file://{tmp_path}"]})]


def test_a_table_is_loaded_from_it(rest: Rest, tmp_path: Path) -> None:
    rest.answers[PATH] = (200, loaded(tmp_path, **{f"tidemill.archived.{EVENT}": "a b"}))
    catalog = catalog_of(rest.settings(tmp_path).lake)
    assert committed(catalog.load_table(tuple(TABLE.split("."))), EVENT) == {"a", "b"}
    assert unregistered(catalog, TABLE, ["/lake/a.parquet"]) == ["/lake/a.parquet"]
    assert {path for path, *_ in rest.asked[1:]} == {PATH}
    assert {credential for _, credential, _ in rest.asked} == {"Bearer secret"}


def test_a_table_that_it_does_not_have_has_no_files(rest: Rest, tmp_path: Path) -> None:
    catalog = catalog_of(rest.settings(tmp_path).lake)
    assert unregistered(catalog, TABLE, ["/lake/a.parquet"]) == ["/lake/a.parquet"]


def test_a_commit_whose_answer_is_lost_is_looked_up_and_not_made_twice(rest: Rest, tmp_path: Path) -> None:
    rest.answers[PATH] = (200, loaded(tmp_path))
    lake = IcebergLake(catalog_of(rest.settings(tmp_path).lake), str(tmp_path))
    batch = pa.record_batch({"time": pa.array([START], pa.timestamp("us", "UTC"))})
    copy = lake.write(DAY_ONE, EVENT, COLUMNS, "time", [batch])
    assert lake.publish(TABLE, EVENT, {DAY_ONE: copy}, ())[:2] == (f"{tmp_path}/{TABLE}", "iceberg")
    (commit,) = rest.commits
    told = {each["action"]: each for each in commit["updates"]}
    assert told["set-properties"]["updates"] == {f"tidemill.archived.{EVENT}": name_of(DAY_ONE)}
    assert told["add-snapshot"]["snapshot"]["summary"]["added-records"] == "1"
    assert all(Path(file.path).exists() for file in copy.files)


@pytest.mark.parametrize(
    ("status", "kind"), [(503, "ServiceUnavailableException"), (500, "InternalServerError")]
)
def test_what_it_does_not_answer_is_no_proof(rest: Rest, tmp_path: Path, status: int, kind: str) -> None:
    catalog = catalog_of(rest.settings(tmp_path).lake)
    rest.answers[PATH] = (status, error(kind, status))
    with pytest.raises(Unavailable, match=f"looking at {TABLE}"):
        unregistered(catalog, TABLE, ["/lake/a.parquet"])


async def test_one_that_is_away_is_awaited(tmp_path: Path) -> None:
    with serving(tmp_path) as gone:
        pass
    with pytest.raises(Unavailable, match="opening the catalog"):
        await open_lake(gone.settings(tmp_path))
