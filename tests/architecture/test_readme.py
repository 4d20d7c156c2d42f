"""What the pages tell people is so: codes, topics, headers, variables, metrics, targets, and programs that compile."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.architecture import tree
from tests.support.clients.outsiders import KEYS_AS_JAVA, SERIALIZER
from tidemill.app.context_loader import load_contexts
from tidemill.domain.archive.messages import archival_topics
from tidemill.domain.lane import StreamTopics
from tidemill.domain.rejections import CHOICES, HALTED, PARKED, REJECTED
from tidemill.projections.halts import HALTS
from tidemill.retention.confirmations import CODES
from tidemill.runtime.telemetry.metrics import REGISTRY
from tidemill.settings import variables

README = Path("README.md")
CODES_PAGE = Path("docs/codes.md")
SUBSCRIBING = Path("docs/subscribing.md")
OPERATIONS = Path("docs/operations.md")
TUTORIAL = Path("docs/tutorial.md")  # its context, with its topics and headers, is not of this repository
PAGES = [
    page
    for page in tree.files(".md")
    if page in (README, Path("CONTRIBUTING.md")) or (page.parent == Path("docs") and page != TUTORIAL)
]
ALL_PAGES = [pytest.param(page, id=str(page)) for page in PAGES]

WRITE_HEADERS = (
    "src/tidemill/transport/kafka/outbox/records.py",
    "src/tidemill/outbox/dead_letter_size.py",
    "src/tidemill/commands/replies.py",
    "src/tidemill/domain/headers.py",
)
OTHER_VARIABLES = {
    "TIDEMILL_TEST_": "what tests look at, instead of each of the servers' variables",
    "TIDEMILL_TEST_DATABASE_URL": "one of them",
    "TIDEMILL_TEST_KAFKA_BOOTSTRAP": "another one",
    "TIDEMILL_CACHE": "where the servers are stored that `dev up` starts",
    "TIDEMILL_SECRETS_DIR": "where settings may be files",
}
NO_HEADERS = {"tm_late": "a schema of the database"}
NO_METRICS = {"tidemill_lake": "the default of a setting", "tidemill_devkit": "a package"}


def section(page: Path, title: str) -> str:
    """What stands below a heading, up to the next one of its rank or a higher one."""
    found = re.search(
        rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)", tree.text(page), re.MULTILINE | re.DOTALL
    )
    assert found, f"{page} has no section {title!r}"
    return found[2]


def rows(text: str) -> list[list[str]]:
    """The rows of tables whose first cell is a code in back quotes."""
    lines = re.findall(r"^\| `[A-Z_]+` \|.*\|$", text, re.MULTILINE)
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines]


def in_back_quotes(page: Path, pattern: str) -> set[str]:
    words = re.findall(
        r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", tree.text(page), flags=re.MULTILINE | re.DOTALL)
    )
    return {found[0] for word in words if (found := re.search(pattern, word))}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", tree.text(page), re.MULTILINE | re.DOTALL)


# --- codes -----------------------------------------------------------------------------------------------------------


def codes() -> Iterator[list[str]]:
    yield from ([code, "rejected", text] for code, text in REJECTED.items())
    by_meaning: dict[tuple[str, str], list[str]] = defaultdict(list)
    for context in load_contexts("all"):
        for meaning in context.codes.items():
            by_meaning[meaning].append(context.aggregate.replace("-", " "))
    for (code, text), names in by_meaning.items():
        yield [code, f"rejected, {', '.join(names)}", text]
    yield from ([code, "rejected, archival", text] for code, text in CODES.items())
    yield from ([code, "parked", text] for code, text in PARKED.items())


def test_the_page_of_codes_lists_every_code_as_the_code_has_it() -> None:
    assert rows(section(CODES_PAGE, "What became of a record")) == list(codes())


def test_the_runbook_says_of_every_halt_what_to_do() -> None:
    listed = rows(section(OPERATIONS, "A lane is halted"))
    assert {code: meaning for code, meaning, _ in listed} == HALTED
    assert len(listed) == len(HALTED)
    advice = {code: choices.replace("`", "").split("; or ") for code, _, choices in listed}
    assert advice == {code: list(choices) for code, choices in CHOICES.items()}


def test_the_runbook_says_of_every_halted_read_model_what_to_do() -> None:
    assert dict(rows(section(OPERATIONS, "A read model is halted"))) == HALTS


# --- names -----------------------------------------------------------------------------------------------------------


def topics() -> set[str]:
    aggregates = ["<aggregate>", *(context.aggregate for context in load_contexts("all"))]
    streams = [archival_topics(), *(StreamTopics.of(aggregate) for aggregate in aggregates)]
    return {name for stream in streams for name in stream.named().values()}


@pytest.mark.parametrize("page", ALL_PAGES)
def test_the_topics_exist(page: Path) -> None:
    named = set(re.findall(r"\btidemill\.[\w<>-]+\.\w+\.v\d(?:\.dlq)?", tree.text(page)))
    assert named <= topics()


def strings_of(path: str) -> set[str]:
    constants = (node for node in ast.walk(tree.syntax(Path(path))) if isinstance(node, ast.Constant))
    return {node.value for node in constants if isinstance(node.value, str)}


@pytest.mark.parametrize("page", ALL_PAGES)
def test_the_headers_are_written_or_read_by_the_code(page: Path) -> None:
    known = {text for path in WRITE_HEADERS for text in strings_of(path)}
    assert in_back_quotes(page, r"^(?:ce_|tm_|kafka_)\w+$") - NO_HEADERS.keys() <= known


@pytest.mark.parametrize("page", ALL_PAGES)
def test_the_variables_are_settings(page: Path) -> None:
    named = set(re.findall(r"\bTIDEMILL_[A-Z_]+", tree.text(page)))
    read = {
        name
        for other in ("Makefile", "docker-compose.yml")
        for name in re.findall(r"\bTIDEMILL_[A-Z_]+", tree.text(Path(other)))
    }
    assert named <= {variable.name for variable in variables()} | OTHER_VARIABLES.keys() | read


@pytest.mark.parametrize("page", ALL_PAGES)
def test_the_metrics_are_measured(page: Path) -> None:
    known = {sample.name for metric in REGISTRY.collect() for sample in metric.samples}
    known |= {
        f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in REGISTRY.collect()
    }
    roles = {
        f"tidemill_{name}"
        for name in (
            "service",
            "reader",
            "owner",
            "query",
            "retention",
            "archiver",
            "keeper",
            "archive",
            "http",
            "web",
        )
    }
    assert in_back_quotes(page, r"^tidemill_\w+") - roles - NO_METRICS.keys() <= known


@pytest.mark.parametrize("page", tree.files(".md"), ids=str)
def test_the_targets_can_be_made(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", tree.text(Path("Makefile")), re.MULTILINE))
    named = set(re.findall(r"(?:`|^\$ )make ([a-z]+)", tree.text(page), re.MULTILINE))
    assert named <= targets


def test_the_first_screen_says_what_it_is_and_what_to_type() -> None:
    screen = tree.text(README).split("\n## ")[0]
    assert len(screen.splitlines()) <= 40
    assert re.findall(r"^\| `make (\w+)` \|", screen, re.MULTILINE) == ["demo", "test"]
    assert "commands topic -> intake -> one transaction" in screen
    assert len(re.findall(r"^\$ ", screen, re.MULTILINE)) == 3


# --- programs --------------------------------------------------------------------------------------------------------

PROGRAMS = [
    pytest.param(program, id=f"{page}: {program.splitlines()[0]}")
    for page in tree.files(".md")
    for program in blocks(page, "python")
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_compiles(program: str) -> None:
    compile(program, "<page>", "exec")


def literals(program: str) -> list[Any]:
    """The dictionaries of a program that are constants."""
    nodes = (node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Dict))
    constant = (node for node in nodes if all(isinstance(value, ast.Constant) for value in node.values))
    return [ast.literal_eval(node) for node in constant]


def test_the_readme_configures_confluents_client_as_the_tests_do() -> None:
    (program,) = blocks(README, "python")
    configurations = literals(program)
    assert SERIALIZER in configurations
    assert any(KEYS_AS_JAVA.items() <= configuration.items() for configuration in configurations)


def test_what_a_page_does_not_say_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables are really read: a code that nobody has told of breaks the first test."""
    monkeypatch.setitem(REJECTED, "NEW", "a code of tomorrow")
    assert rows(section(CODES_PAGE, "What became of a record")) != list(codes())
    assert rows("| `A` | x | y |\n| b | x | y |") == [["A", "x", "y"]]
