"""A process that does not archive starts without what archiving needs."""

import subprocess
import sys

import pytest

FOR_THE_ARCHIVE = {
    "adbc_driver_manager",
    "adbc_driver_postgresql",
    "duckdb",
    "fsspec",
    "pyarrow",
    "pyiceberg",
}


def loaded_with(*modules: str) -> set[str]:
    """What of the archive's packages is in a fresh interpreter once the modules are."""
    program = f"import sys, {', '.join(modules)}; print(' '.join({FOR_THE_ARCHIVE!r} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "process", ["commands_process", "projections_process", "publishing", "operations", "lanes", "tailing"]
)
def test_a_process_that_does_not_archive_loads_nothing_of_it(process: str) -> None:
    assert loaded_with("tidemill.cli.program", "tidemill.cli.serve", f"tidemill.app.{process}") == set()


def test_the_check_would_see_it() -> None:
    assert loaded_with("tidemill.lakehouse.reading") == {"fsspec", "pyarrow"}
