"""PostgreSQL 17 with TimescaleDB: from the host's packages, or from a private Debian root."""

import os
import pwd
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT

from tidemill_devkit.stack import debian
from tidemill_devkit.stack.plan import ServerPlan
from tidemill_devkit.stack.processes import ProcessId
from tidemill_devkit.stack.shell import run

USER = "postgres"
OLDEST_MAJOR = 17
_BUILTIN_PACKAGES = Path("/usr/lib/postgresql")

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # the socket is not needed, and without it two stacks cannot collide
    "unix_socket_directories": "",
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    "fsync": "on",
    "max_connections": "300",
    "max_locks_per_transaction": "1024",
    "max_worker_processes": "48",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "wal_level": "logical",
    # shared memory as files of the data folder: a chroot has no /dev/shm, and nothing can be left over
    "dynamic_shared_memory_type": "mmap",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # the password is random and long: stretching it would only make every connection slow
    "scram_iterations": "1",
}

# What a process has written outlives the process, also when it is killed; only the machine's own end needs more.
_BRIEF = {"fsync": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Programs:
    """Where PostgreSQL's programs are and who runs them.

    `root` is the private root that they see as `/`, None for the host's own; `user` is None when
    they run as the caller.
    """

    folder: Path
    root: Path | None
    user: str | None

    def command(self, program: str, *arguments: str) -> list[str]:
        full = [str(self.folder / program), *arguments]
        if self.root is not None:
            return [*debian.command_prefix(self.root, user=self.user), *full]
        if self.user is not None:
            groups = ("--reuid", self.user, "--regid", self.user, "--init-groups")
            return ["setpriv", *groups, *full]
        return full

    def seen(self, path: Path) -> str:
        """How the programs see `path`."""
        return str(path if self.root is None else "/" / path.relative_to(self.root))

    def own(self, folder: Path) -> None:
        """Give `folder` to the user that the programs run as."""
        if self.user is None:
            return
        uid, gid = _identity(self.user, self.root)
        os.chown(folder, uid, gid)


def _identity(user: str, root: Path | None) -> tuple[int, int]:
    if root is None:
        entry = pwd.getpwnam(user)
        return entry.pw_uid, entry.pw_gid
    for line in (root / "etc/passwd").read_text().splitlines():
        name, _password, uid, gid, *_rest = line.split(":")
        if name == user:
            return int(uid), int(gid)
    raise LookupError(f"no user {user} in {root}")


def host_programs(packages: Path = _BUILTIN_PACKAGES) -> Path | None:
    """The folder of the host's newest PostgreSQL that has TimescaleDB and is new enough."""
    versions = [path for path in packages.glob("*") if path.name.isdigit()]
    for version in sorted(versions, key=lambda path: int(path.name), reverse=True):
        usable = int(version.name) >= OLDEST_MAJOR and (version / "bin/initdb").is_file()
        if usable and (version / "lib/timescaledb.so").is_file():
            return version / "bin"
    return None


def reachable_by_others(folder: Path) -> bool:
    """Whether a user without our rights could enter `folder` (its existing part)."""
    existing = [path for path in (folder, *folder.parents) if path.exists()]
    return all(path.stat().st_mode & 0o001 for path in existing)


def from_host(cache: Path) -> Programs | None:
    """The host's programs, if there are any that could work with data in `cache`."""
    folder = host_programs()
    if folder is None:
        return None
    if os.geteuid() != 0:
        return Programs(folder, root=None, user=None)
    # PostgreSQL refuses to run as root, and its own user cannot enter root's home
    if reachable_by_others(cache) and shutil.which("setpriv"):
        return Programs(folder, root=None, user=USER)
    return None


def from_debian(part_folder: Path) -> Programs:
    """The programs of the private root, which need not be installed yet."""
    root = part_folder / "root"
    return Programs(Path("/usr/lib/postgresql/17/bin"), root=root, user=USER)


def home_of(programs: Programs, stack: Path) -> Path:
    """The data folder of a stack: inside the private root, else in the stack's own folder."""
    if programs.root is None:
        return stack / "postgres"
    return programs.root / "var/lib/tidemill" / stack.name


def plan(
    programs: Programs, home: Path, ports: dict[str, int], password: str, *, brief: bool = False
) -> ServerPlan:
    """The database server with its data in `home`, on the port `postgres`.

    `brief`: nothing of it need outlive the machine, so nothing is awaited from the disk.
    """
    data = home / "data"
    settings = {**_SETTINGS, **(_BRIEF if brief else {}), "port": str(ports["postgres"])}

    def initialise(log: Path) -> None:
        programs.own(home)
        if not (data / "PG_VERSION").exists():
            _make_cluster(programs, home, password, log)
        _drop_lock_of_the_dead(data / "postmaster.pid")
        lines = [f"{name} = '{value}'" for name, value in settings.items()]
        (data / "postgresql.auto.conf").write_text("\n".join(lines) + "\n")

    return ServerPlan(
        home=home,
        initialise=initialise,
        command=lambda: programs.command("postgres", "-D", programs.seen(data)),
        answers=_says_ready(data / "postmaster.pid"),
        stop_signal=SIGINT,
        address=f"127.0.0.1:{ports['postgres']}",
        environment={"LC_ALL": "C.UTF-8", "TZ": "UTC"},
    )


def _make_cluster(programs: Programs, home: Path, password: str, log: Path) -> None:
    secret = home / "password"
    secret.touch(mode=0o600)
    secret.write_text(password)
    programs.own(secret)
    arguments = [
        *("-D", programs.seen(home / "data"), "-U", USER, "--encoding=UTF8", "--locale=C.UTF-8"),
        *("--auth=scram-sha-256", f"--pwfile={programs.seen(secret)}"),
        *("-c", "scram_iterations=1", "-c", "dynamic_shared_memory_type=mmap"),
    ]
    run(programs.command("initdb", *arguments), what="initdb", log=log, folder=home)
    secret.unlink()


def _drop_lock_of_the_dead(pid_file: Path) -> None:
    """Remove the lock of a killed server whose parent has not collected it yet.

    PostgreSQL takes such a zombie for a living server and would never start if the first
    process of a container does not collect zombies.
    """
    try:
        holder = ProcessId.of(int(pid_file.read_text().splitlines()[0]))
    except (OSError, ValueError, IndexError):
        return
    if holder is None or holder.life() == "gone":
        pid_file.unlink()


def _says_ready(pid_file: Path) -> Callable[[int], bool]:
    """The server's own pid file tells when it takes connections; a killed one leaves its file behind."""

    def ready(pid: int) -> bool:
        try:
            lines = pid_file.read_text().splitlines()
            return lines[0] == str(pid) and lines[7].strip() == "ready"
        except (OSError, IndexError):
            return False

    return ready
