"""The tests' way to Docker: the three servers of the compose file, each as a container of testcontainers.

Images, commands, environment and mounts are read from the compose file. Everything is named after the stack, so that
all processes of a run find the same containers, and each port is chosen before they start, so that it is the same after
a kill. The registry keeps its ids in the database here: while a test has that frozen or killed, both are unavailable.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient
from testcontainers.core.network import Network

from tests.architecture import compose
from tests.architecture.tree import ROOT
from tests.support.waiting import eventually_blocking
from tidemill_devkit.stack import ServerFailedError, docker
from tidemill_devkit.stack.processes import Life
from tidemill_devkit.stack.progress import StackProgress
from tidemill_devkit.stack.server import START_TIMEOUT_S, STOP_GRACE_S
from tidemill_devkit.stack.shell import log_tail
from tidemill_devkit.stack.state import StackState

# as the native broker: back 3 s after a kill instead of 9 s, and fewer partitions to make at its start
BROKER_OF_TESTS = {
    "KAFKA_BROKER_HEARTBEAT_INTERVAL_MS": "500",
    "KAFKA_BROKER_SESSION_TIMEOUT_MS": "3000",
    "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "10",
    "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "10",
}
# The reaper would end the servers with the worker that started them, under all others: `Run` has its own notes.
testcontainers_config.ryuk_disabled = True


@cache
def engine() -> Any:
    """The daemon's client, found as testcontainers finds it (DOCKER_HOST, the context, the socket)."""
    return DockerClient().client


def project(state: StackState) -> str:
    """What the names of all things of this stack begin with; no name of a stack has the `_` that follows."""
    return f"tidemill-{state.name}"


def container_of(state: StackState, server: str) -> DockerContainer:
    """The container of one server, not yet made."""
    name = docker.SERVICES[server]
    service = compose.services(**docker.variables(state))[name]
    environment = {key: str(value) for key, value in service["environment"].items()}
    network = Network()
    network.name = project(state)
    made = DockerContainer(
        service["image"],
        command=service.get("command"),
        env=environment | (BROKER_OF_TESTS if server == "kafka" else {}),
        name=f"{project(state)}_{name}",
        network=network,
        network_aliases=[name],
    )
    for mount in service.get("volumes", []):
        source, target, mode = f"{mount}:rw".split(":")[:3]
        at = str(ROOT / source) if source.startswith(".") else f"{project(state)}_{source}"
        made.with_volume_mapping(at, target, mode)
    for published in service["ports"]:
        host, port, inside = published.split(":")
        # its own `with_bind_ports` knows no address and would open the port to the network
        made.ports[inside] = (host, int(port))  # type: ignore[assignment]
    return made.with_kwargs(**{key: service[key] for key in ("entrypoint", "shm_size") if key in service})


@dataclass(frozen=True)
class ContainerServer:
    """One container, with the handle that tests use."""

    name: str
    address: str
    container: str
    log: Path

    def found(self) -> Any | None:
        """The container as it is now; None if there is none."""
        like_it = engine().containers.list(all=True, filters={"name": self.container})
        return next((one for one in like_it if one.name == self.container), None)

    def life(self) -> Life:
        found = self.found()
        return "gone" if found is None else docker.LIVES.get(found.status, "gone")

    def answers(self) -> bool:
        return docker.answers(self.name, self.address)

    def start(self) -> None:
        self.thaw()
        found = self.found()
        if found is not None and self.life() == "gone":
            found.start()
        try:
            eventually_blocking(self.answers, START_TIMEOUT_S, "an answer")
        except AssertionError as late:
            self._save_log()
            raise ServerFailedError(self.name, str(late), self.log, log_tail(self.log)) from late

    def stop(self) -> None:
        self.thaw()
        if (found := self.found()) is not None:
            found.stop(timeout=int(STOP_GRACE_S))

    def kill(self) -> None:
        found = self.found()
        if found is not None and self.life() != "gone":
            found.kill()

    def freeze(self) -> None:
        found = self.found()
        if found is not None and found.status == "running":
            found.pause()

    def thaw(self) -> None:
        found = self.found()
        if found is not None and found.status == "paused":
            found.unpause()

    def remove(self) -> None:
        """Remove the container; its data are in volumes."""
        if (found := self.found()) is not None:
            found.remove(force=True, v=True)

    def _save_log(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        found = self.found()
        self.log.write_bytes(b"there is no container\n" if found is None else found.logs())


def servers(state: StackState, folder: Path) -> Mapping[str, ContainerServer]:
    """The handles of the stack's containers, which need not exist; the registry is last, since it needs the first."""
    return {
        name: ContainerServer(
            name, address, f"{project(state)}_{docker.SERVICES[name]}", folder / "logs" / f"{name}.log"
        )
        for name, address in docker.addresses(state).items()
    }


def up(state: StackState, folder: Path, says: StackProgress) -> None:
    """Start what is not running, one after the other; on failure stop them again."""
    try:
        _make_network(project(state))
        for server in servers(state, folder).values():
            says.step(server.name, "starting in a container (the first time its image is fetched)")
            if server.life() == "gone":
                server.remove()  # it may have been made with other ports
                container_of(state, server.name).start()
            server.start()
            says.done(server.name, f"answers on {server.address}")
    except BaseException:
        down(state, folder, says, purge=False)
        raise


def down(state: StackState, folder: Path, says: StackProgress, *, purge: bool) -> list[str]:
    """Remove the containers; the volumes stay unless `purge`. Returns the names of what was running."""
    handles = servers(state, folder)
    running = [name for name, server in handles.items() if server.life() != "gone"]
    for server in handles.values():
        if not purge:
            server.stop()
        server.remove()
    for network in _networks(project(state)):
        network.remove()
    for volume in engine().volumes.list() if purge else []:
        if volume.name.startswith(f"{project(state)}_"):
            volume.remove()
    says.done("docker", "containers are gone")
    return running


def _networks(name: str) -> list[Any]:
    return [network for network in engine().networks.list(names=[name]) if network.name == name]


def _make_network(name: str) -> None:
    if not _networks(name):
        network = Network()
        network.name = name
        network.create()
