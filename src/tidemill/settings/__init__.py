"""Settings: the configuration of a deployment, read from the environment and checked at start.

A setting is a variable `TIDEMILL_<GROUP>_<NAME>`, or `TIDEMILL_<NAME>` where it has no group; `docs/settings.md` lists
them all and is generated from this package. A variable may also be a line of an env file, or a file of the same name
in the folder `TIDEMILL_SECRETS_DIR`; the environment takes precedence. Secrets never appear in errors, logs or `repr`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from tidemill.domain.errors import UsageError
from tidemill.settings.groups import (
    ArchiverSettings,
    CommandSettings,
    DatabaseSettings,
    HealthSettings,
    KafkaSettings,
    LakeSettings,
    LogSettings,
    OutboxSettings,
    RegistrySettings,
    RetentionSettings,
    SecretSettings,
    TopicSettings,
)
from tidemill.settings.http import HttpSettings
from tidemill.settings.jwt import JwtSettings
from tidemill.settings.variables import PREFIX, SECRETS_DIR, Variable, explain, misspelt, table, variables_of

__all__ = [
    "ArchiverSettings",
    "CommandSettings",
    "DatabaseSettings",
    "HealthSettings",
    "HttpSettings",
    "JwtSettings",
    "KafkaSettings",
    "LakeSettings",
    "LogSettings",
    "OutboxSettings",
    "RegistrySettings",
    "RetentionSettings",
    "SecretSettings",
    "Settings",
    "TopicSettings",
    "Variable",
    "load",
    "settings_page",
    "variables",
]


_MASTER_KEY = re.compile(r"(?<=:)[A-Za-z0-9+/]{43}=(?=\s*(?:,|$))")


class Settings(BaseSettings):
    """All settings. Make one with `load()`, which explains what is wrong in one line each."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    contexts: str | None = Field(
        default=None,
        title="The contexts of the deployment. A context that is not chosen has no tables, topics, groups or lanes.",
        description="contexts to work with, names separated by commas, or `all`; not set: `market_data`, "
        "`connector_profiles` and every plug-in",
    )
    database: DatabaseSettings = DatabaseSettings()
    kafka: KafkaSettings = KafkaSettings()
    registry: RegistrySettings = RegistrySettings()
    topics: TopicSettings = TopicSettings()
    commands: CommandSettings = CommandSettings()
    secret: SecretSettings = SecretSettings()
    jwt: JwtSettings = JwtSettings()
    outbox: OutboxSettings = OutboxSettings()
    lake: LakeSettings = LakeSettings()
    archiver: ArchiverSettings = ArchiverSettings()
    retention: RetentionSettings = RetentionSettings()
    http: HttpSettings = HttpSettings()
    health: HealthSettings = HealthSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _find_every_duplicate(self) -> Self:
        if self.topics.command_days >= self.commands.horizon_days:
            raise ValueError(
                f"TIDEMILL_COMMANDS_HORIZON_DAYS: expected more than {self.topics.command_days:g}, "
                "the days that commands are kept: a record that is read again must still be found as a duplicate"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  the signature is the library's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let secrets be files named like their variables."""
        secrets = NestedSecretsSettingsSource(file_secret_settings, secrets_dir_missing="error")
        return (init_settings, env_settings, dotenv_settings, secrets)

    @property
    def replies(self) -> str:
        """Return the regular expression of allowed reply topics."""
        return self.commands.replies or rf"{re.escape(self.topics.prefix)}\.replies\..*"

    def secrets(self) -> frozenset[str]:
        """Return every secret value, to be removed from output."""
        found: set[str] = set()
        for name in type(self).model_fields:
            group = getattr(self, name)
            for _, value in group if isinstance(group, BaseModel) else ():
                if isinstance(value, SecretStr):
                    found |= _parts(value.get_secret_value())
        return frozenset(found)


def load(env_file: Path | None = None, **groups: Any) -> Settings:
    """Return the settings of this process.

    Args:
        env_file: a file of lines `NAME=value` for variables that the environment does not set.
        **groups: values that override all others, e.g. `topics={"prefix": "trial"}`.

    Raises:
        UsageError: something is wrong; one line for each variable, with what was expected.
    """
    folder, settings = os.environ.get(SECRETS_DIR), None
    wrong = misspelt(os.environ, Settings.model_fields)
    try:
        settings = Settings(_env_file=_readable(env_file), _secrets_dir=folder, **groups)
    except ValidationError as error:
        wrong = _each_once([*wrong, *explain(error, Settings.model_fields)])
    except SettingsError as error:
        wrong = _each_once([*wrong, _source_problem(str(error), folder)])
    if wrong or settings is None:  # raised outside the handler: the cause would quote the values
        raise UsageError("\n".join(wrong))
    return settings


def variables() -> list[Variable]:
    """Return every variable, in the order of the groups."""
    return variables_of(Settings.model_fields)


def settings_page() -> str:
    """Return the text of `docs/settings.md`."""
    return table(Settings.model_fields)


def _parts(secret: str) -> set[str]:
    """Return a secret and the parts that are secret by themselves: a URL's password, each key of a list."""
    keys = _MASTER_KEY.findall(secret)
    written = urlsplit(secret).password
    return {secret, *keys, written, unquote(written)} if written else {secret, *keys}


def _readable(env_file: Path | None) -> Path | None:
    if env_file is not None and not env_file.is_file():
        raise UsageError(f"{env_file}: no such file; it should hold lines NAME=value")
    return env_file


def _each_once(lines: Iterable[str]) -> list[str]:
    """Return the first of the lines `NAME: ...` of each variable: a suggestion comes before "no such setting"."""
    first: dict[str, str] = {}
    for line in lines:
        first.setdefault(line.partition(":")[0], line)
    return list(first.values())


def _source_problem(message: str, folder: str | None) -> str:
    if folder is not None and "director" in message:
        return f"{SECRETS_DIR}: {message}; expected a folder of files named like the variables"
    group = re.search(r'field "(\w+)"', message)
    if group is not None:
        name = f"{PREFIX}{group[1].upper()}"
        return f"{name}: no such setting by itself; expected {name}_..., as in docs/settings.md"
    return message
