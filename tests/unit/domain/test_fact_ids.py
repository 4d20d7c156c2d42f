"""Ids that the fields of facts say: the same in every language, and only where they can be made."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest

from tidemill.api import CommandBase, ContractError, Label, append, fact_event, fact_table
from tidemill.contexts.news_articles import RecordNewsArticle
from tidemill.contexts.news_articles import context as news_articles
from tidemill.domain.identity import FACTS, fact_id
from tidemill_devkit.testing import NOW, sample


class Report(CommandBase):
    """Report what was seen."""

    place: Label
    about: Label | None = None
    kind: Label = "tide"
    time: datetime


ReportMade = fact_event("ReportMade", Report, "A report was made.")
reports = fact_table("reports", Report)


def test_the_id_is_that_of_the_written_namespace_and_text() -> None:
    """As docs/http.md says it: whoever repeats it in another language must come to the same text."""
    assert UUID("8e1c6a5e-0b7d-5f0c-9a3e-52d1f4b7c960") == FACTS
    text = '["tidemill.news_articles.RecordNewsArticle","wire","https://example.org/\\"é\\""]'
    values = ["wire", 'https://example.org/"é"']
    assert fact_id("tidemill.news_articles.RecordNewsArticle", values) == str(uuid5(FACTS, text))


def test_the_program_of_the_documents_makes_the_same_id() -> None:
    page = (Path(__file__).parents[3] / "docs" / "subscribing.md").read_text()
    (program,) = re.findall(r"```python\n# article_id\.py\n(.*?)```", page, re.DOTALL)
    made: dict[str, Any] = {}
    exec(program, made)
    values = ("wire", 'https://example.org/"é"')
    assert made["article_id"](*values) == fact_id("tidemill.news_articles.RecordNewsArticle", values)


def test_no_two_facts_share_a_text() -> None:
    ids = {fact_id("a", ["b", "c"]), fact_id("a", ["b,c"]), fact_id("a", ['b","c']), fact_id("b", ["b", "c"])}
    assert len(ids) == 4


def test_an_article_is_known_by_its_source_and_address_whoever_sends_it() -> None:
    (spec,) = news_articles.commands
    name = news_articles.full_name(RecordNewsArticle)
    article = sample(RecordNewsArticle, time=NOW, source="wire", url="https://example.org/a", title="Tides")
    ids = {
        spec.own_id(name, article.model_copy(update=changes))
        for changes in ({}, {"title": "Ebb"}, {"service_name": "other"}, {"command_id": "k-1"})
    }
    assert ids == {fact_id(name, ["wire", "https://example.org/a"])}
    assert spec.own_id(name, article.model_copy(update={"url": "https://example.org/b"})) not in ids


def test_facts_that_do_not_declare_it_say_no_id() -> None:
    spec = append(Report, into=reports, event=ReportMade)
    assert not spec.has_own_id
    assert spec.own_id("Report", sample(Report, place="pier", time=NOW)) is None


@pytest.mark.parametrize("field", ["about", "kind", "time", "nothing", "service_name"])
def test_an_id_is_made_from_required_texts_only(field: str) -> None:
    """What may be null or left out would make one id of two facts; other types have several texts."""
    declared: Any = {"command_id_from": ("place", field)}
    with pytest.raises(ContractError, match=f"required texts, which '{field}' is not"):
        append(Report, into=reports, event=ReportMade, **declared)
