"""Contexts are found by folder and by entry point, and two of one name are refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

import tidemill.contexts
from tidemill.app.context_loader import load_contexts, migration_folders
from tidemill.app.deployment import Deployment
from tidemill.domain.errors import ContractError, UsageError
from tidemill.settings import load

PlugIn = Callable[..., None]

BUILT_IN = sorted(each.parent.name for each in Path(tidemill.contexts.__path__[0]).glob("*/__init__.py"))


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlugIn:
    """Install a distribution whose module `<name>` has the given body and whose entry point names its `context`."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, body: str) -> None:
        (tmp_path / f"{name}.py").write_text(body, encoding="utf-8")
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8"
        )
        (info / "entry_points.txt").write_text(
            f"[tidemill.contexts]\n{name} = {name}:context\n", encoding="utf-8"
        )

    return install


def declaration(aggregate: str, extra: str = "") -> str:
    return (
        "from pathlib import Path\nfrom tidemill.api import Context\n"
        f"context = Context(aggregate={aggregate!r}, key=str, commands=(){extra})\n"
    )


def test_built_in_contexts_are_found_by_folder() -> None:
    found = load_contexts("all")
    assert [context.name for context in found] == BUILT_IN
    assert {context.aggregate for context in found} == {
        "cache-entries",
        "client-configs",
        "connector-profiles",
        "data-analyses",
        "market-data",
        "news-articles",
        "service-proposals",
        "system-logs",
        "telemetry-events",
        "time-series",
        "tool-generations",
        "users",
    }
    assert set(migration_folders(found).values()) == {None}


def test_plug_ins_follow_with_their_migrations(plug_in: PlugIn) -> None:
    plug_in("tide_gauges_a", declaration("tide-gauge", ", migrations=Path('here')"))
    contexts = load_contexts()
    assert contexts[-1].aggregate == "tide-gauge"
    assert migration_folders(contexts)["tide_gauge"] == Path("here")


# --- which of them a deployment has -----------------------------------------------------------------------------------


def names(chosen: str | None) -> list[str]:
    return [context.name for context in load_contexts(chosen)]


def test_unset_means_the_contexts_of_today_and_every_plug_in(plug_in: PlugIn) -> None:
    """So that the built-in contexts of a later version come only to those who choose them."""
    plug_in("tide_gauges_b", declaration("tide-gauge"))
    assert names(None) == ["connector_profiles", "market_data", "tide_gauge"]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("market_data", ["market_data"]),
        ("market-data", ["market_data"]),
        (" tide_gauge , market_data ", ["market_data", "tide_gauge"]),
        ("market_data,market_data", ["market_data"]),
        ("system_logs,telemetry-events", ["system_logs", "telemetry_events"]),
        ("all", [*BUILT_IN, "tide_gauge"]),
    ],
)
def test_contexts_are_chosen_by_name(plug_in: PlugIn, chosen: str, expected: list[str]) -> None:
    plug_in("tide_gauges_c", declaration("tide-gauge"))
    assert names(chosen) == expected


@pytest.mark.parametrize("chosen", ["market_data,tides", "tides", "market_data,", ",", "Market_Data"])
def test_a_name_of_no_context_is_refused_with_what_there_is(plug_in: PlugIn, chosen: str) -> None:
    plug_in("tide_gauges_d", declaration("tide-gauge"))
    with pytest.raises(
        UsageError,
        match=r"^TIDEMILL_CONTEXTS: unknown context '.*'; "
        f"expected all, or some of {', '.join(sorted([*BUILT_IN, 'tide_gauge']))}$",
    ):
        load_contexts(chosen)


def test_a_plug_in_may_have_the_name_of_a_built_in_context_that_is_not_there(
    plug_in: PlugIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plug-in goes on working when a later version brings a built-in context of its name."""
    monkeypatch.setattr(tidemill.contexts, "BY_DEFAULT", frozenset({"market_data"}))
    plug_in("profiles", declaration("connector-profiles"))
    assert names(None) == ["market_data", "connector_profiles"]
    with pytest.raises(ContractError, match="both declare connector-profiles"):
        load_contexts("connector_profiles")


def test_a_deployment_has_the_contexts_that_its_settings_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_CONTEXTS", "connector_profiles")
    deployment = Deployment.of(load())
    assert list(deployment.catalog.streams) == ["connector-profiles"]
    assert list(deployment.catalog.projections()) == ["connector-directory"]
    assert all("connector-profiles" in topic for topic in deployment.catalog.topics())


# --- what is wrong with them ------------------------------------------------------------------------------------------


def test_an_aggregate_that_is_declared_twice_is_refused_with_both_places(plug_in: PlugIn) -> None:
    plug_in("more_market_data", declaration("market-data"))
    with pytest.raises(
        ContractError, match=r"contexts\.market_data and entry point more_market_data of more_market_data"
    ):
        load_contexts()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("import no_such_module_anywhere\n", "cannot be loaded: No module named"),
        ("something = 1\n", "cannot be loaded"),
        ("context = 'a string'\n", "gives 'a string', not a Context"),
        (declaration("Wrong_Name"), "lower-case words"),
    ],
    ids=["import", "attribute", "type", "declaration"],
)
def test_a_plug_in_that_is_broken_names_itself(
    plug_in: PlugIn, body: str, says: str, request: pytest.FixtureRequest
) -> None:
    plug_in(f"broken_{request.node.callspec.id}", body)
    with pytest.raises(ContractError, match=says):
        load_contexts()
