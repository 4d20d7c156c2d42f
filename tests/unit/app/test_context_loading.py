"""Contexts are found by folder and by entry point, and two of one name are refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tidemill.app.context_loading import load_contexts, migration_locations
from tidemill.domain.errors import ContractError

PlugIn = Callable[..., None]


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
    found = {context.aggregate: context for context in load_contexts()}
    assert {"market-data", "connector-profiles"} <= set(found)
    assert migration_locations(found.values()) == ()


def test_plug_ins_follow_with_their_migrations(plug_in: PlugIn) -> None:
    plug_in("tide_gauges_a", declaration("tide-gauge", ", migrations=Path('here')"))
    contexts = load_contexts()
    assert contexts[-1].aggregate == "tide-gauge"
    assert migration_locations(contexts) == (Path("here"),)


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
