"""A private Debian 13 root in the cache, for what the host's own release does not package.

It holds TimescaleDB on PostgreSQL 17 and kcat. Programs run in it by chroot, without any mount: the
device nodes that they need are made in it, so there is nothing to unmount on the way down. The
mirror is the one that the host's own apt uses, else debootstrap's default.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tidemill_devkit.stack.cache import Part
from tidemill_devkit.stack.errors import CommandFailedError, DevstackError
from tidemill_devkit.stack.shell import output, run

RELEASE = "trixie"
PACKAGES = ("postgresql-17-timescaledb", "kcat")
PART = Part("debian-13", "1", f"{RELEASE} minbase: {' '.join(PACKAGES)}")

# packages are configured in a root where nothing may be started and no cluster is wanted
_NO_SERVICES = "#!/bin/sh\nexit 101\n"
_NO_CLUSTER = "create_main_cluster = false\n"


def missing() -> list[str]:
    """What is missing to make the root (running it needs root, too)."""
    found = []
    if os.geteuid() != 0:
        found.append("root: TimescaleDB runs in a private Debian root (chroot), which needs it")
    elif shutil.which("debootstrap") is None and shutil.which("apt-get") is None:
        found.append("debootstrap: it is not on the path, and there is no apt-get to install it")
    return found


def build(folder: Path, log: Path, on_line: Callable[[str], None]) -> None:
    """Make the root in `folder`/root."""
    root = folder / "root"
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES]

    def run_for_root(command: Sequence[str], what: str) -> None:
        run(command, what=what, log=log, folder=folder, on_line=on_line, environment=_environment())

    _ensure_debootstrap(log, on_line)
    bootstrap = ["debootstrap", "--variant=minbase", RELEASE, str(root), *_mirror()]
    run_for_root(bootstrap, "making a Debian root")
    _prepare(root)
    for command in (["apt-get", "update"], install, ["apt-get", "clean"]):
        run_for_root([*command_prefix(root), *command], f"{command[1]} in the private Debian root")
    _check_devices(root)


def command_prefix(root: Path, *, user: str | None = None) -> tuple[str, ...]:
    """What goes before a command that is to run inside `root`, as `user` of that root."""
    who = () if user is None else (f"--userspec={user}:{user}",)
    return (shutil.which("chroot", path=_path()) or "chroot", *who, str(root))


def _ensure_debootstrap(log: Path, on_line: Callable[[str], None]) -> None:
    if shutil.which("debootstrap") is not None:
        return

    def run_on_host(*command: str) -> None:
        # an orphan of this is apt's to finish: it bears no mark of a folder that is ever swept
        what, folder = f"{command[0]} {command[1]}", log.parent
        run(command, what=what, log=log, folder=folder, on_line=on_line, environment=_environment())

    install = ("apt-get", "install", "--yes", "--no-install-recommends", "debootstrap")
    try:
        run_on_host(*install)
    except CommandFailedError:
        # a fresh machine has no package lists, an old one lists that name what is gone, and an
        # interrupted one half-configured packages
        run_on_host("dpkg", "--configure", "-a")
        run_on_host("apt-get", "update")
        run_on_host(*install)


def _mirror() -> list[str]:
    """The address of Debian's main archive in the host's apt configuration, or nothing."""
    query = "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)"
    command = ["apt-get", "indextargets", "--format", query, "Created-By: Packages"]
    # a machine whose package lists were never fetched knows the origin of none of them
    listed = output(command) or (output(["apt-get", "update"], timeout_s=300) and output(command)) or ""
    for line in listed.splitlines():
        origin, label, component, address = line.split("|", 3)
        if (origin, label, component) == ("Debian", "Debian", "main"):
            return [address]
    return []


def _path() -> str:
    """Where programs are: a plain `su` leaves root without /usr/sbin."""
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"


def _environment() -> dict[str, str]:
    """Ours, with nothing interactive and the proxy that the host's apt uses."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    environment["PATH"] = _path()
    for scheme in ("http", "https"):
        shown = output(["apt-config", "shell", "PROXY", f"Acquire::{scheme}::Proxy"]) or ""
        proxy = shown.strip().removeprefix("PROXY=").strip("'")
        if proxy and proxy != "DIRECT":
            environment[f"{scheme}_proxy"] = proxy
    return environment


def _prepare(root: Path) -> None:
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text(_NO_SERVICES)
    policy.chmod(0o755)
    settings = root / "etc/postgresql-common/createcluster.conf"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(_NO_CLUSTER)
    for name in ("resolv.conf", "hosts"):
        if Path("/etc", name).exists():
            shutil.copyfile(Path("/etc", name), root / "etc" / name)


def _check_devices(root: Path) -> None:
    if not (root / "dev/null").is_char_device():
        raise DevstackError(
            "the private Debian root has no /dev/null: this machine does not let root make device "
            "nodes (an unprivileged container?). Use given servers or Docker instead."
        )
