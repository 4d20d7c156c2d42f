"""Fixed SQL in `.sql` files, which editors understand.

A file is beside the modules that run its statements. Each statement begins with a line `-- name: <name>` and ends
at the next one:

    -- name: read_outbox
    select position from tm.outbox where lane = $1

Comments stay in the text: they appear in the server's logs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from tidemill.domain.errors import ContractError

_NAME = re.compile(r"^-- name: *([a-z][a-z0-9_]*) *$", re.MULTILINE)


def load_statements(path: Path) -> Mapping[str, str]:
    """Return name -> SQL of a file.

    Raises:
        ContractError: the file is missing, has a name twice, or a name without a statement.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as missing:
        raise ContractError(
            f"no SQL at {path}: the installation is incomplete, install it again"
        ) from missing
    found: dict[str, str] = {}
    for name, statement in _blocks(text):
        if name in found:
            raise ContractError(f"{path}: two statements are named {name}")
        if not statement:
            raise ContractError(f"{path}: nothing follows the name {name}")
        found[name] = statement
    return MappingProxyType(found)


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    parts = _NAME.split(text)  # the text before the first name is the file's own comment
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        yield name, body.strip().removesuffix(";")
