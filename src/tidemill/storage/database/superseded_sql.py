"""Generated SQL about facts that rows own in revisions: those whose revision can never be current again.

`relation`: the table of the facts, or a chunk of it, quoted.
"""

from __future__ import annotations

from functools import lru_cache

from tidemill.domain.read_view import CurrentFacts
from tidemill.domain.state import State
from tidemill.storage.database.table_sql import quoted, table_name


@lru_cache(maxsize=256)
def select_owners(facts: CurrentFacts, owner: State, relation: str) -> str:
    """Return the statement that lists the next rows of a state ($2 after $1), and whether each has such facts there."""
    key, name = quoted(owner.key), table_name(owner.table)
    older, unused = (f"exists ({part})" for part in _superseded("select from", facts, owner.key, relation))
    page = f"select * from {name} where {key} > $1 order by {key} limit $2"
    return f"select o.{key}, {older} or {unused} from ({page}) o order by o.{key}"


@lru_cache(maxsize=256)
def delete_superseded(facts: CurrentFacts, owner: State, relation: str) -> str:
    """Return the statement that deletes at most $2 such facts of the owners $1, and counts them by owner."""
    of = quoted(facts.owner)
    older, unused = (
        f"({part} limit $2)" for part in _superseded("select f.ctid from", facts, owner.key, relation)
    )
    rows = (
        f"select s.ctid from {table_name(owner.table)} o cross join lateral ({older} union all {unused}) s "
        f"where o.{quoted(owner.key)} = any($1::text[]) limit $2"
    )
    deletion = f"delete from {relation} where ctid = any(array({rows})) returning {of}"
    return f"with gone as ({deletion}) select {of}, count(*) from gone group by {of} order by {of}"


def _superseded(select: str, facts: CurrentFacts, key: str, relation: str) -> tuple[str, str]:
    """Return a query for what came before the current revision, and one for what came after it and was given up.

    They are two, since each is one range of an index.
    """
    assert facts.removal is not None
    number, newest, filled = map(quoted, (facts.revision, facts.removal.newest, facts.removal.filled))
    own = f"{select} {relation} f where f.{quoted(facts.owner)} = o.{quoted(key)}"
    given_up = f"(o.{filled} is null or f.{number} < o.{newest})"
    return f"{own} and f.{number} < o.{number}", f"{own} and f.{number} > o.{number} and {given_up}"
