"""Settings of what `serve http` uses of the database; its group, in `settings/groups.py`, extends them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from tidemill.admin.service.pool_config import POOLS, PoolConfig
from tidemill.settings.groups import Group

_DEFAULTS = {config.name: config for config in POOLS}
_NAMES = "`size`, `min_size`, `overflow`, `acquire_s`, `recycle_s`, `ping_after_s`"


def _pool_text(name: str) -> AfterValidator:
    def checked(text: str) -> str:
        _DEFAULTS[name].changed(text)
        return text

    return AfterValidator(checked)


class HttpPoolSettings(Group):
    """Connections by class of work, and what is watched of queries."""

    pool_read: Annotated[str, _pool_text("read")] = Field(
        "",
        description="connections for documents and what left for the lake, as `NAME=NUMBER[,NAME=NUMBER...]` of "
        f"{_NAMES} ([pools](http.md#pools)); what is not named keeps its default, `size=8`",
    )
    pool_page: Annotated[str, _pool_text("page")] = Field(
        "", description="the same for pages, by default `size=8`"
    )
    pool_count: Annotated[str, _pool_text("count")] = Field(
        "", description="the same for counts and aggregates, by default `size=2`"
    )
    pool_stream: Annotated[str, _pool_text("stream")] = Field(
        "", description="the same for streams, by default `size=2`"
    )
    pool_write: Annotated[str, _pool_text("write")] = Field(
        "", description="the same for tokens, the journal and outcomes of commands, by default `size=4`"
    )
    slow_query_ms: float = Field(
        500.0,
        gt=0,
        le=600_000,
        description="a query that takes longer is logged, with its shape and without values",
    )
    plan_every: int = Field(
        1,
        ge=1,
        le=10_000,
        description="of how many different shapes of queries the plan of one is looked at, once",
    )

    def pools(self) -> tuple[PoolConfig, ...]:
        """Return the pools of a process."""
        texts = {
            "read": self.pool_read,
            "page": self.pool_page,
            "count": self.pool_count,
            "stream": self.pool_stream,
            "write": self.pool_write,
        }
        return tuple(config.changed(texts[config.name]) for config in POOLS)
