"""The description of the API: OpenAPI 3.1, made by FastAPI from the operations and their models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from fastapi import FastAPI
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from tidemill.domain.request_codes import RequestCode
from tidemill.http.problems import advice_of, rejections_by_status
from tidemill.http.route_table import Media, Operation, Parameter

DESCRIPTION: Final = (
    "Ask and tell a Tidemill deployment. A write is a command on Kafka, applied exactly once; a read never is older "
    "than the token that it is sent. Every error is a problem document with a code and what to do next."
)

_REFERENCE: Final = "#/components/schemas/{model}"

_ANYWHERE: Final = (
    RequestCode.BAD_PARAMETER,
    RequestCode.UNAUTHENTICATED,
    RequestCode.URL_TOO_LONG,
    RequestCode.INTERNAL,
    RequestCode.DATABASE_AWAY,
    RequestCode.RATE_LIMITED,
    RequestCode.OVERLOADED,
    RequestCode.DRAINING,
)


class ProblemFault(BaseModel):
    """One thing that is wrong with a request; one of the first three says where."""

    pointer: str | None = Field(None, description="JSON pointer into the body.")
    parameter: str | None = Field(None, description="Name of the parameter of the URL.")
    header: str | None = Field(None, description="Name of the header.")
    code: str | None = Field(None, description="What is wrong, as a code.")
    detail: str = Field(description="What is wrong, as a sentence.")


class Problem(BaseModel):
    """Why a request was refused (RFC 9457), and what its sender may do next."""

    type: str = Field(description="`urn:tidemill:problem:` and the code.")
    title: str = Field(description="The code in words.")
    status: int = Field(description="The status of HTTP.")
    detail: str = Field(description="What happened.")
    instance: str = Field(description="The path that was asked for.")
    code: str = Field(description="The code; docs/codes.md has all.")
    retry: Literal["same-key", "new-key", "later", "never"] = Field(description="What may be sent again.")
    advice: str = Field(description="What to do.")
    errors: list[ProblemFault] = Field(description="Everything that is wrong with the request.")
    success: Literal[False] = Field(description="False, as in the responses of the specification.")
    error_message: str = Field(description="The same as `detail`.")


def document(operations: Iterable[Operation], version: str) -> dict[str, Any]:
    """Return the description of the operations that are described."""
    operations = tuple(operations)
    api = FastAPI(
        title="Tidemill",
        version=version,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    for operation in operations:
        if operation.described:
            _describe(api, operation)
    described = api.openapi()
    components = described.setdefault("components", {})
    components.setdefault("schemas", {}).update(_schemas(operations))
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    return described


def _schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the schemas that FastAPI does not see: of problems, and of the models of bodies."""
    bodies = {
        shape for operation in operations for shape in operation.body.values() if isinstance(shape, type)
    }
    models: list[type[BaseModel]] = [Problem, *sorted(bodies, key=lambda model: model.__name__)]
    _, described = models_json_schema([(model, "validation") for model in models], ref_template=_REFERENCE)
    return dict(described["$defs"])


async def _endpoint() -> None:
    """Stand for an operation: the gateway answers, with one strict parser for all."""


def _describe(api: FastAPI, operation: Operation) -> None:
    extra: dict[str, Any] = {"parameters": [_parameter(parameter) for parameter in operation.parameters]}
    if operation.body:
        extra["requestBody"] = {
            "required": True,
            "content": {k: _content(v) for k, v in operation.body.items()},
        }
    if not operation.open:
        extra["security"] = [{"bearer": []}]
    api.add_api_route(
        operation.path,
        _endpoint,
        methods=[operation.method],
        operation_id=operation.name,
        name=operation.name,
        summary=operation.summary,
        tags=[operation.tag],
        status_code=next(iter(operation.answers), 200),  # of this one FastAPI says that it is JSON
        responses=_responses(operation),
        openapi_extra=extra,
    )


def _answers(operation: Operation) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"description": text, **({} if model is None else _shape(model))}
        for status, (text, model) in operation.answers.items()
    }


def _responses(operation: Operation) -> dict[int | str, dict[str, Any]]:
    """Return the answers of each status; one may have a model and problems, such as that of a service in need."""
    answers = _answers(operation)
    for status, problem in _problems(operation).items():
        shape = answers.get(status, {})
        text = "; ".join(part["description"] for part in (shape, problem) if part)
        answers[status] = {**shape, **problem, "description": text}
    return answers


def _shape(model: Any) -> dict[str, Any]:
    if isinstance(model, Media):
        return {"content": {model.media_type: {"schema": dict(model.schema)}}}
    return (
        {"model": model} if isinstance(model, type) else {"content": {"application/json": {"schema": model}}}
    )


def _problems(operation: Operation) -> dict[int | str, dict[str, Any]]:
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in dict.fromkeys((*operation.codes, *(() if operation.open else _ANYWHERE))):
        by_status[code.status].append(f"`{code}`: {code.advice}")
    if operation.decides:
        for status, rejections in rejections_by_status().items():
            by_status[status] += [f"`{code}`: {advice_of(code)}" for code in rejections]
    return {status: _refusals(texts) for status, texts in by_status.items()}


def _refusals(texts: list[str]) -> dict[str, Any]:
    text = "; ".join(texts) or "The command was rejected, by a code of its context."
    schema = {"$ref": _REFERENCE.format(model="Problem")}
    return {"description": text, "content": {"application/problem+json": {"schema": schema}}}


def _content(shape: Any) -> Mapping[str, Any]:
    if isinstance(shape, type):
        return {"schema": {"$ref": _REFERENCE.format(model=shape.__name__)}}
    return {"schema": shape}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.text,
        "required": parameter.required or parameter.place == "path",
        "schema": dict(parameter.schema),
    }
