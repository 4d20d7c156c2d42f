"""From aiokafka's exceptions to the domain's, and the deadline that every call to Kafka gets.

Every error of the client means `Unavailable`: the broker does not answer, or the client is in a state that it
cannot leave. So does a missing right or topic, with the next step in the message: an operator fixes it while the
process waits. A bug of Tidemill is not one of these, even if it raises the same exception: it is raised unchanged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from traceback import walk_tb
from typing import Final

from aiokafka.errors import (
    ConsumerStoppedError,
    GroupAuthorizationFailedError,
    IllegalOperation,
    InconsistentGroupProtocolError,
    InvalidTimestampError,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnknownTopicOrPartitionError,
)

from tidemill.domain.errors import Unavailable
from tidemill.transport.kafka.client import connection_errors

CLIENT_ERRORS: Final = (
    KafkaError,
    OSError,
    IllegalOperation,
    ConsumerStoppedError,
    AssertionError,  # aiokafka's error for a call in a wrong state of the client
    AttributeError,  # its error when a connection is lost during a call
)

_NOT_CONNECTED: Final = (KafkaConnectionError, NodeNotReadyError)
"""The client's error without a connection, whose reason it only logs."""

_ALSO_A_MISTAKE: Final = (AssertionError, AttributeError)

_NEXT_STEP: Final = {
    UnknownTopicOrPartitionError: (
        "a topic or partition does not exist, or Tidemill's principal may not describe it: see "
        "`tidemill topics check`"
    ),
    TopicAuthorizationFailedError: "a right on a topic is missing: grant it to Tidemill's principal",
    GroupAuthorizationFailedError: (
        "the right to read with this consumer group is missing: grant it to Tidemill's principal"
    ),
    TransactionalIdAuthorizationFailed: (
        "the right to write with this transactional id is missing: grant it to Tidemill's principal"
    ),
    InconsistentGroupProtocolError: "the group's other members assign partitions differently: stop them first",
    InvalidTimestampError: "the clock of this machine is ahead of the broker's: set it",
}


def unavailable(doing: str, error: BaseException) -> Unavailable:
    """Return the domain's error for a client's exception; `doing`: what was tried. A bug is raised unchanged."""
    if isinstance(error, _ALSO_A_MISTAKE) and _is_ours(error):
        raise error
    for kind, next_step in _NEXT_STEP.items():
        if isinstance(error, kind):
            return Unavailable("kafka", f"{doing}: {next_step} ({error!r})", advised=True)
    return Unavailable("kafka", f"{doing}: {error!r}")


def _is_ours(error: BaseException) -> bool:
    """Tell whether Tidemill's code raised it: nearer to the raise than any of the client's."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    parts = [
        part for part in (module.partition(".")[0] for module in modules) if part in ("tidemill", "aiokafka")
    ]
    return bool(parts) and parts[-1] == "tidemill"


@asynccontextmanager
async def answering(doing: str, within_s: float) -> AsyncIterator[None]:
    """Give the block `within_s` seconds; raise `Unavailable` if Kafka does not answer in time, or with an error.

    The client's own calls may not end: some have no deadline, some extend it. Other errors
    pass unchanged.
    """
    began_s = monotonic()
    try:
        async with asyncio.timeout(within_s):
            yield
    except TimeoutError as error:
        raise _refused(doing, began_s) or Unavailable(
            "kafka", f"{doing}: no answer within {within_s:g} s"
        ) from error
    except _NOT_CONNECTED as error:
        raise _refused(doing, began_s) or unavailable(doing, error) from error
    except CLIENT_ERRORS as error:
        raise unavailable(doing, error) from error


def _refused(doing: str, began_s: float) -> Unavailable | None:
    """Return why a broker refused the connections that were tried meanwhile, None if that is unknown."""
    reason = connection_errors.since(began_s)
    return None if reason is None else Unavailable("kafka", f"{doing}: {reason}", advised=True)
