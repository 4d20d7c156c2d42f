"""The page at /docs: it loads nothing from elsewhere, runs no other script, lists every route, and sends requests."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import HANGING_S
from tidemill.http.pages import docs_page

NODE = shutil.which("node")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DESCRIPTION: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Tidemill", "version": "0.6.0", "description": "All of it."},
    "paths": {
        "/api/db/{collection}/{id}": {
            "parameters": [
                {"name": "collection", "in": "path", "required": True, "schema": {"type": "string"}},
                {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
            ],
            "get": {
                "tags": ["documents"],
                "summary": "Read a document <img src=x onerror=alert(1)>",
                "parameters": [
                    {"name": "_fields", "in": "query", "schema": {"type": "string"}, "description": "Which"}
                ],
                "responses": {
                    "200": {
                        "description": "The document",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Row"}}},
                    },
                    "404": {"description": "It is not there", "x-codes": ["NO_COLLECTION", "NO_DOCUMENT"]},
                },
            },
        },
        "/api/db/commands": {
            "post": {
                "tags": ["commands"],
                "summary": "Send a command",
                "requestBody": {
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Command"}}}
                },
                "responses": {"200": {"description": "Applied"}},
            }
        },
    },
    "components": {
        "schemas": {
            "Row": {
                "type": "object",
                "properties": {"id": {"type": "string"}, "next": {"$ref": "#/components/schemas/Row"}},
            },
            "Command": {
                "type": "object",
                "required": ["command"],
                "properties": {"command": {"type": "string", "description": "Its name"}},
                "examples": [{"command": "RecordMarketData"}],
            },
        }
    },
}  # fmt: skip
READ, SEND = "get/api/db/{collection}/{id}", "post/api/db/commands"


class Outline(HTMLParser):
    """The elements of a page, with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def page() -> str:
    return docs_page().body.decode()


@pytest.fixture(scope="module")
def elements(page: str) -> list[tuple[str, dict[str, str | None]]]:
    outline = Outline()
    outline.feed(page)
    return outline.elements


def test_it_names_no_other_host(page: str, elements: list[tuple[str, dict[str, str | None]]]) -> None:
    assert not re.search(r"(https?:)?//[a-z0-9]", re.sub(r"^\s*//.*$", "", page, flags=re.MULTILINE))
    assert not re.search(r"@import|url\(|new (Image|WebSocket|EventSource|Worker)|import\(|sendBeacon", page)
    links = {
        value for _, given in elements for name, value in given.items() if name in ("href", "src", "action")
    }
    assert links == {"data:,", "#routes", "openapi.json"}


def test_its_policy_lets_only_its_own_script_run(page: str) -> None:
    headers = docs_page().headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"


def test_nothing_in_it_needs_more_than_its_policy_allows(
    page: str, elements: list[tuple[str, dict[str, str | None]]]
) -> None:
    assert not [
        given for _, given in elements if any(name.startswith("on") or name == "style" for name in given)
    ]
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(|\.style\b", page
    )
    assert not re.search(r"localStorage|sessionStorage|indexedDB|\bcookie\b(?!\")", page), (
        "the token is not stored"
    )


def test_it_can_be_used_by_keyboard_and_read_aloud(elements: list[tuple[str, dict[str, str | None]]]) -> None:
    tags = dict(elements)
    assert tags["html"]["lang"] == "en"
    assert {"main", "header", "h1", "noscript", "label"} <= tags.keys()
    assert next(given["href"] for tag, given in elements if tag == "a") == "#routes"
    assert not [given for _, given in elements if int(given.get("tabindex") or 0) > 0]
    assert {given["name"]: given["content"] for tag, given in elements if "name" in given}[
        "color-scheme"
    ] == "light dark"


# --- its script, on a document of the test ---------------------------------------------------------------------------


def seen(page: str, *steps: dict[str, str], **changes: Any) -> dict[str, Any]:
    if NODE is None:
        pytest.skip("needs Node, to run the script of the page")
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    given = {"script": script, "description": DESCRIPTION, "steps": steps} | changes
    ended = subprocess.run(
        [NODE, str(Path(__file__).with_name("docs_page.mjs"))],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=HANGING_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def test_every_route_is_listed(page: str) -> None:
    answer = seen(page)
    assert answer["shown"] == [READ, SEND]
    assert "Tidemill 0.6.0" in answer["text"]
    assert "All of it." in answer["text"]
    assert "<img src=x onerror=alert(1)>" in answer["text"], "as text"
    assert answer["busy"] == "false"
    assert [asked["address"] for asked in answer["asked"]] == ["openapi.json"]


def test_a_route_that_is_opened_shows_parameters_answers_and_codes(page: str) -> None:
    text = seen(page, {"open": READ})["text"]
    for word in (
        "_fields",
        "required",
        "It is not there NO_COLLECTION, NO_DOCUMENT",
        "An answer of 200",
        "Which",
    ):
        assert word in text


def test_routes_are_found_by_a_word(page: str) -> None:
    assert seen(page, {"set": "find", "to": "COMMAND"})["shown"] == [SEND]
    assert seen(page, {"set": "find", "to": ""})["shown"] == [READ, SEND]


def test_a_request_is_sent_with_the_token_and_every_value_encoded(page: str) -> None:
    answer = seen(
        page,
        {"open": READ},
        {"set": "token", "to": " t0ken "},
        {"set": f"{READ}pathcollection", "to": "daily-bars"},
        {"set": f"{READ}pathid", "to": "A/../B?x,2013"},
        {"set": f"{READ}query_fields", "to": "a&b"},
        {"submit": READ},
    )
    _, sent = answer["asked"]
    assert sent["address"] == "/api/db/daily-bars/A%2F..%2FB%3Fx,2013?_fields=a%26b"
    assert (sent["method"], sent["headers"]["authorization"]) == ("GET", "Bearer t0ken")
    assert (sent["credentials"], sent["redirect"], sent["body"]) == ("omit", "error", None)
    assert "9007199254740993" in answer["text"], "a number keeps its digits"


def test_dots_alone_do_not_leave_the_path(page: str) -> None:
    answer = seen(
        page,
        {"open": READ},
        {"set": f"{READ}pathcollection", "to": ".."},
        {"set": f"{READ}pathid", "to": "."},
        {"submit": READ},
    )
    assert answer["asked"][1]["address"] == "/api/db/%2E%2E/%2E"


def test_a_body_begins_as_the_example(page: str) -> None:
    answer = seen(page, {"open": SEND}, {"submit": SEND})
    _, sent = answer["asked"]
    assert json.loads(sent["body"]) == {"command": "RecordMarketData"}
    assert sent["headers"] == {"content-type": "application/json"}
    assert "Its name" in answer["text"]


def test_a_description_that_cannot_be_read_is_said(page: str) -> None:
    answer = seen(page, unreachable=True)
    assert "The description cannot be read: fetch failed" in answer["text"]
    assert answer["shown"] == []


# --- in a browser ----------------------------------------------------------------------------------------------------


@contextmanager
def served() -> Iterator[tuple[str, list[str]]]:
    """Serve the page and a description; yields the address, and the paths that are asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            is_page = self.path == "/docs"
            headers = docs_page().headers if is_page else {"Content-Type": "application/json"}
            self.send_response(200 if self.path in ("/docs", "/openapi.json") else 404)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(docs_page().body if is_page else json.dumps(DESCRIPTION).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="pages")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/docs", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_a_browser_shows_the_routes_and_asks_no_other_host(tmp_path: Path) -> None:
    """With a proxy that does not exist for every host but this one: what is asked of another would fail."""
    assert BROWSER is not None
    with served() as (address, asked):
        shown = subprocess.run(
            [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000",
             "--enable-logging=stderr", f"--user-data-dir={tmp_path}", "--dump-dom", address],
            capture_output=True, text=True, timeout=HANGING_S, check=True,
        )  # fmt: skip
    assert shown.stdout.count('class="route"') == 2
    assert "&lt;img src=x onerror=alert(1)&gt;" in shown.stdout
    assert "Content Security Policy" not in shown.stderr
    assert sorted(set(asked)) == ["/docs", "/openapi.json"]
