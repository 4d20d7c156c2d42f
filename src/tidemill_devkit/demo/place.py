"""The place of a run: servers that answer, and its own database, topics and lake.

Existing data of the servers is not touched, and two runs never share anything.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from tidemill.admin.secrets import new_master_key
from tidemill.app.connections import kafka_connection, open_pool
from tidemill.app.deployment import Deployment
from tidemill.domain.errors import UsageError
from tidemill.settings import Settings, load
from tidemill.storage.database.pool import Pool, Timeouts
from tidemill.transport.kafka.catalog.topics import Topics
from tidemill_devkit import stack as devstack
from tidemill_devkit.databases import create_database, databases_beginning, drop_database
from tidemill_devkit.stack.cache import cache_folder
from tidemill_devkit.stack.progress import StackProgress

DATABASE_PREFIX: Final = "tidemill_demo_"
TOPIC_PREFIX: Final = "tidemill-demo-"
CONTEXTS: Final = "cache_entries,connector_profiles,data_analyses,market_data,time_series,users"
_RUN: Final = re.compile(r"\d{8}-\d{6}(-\d+)?")
_SLOWLY: Final = Timeouts(statement_ms=120_000, lock_ms=60_000, command_s=130.0)

AS_OF: Final = datetime(2012, 1, 1, tzinfo=UTC)
"""The time for ages: the quotes end soon after it, and what is two years older must leave."""

LATEST: Final = "latest.env"
"""A link to the env file of the newest run."""

MAINTENANCE_DATABASE: Final = "postgres"

_URLS: Final = ("url", "migration_url", "reader_url", "archiver_url", "retention_url", "http_url")


@dataclass(frozen=True)
class Servers:
    """Settings that name servers. `owned`: `dev up` has started them; `seconds`: how long that took."""

    settings: Settings
    owned: bool
    seconds: float
    env_file: Path | None = None


@dataclass(frozen=True)
class DemoSite:
    """A run's place: `settings` are those of `servers`, with its own database, topics and lake."""

    run: str
    settings: Settings
    servers: Servers

    @property
    def deployment(self) -> Deployment:
        """Return the deployment of this run."""
        return Deployment.of(self.settings)

    @property
    def database(self) -> str:
        """Return the name of the run's database."""
        return database_of(self.run)

    @property
    def lake(self) -> Path:
        """Return the folder that copies go to; it need not exist yet."""
        return _lake(self.run)

    @property
    def env_file(self) -> Path:
        """Return the file that holds `environment()`, once it is written."""
        return _env_file(self.run)

    def write_env_file(self) -> None:
        """Write the file, for its owner only."""
        self.env_file.parent.mkdir(parents=True, exist_ok=True)
        self.env_file.touch(mode=0o600)
        self.env_file.chmod(0o600)  # it may exist
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in self.environment().items()]
        self.env_file.write_text("".join(lines), encoding="utf-8")
        self._call_it_the_latest()

    def _call_it_the_latest(self) -> None:
        """Let a name that can be typed without looking it up stand for the file; two runs at once do not collide."""
        link = self.env_file.with_suffix(".link")
        link.unlink(missing_ok=True)
        link.symlink_to(self.env_file.name)
        link.replace(self.env_file.with_name(LATEST))

    def environment(self) -> dict[str, str]:
        """Return the variables that make any `tidemill` verb work on this run. Some may hold secrets."""
        settings = self.settings
        found = {
            f"TIDEMILL_DATABASE_{name.upper()}": secret.get_secret_value()
            for name in _URLS
            if (secret := getattr(settings.database, name)) is not None
        }
        found["TIDEMILL_KAFKA_BOOTSTRAP"] = settings.kafka.servers()
        if settings.registry.url is not None:
            found["TIDEMILL_REGISTRY_URL"] = settings.registry.url
        found["TIDEMILL_CONTEXTS"] = CONTEXTS
        found["TIDEMILL_TOPICS_PREFIX"] = settings.topics.prefix
        found["TIDEMILL_LAKE_ROOT"], found["TIDEMILL_LAKE_FORMAT"] = str(self.lake), settings.lake.format
        found["TIDEMILL_RETENTION_ROOTS"] = settings.retention.roots
        found["TIDEMILL_RETENTION_AS_OF"] = AS_OF.isoformat()
        if settings.secret.keys is not None:
            found["TIDEMILL_SECRET_KEYS"] = settings.secret.keys.get_secret_value()
        return found


def database_of(run: str) -> str:
    """Return the name of a run's database."""
    return DATABASE_PREFIX + run.replace("-", "_")


def servers(env_file: Path | None, progress: StackProgress) -> Servers:
    """Return the given servers, else those of `dev up`, started if needed.

    Raises:
        UsageError: a setting is wrong. DevstackError: the servers cannot be started.
    """
    settings = load(env_file)
    given = {
        "TIDEMILL_DATABASE_URL": settings.database.url is not None,
        "TIDEMILL_KAFKA_BOOTSTRAP": settings.kafka.bootstrap is not None,
    }
    if all(given.values()):
        return Servers(settings, owned=False, seconds=0.0, env_file=env_file)
    if any(given.values()):
        there, absent = sorted(given, key=given.__getitem__, reverse=True)
        raise UsageError(f"{there} is set but {absent} is not: set both, or none to have servers started")
    began_s = monotonic()
    stack = devstack.up(progress=progress)
    groups: dict[str, Any] = {
        "database": {"url": stack.database_url},
        "kafka": {"bootstrap": stack.kafka_bootstrap},
        "registry": {"url": stack.registry_url},
    }
    seconds = monotonic() - began_s
    return Servers(load(env_file, **groups), owned=True, seconds=seconds, env_file=env_file)


async def take_place(given: Servers, *, now: datetime, lanes: int) -> DemoSite:
    """Create a database for a new run, named after the time, and return its place."""
    settings = given.settings
    async with AsyncExitStack() as shared:
        pool = await _server(shared, settings)
        run = stamp = f"{now:%Y%m%d-%H%M%S}"
        number = 1
        while not await create_database(pool, database_of(run)):
            number += 1
            run = f"{stamp}-{number}"
    return DemoSite(run, settings_of(settings, run, lanes), given)


def settings_of(settings: Settings, run: str, lanes: int) -> Settings:
    """Return the settings of a run: the same servers, its own contexts, database, topics and lake."""
    database = _urls(settings, database_of(run))
    changed: Mapping[str, Mapping[str, Any]] = {
        "database": database,
        "topics": {"prefix": TOPIC_PREFIX + run, "partitions": lanes},
        "lake": {"root": str(_lake(run)), "format": "parquet"},
        "retention": {"roots": "", "as_of": AS_OF},
        "secret": {"keys": settings.secret.keys or SecretStr(new_master_key(run))},
    }
    groups = {
        name: type(getattr(settings, name)).model_validate({**dict(iter(getattr(settings, name))), **changes})
        for name, changes in changed.items()
    }
    return settings.model_copy(update={**groups, "contexts": CONTEXTS})


def _urls(settings: Settings, database: str) -> dict[str, str]:
    """Return the addresses of all logins, with another database."""
    return {
        name: urlsplit(secret.get_secret_value())._replace(path=f"/{database}").geturl()
        for name in _URLS
        if (secret := getattr(settings.database, name)) is not None
    }


async def remove_runs(settings: Settings, chosen: str) -> list[str]:
    """Delete what the run of that name has made, or, if `chosen` is "all", what every run has; return their names.

    Raises:
        UsageError: there is no such run.
    """
    async with AsyncExitStack() as shared:
        names = await databases_beginning(await _server(shared, settings), DATABASE_PREFIX)
    found = [name.removeprefix(DATABASE_PREFIX).replace("_", "-") for name in names]
    runs = [run for run in found if _RUN.fullmatch(run)]
    if chosen not in {"all", *runs}:
        raise UsageError(
            f"there is no run {chosen!r} on these servers; there is: {', '.join(runs) or 'none'}"
        )
    gone = runs if chosen == "all" else [chosen]
    for run in gone:
        await remove_run(settings, run)
    return gone


async def remove_run(settings: Settings, run: str) -> None:
    """Delete database, topics and lake of a run; its schemas stay in the registry, where they are harmless."""
    topics = Topics(kafka_connection(settings))
    named = sorted(Deployment.of(settings_of(settings, run, lanes=1)).catalog.topics())
    there = [name for name, state in (await topics.describe(named)).items() if state is not None]
    if there:
        await topics.delete(there)
    async with AsyncExitStack() as shared:
        await drop_database(await _server(shared, _beside(settings, run)), database_of(run))
    shutil.rmtree(_lake(run), ignore_errors=True)
    _remove_env_file(_env_file(run))


def _beside(settings: Settings, run: str) -> Settings:
    """Return the settings with another database if theirs is the run's, as with its env file: none drops itself."""
    if f"/{database_of(run)}" not in _paths(settings):
        return settings
    database = type(settings.database).model_validate(
        dict(settings.database) | _urls(settings, MAINTENANCE_DATABASE)
    )
    return settings.model_copy(update={"database": database})


def _paths(settings: Settings) -> list[str]:
    found = [getattr(settings.database, name) for name in _URLS]
    return [urlsplit(secret.get_secret_value()).path for secret in found if secret is not None]


async def _server(shared: AsyncExitStack, settings: Settings) -> Pool:
    return await open_pool(
        shared, settings, name="tidemill demo", size=1, login="migration", timeouts=_SLOWLY
    )


def _env_file(run: str) -> Path:
    return cache_folder() / "demo" / f"{run}.env"


def _remove_env_file(env_file: Path) -> None:
    latest = env_file.with_name(LATEST)
    if latest.is_symlink() and latest.readlink() == Path(env_file.name):
        latest.unlink()
    env_file.unlink(missing_ok=True)


def _lake(run: str) -> Path:
    return cache_folder() / "demo" / f"{run}.lake"
