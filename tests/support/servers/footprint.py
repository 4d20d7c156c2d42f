"""What a stack has on this machine right now: processes and mounts, found without devstack's own notes."""

from pathlib import Path


def processes_of(name: str) -> list[str]:
    """Living processes that have the stack's name in their command, environment or folder."""
    return [
        f"{entry.name}: {_read(entry / 'cmdline')[:80]}"
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _is_alive(entry) and _mentions(entry, name)
    ]


def mounts_with(text: str) -> list[str]:
    """Mount points that have `text` in their path."""
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return [point for point in points if text in point]


def _mentions(entry: Path, name: str) -> bool:
    return name in _read(entry / "cmdline") + _read(entry / "environ") + _link(entry / "cwd")


def _is_alive(entry: Path) -> bool:
    # a child that nobody has collected yet is a line in a table, no process
    return ") Z " not in _read(entry / "stat")


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""
