"""Users: who may sign in, with a hash of the password that is encrypted, and never the password itself."""

from typing import Annotated

from pydantic import Field

from tidemill.api import CleanLabel, Email, Message, PasswordHash, Secret, SignInColumns, entity, unique


class User(Message):
    """An account of a person."""

    username: CleanLabel = Field(description="What the user signs in with.")
    email: Email = Field(description="Where the user gets mail.")
    hashed_password: Annotated[PasswordHash, Secret()] = Field(
        description="The argon2id hash of the password; never the password. Stored and published encrypted."
    )
    full_name: CleanLabel | None = Field(default=None, description="How the user is addressed.")
    is_active: bool = Field(default=True, description="Whether the user may sign in.")


users = entity(
    User,
    unique=(unique("username", ignore_case=True), unique("email", ignore_case=True)),
    hidden=("hashed_password",),
    sign_in=SignInColumns("username", "hashed_password", active="is_active"),
)

context = users.context()
