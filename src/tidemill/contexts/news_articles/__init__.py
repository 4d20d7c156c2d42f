"""News articles: what was published, where and about what, appended to a hypertable and found by its words."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field, StringConstraints

from tidemill.api import (
    CommandBase,
    Context,
    Crud,
    Json,
    Label,
    Query,
    Retention,
    append,
    checks,
    fact_event,
    fact_table,
    gin,
    words,
)

Text = Annotated[str, StringConstraints(min_length=1, max_length=1_000, pattern=r"^[^\x00]+$")]
"""A text of one line, such as a title; PostgreSQL cannot store NUL."""

Body = Annotated[str, StringConstraints(max_length=131_072, pattern=r"^[^\x00]*$")]
"""What an article says. A command, and so an article, fits into one record."""

Url = Annotated[str, StringConstraints(min_length=1, max_length=2_000, pattern=r"^[!-~]+$")]
"""An address as it is written in a request: ASCII without spaces."""

Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
"""A language as BCP 47 writes it, such as en or pt-BR."""

Score = Annotated[float, Field(ge=-1.0, le=1.0)]
"""How a text feels about its subject, from -1 to 1."""


class RecordNewsArticle(CommandBase):
    """Record an article. The same source and url are the same article, which is recorded once."""

    checks = (checks.Within("time", since=datetime(1900, 1, 1, tzinfo=UTC), ahead=timedelta(minutes=5)),)

    time: datetime = Field(description="When it was published.")
    source: Label = Field(description="Who published it; the articles of a source keep their order.")
    url: Url = Field(
        description="The address of the article, which says with the source which article it is."
    )
    title: Text = Field(description="The title.")
    body: Body = Field(default="", description="The text, without markup.")
    symbols: Json = Field(
        default="{}",
        description="What it is about: a JSON object with a member for each symbol, with what is known of it.",
    )
    language: Language | None = Field(default=None, description="The language, such as en or pt-BR.")
    sentiment: Label | None = Field(default=None, description="How it feels about its subject, in a word.")
    sentiment_score: Score | None = Field(
        default=None, description="How it feels about its subject, from -1 to 1."
    )


NewsArticleRecorded = fact_event("NewsArticleRecorded", RecordNewsArticle, "An article was recorded.")

news_articles = fact_table(
    "news_articles",
    RecordNewsArticle,
    first="time",
    index=(
        ("source", "time desc"),
        words("title", "body", name="news_articles_words"),
        gin("symbols"),
    ),
)

_SHOWN = {
    "time": datetime,
    "source": str,
    "url": str,
    "title": str,
    "symbols": dict,
    "sentiment_score": float,
}

articles_with_words = Query(
    "articles-with-words",
    "select time, source, url, title, symbols, sentiment_score from news_articles "
    "where to_tsvector('simple', title || ' ' || body) @@ plainto_tsquery('simple', :words) "
    "and time >= :since and time < :until order by time desc",
    parameters={"words": str, "since": datetime, "until": datetime},
    returns=_SHOWN,
    reads=("news-articles",),
)
articles_about = Query(
    "articles-about",
    "select time, source, url, title, symbols, sentiment_score from news_articles "
    "where symbols ? :symbol and time >= :since and time < :until order by time desc",
    parameters={"symbol": str, "since": datetime, "until": datetime},
    returns=_SHOWN,
    reads=("news-articles",),
)

context = Context(
    aggregate="news-articles",
    key=lambda command: command.source,
    commands=(
        append(
            RecordNewsArticle,
            into=news_articles,
            event=NewsArticleRecorded,
            command_id_from=("source", "url"),
        ),
    ),
    partitions=16,
    http=Crud(create=RecordNewsArticle),
    retention=Retention(table=news_articles, after=timedelta(days=365)),
    queries=(articles_with_words, articles_about),
)
