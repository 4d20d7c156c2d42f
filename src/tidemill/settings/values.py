"""Checks of the values of settings: each returns the value, or says what was expected."""

from __future__ import annotations

import json
import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

from tidemill.security.master_keys import MasterKeys
from tidemill.settings.database_urls import check_database_url

_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s,:/\[\]]+):\d{1,5}")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s,:/\[\]]+)(:\d{1,5})?")
_TOPIC_PREFIX = re.compile(r"[a-z0-9][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*)*")


AS_CREATED: Final = "as-created"
CODECS: Final = (AS_CREATED, "none", "gzip", "snappy", "zstd")
"""How the relay compresses; as-created: zstd where this version created the lanes, or else not at all."""


def _bootstrap(value: str) -> str:
    servers = [server.strip() for server in value.split(",")]
    if not all(map(_SERVER.fullmatch, servers)):
        raise ValueError("expected HOST:PORT or [IPV6]:PORT, or several separated by commas")
    return ",".join(servers)


def _http_url(value: str) -> str:
    value = value.strip()
    if urlsplit(value).scheme not in {"http", "https"} or not urlsplit(value).hostname:
        raise ValueError("expected http://HOST:PORT/PATH or https://HOST/PATH")
    if not _HOST.fullmatch(urlsplit(value).netloc.rpartition("@")[2]):
        raise ValueError("expected one address: http://HOST:PORT/PATH, with an IPv6 host in brackets")
    if urlsplit(value).password:
        raise ValueError(
            "expected no password in it: set TIDEMILL_REGISTRY_USER and TIDEMILL_REGISTRY_PASSWORD"
        )
    return value.rstrip("/")


def _topic_prefix(value: str) -> str:
    if not _TOPIC_PREFIX.fullmatch(value):
        raise ValueError("expected lower-case words joined by dots, hyphens inside a word")
    return value


def _lake_root(value: str) -> str:
    if not value.startswith("/") and not re.match(r"[a-z][a-z0-9+.-]*://.", value):
        raise ValueError("expected the absolute path of a folder, /..., or a URL such as s3://BUCKET/PATH")
    return value.rstrip("/") or "/"


def _json_object(value: SecretStr) -> SecretStr:
    try:
        parsed = json.loads(value.get_secret_value())
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise ValueError('expected a JSON object, {"name": "value"}')  # noqa: TRY004  pydantic wants a ValueError
    return value


def _secret_keys(value: SecretStr) -> SecretStr:
    MasterKeys.parse(value.get_secret_value())
    return value


def _codecs(value: str) -> str:
    for part in value.split(","):
        aggregate, _, codec = part.strip().rpartition("=")
        if codec not in CODECS or ("=" in part and not aggregate):
            raise ValueError(
                f"expected one of {', '.join(CODECS)}, and NAME=CODEC for single aggregates, separated by commas; "
                f"not {part.strip()!r}"
            )
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"expected a regular expression ({error})") from error
    return value


Codecs = Annotated[str, AfterValidator(_codecs)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(check_database_url)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
JsonObject = Annotated[SecretStr, AfterValidator(_json_object)]
LakeRoot = Annotated[str, AfterValidator(_lake_root)]
Pattern = Annotated[str, AfterValidator(_pattern)]
SecretKeyList = Annotated[SecretStr, AfterValidator(_secret_keys)]
Servers = Annotated[str, AfterValidator(_bootstrap)]
TopicPrefix = Annotated[str, AfterValidator(_topic_prefix)]
