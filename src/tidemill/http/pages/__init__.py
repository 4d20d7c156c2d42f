"""Pages for people: each is one file that loads nothing from another host, with the headers that make sure of it."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Final

DESCRIPTION: Final = "openapi.json"
"""What the page at `/docs` reads, beside it."""


@dataclass(frozen=True, slots=True)
class HtmlPage:
    """A page and the headers to send with it."""

    body: bytes
    headers: Mapping[str, str]


@lru_cache(maxsize=1)
def docs_page() -> HtmlPage:
    """Return the page at `/docs`, which lists the routes of the OpenAPI document and sends requests.

    It reads `openapi.json` from the folder that it is served in. Its own script and style are named by their hashes:
    any other, such as one that a description might bring, does not run.
    """
    text = files(__package__).joinpath("docs.html").read_text(encoding="utf-8")
    scripts, styles = _hashes(text, "script"), _hashes(text, "style")
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-cache",
    }
    return HtmlPage(text.encode(), headers)


def _hashes(text: str, tag: str) -> str:
    """Return the sources of a policy for the elements of a page with this tag."""
    contents = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    digests = (b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
