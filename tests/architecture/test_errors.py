"""Errors are one tree, each with a code and, by its code, an advice; what a machine reads is in no sentence."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

from tests.architecture import tree
from tests.architecture.test_readme import CODES_PAGE, rows, section
from tidemill.domain import errors
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.rejections import HALTED, PARKED, REJECTED

ROOT_ERROR = "TidemillError"
PRODUCT = [path for path in tree.python_files("src") if path.parts[1] == "tidemill"]
DRAWN = """
TidemillError
├── ClientLeft
├── ContractError
│   ├── Dangerous
│   └── NotAsExpected
├── CopyError
│   └── PathRefused
├── CopyStands
├── DataError
├── Fenced
├── FoldFailed
├── ForeignTail
├── GenerationClosed
├── LaneHalted
├── MasterKeyMissing
├── MigrationFailed
├── RebuildTargetLost
├── RepeatedIds
├── ReplayFailed
├── RequestRefused
│   └── NoSuchVerb
├── SecretUnreadable
├── TableMisfit
├── TooManyFoldPasses
├── TooManyRows
├── TransientError
│   ├── Busy
│   ├── CheckpointMoved
│   ├── CommitUnknown
│   ├── Gone
│   ├── MigrationBlocked
│   │   └── MigrationDeadlocked
│   ├── NotCompared
│   ├── Overtaken
│   ├── SessionDoubted
│   │   └── OutOfDate
│   └── Unavailable
├── Unreadable
│   └── NewerSchema
├── UsageError
│   ├── NotMigrated
│   └── _NotWhatLeft
├── _DecideAnew
└── _HeadersUnwritten
"""

BESIDE_THE_TREE = {
    "AssertionError": "a branch that is never reached",
    "ArrowInvalid": "Arrow's own, translated where copies are read",
    "ArrowTypeError": "Arrow's own, translated where copies are read",
    "AttributeError": "Python's protocol of a module's names",
    "BadParameter": "the command line's own way to refuse an argument",
    "CopyRefused": "inside the archiver, which answers with its code",
    "EOFError": "what the client's own unpacking raises, and our patch of it",
    "Exit": "the command line's own way to end with a code",
    "FileNotFoundError": "a distribution without its files",
    "ForbiddenTransition": "a mistake of ours in the life of a lane",
    "Interrupted": "inside the archiver: it is to stop",
    "JsonFault": "inside the reader of JSON, whose user says what it is about",
    "KafkaConnectionError": "the client's own, translated with its others",
    "Malformed": "inside the reader, which says what cannot be read",
    "NotEmbedded": "inside the reader of a document, which lists what is wrong with it",
    "NotWhole": "inside the reader, which parks or waits",
    "PublisherFenced": "between publisher and relay, which ends or starts another one",
    "PydanticCustomError": "a value that pydantic tells whole, under a name of its own",
    "RecordRefused": "between publisher and relay, which sends less or halts the lane",
    "RuntimeError": "a mistake of ours in how it is called",
    "SealedElsewhere": "inside the fold, which rejects the command",
    "TimeoutError": "in a thread of the lake, translated where it is called from",
    "TooManyItems": "inside the reader, which says what cannot be read",
    "TopicAuthorizationFailedError": "the client's own, translated with its others",
    "TypeError": "a mistake in code: of a rule, or of ours",
    "UnknownTopicOrPartitionError": "the client's own, translated with its others",
    "UnpacksTooLarge": "inside the client, which takes it for a batch that cannot be unpacked",
    "ValueError": "a value that pydantic, or the caller in the same module, tells whole",
    "ValueFault": "inside the reader of a request, which lists what is wrong with it",
    "_Unknown": "inside the reader, which parks or waits",
}
"""What is raised on purpose and is no error of the tree, with the reason: it is caught before it reaches an outside."""

ADVICE_IN_SENTENCES = 84
"""Raises whose text still holds an advice that belongs to a code; more than today's may not become."""

_VERBS = (
    "add begin bring choose correct create declare end find fix give install keep look make repair migrate name put "
    "raise read restore resume run say see send set start stop take try use wait watch write"
)
ADVICE = re.compile(rf"`tidemill |[;:.,] ({'|'.join(_VERBS.split())}) ", re.IGNORECASE)


def bases() -> dict[str, str]:
    """Every class of the product that is raised or could be: its name, and that of its first base."""
    found: dict[str, str] = {}
    for path in PRODUCT:
        for node in ast.walk(tree.syntax(path)):
            if isinstance(node, ast.ClassDef) and node.bases:
                found.setdefault(node.name, ast.unparse(node.bases[0]).rpartition(".")[2])
    return found


def is_ours(name: str, known: dict[str, str]) -> bool:
    return name == ROOT_ERROR or (name in known and is_ours(known[name], known))


def draw(name: str, known: dict[str, str], indent: str = "") -> Iterator[str]:
    below = sorted(
        (each for each, base in known.items() if base == name), key=lambda each: (each[0] == "_", each)
    )
    for at, each in enumerate(below):
        last = at == len(below) - 1
        yield f"{indent}{'└──' if last else '├──'} {each}"
        yield from draw(each, known, indent + ("    " if last else "│   "))


def raised() -> Iterator[tuple[str, str]]:
    """The name of every class that is raised by its name, and where."""
    for path in PRODUCT:
        for node in ast.walk(tree.syntax(path)):
            if isinstance(node, ast.Raise) and node.exc is not None:
                made = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                name = ast.unparse(made).rpartition(".")[2]
                if name.lstrip("_")[:1].isupper():
                    yield name, f"{path}:{node.lineno}"


def made() -> Iterator[tuple[ast.Call, str]]:
    """Every error of the tree that is made by its name, and where."""
    known = bases()
    for path in PRODUCT:
        for node in ast.walk(tree.syntax(path)):
            if isinstance(node, ast.Call) and is_ours(ast.unparse(node.func).rpartition(".")[2], known):
                yield node, f"{path}:{node.lineno}"


def test_the_tree_is_as_drawn() -> None:
    drawn = [ROOT_ERROR, *draw(ROOT_ERROR, bases())]
    assert drawn == DRAWN.strip().splitlines(), "\n".join(drawn)


def test_the_vocabulary_draws_its_part() -> None:
    shown = re.findall(
        r"^    (?:[│ ]   )*(?:[├└]── )?(\w+)(?:  |$)", inspect.getdoc(errors) or "", re.MULTILINE
    )
    classes = [value for value in vars(errors).values() if inspect.isclass(value)]
    assert sorted(shown) == sorted(
        each.__name__ for each in classes if issubclass(each, errors.TidemillError)
    )


def test_what_is_raised_on_purpose_is_below_the_one_root() -> None:
    known = bases()
    beside: dict[str, list[str]] = {}
    for name, place in raised():
        if not is_ours(name, known):
            beside.setdefault(name, []).append(place)
    foreign = {name: places for name, places in beside.items() if name not in BESIDE_THE_TREE}
    assert not foreign
    assert not BESIDE_THE_TREE.keys() - beside.keys(), "nothing raises these any more: take them out"


def test_every_code_is_defined_once_and_used() -> None:
    others = [*REJECTED, *PARKED, *HALTED]
    assert not {str(code) for code in ErrorCode} & set(others)
    used = {name for path in PRODUCT for name, _ in tree.dotted_names(path) if ".ErrorCode." in name}
    assert {name.rpartition(".")[2] for name in used} >= set(ErrorCode.__members__)
    assert all(name == code for name, code in ErrorCode.__members__.items())


def test_the_page_of_codes_lists_every_error() -> None:
    listed = rows(section(CODES_PAGE, "Errors of verbs and services"))
    assert listed == [[str(code), re.sub("[{}]", "", code.advice).strip("`")] for code in ErrorCode]


def test_an_error_has_the_fields_that_its_advice_names() -> None:
    lacking = []
    for call, place in made():
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        code = given.get("code", "")
        if code.startswith("ErrorCode."):
            named = {name for _, name, _, _ in Formatter().parse(ErrorCode[code[10:]].advice) if name}
            lacking += [f"{place}: {name}" for name in named - given.keys()]
    assert not lacking


def test_advice_moves_from_sentences_to_codes() -> None:
    glued = [place for call, place in made() if ADVICE.search("".join(map(ast.unparse, call.args)))]
    assert len(glued) <= ADVICE_IN_SENTENCES, glued


@pytest.mark.parametrize("text", ["no such lane: see `tidemill lanes list`", "it is old; migrate it first"])
def test_an_advice_in_a_sentence_is_seen(text: str) -> None:
    assert ADVICE.search(text)


def test_a_planted_error_is_seen() -> None:
    known = bases() | {"Planted": "Exception", "Below": "Unavailable"}
    assert not is_ours("Planted", known)
    assert is_ours("Below", known)
    assert "    Below" not in "\n".join(draw(ROOT_ERROR, bases()))
    assert any(line.endswith("── Below") for line in draw(ROOT_ERROR, known))


def test_the_product_is_looked_at() -> None:
    assert Path("src/tidemill/domain/errors.py") in PRODUCT
    assert len(list(made())) > 200
