"""A process that does not archive starts without what archiving needs, and without a registry none its client."""

import subprocess
import sys

import pytest

from tests.support.waiting import HANGING_S

FOR_THE_ARCHIVE = {
    "adbc_driver_manager",
    "adbc_driver_postgresql",
    "duckdb",
    "fsspec",
    "pyarrow",
    "pyiceberg",
}


FOR_THE_REGISTRY = {"authlib", "confluent_kafka.schema_registry", "joserfc"}
"""A fifth of what a process takes to start."""


def loaded_with(*modules: str) -> set[str]:
    """What of the archive's and the registry's packages is in a fresh interpreter once the modules are."""
    dear = FOR_THE_ARCHIVE | FOR_THE_REGISTRY
    program = f"import sys, {', '.join(modules)}; print(' '.join({dear!r} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=HANGING_S
    )
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "process",
    ["processes.commands", "processes.projections", "admin", "startup.migrations"],
)
def test_a_process_loads_what_it_needs_alone(process: str) -> None:
    assert loaded_with("tidemill.cli.program", "tidemill.cli.serve", f"tidemill.app.{process}") == set()


def test_the_check_would_see_it() -> None:
    found = loaded_with("tidemill.lakehouse.reader", "tidemill.transport.registry")
    assert found == {"fsspec", "pyarrow", *FOR_THE_REGISTRY}
