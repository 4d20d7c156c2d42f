"""One question or one decision of an operator: what it needs is opened before, and closed again after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import uvloop

from tidemill.app.admin import Admin
from tidemill.app.deployment import Deployment
from tidemill.security.by_hand import HandAction, journaled, operator

T = TypeVar("T")


async def ask(deployment: Deployment, question: Callable[[Admin], Awaitable[T]]) -> T:
    """Open what one question needs, and close it afterwards."""
    async with Admin(deployment) as admin:
        return await question(admin)


async def act(deployment: Deployment, action: HandAction, work: Callable[[Admin], Awaitable[T]]) -> T:
    """Do what an operator decided, between two entries of the journal."""
    async with Admin(deployment) as admin, admin.journal(action.name) as journal:
        admin.open_journal = journal
        return await journaled(journal, action, operator(), partial(work, admin))


def run_action(deployment: Deployment, action: HandAction, work: Callable[[Admin], Awaitable[T]]) -> T:
    """Do what an operator decided in its own event loop, as a verb does."""
    return uvloop.run(act(deployment, action, work))


def run_question(deployment: Deployment, question: Callable[[Admin], Awaitable[T]]) -> T:
    """Run a question in its own event loop, as a verb does."""
    return uvloop.run(ask(deployment, question))
