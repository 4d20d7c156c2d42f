"""Running one task to its end, as a verb does: logging for a person, an event loop, and what it opened closed again."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

from tidemill.app.deployment import Deployment
from tidemill.runtime.telemetry.logging import Redactor, configure_logging
from tidemill.settings import Settings

T = TypeVar("T")


def deployment_of(settings: Settings) -> Deployment:
    """Return the deployment, with logging set up so that only Tidemill's warnings appear between a verb's lines."""
    configure_logging("WARNING", "console", secrets=settings.secrets(), libraries=False)
    return Deployment.of(settings)


def run(task: Coroutine[Any, Any, T]) -> T:
    """Run a task in a new event loop and return its result."""
    return uvloop.run(task)


def redacted(settings: Settings, text: str) -> str:
    """Return `text` without the secrets of `settings`."""
    return Redactor(settings.secrets()).text(text)
