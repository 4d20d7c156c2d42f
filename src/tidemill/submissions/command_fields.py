"""The fields of a command, validated as the intake will, each fault with its JSON pointer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from tidemill.api.clean_text import clean
from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.messages import CommandBase
from tidemill.domain.partial_message import faults_of_valid_fields
from tidemill.domain.records import record_fields
from tidemill.domain.request_codes import RequestCode
from tidemill.domain.secrets import secrets_of
from tidemill.domain.table_shape import TableShape
from tidemill.submissions.json_values import NotEmbedded, json_fields, json_text, losses

_MAX_FAULTS: Final = 50
_OWN_TEXTS: Final = frozenset({"value_error", "assertion_error"})
"""Pydantic's names of faults whose text a validator of a context wrote: it may quote the value."""


def command_of(
    model: type[CommandBase],
    fields: Mapping[str, Any],
    base: Mapping[str, Any],
    table: TableShape | None,
    faults: Collection[RequestFault] = (),
    under: str = "",
) -> CommandBase:
    """Return the command of these fields. Clean texts are made clean; embedded objects become their canonical text.

    `base`: its base fields. `table`: of its collection; a field that is named like a column of JSON is embedded.
    `faults`: what is wrong already. `under`: the JSON pointer of the fields.

    Raises:
        RequestRefused: `BAD_BODY`, with at most 50 faults.
    """
    texts, unfit = _with_json_text(model, fields, table)
    wrong = {fault.where for fault in (*faults, *unfit)}
    unfit_fields = [*faults, *unfit]
    values = {**clean(model, texts), **base}
    try:
        command = model.model_validate(values)
    except ValidationError as error:
        more = [fault for fault in _faults(model, error) if fault.where not in wrong]
        # what is wrong with all of it follows from what is wrong with a part
        unfit_fields += [fault for fault in more if fault.where or not unfit_fields]
        unfit_fields += [_bad("", text) for text in faults_of_valid_fields(model, values, error)]
    else:
        given = {name: value for name, value in texts.items() if name in model.model_fields}
        unfit_fields += [_bad(where, detail) for where, detail in losses(given, command)]
        if not unfit_fields:
            return command
    placed = (
        RequestFault("pointer", under + fault.where, fault.detail, fault.code)
        for fault in unfit_fields[:_MAX_FAULTS]
    )
    detail = "the body is not what its fields demand"
    if len(unfit_fields) > _MAX_FAULTS:
        detail += f" (and {len(unfit_fields) - _MAX_FAULTS} more faults)"
    raise RequestRefused(RequestCode.BAD_BODY, detail, *placed)


def _with_json_text(
    model: type[BaseModel], fields: Mapping[str, Any], table: TableShape | None, where: str = ""
) -> tuple[dict[str, Any], list[RequestFault]]:
    """Return the fields with text where JSON is embedded, those of records inside them, too."""
    texts, faults = dict(fields), []
    for name in json_fields(model, table) & texts.keys():
        if texts[name] is None:
            continue
        try:
            texts[name] = json_text(texts[name])
        except NotEmbedded as fault:
            faults.append(_bad(f"{where}/{name}", str(fault)))
    for name, record in record_fields(model).items():
        if isinstance(items := texts.get(name), list):
            made = [
                _with_json_text(record, item, table, f"{where}/{name}/{index}")
                if isinstance(item, Mapping)
                else (item, [])
                for index, item in enumerate(items)
            ]
            texts[name] = [item for item, _ in made]
            faults += [fault for _, unfit in made for fault in unfit]
    return texts, faults


def _faults(model: type[BaseModel], error: ValidationError) -> Iterator[RequestFault]:
    unquoted = {name for name, secret in secrets_of(model).items() if not secret.names}
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        path = fault["loc"]
        where = "".join(f"/{_escaped(part)}" for part in path)
        if fault["type"] == "missing":
            yield _bad(where, "is required")
        elif fault["type"] == "extra_forbidden":
            yield RequestFault("pointer", where, "is not a field", RequestCode.NO_SUCH_FIELD)
        elif path and path[0] in unquoted and fault["type"] in _OWN_TEXTS:
            yield _bad(where, "the value of a secret is refused; it is not quoted")
        else:
            yield _bad(
                where, fault["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
            )


def _escaped(part: str | int) -> str:
    """Return a part of a JSON pointer (RFC 6901)."""
    return str(part).replace("~", "~0").replace("/", "~1")


def _bad(where: str, detail: str) -> RequestFault:
    return RequestFault("pointer", where, detail, RequestCode.BAD_VALUE)
