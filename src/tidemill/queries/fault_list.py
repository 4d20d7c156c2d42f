"""All that is wrong with one request: its sender corrects it once, not fault by fault."""

from __future__ import annotations

from typing import Final, Literal

from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.request_codes import RequestCode

MAX_FAULTS: Final = 50
SHOWN_CHARACTERS: Final = 80


class FaultList:
    """Faults, in the order of the request. `kind`: what their places are."""

    def __init__(self, kind: Literal["pointer", "parameter"]) -> None:
        self.kind: Literal["pointer", "parameter"] = kind
        self._faults: list[RequestFault] = []
        self._first: RequestCode | None = None

    @property
    def malformed(self) -> RequestCode:
        """Return the code of a fault in the form of what was sent."""
        return RequestCode.BAD_BODY if self.kind == "pointer" else RequestCode.BAD_PARAMETER

    def add(self, where: str, detail: str, code: RequestCode) -> None:
        """Add a fault. `where`: the name of a parameter, or a pointer. `detail` continues a sentence about it."""
        self._first = self._first or code
        if len(self._faults) < MAX_FAULTS:
            self._faults.append(RequestFault(self.kind, where, f"{_shown(where)}: {detail}", code))

    def no_such_field(self, where: str, name: object) -> None:
        """Add that a field does not exist; the words are the same for one that is hidden."""
        self.add(where, f"there is no field {_shown(name)}", RequestCode.NO_SUCH_FIELD)

    def raise_any(self) -> None:
        """Raise `RequestRefused` with the faults, if there are any."""
        if self._first is None:
            return
        detail = self._faults[0].detail
        if len(self._faults) > 1:
            detail = f"{detail} (and {len(self._faults) - 1} more)"
        raise RequestRefused(self._first, detail, *self._faults)


def _shown(name: object) -> str:
    text = name if isinstance(name, str) else repr(name)
    printable = text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\0")
    return printable if len(printable) <= SHOWN_CHARACTERS else f"{printable[:SHOWN_CHARACTERS]}..."
