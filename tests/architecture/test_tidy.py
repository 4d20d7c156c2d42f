"""House rules that no linter knows. They ratchet: what breaks a rule is listed here with its reason, a listed file that
no longer needs its exception fails, so the lists only shrink."""

import ast
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

import pytest

from tests.architecture import tree

MODULE_LINES = 400
FUNCTION_LINES = 70
MEDIAN_FUNCTION_LINES = 10
APP_LINES = 2_606
"""Of the folder that composes: what decides, counts or formats belongs to a workflow, or to `admin`."""

# The wall clock is injected: tests and replays own the time. Monotonic clocks measure, and may be read anywhere.
WALL_CLOCK = re.compile(
    r"(^|\.)(datetime\.(now|utcnow|today)|date\.today|time\.(time|time_ns|localtime|gmtime|ctime))$"
)
STOPWATCH = re.compile(r"^time\.(monotonic|perf_counter|process_time|thread_time)(_ns)?$")
NAP = re.compile(r"^(time|asyncio|anyio|trio)\.sleep$")

# Spelled so that this file does not find itself.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME)\b")
REGISTRY = re.compile(
    r"(index-url|find-links|trusted-host|mirror)s?\s*[:= ]\s*[\"']?https?:"
    r"|https?://(?!maven\.apache\.org/(POM|xsd))[\w.-]*(pypi|pythonhosted|maven|crates|npmjs|debian)\b",
    re.IGNORECASE,
)
NO_REASON = re.compile(r"# noq" + r"a(: [A-Z]+\d+(, [A-Z]+\d+)*)?\s*$")
MACHINE_PATH = re.compile(r"(?<![\w.$}~*-])/(work|root)/")

# Where a rule may be broken, and why.
LONG_MODULES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
CLOCKS: dict[str, str] = {"src/tidemill/runtime/clock.py": "it is the clock"}
STOPWATCHES: dict[str, str] = {
    "tests/support/waiting.py": "the guard against hanging",
    "tests/support/clients/outsiders.py": "a guard against hanging",
    "tests/support/clients/walkthrough.py": "a guard against hanging",
    "tests/support/durations.py": "says how long tests took, and decides nothing",
    "tests/acceptance/test_newcomer.py": "says how long the path took, and decides nothing",
    "tests/trials/test_kills.py": "says how long it took to repair, and decides nothing",
    "tests/trials/test_hostile_inputs.py": "says how long others waited, and decides nothing",
    "tests/integration/lakehouse/test_held_back.py": "what is held back takes at least so long, on any machine",
    "tests/unit/transport/avro/test_codec_cost.py": "CPU beside fastavro's in the same run, the least of many rounds",
}
NAPS: dict[str, str] = {
    "tests/support/waiting.py": "the one helper that polls, with a deadline; all others await it"
}


def broken(findings: Iterable[str], allowed: dict[str, str]) -> tuple[list[str], list[str]]:
    """Findings (`path:...`) that nobody allowed, and exceptions that nothing needs."""
    found = list(findings)
    paths = {finding.split(":")[0] for finding in found}
    return [item for item in found if item.split(":")[0] not in allowed], sorted(allowed.keys() - paths)


def long_modules() -> list[str]:
    lengths = ((path, len(tree.text(path).splitlines())) for path in tree.python_files())
    return [
        f"{path}: {lines} lines, {MODULE_LINES} allowed" for path, lines in lengths if lines > MODULE_LINES
    ]


def long_functions() -> list[str]:
    every = (function for path in tree.python_files() for function in tree.functions(path))
    return [
        f"{function.path}: {function.name} has {function.lines} lines, {FUNCTION_LINES} allowed"
        for function in every
        if function.lines > FUNCTION_LINES
    ]


def uses(pattern: re.Pattern[str], paths: Iterable[Path]) -> list[str]:
    return [
        f"{path}:{line}: {name}"
        for path in paths
        for name, line in tree.dotted_names(path)
        if pattern.search(name)
    ]


def clock_readers() -> list[str]:
    return uses(WALL_CLOCK, tree.python_files("src", "tests", "migrations"))


def stopwatches() -> list[str]:
    return uses(STOPWATCH, tree.python_files("tests"))


def nappers() -> list[str]:
    return uses(NAP, tree.python_files("tests"))


@pytest.mark.parametrize(
    ("find", "allowed"),
    [
        pytest.param(long_modules, LONG_MODULES, id="modules are short"),
        pytest.param(long_functions, LONG_FUNCTIONS, id="functions are short"),
        pytest.param(clock_readers, CLOCKS, id="only clock.py reads the wall clock"),
        pytest.param(stopwatches, STOPWATCHES, id="how fast a machine is decides no test"),
        pytest.param(nappers, NAPS, id="tests await signals and do not sleep"),
    ],
)
def test_house_rule(find: Callable[[], list[str]], allowed: dict[str, str]) -> None:
    offences, idle_exceptions = broken(find(), allowed)
    assert not offences
    assert not idle_exceptions, "nothing needs these exceptions any more: take them out"


def test_the_composition_root_stays_small() -> None:
    folder = Path("src/tidemill/app")
    files = [path for path in tree.python_files("src") if path.is_relative_to(folder)]
    assert sum(len(tree.text(path).splitlines()) for path in files) <= APP_LINES


def test_the_median_function_is_short() -> None:
    every = [f for path in tree.python_files("src") for f in tree.functions(path) if not f.is_stub]
    assert median(function.lines for function in every) < MEDIAN_FUNCTION_LINES


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(UNFINISHED, id="finished"),
        pytest.param(REGISTRY, id="no address of a package registry"),
        pytest.param(NO_REASON, id="no rule of ruff's is set aside without a reason"),
        pytest.param(MACHINE_PATH, id="no path of one machine"),
    ],
)
def test_no_file_says(pattern: re.Pattern[str]) -> None:
    lines = (
        (path, number, line)
        for path in tree.files()
        for number, line in enumerate(tree.text(path).splitlines(), start=1)
    )
    assert not [f"{path}:{number}: {line.strip()}" for path, number, line in lines if pattern.search(line)]


def local_links(path: Path) -> Iterable[str]:
    prose = re.sub(r"^(```|~~~).*?^\1", "", tree.text(path), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s*(\S+)", prose, re.MULTILINE)
    plain = ((first or second).split("#")[0] for first, second in targets)
    return (target for target in plain if target and not re.match(r"[a-z]+:", target))


@pytest.mark.parametrize("path", tree.files(".md"), ids=str)
def test_every_local_link_leads_somewhere(path: Path) -> None:
    links = list(local_links(path))
    assert not [link for link in links if not (tree.ROOT / path.parent / link).exists()]


MODULES_IN_ING = 5
"""A module is a noun; more than today's may not become."""

CLASS_NAMES_TWICE = 0


def test_modules_are_nouns() -> None:
    found = [str(path) for path in tree.python_files("src") if path.stem.endswith("ing")]
    assert len(found) <= MODULES_IN_ING, found


def test_a_public_class_name_stands_for_one_thing() -> None:
    homes: dict[str, set[str]] = {}
    for path in tree.python_files("src"):
        for node in tree.syntax(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, set()).add(str(path))
    twice = {name: sorted(paths) for name, paths in homes.items() if len(paths) > 1}
    assert len(twice) <= CLASS_NAMES_TWICE, twice
