"""Users: who may sign in, with a salted hash of the password and never the password itself."""

from pydantic import Field

from tidemill.api import Label, Message, entity, unique


class User(Message):
    """An account of a person."""

    username: Label = Field(description="What the user signs in with.")
    email: Label = Field(description="Where the user gets mail.")
    hashed_password: Label = Field(description="The argon2 hash of the password; never the password.")
    full_name: Label | None = Field(default=None, description="How the user is addressed.")
    is_active: bool = Field(default=True, description="Whether the user may sign in.")


users = entity(User, unique=(unique("username", ignore_case=True), unique("email", ignore_case=True)))

context = users.context()
