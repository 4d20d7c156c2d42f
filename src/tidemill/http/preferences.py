"""What a client asks for by headers: `Prefer` and `If-None-Match`; those of writes are read by `submissions`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.request_codes import RequestCode

MAX_WAIT_S: Final = 30.0
READ_WAIT_S: Final = 2.0
WRITE_WAIT_S: Final = 5.0

_TAG: Final = re.compile(r'(?:W/)?"([vrh])([0-9a-zA-Z_-]+?)(?:-gzip|-br|-zstd|;gzip|--gzip)?"')
"""An entity tag of ours, also as proxies change them: weakened, or with the name of an encoding."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """The header Prefer (RFC 7240). What is not known there is ignored, as it says.

    `wait_s`: None where the client names no time.
    """

    wait_s: float | None = None
    respond_async: bool = False
    representation: bool = False
    strict: bool = False
    stale_ok: bool = False
    seen_all: bool = False


NO_PREFERENCES: Final = Preferences()


def preferences(header: str | None) -> Preferences:
    """Return what `Prefer` says. Raises `RequestRefused`: `wait` is no number of seconds."""
    if header is None:
        return NO_PREFERENCES
    stated = dict(_parts(header))
    return Preferences(
        wait_s=_seconds(stated["wait"]) if "wait" in stated else None,
        respond_async="respond-async" in stated,
        representation=stated.get("return") == "representation",
        strict=stated.get("handling") == "strict",
        stale_ok="stale-ok" in stated,
        seen_all=stated.get("seen") == "all",
    )


def _parts(header: str) -> list[tuple[str, str]]:
    parts = (part.split(";", 1)[0].strip() for part in header.split(","))
    named = (part.partition("=") for part in parts if part)
    return [(name.strip().lower(), value.strip().strip('"')) for name, _, value in named][::-1]


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise bad_header("Prefer", "wait is a whole number of seconds")
    return min(float(text), MAX_WAIT_S)


def none_match(header: str | None) -> frozenset[str]:
    """Return the tags of `If-None-Match`, without quotes; one that is not ours matches nothing."""
    if header is None:
        return frozenset()
    if header.strip() == "*":
        return frozenset("*")
    tags = (_TAG.fullmatch(part.strip()) for part in header.split(","))
    return frozenset(f"{tag[1]}{tag[2]}" for tag in tags if tag is not None)


def bad_header(name: str, detail: str) -> RequestRefused:
    """Return the refusal of a header; `detail` goes on from its name."""
    return RequestRefused(
        RequestCode.BAD_PARAMETER,
        f"{name} {detail}",
        RequestFault("header", name, detail, RequestCode.BAD_PARAMETER),
    )
