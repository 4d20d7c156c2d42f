"""What an entity declares of rows that end by themselves, and what must hold of that."""

from __future__ import annotations

from datetime import datetime
from types import NoneType
from typing import get_args

from tidemill.api.entities.options import Options
from tidemill.domain.errors import ContractError
from tidemill.domain.messages import Message


def check_expiry(model: type[Message], options: Options, *, is_part: bool) -> None:
    """Refuse what would hold for a row whose time is over, until the service removes it. Raises `ContractError`.

    `is_part`: whether the entity belongs to another one.
    """
    name = options.expires
    if not name:
        return
    kind = model.model_fields[name].annotation
    demands = {
        "is a time: datetime, or datetime | None": {*(get_args(kind) or (kind,))} - {NoneType} == {datetime},
        'needs delete="hard": its key may be created again': options.delete == "hard",
        "takes no unique values: a row whose time is over would hold them": not options.unique,
        "takes no refers: a row whose time is over would still refer": not options.refers,
        "takes no life: no step ends it": options.life is None,
        "takes no within: what belongs to others ends with them": not is_part,
        "cannot be hidden: readers see the time until which they see the row": name not in options.hidden,
    }
    if broken := [demand for demand, is_met in demands.items() if not is_met]:
        raise ContractError(f"{model.__name__}.{name} says when a row expires: it {broken[0]}")
