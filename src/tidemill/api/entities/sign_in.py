"""What an entity declares of signing in, and what must hold of the fields that it names."""

from __future__ import annotations

from tidemill.api.entities.options import Options
from tidemill.api.entities.rows import is_required
from tidemill.domain.errors import ContractError
from tidemill.domain.messages import Message
from tidemill.domain.secrets import secrets_of


def sign_in_fields(options: Options) -> set[str]:
    """Return the fields that the declaration names; none without one."""
    columns = options.sign_in
    if columns is None:
        return set()
    return {columns.name, columns.password_hash, *filter(None, [columns.active])}


def check_sign_in(model: type[Message], options: Options) -> None:
    """Refuse fields by which nobody could sign in, or somebody else could. Raises `ContractError`."""
    columns = options.sign_in
    if columns is None:
        return
    if not any(other.ignore_case and other.fields == (columns.name,) for other in options.unique):
        demand = (
            f'must be unique by itself, without regard to case: unique("{columns.name}", ignore_case=True)'
        )
        raise _unfit(model, columns.name, demand)
    secret = secrets_of(model).get(columns.password_hash)
    if secret is None or secret.names:
        raise _unfit(model, columns.password_hash, "must be encrypted: Annotated[PasswordHash, Secret()]")
    if not is_required(model, columns.password_hash):
        raise _unfit(model, columns.password_hash, "must not be null")
    if columns.active is not None and model.model_fields[columns.active].annotation is not bool:
        raise _unfit(model, columns.active, "must be true or false: bool")


def _unfit(model: type[Message], name: str, demand: str) -> ContractError:
    return ContractError(f"{model.__name__}.{name} is for signing in: it {demand}")
