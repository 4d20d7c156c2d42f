"""docs/http.md and what the README says about HTTP, typed to the letter against processes that serve."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients.journeys import Deployment
from tests.support.clients.walkthrough import File, Shell, agrees, steps

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PORT = "127.0.0.1:8000"


@pytest.fixture
def partitions() -> int:
    """As many lanes as a deployment has that says nothing."""
    return 8


@pytest.fixture
def address() -> str:
    """An address that is free: it takes the place of the one in the pages."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        return f"{host}:{port}"


@pytest.fixture
def reader(deployment: Deployment, tmp_path: Path) -> Iterator[Shell]:
    """The terminal of a reader whose servers are prepared and whose commands are applied."""
    programs = Path(sys.executable).parent
    own = deployment.installation.whole_environment()
    folder = tmp_path / "reader"
    folder.mkdir()
    with Shell(folder, {**own, "PATH": f"{programs}:{os.environ['PATH']}"}) as shell:
        yield shell


def follow(shell: Shell, page: str, address: str) -> int:
    """Do what a page says, see that it prints what the page shows, and return how many commands that were."""
    typed = 0
    for step in steps(page):
        if isinstance(step, File):
            (shell.folder() / step.path).write_text(step.text, encoding="utf-8")
            continue
        _, printed = shell.type(step.text.replace("8000", address.rpartition(":")[2]))
        shown = printed.replace(address, PORT)
        assert agrees(step.printed, shown), f"$ {step.text}\n{shown}\nbut the page says\n{step.printed}"
        typed += 1
    return typed


@pytest.mark.slow
def test_who_follows_the_page_sees_what_it_shows(deployment: Deployment, reader: Shell, address: str) -> None:
    deployment.start("all")
    assert follow(reader, PAGE, address) > 25
    reader.type("kill %1; wait")


@pytest.mark.slow
def test_the_readme_creates_finds_and_reads_over_http(
    deployment: Deployment, reader: Shell, address: str
) -> None:
    """Beside the service that is run by hand; test_demo.py has the same after the demo."""
    requests = README.split("\n## Over HTTP\n")[1].split("\n## ")[0].partition("A create, ")[2]
    port = address.rpartition(":")[2]
    reader.type(f"TIDEMILL_HTTP_PORT={port} tidemill serve all 2> serve.log &")
    reader.type(f"curl --silent --retry 120 --retry-delay 1 --retry-connrefused http://{address}/livez")
    assert follow(reader, requests, address) == 3
    reader.type("kill %1; wait")
