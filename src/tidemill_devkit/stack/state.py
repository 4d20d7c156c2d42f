"""What a stack remembers between runs: its ports, password and the generation of its data.

In `<cache>/stacks/<name>/` are `stack.json` (this module), `<server>.pid` (the running process of each native
server), `logs/`, and the servers' data, except where they must be inside a private Debian root.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal
from uuid import uuid4

from tidemill_devkit.stack.errors import DevstackError

Origin = Literal["given", "docker", "native"]
NAME_FORM = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True)
class StackState:
    """`generation` is written beside the data of each server: data of different ones never meet.

    `brief`: the servers live for minutes only: the JVM need not optimise what it runs, nor the database await the disk.
    """

    name: str
    checkout: str
    origin: Origin
    ports: dict[str, int]
    password: str
    generation: str
    brief: bool = False

    def next_generation(self) -> "StackState":
        return replace(self, generation=uuid4().hex)

    def with_ports(self, ports: dict[str, int]) -> "StackState":
        return replace(self, ports=ports)


def checkout_folder() -> Path:
    """The folder whose stack is meant: the checkout we run from, else the working directory."""
    for folder in Path(__file__).resolve().parents:
        if (folder / "pyproject.toml").is_file():
            return folder
    return Path.cwd()


def default_name(checkout: Path | None = None) -> str:
    """One stack per checkout: the folder's path decides, so two checkouts do not collide."""
    folder = (checkout or checkout_folder()).resolve()
    return "dev-" + hashlib.sha256(str(folder).encode()).hexdigest()[:10]


def stack_folder(name: str, cache: Path) -> Path:
    """The folder of the stack `name`; refuses a name that could lead elsewhere."""
    if NAME_FORM.fullmatch(name) is None:
        raise DevstackError(
            f"{name!r} cannot name a stack: use lower case letters, digits and hyphens (63 at most)"
        )
    return cache / "stacks" / name


def load(folder: Path) -> StackState | None:
    """The state in `folder`; None if there is none or it cannot be read (it is then created again)."""
    try:
        return StackState(**json.loads((folder / "stack.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def save(state: StackState, folder: Path) -> None:
    """Write the state whole (it holds a password: for its owner only), then put it in place."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "stack.json.new"
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(asdict(state), indent=2))
    temporary.replace(folder / "stack.json")


def all_states(cache: Path) -> Iterator[StackState]:
    """Every stack that has a state on this machine, running or not."""
    for path in sorted((cache / "stacks").glob("*/stack.json")):
        state = load(path.parent)
        if state is not None:
            yield state


def ports_of_others(name: str, cache: Path) -> set[int]:
    """Ports that other stacks keep, also while they are down."""
    others = (state for state in all_states(cache) if state.name != name)
    return {port for state in others for port in state.ports.values()}
