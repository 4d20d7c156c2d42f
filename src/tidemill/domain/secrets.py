"""Secrets: which values of messages are encrypted before they are stored or published, and the form of their text.

`docs/secrets.md` says what is encrypted and what is not.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Final, NamedTuple, Protocol, Self, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tidemill.domain.errors import ContractError
from tidemill.domain.state import State

CREDENTIALS: Final = (
    "api_key",
    "access_key",
    "client_secret",
    "credential",
    "credentials",
    "passphrase",
    "password",
    "passwd",
    "private_key",
    "pwd",
    "refresh_token",
    "secret",
    "secret_key",
    "token",
    "access_token",
)
"""Names that members of a JSON object have where they hold what lets somebody in."""

_FORM: Final = re.compile(r"tms1:([1-9][0-9]{0,8}):([A-Za-z0-9_-]{38,})")

_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
"""`base64.urlsafe_b64encode` does the same in twice the time."""


@dataclass(frozen=True)
class Secret:
    """Says of a command's field that its value is encrypted, with a key of its row: `Annotated[Label, Secret()]`.

    The field is a text, and the events that carry it declare it as plain `str`, since a ciphertext is longer. Rules see
    the value; rows, events and all that is made of them hold the ciphertext.

    `names`: the value is a JSON object, of which only members of these names are encrypted, at any depth, whatever
    their type; null stays. Case, hyphens and underscores do not count; `"oauth.token"` is a `token` in an `oauth`.
    `required`: without a master key the stream stops. False: then the value is kept in clear.
    """

    names: tuple[str, ...] = ()
    required: bool = True

    @classmethod
    def of_credentials(cls, *, required: bool = True) -> Self:
        """Return what encrypts members with the usual names of credentials: `password`, `token`, `api_key` ..."""
        return cls(CREDENTIALS, required)

    def covers(self, path: tuple[str, ...]) -> bool:
        """Tell whether the member of a JSON object at `path` is encrypted."""
        simple = tuple(map(_simple, path))
        return any(simple[-len(tail) :] == tail for tail in self._tails)

    @property
    def _tails(self) -> list[tuple[str, ...]]:
        return [tuple(map(_simple, name.split("."))) for name in self.names]


def _simple(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")


class SealedText(NamedTuple):
    """The parts of an encrypted value: the generation of its row's key; nonce, ciphertext and tag."""

    generation: int
    box: bytes

    @classmethod
    def of(cls, text: str) -> Self | None:
        """Return the parts of a text; None for one that is not in this form, as clear texts are not."""
        parts = _FORM.fullmatch(text) if text.startswith("tms1:") else None
        if parts is None:
            return None
        generation, box = parts.groups()
        try:
            return cls(int(generation), base64.urlsafe_b64decode(box + "=" * (-len(box) % 4)))
        except binascii.Error:
            return None

    @property
    def text(self) -> str:
        """Return the form in which it is stored and published."""
        return sealed_form(self.generation, self.box)


def sealed_form(generation: int, box: bytes) -> str:
    """Return the text of an encrypted value."""
    encoded = binascii.b2a_base64(box, newline=False).translate(_URL_SAFE)
    return f"tms1:{generation}:{encoded.rstrip(b'=').decode()}"


class SecretReader(Protocol):
    """Opens what was encrypted, for what has to know it, such as the check of a password."""

    async def open(self, collection: str, key: str, field: str, text: str) -> str:
        """Return the clear text; a text that is not encrypted is returned unchanged.

        `collection`: the name of the state's table. `key`: of the row.

        Raises:
            MasterKeyMissing: this process lacks the master key, or has another one of that name.
            SecretUnreadable: the row's key was erased or is lost, or the text belongs elsewhere or was changed.
            Unavailable: the database does not answer.
        """
        ...

    async def open_members(self, collection: str, key: str, field: str, text: str) -> str:
        """Return a JSON object whose encrypted members are clear again. Raises what `open` raises."""
        ...


# --- what a context declares ---


def secrets_of(model: type[BaseModel]) -> dict[str, Secret]:
    """Return field -> how it is secret, for those fields of a message that are."""
    declared = {name: _declared(info) for name, info in model.model_fields.items()}
    return {name: secret for name, secret in declared.items() if secret is not None}


def secret_fields(decided: Iterable[tuple[type[BaseModel], State]]) -> dict[str, dict[str, Secret]]:
    """Return name of a state -> its secret fields, from the commands that decide about it: (command, state).

    Raises:
        ContractError: a field cannot be secret; the message says why.
    """
    fields: dict[str, dict[str, Secret]] = {}
    states = {}
    for model, state in decided:
        for name, secret in secrets_of(model).items():
            _demand_text(model, name)
            if fields.setdefault(state.name, {}).setdefault(name, secret) != secret:
                raise ContractError(
                    f"{model.__name__}.{name}: another command declares it secret in another way"
                )
            states[state.name] = state
    for name, state in states.items():
        _check_state(state, fields[name])
    return fields


def _check_state(state: State, fields: Mapping[str, Secret]) -> None:
    """Refuse what would compare ciphertexts, which differ although their values are equal, or cut them."""
    whole = {name for name, secret in fields.items() if not secret.names}
    compared = {name for unique in state.unique for name in (*unique.columns, *unique.shown)}
    compared |= {reference.column for reference in state.refers}
    if wrong := sorted(whole & compared):
        raise ContractError(f"{state.name}.{wrong[0]} is secret: it can be neither unique nor a reference")
    for event in state.events:
        for name in fields.keys() & event.model_fields.keys():
            info = event.model_fields[name]
            if info.metadata or _plain(info.annotation) is not str:
                raise ContractError(
                    f"{event.__name__}.{name} holds a ciphertext, so it has to be str or str | None, without rules"
                )


def _demand_text(model: type[BaseModel], name: str) -> None:
    kind = model.model_fields[name].annotation
    if _plain(kind, rules=True) is not str:
        raise ContractError(f"{model.__name__}.{name} is secret: it must be a text, not {kind}")


def _plain(kind: Any, *, rules: bool = False) -> Any:
    """Return a type without None and, if `rules` may be there, without those."""
    if rules and get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0], rules=True)
    if get_origin(kind) in (Union, UnionType):
        present = [part for part in get_args(kind) if part is not NoneType]
        return _plain(present[0], rules=rules) if len(present) == 1 else kind
    return kind


def _declared(info: FieldInfo) -> Secret | None:
    return _first(info.metadata) or _within(info.annotation)


def _within(kind: Any) -> Secret | None:
    """Return what is declared inside a type, as in `Annotated[Label, Secret()] | None`."""
    if get_origin(kind) is Annotated:
        inner, *extras = get_args(kind)
        return _first(extras) or _within(inner)
    return next(filter(None, map(_within, get_args(kind))), None)


def _first(parts: Iterable[Any]) -> Secret | None:
    return next((part for part in parts if isinstance(part, Secret)), None)
