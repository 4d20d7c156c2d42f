"""A schema registry in memory: obeys the same conformance suite as the real one."""

from __future__ import annotations

import json
from collections import Counter

from tidemill.catalog.avro import parse_record
from tidemill.catalog.compatibility import obstacles
from tidemill.catalog.ports import Compatibility, Registered
from tidemill.domain.errors import ContractError, Unavailable


class MemoryRegistry:
    """Ids from 1, one for each text; `away` makes it unavailable; `asked` counts the calls by method."""

    def __init__(self) -> None:
        self.away = False
        self.asked: Counter[str] = Counter()
        self.levels: dict[str, Compatibility] = {}
        self._ids: dict[str, int] = {}
        self._subjects: dict[str, list[str]] = {}

    async def find(self, schema_id: int) -> Registered | None:
        self._ask("find")
        texts = {known: text for text, known in self._ids.items()}
        if schema_id not in texts:
            return None
        text = texts[schema_id]
        subjects = frozenset(subject for subject, versions in self._subjects.items() if text in versions)
        return Registered(text, subjects)

    async def id_of(self, subject: str, text: str) -> int | None:
        self._ask("id_of")
        normal = _normal(text)
        return self._ids[normal] if normal in self._subjects.get(subject, []) else None

    async def register(self, subject: str, text: str) -> int:
        self._ask("register")
        normal = _normal(text)
        versions = self._subjects.setdefault(subject, [])
        if normal not in versions:
            self._refuse_incompatible(subject, normal)
            versions.append(normal)
        return self._ids.setdefault(normal, len(self._ids) + 1)

    async def require(self, subject: str, level: Compatibility) -> None:
        self._ask("require")
        self.levels[subject] = level

    async def close(self) -> None:
        self._ask("close")

    def _ask(self, call: str) -> None:
        self.asked[call] += 1
        if self.away:
            raise Unavailable("registry", "switched off by the test")

    def _refuse_incompatible(self, subject: str, text: str) -> None:
        level = self.levels.get(subject)
        new = parse_record(text)
        for old in map(parse_record, self._subjects[subject]):
            faults = obstacles(reader=new, writer=old) if level is not None else []
            if level == "FULL_TRANSITIVE":
                faults += obstacles(reader=old, writer=new)
            if faults:
                raise ContractError(f"the registry refuses {subject}: {faults[0]}")


def _normal(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)
