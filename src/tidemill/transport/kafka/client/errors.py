"""From aiokafka's exceptions to the domain's, and the deadline that every call to Kafka gets.

Whatever the client says, it means `Unavailable`: the broker does not answer, or the client has got into a state that it
cannot leave. So does a missing right or topic, with the next step in the message: an operator mends it while we wait.
A mistake of ours is none of these, even if it raises what the client raises: it stays what it is, and is loud.
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
    AssertionError,  # how aiokafka says that a client is in a state that does not allow the call
    AttributeError,  # what it raises when a connection vanishes under a call
)

_NOT_CONNECTED: Final = (KafkaConnectionError, NodeNotReadyError)
"""What the client raises when it has no connection; why, it only logs."""

_ALSO_A_MISTAKE: Final = (AssertionError, AttributeError)

_NEXT_STEP: Final = {
    UnknownTopicOrPartitionError: (
        "a topic or partition does not exist: see `tidemill topics check`; or we may not see it: see what our "
        "principal may do"
    ),
    TopicAuthorizationFailedError: "a right on a topic is missing: grant it to our principal",
    GroupAuthorizationFailedError: "the right to read with this consumer group is missing: grant it to our principal",
    TransactionalIdAuthorizationFailed: "the right to write with this transactional id is missing: grant it to us",
    InconsistentGroupProtocolError: "the group's other members assign partitions differently: stop them first",
    InvalidTimestampError: "the clock of this machine is ahead of the broker's: set it",
}


def unavailable(doing: str, error: BaseException) -> Unavailable:
    """Return what a client's exception means; `doing` says what was tried. A mistake of ours is raised as it is."""
    if isinstance(error, _ALSO_A_MISTAKE) and _is_ours(error):
        raise error
    for kind, next_step in _NEXT_STEP.items():
        if isinstance(error, kind):
            return Unavailable("kafka", f"{doing}: {next_step} ({error!r})", advised=True)
    return Unavailable("kafka", f"{doing}: {error!r}")


def _is_ours(error: BaseException) -> bool:
    """Tell whether code of ours raised it: nearer to the raise than any of the client's."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    parts = [
        part for part in (module.partition(".")[0] for module in modules) if part in ("tidemill", "aiokafka")
    ]
    return bool(parts) and parts[-1] == "tidemill"


@asynccontextmanager
async def answering(doing: str, within_s: float) -> AsyncIterator[None]:
    """Give the block `within_s` seconds; raise `Unavailable` if Kafka does not answer in time, or with an error.

    None of the client's own calls can be trusted to end: some have no deadline, some extend it. What is not the
    client's error passes as it is.
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
    """Return what a broker did to the connections that were tried meanwhile, None if nothing that is known."""
    reason = connection_errors.since(began_s)
    return None if reason is None else Unavailable("kafka", f"{doing}: {reason}", advised=True)
