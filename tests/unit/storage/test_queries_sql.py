"""Generated statements of queries, as they are sent."""

from __future__ import annotations

from tidemill.storage.queries.archived import spans_left

LEFT = """select lower(span) as start, upper(span) as end from unnest((
select range_agg(tstzrange(range_start, range_end)) from (
-- $1 the table, $2 the mark, $3 and $4 the span. A slice that was opened since the mark may have got late rows back.
select range_start, range_end from tm.archive a
where a.table_name = $1 and ($3::timestamptz is null or a.range_end > $3) and ($4::timestamptz is null or a.range_start < $4)
  and (a.state = 'dropped' or exists (
    select from tm.archive_trail t where t.entry > $2::bigint and t.table_name = a.table_name
      and t.range_start = a.range_start and t.generation = a.generation
      and ('dropped' in (t.before, t.after) or t.after = 'aborted')))
union all
select range_start, range_end from tm.archive a
where a.table_name = $1 and a.closed and exists (select from tm_late."public__Ticks" late where late.tm_range_start = a.range_start)
) ranges
) * multirange(tstzrange($3, $4))) as span order by 1"""  # noqa: E501  as it is sent


def test_the_spans_that_left() -> None:
    assert spans_left("public.Ticks", has_late=True) == LEFT
    assert "tm_late" not in spans_left("public.Ticks", has_late=False)
