"""A plug-in is upgraded under load as docs/operations.md orders it, and its lanes are handed back to the old version.

Two versions of one context take part in one consumer group. Clients of both send all the time: no field of theirs is
lost, no repeat is taken for another command, each command is applied once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from tests.support.clients.clients import Client
from tests.support.clients.journeys import SESSION_S, Deployment, Worker
from tests.support.plug_ins.installed import with_plugins
from tests.support.plug_ins.rolling import AGGREGATE, Clients, Sent, write_version
from tests.support.plug_ins.versions import beside, with_version
from tests.support.seeds import sample
from tests.support.servers.installation import Installation, installation_on
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill_devkit.stack import Stack

LANES = 4
METERS = [f"m{number}" for number in range(20)]
STEP = 1_250
"""Commands of one step; there are eight steps."""

_OWNERS = "select coalesce(owner, '') as owner from tm.lane where aggregate = 'meters'"
_CONSUMED = """
select coalesce(sum(position), 0)::bigint as records
from (select max(position) as position from tm.batch join tm.lane using (lane)
      where aggregate = 'meters' group by lane) as lanes
"""
_UNKNOWN = """
select (select count(*) from tm.waiting w where over_at is null and record_offset >= (
          select max(to_offset) from tm.batch b where b.lane = w.lane)) as waiting,
       (select count(*) from tm.parked) as parked
"""
_OUTCOMES = """
select coalesce(command_id, repeats)::text as id, outcome::text as outcome, code from tm.log
where lane in (select lane from tm.lane where aggregate = 'meters') order by at, lane, position
"""


class Rollout:
    """A deployment of the plug-in, processes of either version, and clients of both."""

    def __init__(self, installation: Installation, exit_stack: ExitStack) -> None:
        folder = installation.folder
        packages = {version: write_version(folder / f"version {version}", version) for version in (1, 2)}
        self.verbs = {version: with_version(installation, packages[version], folder) for version in (1, 2)}
        self._serving = {
            version: Deployment(
                with_plugins(beside(installation, folder / str(version)), packages[version]),
                LANES,
                exit_stack,
            )
            for version in (1, 2)
        }
        self._fetch = installation.fetch
        self._topic = f"{installation.prefix}.{AGGREGATE}.commands.v1"
        self._client = Client(installation.environment["TIDEMILL_KAFKA_BOOTSTRAP"])
        self.clients = Clients(self._topic, installation.environment["TIDEMILL_REGISTRY_URL"] or None)
        self.arrived = 0

    def start(self, version: int) -> Worker:
        return self._serving[version].start()

    def send(self, commands: Sequence[Sent]) -> None:
        self._client.send(self._topic, [each.record for each in commands])
        self.arrived += len(commands)

    def step(self, *versions: int, sited: bool = True) -> None:
        """Send a step's worth of readings and descriptions, by clients of these versions in turn.

        `sited`: whether clients of the second one say where meters stand.
        """
        made = []
        for number in range(STEP // 2):
            meter = METERS[number % len(METERS)]
            version = versions[number % len(versions)]
            note = {"note": f"n{number}" if number % 3 else None} if version > 1 else {}
            site = {"site": f"site of {meter}" if sited and number % 3 else None} if version > 1 else {}
            made += [
                self.clients.reading(meter, version, **note),
                self.clients.description(meter, version, **site),
            ]
        self.send(made)

    def owned_by(self, *workers: Worker) -> None:
        """Wait until each of these owns lanes, and nobody else does."""
        pids = {str(worker.process.pid) for worker in workers}

        def shared() -> bool:
            found = [pids.intersection(row["owner"].split()) for row in self._fetch(_OWNERS)]
            return all(found) and set(chain.from_iterable(found)) == pids

        eventually_blocking(shared, HANGING_S, f"lanes to be shared by {len(workers)}")

    def consumed(self) -> None:
        """Wait until all that was sent has an outcome."""
        eventually_blocking(
            lambda: self._fetch(_CONSUMED)[0]["records"] == self.arrived, HANGING_S, f"{self.arrived} records"
        )

    def old_version_met_a_new_command(self, before: int) -> None:
        """Wait until lanes wait, or commands are parked: more than before."""
        eventually_blocking(lambda: self.refused() > before, HANGING_S, "a new command at an old process")

    def refused(self) -> int:
        (found,) = self._fetch(_UNKNOWN)
        return int(found["waiting"] or found["parked"])

    # --- the order of an upgrade ---

    def in_use(self) -> Worker:
        """Begin with the old version; return its process."""
        verb = self.verbs[1]
        verb("migrate")
        if self.clients.registry:
            verb("schemas", "register")
        verb("topics", "create")
        first = self.start(1)
        self.step(1)
        return first

    def replaced(self, old: Worker) -> Worker:
        """Replace the old version's process, while clients of the new one do not wait for that; return the new one."""
        verb = self.verbs[2]
        verb("schemas", "check")
        if self.clients.registry:
            verb("schemas", "register")
        verb("migrate")
        self.step(1)
        self.step(1, 2)
        self.old_version_met_a_new_command(0)
        new = self.start(2)
        self.owned_by(old, new)
        self.step(2, 1)
        assert old.stop() == 0
        self.owned_by(new)
        self.step(2)
        self.consumed()
        return new

    def handed_back(self, new: Worker) -> Worker:
        """Withdraw the new version's process, while clients go on; return the old one."""
        old = self.start(1)
        self.owned_by(new, old)
        assert new.stop() == 0
        self.owned_by(old)
        self.step(1)
        self.step(1, 2, sited=False)
        return old

    # --- what became of it ---

    def all_sent(self) -> dict[str, Sent]:
        return {each.command_id: each for each in self.clients.sent}

    def assert_nothing_is_lost(self) -> None:
        """Each command was applied once, with all of its fields, and what was said of meters is known."""
        sent, outcomes = self.all_sent(), self.outcomes()
        assert {code for _, _, code in outcomes} <= {None, "UNKNOWN_SCHEMA"}, "no ID_REUSE above all"
        assert Counter(each for each, outcome, _ in outcomes if outcome == "a") == Counter(sent.keys())
        rows = self._fetch("select command_id::text as id, note from public.meter_reading")
        notes = {each: one.fields.get("note") for each, one in sent.items() if one.message == "RecordReading"}
        assert {row["id"]: row["note"] for row in rows} == notes
        assert len(rows) == len(notes)
        sites = {row["meter"]: row["site"] for row in self._fetch("select meter, site from public.meter")}
        assert sites == {meter: f"site of {meter}" for meter in METERS}

    def outcomes(self) -> list[tuple[str, str, str | None]]:
        return [(row["id"], row["outcome"], row["code"]) for row in self._fetch(_OUTCOMES)]


@pytest.fixture
def made(stack: Stack, database: str, topic_prefix: str, tmp_path: Path, registry: bool) -> Installation:
    """Settings with a registry or without one, in which dead processes are soon missed."""
    found = installation_on(stack, database, topic_prefix, tmp_path, LANES)
    if registry and not stack.registry_url:
        pytest.skip("needs a schema registry")
    url = stack.registry_url if registry else ""
    own = {"TIDEMILL_KAFKA_SESSION_S": str(SESSION_S), "TIDEMILL_REGISTRY_URL": url or ""}
    return replace(found, environment={**found.environment, **own})


@pytest.mark.slow
@pytest.mark.parametrize("registry", sample([True, False], 1), ids="with a registry: {}".format)
def test_no_field_is_lost_when_lanes_go_to_the_new_version_and_back(
    made: Installation, registry: bool, exit_stack: ExitStack
) -> None:
    rollout = Rollout(made, exit_stack)
    old = rollout.in_use()
    new = rollout.replaced(old)
    before = rollout.refused()
    old = rollout.handed_back(new)
    rollout.old_version_met_a_new_command(before)
    new = rollout.start(2)
    rollout.owned_by(old, new)
    rollout.step(2, 1, sited=False)
    assert old.stop() == 0
    rollout.owned_by(new)
    rollout.consumed()
    assert registry == (rollout.refused() == 0), "nothing is parked where lanes may wait"

    sent = rollout.all_sent()
    assert len(sent) == 10_000
    settled = {each for each, outcome, _ in rollout.outcomes() if outcome == "a"}
    parked = [each for each in sent.values() if each.command_id not in settled]
    assert bool(parked) != registry
    rollout.send([*parked, *list(sent.values())[::5]])
    rollout.consumed()
    rollout.assert_nothing_is_lost()
    assert rollout.verbs[2]("audit", "--wait", "300", expect=None).code == 0
    assert new.stop() == 0
