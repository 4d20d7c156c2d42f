"""Contexts whose rows may sign in, which no deployment has: members, who may be shut out, and badges, who may not."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tests.support.engine.entity_contexts import Commands
from tidemill.api import Label, Message, PasswordHash, Secret, SignInColumns
from tidemill.api.entities.declaration import entity, family
from tidemill.api.entities.options import unique
from tidemill.domain.stream import Stream


class Member(Message):
    """A member of a club."""

    login: Label = Field(description="What the member signs in with.")
    pass_hash: Annotated[PasswordHash, Secret()] = Field(description="The hash of the password.")
    may_enter: bool = Field(default=True, description="Whether the member is let in.")


class Badge(Message):
    """A badge of a member, with a password of its own."""

    order: Label = Field(description="What is written on it; a word that SQL quotes.")
    pass_hash: Annotated[PasswordHash, Secret()] = Field(description="The hash of its password.")


members = entity(
    Member,
    unique=(unique("login", ignore_case=True),),
    hidden=("pass_hash",),
    sign_in=SignInColumns("login", "pass_hash", active="may_enter"),
)
badges = entity(
    Badge,
    within=members,
    unique=(unique("order", ignore_case=True),),
    sign_in=SignInColumns("order", "pass_hash"),
)
CLUB = family("members", members, badges, partitions=4)
STREAM = Stream.of(CLUB)
member, badge = Commands(members), Commands(badges)
