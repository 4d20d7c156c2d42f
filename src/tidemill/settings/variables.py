"""Settings for people: names of variables, mistakes in one line each, and the page that lists them."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

PREFIX = "TIDEMILL_"
SECRETS_DIR = f"{PREFIX}SECRETS_DIR"
CACHE = f"{PREFIX}CACHE"

Groups = Mapping[str, FieldInfo]
"""The fields of `Settings`, by name: each a group of settings, or a setting by itself."""


@dataclass(frozen=True)
class Variable:
    """One setting: its name, what it accepts, its default, its meaning."""

    name: str
    accepts: str
    default: str
    meaning: str
    secret: bool


def variables_of(groups: Groups) -> list[Variable]:
    """Return every variable of the groups, in their order."""
    return [variable for name, field in groups.items() for variable in _variables(name, field)]


def _variables(name: str, field: FieldInfo) -> list[Variable]:
    model = _model(field)
    if model is None:
        return [_variable(f"{PREFIX}{name}".upper(), field)]
    return [_variable(f"{PREFIX}{name}_{inner}".upper(), each) for inner, each in model.model_fields.items()]


def explain(error: ValidationError, groups: Groups) -> Iterator[str]:
    """Return one line for each mistake: the variable, its value unless it is a secret, and what was expected."""
    known = {variable.name: variable for variable in variables_of(groups)}
    for mistake in error.errors(include_url=False):
        yield _explain(mistake, known)


_OF_TESTS = f"{PREFIX}TEST_"


def misspelt(environment: Mapping[str, str], groups: Groups) -> list[str]:
    """Return one line for each variable that looks like a setting, but is not.

    Other parts own variables with the same prefix, so a name counts as misspelt only if it is in one of these groups,
    or close to one of these names; `TIDEMILL_TEST_...` belongs to the tests, however close it is.
    """
    known = [variable.name for variable in variables_of(groups)] + [SECRETS_DIR, CACHE]
    ours = tuple(f"{PREFIX}{group.upper()}_" for group in groups)
    lines = []
    for name in sorted(each for each in set(environment) - set(known) if not each.startswith(_OF_TESTS)):
        close = get_close_matches(name, known, n=1, cutoff=0.9) if name.startswith(PREFIX) else []
        if close or name.startswith(ours):
            suggestions = close or get_close_matches(name, known, n=1, cutoff=0.6)
            lines.append(
                f"{name}: no such setting"
                + (f"; did you mean {suggestions[0]}?" if suggestions else "; see docs/settings.md")
            )
    return lines


def table(groups: Groups) -> str:
    """Return the page `docs/settings.md`."""
    lines = [_INTRODUCTION]
    for name, field in groups.items():
        model = _model(field)
        about = field.title if model is None else model.__doc__
        lines += [f"\n## {name}\n", f"{' '.join((about or '').split())}\n"]
        lines += ["| variable | accepts | default | meaning |", "|---|---|---|---|"]
        lines += map(_row, _variables(name, field))
    return "\n".join(lines) + "\n"


_INTRODUCTION = f"""\
# Settings

Every process and every verb reads these variables at start, and refuses to start with a line for each one that is
wrong. A variable may also be

- a line `NAME=value` of the file given as `tidemill --env-file FILE`, or
- a file of the same name, in lower case, in the folder that `{SECRETS_DIR}` names (as secrets are mounted in
  containers): its content is the value.

The environment takes precedence over both. Values marked *secret* appear in no log, error or page.

`{CACHE}` is not a setting of a process: it names the folder in which `tidemill dev`, `make demo` and `make test` keep
the servers that they start, with their programs, data and logs (`~/.cache/tidemill` by default, or `tidemill` in
`XDG_CACHE_HOME`). Once `tidemill dev down --purge` has run it may be deleted.

This page is generated from `tidemill.settings`: change it there, then `python -m tidemill.settings >
docs/settings.md`."""


def _model(field: FieldInfo) -> type[BaseModel] | None:
    """Return the class of a group, None for a setting by itself."""
    model = field.annotation
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def _variable(name: str, field: FieldInfo) -> Variable:
    return Variable(
        name=name,
        accepts=_accepts(field.annotation, field.metadata),
        default="" if field.default is None else _shown(field.default),
        meaning=field.description or "",
        secret=_is_secret(field.annotation),
    )


def _row(variable: Variable) -> str:
    meaning = variable.meaning + (" (*secret*)" if variable.secret else "")
    default = f"`{variable.default}`" if variable.default else ""
    return f"| `{variable.name}` | {variable.accepts} | {default} | {meaning.replace('|', chr(92) + '|')} |"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_is_secret(part) for part in get_args(annotation))


_FILE = "a file"
_KINDS: Mapping[Any, str] = {
    bool: "`true`, `false`",
    int: "a whole number",
    float: "a number",
    str: "text",
    SecretStr: "text",
    Path: _FILE,
    AwareDatetime: "a time such as `2026-01-01T00:00:00Z`",
}


def _accepts(annotation: Any, metadata: list[Any]) -> str:
    inner = [part for part in get_args(annotation) if part is not type(None)]
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in inner)
    if hasattr(annotation, "__metadata__"):
        own = [bound for part in annotation.__metadata__ for bound in getattr(part, "metadata", [part])]
        return _accepts(annotation.__origin__, own)
    if get_origin(annotation) in {Union, types.UnionType}:
        return _accepts(inner[0], metadata)
    return _KINDS[annotation] + _bounds(metadata)  # a KeyError: add what a new type accepts


def _bounds(metadata: list[Any]) -> str:
    found = {
        name: getattr(item, name) for item in metadata for name in ("gt", "ge", "le") if hasattr(item, name)
    }
    if "ge" in found and "le" in found:
        return f" from {found['ge']} to {found['le']}"
    return "".join(
        f" {sign} {found[name]}" for name, sign in (("gt", "above"), ("ge", "from")) if name in found
    )


def _explain(mistake: ErrorDetails, known: Mapping[str, Variable]) -> str:
    own = mistake["msg"].removeprefix("Value error, ")
    if own.startswith(PREFIX):  # a check that concerns several variables names the one to change
        return own
    name = "_".join([PREFIX.rstrip("_"), *(str(part) for part in mistake["loc"][:2])]).upper()
    variable = known.get(name)
    if variable is None:
        return f"{name}: no such setting; see docs/settings.md"
    value = "" if variable.secret else f"={mistake['input']}"
    expected = own if own.startswith("expected") else f"expected {variable.accepts.replace('`', '')}"
    missing = ", which must exist" if variable.accepts == _FILE else ""
    return f"{name}{value}: {expected}{missing}"
