"""What a batch asks about other rows before its first pass, as far as its commands alone say it.

A question that is foreseen saves a second pass over the batch. One that the fold then does not need costs a look-up
and changes nothing: only the fold decides what matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

from tidemill.commands.decide_fold import DecideCommand, FoldPlan, HolderOf, InForce, Question, RowOf
from tidemill.domain.state import State, Unique

ValueOf = Callable[[Any], Any]
"""What a command says about a question: a value, or None."""

Foreseen = Mapping[type, Sequence[tuple[Question, ValueOf]]]


def foreseen_by(plan: FoldPlan, states: Mapping[type, int]) -> Foreseen:
    """Return the questions that each class of command brings. `states`: the number of its state."""
    return {model: tuple(_questions(plan, model, number)) for model, number in states.items()}


def ask_foreseen(
    foreseen: Foreseen, commands: Sequence[DecideCommand], asked: Mapping[Question, set[Any]]
) -> None:
    """Add the values of these commands to what is asked; of a question that none brings there is an empty set."""
    adding = {
        model: [(asked[question].add, value_of) for question, value_of in questions]
        for model, questions in foreseen.items()
    }
    for command in commands:
        for add, value_of in adding[command.spec.model]:
            value = value_of(command.command)
            if value is not None:
                add(value)


def _questions(plan: FoldPlan, model: type[Any], number: int) -> Iterator[tuple[Question, ValueOf]]:
    state: State = plan.states[number]
    for index, unique in enumerate(state.unique):
        if (value_of := _taken_by(unique, model)) is not None:
            yield HolderOf(number, index), value_of
    for reference in state.refers:
        if reference.column in model.model_fields:
            inside = plan.inside.get(reference.to)
            question = InForce(reference.to) if inside is None else RowOf(inside)
            yield question, attrgetter(reference.column)


def _taken_by(unique: Unique, model: type[Any]) -> ValueOf | None:
    if unique.taken_by is not None:
        return unique.taken_by
    if not model.model_fields.keys() >= set(unique.columns):
        return None
    columns = unique.columns

    def taken(command: Any) -> tuple[Any, ...] | None:
        value = tuple(getattr(command, column) for column in columns)
        return None if None in value else value

    return taken
