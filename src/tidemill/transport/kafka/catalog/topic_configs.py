"""The settings of topics that exist: reading them, and setting some without changing the rest.

The client's own `alter_configs` resets every setting that it is not given; Kafka's later request sets only the named
ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NoError, TopicAuthorizationFailedError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Schema, String

from tidemill.domain.errors import Unavailable, UsageError

_TOPIC: Final = 2
_SET: Final = 0


class _AlterResponse(Response):  # type: ignore[misc]  # the client has no types
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "responses",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
            ),
        ),
    )


class _AlterStruct(RequestStruct):  # type: ignore[misc]  # the client has no types
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = _AlterResponse
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                (
                    "configs",
                    Array(
                        ("name", String("utf-8")),
                        ("config_operation", Int8),
                        ("value", String("utf-8")),
                    ),
                ),
            ),
        ),
        ("validate_only", Boolean),
    )


class _Alter(Request[_AlterStruct]):  # type: ignore[misc]  # the client has no types
    """Kafka's IncrementalAlterConfigs, which the client lacks."""

    API_KEY = 44

    def __init__(self, settings: Mapping[str, Mapping[str, str]]) -> None:
        self._settings = settings

    def build(self, request_struct_class: type[_AlterStruct]) -> _AlterStruct:
        resources = [
            (_TOPIC, topic, [(name, _SET, value) for name, value in values.items()])
            for topic, values in self._settings.items()
        ]
        validate_only = False
        return request_struct_class(resources, validate_only)


async def configs_of(admin: Any, topics: Collection[str]) -> dict[str, dict[str, str]]:
    """Return topic -> name -> value of every setting in force."""
    if not topics:
        return {}
    wanted = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    found: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs(wanted):
        for code, message, _, topic, entries in response.resources:
            if code != 0:
                raise for_code(code)(message)
            found[topic] = {entry[0]: entry[1] for entry in entries}
    return found


async def set_configs(admin: Any, settings: Mapping[str, Mapping[str, str]]) -> None:
    """Set topic -> name -> value; all other settings stay. Brokers apply it a moment later.

    Raises: `UsageError` if the broker refuses, `Unavailable` if it may accept it later.
    """
    response = await admin._send_request(_Alter(settings))  # there is no public method for this request
    for code, message, _, topic in response.responses:
        error = for_code(code)
        if error is NoError:
            continue
        if error is TopicAuthorizationFailedError:
            raise UsageError(
                f"{topic}: the right to alter its settings is missing: grant alter-configs to Tidemill's principal"
            )
        said = f"setting {_text(settings[topic])} of {topic}: {error.__name__}, {message or error.__doc__}"
        raise Unavailable("kafka", said) if error.retriable else UsageError(f"{said}; the broker refuses it")


def _text(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
