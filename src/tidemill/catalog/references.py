"""References between the streams of a deployment: contexts do not know each other, so they refer by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from tidemill.domain.errors import ContractError
from tidemill.domain.state import Reference, State
from tidemill.domain.stream import Stream

Referring = tuple[tuple[State, Reference], ...]


def with_references(streams: Mapping[str, Stream]) -> dict[str, Stream]:
    """Return the streams, by aggregate, each with the states of others that it refers to and that refer to it.

    Raises:
        ContractError: two streams have states of one name, or a state refers to one that is not there or that expires.
    """
    states = _by_name(streams)
    referring = _referring(streams, states)
    return {
        aggregate: replace(
            stream,
            others={
                reference.to: states[reference.to]
                for state in stream.states
                for reference in state.refers
                if states[reference.to] not in stream.states
            },
            referring={
                state.name: referring[state.name] for state in stream.states if state.name in referring
            },
        )
        for aggregate, stream in streams.items()
    }


def _by_name(streams: Mapping[str, Stream]) -> dict[str, State]:
    states: dict[str, State] = {}
    for aggregate, stream in streams.items():
        for state in stream.states:
            if state.name in states:
                raise ContractError(f"two aggregates have a table {state.name}, one of them is {aggregate}")
            states[state.name] = state
    return states


def _referring(streams: Mapping[str, Stream], states: Mapping[str, State]) -> dict[str, Referring]:
    found: dict[str, list[tuple[State, Reference]]] = defaultdict(list)
    for aggregate, stream in streams.items():
        inside = {state.name for state in stream.states}
        for state in stream.states:
            for reference in state.refers:
                if reference.to not in states:
                    raise ContractError(
                        f"{state.name} of {aggregate} refers to {reference.to}, which no context of this deployment "
                        "has: add its context to TIDEMILL_CONTEXTS"
                    )
                if states[reference.to].expiry is not None:
                    raise ContractError(
                        f"{state.name} of {aggregate} refers to {reference.to}, whose rows end by themselves: what "
                        "refers to one would not notice"
                    )
                if reference.restrict and reference.to not in inside:
                    found[reference.to].append((state, reference))
    return {name: tuple(each) for name, each in found.items()}
