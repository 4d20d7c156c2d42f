"""The Docker way: the three servers of the compose file as one project per stack.

The compose file is the one that people use; ports and password come from an environment file in the
stack's folder, the project is named after the stack, so that two stacks do not collide. This module
is one of the `Containers`; tests have another, which reads the same file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidemill_devkit.stack.errors import DevstackError
from tidemill_devkit.stack.plan import SERVERS
from tidemill_devkit.stack.probes import http_answers, kafka_answers, postgres_answers
from tidemill_devkit.stack.processes import Life
from tidemill_devkit.stack.progress import StackProgress
from tidemill_devkit.stack.registry import API_PATH
from tidemill_devkit.stack.shell import output, run
from tidemill_devkit.stack.state import StackState, checkout_folder

SERVICES = {"postgres": "timescaledb", "kafka": "kafka", "registry": "registry"}
LIVES: Mapping[str, Life] = {"running": "running", "paused": "frozen"}


def variables(state: StackState) -> dict[str, str]:
    """The variables of the compose file for this stack."""
    return {
        "TIDEMILL_DEV_POSTGRES_PASSWORD": state.password,
        "TIDEMILL_DEV_POSTGRES_PORT": str(state.ports["postgres"]),
        "TIDEMILL_DEV_KAFKA_PORT": str(state.ports["kafka"]),
        "TIDEMILL_DEV_REGISTRY_PORT": str(state.ports["registry"]),
    }


def environment_file(state: StackState) -> str:
    """These variables as the text of an environment file."""
    return "".join(f"{name}={value}\n" for name, value in variables(state).items())


def addresses(state: StackState) -> dict[str, str]:
    """Where the servers of this stack are reached from the host."""
    found = {name: f"127.0.0.1:{state.ports[name]}" for name in SERVERS}
    return found | {"registry": f"http://{found['registry']}{API_PATH}"}


def answers(name: str, address: str) -> bool:
    """Whether the server `name` works at `address`."""
    host, _, port = address.removeprefix("http://").partition("/")[0].partition(":")
    if name == "kafka":
        return kafka_answers(host, int(port))
    if name == "registry":
        return http_answers(f"{address}/subjects")
    return postgres_answers(host, int(port))


@dataclass(frozen=True)
class Compose:
    """One compose project."""

    folder: Path
    file: Path

    @property
    def log(self) -> Path:
        return self.folder / "logs" / "docker.log"

    def command(self, *arguments: str) -> list[str]:
        project = ("--project-name", f"tidemill-{self.folder.name}")
        files = ("--env-file", str(self.folder / "compose.env"), "--file", str(self.file))
        return ["docker", "compose", *project, *files, *arguments]

    def run(self, *arguments: str, what: str) -> None:
        run(self.command(*arguments), what=what, log=self.log, folder=self.folder)


def project(state: StackState, folder: Path) -> Compose:
    """The compose project of a stack, with its environment file written."""
    file = checkout_folder() / "docker-compose.yml"
    if not file.is_file():
        raise DevstackError(f"there is no {file}: run this from a checkout, or give servers")
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "compose.env"
    secret.touch(mode=0o600)
    secret.write_text(environment_file(state))
    return Compose(folder, file)


@dataclass(frozen=True)
class DockerServer:
    """One service of the project, with the handle that tests use."""

    name: str
    address: str
    compose: Compose

    @property
    def log(self) -> Path:
        return self.compose.log

    def life(self) -> Life:
        service = SERVICES[self.name]
        state = output(self.compose.command("ps", "--all", "--format", "{{.State}}", service)) or ""
        return LIVES.get(state.strip(), "gone")

    def answers(self) -> bool:
        return answers(self.name, self.address)

    def start(self) -> None:
        if self.life() == "frozen":
            self.thaw()
        self._compose("up", "--detach", "--wait", "--no-deps")

    def stop(self) -> None:
        self._compose("stop")

    def kill(self) -> None:
        self._compose("kill")

    def freeze(self) -> None:
        self._compose("pause")

    def thaw(self) -> None:
        self._compose("unpause")

    def _compose(self, *arguments: str) -> None:
        self.compose.run(*arguments, SERVICES[self.name], what=f"docker compose {arguments[0]}")


def servers(state: StackState, folder: Path) -> dict[str, DockerServer]:
    """The handles of the stack's containers (which need not exist)."""
    compose = project(state, folder)
    return {name: DockerServer(name, address, compose) for name, address in addresses(state).items()}


def up(state: StackState, folder: Path, says: StackProgress) -> None:
    """Start the three containers and wait until they are healthy; on failure stop them again."""
    compose = project(state, folder)
    wanted: Sequence[str] = tuple(SERVICES.values())
    says.step("docker", "starting TimescaleDB, Kafka and the registry in containers")
    try:
        compose.run("up", "--detach", "--wait", *wanted, what="docker compose up")
    except BaseException:
        compose.run("stop", *wanted, what="docker compose stop")
        raise
    says.done("docker", "containers are healthy")


def down(state: StackState, folder: Path, says: StackProgress, *, purge: bool) -> list[str]:
    """Remove the containers; the volumes stay unless `purge`. Returns what was running."""
    running = [name for name, server in servers(state, folder).items() if server.life() != "gone"]
    says.step("docker", "removing containers")
    volumes = ("--volumes",) if purge else ()
    project(state, folder).run("down", *volumes, what="docker compose down")
    says.done("docker", "containers are gone")
    return running
