"""Bodies that are models of the specification: every fault at once, each with its place."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.http.exchange import Exchange

M = TypeVar("M", bound=BaseModel)


async def model_of(model: type[M], exchange: Exchange) -> M:
    """Return the body of a request as a model. Raises `RequestRefused` with a fault for each field."""
    value = await exchange.object()
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = [
            RequestFault("pointer", _pointer(fault["loc"]), fault["msg"], RequestCode.BAD_VALUE)
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise RequestRefused(
            RequestCode.BAD_BODY, f"the body is not a {model.__name__}: {faults[0].detail}", *faults
        ) from None


def _pointer(place: tuple[int | str, ...]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)
