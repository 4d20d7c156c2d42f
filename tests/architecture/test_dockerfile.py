"""The image, as far as its recipe can tell: no engine builds it here."""

import json
import re

from tests.architecture.tree import ROOT

RECIPE = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()


def values(instruction: str) -> list[str]:
    return re.findall(rf"^{instruction} (.+)$", RECIPE, re.MULTILINE)


def environment() -> dict[str, str]:
    """What the image sets for every process."""
    return dict(pair.split("=", 1) for line in values("ENV") for pair in line.split())


def test_the_base_image_is_pinned_and_the_same_in_every_stage() -> None:
    assert {value.split(" ")[0] for value in values("FROM")} == {"python:3.11.14-slim-bookworm"}


def test_no_process_runs_as_root() -> None:
    after_last_stage = RECIPE[RECIPE.rindex("\nFROM ") :]
    (user,) = re.findall(r"^USER (.+)$", after_last_stage, re.MULTILINE)
    assert int(user) > 0


def test_the_verb_chooses_the_process() -> None:
    assert values("ENTRYPOINT") == ['["tidemill"]']


def test_the_process_is_asked_for_its_health_where_it_listens() -> None:
    (check,) = values("HEALTHCHECK")
    *_, code = json.loads(check.split("CMD ", 1)[1])
    compile(code, "HEALTHCHECK", "exec")
    assert "TIDEMILL_HEALTH_PORT" in code
    assert "/health'" in code
    assert {"TIDEMILL_HEALTH_HOST", "TIDEMILL_HEALTH_PORT"} <= environment().keys()


def test_what_is_copied_exists_and_is_let_through() -> None:
    copied = [name for line in values("COPY") if "--from" not in line for name in line.split()[:-1]]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert [name for name in copied if f"!/{name}" not in IGNORED] == []


def test_packages_are_checked_by_hash() -> None:
    assert any("pip download" in run and "--require-hashes" in run for run in values("RUN"))
    assert not [run for run in values("RUN") if re.search(r"pip install(?!.*--no-index)", run)]
