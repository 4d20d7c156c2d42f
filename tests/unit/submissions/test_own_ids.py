"""Facts whose fields say their id: what a request without an id gets, and that one it gives counts."""

from __future__ import annotations

from typing import Any

from tests.support.engine.submissions import COLLECTIONS, caller, documents
from tidemill.submissions.requests import Caller, DocumentRequest, DocumentVerb, Submission

ARTICLE = {
    "time": "2026-11-30T09:00:00Z",
    "source": "wire",
    "url": "https://example.org/a?b=1",
    "title": "Tides",
}


def made(body: Any, who: Caller) -> Submission:
    request = DocumentRequest(collection=COLLECTIONS["news-articles"], verb=DocumentVerb.CREATE, body=body)
    return documents().submission(request, who)


def test_facts_whose_fields_say_their_id_have_it_unless_the_request_gives_one() -> None:
    first, again = (made(ARTICLE, caller()) for _ in range(2))
    assert first.command_id == again.command_id == "3a013047-78e9-5a9d-941a-b787d6335462"
    assert first.command.service_name == "shop"
    assert made(ARTICLE, caller("k-1")).command_id == "k-1"
    in_body = ARTICLE | {"command_id": "k-2"}
    assert made(in_body, caller()).command_id == "k-2"
    by_name = documents().command("RecordNewsArticle", ARTICLE, caller())
    assert by_name.command_id == first.command_id


def test_only_commands_that_declare_it_say_their_id() -> None:
    known = documents()
    assert known.has_own_id("RecordNewsArticle")
    assert known.has_own_id("tidemill.news_articles.RecordNewsArticle")
    assert not known.has_own_id("CreateUser")
    assert not known.has_own_id("NoSuchCommand")
