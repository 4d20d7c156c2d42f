"""News articles: what was published, found by source, by words and by what it is about.

Revision ID: news_articles_0001
Revises:
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "news_articles_0001"
down_revision = None
branch_labels = ("news_articles",)
depends_on = "core_0002"

RECORDED = """
create table public.news_articles (
  time timestamptz not null, source text not null, url text not null, title text not null, body text not null,
  symbols jsonb not null, language text, sentiment text, sentiment_score double precision, command_id uuid not null);

-- A month to a chunk: articles are few and large, and their retention is counted in years.
-- No unique key: an article is known by the id of its command, within the horizon.
select create_hypertable('public.news_articles', by_range('time', interval '30 days'), create_default_indexes => false);
create index news_articles_source_time on public.news_articles (source, time desc);
-- 'simple': articles are of many languages, so words are taken as they are.
create index news_articles_words on public.news_articles using gin (to_tsvector('simple', title || ' ' || body));
create index news_articles_symbols on public.news_articles using gin (symbols);
"""

GRANTS = """
grant select, insert on public.news_articles to tidemill_service;
grant select on public.news_articles to tidemill_reader;
"""


def upgrade() -> None:
    """Create the hypertable, and prepare it for its archive."""
    run_script(RECORDED)
    run_script(GRANTS)
    run_script("call tm.prepare_late('public.news_articles')")


def downgrade() -> None:
    """Drop it with all that it holds, if nothing of it left or waits."""
    run_script(
        "call tm.refuse_to_forget('public.news_articles'); drop table tm_late.public__news_articles; "
        "drop table public.news_articles"
    )
